"""What goes with what: namespaces and their contents, owners and their dependents."""

from __future__ import annotations

import pytest

from tests.contract.bodies import condition, config, deployment
from tests.contract.client import Obj, until
from tests.contract.space import Space

_HOLD = "example.test/hold"


def _held(name: str = "config") -> Obj:
    body = config(name)
    body["metadata"]["finalizers"] = [_HOLD]
    return body


def _namespace(ns: Space) -> Obj:
    found: Obj = ns.api.get(f"/api/v1/namespaces/{ns.name}").ok(200)
    return found


def _delete(ns: Space) -> Obj:
    done: Obj = ns.api.delete(f"/api/v1/namespaces/{ns.name}").ok(200)
    return done


def _gone(ns: Space) -> None:
    until("the namespace is gone", lambda: ns.api.get(f"/api/v1/namespaces/{ns.name}").status == 404)


# --- namespaces -------------------------------------------------------------------------------------------------------


def test_a_namespace_goes_with_its_contents(ns: Space) -> None:
    ns.make("configmaps", config())
    ns.make("deployments", deployment())
    done = _delete(ns)
    assert done["metadata"]["deletionTimestamp"]
    assert done["status"]["phase"] == "Terminating"
    _gone(ns)
    assert ns.find("configmaps", "config") is None
    assert ns.list("deployments") == []


def test_a_namespace_that_goes_takes_nothing_new(ns: Space) -> None:
    ns.make("configmaps", _held())
    _delete(ns)
    status = ns.post("configmaps", config("new")).refused(403, "Forbidden")
    text = f"unable to create new content in namespace {ns.name} because it is being terminated"
    assert status["message"] == f'configmaps "new" is forbidden: {text}'
    assert status["details"]["causes"] == [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {ns.name} is being terminated",
            "field": "metadata.namespace",
        }
    ]
    ns.apply("configmaps", config("new"), dryRun="All").refused(403, "Forbidden", text)


def test_a_namespace_that_goes_can_still_be_changed_and_read(ns: Space) -> None:
    ns.make("configmaps", _held())
    _delete(ns)
    ns.patch("configmaps", "config", {"data": {"A": "2"}}).ok(200)
    assert ns.get("configmaps", "config")["data"] == {"A": "2"}


def test_a_namespace_says_what_holds_it(ns: Space) -> None:
    ns.make("configmaps", _held())
    _delete(ns)
    found = until("it says so", lambda: (n := _namespace(ns)) and condition(n, "NamespaceFinalizersRemaining") and n)
    remaining = condition(found, "NamespaceFinalizersRemaining")
    assert (remaining["status"], remaining["reason"]) == ("True", "SomeFinalizersRemain")
    text = f"Some content in the namespace has finalizers remaining: {_HOLD} in 1 resource instances"
    assert remaining["message"] == text
    remaining = condition(found, "NamespaceContentRemaining")
    assert (remaining["status"], remaining["reason"]) == ("True", "SomeResourcesRemain")
    assert "configmaps. has 1 resource instances" in remaining["message"]
    assert found["status"]["phase"] == "Terminating"


def test_a_namespace_goes_when_nothing_holds_it_any_more(ns: Space) -> None:
    ns.make("configmaps", _held())
    _delete(ns)
    ns.patch("configmaps", "config", {"metadata": {"finalizers": None}}).ok(200)
    _gone(ns)


def test_a_namespace_of_the_same_name_can_follow(ns: Space) -> None:
    first = _namespace(ns)["metadata"]["uid"]
    _delete(ns)
    _gone(ns)
    made = ns.api.post("/api/v1/namespaces", {"metadata": {"name": ns.name}}).ok(201)
    assert made["metadata"]["uid"] != first


def test_what_is_being_deleted_still_has_its_name(ns: Space) -> None:
    ns.make("configmaps", _held())
    ns.delete("configmaps", "config").ok(200)
    status = ns.post("configmaps", config()).refused(409, "AlreadyExists")
    assert status["message"] == 'object is being deleted: configmaps "config" already exists'


def test_an_absent_namespace_cannot_be_deleted(ns: Space) -> None:
    answer = ns.api.delete(f"/api/v1/namespaces/{ns.name}-absent")
    answer.refused(404, "NotFound", f'namespaces "{ns.name}-absent" not found')


# --- owners -----------------------------------------------------------------------------------------------------------


def _owned(name: str, *owners: Obj, block: bool = True, held: bool = False) -> Obj:
    body = _held(name) if held else config(name)
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
         "blockOwnerDeletion": block}
        for owner in owners
    ]  # fmt: skip
    return body


def _policy(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": name}


@pytest.mark.parametrize("options", [None, _policy("Background")], ids=["by default", "as asked"])
def test_background_deletes_the_owner_at_once_and_then_the_rest(ns: Space, options: Obj | None) -> None:
    owner = ns.make("configmaps", config("owner"))
    ns.make("configmaps", _owned("owned", owner))
    ns.delete("configmaps", "owner", options).ok(200)
    assert ns.find("configmaps", "owner") is None
    ns.gone("configmaps", "owned")


def test_foreground_keeps_the_owner_until_the_rest_is_gone(ns: Space) -> None:
    owner = ns.make("configmaps", config("owner"))
    ns.make("configmaps", _owned("owned", owner, held=True))
    ns.delete("configmaps", "owner", _policy("Foreground")).ok(200)
    found = ns.get("configmaps", "owner")["metadata"]
    assert found["deletionTimestamp"]
    assert found["finalizers"] == ["foregroundDeletion"]
    until("the rest is being deleted", lambda: ns.get("configmaps", "owned")["metadata"].get("deletionTimestamp"))
    assert ns.find("configmaps", "owner")
    ns.patch("configmaps", "owned", {"metadata": {"finalizers": None}}).ok(200)
    ns.gone("configmaps", "owner")


def test_foreground_does_not_wait_for_what_does_not_block(ns: Space) -> None:
    owner = ns.make("configmaps", config("owner"))
    ns.make("configmaps", _owned("owned", owner, block=False, held=True))
    ns.delete("configmaps", "owner", _policy("Foreground")).ok(200)
    ns.gone("configmaps", "owner")
    assert ns.find("configmaps", "owned")


def test_orphan_lets_the_rest_live(ns: Space) -> None:
    owner = ns.make("configmaps", config("owner"))
    ns.make("configmaps", _owned("owned", owner))
    ns.delete("configmaps", "owner", _policy("Orphan")).ok(200)
    ns.gone("configmaps", "owner")
    assert "ownerReferences" not in ns.get("configmaps", "owned")["metadata"]


def test_a_policy_can_stand_in_the_query(ns: Space) -> None:
    owner = ns.make("configmaps", config("owner"))
    ns.make("configmaps", _owned("owned", owner))
    ns.delete("configmaps", "owner", propagationPolicy="Orphan").ok(200)
    ns.gone("configmaps", "owner")
    assert ns.find("configmaps", "owned")


def test_what_has_two_owners_lives_with_either(ns: Space) -> None:
    one, two = (ns.make("configmaps", config(name)) for name in ("one", "two"))
    ns.make("configmaps", _owned("owned", one, two))
    ns.delete("configmaps", "one").ok(200)

    def left() -> bool:
        return [ref["name"] for ref in ns.get("configmaps", "owned")["metadata"]["ownerReferences"]] == ["two"]

    until("the reference to the first is gone", left)
    ns.delete("configmaps", "two").ok(200)
    ns.gone("configmaps", "owned")


def test_a_chain_goes_from_its_beginning(ns: Space) -> None:
    first = ns.make("configmaps", config("first"))
    second = ns.make("configmaps", _owned("second", first))
    ns.make("configmaps", _owned("third", second))
    ns.delete("configmaps", "first").ok(200)
    ns.gone("configmaps", "third")


def test_what_names_an_owner_that_never_was_goes(ns: Space) -> None:
    absent = {"metadata": {"name": "absent", "uid": "00000000-0000-0000-0000-000000000000"}}
    ns.make("configmaps", _owned("owned", absent))
    ns.gone("configmaps", "owned")


def test_what_names_another_uid_than_the_owners_goes(ns: Space) -> None:
    owner = ns.make("configmaps", config("owner"))
    owner["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    ns.make("configmaps", _owned("owned", owner))
    ns.gone("configmaps", "owned")
    assert ns.find("configmaps", "owner")


def test_a_deployment_takes_its_replica_sets_along(ns: Space) -> None:
    ns.make("deployments", deployment())
    until("there is a ReplicaSet", lambda: ns.list("replicasets"))
    ns.delete("deployments", "web").ok(200)
    until("it is gone", lambda: not ns.list("replicasets"))


def test_a_deployment_that_is_orphaning_leaves_its_replica_sets(ns: Space) -> None:
    ns.make("deployments", deployment())
    (before,) = until("there is a ReplicaSet", lambda: ns.list("replicasets"))
    ns.delete("deployments", "web", _policy("Orphan")).ok(200)
    ns.gone("deployments", "web")
    (after,) = ns.list("replicasets")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "ownerReferences" not in after["metadata"]
    ns.make("deployments", deployment())

    def adopted() -> bool:
        owners = ns.get("replicasets", before["metadata"]["name"])["metadata"].get("ownerReferences") or []
        return [owner["kind"] for owner in owners] == ["Deployment"]

    until("a new Deployment adopts it", adopted)
    assert len(ns.list("replicasets")) == 1
