# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kubernetes objects as plain dicts: what they are called, where they live, how two of them differ. Pure."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Object = dict[str, Any]

ANNOTATION_PREFIX = "inference.deepmlhub.io/"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Kind(NamedTuple):
    """Where a kind lives in the API, and in which stage of an apply its turn comes."""

    api_version: str
    plural: str
    namespaced: bool
    stage: int


# What is read by pods comes before them (0), what drives them after them (2).
KINDS: dict[str, Kind] = {
    "Namespace": Kind("v1", "namespaces", False, 0),
    "ResourceQuota": Kind("v1", "resourcequotas", True, 0),
    "LimitRange": Kind("v1", "limitranges", True, 0),
    "NetworkPolicy": Kind("networking.k8s.io/v1", "networkpolicies", True, 0),
    "ServiceAccount": Kind("v1", "serviceaccounts", True, 0),
    "Secret": Kind("v1", "secrets", True, 0),
    "ConfigMap": Kind("v1", "configmaps", True, 0),
    "PersistentVolumeClaim": Kind("v1", "persistentvolumeclaims", True, 0),
    "Role": Kind("rbac.authorization.k8s.io/v1", "roles", True, 0),
    "RoleBinding": Kind("rbac.authorization.k8s.io/v1", "rolebindings", True, 0),
    "Service": Kind("v1", "services", True, 0),
    "PodDisruptionBudget": Kind("policy/v1", "poddisruptionbudgets", True, 0),
    "Deployment": Kind("apps/v1", "deployments", True, 1),
    "HorizontalPodAutoscaler": Kind("autoscaling/v2", "horizontalpodautoscalers", True, 2),
}

_SERVER_METADATA = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
# Written by the Deployment controller, never by a person.
_SERVER_ANNOTATIONS = frozenset({"deployment.kubernetes.io/revision"})


def key(obj: Mapping[str, Any]) -> str:
    """C(Kind/name): one object within a namespace."""
    return f"{obj['kind']}/{obj['metadata']['name']}"


def title(obj: Mapping[str, Any]) -> str:
    """How a message names the object: C(Kind namespace/name)."""
    metadata = obj["metadata"]
    where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{obj['kind']} {where}{metadata['name']}"


def collection_path(kind: Kind, namespace: str | None) -> str:
    """The REST path of all objects of a kind."""
    root = "/api/v1" if kind.api_version == "v1" else f"/apis/{kind.api_version}"
    return f"{root}/namespaces/{namespace}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"


def path(obj: Mapping[str, Any]) -> str:
    """The REST path of one object. Raises KeyError for a kind that a release cannot hold."""
    metadata = obj["metadata"]
    return f"{collection_path(KINDS[obj['kind']], metadata.get('namespace'))}/{metadata['name']}"


def stages(objects: Iterable[Object]) -> list[list[Object]]:
    """The objects in the order of an apply; those of one stage do not depend on one another."""
    found: dict[int, list[Object]] = {}
    for obj in objects:
        found.setdefault(KINDS[obj["kind"]].stage, []).append(obj)
    return [found[stage] for stage in sorted(found)]


def problems(objects: Any, namespace: str) -> list[str]:
    """Why a list of manifests cannot be one release; empty when it can."""
    found: list[str] = []
    seen: set[str] = set()
    for index, obj in enumerate(objects):
        where = f"manifests[{index}]"
        if not isinstance(obj, dict) or not obj.get("kind") or not (obj.get("metadata") or {}).get("name"):
            found.append(f"{where} has no kind or no metadata.name")
            continue
        kind = KINDS.get(obj["kind"])
        if kind is None or obj.get("apiVersion") != kind.api_version:
            known = ", ".join(sorted(KINDS))
            found.append(f"{where} is a {obj.get('apiVersion')} {obj['kind']}; a release holds {known}")
            continue
        if not kind.namespaced:
            found.append(f"{where} is a {obj['kind']}, which outlives releases; the module namespace applies it")
        elif obj["metadata"].get("namespace", namespace) != namespace:
            found.append(f"{where} is for namespace {obj['metadata']['namespace']}, the release is for {namespace}")
        if key(obj) in seen:
            found.append(f"{where} names {key(obj)} a second time")
        seen.add(key(obj))
    return found


def in_namespace(obj: Object, namespace: str) -> Object:
    """The manifest with its namespace written out."""
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def bare(obj: Mapping[str, Any]) -> Object:
    """The object without what only the server writes: what a person declared, plus defaults."""
    found = copy.deepcopy({name: value for name, value in obj.items() if name != "status"})
    metadata = {name: value for name, value in found.get("metadata", {}).items() if name not in _SERVER_METADATA}
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in _SERVER_ANNOTATIONS}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    found["metadata"] = metadata
    return found


def masked(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[Object, Object]:
    """Two states of one object as they may be shown: of a Secret's values only whether they changed."""
    old, new = copy.deepcopy(dict(before or {})), copy.deepcopy(dict(after or {}))
    if "Secret" in (old.get("kind"), new.get("kind")):
        for field in ("data", "stringData"):
            was, becomes = old.get(field) or {}, new.get(field) or {}
            for name in becomes:
                changed = name in was and was[name] != becomes[name]
                becomes[name] = "(secret, changed)" if changed else "(secret)"
            for name in was:
                was[name] = "(secret)"
        for side in (old, new):
            (side.get("metadata", {}).get("annotations") or {}).pop(LAST_APPLIED, None)
    return old, new


def fingerprint(value: Any) -> str:
    """A sha256 over the canonical JSON of any value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
