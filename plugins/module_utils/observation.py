# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What has been seen of a Deployment's rollout, and how to read it: any part of an object may be absent. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

Object = Mapping[str, Any]

RESOURCES = ("deployments", "replicasets", "pods", "events")


class Happening(NamedTuple):
    """An Event, with its times on the caller's clock."""

    reason: str
    message: str
    repeats: int
    first: float
    last: float
    container: str
    warning: bool


class Observation:
    """All that has been seen of one Deployment.

    :param generation: pictures of the Deployment older than this do not count.
    :param since: RFC 3339, the server's time of the change under test; what happened before it proves nothing. Without
        it everything counts.
    """

    def __init__(self, name: str, *, generation: int = 0, since: str | None = None) -> None:
        self.name = name
        self.generation = generation
        self.gone = ""
        self._since = since
        self._uid = ""
        self._objects: dict[str, dict[str, Object]] = {resource: {} for resource in RESOURCES}
        self._events: dict[str, dict[str, Object]] = {}
        self._began: dict[str, dict[str, float]] = {}
        self._times: Counter[tuple[str, str]] = Counter()
        self._arrived: dict[str, float] = {}
        self._exits_before: dict[tuple[str, str], int] = {}
        self._freed = -math.inf
        # The server's clock at moment 0 is at least this: no object was created in its future.
        self._epoch = -math.inf

    def observe(self, t: float, resource: str, change: str, found: Object) -> None:
        """Take in one line of a watch: C(change) is ADDED, MODIFIED or DELETED, C(t) the moment of its arrival."""
        if resource not in self._objects:
            return
        uid = str(get_at(found, "metadata", "uid", default=""))
        if resource == "deployments" and not self._is_ours(uid, change, found):
            return
        known = self._objects[resource].get(uid)
        if change == "DELETED":
            if resource == "pods" and known is not None:
                self._freed = t
            if resource != "events":  # an expired Event still happened
                self._objects[resource].pop(uid, None)
                self._began.pop(uid, None)
            return
        if known is not None and _version(found) < _version(known):
            return
        created = _unix(get_at(found, "metadata", "creationTimestamp"))
        if created is not None:
            self.server_time(t, created)
        self._objects[resource][uid] = found
        self._arrived[uid] = t
        if resource == "events":
            self._events.setdefault(str(get_at(found, "involvedObject", "uid", default="")), {})[uid] = found
        if resource == "pods" and known is None and not self.fresh(get_at(found, "metadata", "creationTimestamp")):
            for status, _sidecar in containers_of(found):
                self._exits_before[uid, name_of(status)] = exits_of(status)
        before = self._began.get(uid, {})
        self._began[uid] = {mark: before.get(mark, t) for mark in _marks(resource, found)}
        self._times.update((uid, mark) for mark in self._began[uid] if mark not in before)

    def replace(self, t: float, resource: str, found: Iterable[Object]) -> None:
        """Take in a list, which is all there is of the resource at this moment."""
        new = {str(get_at(one, "metadata", "uid", default="")): one for one in found}
        for uid, old in list(self._objects[resource].items()):
            if uid not in new:
                self.observe(t, resource, "DELETED", old)
        for one in new.values():
            self.observe(t, resource, "ADDED", one)
        if resource == "deployments" and not self._objects[resource] and not self.gone:
            self.gone = f"There is no Deployment {self.name}"

    def _is_ours(self, uid: str, change: str, found: Object) -> bool:
        if get_at(found, "metadata", "name") != self.name:
            return False
        if self._uid and uid != self._uid:
            self.gone = f"The Deployment {self.name} was replaced by another one of the same name"
        elif change == "DELETED":
            self.gone = f"The Deployment {self.name} was deleted"
        elif get_at(found, "metadata", "deletionTimestamp"):
            self.gone = f"The Deployment {self.name} is being deleted"
        self._uid = self._uid or uid
        return True

    def deployment(self) -> Object | None:
        """The Deployment, unless it is not there or shows a generation from before the change."""
        found = self._objects["deployments"].get(self._uid)
        return found if found is not None and number_at(found, "metadata", "generation") >= self.generation else None

    def owned(self, resource: str, *owners: Object | None) -> list[Object]:
        """The objects of these owners, the oldest first."""
        uids = {text_at(owner, "metadata", "uid") for owner in owners} - {""}
        found = [
            one
            for one in self._objects[resource].values()
            if any(text_at(reference, "uid") in uids for reference in list_at(one, "metadata", "ownerReferences"))
        ]
        return sorted(found, key=lambda one: [text_at(one, "metadata", key) for key in ("creationTimestamp", "name")])

    def happenings(self, about: Object) -> list[Happening]:
        """The Events of an object that say something of the change under test, the latest last."""
        found = []
        for uid, event in self._events.get(text_at(about, "metadata", "uid"), {}).items():
            first = get_at(event, "firstTimestamp") or get_at(event, "eventTime")
            last = get_at(event, "series", "lastObservedTime") or get_at(event, "lastTimestamp") or first
            if not self.fresh(last):
                continue
            place = re.search(r"ontainers\{(.+)\}", text_at(event, "involvedObject", "fieldPath"))
            found.append(
                Happening(
                    text_at(event, "reason"),
                    text_at(event, "message").removeprefix("(combined from similar events): "),
                    max(1, number_at(event, "count"), number_at(event, "series", "count")),
                    self.when(self.began(event, ""), first),
                    self.when(self._arrived[uid], last),
                    place.group(1) if place else "",
                    get_at(event, "type") == "Warning",
                )
            )
        return sorted(found, key=lambda one: (one.last, one.first, one.reason, one.message))

    def when(self, arrived: float, stamp: Any) -> float:
        """The moment of a server's time stamp, but never before the change.

        Stamps are cut to seconds, so what was seen arriving is more exact.
        """
        return max(self.local(self._since, -math.inf), min(arrived, self.local(stamp, math.inf) + 1))

    def local(self, stamp: Any, otherwise: float) -> float:
        """A server's time stamp on the caller's clock, as far as that is known."""
        unix = _unix(stamp)
        return otherwise if unix is None or math.isinf(self._epoch) else unix - self._epoch

    def began(self, found: Object, mark: str) -> float:
        """Since when a mark has stood on an object without a break; the mark "" is its existence."""
        return self._began.get(text_at(found, "metadata", "uid"), {}).get(mark, math.inf)

    def times(self, found: Object, mark: str) -> int:
        """How often a mark has appeared on an object."""
        return self._times[text_at(found, "metadata", "uid"), mark]

    def exits(self, pod: Object, status: Object) -> int:
        """How often a container has ended since the change."""
        return exits_of(status) - self._exits_before.get((text_at(pod, "metadata", "uid"), name_of(status)), 0)

    def fresh(self, stamp: Any) -> bool:
        """Whether a time stamp is not from before the change."""
        unix, since = _unix(stamp), _unix(self._since)
        return unix is None or since is None or unix >= since

    def server_time(self, t: float, stamp: float) -> None:
        """Take in that the server's clock showed C(stamp), in seconds since 1970, at moment C(t)."""
        self._epoch = max(self._epoch, stamp - t)

    @property
    def freed(self) -> float:
        """When a pod last went away, and with it what it took of a quota."""
        return self._freed


def _marks(resource: str, found: Object) -> set[str]:
    """What may stand on an object for a while; its age is counted from when it appeared."""
    marks = {""}
    if resource == "pods":
        for status, _lasting in containers_of(found):
            marks.add(f"{name_of(status)}:{text_at(status, 'state', 'waiting', 'reason')}")
            for state in ("state", "lastState"):
                marks.add(f"{name_of(status)}:{text_at(status, state, 'terminated', 'reason')}")
        marks.add(text_at(condition_of(found, "PodScheduled"), "reason"))
    elif resource == "replicasets":
        marks.update(text_at(one, "type") for one in list_at(found, "status", "conditions"))
    elif resource == "deployments":
        marks.add(text_at(condition_of(found, "Progressing"), "reason"))
    return marks


def condition_of(found: Object, kind: str) -> Object:
    return next((one for one in list_at(found, "status", "conditions") if get_at(one, "type") == kind), {})


def containers_of(pod: Object) -> Iterator[tuple[Object, bool]]:
    """The container statuses, and whether the container should run for as long as the pod does."""
    sidecars = {
        name_of(one) for one in list_at(pod, "spec", "initContainers") if get_at(one, "restartPolicy") == "Always"
    }
    for status in list_at(pod, "status", "initContainerStatuses"):
        yield status, name_of(status) in sidecars
    for status in list_at(pod, "status", "containerStatuses"):
        yield status, True


def exits_of(status: Object) -> int:
    """How often a container has ended; the restart count grows only when it starts again."""
    waits = get_at(status, "state", "waiting")
    over = get_at(status, "state", "terminated") or (
        waits and (get_at(status, "lastState", "terminated") or get_at(waits, "reason") == "CrashLoopBackOff")
    )
    return number_at(status, "restartCount") + bool(over)


def _version(found: Object) -> int:
    version = text_at(found, "metadata", "resourceVersion")
    return int(version) if version.isdecimal() else 0


def _unix(stamp: Any) -> float | None:
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except (TypeError, ValueError):
        return None


def get_at(found: Any, *path: str, default: Any = None) -> Any:
    """What stands at a path; the default where a part of it is absent or null."""
    for key in path:
        if not isinstance(found, Mapping):
            return default
        found = found.get(key)
    return default if found is None else found


def list_at(found: Any, *path: str) -> list[Any]:
    value = get_at(found, *path)
    return value if isinstance(value, list) else []


def text_at(found: Any, *path: str) -> str:
    value = get_at(found, *path)
    return value if isinstance(value, str) else ""


def number_at(found: Any, *path: str) -> int:
    value = get_at(found, *path)
    return value if isinstance(value, int) else 0


def name_of(found: Any, *path: str) -> str:
    return text_at(found, *path, "name")
