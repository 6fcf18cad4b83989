"""Leases, which serve as locks, and Events."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.contract.bodies import config, lease
from tests.contract.client import Obj, until
from tests.contract.space import Space


def test_a_lease_keeps_microseconds(ns: Space) -> None:
    time = "2026-01-01T00:00:00.123456Z"
    made = ns.make("leases", lease(renewTime=time, acquireTime=time))
    assert made["spec"] == {"holderIdentity": "a", "leaseDurationSeconds": 15, "acquireTime": time, "renewTime": time}
    assert ns.get("leases", "lock")["spec"] == made["spec"]


def test_a_lease_needs_microseconds(ns: Space) -> None:
    ns.post("leases", lease(renewTime="2026-01-01T00:00:00Z")).refused(
        400, "BadRequest", 'cannot parse "Z" as ".000000"'
    )


def test_a_lease_with_a_time_that_is_none_is_refused(ns: Space) -> None:
    ns.post("leases", lease(renewTime="yesterday")).refused(400, "BadRequest", "yesterday")


def test_two_cannot_create_the_same_lease(ns: Space) -> None:
    ns.make("leases", lease(holder="a"))
    ns.post("leases", lease(holder="b")).refused(
        409, "AlreadyExists", 'leases.coordination.k8s.io "lock" already exists'
    )
    assert ns.get("leases", "lock")["spec"]["holderIdentity"] == "a"


def test_a_lease_is_renewed(ns: Space) -> None:
    made = ns.make("leases", lease())
    made["spec"]["renewTime"] = "2026-01-01T00:00:10.000000Z"
    done = ns.put("leases", made).ok(200)
    assert done["spec"]["renewTime"] == "2026-01-01T00:00:10.000000Z"
    assert done["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]


def test_of_two_that_take_a_lease_over_one_wins(ns: Space) -> None:
    seen = ns.make("leases", lease())
    for holder, status in (("b", 200), ("c", 409)):
        answer = ns.put("leases", {**seen, "spec": {**seen["spec"], "holderIdentity": holder, "leaseTransitions": 1}})
        assert answer.status == status
    text = 'Operation cannot be fulfilled on leases.coordination.k8s.io "lock": the object has been modified'
    assert text in answer.body["message"]
    assert ns.get("leases", "lock")["spec"]["holderIdentity"] == "b"


def test_a_lease_is_given_back_only_by_who_saw_it_last(ns: Space) -> None:
    seen = ns.make("leases", lease())
    ns.patch("leases", "lock", {"spec": {"holderIdentity": "b"}}).ok(200)
    options = {"apiVersion": "v1", "kind": "DeleteOptions",
               "preconditions": {"resourceVersion": seen["metadata"]["resourceVersion"]}}  # fmt: skip
    ns.delete("leases", "lock", options).refused(409, "Conflict")
    assert ns.get("leases", "lock")["spec"]["holderIdentity"] == "b"


def test_a_lease_is_watched(ns: Space) -> None:
    made = ns.make("leases", lease())
    ns.patch("leases", "lock", {"spec": {"holderIdentity": "b"}}).ok(200)
    version = made["metadata"]["resourceVersion"]
    events = ns.api.watch(ns.path("leases"), resourceVersion=version, fieldSelector="metadata.name=lock")
    assert next(events)["object"]["spec"]["holderIdentity"] == "b"
    events.close()  # type: ignore[attr-defined]


# --- events -----------------------------------------------------------------------------------------------------------


def _event(ns: Space, name: str = "note", **fields: object) -> Obj:
    about = {"apiVersion": "v1", "kind": "ConfigMap", "name": "config", "namespace": ns.name}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"name": name}, "involvedObject": about, "type": "Warning", "reason": "Noticed",
        "message": "look here",
        "firstTimestamp": now, "lastTimestamp": now, "count": 1, "source": {"component": "contract"}, **fields,
    }  # fmt: skip


def test_an_event_is_found_by_what_it_is_about(ns: Space) -> None:
    ns.make("configmaps", config())
    ns.make("events", _event(ns))
    ns.make("events", _event(ns, "other", involvedObject={"kind": "ConfigMap", "name": "other", "namespace": ns.name}))
    assert [e["metadata"]["name"] for e in ns.events("config")] == ["note"]
    assert [e["metadata"]["name"] for e in ns.events("config", "Noticed")] == ["note"]
    assert ns.events("config", "Ignored") == []
    assert [
        e["metadata"]["name"] for e in ns.list("events", fieldSelector="type=Warning,involvedObject.kind=ConfigMap")
    ] == ["note", "other"]


def test_an_event_has_a_second_view(ns: Space) -> None:
    ns.make("events", _event(ns))
    found = ns.api.get(f"/apis/events.k8s.io/v1/namespaces/{ns.name}/events/note").ok(200)
    assert found["apiVersion"] == "events.k8s.io/v1"
    assert found["regarding"]["name"] == "config"
    assert found["note"] == "look here"
    assert (found["deprecatedCount"], found["deprecatedSource"]) == (1, {"component": "contract"})


def test_an_event_lies_where_its_object_does(ns: Space) -> None:
    body = _event(ns, involvedObject={"kind": "ConfigMap", "name": "config", "namespace": "elsewhere"})
    ns.post("events", body).refused(422, "Invalid", "involvedObject.namespace", "does not match event.namespace")


def test_an_event_counts_up(ns: Space) -> None:
    ns.make("events", _event(ns))
    done = ns.patch("events", "note", {"count": 2}).ok(200)
    assert (done["count"], done["message"]) == (2, "look here")


def test_a_new_event_of_the_new_kind_shows_in_the_old_view(ns: Space) -> None:
    body = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "note", "namespace": ns.name},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.test/contract",
        "reportingInstance": "one", "action": "Looking", "reason": "Noticed", "type": "Normal", "note": "look here",
        "regarding": {"apiVersion": "v1", "kind": "ConfigMap", "name": "config", "namespace": ns.name},
    }  # fmt: skip
    ns.api.post(f"/apis/events.k8s.io/v1/namespaces/{ns.name}/events", body).ok(201)
    (found,) = until("it is there", lambda: ns.events("config"))
    assert (found["message"], found["reportingComponent"]) == ("look here", "example.test/contract")
