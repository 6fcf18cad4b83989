from __future__ import annotations

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils import objects


def make(kind: str, name: str = "x", **more: object) -> dict:
    return {"apiVersion": objects.KINDS[kind].api_version, "kind": kind, "metadata": {"name": name, **more}}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("ConfigMap", "/api/v1/namespaces/ns/configmaps/x"),
        ("Deployment", "/apis/apps/v1/namespaces/ns/deployments/x"),
        ("Namespace", "/api/v1/namespaces/x"),
    ],
)
def test_path(kind: str, path: str) -> None:
    assert objects.path(make(kind, namespace="ns")) == path


def test_stages_put_what_pods_read_before_them_and_what_drives_them_after() -> None:
    mixed = [make(kind) for kind in ("HorizontalPodAutoscaler", "Deployment", "ConfigMap", "Service")]
    assert [[obj["kind"] for obj in stage] for stage in objects.stages(mixed)] == [
        ["ConfigMap", "Service"],
        ["Deployment"],
        ["HorizontalPodAutoscaler"],
    ]


@pytest.mark.parametrize(
    ("manifests", "said"),
    [
        (["text"], "has no kind"),
        ([{"kind": "ConfigMap"}], "has no kind or no metadata.name"),
        ([make("Namespace")], "outlives releases"),
        ([{"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": "x"}}], "is a v1 Gadget"),
        ([{**make("Deployment"), "apiVersion": "apps/v1beta1"}], "is a apps/v1beta1 Deployment"),
        ([make("ConfigMap", namespace="other")], "is for namespace other, the release is for ns"),
        ([make("ConfigMap"), make("ConfigMap")], "a second time"),
    ],
)
def test_problems(manifests: list, said: str) -> None:
    assert said in "; ".join(objects.problems(manifests, "ns"))


def test_no_problems() -> None:
    assert not objects.problems([make("ConfigMap"), make("Deployment", namespace="ns")], "ns")


def test_bare_keeps_what_was_declared_and_drops_what_the_server_wrote() -> None:
    live = make("Deployment", uid="u", resourceVersion="3", generation=2, managedFields=[], labels={"a": "b"})
    live["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "2", "mine": "y"}
    live |= {"spec": {"replicas": 2}, "status": {"replicas": 2}}
    found = objects.bare(live)
    assert found["metadata"] == {"name": "x", "labels": {"a": "b"}, "annotations": {"mine": "y"}}
    assert found["spec"] == {"replicas": 2}
    assert "status" not in found
    assert live["status"], "the original is left as it was"


def test_a_secret_s_values_never_show_but_a_change_does() -> None:
    before = {**make("Secret"), "data": {"a": "AAAA", "b": "same"}}
    after = {**make("Secret"), "data": {"a": "BBBB", "b": "same"}}
    shown = str(objects.masked(before, after))
    assert "AAAA" not in shown
    assert "BBBB" not in shown
    assert "same" not in shown
    old, new = objects.masked(before, after)
    assert old["data"]["a"] != new["data"]["a"]
    assert old["data"]["b"] == new["data"]["b"]


def test_a_secret_does_not_leak_through_kubectl_s_annotation() -> None:
    secret = {**make("Secret"), "data": {"a": "AAAA"}}
    secret["metadata"]["annotations"] = {objects.LAST_APPLIED: '{"data":{"a":"AAAA"}}'}
    assert "AAAA" not in str(objects.masked(secret, None))


def test_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert objects.fingerprint({"a": 1, "b": 2}) == objects.fingerprint({"b": 2, "a": 1})
    assert objects.fingerprint({"a": 1}) != objects.fingerprint({"a": 2})
