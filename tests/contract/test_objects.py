"""Creating, reading, replacing and deleting objects, and what wrong requests are told."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from tests.contract.bodies import causes, config, deployment, lease, service
from tests.contract.client import RESOURCES, Client, until
from tests.contract.space import Space


def test_create_answers_with_what_the_server_sets(ns: Space) -> None:
    made = ns.make("configmaps", config(A="1"))
    meta = made["metadata"]
    assert (made["kind"], made["apiVersion"], made["data"]) == ("ConfigMap", "v1", {"A": "1"})
    assert meta["namespace"] == ns.name
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", meta["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", meta["creationTimestamp"])
    assert meta["resourceVersion"].isdigit()
    assert "generation" not in meta
    assert ns.get("configmaps", "config") == made


def test_what_only_the_server_may_set_is_not_taken_from_the_client(ns: Space) -> None:
    body = config()
    body["metadata"] |= {"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z"}
    meta = ns.make("configmaps", body)["metadata"]
    assert meta["uid"] != "mine"
    assert meta["creationTimestamp"] > "2020"


def test_create_twice_already_exists(ns: Space) -> None:
    ns.make("configmaps", config())
    status = ns.post("configmaps", config()).refused(409, "AlreadyExists", 'configmaps "config" already exists')
    assert status["details"] == {"name": "config", "kind": "configmaps"}


@pytest.mark.parametrize("plural", sorted(RESOURCES))
def test_an_absent_object_is_not_found(ns: Space, plural: str) -> None:
    root = RESOURCES[plural][0]
    group = root.split("/")[2] if root.startswith("/apis") else ""
    status = ns.api.get(ns.path(plural, "absent")).refused(404, "NotFound")
    resource = f"{plural}.{group}" if group else plural
    assert status["message"] == f'{resource} "absent" not found'
    assert status["details"] == {"name": "absent", **({"group": group} if group else {}), "kind": plural}


def test_a_status_has_the_shape_that_clients_parse(ns: Space) -> None:
    status = ns.api.get(ns.path("pods", "absent")).refused(404)
    assert (status["kind"], status["apiVersion"], status["status"], status["code"]) == ("Status", "v1", "Failure", 404)


def test_a_generated_name_has_five_characters_more(ns: Space) -> None:
    names = {ns.make("configmaps", {"metadata": {"generateName": "made-"}})["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(r"made-[a-z0-9]{5}", name) for name in names)


def test_a_name_is_required(ns: Space) -> None:
    status = ns.post("configmaps", {"metadata": {}}).refused(422, "Invalid")
    assert "name or generateName is required" in causes(status)["metadata.name"]


def test_a_bad_name_is_told_the_rule(ns: Space) -> None:
    status = ns.post("configmaps", config("Bad_Name")).refused(422, "Invalid")
    assert "a lowercase RFC 1123 subdomain must consist of" in causes(status)["metadata.name"]


def test_another_namespace_in_the_body_is_refused(ns: Space) -> None:
    body = config()
    body["metadata"]["namespace"] = "elsewhere"
    text = "the namespace of the provided object does not match the namespace sent on the request"
    ns.post("configmaps", body).refused(400, "BadRequest", text)


def test_nothing_is_created_in_an_absent_namespace(ns: Space) -> None:
    absent = Space(ns.api, f"{ns.name}-absent")
    absent.post("configmaps", config()).refused(404, "NotFound", f'namespaces "{absent.name}" not found')


def test_an_absent_namespace_lists_as_empty(ns: Space) -> None:
    assert Space(ns.api, f"{ns.name}-absent").list("configmaps") == []


def test_the_kind_must_match_the_path(ns: Space) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    ns.api.post(ns.path("deployments"), body).refused(400, "BadRequest", "ConfigMap in version", "Deployment")


def test_a_body_that_is_no_object_is_a_bad_request(ns: Space) -> None:
    assert ns.api.post(ns.path("configmaps"), "[1, 2").status == 400


def test_an_unknown_content_type_is_not_taken(ns: Space) -> None:
    ns.api.post(ns.path("configmaps"), config(), content_type="text/plain").refused(415, "UnsupportedMediaType")


def test_yaml_is_taken_as_well(ns: Space) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config\ndata:\n  A: 'yes'\n"
    made = ns.api.post(ns.path("configmaps"), text, content_type="application/yaml").ok(201)
    assert made["data"] == {"A": "yes"}


def test_a_name_in_the_path_is_no_place_to_create_at(ns: Space) -> None:
    ns.api.post(ns.path("configmaps", "config"), ns.filled("configmaps", config())).refused(405, "MethodNotAllowed")


# --- replace ----------------------------------------------------------------------------------------------------------


def test_replace_leaves_out_what_the_new_object_leaves_out(ns: Space) -> None:
    made = ns.make("configmaps", config(labels={"x": "y"}, A="1", B="2"))
    del made["metadata"]["labels"]
    done = ns.put("configmaps", {**made, "data": {"B": "3"}}).ok(200)
    assert done["data"] == {"B": "3"}
    assert "labels" not in done["metadata"]
    assert done["metadata"]["uid"] == made["metadata"]["uid"]
    assert done["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]


def test_replace_with_an_old_version_conflicts(ns: Space) -> None:
    made = ns.make("configmaps", config(A="1"))
    ns.put("configmaps", {**made, "data": {"A": "2"}}).ok(200)
    status = ns.put("configmaps", {**made, "data": {"A": "3"}}).refused(409, "Conflict")
    text = "the object has been modified; please apply your changes to the latest version and try again"
    assert status["message"] == f'Operation cannot be fulfilled on configmaps "config": {text}'


def test_replace_without_a_version_overwrites(ns: Space) -> None:
    ns.make("configmaps", config(A="1"))
    assert ns.put("configmaps", config(A="2")).ok(200)["data"] == {"A": "2"}


def test_a_lease_is_not_replaced_without_a_version(ns: Space) -> None:
    ns.make("leases", lease())
    ns.put("leases", lease(holder="b")).refused(422, "Invalid", "must be specified for an update")


def test_replace_does_not_create(ns: Space) -> None:
    ns.put("configmaps", config()).refused(404, "NotFound", 'configmaps "config" not found')


def test_replace_under_another_name_is_refused(ns: Space) -> None:
    ns.make("configmaps", config())
    body = ns.filled("configmaps", config("other"))
    text = "the name of the object (other) does not match the name on the URL (config)"
    ns.api.put(ns.path("configmaps", "config"), body).refused(400, "BadRequest", text)


def test_replace_of_another_uid_conflicts(ns: Space) -> None:
    made = ns.make("configmaps", config())
    made["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    ns.put("configmaps", made).refused(409, "Conflict", "UID in precondition")


def test_replace_with_the_same_changes_no_version(ns: Space) -> None:
    made = ns.make("configmaps", config())
    assert ns.put("configmaps", made).ok(200)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_generation_counts_changes_of_the_spec_alone(ns: Space) -> None:
    assert ns.make("deployments", deployment())["metadata"]["generation"] == 1
    done = ns.patch("deployments", "web", {"metadata": {"labels": {"x": "y"}}}).ok(200)
    assert done["metadata"]["generation"] == 1
    done = ns.patch("deployments", "web", {"spec": {"minReadySeconds": 3}}).ok(200)
    assert done["metadata"]["generation"] == 2


# --- delete -----------------------------------------------------------------------------------------------------------


def test_delete_answers_with_a_status_that_names_the_uid(ns: Space) -> None:
    uid = ns.make("configmaps", config())["metadata"]["uid"]
    status = ns.delete("configmaps", "config").ok(200)
    assert (status["kind"], status["status"]) == ("Status", "Success")
    assert status["details"] == {"name": "config", "kind": "configmaps", "uid": uid}
    ns.delete("configmaps", "config").refused(404, "NotFound", 'configmaps "config" not found')


def test_a_new_object_of_a_deleted_ones_name_has_another_uid(ns: Space) -> None:
    first = ns.make("configmaps", config())
    ns.delete("configmaps", "config").ok(200)
    assert ns.make("configmaps", config())["metadata"]["uid"] != first["metadata"]["uid"]


@pytest.mark.parametrize("what", ["uid", "resourceVersion"])
def test_delete_with_a_precondition_spares_another_object(ns: Space, what: str) -> None:
    made = ns.make("configmaps", config())
    wrong = {"uid": "00000000-0000-0000-0000-000000000000", "resourceVersion": "1"}
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {what: wrong[what]}}
    ns.delete("configmaps", "config", options).refused(409, "Conflict", "in the precondition")
    options["preconditions"] = {what: made["metadata"][what]}
    ns.delete("configmaps", "config", options).ok(200)


def test_deletecollection_takes_what_the_selector_selects(ns: Space) -> None:
    for name, label in (("a", "1"), ("b", "1"), ("c", "2")):
        ns.make("configmaps", config(name, {"n": label}))
    ns.api.delete(ns.path("configmaps"), labelSelector="n=1").ok(200)
    until("two of three have gone", lambda: [o["metadata"]["name"] for o in ns.list("configmaps", "n")] == ["c"])


def test_a_finalizer_holds_an_object_until_it_is_taken_off(ns: Space) -> None:
    body = config()
    body["metadata"]["finalizers"] = ["example.test/hold"]
    ns.make("configmaps", body)
    held = ns.delete("configmaps", "config").ok(200)
    assert held["metadata"]["deletionTimestamp"]
    assert held["metadata"]["deletionGracePeriodSeconds"] == 0
    assert ns.get("configmaps", "config")["metadata"]["deletionTimestamp"] == held["metadata"]["deletionTimestamp"]
    ns.patch("configmaps", "config", {"metadata": {"finalizers": None}}).ok(200)
    assert ns.find("configmaps", "config") is None


def test_an_object_that_is_being_deleted_can_still_change(ns: Space) -> None:
    body = config(A="1")
    body["metadata"]["finalizers"] = ["example.test/hold"]
    ns.make("configmaps", body)
    ns.delete("configmaps", "config").ok(200)
    assert ns.patch("configmaps", "config", {"data": {"A": "2"}}).ok(200)["data"] == {"A": "2"}


def test_an_object_that_is_being_deleted_gets_no_new_finalizer(ns: Space) -> None:
    body = config()
    body["metadata"]["finalizers"] = ["example.test/hold"]
    ns.make("configmaps", body)
    ns.delete("configmaps", "config").ok(200)
    more = {"metadata": {"finalizers": ["example.test/hold", "example.test/more"]}}
    text = "no new finalizers can be added if the object is being deleted"
    ns.patch("configmaps", "config", more).refused(422, "Invalid", text)


# --- what kinds say of their own contents -----------------------------------------------------------------------------


def test_a_secret_writes_string_data_into_data(ns: Space) -> None:
    made = ns.make("secrets", {"metadata": {"name": "s"}, "stringData": {"A": "wörd"}, "data": {"B": "Yg=="}})
    assert made["type"] == "Opaque"
    assert "stringData" not in made
    assert base64.b64decode(made["data"]["A"]).decode() == "wörd"
    assert made["data"]["B"] == "Yg=="


def test_a_secrets_data_must_be_base64(ns: Space) -> None:
    answer = ns.post("secrets", {"metadata": {"name": "s"}, "data": {"A": "not base64!"}})
    answer.refused(400, "BadRequest", "illegal base64")


def test_a_secret_does_not_change_its_type(ns: Space) -> None:
    ns.make("secrets", {"metadata": {"name": "s"}, "stringData": {"A": "1"}})
    status = ns.patch("secrets", "s", {"type": "example.test/other"}).refused(422, "Invalid")
    assert "field is immutable" in causes(status)["type"]


@pytest.mark.parametrize("plural", ["configmaps", "secrets"])
def test_an_immutable_object_keeps_its_data(ns: Space, plural: str) -> None:
    value = base64.b64encode(b"1").decode()
    ns.make(plural, {"metadata": {"name": "fixed"}, "data": {"A": value}, "immutable": True})
    text = "field is immutable when `immutable` is set"
    ns.patch(plural, "fixed", {"data": {"A": base64.b64encode(b"2").decode()}}).refused(422, "Invalid", text)
    ns.patch(plural, "fixed", {"immutable": False}).refused(422, "Invalid", text)
    ns.patch(plural, "fixed", {"metadata": {"labels": {"x": "y"}}}).ok(200)


def test_a_key_of_a_config_map_has_a_rule(ns: Space) -> None:
    status = ns.post("configmaps", {"metadata": {"name": "c"}, "data": {"a b": "1"}}).refused(422, "Invalid")
    assert "a valid config key must consist of" in causes(status)["data[a b]"]


def test_a_config_map_holds_a_mebibyte_at_most(ns: Space) -> None:
    ns.make("configmaps", config("fits", A="x" * (1024 * 1024 - 8)))
    ns.post("configmaps", config("large", A="x" * (1024 * 1024 + 1))).refused(422, "Invalid", "1048576 bytes")


def test_a_service_keeps_its_address_through_a_replace(ns: Space) -> None:
    made = ns.make("services", service())
    address = made["spec"]["clusterIP"]
    body = service()
    body["metadata"] |= {"resourceVersion": made["metadata"]["resourceVersion"], "labels": {"x": "y"}}
    done = ns.put("services", body).ok(200)
    assert done["spec"]["clusterIP"] == address
    assert done["spec"]["clusterIPs"] == [address]


def test_a_service_keeps_its_node_port_through_a_replace(ns: Space) -> None:
    port = ns.make("services", service(type="NodePort"))["spec"]["ports"][0]["nodePort"]
    done = ns.put("services", service(type="NodePort", sessionAffinity="ClientIP")).ok(200)
    assert done["spec"]["ports"][0]["nodePort"] == port


def test_two_services_have_two_addresses(ns: Space) -> None:
    made = [ns.make("services", service(name))["spec"]["clusterIP"] for name in ("a", "b")]
    assert made[0] != made[1]


def test_a_headless_service_has_no_address(ns: Space) -> None:
    spec = ns.make("services", service(clusterIP="None"))["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("None", ["None"])


def test_a_role_binding_keeps_its_role(ns: Space) -> None:
    def body(role: str) -> dict[str, Any]:
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
        return {"metadata": {"name": "b"}, "roleRef": ref, "subjects": []}

    ns.make("rolebindings", body("one"))
    status = ns.patch("rolebindings", "b", {"roleRef": body("two")["roleRef"]}).refused(422, "Invalid")
    assert "cannot change roleRef" in causes(status)["roleRef"]


def test_an_empty_object_of_metadata_alone_is_a_config_map(ns: Space) -> None:
    made = ns.make("configmaps", {"metadata": {"name": "empty"}})
    assert "data" not in made


def test_a_write_keeps_unicode(ns: Space) -> None:
    assert ns.make("configmaps", config(A="Grüße, 世界 🎉\n"))["data"]["A"] == "Grüße, 世界 🎉\n"


def test_the_manager_of_a_plain_write_is_the_user_agents_first_word(api: Client, ns: Space) -> None:
    made = ns.post("configmaps", config(), user_agent="some-tool/1.2 (linux)").ok(201)
    assert [(e["manager"], e["operation"]) for e in made["metadata"]["managedFields"]] == [("some-tool", "Update")]
