# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The Namespace with its quota and limits: they come before every release and outlive them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.deepmlhub.inference.plugins.module_utils import plan
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import ApiError, Cluster
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.objects import (
    ANNOTATION_PREFIX,
    KINDS,
    Object,
    in_namespace,
    key,
    path,
    title,
)
from ansible_collections.deepmlhub.inference.plugins.module_utils.survey import AT_ONCE, apply, live_of

CREATED_BY = f"{ANNOTATION_PREFIX}created-by"
# What every namespace holds without anybody's doing.
AUTOMATIC = frozenset({"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"})
PASSING = frozenset({"events", "endpoints", "endpointslices", "podmetrics"})


def present(
    cluster: Cluster, name: str, labels: dict[str, str], policies: list[Object], *, manage: bool, check_mode: bool
) -> dict[str, Any]:
    """Applies the Namespace with its labels, then its quota and limits.

    :param policies: manifests of ResourceQuota and LimitRange.
    :param manage: false leaves the Namespace itself to somebody else, as a namespaced Role must.
    :returns: C(changed), C(created), C(diff), C(notes).
    """
    result: dict[str, Any] = {"changed": False, "created": False, "diff": [], "notes": []}
    live = _read(cluster, name, result["notes"])
    if live is not None and live["metadata"].get("deletionTimestamp"):
        raise InferenceError(
            f"Namespace {name} is being deleted", hint="Wait until it is gone, then run again, or use another namespace"
        )
    if manage:
        live = _apply_namespace(cluster, name, labels, live, check_mode, result)
    elif live is not None:
        _demand_labels(name, labels, live)
    wanted = [in_namespace(policy, name) for policy in policies]
    for manifest in wanted:
        if live is None and check_mode:
            _note_change(result, None, manifest)
            continue
        _apply_one(cluster, manifest, check_mode, result)
    if live is not None and not live["metadata"].get("unread"):
        for obj in _outdated(cluster, name, {key(manifest) for manifest in wanted}):
            _note_change(result, obj, {})
            if not check_mode:
                _delete(cluster, obj)
    return result


def absent(
    cluster: Cluster,
    name: str,
    policies: list[Object],
    *,
    manage: bool,
    check_mode: bool,
    wait_timeout: float,
    wait_sleep: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Removes quota and limits, and the Namespace when we created it and nothing of others is left in it.

    :returns: C(changed), C(removed), C(held_by), C(diff), C(notes).
    """
    result: dict[str, Any] = {"changed": False, "removed": [], "held_by": [], "diff": [], "notes": []}
    live = _read(cluster, name, result["notes"])
    if live is None:
        return result
    ours = manage and (live["metadata"].get("annotations") or {}).get(CREATED_BY) == plan.MANAGER
    mine = [in_namespace(policy, name) for policy in policies]
    held_by = foreign(cluster, name, {key(policy) for policy in mine}) if ours else []
    doomed = [obj for obj in live_of(cluster, mine).values() if obj]
    if ours and not held_by:
        doomed.append(live)
    elif ours:
        result["held_by"] = held_by
        result["notes"].append(f"Namespace {name} stays, because it holds {', '.join(held_by)}")
    else:
        why = "this collection did not create it" if manage else "this run does not manage it"
        result["notes"].append(f"Namespace {name} stays, because {why}")
    for obj in doomed:
        result["diff"].append(plan.difference(obj, {}))
        result["removed"].append(title(obj))
        result["changed"] = True
        if not check_mode:
            _delete(cluster, obj)
    if live in doomed and not check_mode:
        deadline = clock() + wait_timeout
        while _read(cluster, name, []) is not None:
            if clock() >= deadline:
                raise InferenceError(
                    f"Namespace {name} is still being deleted after {wait_timeout:.0f} s",
                    hint=f"kubectl get namespace {name} -o yaml says in status.conditions what holds it",
                )
            sleep(wait_sleep)
    return result


def foreign(cluster: Cluster, name: str, ours: set[str]) -> list[str]:
    """What somebody else keeps in the namespace, as C(Kind/name): objects without an owner that nobody made for us."""
    found: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for kind, items in pool.map(lambda spot: _listed(cluster, name, *spot), list(_spots(cluster))):
            for item in items:
                label = f"{kind}/{item['metadata']['name']}"
                if not item["metadata"].get("ownerReferences") and label not in AUTOMATIC and label not in ours:
                    found.append(label)
    return sorted(set(found))


def _spots(cluster: Cluster) -> Iterator[tuple[str, str, str]]:
    """Every kind that a namespace can hold: (REST root, plural, kind)."""
    roots = ["/api/v1"]
    for group in cluster.request("GET", "/apis").body.get("groups") or []:
        roots.append(f"/apis/{group['preferredVersion']['groupVersion']}")
    for root in roots:
        try:
            listed = cluster.request("GET", root).body
        except ApiError as error:
            if error.status in (404, 503):
                continue  # an aggregated API that is away holds no object that we could see
            raise
        for resource in listed.get("resources") or []:
            name = resource["name"]
            if resource["namespaced"] and "list" in resource["verbs"] and "/" not in name and name not in PASSING:
                yield root, name, resource["kind"]


def _listed(cluster: Cluster, namespace: str, root: str, plural: str, kind: str) -> tuple[str, list[Object]]:
    try:
        items = cluster.request("GET", f"{root}/namespaces/{namespace}/{plural}").body.get("items") or []
    except ApiError as error:
        if error.status in (403, 404, 405):
            return kind, []
        raise
    return kind, items


def _read(cluster: Cluster, name: str, notes: list[str]) -> Object | None:
    try:
        found: Object = cluster.request("GET", f"/api/v1/namespaces/{name}").body
    except ApiError as error:
        if error.status == 404:
            return None
        if error.status == 403:
            notes.append(f"no permission to read Namespace {name}: its labels were not checked")
            return {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name, "unread": True}}
        raise
    return found


def _apply_namespace(
    cluster: Cluster, name: str, labels: dict[str, str], live: Object | None, check_mode: bool, result: dict[str, Any]
) -> Object | None:
    metadata: Object = {"name": name, "labels": labels}
    if live is None or CREATED_BY in (live["metadata"].get("annotations") or {}):
        metadata["annotations"] = {CREATED_BY: plan.MANAGER}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    try:
        predicted = apply(cluster, manifest, dry_run=True)
        if live is None or plan.differs(live, predicted):
            _note_change(result, live, predicted)
            if not check_mode:
                predicted = apply(cluster, manifest)
            result["created"] = live is None
            return predicted if not (check_mode and result["created"]) else None
    except ApiError as error:
        if error.status != 403 or live is None:
            raise
        if not live["metadata"].get("unread"):
            _demand_labels(name, labels, live)
        result["notes"].append(f"no permission to change Namespace {name}: it is used as it is")
    return live


def _apply_one(cluster: Cluster, manifest: Object, check_mode: bool, result: dict[str, Any]) -> None:
    live = live_of(cluster, [manifest])[key(manifest)]
    predicted = apply(cluster, manifest, dry_run=True)
    if plan.differs(live, predicted):
        _note_change(result, live, predicted)
        if not check_mode:
            apply(cluster, manifest)


def _outdated(cluster: Cluster, name: str, wanted: set[str]) -> list[Object]:
    """Quotas and limits that we applied once and that are no longer asked for."""
    found = []
    for kind in ("ResourceQuota", "LimitRange"):
        for item in _listed(cluster, name, "/api/v1", KINDS[kind].plural, kind)[1]:
            obj = {**item, "apiVersion": "v1", "kind": kind}
            if key(obj) not in wanted and plan.applied_by_us(obj):
                found.append(obj)
    return found


def _note_change(result: dict[str, Any], live: Object | None, predicted: Object) -> None:
    result["changed"] = True
    result["diff"].append(plan.difference(live, predicted))


def _demand_labels(name: str, labels: dict[str, str], live: Object) -> None:
    if live["metadata"].get("unread"):
        return
    there = live["metadata"].get("labels") or {}
    lacking = {label: value for label, value in labels.items() if there.get(label) != value}
    wrong = [f"{label}={value} (is {there.get(label, 'absent')})" for label, value in lacking.items()]
    if wrong:
        raise InferenceError(
            f"Namespace {name} lacks labels that this run may not set: {', '.join(wrong)}",
            hint=f"Let somebody who may run: kubectl label namespace {name} --overwrite "
            + " ".join(f"{label}={value}" for label, value in labels.items()),
        )


def _delete(cluster: Cluster, obj: Object) -> None:
    try:
        cluster.request("DELETE", path(obj))
    except ApiError as error:
        if error.status != 404:
            raise
