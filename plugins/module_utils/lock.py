# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One writer per release, by a Lease that heals after a kill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import ApiError, Cluster, Unreachable
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


class Lock:
    """Holds the Lease of a release from C(acquire) to C(release), renewed by a thread meanwhile.

    Takeover is judged by how long renewTime stays unchanged on our own clock: two machines' clocks need not agree.

    :param holder: who we are, in words that another run's message can show.
    :param ttl: seconds that a Lease may go without renewal.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        *,
        holder: str,
        ttl: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster = cluster
        self._collection = LEASES.format(namespace=namespace)
        self._path = f"{self._collection}/{name}"
        self._name = name
        self._holder = holder
        self._ttl = ttl
        self._clock = clock
        self._sleep = sleep
        self._lease: dict[str, Any] = {}
        self._done = threading.Event()
        self._lost: str | None = None
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def acquire(self, timeout: float, on_wait: Callable[[str], None] = lambda _text: None) -> None:
        """Waits up to C(timeout) seconds for the Lease. Raises InferenceError that names its holder."""
        deadline = self._clock() + timeout
        seen: tuple[Any, Any] | None = None
        since = self._clock()
        while True:
            held = self._try_create() or self._peek()
            if held is None:
                continue
            if held["spec"].get("holderIdentity") == self._holder:
                self._lease = held
                break
            mark = (held["metadata"].get("uid"), held["spec"].get("renewTime"))
            if mark != seen:
                seen, since = mark, self._clock()
            life = int(held["spec"].get("leaseDurationSeconds") or self._ttl)
            if self._clock() - since >= life and self._take(held):
                break
            if self._clock() >= deadline:
                who = held["spec"].get("holderIdentity")
                raise InferenceError(
                    f"Release {self._name} is locked by {who}, renewed at {held['spec'].get('renewTime')}",
                    hint=f"Wait for that run to end, or raise lock_timeout above {life} s: then a dead lock is taken",
                    holder=who,
                )
            on_wait(f"waiting for the lock held by {held['spec'].get('holderIdentity')}")
            self._sleep(1.0)
        self._thread.start()

    def check(self) -> None:
        """Raises InferenceError when somebody took the Lease over: from then on every write would be a race."""
        if self._lost:
            raise InferenceError(
                f"The lock of release {self._name} was lost: {self._lost}",
                hint="Run again; what this run had begun is resumed or replaced",
            )

    def release(self) -> None:
        """Gives the Lease back; never raises, since the TTL does the same later."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._ttl)
        if self._lost or not self._lease:
            return
        metadata = self._lease["metadata"]
        conditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions}
        try:
            self._cluster.request("DELETE", self._path, body=body)
        except (ApiError, Unreachable):
            return

    def _body(self, held: Mapping[str, Any] | None = None) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._holder, "leaseDurationSeconds": self._ttl, "renewTime": now}
        if held is None or held["spec"].get("holderIdentity") != self._holder:
            spec["acquireTime"] = now
        metadata = held["metadata"] if held else {"name": self._name}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {**(held["spec"] if held else {}), **spec},
        }

    def _try_create(self) -> dict[str, Any] | None:
        try:
            lease: dict[str, Any] = self._cluster.request("POST", self._collection, body=self._body()).body
        except ApiError as error:
            if error.status == 409:
                return None
            raise
        return lease

    def _peek(self) -> dict[str, Any] | None:
        return peek(self._cluster, self._path)

    def _take(self, held: Mapping[str, Any]) -> bool:
        """PUT with the resourceVersion that we saw: of two that try, the server refuses one."""
        try:
            self._lease = self._cluster.request("PUT", self._path, body=self._body(held)).body
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    def _renew(self) -> None:
        while not self._done.wait(self._ttl / 3):
            try:
                self._lease = self._cluster.request("PUT", self._path, body=self._body(self._lease)).body
            except ApiError as error:
                if error.status in (404, 409):
                    self._lost = error.message
                    return
            except Unreachable:
                continue  # the next round tries again; if it stays so, others may take over after the TTL


def peek(cluster: Cluster, path: str) -> dict[str, Any] | None:
    """The Lease as it is, or None."""
    try:
        lease: dict[str, Any] = cluster.request("GET", path).body
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    return lease
