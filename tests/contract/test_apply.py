"""Server-side apply: who owns which field, conflicts and their words, force, what goes when nobody wants it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.bodies import causes, config, container, deployment, managers, service
from tests.contract.client import APPLY, MERGE, STRATEGIC, Obj, until
from tests.contract.space import Space

_A = '.spec.template.spec.containers[name="main"].env[name="A"].value'


def _deployment(env: dict[str, str], **spec: Any) -> Obj:
    return deployment("web", container(env=[{"name": k, "value": v} for k, v in env.items()]), **spec)


def _env(obj: Obj) -> Obj:
    env = obj["spec"]["template"]["spec"]["containers"][0]["env"]
    return {e["name"]: e["value"] for e in env if "value" in e}


def test_apply_creates_what_is_not_there(ns: Space) -> None:
    made = ns.apply("configmaps", config(A="1"), "one").ok(201)
    assert made["data"] == {"A": "1"}
    assert managers(made) == {("one", "Apply", ""): {"f:data": {"f:A": {}}}}


def test_an_applied_entry_tells_operation_version_and_time(ns: Space) -> None:
    (entry,) = ns.apply("configmaps", config(A="1"), "one").ok(201)["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("one", "Apply", "v1")
    assert entry["fieldsType"] == "FieldsV1"
    assert entry["time"].endswith("Z")


def test_apply_of_the_same_changes_no_version(ns: Space) -> None:
    made = ns.apply("configmaps", config(A="1")).ok(201)
    again = ns.apply("configmaps", config(A="1")).ok(200)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert again["metadata"]["managedFields"] == made["metadata"]["managedFields"]


def test_apply_needs_a_manager(ns: Space) -> None:
    path = ns.path("configmaps", "config")
    status = ns.api.patch(path, ns.filled("configmaps", config()), APPLY).refused(422, "Invalid")
    assert "is required for apply patch" in causes(status)["fieldManager"]


def test_apply_takes_yaml(ns: Space) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config\ndata:\n  A: '1'\n"
    made = ns.api.patch(ns.path("configmaps", "config"), text, APPLY, fieldManager="one").ok(201)
    assert made["data"] == {"A": "1"}


def test_apply_of_broken_yaml_is_a_bad_request(ns: Space) -> None:
    answer = ns.api.patch(ns.path("configmaps", "config"), "a: [", APPLY, fieldManager="one")
    answer.refused(400, "BadRequest", "error decoding YAML")


def test_apply_of_an_unknown_field_is_refused(ns: Space) -> None:
    answer = ns.apply("deployments", deployment(nonsense=1))
    assert answer.status >= 400
    assert ".spec.nonsense: field not declared in schema" in answer.body["message"]


def test_apply_of_a_key_twice_is_refused(ns: Space) -> None:
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    answer = ns.apply("deployments", deployment("web", container(env=twice)))
    assert answer.status >= 400
    assert 'duplicate entries for key [name="A"]' in answer.body["message"]


def test_apply_does_not_take_managed_fields(ns: Space) -> None:
    body = config()
    body["metadata"]["managedFields"] = [{"manager": "x", "operation": "Apply", "apiVersion": "v1"}]
    ns.apply("configmaps", body).refused(400, "BadRequest", "metadata.managedFields must be nil")


def test_apply_with_an_old_version_conflicts(ns: Space) -> None:
    made = ns.apply("configmaps", config(A="1")).ok(201)
    ns.apply("configmaps", config(A="2")).ok(200)
    body = config(A="3")
    body["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    ns.apply("configmaps", body).refused(409, "Conflict", "the object has been modified")


def test_apply_owns_list_items_by_their_key(ns: Space) -> None:
    made = ns.apply("deployments", _deployment({"A": "1"}), "one").ok(201)
    fields = managers(made)["one", "Apply", ""]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    item = fields['k:{"name":"main"}']
    assert item["."] == {}
    assert item["f:env"]['k:{"name":"A"}'] == {".": {}, "f:name": {}, "f:value": {}}
    assert item["f:command"] == {}


def test_apply_owns_ports_by_number_and_protocol(ns: Space) -> None:
    made = ns.apply("services", service(), "one").ok(201)
    ports = managers(made)["one", "Apply", ""]["f:spec"]["f:ports"]
    assert set(ports) == {'k:{"port":80,"protocol":"TCP"}'}


def test_a_field_of_another_manager_stays(ns: Space) -> None:
    ns.apply("deployments", _deployment({"A": "1"}), "one").ok(201)
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "env": [{"name": "B", "value": "2"}]}]}}}}
    ns.patch("deployments", "web", patch, STRATEGIC, fieldManager="two").ok(200)
    assert _env(ns.apply("deployments", _deployment({"A": "1"}), "one").ok(200)) == {"A": "1", "B": "2"}


def test_a_dropped_item_goes_from_a_keyed_list(ns: Space) -> None:
    ns.apply("deployments", _deployment({"A": "1", "B": "2"}), "one").ok(201)
    assert _env(ns.apply("deployments", _deployment({"B": "2"}), "one").ok(200)) == {"B": "2"}


def test_a_dropped_container_goes(ns: Space) -> None:
    ns.apply("deployments", deployment("web", container(), container(name="other")), "one").ok(201)
    done = ns.apply("deployments", deployment("web", container()), "one").ok(200)
    assert [c["name"] for c in done["spec"]["template"]["spec"]["containers"]] == ["main"]


def test_a_dropped_port_goes(ns: Space) -> None:
    two = [{"name": "http", "port": 80}, {"name": "more", "port": 81}]
    ns.apply("services", service(ports=two), "one").ok(201)
    done = ns.apply("services", service(ports=two[:1]), "one").ok(200)
    assert [p["port"] for p in done["spec"]["ports"]] == [80]


def test_a_dropped_label_and_key_go(ns: Space) -> None:
    ns.apply("configmaps", config(labels={"a": "1", "b": "2"}, A="1", B="2"), "one").ok(201)
    done = ns.apply("configmaps", config(labels={"a": "1"}, B="2"), "one").ok(200)
    assert done["metadata"]["labels"] == {"a": "1"}
    assert done["data"] == {"B": "2"}


def test_a_dropped_field_falls_back_to_its_default(ns: Space) -> None:
    ns.apply("deployments", deployment(replicas=0, revisionHistoryLimit=3), "one").ok(201)
    done = ns.apply("deployments", deployment(replicas=0), "one").ok(200)
    assert done["spec"]["revisionHistoryLimit"] == 10


def test_a_value_of_another_manager_conflicts(ns: Space) -> None:
    ns.apply("deployments", _deployment({"A": "1"}), "one").ok(201)
    status = ns.apply("deployments", _deployment({"A": "2"}), "two").refused(409, "Conflict")
    assert status["message"] == f'Apply failed with 1 conflict: conflict with "one": {_A}'
    assert status["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": _A}
    ]
    assert _env(ns.get("deployments", "web")) == {"A": "1"}


def test_a_conflict_with_a_plain_write_names_its_version(ns: Space) -> None:
    ns.make("deployments", _deployment({"A": "1"}), fieldManager="tool")
    status = ns.apply("deployments", _deployment({"A": "2"}), "two").refused(409, "Conflict")
    assert status["message"] == f'Apply failed with 1 conflict: conflict with "tool" using apps/v1: {_A}'


def test_several_conflicts_are_listed_by_manager(ns: Space) -> None:
    ns.apply("configmaps", config(A="1", B="1"), "one").ok(201)
    ns.apply("configmaps", config(C="1"), "two").ok(200)
    status = ns.apply("configmaps", config(A="2", B="2", C="2"), "three").refused(409, "Conflict")
    text = (
        'Apply failed with 3 conflicts: conflicts with "one":\n- .data.A\n- .data.B\nconflicts with "two":\n- .data.C'
    )
    assert status["message"] == text
    assert sorted(cause["field"] for cause in status["details"]["causes"]) == [".data.A", ".data.B", ".data.C"]


def test_the_same_value_is_no_conflict_and_is_shared(ns: Space) -> None:
    ns.apply("configmaps", config(A="1"), "one").ok(201)
    done = ns.apply("configmaps", config(A="1"), "two").ok(200)
    fields = {"f:data": {"f:A": {}}}
    assert managers(done) == {("one", "Apply", ""): fields, ("two", "Apply", ""): fields}


def test_a_shared_field_goes_with_its_last_owner(ns: Space) -> None:
    for manager in ("one", "two"):
        ns.apply("configmaps", config(A="1", B="1"), manager).ok()
    assert "A" in ns.apply("configmaps", config(B="1"), "one").ok(200)["data"]
    assert "A" not in ns.apply("configmaps", config(B="1"), "two").ok(200)["data"]


def test_force_takes_the_field_over(ns: Space) -> None:
    ns.apply("configmaps", config(A="1", B="1"), "one").ok(201)
    done = ns.apply("configmaps", config(A="2"), "two", force=True).ok(200)
    assert done["data"] == {"A": "2", "B": "1"}
    assert managers(done) == {
        ("one", "Apply", ""): {"f:data": {"f:B": {}}},
        ("two", "Apply", ""): {"f:data": {"f:A": {}}},
    }
    status = ns.apply("configmaps", config(A="1", B="1"), "one").refused(409, "Conflict")
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "two": .data.A'


def test_a_plain_write_takes_the_field_over_without_asking(ns: Space) -> None:
    ns.apply("configmaps", config(A="1"), "one").ok(201)
    done = ns.patch("configmaps", "config", {"data": {"A": "2"}}, MERGE, fieldManager="tool").ok(200)
    assert [who[:2] for who in managers(done)] == [("tool", "Update")]
    status = ns.apply("configmaps", config(A="1"), "one").refused(409, "Conflict")
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "tool" using v1: .data.A'


def test_a_list_without_keys_is_owned_as_a_whole(ns: Space) -> None:
    ns.apply("deployments", deployment("web", container(args=["a"])), "one").ok(201)
    status = ns.apply("deployments", deployment("web", container(args=["a", "b"])), "two").refused(409, "Conflict")
    assert [cause["field"] for cause in status["details"]["causes"]] == [
        '.spec.template.spec.containers[name="main"].args'
    ]


def test_the_selector_is_owned_as_a_whole(ns: Space) -> None:
    made = ns.apply("deployments", deployment(), "one").ok(201)
    assert managers(made)["one", "Apply", ""]["f:spec"]["f:selector"] == {}


def test_finalizers_are_owned_one_by_one(ns: Space) -> None:
    for manager in ("one", "two"):
        body = config(**{manager: "1"})
        body["metadata"]["finalizers"] = [f"example.test/{manager}"]
        done = ns.apply("configmaps", body, manager).ok()
    assert sorted(done["metadata"]["finalizers"]) == ["example.test/one", "example.test/two"]
    done = ns.apply("configmaps", config(one="1"), "one").ok(200)
    assert done["metadata"]["finalizers"] == ["example.test/two"]


def test_a_map_is_owned_key_by_key(ns: Space) -> None:
    ns.apply("configmaps", config(labels={"a": "1"}, A="1"), "one").ok(201)
    done = ns.apply("configmaps", config(labels={"b": "2"}, B="2"), "two").ok(200)
    assert done["data"] == {"A": "1", "B": "2"}
    assert done["metadata"]["labels"] == {"a": "1", "b": "2"}


def test_resource_limits_are_owned_key_by_key(ns: Space) -> None:
    def body(**limits: str) -> Obj:
        return deployment("web", container(resources={"limits": limits}))

    ns.apply("deployments", body(cpu="1"), "one").ok(201)
    done = ns.apply("deployments", body(memory="1Gi"), "two").ok(200)
    assert done["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}


# --- replicas: the road that keeps an autoscaler's number -------------------------------------------------------------


def test_replicas_that_their_only_owner_omits_fall_to_one(ns: Space) -> None:
    ns.apply("deployments", deployment(replicas=3, paused=True), "one").ok(201)
    assert ns.apply("deployments", deployment(replicas=None, paused=True), "one").ok(200)["spec"]["replicas"] == 1


def test_replicas_handed_to_a_second_manager_stay(ns: Space) -> None:
    ns.apply("deployments", deployment(replicas=3, paused=True), "one").ok(201)
    ns.apply("deployments", {"metadata": {"name": "web"}, "spec": {"replicas": 3}}, "hand-over").ok(200)
    done = ns.apply("deployments", deployment(replicas=None, paused=True), "one").ok(200)
    assert done["spec"]["replicas"] == 3
    assert managers(done)["hand-over", "Apply", ""] == {"f:spec": {"f:replicas": {}}}


def test_a_scale_is_owned_through_its_subresource(ns: Space) -> None:
    ns.apply("deployments", deployment(replicas=0), "one").ok(201)
    path = ns.path("deployments", "web", "scale")
    ns.api.patch(path, {"spec": {"replicas": 2}}, MERGE, fieldManager="scaler").ok(200)
    assert ("scaler", "Update", "scale") in managers(ns.get("deployments", "web"))
    status = ns.apply("deployments", deployment(replicas=0), "one").refused(409, "Conflict")
    text = 'conflict with "scaler" with subresource "scale" using apps/v1: .spec.replicas'
    assert status["message"] == f"Apply failed with 1 conflict: {text}"
    done = ns.apply("deployments", deployment(replicas=0), "one", force=True).ok(200)
    assert done["spec"]["replicas"] == 0
    assert ("scaler", "Update", "scale") not in managers(done)


# --- objects that were made by other means ----------------------------------------------------------------------------


def test_what_kubectl_apply_made_conflicts_until_forced(ns: Space) -> None:
    ns.make("deployments", _deployment({"A": "1"}), fieldManager="kubectl-client-side-apply")
    status = ns.apply("deployments", _deployment({"A": "2"}), "one").refused(409, "Conflict")
    assert (
        status["message"]
        == f'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: {_A}'
    )
    assert _env(ns.apply("deployments", _deployment({"A": "2"}), "one", force=True).ok(200)) == {"A": "2"}


def test_what_another_manager_still_owns_stays_when_dropped(ns: Space) -> None:
    ns.make("deployments", _deployment({"A": "1"}), fieldManager="kubectl-client-side-apply")
    ns.apply("deployments", _deployment({"A": "1"}), "one").ok(200)
    assert _env(ns.apply("deployments", _deployment({}), "one").ok(200)) == {"A": "1"}


def test_managed_fields_can_be_cleared(ns: Space) -> None:
    made = ns.make("configmaps", config(A="1"), fieldManager="tool")
    made["metadata"]["managedFields"] = [{}]
    assert "managedFields" not in ns.put("configmaps", made).ok(200)["metadata"]


def test_what_nobody_is_known_to_own_conflicts_with_its_past(ns: Space) -> None:
    made = ns.make("configmaps", config(A="1"))
    made["metadata"]["managedFields"] = [{}]
    ns.put("configmaps", made).ok(200)
    status = ns.apply("configmaps", config(A="2"), "one").refused(409, "Conflict")
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.A'


def test_an_entry_can_be_moved_to_another_manager(ns: Space) -> None:
    """How client-side managers are migrated: the entry is rewritten, and a later apply may then drop fields."""
    made = ns.make("configmaps", config(A="1", B="2"), fieldManager="kubectl-client-side-apply")
    (entry,) = made["metadata"]["managedFields"]
    made["metadata"]["managedFields"] = [entry | {"manager": "one", "operation": "Apply"}]
    ns.put("configmaps", made, fieldManager="one").ok(200)
    done = ns.apply("configmaps", config(B="2"), "one").ok(200)
    assert done["data"] == {"B": "2"}
    assert managers(done) == {("one", "Apply", ""): {"f:data": {"f:B": {}}}}


def test_a_replace_removes_what_others_added(ns: Space) -> None:
    ns.apply("configmaps", config(A="1"), "one").ok(201)
    ns.apply("configmaps", config(B="2"), "two").ok(200)
    live = ns.get("configmaps", "config")
    done = ns.put("configmaps", {**live, "data": {"A": "1"}}, fieldManager="restore").ok(200)
    assert done["data"] == {"A": "1"}
    assert [who[0] for who in managers(done)] == ["one"]


# --- doors ------------------------------------------------------------------------------------------------------------


def test_apply_through_the_status_door_leaves_the_rest(ns: Space) -> None:
    ns.make("deployments", deployment(paused=True))
    until(
        "the controller has seen it", lambda: ns.get("deployments", "web").get("status", {}).get("observedGeneration")
    )
    condition = {"type": "Example", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
                 "lastUpdateTime": "2026-01-01T00:00:00Z", "reason": "Why", "message": "because"}  # fmt: skip
    body = ns.filled("deployments", {"metadata": {"name": "web"}, "status": {"conditions": [condition]}})
    path = ns.path("deployments", "web", "status")
    done = ns.api.patch(path, body, APPLY, fieldManager="judge").ok(200)
    assert done["spec"]["paused"] is True
    assert ("judge", "Apply", "status") in managers(done)


@pytest.mark.parametrize("plural", ["configmaps", "deployments", "services"])
def test_apply_in_an_absent_namespace_is_not_found(ns: Space, plural: str) -> None:
    absent = Space(ns.api, f"{ns.name}-absent")
    body = {"configmaps": config("web"), "deployments": deployment(), "services": service()}[plural]
    for dry_run in (None, "All"):
        answer = absent.apply(plural, body, dryRun=dry_run)
        answer.refused(404, "NotFound", f'namespaces "{absent.name}" not found')
