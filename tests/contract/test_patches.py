"""JSON patch, merge patch and strategic merge patch, and what wrong ones are told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.bodies import config, container, deployment, service
from tests.contract.client import JSON_PATCH, MERGE, STRATEGIC, Obj
from tests.contract.space import Space


def _main(obj: Obj) -> Obj:
    found: Obj = obj["spec"]["template"]["spec"]["containers"][0]
    return found


def _in_container(**fields: Any) -> Obj:
    """A patch of the container `main` of a Deployment."""
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", **fields}]}}}}


def _names(items: list[Obj]) -> list[str]:
    return [item["name"] for item in items]


# --- JSON patch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "data"),
    [
        ([{"op": "add", "path": "/data/C", "value": "3"}], {"A": "1", "B": "2", "C": "3"}),
        ([{"op": "add", "path": "/data/A", "value": "3"}], {"A": "3", "B": "2"}),
        ([{"op": "replace", "path": "/data/A", "value": "3"}], {"A": "3", "B": "2"}),
        ([{"op": "remove", "path": "/data/A"}], {"B": "2"}),
        ([{"op": "move", "from": "/data/A", "path": "/data/C"}], {"C": "1", "B": "2"}),
        ([{"op": "copy", "from": "/data/A", "path": "/data/C"}], {"A": "1", "B": "2", "C": "1"}),
        ([{"op": "test", "path": "/data/A", "value": "1"}, {"op": "remove", "path": "/data/A"}], {"B": "2"}),
        ([{"op": "add", "path": "/data/x~1y", "value": "3"}, {"op": "move", "from": "/data/x~1y", "path": "/data/y"}],
         {"A": "1", "B": "2", "y": "3"}),
    ],
    ids=["add", "add over", "replace", "remove", "move", "copy", "test", "escaped slash"],
)  # fmt: skip
def test_a_json_patch_takes_its_steps_in_order(ns: Space, steps: list[Obj], data: Obj) -> None:
    ns.make("configmaps", config(A="1", B="2"))
    assert ns.patch("configmaps", "config", steps, JSON_PATCH).ok(200)["data"] == data


@pytest.mark.parametrize(
    "step",
    [
        {"op": "test", "path": "/data/A", "value": "7"},
        {"op": "remove", "path": "/data/absent"},
        {"op": "add", "path": "/absent/deep/path", "value": "1"},
    ],
    ids=["failed test", "remove of nothing", "no parent"],
)
def test_a_json_patch_that_cannot_be_done_changes_nothing(ns: Space, step: Obj) -> None:
    made = ns.make("configmaps", config(A="1"))
    steps = [{"op": "add", "path": "/data/B", "value": "2"}, step]
    answer = ns.patch("configmaps", "config", steps, JSON_PATCH)
    answer.refused(422, "Invalid", "the server rejected our request due to an error in our request")
    assert ns.get("configmaps", "config")["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_a_json_patch_inserts_into_and_appends_to_a_list(ns: Space) -> None:
    ns.make("deployments", deployment("web", container(args=["b"])))
    root = "/spec/template/spec/containers/0/args"
    steps = [{"op": "add", "path": f"{root}/0", "value": "a"}, {"op": "add", "path": f"{root}/-", "value": "c"}]
    assert _main(ns.patch("deployments", "web", steps, JSON_PATCH).ok(200))["args"] == ["a", "b", "c"]


def test_a_json_patch_must_be_a_list(ns: Space) -> None:
    ns.make("configmaps", config())
    ns.patch("configmaps", "config", {"data": {"A": "2"}}, JSON_PATCH).refused(400, "BadRequest")


# --- merge patch ------------------------------------------------------------------------------------------------------


def test_a_merge_patch_changes_adds_and_with_null_removes(ns: Space) -> None:
    ns.make("configmaps", config(A="1", B="2"))
    done = ns.patch("configmaps", "config", {"data": {"A": "3", "B": None, "C": "4"}}, MERGE).ok(200)
    assert done["data"] == {"A": "3", "C": "4"}


def test_a_merge_patch_replaces_a_list(ns: Space) -> None:
    ns.make("deployments", deployment("web", container(), container(name="other")))
    patch = {"spec": {"template": {"spec": {"containers": [container(name="only")]}}}}
    done = ns.patch("deployments", "web", patch, MERGE).ok(200)
    assert _names(done["spec"]["template"]["spec"]["containers"]) == ["only"]


def test_a_merge_patch_that_changes_nothing_changes_no_version(ns: Space) -> None:
    made = ns.make("configmaps", config(A="1"))
    done = ns.patch("configmaps", "config", {"data": {"A": "1"}}, MERGE).ok(200)
    assert done["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


# --- strategic merge patch --------------------------------------------------------------------------------------------


def test_strategic_merges_containers_by_name(ns: Space) -> None:
    ns.make("deployments", deployment("web", container(), container(name="other")))
    done = ns.patch("deployments", "web", _in_container(image="example.test/new:1"), STRATEGIC).ok(200)
    containers = {c["name"]: c for c in done["spec"]["template"]["spec"]["containers"]}
    assert set(containers) == {"main", "other"}
    assert containers["main"]["image"] == "example.test/new:1"
    assert containers["main"]["command"][0] == "python"
    assert containers["other"]["image"] != "example.test/new:1"


def test_strategic_adds_a_container(ns: Space) -> None:
    ns.make("deployments", deployment())
    patch = {"spec": {"template": {"spec": {"containers": [container(name="other")]}}}}
    done = ns.patch("deployments", "web", patch, STRATEGIC).ok(200)
    assert sorted(_names(done["spec"]["template"]["spec"]["containers"])) == ["main", "other"]


def test_strategic_deletes_a_container_by_name(ns: Space) -> None:
    ns.make("deployments", deployment("web", container(), container(name="other")))
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "other", "$patch": "delete"}]}}}}
    done = ns.patch("deployments", "web", patch, STRATEGIC).ok(200)
    assert _names(done["spec"]["template"]["spec"]["containers"]) == ["main"]


def test_strategic_merges_env_by_name(ns: Space) -> None:
    ns.make("deployments", deployment("web", container(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])))
    patch = _in_container(
        env=[{"name": "B", "value": "3"}, {"name": "A", "$patch": "delete"}, {"name": "C", "value": "4"}]
    )
    done = ns.patch("deployments", "web", patch, STRATEGIC).ok(200)
    values = {e["name"]: e.get("value") for e in _main(done)["env"]}
    assert values == {"POD_IP": None, "HOSTNAME_OF_POD": None, "B": "3", "C": "4"}


def test_strategic_replaces_a_list_without_a_merge_key(ns: Space) -> None:
    ns.make("deployments", deployment("web", container(args=["a", "b"])))
    assert _main(ns.patch("deployments", "web", _in_container(args=["c"]), STRATEGIC).ok(200))["args"] == ["c"]


def test_strategic_merges_container_ports_by_number(ns: Space) -> None:
    ns.make("deployments", deployment("web", container(ports=[{"containerPort": 8080, "name": "http"}])))
    patch = _in_container(ports=[{"containerPort": 8080, "name": "web"}, {"containerPort": 9090}])
    ports = {
        p["containerPort"]: p.get("name")
        for p in _main(ns.patch("deployments", "web", patch, STRATEGIC).ok(200))["ports"]
    }
    assert ports == {8080: "web", 9090: None}


def test_strategic_merges_volumes_and_mounts(ns: Space) -> None:
    mounts = [{"name": "a", "mountPath": "/a"}]
    ns.make(
        "deployments",
        deployment("web", container(volumeMounts=mounts), pods={"volumes": [{"name": "a", "emptyDir": {}}]}),
    )
    patch = _in_container(volumeMounts=[{"name": "b", "mountPath": "/b"}])
    patch["spec"]["template"]["spec"]["volumes"] = [{"name": "b", "emptyDir": {}}]
    done = ns.patch("deployments", "web", patch, STRATEGIC).ok(200)
    assert sorted(_names(done["spec"]["template"]["spec"]["volumes"])) == ["a", "b"]
    assert sorted(m["mountPath"] for m in _main(done)["volumeMounts"]) == ["/a", "/b"]


def test_strategic_replaces_a_map_where_told(ns: Space) -> None:
    ns.make("configmaps", config(A="1", B="2"))
    done = ns.patch("configmaps", "config", {"data": {"$patch": "replace", "C": "3"}}, STRATEGIC).ok(200)
    assert done["data"] == {"C": "3"}


def test_strategic_replaces_a_list_where_told(ns: Space) -> None:
    ns.make("deployments", deployment("web", container(env=[{"name": "A", "value": "1"}])))
    patch = _in_container(env=[{"$patch": "replace"}, {"name": "ONLY", "value": "1"}])
    assert _names(_main(ns.patch("deployments", "web", patch, STRATEGIC).ok(200))["env"]) == ["ONLY"]


def test_strategic_retains_the_keys_that_it_names(ns: Space) -> None:
    ns.make("deployments", deployment())
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert ns.patch("deployments", "web", patch, STRATEGIC).ok(200)["spec"]["strategy"] == {"type": "Recreate"}


def test_strategic_orders_a_list_as_told(ns: Space) -> None:
    ns.make("deployments", deployment("web", container(), container(name="other")))
    patch: Obj = {
        "spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "other"}, {"name": "main"}]}}}
    }
    patch["spec"]["template"]["spec"]["containers"] = [{"name": "other"}, {"name": "main"}]
    done = ns.patch("deployments", "web", patch, STRATEGIC).ok(200)
    assert _names(done["spec"]["template"]["spec"]["containers"]) == ["other", "main"]


def test_strategic_removes_with_null(ns: Space) -> None:
    ns.make("configmaps", config(labels={"a": "1", "b": "2"}))
    done = ns.patch("configmaps", "config", {"metadata": {"labels": {"a": None}}}, STRATEGIC).ok(200)
    assert done["metadata"]["labels"] == {"b": "2"}


def test_strategic_adds_to_finalizers(ns: Space) -> None:
    body = config()
    body["metadata"]["finalizers"] = ["example.test/a"]
    ns.make("configmaps", body)
    patch = {"metadata": {"finalizers": ["example.test/b"]}}
    done = ns.patch("configmaps", "config", patch, STRATEGIC).ok(200)
    assert sorted(done["metadata"]["finalizers"]) == ["example.test/a", "example.test/b"]
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.test/a"]}}
    done = ns.patch("configmaps", "config", patch, STRATEGIC).ok(200)
    assert done["metadata"]["finalizers"] == ["example.test/b"]


def test_strategic_merges_service_ports_by_port(ns: Space) -> None:
    ns.make("services", service())
    patch = {"spec": {"ports": [{"port": 80, "targetPort": 9090}, {"name": "more", "port": 81}]}}
    done = ns.patch("services", "web", patch, STRATEGIC).ok(200)
    assert {p["port"]: (p["name"], p["targetPort"]) for p in done["spec"]["ports"]} == {
        80: ("http", 9090),
        81: ("more", 81),
    }


# --- all of them ------------------------------------------------------------------------------------------------------

_PATCHES = {
    MERGE: {"data": {"A": "2"}},
    STRATEGIC: {"data": {"A": "2"}},
    JSON_PATCH: [{"op": "replace", "path": "/data/A", "value": "2"}],
}


@pytest.mark.parametrize("how", _PATCHES)
def test_a_patch_of_an_absent_object_is_not_found(ns: Space, how: str) -> None:
    ns.patch("configmaps", "absent", _PATCHES[how], how).refused(404, "NotFound", 'configmaps "absent" not found')


@pytest.mark.parametrize("how", _PATCHES)
def test_a_patch_is_noted_under_its_manager(ns: Space, how: str) -> None:
    ns.make("configmaps", config(A="1", B="1"), fieldManager="one")
    done = ns.patch("configmaps", "config", _PATCHES[how], how, fieldManager="two").ok(200)
    fields = {e["manager"]: e["fieldsV1"]["f:data"] for e in done["metadata"]["managedFields"]}
    assert fields == {"one": {".": {}, "f:B": {}}, "two": {"f:A": {}}}


@pytest.mark.parametrize("how", [MERGE, STRATEGIC])
def test_a_patch_with_an_old_version_conflicts(ns: Space, how: str) -> None:
    made = ns.make("configmaps", config(A="1"))
    ns.patch("configmaps", "config", {"data": {"B": "1"}}).ok(200)
    patch = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, **_PATCHES[how]}
    text = "the object has been modified; please apply your changes to the latest version and try again"
    ns.patch("configmaps", "config", patch, how).refused(409, "Conflict", text)


@pytest.mark.parametrize("how", [MERGE, STRATEGIC])
def test_a_patch_does_not_rename(ns: Space, how: str) -> None:
    ns.make("configmaps", config())
    assert ns.patch("configmaps", "config", {"metadata": {"name": "other"}}, how).status in (400, 422)


def test_a_broken_patch_is_a_bad_request(ns: Space) -> None:
    ns.make("configmaps", config())
    answer = ns.patch("configmaps", "config", "{", MERGE)
    answer.refused(400, "BadRequest", "error decoding patch: unexpected end of JSON input")


def test_an_unknown_kind_of_patch_is_not_taken(ns: Space) -> None:
    ns.make("configmaps", config())
    ns.patch("configmaps", "config", {"data": {}}, "text/plain").refused(415, "UnsupportedMediaType")


def test_a_patch_to_a_wrong_type_is_invalid(ns: Space) -> None:
    ns.make("deployments", deployment())
    answer = ns.patch("deployments", "web", {"spec": {"replicas": "two"}}, MERGE)
    answer.refused(422, "Invalid", "is invalid: patch: Invalid value:", "cannot unmarshal string into Go")


def test_a_patch_cannot_change_the_status(ns: Space) -> None:
    ns.make("deployments", deployment())
    done = ns.patch("deployments", "web", {"status": {"replicas": 9}}).ok(200)
    assert done["status"].get("replicas", 0) == 0
