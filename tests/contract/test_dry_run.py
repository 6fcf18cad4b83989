"""A dry run answers as the request would and keeps nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.bodies import config, deployment, pod, service
from tests.contract.client import APPLY, JSON_PATCH, MERGE, STRATEGIC, Answer, Obj
from tests.contract.space import Space


def test_create(ns: Space) -> None:
    made = ns.post("configmaps", config(A="1"), dryRun="All").ok(201)
    assert made["data"] == {"A": "1"}
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"]
    assert "resourceVersion" not in made["metadata"]
    assert ns.find("configmaps", "config") is None


def test_create_of_what_exists_already(ns: Space) -> None:
    ns.make("configmaps", config())
    ns.post("configmaps", config(), dryRun="All").refused(409, "AlreadyExists")


def test_create_with_a_generated_name(ns: Space) -> None:
    made = ns.post("configmaps", {"metadata": {"generateName": "g-"}}, dryRun="All").ok(201)
    assert made["metadata"]["name"].startswith("g-")
    assert ns.find("configmaps", made["metadata"]["name"]) is None


def test_apply_of_what_is_not_there(ns: Space) -> None:
    made = ns.apply("deployments", deployment(), dryRun="All").ok(201)
    assert made["spec"]["progressDeadlineSeconds"] == 600
    assert ns.find("deployments", "web") is None


def test_a_new_service_shows_an_address_and_keeps_none(ns: Space) -> None:
    made = ns.post("services", service(), dryRun="All").ok(201)
    assert made["spec"]["type"] == "ClusterIP"
    assert ns.find("services", "web") is None


_WRITES: dict[str, Callable[[Space], Answer]] = {
    "replace": lambda ns: ns.put("configmaps", config(A="2"), dryRun="All"),
    "merge": lambda ns: ns.patch("configmaps", "config", {"data": {"A": "2"}}, MERGE, dryRun="All"),
    "strategic": lambda ns: ns.patch("configmaps", "config", {"data": {"A": "2"}}, STRATEGIC, dryRun="All"),
    "json": lambda ns: ns.patch(
        "configmaps", "config", [{"op": "replace", "path": "/data/A", "value": "2"}], JSON_PATCH, dryRun="All"
    ),
    "apply": lambda ns: ns.apply("configmaps", config(A="2"), dryRun="All", force=True),
}


@pytest.mark.parametrize("write", _WRITES.values(), ids=_WRITES)
def test_a_change_is_shown_and_not_kept(ns: Space, write: Callable[[Space], Answer]) -> None:
    made = ns.make("configmaps", config(A="1"))
    shown = write(ns).ok(200)
    assert shown["data"] == {"A": "2"}
    assert shown["metadata"]["uid"] == made["metadata"]["uid"]
    assert ns.get("configmaps", "config") == made


def test_a_dry_run_says_the_generation_to_come(ns: Space) -> None:
    ns.make("deployments", deployment())
    shown = ns.apply("deployments", deployment(minReadySeconds=3), force=True, dryRun="All").ok(200)
    assert shown["metadata"]["generation"] == 2
    assert ns.get("deployments", "web")["metadata"]["generation"] == 1


def test_a_no_op_equals_the_live_object(ns: Space) -> None:
    made = ns.apply("configmaps", config(A="1")).ok(201)
    assert ns.apply("configmaps", config(A="1"), dryRun="All").ok(200) == made


def test_a_conflict_is_told(ns: Space) -> None:
    ns.apply("configmaps", config(A="1"), "one").ok(201)
    answer = ns.apply("configmaps", config(A="2"), "two", dryRun="All")
    answer.refused(409, "Conflict", 'conflict with "one": .data.A')


def test_an_invalid_object_is_told(ns: Space) -> None:
    ns.apply("deployments", deployment(replicas=-1), dryRun="All").refused(422, "Invalid", "spec.replicas")


def test_delete(ns: Space) -> None:
    made = ns.make("configmaps", config())
    ns.delete("configmaps", "config", dryRun="All").ok(200)
    assert ns.get("configmaps", "config") == made


def test_delete_by_the_options_body(ns: Space) -> None:
    made = ns.make("configmaps", config())
    ns.delete("configmaps", "config", {"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]}).ok(200)
    assert ns.get("configmaps", "config") == made


def test_deletecollection(ns: Space) -> None:
    ns.make("configmaps", config(labels={"x": "y"}))
    ns.api.delete(ns.path("configmaps"), labelSelector="x=y", dryRun="All").ok(200)
    assert [o["metadata"]["name"] for o in ns.list("configmaps", "x=y")] == ["config"]


def test_scale(ns: Space) -> None:
    ns.make("deployments", deployment(replicas=0))
    shown = ns.api.patch(ns.path("deployments", "web", "scale"), {"spec": {"replicas": 5}}, MERGE, dryRun="All").ok(200)
    assert shown["spec"]["replicas"] == 5
    assert ns.get("deployments", "web")["spec"]["replicas"] == 0


def test_a_namespace(ns: Space) -> None:
    name = f"{ns.name}-dry"
    ns.api.post("/api/v1/namespaces", {"metadata": {"name": name}}, dryRun="All").ok(201)
    assert ns.api.get(f"/api/v1/namespaces/{name}").status == 404
    ns.api.delete(f"/api/v1/namespaces/{ns.name}", dryRun="All").ok(200)
    assert "deletionTimestamp" not in ns.api.get(f"/api/v1/namespaces/{ns.name}").ok(200)["metadata"]


def test_a_pod_passes_all_admission(restricted: Space) -> None:
    made = restricted.post("pods", pod("probe"), dryRun="All").ok(201)
    assert made["spec"]["serviceAccountName"] == "default"
    assert restricted.find("pods", "probe") is None
    unsafe: Obj = pod("probe")
    del unsafe["spec"]["containers"][0]["securityContext"]
    restricted.post("pods", unsafe, dryRun="All").refused(403, "Forbidden", "violates PodSecurity")


def test_a_status(ns: Space) -> None:
    ns.make("poddisruptionbudgets", {"metadata": {"name": "b"}, "spec": {"minAvailable": 1}})
    path = ns.path("poddisruptionbudgets", "b", "status")
    shown = ns.api.patch(path, {"status": {"expectedPods": 9}}, MERGE, dryRun="All").ok(200)
    assert shown["status"]["expectedPods"] == 9
    assert ns.get("poddisruptionbudgets", "b")["status"].get("expectedPods", 0) == 0


def test_anything_but_all_is_no_dry_run(ns: Space) -> None:
    ns.post("configmaps", config(), dryRun="Some").refused(422, "Invalid", "dryRun", '"All"')
    assert ns.find("configmaps", "config") is None


def test_apply_through_the_door_of_a_dry_run_needs_a_manager_too(ns: Space) -> None:
    path = ns.path("configmaps", "config")
    ns.api.patch(path, ns.filled("configmaps", config()), APPLY, dryRun="All").refused(422, "Invalid")
