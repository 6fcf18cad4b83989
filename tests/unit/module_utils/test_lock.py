from __future__ import annotations

import copy
from typing import Any

import pytest
import urllib3
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import Cluster
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.lock import Lock

from .scripted import Asked, Clock, Reply, Scripted


class Leases:
    """One Lease with the API server's rules: create once, PUT and DELETE only at the seen version."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def hold(self, holder: str, renewed: str = "2026-01-01T00:00:00.000000Z", ttl: int = 30) -> None:
        self.version += 1
        self.lease = {
            "metadata": {"name": "r", "uid": f"uid-{holder}", "resourceVersion": str(self.version)},
            "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": ttl},
        }

    def __call__(self, asked: Asked) -> Reply:
        if asked.method == "POST":
            if self.lease:
                return 409, {}, {"reason": "AlreadyExists", "message": "exists"}
            self.version += 1
            self.lease = copy.deepcopy(asked.body)
            self.lease["metadata"] |= {"uid": f"uid-{self.version}", "resourceVersion": str(self.version)}
            return 201, {}, self.lease
        if self.lease is None:
            return 404, {}, {"reason": "NotFound", "message": "not found"}
        if asked.method == "GET":
            return 200, {}, self.lease
        wanted = asked.body["preconditions"] if asked.method == "DELETE" else asked.body["metadata"]
        if wanted["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            return 409, {}, {"reason": "Conflict", "message": "the object has been modified"}
        if asked.method == "DELETE":
            self.lease = None
            return 200, {}, {"status": "Success"}
        self.version += 1
        self.lease = copy.deepcopy(asked.body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return 200, {}, self.lease


def lock(url: str, clock: Clock, holder: str = "me", sleep: Any = None) -> Lock:
    cluster = Cluster(url, urllib3.PoolManager(), dict, clock=clock, sleep=clock.sleep)
    return Lock(cluster, "ns", "r", holder=holder, ttl=30, clock=clock, sleep=sleep or clock.sleep)


def test_taken_and_given_back() -> None:
    leases = Leases()
    with Scripted(leases) as server:
        held = lock(server.url, Clock())
        held.acquire(0)
        assert leases.lease is not None
        assert leases.lease["spec"]["holderIdentity"] == "me"
        assert leases.lease["spec"]["leaseDurationSeconds"] == 30
        held.check()
        held.release()
    assert leases.lease is None


def test_a_living_run_s_lock_is_respected_and_named() -> None:
    leases = Leases()
    leases.hold("other")
    clock = Clock()

    def renewing_sleep(seconds: float) -> None:
        clock.sleep(seconds)
        leases.hold("other", renewed=f"2026-01-01T00:00:{clock.now:09.6f}Z")

    with Scripted(leases) as server, pytest.raises(InferenceError, match="locked by other") as caught:
        lock(server.url, clock, sleep=renewing_sleep).acquire(100)
    assert caught.value.fields["holder"] == "other"
    assert clock.now >= 100


def test_a_dead_run_s_lock_is_taken_over_after_its_ttl_by_our_clock_alone() -> None:
    leases = Leases()
    leases.hold("dead", renewed="2099-01-01T00:00:00.000000Z")  # a clock far ahead of ours
    clock = Clock()
    with Scripted(leases) as server:
        held = lock(server.url, clock)
        held.acquire(100)
        assert 30 <= clock.now < 35
        assert leases.lease is not None
        assert leases.lease["spec"]["holderIdentity"] == "me"
        held.release()
    assert leases.lease is None


def test_waiting_ends_as_soon_as_the_holder_gives_the_lock_back() -> None:
    leases = Leases()
    leases.hold("other")
    clock = Clock()

    def leaving_sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now >= 3:
            leases.lease = None

    with Scripted(leases) as server:
        held = lock(server.url, clock, sleep=leaving_sleep)
        said: list[str] = []
        held.acquire(100, said.append)
        held.release()
    assert clock.now == 3
    assert said[0] == "waiting for the lock held by other"


def test_the_loser_of_a_race_for_a_dead_lock_goes_on_waiting() -> None:
    leases = Leases()
    leases.hold("dead")
    clock = Clock()
    raced = False

    def race(asked: Asked) -> Reply:
        nonlocal raced
        if asked.method == "PUT" and not raced:
            raced = True
            leases.hold("winner", renewed="2026-01-01T01:00:00.000000Z")
        return leases(asked)

    with Scripted(race) as server, pytest.raises(InferenceError, match="locked by winner"):
        lock(server.url, clock).acquire(40)


def test_release_leaves_a_lock_that_somebody_took_over() -> None:
    leases = Leases()
    with Scripted(leases) as server:
        held = lock(server.url, Clock())
        held.acquire(0)
        leases.hold("thief")
        held.release()
    assert leases.lease is not None
    assert leases.lease["spec"]["holderIdentity"] == "thief"
