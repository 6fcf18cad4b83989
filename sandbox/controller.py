"""What every controller shares: a queue of keys that changes fill, retries with back-off, and Events."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sandbox.api.errors import ApiStatus
from sandbox.api.machinery import Api

Obj = dict[str, Any]
Key = tuple[str, str]  # namespace, name


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def key_of(obj: Obj) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def owner_of(obj: Obj) -> Obj | None:
    """The reference to the controller that manages the object."""
    refs = obj["metadata"].get("ownerReferences") or []
    return next((ref for ref in refs if ref.get("controller")), None)


def controller_ref(owner: Obj) -> Obj:
    return {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def is_pod_ready(pod: Obj) -> bool:
    return condition(pod.get("status", {}), "Ready").get("status") == "True"


def condition(status: Obj, type_: str) -> Obj:
    """The condition of this type, or an empty one."""
    return next((c for c in status.get("conditions") or [] if c["type"] == type_), {})


class Recorder:
    """Writes Events the way client-go does: repeats are counted, many alike are combined, a flood is dropped."""

    def __init__(self, api: Api, component: str, host: str = "") -> None:
        self._api, self._component, self._host = api, component, host
        self._seen: dict[tuple[str, ...], Key] = {}
        self._similar: dict[tuple[str, ...], tuple[float, set[str]]] = {}
        self._tokens: dict[str, tuple[float, float]] = {}

    def event(self, obj: Obj, type_: str, reason: str, message: str, field: str = "") -> None:
        meta = obj["metadata"]
        now = self._api.clock()
        level, since = self._tokens.get(meta["uid"], (25.0, now))
        level = min(25.0, level + (now - since) / 300)
        self._tokens[meta["uid"]] = (level - 1 if level >= 1 else level, now)
        if level < 1:
            return
        alike = (meta["uid"], field, type_, reason)
        first, messages = self._similar.get(alike, (now, set()))
        if now - first > 600:
            first, messages = now, set()
        messages.add(message)
        self._similar[alike] = (first, messages)
        combined = len(messages) >= 10
        same = (*alike, "combined") if combined else (*alike, message)
        if combined:
            message = f"(combined from similar events): {message}"
        found = self._api.find("Event", self._seen[same][1], self._seen[same][0]) if same in self._seen else None
        if found:
            change = {"count": found["count"] + 1, "lastTimestamp": stamp(now), "message": message}
            self._api.patch("Event", found["metadata"]["name"], found["metadata"]["namespace"], change)
            return
        source = {"component": self._component, **({"host": self._host} if self._host else {})}
        times = {"firstTimestamp": stamp(now), "lastTimestamp": stamp(now), "count": 1, "eventTime": None}
        reporter = {"reportingComponent": "" if combined else self._component, "reportingInstance": self._host}
        body = {"reason": reason, "message": message, "source": source, **times, "type": type_, **reporter}
        self._write(obj, field, body, same)

    def action(self, obj: Obj, type_: str, reason: str, message: str, action: str) -> None:
        """An Event of the newer kind, as the scheduler writes it: a series instead of a count."""
        now = self._api.clock()
        same = (obj["metadata"]["uid"], type_, reason, message)
        found = self._api.find("Event", self._seen[same][1], self._seen[same][0]) if same in self._seen else None
        if found:
            series = {"count": found.get("series", {}).get("count", 1) + 1, "lastObservedTime": micro(now)}
            self._api.patch("Event", found["metadata"]["name"], found["metadata"]["namespace"], {"series": series})
            return
        body: Obj = {
            "reason": reason, "message": message, "source": {}, "firstTimestamp": None, "lastTimestamp": None,
            "type": type_, "eventTime": micro(now), "action": action, "reportingComponent": self._component,
            "reportingInstance": f"{self._component}-sandbox",
        }  # fmt: skip
        self._write(obj, "", body, same)

    def _write(self, obj: Obj, field: str, body: Obj, same: tuple[str, ...]) -> None:
        meta = obj["metadata"]
        space = meta.get("namespace") or "default"
        involved = {"kind": obj["kind"], "namespace": meta.get("namespace"), "name": meta["name"], "uid": meta["uid"],
                    "apiVersion": obj["apiVersion"], "resourceVersion": meta.get("resourceVersion"),
                    "fieldPath": field}  # fmt: skip
        name = f"{meta['name']}.{time.time_ns():x}"
        event = {"metadata": {"name": name}, "involvedObject": {k: v for k, v in involved.items() if v}, **body}
        try:
            self._api.create("Event", event, space)
        except ApiStatus:  # the namespace is on its way out: nobody will read it
            return
        self._seen[same] = (space, name)


class Controller:
    """Brings objects to what they should be, one key at a time, whenever something that matters has changed."""

    kinds: tuple[str, ...] = ()  # whose changes are heard; the first is the kind that `sync` is about
    component = "kube-controller-manager"

    def __init__(self, api: Api) -> None:
        self.api = api
        self.recorder = Recorder(api, self.component)
        self._dirty: dict[Key, None] = {}
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()

    def keys(self, kind: str, obj: Obj) -> Iterable[Key]:
        """The keys that a change of this object concerns."""
        raise NotImplementedError

    def sync(self, namespace: str, name: str) -> float | None:
        """Do what has to be done; returns after how many seconds to look again, if nothing changes meanwhile."""
        raise NotImplementedError

    def touch(self, key: Key) -> None:
        self._dirty[key] = None
        self._wake.set()

    def later(self, key: Key, delay: float) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(delay, self.touch, key)

    async def run(self) -> None:
        watch = self.api.watch(*self.kinds)
        for kind in self.kinds:
            for obj in self.api.list(kind):
                for key in self.keys(kind, obj):
                    self.touch(key)
        worker = asyncio.create_task(self._work())
        try:
            async for _, kind, obj in watch:
                for key in self.keys(kind, obj):
                    self.touch(key)
        finally:
            watch.close()
            worker.cancel()

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                key = next(iter(self._dirty))
                del self._dirty[key]
                self._one(key)
                await asyncio.sleep(0)

    def _one(self, key: Key) -> None:
        try:
            again = self.sync(*key)
        except Exception as error:
            # as a work queue: 5 ms, doubled with every failure in a row
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            self.later(key, min(0.005 * 2.0 ** (failures - 1), 1000.0))
            if not isinstance(error, ApiStatus):
                traceback.print_exc(file=sys.stderr)
            return
        self._failures.pop(key, None)
        if again is not None:
            self.later(key, again)
