"""Every exchange that a real Kubernetes was recorded with, sent to the sandbox and compared.

What differs from run to run (names with a random suffix, uids, times, resourceVersions) is compared by its presence.
What controllers and a kubelet wrote in between is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.api import patches
from sandbox.api.errors import ApiStatus
from tests.sandbox.api.conftest import Cluster, serve

DATA = Path(__file__).parents[1] / "data" / "api"
FILES = sorted(path.stem for path in DATA.glob("*.json"))
RECORDED = {name: json.loads((DATA / f"{name}.json").read_text())["exchanges"] for name in FILES}
Obj = dict[str, Any]

# (file, exchange): why it is not compared.
SKIPPED = {("discovery", 9): "the recorded cluster's metrics server was not up yet"}


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[tuple[Obj, httpx.Response]]]]:
    """All files, each on a server of its own: (what to expect, what came)."""
    out = {}
    for name in FILES:
        with serve(tmp_path_factory.mktemp(name), settle=3600) as cluster:
            out[name] = _replay(name, cluster)
    yield out


def _replay(name: str, cluster: Cluster) -> list[tuple[Obj, httpx.Response]]:
    names = Names()
    _prepare(name, cluster)
    clients = {"admin": cluster.http, "anonymous": cluster.client(None), "bad": cluster.client("wrong")}
    out = []
    for index, exchange in enumerate(RECORDED[name]):
        _between(name, index, cluster)
        request, recorded = exchange["request"], exchange["response"]
        who = {"no credentials": "anonymous", "a bad token": "bad"}.get(exchange.get("note"), "admin")
        if name == "rbac" and index >= 3:
            if "deployer" not in clients:
                answer = cluster.make("/api/v1/namespaces/api-rbac/serviceaccounts/deployer/token", {"spec": {}})
                clients["deployer"] = cluster.client(answer["status"]["token"])
            who = "deployer"
        body = names.filled(request["body"])
        content = None if body is None else body if isinstance(body, str) else json.dumps(body)
        answer = clients[who].request(
            request["method"], request["path"], params=names.filled(request["query"]), content=content,
            headers=request["headers"],
        )  # fmt: skip
        names.learn(recorded["body"], _json(answer))
        out.append((exchange, answer))
    for client in clients.values():
        client.close()
    return out


class Names:
    """What the recorded server called a thing, and what the sandbox calls it."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def learn(self, recorded: Any, ours: Any) -> None:
        if isinstance(recorded, dict) and isinstance(ours, dict):
            for key, value in recorded.items():
                if key in ("uid", "resourceVersion", "continue") and key in ours:
                    self._known.setdefault(value, ours[key])
                self.learn(value, ours.get(key))
        elif isinstance(recorded, list) and isinstance(ours, list):
            for left, right in zip(recorded, ours, strict=False):
                self.learn(left, right)

    def filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        return self._known.get(value, value) if isinstance(value, str) else value


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text


# --- what the recorder had prepared, and what controllers did meanwhile -----------------------------------------------

_RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


def _prepare(name: str, cluster: Cluster) -> None:
    found = {match[1] for e in RECORDED[name] if (match := re.search(r"/namespaces/(api-[^/]+)", e["request"]["path"]))}
    for space in found:
        labels = _RESTRICTED if name == "admission-restricted" else {}
        cluster.make("/api/v1/namespaces", {"metadata": {"name": space, "labels": labels}})
    if name == "list-watch":
        for index in range(5):
            meta = {"name": f"c{index}", "labels": {"n": str(index % 2)}}
            cluster.make("/api/v1/namespaces/api-list-watch/configmaps", {"metadata": meta})


def _between(name: str, index: int, cluster: Cluster) -> None:
    if (name, index) == ("list-watch", 7):
        cluster.on_loop(cluster.api.forget_history)
    if (name, index) == ("list-watch", 11):
        pod = RECORDED[name][12]["response"]["body"]["rows"][0]["cells"][0]
        _make_pod(cluster, "api-list-watch", pod, "10.244.0.18")
        _make_rest(cluster)
    if (name, index) == ("subresources", 3):
        path = "/apis/apps/v1/namespaces/api-subresources/deployments/inference-api/status"
        answer = cluster.http.patch(path, json={"status": {"replicas": 1}}, params={"fieldManager": _BY_CONTROLLERS[0]},
                                    headers={"Content-Type": "application/merge-patch+json"})  # fmt: skip
        assert answer.status_code == 200, answer.text
    if (name, index) == ("subresources", 8):
        path = "/apis/policy/v1/namespaces/api-subresources/poddisruptionbudgets/b/status"
        status = {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "observedGeneration": 1}
        answer = cluster.http.patch(path, json={"status": status}, headers={"Content-Type": patches.MERGE})
        assert answer.status_code == 200, answer.text
    if (name, index) == ("subresources", 1):
        cluster.api.runtime = NoLogs()
        pod = RECORDED[name][1]["response"]["body"]["items"][0]["metadata"]["name"]
        _make_pod(cluster, "api-subresources", pod, "10.244.0.19")


class NoLogs:
    """A kubelet whose containers have said nothing and have never been restarted."""

    async def log(self, pod: Obj, container: str, *, previous: bool, **_: Any) -> AsyncIterator[bytes]:
        if previous:
            text = f'previous terminated container "{container}" in pod "{pod["metadata"]["name"]}" not found'
            raise ApiStatus(400, "BadRequest", text)
        yield b""

    def pod_metrics(self, namespace: str | None) -> list[Obj]:
        return []


def _make_pod(cluster: Cluster, space: str, name: str, address: str) -> None:
    """What the ReplicaSet controller, the scheduler and the kubelet would have made."""
    deployment = cluster.http.get(f"/apis/apps/v1/namespaces/{space}/deployments/inference-api").json()
    path = f"/api/v1/namespaces/{space}/pods"
    hash_ = name.split("-")[-2]
    labels = {"app.kubernetes.io/name": "inference-api", "pod-template-hash": hash_}
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"inference-api-{hash_}", "uid": "u",
             "controller": True, "blockOwnerDeletion": True}  # fmt: skip
    meta = {"name": name, "generateName": f"inference-api-{hash_}-", "labels": labels, "ownerReferences": [owner]}
    cluster.make(path, {"metadata": meta, "spec": deployment["spec"]["template"]["spec"]},
                 fieldManager="kube-controller-manager")  # fmt: skip
    cluster.make(f"{path}/{name}/binding", {"target": {"kind": "Node", "name": "node1"}}, fieldManager="kube-scheduler")
    status = {
        "phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "api", "ready": True, "restartCount": 0, "image": "", "imageID": "",
                               "state": {"running": {}}}],
    }  # fmt: skip
    answer = cluster.http.patch(f"{path}/{name}/status", json={"status": status},
                                params={"fieldManager": "kubelet"},
                                headers={"Content-Type": "application/merge-patch+json"})  # fmt: skip
    assert answer.status_code == 200, answer.text


def _make_rest(cluster: Cluster) -> None:
    """The ReplicaSet, the Deployment's status and the Events behind the recorded tables."""
    space, merge = "api-list-watch", {"Content-Type": "application/merge-patch+json"}
    root = f"/apis/apps/v1/namespaces/{space}"
    deployment = cluster.http.get(f"{root}/deployments/inference-api").json()
    name = RECORDED["list-watch"][13]["response"]["body"]["rows"][0]["cells"][0]
    labels = {"app.kubernetes.io/name": "inference-api", "pod-template-hash": name.rpartition("-")[2]}
    template = deployment["spec"]["template"] | {"metadata": {"labels": labels}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    cluster.make(f"{root}/replicasets", {"metadata": {"name": name}, "spec": spec})
    status = {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    for path in (f"replicasets/{name}", "deployments/inference-api"):
        more = {"updatedReplicas": 1} if path.startswith("deploy") else {}
        answer = cluster.http.patch(f"{root}/{path}/status", json={"status": status | more}, headers=merge)
        assert answer.status_code == 200, answer.text
    for row in RECORDED["list-watch"][14]["response"]["body"]["rows"]:
        _, type_, reason, about, field, source, message, _, count, event = row["cells"]
        kind, _, target = about.partition("/")
        involved = {"kind": {"replicaset": "ReplicaSet"}.get(kind, kind.title()), "name": target, "namespace": space}
        component, _, host = source.partition(", ")
        cluster.make(f"/api/v1/namespaces/{space}/events", {
            "metadata": {"name": event}, "type": type_, "reason": reason, "message": message, "count": count,
            "involvedObject": involved | ({"fieldPath": field} if field else {}),
            "source": {"component": component} | ({"host": host} if host else {}),
            "firstTimestamp": cluster.api.now(), "lastTimestamp": cluster.api.now(),
        })  # fmt: skip


# --- comparing --------------------------------------------------------------------------------------------------------

_BY_CONTROLLERS = ("kube-controller-manager", "kube-scheduler", "kubelet")
_VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "time", "continue", "serverAddress")


def _plain(value: Any, key: str = "") -> Any:
    """The value with what may differ written alike on both sides."""
    if isinstance(value, dict):
        if "rows" in value and "columnDefinitions" in value:
            columns = [{k: v for k, v in column.items() if k != "description"} for column in value["columnDefinitions"]]
            value = value | {"rows": _once(value["rows"]), "columnDefinitions": columns}
        if "items" in value and isinstance(value["items"], list):
            value = value | {"items": _once(value["items"])}
        out = {name: _plain(item, name) for name, item in value.items()}
        if key == "metadata":
            managed = [m for m in out.get("managedFields", []) if m["manager"] not in _BY_CONTROLLERS]
            annotations = {k: v for k, v in out.get("annotations", {}).items() if "kubernetes.io/revision" not in k}
            for name, kept in (("managedFields", managed), ("annotations", annotations)):
                out.pop(name, None)
                if kept:
                    out[name] = kept
            if "generateName" in out:
                out["name"] = "<generated>"
        return out
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if key in _VOLATILE and isinstance(value, str):
        return f"<{key}>"
    if isinstance(value, str):
        return re.sub(r"kube-api-access-\w{5}", "kube-api-access-<random>", value)
    return value


def _once(items: list[Any]) -> list[Any]:
    """Without a repeated kube-root-ca.crt, which the recorded lists of ConfigMaps hold twice."""
    root = [item for item in items if "kube-root-ca.crt" in (_name_of(item), *item.get("cells", []))]
    return [item for item in items if item not in root[1:]]


def _name_of(item: Obj) -> str:
    return item.get("metadata", {}).get("name", "")


def _expected(file: str, index: int, value: Any) -> Any:
    value = _plain(value)
    if file == "list-watch" and isinstance(value, dict):
        left = value.get("metadata", {}).get("remainingItemCount")
        if left:
            value["metadata"]["remainingItemCount"] = left - 1  # see _once
    return value


def _without_status(value: Any) -> Any:
    if isinstance(value, dict) and "items" in value:
        return value | {"items": [_without_status(item) for item in value["items"]]}
    if isinstance(value, dict) and value.get("kind") in (None, "Deployment", "Pod", "Namespace", "Scale"):
        kept = {k: v for k, v in value.items() if k != "status"}
        return kept | ({"status": "<by controllers>"} if "status" in value else {})
    return value


def _cells(table: Obj) -> list[Any]:
    return [["<age>" if re.fullmatch(r"\d+s", str(cell)) else cell for cell in row["cells"]] for row in table["rows"]]


def _message(text: str) -> Any:
    """A refused patch quotes the whole object: compare what stands around it, and the object by its meaning."""
    match = re.search(r'Invalid value: ("\{.*\}"): (json|strict)', text, re.S)
    if not match:
        return text
    quoted = json.loads(json.loads(match[1]))
    return [
        text[: match.start(1)],
        _without_status(_plain({"metadata": quoted["metadata"], **quoted})),
        text[match.end(1) :],
    ]


CASES = [(file, index) for file in FILES for index in range(len(RECORDED[file]))]


@pytest.mark.parametrize(("file", "index"), CASES, ids=[f"{file}-{index}" for file, index in CASES])
def test_answers_as_recorded(replayed: dict[str, list[tuple[Obj, httpx.Response]]], file: str, index: int) -> None:
    if reason := SKIPPED.get((file, index)):
        pytest.skip(reason)
    exchange, answer = replayed[file][index]
    recorded = exchange["response"]
    assert answer.status_code == recorded["status"], answer.text
    assert answer.headers["content-type"].partition(";")[0] == recorded["headers"]["Content-Type"].partition(";")[0]
    assert answer.headers.get("warning") == recorded["headers"].get("Warning")
    body = recorded["body"]
    if file == "discovery":
        _compare_discovery(body, answer.json())
    elif isinstance(body, str):
        ours = answer.text
        if body.startswith('{"type"'):
            # The recorder cut the stream off within its last line.
            *whole, cut = body.splitlines()
            lines = ours.splitlines()
            assert [_plain(json.loads(line)) for line in lines[:-1]] == [_plain(json.loads(line)) for line in whole]
            assert lines[-1][:50] == cut[:50]
        else:
            assert ours == body
    elif body.get("kind") == "Status":
        ours = answer.json()
        assert _message(ours.pop("message", "")) == _message(body.pop("message", ""))
        for status in (ours, body):
            for cause in (status.get("details") or {}).get("causes", []):
                cause["message"] = _message(cause["message"])
        assert _plain(ours) == _plain(body)
    elif body.get("kind") == "Table":
        ours = answer.json()
        assert _plain(ours)["columnDefinitions"] == _plain(body)["columnDefinitions"]
        rows = _expected(file, index, body)["rows"]
        assert sorted(_cells(ours)) == sorted(_cells({"rows": rows}))
    else:
        ours = _without_status(_plain(answer.json()))
        wanted = _without_status(_expected(file, index, body))
        if body.get("type") == "ERROR":
            for event in (ours, wanted):
                event["object"]["message"] = re.sub(r"\(\d+\)", "(n)", event["object"]["message"])
        assert ours == wanted


def _compare_discovery(body: Obj, ours: Obj) -> None:
    """The sandbox serves less; what it serves, it describes alike."""
    if "gitVersion" in body:
        assert set(ours) == set(body)
        assert (ours["major"], ours["minor"], ours["gitVersion"]) == (body["major"], body["minor"], body["gitVersion"])
        return
    assert {k: v for k, v in ours.items() if k not in ("groups", "resources")}.keys() == {
        k for k in body if k not in ("groups", "resources")
    }
    for key in ("groups", "resources"):
        wanted = {row["name"]: {k: v for k, v in row.items() if k != "storageVersionHash"} for row in body.get(key, [])}
        for row in ours.get(key, []):
            have = wanted[row["name"]]
            if key == "groups":
                have = have | {"versions": [v for v in have["versions"] if v in row["versions"]]}
            assert row == have


def test_an_apply_that_changes_nothing_keeps_the_resource_version(
    replayed: dict[str, list[tuple[Obj, httpx.Response]]],
) -> None:
    notes = {
        exchange.get("note"): answer.json() for exchange, answer in replayed["apply-create-noop"] if answer.is_success
    }
    assert notes["no-op"]["metadata"]["resourceVersion"] == notes["create"]["metadata"]["resourceVersion"]
    assert notes["dry run of a no-op"]["metadata"]["resourceVersion"] == notes["create"]["metadata"]["resourceVersion"]
