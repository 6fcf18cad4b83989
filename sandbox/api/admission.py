"""Admission: what a cluster's policies add to or refuse of a write."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.api import errors, fields, podsecurity, quantity, rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.api.kinds import Kind
    from sandbox.api.machinery import Api, Call

Obj = dict[str, Any]
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_TEMPLATED = ("Deployment", "ReplicaSet")


def mutate(api: Api, kind: Kind, obj: Obj) -> None:
    """What admission adds to a new object."""
    if kind.kind == "Namespace":
        obj.setdefault("spec", {})["finalizers"] = ["kubernetes"]
        obj["status"] = {"phase": "Active"}
        _levels(kind, obj)
    if kind.kind == "Pod":
        _limit_defaults(api, obj)
        _service_account(api, kind, obj)
        spec = obj["spec"]
        spec.setdefault("priority", 0)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
        tolerations = spec.setdefault("tolerations", [])
        for name in ("not-ready", "unreachable"):
            key = f"node.kubernetes.io/{name}"
            if not any(t.get("key", key) == key and t.get("effect", "NoExecute") == "NoExecute" for t in tolerations):
                tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
        obj["status"] = {"phase": "Pending", "qosClass": _qos(spec)}


def validate(api: Api, kind: Kind, obj: Obj, old: Obj | None, call: Call) -> None:
    """What admission refuses or warns of."""
    space = obj["metadata"].get("namespace", "")
    if kind.kind == "Pod":
        if old is None:
            _limit_bounds(api, kind, obj)
        if old is None or old["spec"] != obj["spec"]:
            _pod_security(api, kind, obj, obj, call)
    elif kind.kind in _TEMPLATED and (old is None or old["spec"]["template"] != obj["spec"]["template"]):
        _pod_security(api, kind, obj, obj["spec"]["template"], call)
    if old is None and space:
        _quota(api, kind, obj, space)


def _qos(spec: Obj) -> str:
    amounts = [
        (c["resources"].get("requests", {}).get(name), c["resources"].get("limits", {}).get(name))
        for part, _, c in rules.containers(spec)
        if part != "ephemeralContainers"
        for name in ("cpu", "memory")
    ]
    if not any(request or limit for request, limit in amounts):
        return "BestEffort"
    return "Guaranteed" if all(limit and request == limit for request, limit in amounts) else "Burstable"


# --- service accounts -------------------------------------------------------------------------------------------------


def _service_account(api: Api, kind: Kind, pod: Obj) -> None:
    spec, meta = pod["spec"], pod["metadata"]
    name = spec.get("serviceAccountName") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = api.find("ServiceAccount", name, meta["namespace"])
    if account is None:
        text = f'error looking up service account {meta["namespace"]}/{name}: serviceaccount "{name}" not found'
        raise errors.forbidden(kind, meta.get("name", ""), text)
    if "imagePullSecrets" in account and "imagePullSecrets" not in spec:
        spec["imagePullSecrets"] = fields.copy(account["imagePullSecrets"])
    if not spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
        return
    volume = f"kube-api-access-{secrets.token_hex(3)[:5]}"
    root = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    field = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": root},
        {"downwardAPI": {"items": [field]}},
    ]
    mounted = False
    for _, _, container in rules.containers(spec):
        mounts = container.setdefault("volumeMounts", [])
        if not any(mount.get("mountPath") == _TOKEN_PATH for mount in mounts):
            mounts.append({"name": volume, "readOnly": True, "mountPath": _TOKEN_PATH})
            mounted = True
    if mounted:
        volumes = spec.setdefault("volumes", [])
        volumes.append({"name": volume, "projected": {"sources": sources, "defaultMode": 420}})


# --- Pod Security -----------------------------------------------------------------------------------------------------


def _levels(kind: Kind, space: Obj) -> None:
    """ApiStatus 422 for a level that there is not."""
    labels = space["metadata"].get("labels") or {}
    found = []
    for key in (f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "audit", "warn")):
        if labels.get(key, "privileged") not in ("privileged", "baseline", "restricted"):
            text = f"Invalid value: {fields.dumps(labels[key])}: must be one of privileged, baseline, restricted"
            found.append(errors.Cause(f"metadata.labels[{key}]", text))
    if found:
        raise errors.invalid(kind, space["metadata"].get("name", ""), found)


def _pod_security(api: Api, kind: Kind, obj: Obj, pod: Obj, call: Call) -> None:
    space = api.find("Namespace", obj["metadata"]["namespace"])
    labels = (space or {"metadata": {}})["metadata"].get("labels") or {}
    for mode in ("enforce", "warn"):
        level = labels.get(f"pod-security.kubernetes.io/{mode}", "privileged")
        version = labels.get(f"pod-security.kubernetes.io/{mode}-version", "latest")
        found = ", ".join(podsecurity.violations(pod["spec"], level))
        if not found:
            continue
        if mode == "enforce" and kind.kind == "Pod":
            text = f'violates PodSecurity "{level}:{version}": {found}'
            raise errors.forbidden(kind, obj["metadata"].get("name", ""), text)
        if mode == "warn":
            call.warnings.append(f'would violate PodSecurity "{level}:{version}": {found}')


# --- LimitRange -------------------------------------------------------------------------------------------------------


def _bounds(api: Api, pod: Obj, type_: str) -> Iterator[Obj]:
    for limits in api.all("LimitRange", pod["metadata"]["namespace"]):
        yield from (item for item in limits.get("spec", {}).get("limits") or [] if item.get("type") == type_)


def _limit_defaults(api: Api, pod: Obj) -> None:
    notes = []
    for bound in _bounds(api, pod, "Container"):
        for part, _, container in rules.containers(pod["spec"]):
            if part == "ephemeralContainers":
                continue
            for target, source in (("requests", "defaultRequest"), ("limits", "default")):
                have = container["resources"].get(target, {})
                new = {name: value for name, value in (bound.get(source) or {}).items() if name not in have}
                if new:
                    container["resources"][target] = {**have, **new}
                    kind = "init container" if part == "initContainers" else "container"
                    notes.append(f"{', '.join(sorted(new))} {target[:-1]} for {kind} {container['name']}")
    if notes:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations["kubernetes.io/limit-ranger"] = f"LimitRanger plugin set: {'; '.join(notes)}"


def _limit_bounds(api: Api, kind: Kind, pod: Obj) -> None:
    found: list[str] = []
    for bound in _bounds(api, pod, "Container"):
        for _, _, container in rules.containers(pod["spec"]):
            found += _outside(bound, container["resources"], "Container")
    for bound in _bounds(api, pod, "Pod"):
        total = {
            part: {
                name: _sum(pod["spec"], part, name) for name in {**(bound.get("max") or {}), **(bound.get("min") or {})}
            }
            for part in ("requests", "limits")
        }
        found += _outside(bound, total, "Pod")
    if found:
        text = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
        raise errors.forbidden(kind, pod["metadata"].get("name", ""), text)


def _outside(bound: Obj, resources: Obj, type_: str) -> Iterator[str]:
    for word, key, part in (("minimum", "min", "request"), ("maximum", "max", "limit")):
        for name, enforced in sorted((bound.get(key) or {}).items()):
            value = resources.get(f"{part}s", {}).get(name)
            least, text = quantity.parse(enforced), f"{word} {name} usage per {type_} is {enforced}"
            if value is None:
                yield f"{text}. No {part} is specified"
            elif (quantity.parse(value) < least) if key == "min" else (quantity.parse(value) > least):
                yield f"{text}, but {part} is {value}"

    for name, ratio in sorted((bound.get("maxLimitRequestRatio") or {}).items()):
        limit, request = (resources.get(part, {}).get(name) for part in ("limits", "requests"))
        if limit and request and (found := quantity.parse(limit) / quantity.parse(request)) > quantity.parse(ratio):
            yield f"{name} max limit to request ratio per {type_} is {ratio}, but provided ratio is {found:.6f}"


def _sum(spec: Obj, part: str, name: str) -> str | None:
    total = _pod_amount(spec, part, name)
    return None if total is None else quantity.spell(total, binary=name in ("memory", "ephemeral-storage"))


# --- ResourceQuota ----------------------------------------------------------------------------------------------------


def _pod_amount(spec: Obj, part: str, name: str) -> Decimal | None:
    """What a pod asks for: the sum of its containers, or its largest init container."""
    amounts: dict[str, list[Decimal]] = {"containers": [], "initContainers": []}
    for where, _, container in rules.containers(spec):
        value = container["resources"].get(part, {}).get(name)
        if value is not None and where in amounts:
            amounts[where].append(quantity.parse(value))
    if not any(amounts.values()):
        return None
    return max(sum(amounts["containers"], Decimal(0)), max(amounts["initContainers"], default=Decimal(0)))


def _split(resource: str) -> tuple[str, str] | None:
    """(requests or limits, name) of a compute resource in a quota; None for a count of objects."""
    part, _, name = resource.partition(".")
    if part in ("requests", "limits") and name:
        return part, name
    return ("requests", resource) if resource in ("cpu", "memory", "ephemeral-storage") else None


def _usage(kind: Kind, obj: Obj, resource: str) -> Decimal:
    """How much of a quota's resource one object uses."""
    if kind.kind == "Pod" and obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return Decimal(0)
    if compute := _split(resource):
        return (_pod_amount(obj["spec"], *compute) if kind.kind == "Pod" else None) or Decimal(0)
    if kind.kind == "Service" and resource in ("services.loadbalancers", "services.nodeports"):
        types = ("LoadBalancer",) if resource.endswith("loadbalancers") else ("LoadBalancer", "NodePort")
        return Decimal(obj["spec"].get("type") in types)
    return Decimal(resource in (kind.resource, f"count/{kind.resource}"))


def _unspecified(obj: Obj, hard: Obj) -> Iterator[str]:
    for resource in sorted(hard):
        if compute := _split(resource):
            part, name = compute
            found = rules.containers(obj["spec"])
            lacking = [
                container["name"]
                for where, _, container in found
                if where != "ephemeralContainers" and name not in container["resources"].get(part, {})
            ]
            if lacking:
                yield f"{resource} for: {','.join(sorted(lacking))}"


def _quota(api: Api, kind: Kind, obj: Obj, space: str) -> None:
    for quota in api.all("ResourceQuota", space):
        name, hard = quota["metadata"]["name"], quota.get("spec", {}).get("hard") or {}
        if kind.kind == "Pod" and (missing := "; ".join(_unspecified(obj, hard))):
            raise errors.forbidden(kind, obj["metadata"]["name"], f"failed quota: {name}: must specify {missing}")
        used = _used(api, space, hard)
        over = []
        for resource in sorted(hard):
            more = _usage(kind, obj, resource)
            if more and used[resource] + more > quantity.parse(hard[resource]):
                over.append((resource, _spell(resource, more), _spell(resource, used[resource]), hard[resource]))
        if over:
            rows = [",".join(f"{row[0]}={row[index]}" for row in over) for index in (1, 2, 3)]
            text = f"exceeded quota: {name}, requested: {rows[0]}, used: {rows[1]}, limited: {rows[2]}"
            raise errors.forbidden(kind, obj["metadata"]["name"], text)


def _spell(resource: str, value: Decimal) -> str:
    return quantity.spell(value, binary=resource.endswith(("memory", "storage")))


def _used(api: Api, space: str, hard: Obj) -> dict[str, Decimal]:
    return {
        resource: sum((_usage(kind, obj, resource) for kind, obj in api.contents(space)), Decimal(0))
        for resource in hard
    }


def recount(api: Api, space: str) -> None:
    """Keep status.used of the namespace's quotas."""
    for found in api.all("ResourceQuota", space):
        quota = fields.copy(found)
        hard = quota.get("spec", {}).get("hard") or {}
        used = {resource: _spell(resource, value) for resource, value in _used(api, space, hard).items()}
        if quota.get("status") != {"hard": hard, "used": used}:
            quota["status"] = {"hard": hard, "used": used}
            api.update("ResourceQuota", quota, subresource="status")
