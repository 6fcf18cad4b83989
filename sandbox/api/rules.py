"""What the schemas do not say: defaults, immutable fields and checks across fields. One entry a rule."""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import TYPE_CHECKING, Any

from sandbox.api import quantity, schema
from sandbox.api.errors import Cause
from sandbox.api.fields import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.api.kinds import Kind

Obj = dict[str, Any]

# --- defaults ---------------------------------------------------------------------------------------------------------


def _set(obj: Obj, **values: Any) -> None:
    for key, value in values.items():
        obj.setdefault(key, value)


def containers(spec: Obj) -> Iterator[tuple[str, int, Obj]]:
    """(list's name, index, container) of every container in a pod's spec."""
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(part) or []):
            yield part, index, container


def _http_get(action: Obj | None) -> None:
    if action and "httpGet" in action:
        _set(action["httpGet"], path="/", scheme="HTTP")


def pull_policy(image: str) -> str:
    name = image.rpartition("/")[2]
    return "Always" if "@" not in name and (":" not in name or name.endswith(":latest")) else "IfNotPresent"


def _container(container: Obj) -> None:
    _set(container, resources={}, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File",
         imagePullPolicy=pull_policy(container.get("image", "")))  # fmt: skip
    for port in container.get("ports", []):
        _set(port, protocol="TCP")
    for env in container.get("env", []):
        if "fieldRef" in env.get("valueFrom", {}):
            _set(env["valueFrom"]["fieldRef"], apiVersion="v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            _set(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _http_get(probe)
            if "grpc" in probe:
                _set(probe["grpc"], service="")
    for hook in container.get("lifecycle", {}).values():
        if isinstance(hook, dict):
            _http_get(hook)
    for part in ("limits", "requests"):
        for name, value in container["resources"].get(part, {}).items():
            container["resources"][part][name] = quantity.canonical(value)


def _volume(volume: Obj) -> None:
    if len(volume) == 1:
        volume["emptyDir"] = {}
    for source in ("configMap", "secret", "projected", "downwardAPI"):
        if source in volume:
            _set(volume[source], defaultMode=420)
    for source in volume.get("projected", {}).get("sources", []):
        if "serviceAccountToken" in source:
            _set(source["serviceAccountToken"], expirationSeconds=3600)
    downward = [volume.get("downwardAPI", {})]
    downward += [source.get("downwardAPI", {}) for source in volume.get("projected", {}).get("sources", [])]
    for item in (item for source in downward for item in source.get("items", [])):
        if "fieldRef" in item:
            _set(item["fieldRef"], apiVersion="v1")
    if "hostPath" in volume:
        _set(volume["hostPath"], type="")


def _pod_spec(spec: Obj) -> None:
    _set(spec, restartPolicy="Always", terminationGracePeriodSeconds=30, dnsPolicy="ClusterFirst", securityContext={},
         schedulerName="default-scheduler")  # fmt: skip
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for _, _, container in containers(spec):
        _container(container)
    for volume in spec.get("volumes", []):
        _volume(volume)


def _pod(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _pod_spec(spec)
    _set(spec, enableServiceLinks=True)
    for condition in (obj.get("status") or {}).get("conditions", []):
        _set(condition, lastProbeTime=None)
    for part, _, container in containers(spec):
        if limits := container["resources"].get("limits") if part != "ephemeralContainers" else None:
            requests = container["resources"].setdefault("requests", {})
            for name, value in limits.items():
                requests.setdefault(name, value)
        for port in container.get("ports", []) if spec.get("hostNetwork") else []:
            port.setdefault("hostPort", port.get("containerPort"))


def _template(obj: Obj) -> Obj:
    spec: Obj = obj.setdefault("spec", {})
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    _pod_spec(template.setdefault("spec", {}))
    _set(spec, replicas=1)
    return spec


def _deployment(obj: Obj) -> None:
    spec = _template(obj)
    _set(spec, strategy={}, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    _set(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        if not spec["strategy"].get("rollingUpdate"):
            spec["strategy"]["rollingUpdate"] = {}
        _set(spec["strategy"]["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")


def _replica_set(obj: Obj) -> None:
    _template(obj)


def _service(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, type="ClusterIP", sessionAffinity="None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}).setdefault("timeoutSeconds", 10800)
    if spec["type"] != "ExternalName":
        _set(spec, internalTrafficPolicy="Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _set(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
    for port in spec.get("ports", []):
        _set(port, protocol="TCP")
        _set(port, targetPort=port.get("port"))
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _autoscaler(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if "behavior" in spec:
        up, down = spec["behavior"].setdefault("scaleUp", {}), spec["behavior"].setdefault("scaleDown", {})
        fast = [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ]
        _set(up, stabilizationWindowSeconds=0, selectPolicy="Max", policies=fast)
        _set(down, selectPolicy="Max", policies=[{"type": "Percent", "value": 100, "periodSeconds": 15}])
    obj["status"] = {"desiredReplicas": 0, "currentMetrics": None} | obj.get("status", {})


def _namespace(obj: Obj) -> None:
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")


def _network_policy(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, policyTypes=["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
        for port in rule.get("ports", []):
            _set(port, protocol="TCP")


def _binding(obj: Obj) -> None:
    _set(obj.get("roleRef", {}), apiGroup="rbac.authorization.k8s.io")
    for subject in obj.get("subjects", []):
        if subject.get("kind") in ("User", "Group"):
            _set(subject, apiGroup="rbac.authorization.k8s.io")


def _quota(obj: Obj) -> None:
    for name, value in obj.setdefault("spec", {}).get("hard", {}).items():
        obj["spec"]["hard"][name] = quantity.canonical(value)
    obj.setdefault("status", {})


def _limit_range(obj: Obj) -> None:
    for item in obj.get("spec", {}).get("limits", []):
        for bounds in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
            if bounds in item:
                item[bounds] = {name: quantity.canonical(value) for name, value in item[bounds].items()}
        if item.get("type") == "Container":
            for target, sources in (("default", ("max",)), ("defaultRequest", ("default", "min"))):
                for source in sources:
                    for name, value in item.get(source, {}).items():
                        item.setdefault(target, {}).setdefault(name, value)


def _slice(obj: Obj) -> None:
    for port in obj.get("ports") or []:
        _set(port, name="", protocol="TCP")


def _claim(obj: Obj) -> None:
    _set(obj.setdefault("spec", {}), volumeMode="Filesystem", resources={})
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _secret(obj: Obj) -> None:
    _set(obj, type="Opaque")
    for key, value in obj.pop("stringData", {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()


def _event(obj: Obj) -> None:
    _set(obj, eventTime=None, reportingComponent="", reportingInstance="", source={})
    for key in ("firstTimestamp", "lastTimestamp"):
        _set(obj, **{key: None})


_NO_PODS = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}
_DEFAULTS: dict[str, tuple[Callable[[Obj], None] | None, Obj | None]] = {
    # kind: (defaults of the fields, the status that a new object shows)
    "Deployment": (_deployment, {}),
    "EndpointSlice": (_slice, None),
    "Event": (_event, None),
    "HorizontalPodAutoscaler": (_autoscaler, None),
    "LimitRange": (_limit_range, None),
    "Namespace": (_namespace, None),
    "NetworkPolicy": (_network_policy, None),
    "Node": (None, {}),
    "PersistentVolumeClaim": (_claim, None),
    "Pod": (_pod, {}),
    "PodDisruptionBudget": (None, _NO_PODS),
    "ReplicaSet": (_replica_set, {"replicas": 0}),
    "ResourceQuota": (_quota, {}),
    "RoleBinding": (_binding, None),
    "ClusterRoleBinding": (_binding, None),
    "Secret": (_secret, None),
    "Service": (_service, {"loadBalancer": {}}),
}

# What Go writes for a new object even when nothing is set: ownership does not count these as added by anyone.
_TEMPLATE = {"metadata": {}, "spec": {"containers": None}}
_ZERO: dict[str, Obj] = {
    "ConfigMap": {},
    "Secret": {},
    "ServiceAccount": {},
    "Deployment": {"spec": {"selector": None, "template": _TEMPLATE, "strategy": {}}, "status": {}},
    "ReplicaSet": {
        "spec": {"selector": None, "template": {"metadata": {}, "spec": {"containers": None}}},
        "status": {},
    },
    "Pod": {"spec": {"containers": None}, "status": {}},
    "Service": {"spec": {}, "status": {"loadBalancer": {}}},
    "HorizontalPodAutoscaler": {"spec": {"scaleTargetRef": {}, "maxReplicas": 0}, "status": {}},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
    "Role": {"rules": None},
    "ClusterRole": {"rules": None},
    "RoleBinding": {"roleRef": {}},
    "ClusterRoleBinding": {"roleRef": {}},
    "LimitRange": {"spec": {"limits": None}},
    "EndpointSlice": {"endpoints": None, "ports": None},
    "Event": {"involvedObject": {}, "source": {}, "firstTimestamp": None, "lastTimestamp": None, "eventTime": None},
    "PersistentVolumeClaim": {"spec": {"resources": {}}, "status": {}},
    "Node": {"spec": {}, "status": {}},
}


def zero(kind: str) -> Obj:
    """A new, empty object of the kind, as the server compares a first write with it."""
    return {"metadata": {}, **_ZERO.get(kind, {"spec": {}, "status": {}})}


def default(kind: str, obj: Obj) -> None:
    """Fill in what the server fills in when it reads an object of this kind."""
    fill, status = _DEFAULTS.get(kind, (None, None))
    if fill:
        fill(obj)
    if status is not None:
        obj["status"] = {**status, **(obj.get("status") or {})}


# --- checks -----------------------------------------------------------------------------------------------------------

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    f" '{_SUBDOMAIN}')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    f" an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_DNS1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_DNS1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character,"
    " and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is"
    f" '{_DNS1035}')"
)
_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    f" '{_VALUE}')"
)
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    f" '{_QUALIFIED}')"
)
_KEY = r"[-._a-zA-Z0-9]+"
_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or"
    f" 'key-name', regex used for validation is '{_KEY}')"
)
_PATH_NAMED = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def _bad(field: str, value: Any, why: str) -> Cause:
    return Cause(field, f"Invalid value: {dumps(value)}: {why}")


def _required(field: str, why: str = "") -> Cause:
    return Cause(field, f"Required value: {why}" if why else "Required value", "FieldValueRequired")


def _unsupported(field: str, value: Any, allowed: tuple[str, ...]) -> Cause:
    names = ", ".join(f'"{name}"' for name in allowed)
    return Cause(field, f"Unsupported value: {dumps(value)}: supported values: {names}", "FieldValueNotSupported")


def _at_least(field: str, value: int | None, least: int) -> Iterator[Cause]:
    if isinstance(value, int) and value < least:
        yield _bad(field, value, f"must be greater than or equal to {least}")


def _name(kind: str, name: str) -> Iterator[Cause]:
    if kind in _PATH_NAMED:
        if name in (".", "..") or "/" in name or "%" in name:
            yield _bad("metadata.name", name, "may not contain '/' or '%'")
        return
    form, text, longest = _SUBDOMAIN, _SUBDOMAIN_TEXT, 253
    if kind == "Namespace":
        form, text, longest = _LABEL, _LABEL_TEXT, 63
    if kind == "Service":
        form, text, longest = _DNS1035, _DNS1035_TEXT, 63
    if len(name) > longest:
        yield _bad("metadata.name", name, f"must be no more than {longest} bytes")
    if not re.fullmatch(form, name):
        yield _bad("metadata.name", name, text)


def labels(found: Obj | None, field: str) -> Iterator[Cause]:
    for key, value in (found or {}).items():
        yield from _qualified(key, field)
        if len(value) > 63:
            yield _bad(field, value, "must be no more than 63 bytes")
        if not re.fullmatch(_VALUE, value):
            yield _bad(field, value, _VALUE_TEXT)


def _qualified(key: str, field: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not re.fullmatch(_SUBDOMAIN, prefix):
        yield _bad(field, key, f"prefix part {_SUBDOMAIN_TEXT}")
    if len(name) > 63:
        yield _bad(field, key, "name part must be no more than 63 bytes")
    if not re.fullmatch(_QUALIFIED, name):
        yield _bad(field, key, _QUALIFIED_TEXT)


def _metadata(kind: Kind, obj: Obj) -> Iterator[Cause]:
    meta = obj["metadata"]
    if not meta.get("name"):
        yield _required("metadata.name", "name or generateName is required")
    else:
        yield from _name(kind.kind, meta["name"])
    yield from labels(meta.get("labels"), "metadata.labels")
    annotations = meta.get("annotations") or {}
    for key in annotations:
        yield from _qualified(key.lower(), "metadata.annotations")
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > 256 * 1024:
        yield Cause("metadata.annotations", "Too long: may not be more than 262144 bytes", "FieldValueTooLong")


def _resources(container: Obj, at: str) -> Iterator[Cause]:
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    for part in ("limits", "requests"):
        for name, value in (resources.get(part) or {}).items():
            if quantity.parse(value) < 0:
                yield _bad(f"{at}.resources.{part}[{name}]", value, "must be greater than or equal to 0")
    for name, value in (resources.get("requests") or {}).items():
        if name in limits and quantity.parse(value) > quantity.parse(limits[name]):
            text = f"must be less than or equal to {name} limit of {limits[name]}"
            yield _bad(f"{at}.resources.requests", value, text)


def _port(field: str, value: Any) -> Iterator[Cause]:
    if isinstance(value, int) and not 0 < value < 65536:
        yield _bad(field, value, "must be between 1 and 65535, inclusive")


def _probe(probe: Obj, at: str) -> Iterator[Cause]:
    handlers = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if name in probe]
    if not handlers:
        yield _required(at, "must specify a handler type")
    for more in handlers[1:]:
        yield Cause(f"{at}.{more}", "Forbidden: may not specify more than 1 handler type", "FieldValueForbidden")
    for action in ("httpGet", "tcpSocket"):
        yield from _port(f"{at}.{action}.port", (probe.get(action) or {}).get("port"))
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        yield from _at_least(f"{at}.{name}", probe.get(name), 0)
    if not at.endswith("readinessProbe") and probe.get("successThreshold", 1) != 1:
        yield _bad(f"{at}.successThreshold", probe["successThreshold"], "must be 1")


def _containers(spec: Obj, at: str) -> Iterator[Cause]:
    volumes = {volume.get("name") for volume in spec.get("volumes") or []}
    seen: set[str] = set()
    if not spec.get("containers"):
        yield _required(f"{at}.containers")
    for part, index, container in containers(spec):
        where = f"{at}.{part}[{index}]"
        name = container.get("name", "")
        if not name:
            yield _required(f"{where}.name")
        elif not re.fullmatch(_LABEL, name) or len(name) > 63:
            yield _bad(f"{where}.name", name, _LABEL_TEXT)
        elif name in seen:
            yield Cause(f"{where}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
        seen.add(name)
        if not container.get("image"):
            yield _required(f"{where}.image")
        elif container["image"] != container["image"].strip():
            yield _bad(f"{where}.image", container["image"], "must not have leading or trailing whitespace")
        policies = ("Always", "IfNotPresent", "Never")
        if container.get("imagePullPolicy") not in policies:
            yield _unsupported(f"{where}.imagePullPolicy", container.get("imagePullPolicy"), policies)
        for i, port in enumerate(container.get("ports") or []):
            if "containerPort" not in port:
                yield _required(f"{where}.ports[{i}].containerPort")
            yield from _port(f"{where}.ports[{i}].containerPort", port.get("containerPort"))
            if len(port.get("name", "")) > 15:
                yield _bad(f"{where}.ports[{i}].name", port["name"], "must be no more than 15 characters")
            if port.get("protocol") not in ("TCP", "UDP", "SCTP"):
                yield _unsupported(f"{where}.ports[{i}].protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
        for i, env in enumerate(container.get("env") or []):
            if not env.get("name"):
                yield _required(f"{where}.env[{i}].name")
            if env.get("value") and env.get("valueFrom"):
                yield _bad(f"{where}.env[{i}].valueFrom", "", "may not be specified when `value` is not empty")
        for i, mount in enumerate(container.get("volumeMounts") or []):
            if not mount.get("mountPath"):
                yield _required(f"{where}.volumeMounts[{i}].mountPath")
            if mount.get("name") not in volumes:
                text = f'Not found: "{mount.get("name", "")}"'
                yield Cause(f"{where}.volumeMounts[{i}].name", text, "FieldValueNotFound")
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            if probe in container:
                yield from _probe(container[probe], f"{where}.{probe}")
        yield from _resources(container, where)


def _pod_checks(spec: Obj, at: str) -> Iterator[Cause]:
    names = [volume.get("name", "") for volume in spec.get("volumes") or []]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Cause(f"{at}.volumes[{index}].name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
        if not re.fullmatch(_LABEL, name):
            yield _bad(f"{at}.volumes[{index}].name", name, _LABEL_TEXT)
    for index, volume in enumerate(spec.get("volumes") or []):
        for source in [key for key in volume if key != "name"][1:]:
            text = "Forbidden: may not specify more than 1 volume type"
            yield Cause(f"{at}.volumes[{index}].{source}", text, "FieldValueForbidden")
    yield from _containers(spec, at)
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        yield _unsupported(f"{at}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never"))
    yield from _at_least(f"{at}.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"), 0)


def matches(selector: Obj | None, found: Obj | None) -> bool:
    """Whether a LabelSelector selects these labels; an empty one selects all, an absent one nothing."""
    if selector is None:
        return False
    have = found or {}
    if any(have.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    tests: dict[str, Callable[[str, list[str]], bool]] = {
        "In": lambda key, values: key in have and have[key] in values,
        "NotIn": lambda key, values: key not in have or have[key] not in values,
        "Exists": lambda key, _: key in have,
        "DoesNotExist": lambda key, _: key not in have,
    }
    return all(
        tests[term["operator"]](term["key"], term.get("values") or [])
        for term in selector.get("matchExpressions") or []
    )


def _is_empty(selector: Obj | None) -> bool:
    return not selector or not any(selector.values())


def _amount(field: str, value: Any, *, is_share: bool = False) -> Iterator[Cause]:
    """A number or a percentage, which must not be above 100 where it is a share of something."""
    if is_share and isinstance(value, str) and re.fullmatch(r"[0-9]+%", value) and int(value[:-1]) > 100:
        yield _bad(field, value, "must not be greater than 100%")
    if isinstance(value, str) and not re.fullmatch(r"[0-9]+%", value):
        text = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex"
        yield _bad(field, value, f"{text} used for validation is '[0-9]+%')")
    elif isinstance(value, int):
        yield from _at_least(field, value, 0)


def _workload(obj: Obj) -> Iterator[Cause]:
    spec = obj["spec"]
    yield from _at_least("spec.replicas", spec.get("replicas"), 0)
    if "selector" not in spec:
        yield _required("spec.selector")
    elif _is_empty(spec["selector"]):
        yield _bad("spec.selector", spec["selector"], "empty selector is invalid for deployment")
    found = spec["template"]["metadata"].get("labels")
    yield from labels(found, "spec.template.metadata.labels")
    if "selector" in spec and not _is_empty(spec["selector"]) and not matches(spec["selector"], found):
        yield _bad("spec.template.metadata.labels", found or {}, "`selector` does not match template `labels`")
    yield from _pod_checks(spec["template"]["spec"], "spec.template.spec")
    if spec["template"]["spec"].get("restartPolicy") in ("OnFailure", "Never"):
        found = spec["template"]["spec"]["restartPolicy"]
        yield _unsupported("spec.template.spec.restartPolicy", found, ("Always",))


def _deployment_checks(obj: Obj) -> Iterator[Cause]:
    yield from _workload(obj)
    spec = obj["spec"]
    strategy = spec["strategy"]
    if strategy["type"] not in ("Recreate", "RollingUpdate"):
        yield _unsupported("spec.strategy.type", strategy["type"], ("Recreate", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "Recreate" and rolling:
        text = "Forbidden: may not be specified when strategy `type` is 'Recreate'"
        yield Cause("spec.strategy.rollingUpdate", text, "FieldValueForbidden")
    elif rolling:
        yield from _amount("spec.strategy.rollingUpdate.maxUnavailable", rolling.get("maxUnavailable"), is_share=True)
        yield from _amount("spec.strategy.rollingUpdate.maxSurge", rolling.get("maxSurge"))
        if all(str(rolling.get(key)).rstrip("%") == "0" for key in ("maxUnavailable", "maxSurge")):
            text = "may not be 0 when `maxSurge` is 0"
            yield _bad("spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], text)
    yield from _at_least("spec.minReadySeconds", spec.get("minReadySeconds"), 0)
    yield from _at_least("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"), 0)
    deadline = spec.get("progressDeadlineSeconds")
    yield from _at_least("spec.progressDeadlineSeconds", deadline, 0)
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        yield _bad("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def _service_checks(obj: Obj) -> Iterator[Cause]:
    spec = obj["spec"]
    types = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec["type"] not in types:
        yield _unsupported("spec.type", spec["type"], types)
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        yield _required("spec.ports")
    for index, port in enumerate(ports):
        if "port" not in port:
            yield _required(f"spec.ports[{index}].port")
        yield from _port(f"spec.ports[{index}].port", port.get("port"))
        yield from _port(f"spec.ports[{index}].targetPort", port.get("targetPort"))
        if len(ports) > 1 and not port.get("name"):
            yield _required(f"spec.ports[{index}].name")
        key = {"protocol": port.get("protocol"), "port": port.get("port")}
        if any(other.items() >= key.items() for other in ports[:index]):
            yield Cause(f"spec.ports[{index}]", f"Duplicate value: {dumps(key)}", "FieldValueDuplicate")
        if port.get("nodePort") and spec["type"] == "ClusterIP":
            text = "Forbidden: may not be used when `type` is 'ClusterIP'"
            yield Cause(f"spec.ports[{index}].nodePort", text, "FieldValueForbidden")
    if spec["sessionAffinity"] not in ("ClientIP", "None"):
        yield _unsupported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
    if (address := spec.get("clusterIP")) not in (None, "None"):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            yield _bad("spec.clusterIPs[0]", address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")


def _autoscaler_checks(obj: Obj) -> Iterator[Cause]:
    spec = obj["spec"]
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    yield from _at_least("spec.minReplicas", least, 1)
    if most < 1:
        yield _bad("spec.maxReplicas", most, "must be greater than 0")
    if most < least:
        yield _bad("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    for key in ("kind", "name"):
        if not spec.get("scaleTargetRef", {}).get(key):
            yield _required(f"spec.scaleTargetRef.{key}")
    for index, metric in enumerate(spec.get("metrics") or []):
        wanted = metric.get("resource", {}).get("target", {}).get("averageUtilization")
        if wanted is not None and wanted < 1:
            at = f"spec.metrics[{index}].resource.target.averageUtilization"
            yield _bad(at, wanted, "must be greater than 0")
    for way, rules in (spec.get("behavior") or {}).items():
        at, window = f"spec.behavior.{way}.stabilizationWindowSeconds", rules.get("stabilizationWindowSeconds") or 0
        yield from _at_least(at, window, 0)
        if window > 3600:
            yield _bad(at, window, "must be less than or equal to 3600")


def _budget_checks(obj: Obj) -> Iterator[Cause]:
    spec = obj.get("spec", {})
    if "minAvailable" in spec and "maxUnavailable" in spec:
        text = "minAvailable and maxUnavailable cannot be both set"
        yield _bad("spec", {k: spec[k] for k in ("minAvailable", "maxUnavailable")}, text)
    for key in ("minAvailable", "maxUnavailable"):
        yield from _amount(f"spec.{key}", spec.get(key), is_share=True)
    policies = ("AlwaysAllow", "IfHealthyBudget")
    if spec.get("unhealthyPodEvictionPolicy", policies[0]) not in policies:
        yield _unsupported("spec.unhealthyPodEvictionPolicy", spec["unhealthyPodEvictionPolicy"], policies)


def _policy_checks(obj: Obj) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    for index, type_ in enumerate(spec.get("policyTypes") or []):
        if type_ not in ("Ingress", "Egress"):
            yield _unsupported(f"spec.policyTypes[{index}]", type_, ("Ingress", "Egress"))
    for way, side in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(way) or []):
            for j, port in enumerate(rule.get("ports") or []):
                yield from _port(f"spec.{way}[{i}].ports[{j}].port", port.get("port"))
            for j, peer in enumerate(rule.get(side) or []):
                if cidr := peer.get("ipBlock", {}).get("cidr"):
                    yield from _network(f"spec.{way}[{i}].{side}[{j}].ipBlock.cidr", cidr)


def _network(field: str, text: str) -> Iterator[Cause]:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        yield _bad(field, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")


def _role_checks(obj: Obj) -> Iterator[Cause]:
    for index, rule in enumerate(obj.get("rules") or []):
        if not rule.get("verbs"):
            yield _required(f"rules[{index}].verbs", "verbs must contain at least one value")


def _binding_checks(obj: Obj) -> Iterator[Cause]:
    for index, subject in enumerate(obj.get("subjects") or []):
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
            yield _required(f"subjects[{index}].namespace")


def _quota_checks(obj: Obj) -> Iterator[Cause]:
    for name in obj["spec"].get("hard") or {}:
        if "/" not in name and name not in _COUNTED:
            yield _bad(f"spec.hard[{name}]", name, "must be a standard resource for quota")


def _limit_checks(obj: Obj) -> Iterator[Cause]:
    for index, item in enumerate(obj["spec"].get("limits") or []):
        for part in ("default", "defaultRequest", "min"):
            for name, value in (item.get(part) or {}).items():
                most = (item.get("max") or {}).get(name)
                if most and quantity.parse(value) > quantity.parse(most):
                    text = f"{part} value {value} is greater than max value {most}"
                    yield _bad(f"spec.limits[{index}].{part}[{name}]", value, text)


def _event_checks(obj: Obj) -> Iterator[Cause]:
    about, space = (obj.get("involvedObject") or {}).get("namespace", ""), obj["metadata"].get("namespace")
    if about != space and (about or space != "default"):  # what has no namespace is told of in `default`
        yield _bad("involvedObject.namespace", about, "does not match event.namespace")


_COUNTED = (
    *(f"{part}{name}" for part in ("", "requests.", "limits.") for name in ("cpu", "memory", "ephemeral-storage")),
    "pods", "services", "services.loadbalancers", "services.nodeports", "replicationcontrollers", "resourcequotas",
    "secrets", "configmaps", "persistentvolumeclaims", "requests.storage",
)  # fmt: skip


def _data_checks(obj: Obj) -> Iterator[Cause]:
    for part in ("data", "binaryData", "stringData"):
        for key in obj.get(part) or {}:
            if not re.fullmatch(_KEY, key):
                yield _bad(f"{part}[{key}]", key, _KEY_TEXT)
    secret = obj["kind"] == "Secret"
    texts = [value for part in ("data", "binaryData") for value in (obj.get(part) or {}).values()]
    size = sum(len(text) * 3 // 4 if secret else len(text.encode()) for text in texts)
    if size > 1024 * 1024:
        yield Cause("data" if secret else "[]", "Too long: may not be more than 1048576 bytes", "FieldValueTooLong")


def _lease_checks(obj: Obj) -> Iterator[Cause]:
    duration = obj.get("spec", {}).get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        yield _bad("spec.leaseDurationSeconds", duration, "must be greater than 0")


_CHECKS: dict[str, Callable[[Obj], Iterator[Cause]]] = {
    "ClusterRole": _role_checks,
    "ClusterRoleBinding": _binding_checks,
    "ConfigMap": _data_checks,
    "Deployment": _deployment_checks,
    "Event": _event_checks,
    "HorizontalPodAutoscaler": _autoscaler_checks,
    "Lease": _lease_checks,
    "LimitRange": _limit_checks,
    "NetworkPolicy": _policy_checks,
    "Pod": lambda obj: _pod_checks(obj["spec"], "spec"),
    "PodDisruptionBudget": _budget_checks,
    "ReplicaSet": _workload,
    "ResourceQuota": _quota_checks,
    "Role": _role_checks,
    "RoleBinding": _binding_checks,
    "Secret": _data_checks,
    "Service": _service_checks,
}

# (kind, path): fields that an update may not change.
_IMMUTABLE: dict[str, tuple[str, ...]] = {
    "Deployment": ("spec.selector",),
    "ReplicaSet": ("spec.selector",),
    "Secret": ("type",),
}
_POD_MUTABLE = ("nodeName", "tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds")


def _pick(obj: Obj, path: str) -> Any:
    for key in path.split("."):
        obj = obj.get(key) or {}
    return obj


def _unchanged(kind: str, obj: Obj, old: Obj) -> Iterator[Cause]:
    new = [f for f in obj["metadata"].get("finalizers") or [] if f not in (old["metadata"].get("finalizers") or [])]
    if new and "deletionTimestamp" in old["metadata"]:
        text = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
        yield Cause("metadata.finalizers", f"{text}[]string{{{', '.join(map(dumps, new))}}}", "FieldValueForbidden")
    for path in _IMMUTABLE.get(kind, ()):
        if _pick(obj, path) != _pick(old, path):
            yield _bad(path, _pick(obj, path), "field is immutable")
    if kind in ("ConfigMap", "Secret") and old.get("immutable"):
        for part in ("data", "binaryData"):
            if obj.get(part) != old.get(part) or not obj.get("immutable"):
                text = "Forbidden: field is immutable when `immutable` is set"
                yield Cause(part, text, "FieldValueForbidden")
                break
    if kind in ("RoleBinding", "ClusterRoleBinding") and obj.get("roleRef") != old.get("roleRef"):
        yield _bad("roleRef", obj.get("roleRef"), "cannot change roleRef")
    if kind == "Service" and old["spec"].get("clusterIP") not in (None, obj["spec"].get("clusterIP")):
        yield _bad("spec.clusterIPs[0]", [obj["spec"].get("clusterIP")], "may not change once set")
    if kind == "Pod" and _frozen(obj["spec"]) != _frozen(old["spec"]):
        text = (
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing"
            " tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
        )
        yield Cause("spec", text, "FieldValueForbidden")


def _frozen(spec: Obj) -> Obj:
    kept = {key: value for key, value in spec.items() if key not in _POD_MUTABLE}
    for part in ("containers", "initContainers"):
        if part in kept:
            kept[part] = [{k: v for k, v in c.items() if k != "image"} for c in kept[part]]
    return kept


_WRITTEN = ("spec", "roleRef", "subjects")  # the parts of an object that a user fills in
_MAY_LACK = ("podSelector",)  # required by the schema, but Go's empty selector will do


def _missing(node: schema.Node, value: Any, at: str) -> Iterator[Cause]:
    """Fields that the schema requires and the object lacks."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _missing(schema.items(node), item, f"{at}[{index}]")
    elif isinstance(value, dict):
        for key in node.get("required") or ():
            if key not in value and key not in _MAY_LACK:
                yield _required(f"{at}.{key}")
        for key, field in value.items():
            yield from _missing(schema.child(node, key) or {}, field, f"{at}.{key}")


def check(kind: Kind, obj: Obj, old: Obj | None = None) -> list[Cause]:
    """Everything that validation has against the object; `old` is what an update replaces."""
    found = list(_metadata(kind, obj))
    if kind.kind in _CHECKS:
        found += _CHECKS[kind.kind](obj)
    told = {cause.field for cause in found}
    if kind.kind in ("RoleBinding", "ClusterRoleBinding") and not obj.get("roleRef"):
        found.append(_required("roleRef"))
    for part in _WRITTEN:
        lacking = _missing(schema.child(schema.of(kind), part) or {}, obj.get(part), part)
        found += [cause for cause in lacking if cause.field not in told]
    if old is not None:
        found += _unchanged(kind.kind, obj, old)
    return found
