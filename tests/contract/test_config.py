"""What a container is told: environment, arguments, files."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.bodies import SLEEP, config, container, field_env, is_true, pod, status_of
from tests.contract.client import Obj, until
from tests.contract.space import Space

_SHOW = """
import os, sys
for name in sorted(os.environ):
    if name.startswith("T_"):
        print(f"{name}={os.environ[name]}")
print("args", *sys.argv[1:], flush=True)
"""


def _from(kind: str, name: str, key: str, **more: Any) -> Obj:
    return {"valueFrom": {kind: {"name": name, "key": key, **more}}}


def _told(ns: Space, *, args: list[str] | None = None, env: list[Obj] | None = None, **more: Any) -> list[str]:
    """What a container prints of its own environment and arguments."""
    labels = {"app": "web", "part": "one"}
    body = pod("p", container(_SHOW, env=env or [], args=args or [], **more), labels=labels, restartPolicy="Never")
    body["metadata"]["annotations"] = {"note": "this"}
    ns.make("pods", body)
    ns.pod_when("p", "has finished", lambda p: p["status"].get("phase") in ("Succeeded", "Failed"))
    return ns.logs("p").splitlines()


def test_plain_values(podns: Space) -> None:
    env = [{"name": "T_A", "value": "one two"}, {"name": "T_EMPTY"}]
    assert _told(podns, env=env) == ["T_A=one two", "T_EMPTY=", "args"]


def test_a_key_of_a_config_map(podns: Space) -> None:
    podns.make("configmaps", config("c", KEY="from the map"))
    env = [{"name": "T_A", **_from("configMapKeyRef", "c", "KEY")}]
    assert _told(podns, env=env)[0] == "T_A=from the map"


def test_a_key_of_a_secret(podns: Space) -> None:
    podns.make("secrets", {"metadata": {"name": "s"}, "stringData": {"KEY": "hidden"}})
    assert _told(podns, env=[{"name": "T_A", **_from("secretKeyRef", "s", "KEY")}])[0] == "T_A=hidden"


def test_all_keys_with_a_prefix(podns: Space) -> None:
    podns.make("configmaps", config("c", A="1", B="2"))
    podns.make("secrets", {"metadata": {"name": "s"}, "stringData": {"C": "3"}})
    sources = [{"prefix": "T_", "configMapRef": {"name": "c"}}, {"prefix": "T_", "secretRef": {"name": "s"}}]
    assert _told(podns, envFrom=sources) == ["T_A=1", "T_B=2", "T_C=3", "args"]


def test_env_goes_before_env_from_and_the_last_source_wins(podns: Space) -> None:
    podns.make("configmaps", config("c", T_A="1", T_B="1"))
    podns.make("configmaps", config("d", T_B="2"))
    sources = [{"configMapRef": {"name": "c"}}, {"configMapRef": {"name": "d"}}]
    assert _told(podns, env=[{"name": "T_A", "value": "3"}], envFrom=sources) == ["T_A=3", "T_B=2", "args"]


def test_what_is_optional_may_be_missing(podns: Space) -> None:
    podns.make("configmaps", config("c", A="1"))
    env = [
        {"name": "T_A", **_from("configMapKeyRef", "c", "absent", optional=True)},
        {"name": "T_B", **_from("configMapKeyRef", "absent", "A", optional=True)},
        {"name": "T_C", **_from("secretKeyRef", "absent", "A", optional=True)},
    ]
    assert _told(podns, env=env, envFrom=[{"configMapRef": {"name": "absent", "optional": True}}]) == ["args"]


def test_fields_of_the_pod(podns: Space) -> None:
    env = [
        field_env("T_NAME", "metadata.name"), field_env("T_SPACE", "metadata.namespace"),
        field_env("T_UID", "metadata.uid"), field_env("T_LABEL", "metadata.labels['part']"),
        field_env("T_NOTE", "metadata.annotations['note']"),
        field_env("T_IP", "status.podIP"), field_env("T_NODE", "spec.nodeName"), field_env("T_HOST", "status.hostIP"),
        field_env("T_ACCOUNT", "spec.serviceAccountName"),
    ]  # fmt: skip
    told = dict(line.split("=") for line in _told(podns, env=env)[:-1])
    found = podns.get("pods", "p")
    assert told == {
        "T_NAME": "p", "T_SPACE": podns.name, "T_UID": found["metadata"]["uid"], "T_LABEL": "one", "T_NOTE": "this",
        "T_IP": told["T_IP"], "T_NODE": found["spec"]["nodeName"], "T_HOST": found["status"]["hostIP"],
        "T_ACCOUNT": "default",
    }  # fmt: skip
    assert told["T_IP"]


def test_amounts_of_the_container(podns: Space) -> None:
    def amount(name: str, resource: str, **more: str) -> Obj:
        return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, **more}}}

    env = [
        amount("T_CPU", "limits.cpu"), amount("T_MILLI", "limits.cpu", divisor="1m"),
        amount("T_MEMORY", "limits.memory", divisor="1Mi"), amount("T_REQUEST", "requests.memory"),
    ]  # fmt: skip
    resources = {"limits": {"cpu": "1500m", "memory": "128Mi"}, "requests": {"cpu": "10m", "memory": "64Mi"}}
    assert _told(podns, env=env, resources=resources)[:-1] == [
        "T_CPU=2", "T_MEMORY=128", "T_MILLI=1500", f"T_REQUEST={64 * 1024 * 1024}",
    ]  # fmt: skip


def test_a_value_can_use_those_before_it(podns: Space) -> None:
    env = [
        {"name": "T_A", "value": "1"}, {"name": "T_B", "value": "$(T_A)2"}, {"name": "T_C", "value": "$$(T_A)"},
        {"name": "T_D", "value": "$(T_ABSENT)"},
    ]  # fmt: skip
    assert _told(podns, env=env)[:-1] == ["T_A=1", "T_B=12", "T_C=$(T_A)", "T_D=$(T_ABSENT)"]


def test_arguments_can_use_values(podns: Space) -> None:
    assert (
        _told(podns, env=[{"name": "T_A", "value": "1"}], args=["--a=$(T_A)", "$$(T_A)", "b c"])[-1]
        == "args --a=1 $(T_A) b c"
    )


@pytest.mark.parametrize(
    ("env", "text"),
    [
        (_from("configMapKeyRef", "c", "absent"), "couldn't find key absent in ConfigMap {ns}/c"),
        (_from("configMapKeyRef", "absent", "A"), 'configmap "absent" not found'),
        (_from("secretKeyRef", "absent", "A"), 'secret "absent" not found'),
        (_from("secretKeyRef", "s", "absent"), "couldn't find key absent in Secret {ns}/s"),
    ],
    ids=["key of a map", "map", "secret", "key of a secret"],
)
def test_what_is_missing_is_named(podns: Space, env: Obj, text: str) -> None:
    podns.make("configmaps", config("c", A="1"))
    podns.make("secrets", {"metadata": {"name": "s"}, "stringData": {"A": "1"}})
    podns.make("pods", pod("p", container(env=[{"name": "T_A", **env}])))

    def waiting(found: Obj) -> Obj:
        state: Obj = status_of(found).get("state", {}).get("waiting", {})
        return state

    found = podns.pod_when("p", "says so", lambda p: waiting(p).get("reason") == "CreateContainerConfigError")
    text = text.format(ns=podns.name)
    assert waiting(found)["message"] == text
    assert found["status"]["phase"] == "Pending"
    assert podns.event("p", "Failed")["message"] == f"Error: {text}"


def test_what_was_missing_can_come(podns: Space) -> None:
    podns.make("pods", pod("p", container(env=[{"name": "T_A", **_from("configMapKeyRef", "c", "A")}])))
    until(
        "it is missed",
        lambda: (
            status_of(podns.get("pods", "p")).get("state", {}).get("waiting", {}).get("message")
            == 'configmap "c" not found'
        ),
    )
    podns.make("configmaps", config("c", A="1"))
    found = podns.pod_when("p", "is ready", lambda p: is_true(p, "Ready"))
    assert status_of(found)["restartCount"] == 0


def test_a_restart_reads_the_map_anew(podns: Space) -> None:
    """Which is why a pod of the old release that restarts runs with the new values."""
    podns.make("configmaps", config("c", A="old"))
    code = """
import os, sys, time
print("told", os.environ["T_A"], flush=True)
if os.environ["T_A"] == "old":
    time.sleep(2)
    sys.exit(1)
"""
    code += SLEEP
    podns.make("pods", pod("p", container(code, env=[{"name": "T_A", **_from("configMapKeyRef", "c", "A")}])))
    podns.logged("p", "told old")
    podns.patch("configmaps", "c", {"data": {"A": "new"}}).ok(200)
    podns.logged("p", "told new")


# --- files ------------------------------------------------------------------------------------------------------------

_READ = """
import os, sys
# what begins with two dots is how the kubelet changes all files at once; the rest are links into it
for where, folders, names in os.walk(sys.argv[1], followlinks=True):
    folders[:] = sorted(name for name in folders if not name.startswith(".."))
    for name in sorted(name for name in names if not name.startswith("..")):
        path = os.path.join(where, name)
        print(os.path.relpath(path, sys.argv[1]), open(path).read(), flush=True)
"""


def _files(ns: Space, **source: Any) -> list[str]:
    main = container(_READ, args=["/files"], volumeMounts=[{"name": "v", "mountPath": "/files"}])
    ns.make("pods", pod("p", main, restartPolicy="Never", volumes=[{"name": "v", **source}]))
    ns.pod_when("p", "has finished", lambda p: p["status"].get("phase") in ("Succeeded", "Failed"))
    return ns.logs("p").splitlines()


def test_a_config_map_as_files(podns: Space) -> None:
    podns.make("configmaps", config("c", **{"a.txt": "1", "b.txt": "2"}))
    assert _files(podns, configMap={"name": "c"}) == ["a.txt 1", "b.txt 2"]


def test_some_keys_under_other_names(podns: Space) -> None:
    podns.make("configmaps", config("c", a="1", b="2"))
    assert _files(podns, configMap={"name": "c", "items": [{"key": "b", "path": "deep/name"}]}) == ["deep/name 2"]


def test_a_secret_as_files(podns: Space) -> None:
    podns.make("secrets", {"metadata": {"name": "s"}, "stringData": {"a": "1"}})
    assert _files(podns, secret={"secretName": "s"}) == ["a 1"]


def test_the_pods_own_fields_as_files(podns: Space) -> None:
    items = [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]
    assert _files(podns, downwardAPI={"items": items}) == ["name p"]


def test_several_sources_in_one_place(podns: Space) -> None:
    podns.make("configmaps", config("c", a="1"))
    podns.make("secrets", {"metadata": {"name": "s"}, "stringData": {"b": "2"}})
    sources = [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]
    assert _files(podns, projected={"sources": sources}) == ["a 1", "b 2"]


def test_a_volume_that_cannot_be_mounted_keeps_the_pod_waiting(podns: Space) -> None:
    main = container(volumeMounts=[{"name": "v", "mountPath": "/files"}])
    podns.make("pods", pod("p", main, volumes=[{"name": "v", "configMap": {"name": "absent"}}]))
    event = podns.event("p", "FailedMount")
    assert 'MountVolume.SetUp failed for volume "v"' in event["message"]
    assert 'configmap "absent" not found' in event["message"]
    found = podns.get("pods", "p")
    assert found["status"]["phase"] == "Pending"
    assert status_of(found)["state"]["waiting"]["reason"] == "ContainerCreating"
