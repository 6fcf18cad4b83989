"""Tables: the columns that kubectl prints."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sandbox.api import schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.api.kinds import Kind

Obj = dict[str, Any]
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def wanted(accept: str) -> str:
    """'Table' or 'PartialObjectMetadata' when the client's first choice is one, else ''."""
    first = accept.partition(",")[0].replace(" ", "").split(";")
    for part in first:
        if part in ("as=Table", "as=PartialObjectMetadata", "as=PartialObjectMetadataList"):
            return part.partition("=")[2]
    return ""


def age(then: str | None, now: float) -> str:
    """A time ago, as kubectl writes it: 45s, 3m10s, 5h, 12d."""
    if not then:
        return "<unknown>"
    seconds = max(0, int(now - datetime.fromisoformat(then.replace("Z", "+00:00")).timestamp()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y"


def _status(pod: Obj) -> tuple[str, str, int, str | None]:
    """(ready, status, restarts, time of the last restart) of a pod, by kubectl's rules."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    reason = status.get("reason") or status.get("phase", "")
    restarts, last = 0, None
    inits = status.get("initContainerStatuses") or []
    initializing = False
    for index, found in enumerate(inits):
        restarts += found.get("restartCount", 0)
        state = found.get("state", {})
        done = state.get("terminated")
        if done and done.get("exitCode") == 0:
            continue
        if done:
            reason = f"Init:{done.get('reason') or 'ExitCode:' + str(done.get('exitCode'))}"
        elif state.get("waiting", {}).get("reason") not in (None, "PodInitializing"):
            reason = f"Init:{state['waiting']['reason']}"
        else:
            reason = f"Init:{index}/{len(spec.get('initContainers') or [])}"
        initializing = True
        break
    ready = 0
    if not initializing:
        restarts, running = 0, False
        for found in reversed(status.get("containerStatuses") or []):
            restarts += found.get("restartCount", 0)
            ended = found.get("lastState", {}).get("terminated", {}).get("finishedAt")
            last = max(filter(None, (last, ended)), default=None)
            state = found.get("state", {})
            if state.get("waiting", {}).get("reason"):
                reason = state["waiting"]["reason"]
            elif done := state.get("terminated"):
                reason = done.get("reason") or (
                    f"Signal:{done['signal']}" if done.get("signal") else f"ExitCode:{done.get('exitCode')}"
                )
            elif found.get("ready") and "running" in state:
                running = True
                ready += 1
        if reason == "Completed" and running:
            conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
            reason = "Running" if conditions.get("Ready") == "True" else "NotReady"
    if "deletionTimestamp" in pod["metadata"]:
        reason = "Terminating"
    return f"{ready}/{len(spec.get('containers') or [])}", reason, restarts, last


def _pod(pod: Obj, now: float) -> list[Any]:
    ready, reason, restarts, last = _status(pod)
    text = f"{restarts} ({age(last, now)} ago)" if restarts and last else str(restarts)
    spec, status = pod.get("spec", {}), pod.get("status", {})
    none = "<none>"
    return [_name(pod), ready, reason, text, _age(pod, now), status.get("podIP") or none, spec.get("nodeName") or none,
            status.get("nominatedNodeName") or none, none]  # fmt: skip


def _name(obj: Obj) -> str:
    return str(obj["metadata"]["name"])


def _age(obj: Obj, now: float) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _selector(found: Obj | None) -> str:
    pairs = [f"{key}={value}" for key, value in sorted(((found or {}).get("matchLabels") or {}).items())]
    for term in (found or {}).get("matchExpressions") or []:
        values = ",".join(term.get("values") or [])
        word = {"Exists": "", "DoesNotExist": "!"}.get(term["operator"])
        pairs.append(f"{term['key']} {term['operator'].lower()} ({values})" if word is None else f"{word}{term['key']}")
    return ",".join(pairs) or "<none>"


def _images(obj: Obj) -> list[str]:
    found = obj["spec"]["template"]["spec"].get("containers") or []
    return [",".join(c["name"] for c in found), ",".join(c.get("image", "") for c in found)]


def _deployment(obj: Obj, now: float) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [_name(obj), ready, status.get("updatedReplicas", 0), status.get("availableReplicas", 0), _age(obj, now),
            *_images(obj), _selector(spec.get("selector"))]  # fmt: skip


def _replica_set(obj: Obj, now: float) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    return [_name(obj), spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0),
            _age(obj, now), *_images(obj), _selector(spec.get("selector"))]  # fmt: skip


def _service(obj: Obj, now: float) -> list[Any]:
    spec = obj["spec"]
    ingress = [i.get("ip") or i.get("hostname") for i in obj["status"].get("loadBalancer", {}).get("ingress") or []]
    outside = ",".join([*ingress, *(spec.get("externalIPs") or [])])
    if not outside:
        outside = "<pending>" if spec["type"] == "LoadBalancer" else "<none>"
    ports = [
        f"{p['port']}:{p['nodePort']}/{p['protocol']}" if p.get("nodePort") else f"{p['port']}/{p['protocol']}"
        for p in spec.get("ports") or []
    ]
    selector = _selector({"matchLabels": spec.get("selector") or {}})
    return [_name(obj), spec["type"], spec.get("clusterIP") or "<none>", outside, ",".join(ports) or "<none>",
            _age(obj, now), selector]  # fmt: skip


def _metric(spec: Obj, current: list[Obj], index: int) -> str:
    kind = spec["type"]
    if kind not in ("Resource", "ContainerResource"):
        return f"{kind}: <unknown>"
    source = spec[kind[0].lower() + kind[1:]]
    target = source["target"]
    now: Obj = {}
    if index < len(current):
        now = (current[index].get(kind[0].lower() + kind[1:]) or {}).get("current") or {}
    if target["type"] == "Utilization":
        have = f"{now['averageUtilization']}%" if "averageUtilization" in now else "<unknown>"
        return f"{source['name']}: {have}/{target['averageUtilization']}%"
    return f"{source['name']}: {now.get('averageValue', '<unknown>')}/{target.get('averageValue')}"


def _autoscaler(obj: Obj, now: float) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    ref = spec["scaleTargetRef"]
    current = status.get("currentMetrics") or []
    targets = ", ".join(_metric(metric, current, index) for index, metric in enumerate(spec.get("metrics") or []))
    return [_name(obj), f"{ref['kind']}/{ref['name']}", targets or "<none>", str(spec.get("minReplicas", "<unset>")),
            spec.get("maxReplicas", 0), status.get("currentReplicas", 0), _age(obj, now)]  # fmt: skip


def _budget(obj: Obj, now: float) -> list[Any]:
    spec = obj.get("spec", {})
    return [_name(obj), str(spec.get("minAvailable", "N/A")), str(spec.get("maxUnavailable", "N/A")),
            obj["status"].get("disruptionsAllowed", 0), _age(obj, now)]  # fmt: skip


def _event(obj: Obj, now: float) -> list[Any]:
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or {}
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or (obj.get("series") or {}).get("lastObservedTime") or first
    component = source.get("component") or obj.get("reportingComponent", "")
    host = source.get("host") or obj.get("reportingInstance", "")
    where = f"{component}, {host}" if host else component
    target = f"{about.get('kind', '').lower()}/{about.get('name')}"
    message = str(obj.get("message") or obj.get("note") or "").strip()
    return [age(last, now), obj.get("type", ""), obj.get("reason", ""), target,
            about.get("fieldPath", ""), where, message, age(first, now),
            obj.get("count") or (obj.get("series") or {}).get("count") or 1, _name(obj)]  # fmt: skip


def _node(obj: Obj, now: float) -> list[Any]:
    status = obj.get("status", {})
    ready = next((c["status"] for c in status.get("conditions") or [] if c["type"] == "Ready"), "Unknown")
    words = [{"True": "Ready", "False": "NotReady"}.get(ready, "Unknown")]
    if obj.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    prefix = "node-role.kubernetes.io/"
    roles = [key.removeprefix(prefix) for key in sorted(obj["metadata"].get("labels") or {}) if key.startswith(prefix)]
    info, none = status.get("nodeInfo", {}), "<none>"
    addresses = {a["type"]: a["address"] for a in status.get("addresses") or []}
    return [_name(obj), ",".join(words), ",".join(roles) or none, _age(obj, now), info.get("kubeletVersion", ""),
            addresses.get("InternalIP", none), addresses.get("ExternalIP", none), info.get("osImage") or "<unknown>",
            info.get("kernelVersion") or "<unknown>", info.get("containerRuntimeVersion") or "<unknown>"]  # fmt: skip


def _slice(obj: Obj, now: float) -> list[Any]:
    ports = ",".join(str(port.get("port", "*")) for port in obj.get("ports") or []) or "<unset>"
    addresses = [a for endpoint in obj.get("endpoints") or [] for a in endpoint.get("addresses") or []]
    return [_name(obj), obj.get("addressType", ""), ports, _few(addresses), _age(obj, now)]


def _few(found: list[str]) -> str:
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return ",".join(found[:3]) + more or "<unset>"


def _endpoints(obj: Obj, now: float) -> list[Any]:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or []
        for port in subset.get("ports") or []
        for address in subset.get("addresses") or []
    ]
    return [_name(obj), _few(found) if found else "<none>", _age(obj, now)]


def _quota(obj: Obj, now: float) -> list[Any]:
    hard, used = obj["spec"].get("hard") or {}, obj.get("status", {}).get("used") or {}
    rows = {name: f"{name}: {used.get(name, 0)}/{hard[name]}" for name in sorted(hard)}
    limits = [text for name, text in rows.items() if name.startswith("limits.")]
    others = [text for name, text in rows.items() if not name.startswith("limits.")]
    return [_name(obj), ", ".join(others), ", ".join(limits), _age(obj, now)]


def _binding(obj: Obj, now: float) -> list[Any]:
    found: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or []:
        space = f"{subject['namespace']}/" if subject["kind"] == "ServiceAccount" and subject.get("namespace") else ""
        found.setdefault(subject["kind"], []).append(f"{space}{subject['name']}")
    role = f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}"
    return [_name(obj), role, _age(obj, now), *(", ".join(found[k]) for k in ("User", "Group", "ServiceAccount"))]


def _claim(obj: Obj, now: float) -> list[Any]:
    spec, status = obj["spec"], obj.get("status", {})
    capacity = status.get("capacity", {}).get("storage", "")
    return [_name(obj), status.get("phase", ""), spec.get("volumeName", ""), capacity,
            ",".join(status.get("accessModes") or []), spec.get("storageClassName", ""), _age(obj, now)]  # fmt: skip


def _data(obj: Obj) -> int:
    return len(obj.get("data") or {}) + len(obj.get("binaryData") or {})


# kind: (columns, row). `:int` and so on is the column's type, a leading `+` shows it with -o wide alone.
_TABLES: dict[str, tuple[str, Callable[[Obj, float], list[Any]]]] = {
    "ConfigMap": ("Name,Data,Age", lambda o, now: [_name(o), _data(o), _age(o, now)]),
    "ClusterRoleBinding": ("Name,Role,Age,+Users,+Groups,+ServiceAccounts", _binding),
    "Deployment": ("Name,Ready,Up-to-date,Available,Age,+Containers,+Images,+Selector", _deployment),
    "Endpoints": ("Name,Endpoints,Age", _endpoints),
    "EndpointSlice": ("Name,AddressType,Ports,Endpoints,Age", _slice),
    "Event": ("Last Seen,Type,Reason,Object,+Subobject,+Source,Message,+First Seen,+Count,+Name", _event),
    "HorizontalPodAutoscaler": ("Name,Reference,Targets,MinPods,MaxPods,Replicas,Age", _autoscaler),
    "Lease": ("Name,Holder,Age", lambda o, now: [_name(o), o.get("spec", {}).get("holderIdentity", ""), _age(o, now)]),
    "Namespace": ("Name,Status,Age", lambda o, now: [_name(o), o["status"].get("phase", ""), _age(o, now)]),
    "NetworkPolicy": ("Name,Pod-Selector,Age",
                      lambda o, now: [_name(o), _selector(o["spec"].get("podSelector")), _age(o, now)]),
    "Node": ("Name,Status,Roles,Age,Version,+Internal-IP,+External-IP,+OS-Image,+Kernel-Version,+Container-Runtime",
             _node),
    "PersistentVolumeClaim": ("Name,Status,Volume,Capacity,Access Modes,StorageClass,Age", _claim),
    "Pod": ("Name,Ready,Status,Restarts,Age,+IP,+Node,+Nominated Node,+Readiness Gates", _pod),
    "PodDisruptionBudget": ("Name,Min Available,Max Unavailable,Allowed Disruptions:integer,Age", _budget),
    "ReplicaSet": ("Name,Desired:integer,Current:integer,Ready:integer,Age,+Containers,+Images,+Selector",
                   _replica_set),
    "ResourceQuota": ("Name,Request,Limit,Age", _quota),
    "RoleBinding": ("Name,Role,Age,+Users,+Groups,+ServiceAccounts", _binding),
    "Secret": ("Name,Type,Data,Age", lambda o, now: [_name(o), o.get("type", ""), _data(o), _age(o, now)]),
    "Service": ("Name,Type,Cluster-IP,External-IP,Port(s),Age,+Selector", _service),
    "ServiceAccount": ("Name,Secrets,Age", lambda o, now: [_name(o), len(o.get("secrets") or []), _age(o, now)]),
}  # fmt: skip
_PLAIN = ("Name,Created At", lambda o, _: [_name(o), o["metadata"].get("creationTimestamp", "")])


def _columns(text: str) -> list[Obj]:
    meta = schema.definition(_META).get("properties", {})
    told = {"Name": "name", "Age": "creationTimestamp", "Created At": "creationTimestamp"}
    out = []
    for part in text.split(","):
        name, _, type_ = part.lstrip("+").partition(":")
        about = meta.get(told.get(name, ""), {}).get("description", "")
        out.append({"name": name, "type": type_ or "string", "format": "name" if name == "Name" else "",
                    "description": about, "priority": int(part.startswith("+"))})  # fmt: skip
    return out


def table(kind: Kind, page: Obj, mode: str, include: str, now: float) -> Obj:
    """A list, or a list of one, in the form that the client asked for."""
    if mode.startswith("Partial"):
        items = [_partial(obj) for obj in page["items"]]
        if mode == "PartialObjectMetadata" and "kind" not in page:
            return items[0]
        return {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": page["metadata"],
                "items": items}  # fmt: skip
    columns, row = _TABLES.get(kind.kind, _PLAIN)
    rows = []
    for obj in page["items"]:
        cells = {"cells": row(obj, now)}
        shown = {"None": {}, "Object": {"object": obj}}.get(include, {"object": _partial(obj)})
        rows.append({**cells, **shown})
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": page["metadata"],
            "columnDefinitions": _columns(columns), "rows": rows}  # fmt: skip


def _partial(obj: Obj) -> Obj:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
