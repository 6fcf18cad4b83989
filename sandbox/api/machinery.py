"""The store and its verbs: what a Kubernetes API server does between the request and the answer.

Single-threaded, on one asyncio loop. Objects are plain dicts; what comes out is always a copy.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
import uuid
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sandbox.api import admission, errors, fields, ownership, patches, rules, schema, selectors
from sandbox.api.errors import ApiStatus
from sandbox.api.kinds import BY_KIND, STORED, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

Obj = dict[str, Any]
Contents = list[tuple[Kind, Obj]]  # `list` is a method below
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_CONTROLLER = "kube-controller-manager"
_PROTECTED = ("default", "kube-system", "kube-public")
_NO_BLIND_UPDATE = ("Lease", "PodDisruptionBudget")


class Runtime(Protocol):
    """What the API server needs of the kubelet."""

    def log(
        self,
        pod: Obj,
        container: str | None,
        *,
        previous: bool,
        follow: bool,
        tail: int | None,
        since_seconds: int | None,
        timestamps: bool,
        limit_bytes: int | None,
    ) -> AsyncIterator[bytes]: ...

    def pod_address(self, pod: Obj) -> str | None: ...

    def pod_metrics(self, namespace: str | None) -> list[Obj]: ...

    def node_metrics(self) -> list[Obj]: ...


class Change(NamedTuple):
    """One line of history: `old` is the object before, for watches with a selector."""

    version: int
    type: str
    kind: str
    object: Obj
    old: Obj | None


@dataclass(frozen=True)
class Call:
    """How a request asked for its write. `warnings` collects what the client is told beside the answer."""

    manager: str = "unknown"
    user: str = "system:admin"
    dry_run: bool = False
    validation: str = "Ignore"
    force: bool = False
    warnings: list[str] = field(default_factory=list)


class Watch:
    """Changes of some kinds from now on, as (type, kind, object); ends after close()."""

    def __init__(self, api: Api, kinds: tuple[str, ...]) -> None:
        self._api, self._kinds = api, kinds
        self._queue: asyncio.Queue[tuple[str, str, Obj] | None] = asyncio.Queue()
        api.listeners.append(self._hear)

    def _hear(self, change: Change) -> None:
        if change.kind in self._kinds:
            self._queue.put_nowait((change.type, change.kind, fields.copy(change.object)))

    def close(self) -> None:
        if self._hear in self._api.listeners:
            self._api.listeners.remove(self._hear)
            self._queue.put_nowait(None)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> tuple[str, str, Obj]:
        item = await self._queue.get()
        if item is None:
            raise StopAsyncIteration
        return item


def _meta(obj: Obj) -> Obj:
    found: Obj = obj["metadata"]
    return found


class Api:
    """The in-process door. Refusals are raised as ApiStatus.

    `window`: how many changes a watch may lie behind; `settle`: seconds until the namespace controller acts.
    """

    def __init__(self, *, window: int = 2000, clock: Callable[[], float] = time.time, settle: float = 0.2) -> None:
        self._objects: dict[str, dict[tuple[str, str], Obj]] = {kind.kind: {} for kind in STORED}
        self.history: deque[Change] = deque(maxlen=window)
        self.version = self.oldest = 1000  # a real server is never asked for its first versions
        self.listeners: list[Callable[[Change], None]] = []
        self.clock, self._settle = clock, settle
        self.runtime: Runtime | None = None
        self.ca_pem = ""
        self._addresses = 0
        self.cluster_address: Callable[[], str] = self._next_address  # a runtime may have addresses that answer
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self.create("Namespace", {"metadata": {"name": name}}, manager="kube-apiserver")

    # --- reading ------------------------------------------------------------------------------------------------------

    def now(self) -> str:
        return _stamp(self.clock())

    def time_in(self, seconds: int) -> str:
        return _stamp(self.clock() + seconds)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Obj:
        """One object; ApiStatus 404."""
        return fields.copy(self._live(BY_KIND[kind], name, namespace))  # type: ignore[no-any-return]

    def find(self, kind: str, name: str, namespace: str | None = None) -> Obj | None:
        """The stored object itself, not to be changed, or None."""
        return self._objects[kind].get((namespace or "", name))

    def all(self, kind: str, namespace: str | None = None) -> list[Obj]:
        """The stored objects themselves, not to be changed, in the order of a list."""
        found = sorted(self._objects[kind].items())
        return [obj for (space, _), obj in found if not namespace or space == namespace]

    def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Obj]:
        wanted = {"matchLabels": dict(labels or {})}
        found = self.all(kind, namespace)
        return [fields.copy(obj) for obj in found if rules.matches(wanted, _meta(obj).get("labels"))]

    def page(self, kind: Kind, namespace: str | None, query: Mapping[str, str]) -> Obj:
        """A List as HTTP answers it: selectors, limit and continue."""
        test = self.test(kind, query)
        found = self.all(kind.kind, namespace)
        version = self.version
        if token := query.get("continue"):
            version, start = _read_token(token)
            if version < self.oldest:
                raise errors.expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a"
                    " new list without the continue parameter."
                )
            found = [obj for obj in self._as_of(version, kind, namespace) if _position(obj, namespace) >= start]
        found = [obj for obj in found if test(obj)]
        meta: Obj = {"resourceVersion": str(version)}
        limit = int(query.get("limit") or 0) if query.get("limit", "0").isdigit() else 0
        if limit and len(found) > limit:
            meta["continue"] = _token(version, _position(found[limit - 1], namespace))
            if not query.get("labelSelector") and not query.get("fieldSelector"):
                meta["remainingItemCount"] = len(found) - limit
            found = found[:limit]
        return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta, "items": found}

    def _as_of(self, version: int, kind: Kind, namespace: str | None) -> Sequence[Obj]:
        """The objects as they were at a version that history still reaches, so that all pages show one list."""
        found = {_position(obj, None): obj for obj in self.all(kind.kind, namespace)}
        for change in reversed(self.history):
            if change.version <= version:
                break
            space = _meta(change.object).get("namespace")
            if change.kind == kind.kind and namespace in (None, "", space):
                if change.old is None:
                    found.pop(_position(change.object, None), None)
                else:
                    found[_position(change.object, None)] = change.old
        return [found[key] for key in sorted(found)]

    def test(self, kind: Kind, query: Mapping[str, str]) -> Callable[[Mapping[str, Any]], bool]:
        by_labels = selectors.labels(query.get("labelSelector", ""))
        by_fields = selectors.fields(query.get("fieldSelector", ""), kind)
        return lambda obj: by_labels(obj) and by_fields(obj)

    def watch(self, *kinds: str) -> Watch:
        """Changes from now on; take the initial state with list() first."""
        return Watch(self, kinds)

    def _live(self, kind: Kind, name: str, namespace: str | None) -> Obj:
        found = self.find(kind.kind, name, namespace if kind.namespaced else None)
        if found is None:
            raise errors.not_found(kind, name)
        return found

    # --- writing, in process ------------------------------------------------------------------------------------------

    def create(
        self,
        kind: str,
        obj: Obj,
        namespace: str | None = None,
        *,
        manager: str = _CONTROLLER,
        user: str = "system:kube-controller-manager",
        dry_run: bool = False,
    ) -> Obj:
        """Create with full admission, so that a controller sees what policies refuse."""
        found = BY_KIND[kind]
        space = namespace or (obj.get("metadata") or {}).get("namespace")
        return self.do_create(found, obj, space, Call(manager, user, dry_run))

    def update(self, kind: str, obj: Obj, *, subresource: str | None = None, manager: str = _CONTROLLER) -> Obj:
        """Replace; a resourceVersion in `obj` that is not the newest raises ApiStatus 409."""
        meta = _meta(obj)
        return self.do_update(BY_KIND[kind], meta["name"], meta.get("namespace"), obj, Call(manager), subresource or "")

    def patch(
        self,
        kind: str,
        name: str,
        namespace: str | None,
        patch: Obj,
        *,
        subresource: str | None = None,
        manager: str = _CONTROLLER,
    ) -> Obj:
        """A JSON merge patch."""
        return self.do_patch(BY_KIND[kind], name, namespace, patch, patches.MERGE, Call(manager), subresource or "")

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_seconds: int | None = None,
        propagation: str = "Background",
        uid: str | None = None,
    ) -> None:
        options: Obj = {"propagationPolicy": propagation}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid:
            options["preconditions"] = {"uid": uid}
        self.do_delete(BY_KIND[kind], name, namespace, options, Call())

    # --- the verbs ----------------------------------------------------------------------------------------------------

    def decode(self, kind: Kind, obj: Any, call: Call) -> Obj:
        """A request's body as the server reads it: typed, unknown fields dropped and told, defaults not yet set."""
        if not isinstance(obj, dict):
            raise errors.bad_request(f"the object provided is unrecognized (must be of type {kind.kind})")
        reader = schema.Decoder()
        try:
            out: Obj = reader.decode({**schema.of(kind), "$name": kind.definition}, obj)
        except schema.WrongType as wrong:
            raise errors.undecodable(kind, str(wrong)) from None
        if reader.unknown and call.validation == "Strict":
            told = ", ".join(f'unknown field "{path}"' for path in reader.unknown)
            raise errors.undecodable(kind, f"strict decoding error: {told}")
        if call.validation == "Warn":
            call.warnings.extend(f'unknown field "{path}"' for path in reader.unknown)
        meta = out.pop("metadata", None) or {}
        return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta,
                **{k: v for k, v in out.items() if k not in ("kind", "apiVersion")}}  # fmt: skip

    def do_create(self, kind: Kind, body: Any, namespace: str | None, call: Call, *, applied: bool = False) -> Obj:
        obj = self.decode(kind, body, call)
        meta = _meta(obj)
        if kind.namespaced:
            space = self._in_namespace(meta, namespace)
            meta["namespace"] = space
        else:
            meta.pop("namespace", None)
        if not meta.get("name") and meta.get("generateName"):
            suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
            meta["name"] = f"{meta['generateName'][:58]}{suffix}"
        if meta.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        for key in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.pop(key, None)
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = self.now()
        meta.pop("generation", None)
        if kind.generation:
            meta["generation"] = 1
        if kind.has_status and kind.kind != "Node":
            obj.pop("status", None)
        rules.default(kind.kind, obj)
        if not applied:
            meta.pop("managedFields", None)
            ownership.update(kind, None, obj, ownership.Who(call.manager, "Update"), self.now())
        if kind.namespaced:
            self._open_namespace(kind, meta)
        admission.mutate(self, kind, obj)
        if causes := rules.check(kind, obj):
            raise errors.invalid(kind, meta.get("name", ""), causes)
        admission.validate(self, kind, obj, None, call)
        if there := self.find(kind.kind, meta["name"], meta.get("namespace")):
            raise errors.already_exists(kind, meta["name"], is_going="deletionTimestamp" in _meta(there))
        if kind.kind == "Service":
            self._allocate(obj, None)
        if call.dry_run:
            return fields.copy(obj)  # type: ignore[no-any-return]
        self._store("ADDED", kind, obj, None)
        self._created(kind, obj)
        return fields.copy(obj)  # type: ignore[no-any-return]

    def do_update(
        self, kind: Kind, name: str, namespace: str | None, body: Any, call: Call, subresource: str = ""
    ) -> Obj:
        live = self._live(kind, name, namespace)
        obj = self.decode(kind, body, call)
        meta = _meta(obj)
        if meta.get("name", name) != name:
            text = f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            raise errors.bad_request(text)
        if meta.get("namespace", namespace) != namespace and kind.namespaced:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if kind.kind in _NO_BLIND_UPDATE and not meta.get("resourceVersion"):
            cause = errors.Cause("metadata.resourceVersion", "Invalid value: 0: must be specified for an update")
            raise errors.invalid(kind, name, [cause])
        return self._replace(kind, live, obj, call, subresource)

    def do_patch(
        self, kind: Kind, name: str, namespace: str | None, patch: Any, how: str, call: Call, subresource: str = ""
    ) -> Obj:
        live = self._live(kind, name, namespace)
        obj = patches.patched(kind, live, patch, how)
        reader = schema.Decoder()
        try:
            reader.decode({**schema.of(kind), "$name": kind.definition}, obj)
        except schema.WrongType as wrong:
            raise patches.refused(obj, str(wrong)) from None
        if reader.unknown and call.validation == "Strict":
            told = ", ".join(f'unknown field "{path}"' for path in reader.unknown)
            raise patches.refused(obj, f"strict decoding error: {told}")
        if (said := (obj.get("metadata") or {}).get("name", name)) != name:
            cause = errors.Cause("metadata.name", f"Invalid value: {fields.dumps(said)}: field is immutable")
            raise errors.invalid(kind, name, [cause])
        return self._replace(kind, live, self.decode(kind, obj, call), call, subresource)

    def do_apply(
        self, kind: Kind, name: str, namespace: str | None, config: Any, call: Call, subresource: str = ""
    ) -> tuple[Obj, bool]:
        """Server-side apply; the second value says whether the object was created."""
        if problems := list(fields.problems(schema.of(kind), config)):
            where = f"{namespace}/{name}" if namespace else name
            told = problems[0] if len(problems) == 1 else "\n  ".join(["errors:", *problems])
            text = f"failed to create typed patch object ({where}; {kind.api_version}, Kind={kind.kind}): {told}"
            raise ApiStatus(500, "", text)
        meta = config["metadata"] = config.get("metadata") or {}
        if meta.setdefault("name", name) != name:
            text = f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            raise errors.bad_request(text)
        if meta.get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        live = self.find(kind.kind, name, namespace)
        if live is None and kind.namespaced:
            self._in_namespace(meta, namespace)
        who = ownership.Who(call.manager, "Apply", subresource)
        if (
            live is not None
            and meta.get("resourceVersion", _meta(live)["resourceVersion"]) != _meta(live)["resourceVersion"]
        ):
            raise errors.modified(kind, name)
        obj = ownership.apply(kind, live, config, who, self.now(), force=call.force)
        obj = {"kind": kind.kind, "apiVersion": kind.api_version, **obj}
        if live is None:
            if subresource:
                raise errors.not_found(kind, name)
            obj["metadata"] = {**_meta(obj), "name": name, "namespace": namespace}
            return self.do_create(kind, obj, namespace, call, applied=True), True
        return self._replace(kind, live, self.decode(kind, obj, call), call, subresource, applied=True), False

    def _replace(self, kind: Kind, live: Obj, obj: Obj, call: Call, subresource: str, *, applied: bool = False) -> Obj:
        meta, old = _meta(obj), _meta(live)
        if meta.get("resourceVersion", old["resourceVersion"]) != old["resourceVersion"]:
            raise errors.modified(kind, old["name"])
        if meta.get("uid", old["uid"]) != old["uid"]:
            text = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old['uid']}"
            raise errors.conflict(kind, old["name"], text)
        for key in ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "generateName",
                    "deletionTimestamp", "deletionGracePeriodSeconds"):  # fmt: skip
            meta.pop(key, None)
            if key in old:
                meta[key] = old[key]
        if subresource == "status":
            obj = {**live, "metadata": {**meta, "labels": old.get("labels")}, "status": obj.get("status", {})}
            if not old.get("labels"):
                obj["metadata"].pop("labels")
        elif kind.has_status:
            obj["status"] = live.get("status", {})
        if subresource != "status" and kind.kind == "Service":
            obj = fields.copy(obj)
            _keep_allocated(obj.setdefault("spec", {}), live["spec"])
        if kind.kind == "Namespace":
            obj["spec"] = live["spec"]
        obj = fields.copy(obj)
        rules.default(kind.kind, obj)
        if not applied:
            ownership.update(kind, live, obj, ownership.Who(call.manager, "Update", subresource), self.now())
        if subresource != "status":
            if causes := rules.check(kind, obj, live):
                raise errors.invalid(kind, old["name"], causes)
            admission.validate(self, kind, obj, live, call)
            if kind.kind == "Service":
                self._allocate(obj, live)
        if kind.generation and _content(obj) != _content(live):
            obj["metadata"]["generation"] = old.get("generation", 0) + 1
        if call.dry_run or obj == live:
            return fields.copy(obj)  # type: ignore[no-any-return]
        if self._is_finished(kind, obj):
            self._store("DELETED", kind, obj, live)
        else:
            self._store("MODIFIED", kind, obj, live)
        return fields.copy(obj)  # type: ignore[no-any-return]

    def do_delete(self, kind: Kind, name: str, namespace: str | None, options: Obj, call: Call) -> tuple[Obj, bool]:
        """The object as it was left, and whether it is gone already."""
        live = self._live(kind, name, namespace)
        meta = _meta(live)
        if kind.kind == "Namespace" and name in _PROTECTED:
            raise errors.forbidden(kind, name, "this namespace may not be deleted")
        for key, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted = (options.get("preconditions") or {}).get(key)
            if wanted and wanted != meta[key]:
                text = f"the {label} in the precondition ({wanted}) does not match the {label} in record ({meta[key]})."
                happened = "deleted and then recreated" if key == "uid" else "modified"
                raise errors.conflict(kind, name, f"{text} The object might have been {happened}")
        if call.dry_run:
            return fields.copy(live), True
        grace = self._grace(kind, live, options.get("gracePeriodSeconds"))
        finalizers = list(meta.get("finalizers") or [])
        policy = options.get("propagationPolicy") or ("Orphan" if options.get("orphanDependents") else "Background")
        if policy == "Orphan":
            self._orphan(live)
        elif policy == "Foreground" and "foregroundDeletion" not in finalizers and self._is_blocked(live):
            finalizers.append("foregroundDeletion")
        if not (grace or finalizers or kind.kind == "Namespace"):
            self._store("DELETED", kind, live, live)
            return fields.copy(live), True
        if "deletionTimestamp" in meta and grace >= meta.get("deletionGracePeriodSeconds", 0):
            return fields.copy(live), False
        obj = fields.copy(live)
        obj["metadata"] |= {"deletionTimestamp": self.time_in(grace), "deletionGracePeriodSeconds": grace}
        if finalizers:
            obj["metadata"]["finalizers"] = finalizers
        if kind.generation and "deletionTimestamp" not in meta:
            obj["metadata"]["generation"] = meta.get("generation", 0) + 1
        if kind.kind == "Namespace":
            obj["metadata"].pop("deletionGracePeriodSeconds")
            obj["status"] = {"phase": "Terminating"}
        self._store("MODIFIED", kind, obj, live)
        if kind.kind == "Namespace":
            self._soon(lambda: self._empty_namespace(name))
        elif "foregroundDeletion" in finalizers:
            self._collect(obj, "Foreground")
        return fields.copy(obj), False

    # --- namespaces ---------------------------------------------------------------------------------------------------

    def _in_namespace(self, meta: Obj, namespace: str | None) -> str:
        """The namespace to create in."""
        if meta.get("namespace") and namespace and meta["namespace"] != namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        space: str = namespace or meta.get("namespace") or "default"
        if not self.find("Namespace", space):
            raise errors.not_found(BY_KIND["Namespace"], space)
        return space

    def _open_namespace(self, kind: Kind, meta: Obj) -> None:
        space = self.find("Namespace", meta["namespace"])
        if space and "deletionTimestamp" in _meta(space):
            name = meta["namespace"]
            text = f"unable to create new content in namespace {name} because it is being terminated"
            refusal = errors.forbidden(kind, meta.get("name", ""), text)
            cause = {"reason": "NamespaceTerminating", "message": f"namespace {name} is being terminated"}
            refusal.details = {**(refusal.details or {}), "causes": [{**cause, "field": "metadata.namespace"}]}
            raise refusal

    def _created(self, kind: Kind, obj: Obj) -> None:
        name = _meta(obj)["name"]
        if kind.kind == "Namespace":
            self.create("ServiceAccount", {"metadata": {"name": "default"}}, name)
            note = (
                "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such"
                " as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across"
                " distributions of Kubernetes clusters."
            )
            meta = {"name": "kube-root-ca.crt", "annotations": {"kubernetes.io/description": note}}
            self.create("ConfigMap", {"metadata": meta, "data": {"ca.crt": self.ca_pem}}, name)

        refs = _meta(obj).get("ownerReferences") or []
        if refs and not any(self._lives(ref, _meta(obj).get("namespace")) for ref in refs):
            self._soon(lambda: self._drop(kind, obj))

    def _drop(self, kind: Kind, obj: Obj) -> None:
        """Collect an object whose owners were gone when it came."""
        found = self.find(kind.kind, _meta(obj)["name"], _meta(obj).get("namespace"))
        if found and _meta(found)["uid"] == _meta(obj)["uid"]:
            self.do_delete(kind, _meta(obj)["name"], _meta(obj).get("namespace"), {}, Call())

    def _soon(self, act: Callable[[], None]) -> None:
        """Controllers act a moment later, on the loop where there is one."""
        try:
            asyncio.get_running_loop().call_later(self._settle, act)
        except RuntimeError:
            act()

    def _empty_namespace(self, name: str) -> None:
        space = self.find("Namespace", name)
        if not space or "deletionTimestamp" not in _meta(space):
            return
        for kind in STORED:
            for obj in self.all(kind.kind, name) if kind.namespaced else []:
                if "deletionTimestamp" not in _meta(obj) and self.find(kind.kind, _meta(obj)["name"], name):
                    self.do_delete(kind, _meta(obj)["name"], name, {}, Call())
        self._settle_namespace(name)

    def _settle_namespace(self, name: str) -> None:
        """Remove a namespace that is being deleted once nothing is left in it; else say what holds it."""
        space = self.find("Namespace", name)
        if not space or "deletionTimestamp" not in _meta(space):
            return
        left = self.contents(name)
        kind = BY_KIND["Namespace"]
        obj = fields.copy(space)
        if left:
            obj["status"] = {"phase": "Terminating", "conditions": _remaining(left, self.now(), space)}
            if obj["status"] != space["status"]:
                self._store("MODIFIED", kind, obj, space)
            return
        obj["spec"].pop("finalizers", None)
        if not _meta(obj).get("finalizers"):
            self._store("DELETED", kind, obj, space)

    def contents(self, name: str) -> Contents:
        return [(kind, obj) for kind in STORED if kind.namespaced for obj in self.all(kind.kind, name)]

    # --- owners -------------------------------------------------------------------------------------------------------

    def _dependents(self, owner: Obj) -> Contents:
        uid, space = _meta(owner)["uid"], _meta(owner).get("namespace")
        return [
            (kind, obj)
            for kind in STORED
            for obj in self.all(kind.kind, space)
            if any(ref["uid"] == uid for ref in _meta(obj).get("ownerReferences") or [])
        ]

    def _collect(self, owner: Obj, policy: str) -> None:
        """Delete what the owner leaves behind, unless another owner still lives."""
        uid = _meta(owner)["uid"]
        for kind, obj in self._dependents(owner):
            meta = _meta(obj)
            others = [ref for ref in meta["ownerReferences"] if ref["uid"] != uid]
            if any(self._lives(ref, meta.get("namespace")) for ref in others):
                self._set_meta(kind, obj, {"ownerReferences": others})
            elif "deletionTimestamp" not in meta:
                self.do_delete(kind, meta["name"], meta.get("namespace"), {"propagationPolicy": policy}, Call())

    def _lives(self, ref: Obj, namespace: str | None) -> bool:
        kind = BY_KIND.get(ref["kind"])
        if not kind or kind.kind not in self._objects:
            return True
        found = self.find(kind.kind, ref["name"], namespace if kind.namespaced else None)
        return bool(found and _meta(found)["uid"] == ref["uid"])

    def _set_meta(self, kind: Kind, obj: Obj, meta: Obj) -> None:
        name, space = _meta(obj)["name"], _meta(obj).get("namespace")
        self.do_patch(kind, name, space, {"metadata": meta}, patches.MERGE, Call(_CONTROLLER))

    def _orphan(self, owner: Obj) -> None:
        for kind, obj in self._dependents(owner):
            left = [ref for ref in _meta(obj)["ownerReferences"] if ref["uid"] != _meta(owner)["uid"]]
            self._set_meta(kind, obj, {"ownerReferences": left or None})

    def _is_blocked(self, owner: Obj) -> bool:
        """Whether a deletion in the foreground has to wait for a dependent."""
        refs = (r for _, dependent in self._dependents(owner) for r in _meta(dependent)["ownerReferences"])
        return any(r["uid"] == _meta(owner)["uid"] and r.get("blockOwnerDeletion") for r in refs)

    def _release_owners(self, obj: Obj) -> None:
        """An owner that waits in the foreground goes when its last blocking dependent has gone."""
        for ref in _meta(obj).get("ownerReferences") or []:
            kind = BY_KIND.get(ref["kind"])
            owner = kind and self.find(kind.kind, ref["name"], _meta(obj).get("namespace") if kind.namespaced else None)
            if not kind or not owner or "foregroundDeletion" not in (_meta(owner).get("finalizers") or []):
                continue
            if not self._is_blocked(owner):
                left = [name for name in _meta(owner)["finalizers"] if name != "foregroundDeletion"]
                self._set_meta(kind, owner, {"finalizers": left or None})

    # --- the store ----------------------------------------------------------------------------------------------------

    def _grace(self, kind: Kind, live: Obj, asked: int | None) -> int:
        if kind.kind != "Pod" or not live["spec"].get("nodeName"):
            return 0
        if live.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        grace: int = live["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked
        return grace

    def _is_finished(self, kind: Kind, obj: Obj) -> bool:
        meta = _meta(obj)
        waiting = meta.get("finalizers") or (obj["spec"].get("finalizers") if kind.kind == "Namespace" else None)
        return "deletionTimestamp" in meta and not waiting and not meta.get("deletionGracePeriodSeconds")

    def _store(self, type_: str, kind: Kind, obj: Obj, old: Obj | None) -> None:
        self.version += 1
        obj = {**obj, "metadata": {**_meta(obj), "resourceVersion": str(self.version)}} if type_ == "DELETED" else obj
        _meta(obj)["resourceVersion"] = str(self.version)
        obj["metadata"] = _in_order(_meta(obj))
        key = (_meta(obj).get("namespace", ""), _meta(obj)["name"])
        if type_ == "DELETED":
            del self._objects[kind.kind][key]
        else:
            self._objects[kind.kind][key] = fields.copy(obj)
        change = Change(self.version, type_, kind.kind, fields.copy(obj), old)
        if len(self.history) == self.history.maxlen:
            self.oldest = self.history[0].version
        self.history.append(change)
        for listener in tuple(self.listeners):
            listener(change)
        space = _meta(obj).get("namespace", "")
        if space:
            admission.recount(self, space)
        if type_ == "DELETED":
            self._collect(obj, "Background")
            self._release_owners(obj)
            if space:
                self._settle_namespace(space)

    def forget_history(self) -> None:
        """Expire every watch and continue token: the next one gets 410."""
        self.history.clear()
        self.oldest = self.version

    def _next_address(self) -> str:
        self._addresses += 1
        return f"10.96.{self._addresses // 250}.{self._addresses % 250 + 1}"

    def _allocate(self, obj: Obj, live: Obj | None) -> None:
        """Cluster addresses and node ports of a Service."""
        spec = obj["spec"]
        if spec["type"] == "ExternalName":
            return
        if not spec.get("clusterIP"):
            spec["clusterIP"] = self.cluster_address()
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        used = {
            port.get("nodePort")
            for other in self.all("Service")
            if live is None or _meta(other)["uid"] != _meta(live)["uid"]
            for port in other["spec"].get("ports") or []
        }
        if spec["type"] in ("NodePort", "LoadBalancer") and spec.get("allocateLoadBalancerNodePorts", True):
            for index, port in enumerate(spec.get("ports") or []):
                if port.get("nodePort") in used - {None}:
                    at = f"spec.ports[{index}].nodePort"
                    text = f"Invalid value: {port['nodePort']}: provided port is already allocated"
                    raise errors.invalid(BY_KIND["Service"], _meta(obj)["name"], [errors.Cause(at, text)])
                if not port.get("nodePort"):
                    port["nodePort"] = next(n for n in range(30000, 32768) if n not in used)
                    used.add(port["nodePort"])

    # --- services and budgets -----------------------------------------------------------------------------------------

    def endpoints(self, namespace: str, service: str, port: str) -> Iterator[tuple[str, int]]:
        """(address, port) of the ready endpoints behind a Service's port."""
        for obj in self.all("EndpointSlice", namespace):
            if (_meta(obj).get("labels") or {}).get("kubernetes.io/service-name") == service:
                numbers = [p["port"] for p in obj.get("ports") or [] if (p.get("name") or "") == port]
                for endpoint in (obj.get("endpoints") or []) if numbers else []:
                    if (endpoint.get("conditions") or {}).get("ready", True):
                        yield endpoint["addresses"][0], numbers[0]

    def evict(self, pod: Obj, options: Obj, call: Call) -> None:
        """Delete a pod as far as its PodDisruptionBudget allows, by the status that the budget's controller keeps."""
        kind, meta = BY_KIND["PodDisruptionBudget"], _meta(pod)
        bound = [
            budget
            for budget in self.all(kind.kind, meta["namespace"])
            if rules.matches(budget.get("spec", {}).get("selector"), meta.get("labels"))
        ]
        running = pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in meta
        for budget in bound if running else []:
            name, status = _meta(budget)["name"], budget["status"]
            allowed, healthy, needed = (
                status.get(k, 0) for k in ("disruptionsAllowed", "currentHealthy", "desiredHealthy")
            )
            unready = not _is_ready(pod)
            if unready and (
                healthy >= needed or budget.get("spec", {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
            ):
                continue
            text = f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
            if status.get("observedGeneration", 0) < _meta(budget)["generation"]:
                text = f"The disruption budget {name} is still being processed by the server."
            elif allowed > 0:
                if not call.dry_run:
                    self.patch(kind.kind, name, meta["namespace"], {"status": {"disruptionsAllowed": allowed - 1}},
                               subresource="status", manager="kube-apiserver")  # fmt: skip
                continue
            causes = [{"reason": "DisruptionBudget", "message": text}]
            text = "Cannot evict pod as it would violate the pod's disruption budget."
            raise ApiStatus(429, "TooManyRequests", text, {"causes": causes})
        self.do_delete(BY_KIND["Pod"], meta["name"], meta["namespace"], options, call)

    # --- scale --------------------------------------------------------------------------------------------------------

    def scale(self, kind: Kind, name: str, namespace: str | None) -> Obj:
        return _scale_of(self._live(kind, name, namespace))

    def do_scale(self, kind: Kind, name: str, namespace: str | None, scale: Any, call: Call) -> Obj:
        live = self._live(kind, name, namespace)
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int):
            text = "json: cannot unmarshal string into Go struct field ScaleSpec.spec.replicas of type int32"
            raise errors.bad_request(f'Scale in version "v1" cannot be handled as a Scale: {text}')
        if replicas < 0:
            cause = errors.Cause("spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0")
            raise errors.invalid(replace(kind, kind="Scale", group="autoscaling"), name, [cause])
        obj = fields.copy(live)
        obj["spec"]["replicas"] = replicas
        if version := (scale.get("metadata") or {}).get("resourceVersion"):
            obj["metadata"]["resourceVersion"] = version
        return _scale_of(self._replace(kind, live, obj, call, "scale"))


def _scale_of(obj: Obj) -> Obj:
    meta = {k: _meta(obj)[k] for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    wanted = obj["spec"].get("selector") or {}
    text = ",".join(f"{key}={value}" for key, value in sorted((wanted.get("matchLabels") or {}).items()))
    status = {"replicas": obj.get("status", {}).get("replicas", 0), "selector": text}
    spec = {"replicas": obj["spec"]["replicas"]} if obj["spec"].get("replicas") else {}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec, "status": status}


def _is_ready(pod: Obj) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) and "deletionTimestamp" not in _meta(
        pod
    )


_META_ORDER = (
    "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
    "managedFields",
)  # fmt: skip


def _in_order(meta: Obj) -> Obj:
    return {key: meta[key] for key in _META_ORDER if key in meta}


def _content(obj: Obj) -> Obj:
    """What metadata.generation counts; a pod's binding to a node is not a change of its spec."""
    found = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    if obj["kind"] == "Pod":
        found["spec"] = {key: value for key, value in obj["spec"].items() if key != "nodeName"}
    return found


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _position(obj: Obj, namespace: str | None) -> str:
    name: str = _meta(obj)["name"]
    return f"/{name}" if namespace else f"{_meta(obj).get('namespace', '')}/{name}"


def _token(version: int, last: str) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": f"{last}\0"}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, str]:
    try:
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(found["rv"]), str(found["start"])
    except (ValueError, KeyError, TypeError):
        raise errors.bad_request(
            f"continue key is not valid: illegal base64 data at input byte 0 ({token!r})"
        ) from None


def _keep_allocated(spec: Obj, old: Obj) -> None:
    """An update that leaves out what the server allocated keeps it; what the new type cannot have goes."""
    type_ = spec.get("type", "ClusterIP")
    if type_ == "ExternalName" or old["type"] == "ExternalName":
        return
    for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if key in old:
            spec.setdefault(key, old[key])
    before = {(p["port"], p["protocol"]): p.get("nodePort") for p in old.get("ports") or []}
    for port in spec.get("ports") or []:
        number = before.get((port.get("port"), port.get("protocol", "TCP")))
        if type_ in ("NodePort", "LoadBalancer") and number:
            port.setdefault("nodePort", number)
        elif type_ == "ClusterIP" and port.get("nodePort") == number:
            port.pop("nodePort", None)
    if type_ != "LoadBalancer":
        spec.pop("allocateLoadBalancerNodePorts", None)
    if type_ == "ClusterIP" and spec.get("externalTrafficPolicy") == old.get("externalTrafficPolicy"):
        spec.pop("externalTrafficPolicy", None)


def _remaining(left: Contents, now: str, space: Obj) -> list[Obj]:
    """The conditions of a namespace that cannot go yet."""
    counts: dict[str, int] = {}
    holders: dict[str, int] = {}
    for kind, obj in left:
        name = f"{kind.plural}.{kind.group}"  # with the dot also where the group is empty, as the server writes it
        counts[name] = counts.get(name, 0) + 1
        for holder in _meta(obj).get("finalizers") or []:
            holders[holder] = holders.get(holder, 0) + 1
    content = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(counts.items()))
    finalizers = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(holders.items()))
    rows = (
        ("NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered", "All resources successfully discovered"),
        ("NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions",
         "All legacy kube types successfully parsed"),
        ("NamespaceDeletionContentFailure", "False", "ContentDeleted",
         "All content successfully deleted, may be waiting on finalization"),
        ("NamespaceContentRemaining", "True", "SomeResourcesRemain", f"Some resources are remaining: {content}"),
        ("NamespaceFinalizersRemaining", "True" if holders else "False",
         "SomeFinalizersRemain" if holders else "ContentHasNoFinalizers",
         f"Some content in the namespace has finalizers remaining: {finalizers}" if holders
         else "All content-preserving finalizers finished"),
    )  # fmt: skip
    before = {c["type"]: c for c in (space.get("status") or {}).get("conditions") or []}
    out = []
    for type_, status, reason, message in rows:
        same = before.get(type_, {}).get("status") == status
        since = before[type_]["lastTransitionTime"] if same else now
        out.append({"type": type_, "status": status, "lastTransitionTime": since, "reason": reason, "message": message})
    return out
