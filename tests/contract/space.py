"""A namespace of one case's own, and the objects that cases put into it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.contract.client import APPLY, MERGE, PATIENCE, RESOURCES, Answer, Client, Obj, until

IMAGE = os.environ.get("CONTRACT_IMAGE") or "sandbox/inference-api:0.1.0"
MANAGER = "contract"
_MARK = "contract-tests"


def absent_tag() -> str:
    """A tag that the image's repository cannot hold, since nobody knew its name before now."""
    name = IMAGE.partition("@")[0]
    host, slash, last = name.rpartition("/")
    return f"{host}{slash}{last.partition(':')[0]}:absent-{secrets.token_hex(8)}"


class Space:
    """Paths, requests and waits in one namespace. Objects are named by their plural, as in a path."""

    def __init__(self, api: Client, name: str) -> None:
        self.api, self.name = api, name

    def path(self, plural: str, name: str = "", sub: str = "") -> str:
        parts = [RESOURCES[plural][0], "namespaces", self.name, plural, name, sub]
        return "/".join(part for part in parts if part)

    def filled(self, plural: str, body: Obj) -> Obj:
        root, kind = RESOURCES[plural]
        return {"apiVersion": root.split("/", 2)[2], "kind": kind, **body}

    def post(self, plural: str, body: Obj, **query: Any) -> Answer:
        return self.api.post(self.path(plural), self.filled(plural, body), **query)

    def make(self, plural: str, body: Obj, **query: Any) -> Obj:
        """Create what must be creatable."""
        made: Obj = self.post(plural, body, **query).ok(201)
        return made

    def get(self, plural: str, name: str) -> Obj:
        found: Obj = self.api.get(self.path(plural, name)).ok(200)
        return found

    def find(self, plural: str, name: str) -> Obj | None:
        """The object, or None where there is none."""
        answer = self.api.get(self.path(plural, name))
        return None if answer.status == 404 else answer.ok(200)

    def list(self, plural: str, labels: str = "", **query: Any) -> list[Obj]:
        found: list[Obj] = self.api.get(self.path(plural), labelSelector=labels or None, **query).ok(200)["items"]
        return found

    def put(self, plural: str, body: Obj, **query: Any) -> Answer:
        return self.api.put(self.path(plural, body["metadata"]["name"]), self.filled(plural, body), **query)

    def patch(self, plural: str, name: str, patch: Any, how: str = MERGE, **query: Any) -> Answer:
        return self.api.patch(self.path(plural, name), patch, how, **query)

    def apply(self, plural: str, body: Obj, manager: str = MANAGER, **query: Any) -> Answer:
        path = self.path(plural, body["metadata"]["name"])
        return self.api.patch(path, self.filled(plural, body), APPLY, fieldManager=manager, **query)

    def delete(self, plural: str, name: str, body: Obj | None = None, **query: Any) -> Answer:
        return self.api.delete(self.path(plural, name), body, **query)

    # --- waits --------------------------------------------------------------------------------------------------------

    def gone(self, plural: str, name: str, uid: str = "") -> None:
        """Wait until the object is no more (or is another one, where `uid` is given)."""

        def look() -> bool:
            found = self.find(plural, name)
            return found is None or bool(uid and found["metadata"]["uid"] != uid)

        until(f"{plural}/{name} is gone", look)

    def ready_for_pods(self) -> None:
        until("the namespace has its ServiceAccount", lambda: self.find("serviceaccounts", "default"))

    def pod_when(self, name: str, what: str, test: Any, seconds: float = PATIENCE) -> Obj:
        """The pod when `test(pod)` is true."""
        last: Obj = {}

        def look() -> bool:
            last.clear()
            last.update(self.get("pods", name))
            return bool(test(last))

        try:
            until(f"pod {name} {what}", look, seconds)
        except AssertionError as problem:
            raise AssertionError(f"{problem}; its status: {last.get('status')}") from None
        return last

    def logs(self, name: str, **query: Any) -> str:
        return str(self.api.get(self.path("pods", name, "log"), **query).ok(200))

    def logged(self, name: str, text: str, **query: Any) -> str:
        """The log once it holds `text`."""
        return until(f"the log of {name} holds {text!r}", lambda: (t := self.logs(name, **query)) and text in t and t)  # type: ignore[return-value]

    def events(self, name: str, reason: str = "") -> list[Obj]:
        """Events about the object of that name, in the order of their first time."""
        selector = f"involvedObject.name={name}" + (f",reason={reason}" if reason else "")
        return self.list("events", fieldSelector=selector)

    def event(self, name: str, reason: str) -> Obj:
        """The first event of that reason, when it comes."""
        return until(f"{name} has an event {reason}", lambda: self.events(name, reason))[0]


@contextmanager
def space(api: Client, level: str, left: list[Space]) -> Iterator[Space]:
    """A new namespace of that Pod Security level, deleted afterwards; `left` is told, to wait for its end."""
    name = f"contract-{secrets.token_hex(5)}"
    labels = {"app.kubernetes.io/part-of": _MARK, "pod-security.kubernetes.io/enforce": level}
    api.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}}).ok(201)
    made = Space(api, name)
    left.append(made)
    try:
        yield made
    finally:
        api.delete(f"/api/v1/namespaces/{name}")
        made.api.request("DELETE", made.path("pods"), gracePeriodSeconds=0)


def release(made: Space) -> bool:
    """Whether the namespace is gone; takes off the finalizers that a failed case left behind."""
    if made.api.get(f"/api/v1/namespaces/{made.name}").status == 404:
        return True
    for plural in ("configmaps", "deployments", "pods", "replicasets", "secrets"):
        for obj in made.api.get(made.path(plural)).body.get("items") or []:
            if obj["metadata"].get("finalizers"):
                made.patch(plural, obj["metadata"]["name"], {"metadata": {"finalizers": None}})
    return False
