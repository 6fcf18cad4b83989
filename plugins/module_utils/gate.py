# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rules of the gate that a release must pass: which pods count, which answers are right. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

Object = dict[str, Any]

PATHS = {"health": "/health", "ready": "/ready", "predict": "/predict"}
# What a gate may be told, apart from where it is (namespace) and how long it may wait; both modules take these.
GATE_ARG_SPEC: dict[str, dict[str, Any]] = {
    "service": {"type": "str", "default": "inference-api"},
    "deployment": {"type": "str", "default": "inference-api"},
    "port": {"type": "str"},
    "scheme": {"type": "str", "default": "http", "choices": ["http", "https"]},
    "paths": {
        "type": "dict",
        "default": PATHS,
        "options": {name: {"type": "str", "default": path} for name, path in PATHS.items()},
    },
    "golden": {"type": "raw", "required": True},
    "tolerance": {"type": "float", "default": 1e-5},
    "model_sha256": {"type": "str"},
    "max_p95_ms": {"type": "float"},
    "autoscaler": {"type": "str", "default": "warn", "choices": ["warn", "require", "skip"]},
}
MAKE_GOLDEN = "Name the golden.json that lies beside the model; python -m inference_app.train makes the default one"


class Golden(NamedTuple):
    """Request and answer pairs, and the hash of the model that they belong to, where it is known."""

    pairs: list[Object]
    model_sha256: str | None


def golden_set(golden: Any, origin: str = "golden") -> Golden:
    """The pairs in a golden file: C({"pairs": [{"request", "response"}], "model": {"sha256"}}), or the bare list.

    Raises InferenceError that names C(origin) and what is missing.
    """
    pairs = golden.get("pairs") if isinstance(golden, dict) else golden
    if not isinstance(pairs, list) or not pairs:
        raise InferenceError(f"{origin} holds no golden pairs", hint=MAKE_GOLDEN)
    for number, pair in enumerate(pairs, 1):
        for part in ("request", "response"):
            if not isinstance(pair, dict) or not isinstance(pair.get(part), dict) or not pair[part]:
                raise InferenceError(f"{origin}: golden pair {number} has no {part}", hint=MAKE_GOLDEN)
    model = golden.get("model") if isinstance(golden, dict) else None
    sha256 = model.get("sha256") if isinstance(model, dict) else None
    return Golden(pairs, str(sha256).lower() if sha256 else None)


def settings(spec: Mapping[str, Any]) -> Object:
    """The gate's settings with the defaults filled in. Raises InferenceError that names the option and the remedy."""
    found: Object = {name: option.get("default") for name, option in GATE_ARG_SPEC.items()}
    found |= {"wait_timeout": 300.0, "wait_sleep": 1.0, "request_timeout": 10.0}
    unknown = sorted(set(spec) - set(found) - {"namespace"})
    if unknown:
        raise InferenceError(f"The gate has no option {', '.join(unknown)}", hint=f"It has: {', '.join(sorted(found))}")
    found |= {name: value for name, value in spec.items() if value is not None}
    found["paths"] = {**PATHS, **{name: path for name, path in found["paths"].items() if path}}
    for name, least in (("wait_timeout", 0.001), ("wait_sleep", 0.001), ("request_timeout", 0.001), ("tolerance", 0.0)):
        found[name] = _number(name, found[name], least)
    if found["max_p95_ms"] is not None:
        found["max_p95_ms"] = _number("max_p95_ms", found["max_p95_ms"], 0.001)
    for name in ("scheme", "autoscaler"):
        choices = GATE_ARG_SPEC[name]["choices"]
        if found[name] not in choices:
            raise InferenceError(f"{name} is {found[name]}", hint=f"Set {name} to one of {', '.join(choices)}")
    golden = golden_set(found["golden"])
    known, wanted = golden.model_sha256, str(found["model_sha256"] or "").lower() or None
    if known and wanted and known != wanted:
        raise InferenceError(
            f"The golden predictions belong to model {known}, but model_sha256 is {wanted}",
            hint="Take the golden.json that was made with this model",
        )
    found["pairs"], found["model_sha256"] = golden.pairs, wanted or known
    return found


def _number(name: str, value: Any, least: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not least <= number < math.inf:
        raise InferenceError(f"{name} is {value}", hint=f"Set {name} to a number of at least {least:g}")
    return number


def differences(expected: Any, received: Any, tolerance: float, path: str = "") -> list[str]:
    """Where an answer departs from the expected one; keys that only the answer has are free."""
    if isinstance(expected, dict) and isinstance(received, dict):
        return [
            line
            for key, value in expected.items()
            for line in (
                differences(value, received[key], tolerance, f"{path}.{key}" if path else str(key))
                if key in received
                else [f"{path}.{key} is missing".lstrip(".")]
            )
        ]
    if isinstance(expected, list) and isinstance(received, list):
        if len(expected) != len(received):
            return [f"{path} expected {_count(expected)}, received {_count(received)}"]
        return [
            line
            for index, (left, right) in enumerate(zip(expected, received, strict=True))
            for line in differences(left, right, tolerance, f"{path}[{index}]")
        ]
    return (
        [] if _same(expected, received, tolerance) else [f"{path} expected {expected!r}, received {received!r}".strip()]
    )


def _count(values: list[Any]) -> str:
    return f"{len(values)} {'value' if len(values) == 1 else 'values'}"


def _same(expected: Any, received: Any, tolerance: float) -> bool:
    if _is_number(expected) and _is_number(received):
        try:
            return bool(expected == received or abs(expected - received) <= tolerance)
        except OverflowError:  # an integer beyond every float
            return False
    return type(expected) is type(received) and bool(expected == received)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def judge(number: int, pair: Mapping[str, Any], body: Any, tolerance: float) -> str | None:
    """What is wrong with the answer to golden pair C(number) (counted from 1), in one line; None when it is right."""
    found = differences(pair["response"], body, tolerance) if isinstance(body, dict) else ["the answer is not JSON"]
    if not found:
        return None
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return f"golden pair {number}: {'; '.join(found[:3])}{more} (tolerance {tolerance:g})"


class Crew(NamedTuple):
    """A Deployment's pods: ready ones of its present template, why others are not, and ready ones of older ones."""

    ready: list[Object]
    waiting: dict[str, str]
    older: list[str]


def newest_replica_set(deployment: Object, replica_sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet that carries the Deployment's template as it is now.

    The highest revision would not do: it is the old release's until the controller has seen the new template.
    """
    owned = [item for item in replica_sets if _controller(item) == deployment["metadata"]["uid"]]
    template = _bare(deployment["spec"]["template"])
    same = [item for item in owned if _bare(item["spec"]["template"]) == template]
    return min(same, key=lambda item: str(item["metadata"].get("creationTimestamp")), default=None)


def crew(deployment: Object, replica_sets: Sequence[Object], pods: Sequence[Object]) -> Crew:
    """Sorts the pods of a Deployment; terminating and finished pods count nowhere."""
    newest = newest_replica_set(deployment, replica_sets)
    owned = {item["metadata"]["uid"] for item in replica_sets if _controller(item) == deployment["metadata"]["uid"]}
    found = Crew([], {}, [])
    for pod in sorted(pods, key=lambda item: str(item["metadata"]["name"])):
        owner, status = _controller(pod), pod.get("status") or {}
        if owner not in owned or pod["metadata"].get("deletionTimestamp"):
            continue
        if status.get("phase") in ("Succeeded", "Failed"):
            continue
        ready = condition(pod, "Ready").get("status") == "True"
        if newest is None or owner != newest["metadata"]["uid"]:
            found.older.extend([pod["metadata"]["name"]] if ready else [])
        elif ready:
            found.ready.append(pod)
        else:
            found.waiting[pod["metadata"]["name"]] = _why_waiting(pod)
    return found


def condition(thing: Object, kind: str) -> Object:
    """The condition of that type, or an empty dict."""
    conditions = (thing.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item.get("type") == kind), {})


def _controller(thing: Object) -> str | None:
    owners = thing["metadata"].get("ownerReferences") or []
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def _bare(template: Object) -> Object:
    meta = template.get("metadata") or {}
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != "pod-template-hash"}
    return {"labels": labels, "annotations": meta.get("annotations") or {}, "spec": template.get("spec")}


def _why_waiting(pod: Object) -> str:
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        reason = ((container.get("state") or {}).get("waiting") or {}).get("reason")
        if reason not in (None, "PodInitializing", "ContainerCreating"):
            return str(reason)
    scheduled = condition(pod, "PodScheduled")
    return str(scheduled.get("reason")) if scheduled.get("status") == "False" else "not ready"


def selector(deployment: Object) -> str:
    """The Deployment's selector in the form that a list request takes."""
    chosen = deployment["spec"]["selector"]
    parts = [f"{key}={value}" for key, value in sorted((chosen.get("matchLabels") or {}).items())]
    for rule in chosen.get("matchExpressions") or []:
        key, values = rule["key"], ",".join(rule.get("values") or [])
        word = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        parts.append(word[rule["operator"]])
    return ",".join(parts)


def service_port(service: Object, wanted: str | None) -> Object:
    """The Service's port of that name or number; without one, the port named http, else the first."""
    ports = service["spec"].get("ports") or []
    names = [str(port.get("name") or port["port"]) for port in ports]
    if wanted is None:
        chosen = next((port for port in ports if port.get("name") == "http"), ports[0] if ports else None)
    else:
        chosen = next((port for port in ports if wanted in (port.get("name"), str(port["port"]))), None)
    if chosen is None:
        name = service["metadata"]["name"]
        raise InferenceError(
            f"Service {name} has no port {wanted or ''}".rstrip() + f" (it has: {', '.join(names) or 'none'})",
            hint="Set port to the name or number of the port that clients use",
        )
    return dict(chosen)


def addresses(service: Object, port: int, scheme: str) -> list[str]:
    """The URLs that the load balancer gives to clients; IPv4 first, since not every controller has a route for IPv6."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    hosts = [entry.get("ip") or entry.get("hostname") for entry in ingress]
    wrapped = [f"[{host}]" if ":" in host else host for host in hosts if host]
    return [f"{scheme}://{host}:{port}" for host in sorted(wrapped, key=lambda host: host.startswith("["))]


def proxy(namespace: str, kind: str, name: str, port: str | int, scheme: str) -> str:
    """The API server's path to a port of a Service or Pod (C(kind) is C(services) or C(pods))."""
    return f"/api/v1/namespaces/{namespace}/{kind}/{scheme}:{name}:{port}/proxy"


def pod_port(port: Object, pod: Object) -> int:
    """The number of the pod's port behind a Service's port, since the API server's proxy does not look names up."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for offered in container.get("ports") or []:
            if offered.get("name") == target:
                return int(offered["containerPort"])
    raise InferenceError(
        f"Pod {pod['metadata']['name']} has no container port named {target}, which the Service points at",
        hint="Give the container's port that name, or let the Service's targetPort name one that exists",
    )


def next_delay(attempt: int, wait_sleep: float) -> float:
    """Seconds to wait after that attempt: short at first, since most endpoints come at once, then C(wait_sleep)."""
    return float(min(wait_sleep, 0.125 * 2 ** min(attempt, 10)))


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile: always one of the samples."""
    if not samples:
        return None
    return sorted(samples)[max(0, math.ceil(len(samples) * percent / 100) - 1)]


def autoscaler(items: Sequence[Object], deployment: str) -> Object:
    """What the HorizontalPodAutoscaler of a Deployment does.

    :returns: name (None when there is none), ok, reason, message, remedy, replicas {min, max, current, desired} and
        metrics [{name, current, target}] (utilization in percent, else a quantity).
    """
    found = next((item for item in items if _targets(item, deployment)), None)
    if found is None:
        return {
            "name": None,
            "ok": False,
            "reason": "NotFound",
            "message": "No HorizontalPodAutoscaler targets it",
            "remedy": "Enable autoscaling, or skip this check",
            "replicas": {},
            "metrics": [],
        }
    spec, status = found.get("spec") or {}, found.get("status") or {}
    targets = dict(filter(None, map(_reading, spec.get("metrics") or [])))
    metrics = [
        {"name": name, "current": value, "target": targets.get(name)}
        for name, value in filter(None, map(_reading, status.get("currentMetrics") or []))
        if value is not None
    ]
    scaling, able = condition(found, "ScalingActive"), condition(found, "AbleToScale")
    said = scaling if scaling or able.get("status") != "False" else able
    ok = scaling.get("status") == "True" and bool(metrics)
    reason = str(said.get("reason") or "")
    message = str(said.get("message") or "the autoscaler has not looked at the Deployment yet")
    if not ok and scaling.get("status") == "True":
        message = "no metric has been measured yet"
    return {
        "name": found["metadata"]["name"],
        "ok": ok,
        "reason": reason,
        "message": message,
        "remedy": "" if ok else _remedy(reason, message),
        "replicas": {
            "min": spec.get("minReplicas", 1),
            "max": spec.get("maxReplicas"),
            "current": status.get("currentReplicas"),
            "desired": status.get("desiredReplicas"),
        },
        "metrics": metrics,
    }


def _targets(item: Object, deployment: str) -> bool:
    target = (item.get("spec") or {}).get("scaleTargetRef") or {}
    return bool(target.get("kind") == "Deployment" and target.get("name") == deployment)


def _reading(metric: Object) -> tuple[str, Any] | None:
    """Name and value of one metric in an autoscaler's spec or status; None for the empty entry that means unknown."""
    kind = str(metric.get("type") or "")
    source = metric.get(kind[:1].lower() + kind[1:]) or {}
    value = source.get("current") or source.get("target") or {}
    name = source.get("name") or (source.get("metric") or {}).get("name")
    if not name:
        return None
    amounts = (value.get(key) for key in ("averageUtilization", "averageValue", "value"))
    return str(name), next((amount for amount in amounts if amount is not None), None)


def _remedy(reason: str, message: str) -> str:
    if "missing request for" in message:
        return "Set resources.requests for every container, sidecars included (inference_workload_resources)"
    if "metrics.k8s.io" in message or "could not find the requested resource" in message:
        return "Install metrics-server, or repair it: kubectl get apiservice v1beta1.metrics.k8s.io"
    if reason == "ScalingDisabled":
        return "Scale the Deployment to at least 1: an autoscaler rests at 0 replicas"
    if reason == "AmbiguousSelector":
        return "Remove the other autoscaler: two of them match the same pods"
    if reason == "FailedGetScale":
        return "Check that scaleTargetRef names the Deployment"
    return "Metrics come about a minute after the first pods; if they stay away: kubectl top pods"
