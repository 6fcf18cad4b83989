# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release has to do, decided from plain dicts: differences, ownership, replicas, prune, restore. Pure."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml
from ansible_collections.deepmlhub.inference.plugins.module_utils.objects import (
    LAST_APPLIED,
    Object,
    bare,
    key,
    masked,
    title,
)

MANAGER = "deepmlhub.inference"
REPLICAS_MANAGER = "deepmlhub.inference.replicas"
# Whoever filled the namespace before us by client-side apply; their fields become ours, or they could never be removed.
CLIENT_SIDE_MANAGERS = frozenset({"kubectl-client-side-apply", "before-first-apply"})
# Controllers that mark what they look after, such as a load balancer's finalizer: nobody's drift.
PLATFORM_MANAGERS = frozenset(
    {"cloud-controller-manager", "glbc", "kube-controller-manager", "neg-controller", "service-controller"}
)
# A claim holds data, and a Namespace holds what others put there.
NEVER_PRUNED = frozenset({"Namespace", "PersistentVolumeClaim"})


def differs(live: Mapping[str, Any] | None, predicted: Mapping[str, Any]) -> bool:
    """Whether an apply would change what was declared; server fields aside."""
    return live is None or bare(live) != bare(predicted)


def difference(live: Mapping[str, Any] | None, predicted: Mapping[str, Any] | None, note: str = "") -> dict[str, str]:
    """One entry of Ansible's diff; a Secret's values never stand in it.

    :param note: what the header adds, such as the manager that a field is taken over from.
    """
    before, after = masked(live and bare(live), predicted and bare(predicted))
    name = title(predicted or live or {})
    return {
        "before_header": f"{name} (live)",
        "after_header": f"{name} ({note})" if note else name,
        "before": _text(before),
        "after": _text(after),
    }


def _text(obj: Object) -> str:
    return yaml.safe_dump(obj, sort_keys=True, default_flow_style=False, allow_unicode=True) if obj else ""


def conflicts(status: Mapping[str, Any]) -> list[dict[str, str]]:
    """The fields that others own, from the Status of a 409: C([{field, manager}])."""
    found = []
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "FieldManagerConflict":
            quoted = str(cause.get("message", "")).split('"')
            found.append({"field": str(cause.get("field", "")), "manager": quoted[1] if len(quoted) > 1 else "unknown"})
    return found


def autoscaled(manifests: Iterable[Object], deployment: str) -> Object | None:
    """The HorizontalPodAutoscaler that drives the Deployment, if the manifests hold one."""
    for obj in manifests:
        target = (obj.get("spec") or {}).get("scaleTargetRef") or {}
        if obj["kind"] == "HorizontalPodAutoscaler" and (target.get("kind"), target.get("name")) == (
            "Deployment",
            deployment,
        ):
            return obj
    return None


def with_replicas(manifest: Object, replicas: int) -> Object:
    """The Deployment with C(spec.replicas) written out."""
    return {**manifest, "spec": {**manifest["spec"], "replicas": replicas}}


def without_replicas(manifest: Object) -> Object:
    """The Deployment that leaves C(spec.replicas) to its owner."""
    return {**manifest, "spec": {name: value for name, value in manifest["spec"].items() if name != "replicas"}}


def first_replicas(manifest: Mapping[str, Any], scaler: Mapping[str, Any]) -> int:
    """How many pods a Deployment starts with before its autoscaler has measured anything."""
    least = int(scaler["spec"].get("minReplicas", 1))
    most = int(scaler["spec"]["maxReplicas"])
    return min(max(int(manifest["spec"].get("replicas", least)), least), most)


def rolls(live: Mapping[str, Any] | None, predicted: Mapping[str, Any]) -> bool:
    """Whether an apply makes new pods."""
    return live is None or live["spec"]["template"] != predicted["spec"]["template"]


def surges(live: Mapping[str, Any] | None) -> bool:
    """Whether an update needs room for a pod more than there are; a first deploy needs room anyway."""
    strategy = ((live or {}).get("spec") or {}).get("strategy") or {}
    if live is None or strategy.get("type") == "Recreate":
        return live is None
    return str((strategy.get("rollingUpdate") or {}).get("maxSurge", 1)).rstrip("%") != "0"


def replicas_only(live: Mapping[str, Any]) -> Object:
    """The apply by which a second manager becomes an owner of the live count, and of nothing else."""
    return {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": {name: live["metadata"][name] for name in ("name", "namespace")},
        "spec": {"replicas": live["spec"].get("replicas", 1)},
    }


def owns_replicas(live: Mapping[str, Any] | None, managers: Collection[str]) -> bool:
    """Whether one of these managers owns C(spec.replicas) of the live object, so that it may not just be left out."""
    return any(
        "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        for entry in _entries(live)
        if str(entry.get("manager")) in managers and not entry.get("subresource")
    )


def applied_by_us(live: Mapping[str, Any]) -> bool:
    """Whether an apply of ours made the object what it is."""
    return any(e.get("manager") == MANAGER and e.get("operation") == "Apply" for e in _entries(live))


def to_migrate(live: Mapping[str, Any] | None) -> list[Object]:
    """The managedFields entries whose fields must become ours before we can drop any of them."""
    return [
        entry
        for entry in _entries(live)
        if entry.get("operation") == "Update"
        and not entry.get("subresource")
        and (entry.get("manager") in CLIENT_SIDE_MANAGERS or entry.get("manager") == MANAGER)
    ]


def migration(live: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The JSON patch that makes client-side entries (and our own replaces) part of our apply; None without any."""
    moved = to_migrate(live)
    if not moved:
        return None
    entries = [copy.deepcopy(entry) for entry in _entries(live) if entry not in moved]
    ours = next((e for e in entries if e.get("manager") == MANAGER and e.get("operation") == "Apply"), None)
    if ours is None:
        ours = {**copy.deepcopy(moved[0]), "manager": MANAGER, "operation": "Apply", "fieldsV1": {}}
        entries.append(ours)
    for entry in moved:
        ours["fieldsV1"] = _union(ours["fieldsV1"], entry.get("fieldsV1") or {})
    # Whoever writes in between changes resourceVersion, and the patch is refused instead of undoing their ownership.
    return [
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
    ]


def _entries(live: Mapping[str, Any] | None) -> list[Object]:
    return ((live or {}).get("metadata") or {}).get("managedFields") or []


def _union(one: Object, other: Object) -> Object:
    found = dict(one)
    for name, value in other.items():
        found[name] = _union(found[name], value) if isinstance(found.get(name), dict) else copy.deepcopy(value)
    return found


def prunable(before: Iterable[Object], now: Iterable[Object]) -> list[Object]:
    """What an earlier release recorded and this one does not hold, in the order of removal."""
    kept = {key(obj) for obj in now}
    gone = [obj for obj in before if key(obj) not in kept and obj["kind"] not in NEVER_PRUNED]
    # What drives the pods goes first, what they read goes last.
    return gone[::-1]


def restored(recorded: Object, live: Mapping[str, Any] | None, *, keep_replicas: bool) -> Object:
    """The body that brings an object back exactly as it was recorded.

    :param recorded: the object as the release left it, server fields aside.
    :param live: today's object, whose server-allocated fields stay; None when it is gone.
    :param keep_replicas: an autoscaler owns the live count.
    """
    body = copy.deepcopy(recorded)
    if live is None:
        return body
    metadata = body["metadata"]
    metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
    revision = (live["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision")
    if revision:
        metadata.setdefault("annotations", {})["deployment.kubernetes.io/revision"] = revision
    for name in ("finalizers", "ownerReferences"):
        if live["metadata"].get(name):
            metadata[name] = copy.deepcopy(live["metadata"][name])
    if body["kind"] == "Service":
        for name in ("clusterIP", "clusterIPs", "healthCheckNodePort"):
            if (live.get("spec") or {}).get(name) and body["spec"].get("type") != "ExternalName":
                body["spec"][name] = copy.deepcopy(live["spec"][name])
    if body["kind"] == "Deployment" and keep_replicas and "replicas" in (live.get("spec") or {}):
        body["spec"]["replicas"] = live["spec"]["replicas"]
    if body["kind"] == "ServiceAccount" and live.get("secrets"):
        body["secrets"] = copy.deepcopy(live["secrets"])
    return body


def pod_of(deployment: Mapping[str, Any]) -> Object:
    """One Pod as the Deployment's template would make it: only a Pod shows what admission will refuse."""
    template = copy.deepcopy(deployment["spec"]["template"])
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "generateName": f"{deployment['metadata']['name']}-",
            "namespace": deployment["metadata"]["namespace"],
        },
        "spec": template["spec"],
    }


def drift(recorded: Iterable[Object], live: Mapping[str, Object | None]) -> list[dict[str, Any]]:
    """Where live objects differ from what the newest release left, with the manager that owns each field today.

    :param recorded: the objects as the release left them, server fields aside.
    :param live: C(Kind/name) to the live object, or None when it is gone.
    :returns: C([{object, field, recorded, live, manager}]); a Secret's values are left out.
    """
    recorded = list(recorded)
    found: list[dict[str, Any]] = []
    for was in recorded:
        now = live.get(key(was))
        if now is None:
            found.append({"object": title(was), "field": "", "recorded": "present", "live": "absent", "manager": ""})
            continue
        old, new = masked(was, bare(now))
        scaled = was["kind"] == "Deployment" and autoscaled(recorded, was["metadata"]["name"])
        for field, before, after in _fields(old, new, ()):
            dotted = ".".join(field)
            manager = owner(now, field)
            if (scaled and dotted == "spec.replicas") or field[-1] == LAST_APPLIED:
                continue
            if field[0] == "metadata" and (field[1] == "finalizers" or manager in PLATFORM_MANAGERS):
                continue
            found.append({"object": title(was), "field": dotted, "recorded": before, "live": after, "manager": manager})
    return found


def _fields(old: Any, new: Any, where: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _fields(old.get(name), new.get(name), (*where, name))
    elif isinstance(old, list) and isinstance(new, list) and _named(old) and _named(new):
        before, after = ({item["name"]: item for item in side} for side in (old, new))
        for name in sorted({*before, *after}):
            yield from _fields(before.get(name), after.get(name), (*where, f"[name={name}]"))
    elif old != new:
        yield where, old, new


def _named(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and "name" in item for item in items)


def owner(live: Mapping[str, Any], field: tuple[str, ...]) -> str:
    """The manager, other than ours where there is one, that owns a field; the newest when several do."""
    found: list[tuple[str, str]] = []
    for entry in _entries(live):
        tree: Any = entry.get("fieldsV1") or {}
        for step in field:
            tree = _descend(tree, step)
            if tree is None:
                break
            if tree == {}:  # an atomic field: what lies below belongs to the same owner
                break
        if tree is not None:
            found.append((str(entry.get("time", "")), str(entry.get("manager", ""))))
    others = [pair for pair in found if pair[1] not in (MANAGER, REPLICAS_MANAGER)]
    return max(others or found or [("", "")])[1]


def _descend(tree: Any, step: str) -> Any:
    if step.startswith("[name="):
        name = step[6:-1]
        return next((sub for k, sub in tree.items() if k.startswith("k:") and f'"name":"{name}"' in k), None)
    return tree.get(f"f:{step}")
