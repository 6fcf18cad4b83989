"""What the server refuses: unknown and mistyped fields, values out of range, fields that contradict each other."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.contract.bodies import autoscaler, budget, causes, config, container, cpu_metric, deployment, lease, service
from tests.contract.client import MERGE, Obj
from tests.contract.space import Space

# --- unknown fields ---------------------------------------------------------------------------------------------------

_UNKNOWN = {
    "at the top": (("nonsense",), 1, "nonsense"),
    "in the spec": (("spec", "nonsense"), 1, "spec.nonsense"),
    "in a list": (
        ("spec", "template", "spec", "containers", 0, "imagee"), "x",
        "spec.template.spec.containers[0].imagee"),
    "in a struct of a list": (
        ("spec", "template", "spec", "containers", 0, "resources", "limit"), {"cpu": "1"},
        "spec.template.spec.containers[0].resources.limit",
    ),
}  # fmt: skip


def _with(body: Obj, path: tuple[str | int, ...], value: Any) -> Obj:
    out = copy.deepcopy(body)
    at: Any = out
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return out


@pytest.mark.parametrize("case", _UNKNOWN)
def test_strict_validation_refuses_an_unknown_field(ns: Space, case: str) -> None:
    path, value, told = _UNKNOWN[case]
    answer = ns.post("deployments", _with(deployment(), path, value), fieldValidation="Strict")
    answer.refused(400, "BadRequest", f'strict decoding error: unknown field "{told}"')
    assert ns.find("deployments", "web") is None


def test_a_strict_refusal_names_kind_and_version(ns: Space) -> None:
    answer = ns.post("deployments", deployment(nonsense=1), fieldValidation="Strict")
    text = 'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field'
    answer.refused(400, "BadRequest", text)


def test_unknown_fields_are_dropped_with_a_warning(ns: Space) -> None:
    answer = ns.post("deployments", deployment(nonsense=1))
    assert "nonsense" not in answer.ok(201)["spec"]
    assert answer.headers["Warning"] == '299 - "unknown field \\"spec.nonsense\\""'


def test_unknown_fields_can_be_dropped_in_silence(ns: Space) -> None:
    answer = ns.post("deployments", deployment(nonsense=1), fieldValidation="Ignore")
    assert "nonsense" not in answer.ok(201)["spec"]
    assert "Warning" not in answer.headers


def test_strict_validation_holds_for_a_replace(ns: Space) -> None:
    ns.make("deployments", deployment())
    answer = ns.put("deployments", deployment(nonsense=1), fieldValidation="Strict")
    answer.refused(400, "BadRequest", 'strict decoding error: unknown field "spec.nonsense"')


def test_strict_validation_holds_for_a_patch(ns: Space) -> None:
    ns.make("deployments", deployment())
    answer = ns.patch("deployments", "web", {"spec": {"nonsense": 1}}, MERGE, fieldValidation="Strict")
    answer.refused(422, "Invalid", "strict decoding error", "unknown field", "spec.nonsense")


def test_a_patch_warns_of_an_unknown_field(ns: Space) -> None:
    ns.make("deployments", deployment())
    answer = ns.patch("deployments", "web", {"spec": {"nonsense": 1}}, MERGE)
    answer.ok(200)
    assert 'unknown field \\"spec.nonsense\\"' in answer.headers["Warning"]


# --- wrong types ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plural", "body", "fragments"),
    [
        ("configmaps", {"metadata": {"name": "c"}, "data": {"A": 1}},
         ["json: cannot unmarshal number into Go struct field ConfigMap.data of type string"]),
        ("configmaps", {"metadata": {"name": "c"}, "data": {"A": True}},
         ["json: cannot unmarshal bool into Go struct field ConfigMap.data of type string"]),
        ("deployments", _with(deployment(), ("spec", "replicas"), "two"),
         ["cannot unmarshal string into Go struct field", "replicas of type int32"]),
        ("deployments", deployment("web", container(env=[{"name": "A", "value": 8080}])),
         ["cannot unmarshal number into Go struct field EnvVar", "env.value of type string"]),
        ("deployments", deployment("web", container(ports=[{"containerPort": "8080"}])),
         ["cannot unmarshal string into Go struct field ContainerPort", "containerPort of type int32"]),
        ("deployments", deployment("web", container(command="python")),
         ["cannot unmarshal string into Go struct field Container", "command of type []string"]),
        ("deployments", deployment("web", container(resources={"limits": {"cpu": "much"}})),
         ["quantities must match the regular expression"]),
        ("services", service(ports={"port": 80}),
         ["cannot unmarshal object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort"]),
    ],
    ids=["number in data", "bool in data", "replicas", "env", "port", "command", "quantity", "ports"],
)  # fmt: skip
def test_a_value_of_a_wrong_type_is_a_bad_request(ns: Space, plural: str, body: Obj, fragments: list[str]) -> None:
    ns.post(plural, body).refused(400, "BadRequest", *fragments)


# --- wrong values -----------------------------------------------------------------------------------------------------


def _pod(**fields: Any) -> Obj:
    """A Deployment with fields of its pods' spec."""
    return deployment(pods=fields)


def _box(**fields: Any) -> Obj:
    """A Deployment with fields of its container."""
    return deployment("web", container(**fields))


def _rolling(surge: Any, unavailable: Any) -> Obj:
    return deployment(strategy={"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})


def _without(body: Obj, *path: str) -> Obj:
    out = copy.deepcopy(body)
    at = out
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return out


def _named(body: Obj, **meta: Any) -> Obj:
    return {**body, "metadata": {**body["metadata"], **meta}}


_SPEC = "spec.template.spec"
_BOX = f"{_SPEC}.containers[0]"
_RANGE = "must be between 1 and 65535, inclusive"
_AT_LEAST_0 = "must be greater than or equal to 0"
_HTTP = {"httpGet": {"path": "/", "port": 8080}}
_PERCENT = "a valid percent string must be a numeric string followed by an ending '%'"
_LABEL = "a valid label must be an empty string or consist of"

# what is wrong: (plural, object, the field that the refusal names, a part of what it says)
_WRONG: dict[str, tuple[str, Obj, str, str]] = {
    "label value": ("configmaps", config(labels={"a": "b c"}), "metadata.labels", _LABEL),
    "label key": ("configmaps", config(labels={"a b": "c"}), "metadata.labels", "name part must consist of"),
    "annotation key": (
        "configmaps", _named(config(), annotations={"a b": "c"}), "metadata.annotations",
        "must consist of"),
    "annotations too large": (
        "configmaps", _named(config(), annotations={"a": "x" * 270_000}), "metadata.annotations", "262144 bytes"),
    "replicas": ("deployments", deployment(replicas=-1), "spec.replicas", _AT_LEAST_0),
    "selector and template differ": (
        "deployments", deployment(selector={"matchLabels": {"app": "other"}}), "spec.template.metadata.labels",
        "`selector` does not match template `labels`"),
    "no selector": ("deployments", _without(deployment(), "spec", "selector"), "spec.selector", "Required value"),
    "empty selector": (
        "deployments", deployment(selector={}), "spec.selector",
        "empty selector is invalid for deployment"),
    "no containers": ("deployments", _pod(containers=[]), f"{_SPEC}.containers", "Required value"),
    "container twice": (
        "deployments", deployment("web", container(), container()), f"{_SPEC}.containers[1].name",
        'Duplicate value: "main"'),
    "container name": ("deployments", _box(name="Main_"), f"{_BOX}.name", "a lowercase RFC 1123 label must consist of"),
    "no image": ("deployments", _box(image=""), f"{_BOX}.image", "Required value"),
    "image with spaces": (
        "deployments", _box(image=" x:1"), f"{_BOX}.image",
        "must not have leading or trailing whitespace"),
    "pull policy": ("deployments", _box(imagePullPolicy="Sometimes"), f"{_BOX}.imagePullPolicy", "Unsupported value"),
    "restart policy": (
        "deployments", _pod(restartPolicy="Never"), f"{_SPEC}.restartPolicy",
        'supported values: "Always"'),
    "container port": (
        "deployments", _box(ports=[{"containerPort": 70000}]), f"{_BOX}.ports[0].containerPort", _RANGE),
    "port name": (
        "deployments", _box(ports=[{"containerPort": 1, "name": "a-name-too-long-x"}]), f"{_BOX}.ports[0].name",
        "must be no more than 15 characters"),
    "port protocol": (
        "deployments", _box(ports=[{"containerPort": 1, "protocol": "HTTP"}]), f"{_BOX}.ports[0].protocol",
        "Unsupported value"),
    "mount without volume": (
        "deployments", _box(volumeMounts=[{"name": "v", "mountPath": "/v"}]), f"{_BOX}.volumeMounts[0].name",
        'Not found: "v"'),
    "volume twice": (
        "deployments", _pod(volumes=[{"name": "v", "emptyDir": {}}] * 2), f"{_SPEC}.volumes[1].name",
        "Duplicate value"),
    "volume of two kinds": (
        "deployments", _pod(volumes=[{"name": "v", "emptyDir": {}, "configMap": {"name": "c"}}]),
        f"{_SPEC}.volumes[0].configMap", "may not specify more than 1 volume type"),
    "request above limit": (
        "deployments", _box(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}), f"{_BOX}.resources.requests",
        "must be less than or equal to cpu limit of 1"),
    "negative quantity": (
        "deployments", _box(resources={"limits": {"cpu": "-1"}}), f"{_BOX}.resources.limits[cpu]", _AT_LEAST_0),
    "probe of no kind": ("deployments", _box(livenessProbe={}), f"{_BOX}.livenessProbe", "must specify a handler type"),
    "probe of two kinds": (
        "deployments", _box(livenessProbe={**_HTTP, "tcpSocket": {"port": 1}}), f"{_BOX}.livenessProbe.tcpSocket",
        "may not specify more than 1 handler type"),
    "liveness after two successes": (
        "deployments", _box(livenessProbe={**_HTTP, "successThreshold": 2}), f"{_BOX}.livenessProbe.successThreshold",
        "must be 1"),
    "probe period": (
        "deployments", _box(readinessProbe={**_HTTP, "periodSeconds": -1}), f"{_BOX}.readinessProbe.periodSeconds",
        _AT_LEAST_0),
    "probe port": (
        "deployments", _box(readinessProbe={"httpGet": {"path": "/", "port": 0}}),
        f"{_BOX}.readinessProbe.httpGet.port",
        _RANGE),
    "env with two sources": (
        "deployments",
        _box(env=[{"name": "A", "value": "1", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]),
        f"{_BOX}.env[2].valueFrom", "may not be specified when `value` is not empty"),
    "env without name": (
        "deployments", _box(env=[{"name": "", "value": "1"}]), f"{_BOX}.env[2].name",
        "Required value"),
    "surge and unavailable 0": (
        "deployments", _rolling(0, 0), "spec.strategy.rollingUpdate.maxUnavailable",
        "may not be 0 when `maxSurge` is 0"),
    "unavailable above 100%": (
        "deployments", _rolling(1, "150%"), "spec.strategy.rollingUpdate.maxUnavailable",
        "must not be greater than 100%"),
    "surge that is no percent": ("deployments", _rolling("some", 0), "spec.strategy.rollingUpdate.maxSurge", _PERCENT),
    "negative surge": ("deployments", _rolling(-1, 0), "spec.strategy.rollingUpdate.maxSurge", _AT_LEAST_0),
    "rolling update of Recreate": (
        "deployments", deployment(strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
        "spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"),
    "strategy": (
        "deployments", deployment(strategy={"type": "BlueGreen"}), "",
        'supported values: "Recreate", "RollingUpdate"'),
    "deadline before ready": (
        "deployments", deployment(minReadySeconds=5, progressDeadlineSeconds=5), "spec.progressDeadlineSeconds",
        "must be greater than minReadySeconds"),
    "negative history": ("deployments", deployment(revisionHistoryLimit=-1), "spec.revisionHistoryLimit", _AT_LEAST_0),
    "service without ports": ("services", service(ports=[]), "spec.ports", "Required value"),
    "service ports without names": (
        "services", service(ports=[{"port": 80}, {"port": 81}]), "spec.ports[0].name", "Required value"),
    "service port twice": (
        "services", service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]), "spec.ports[1]",
        "Duplicate value"),
    "service port": ("services", service(ports=[{"port": 0}]), "spec.ports[0].port", _RANGE),
    "service name": ("services", service("Web_1", selector={"a": "b"}), "metadata.name", "Invalid value"),
    "service type": ("services", service(type="Cluster"), "spec.type", "Unsupported value"),
    "service address": ("services", service(clusterIP="here"), "spec.clusterIPs[0]", "must be a valid IP address"),
    "session affinity": ("services", service(sessionAffinity="Always"), "spec.sessionAffinity", "Unsupported value"),
    "node port of ClusterIP": (
        "services", service(ports=[{"port": 80, "nodePort": 30080}]), "spec.ports[0].nodePort",
        "may not be used when `type` is 'ClusterIP'"),
    "autoscaler without room": (
        "horizontalpodautoscalers", autoscaler(minReplicas=3, maxReplicas=2), "spec.maxReplicas",
        "must be greater than or equal to `minReplicas`"),
    "autoscaler to nothing": (
        "horizontalpodautoscalers", autoscaler(maxReplicas=0), "spec.maxReplicas", "must be greater than 0"),
    "autoscaler of nobody": (
        "horizontalpodautoscalers", autoscaler(scaleTargetRef={"kind": "Deployment", "name": ""}),
        "spec.scaleTargetRef.name", "Required value"),
    "autoscaler at 0 %": (
        "horizontalpodautoscalers", autoscaler(metrics=[cpu_metric(0)]),
        "spec.metrics[0].resource.target.averageUtilization", "must be greater than 0"),
    "autoscaler's window": (
        "horizontalpodautoscalers", autoscaler(behavior={"scaleDown": {"stabilizationWindowSeconds": 4000}}),
        "spec.behavior.scaleDown.stabilizationWindowSeconds", "must be less than or equal to 3600"),
    "budget of both kinds": (
        "poddisruptionbudgets", budget(minAvailable=1, maxUnavailable=1), "spec",
        "minAvailable and maxUnavailable cannot be both set"),
    "budget above 100%": (
        "poddisruptionbudgets", budget(minAvailable="150%"), "spec.minAvailable", "must not be greater than 100%"),
    "budget's policy": (
        "poddisruptionbudgets", budget(unhealthyPodEvictionPolicy="Never"), "spec.unhealthyPodEvictionPolicy",
        "Unsupported value"),
    "policy port": (
        "networkpolicies",
        {"metadata": {"name": "n"}, "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 70000}]}]}},
        "spec.ingress[0].ports[0].port", _RANGE),
    "policy type": (
        "networkpolicies", {"metadata": {"name": "n"}, "spec": {"podSelector": {}, "policyTypes": ["Both"]}},
        "spec.policyTypes[0]", "Unsupported value"),
    "policy block": (
        "networkpolicies",
        {"metadata": {"name": "n"},
         "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "all"}}]}]}},
        "spec.ingress[0].from[0].ipBlock.cidr", "must be a valid CIDR"),
    "lease duration": ("leases", lease(leaseDurationSeconds=0), "spec.leaseDurationSeconds", "must be greater than 0"),
    "role without verbs": (
        "roles", {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": []}]},
        "rules[0].verbs", "Required value"),
    "binding of an account without namespace": (
        "rolebindings",
        {"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
         "subjects": [{"kind": "ServiceAccount", "name": "a"}]},
        "subjects[0].namespace", "Required value"),
    "quota of nothing known": (
        "resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"nonsense": "1"}}}, "spec.hard[nonsense]",
        "standard resource for quota"),
    "default above maximum": (
        "limitranges",
        {"metadata": {"name": "l"},
         "spec": {"limits": [{"type": "Container", "max": {"memory": "1Gi"}, "default": {"memory": "2Gi"}}]}},
        "spec.limits[0].default[memory]", "is greater than max value"),
}  # fmt: skip


@pytest.mark.parametrize("case", _WRONG)
def test_a_wrong_value_is_named_with_its_field(ns: Space, case: str) -> None:
    plural, body, field, text = _WRONG[case]
    status = ns.post(plural, body).refused(422, "Invalid", text)
    assert status["details"]["name"] == body["metadata"]["name"]
    if field:
        assert field in causes(status), status
        assert any(text in cause["message"] for cause in status["details"]["causes"] if cause["field"] == field)
        assert field in status["message"]


def test_one_refusal_names_all_that_is_wrong(ns: Space) -> None:
    status = ns.post("deployments", deployment(replicas=-1, minReadySeconds=-1)).refused(422, "Invalid")
    assert {"spec.replicas", "spec.minReadySeconds"} <= set(causes(status))
    assert status["message"].startswith('Deployment.apps "web" is invalid: [')


# --- what an update may not change ------------------------------------------------------------------------------------


def test_a_deployment_keeps_its_selector(ns: Space) -> None:
    ns.make("deployments", deployment())
    other = {"app": "other"}
    patch = {"spec": {"selector": {"matchLabels": other}, "template": {"metadata": {"labels": other}}}}
    status = ns.patch("deployments", "web", patch).refused(422, "Invalid")
    assert status["message"] == (
        'Deployment.apps "web" is invalid: spec.selector: Invalid value: {"matchLabels":{"app":"other"}}:'
        " field is immutable"
    )


def test_a_service_keeps_its_address(ns: Space) -> None:
    made = ns.make("services", service())
    first = made["spec"]["clusterIP"]
    other = f"{first.rpartition('.')[0]}.{254 if not first.endswith('.254') else 253}"
    status = ns.patch("services", "web", {"spec": {"clusterIP": other, "clusterIPs": [other]}}).refused(422, "Invalid")
    assert "may not change once set" in status["message"]


def test_a_pod_keeps_its_containers(podns: Space) -> None:
    podns.make("pods", {"metadata": {"name": "p"}, "spec": deployment()["spec"]["template"]["spec"]})
    found = podns.get("pods", "p")["spec"]["containers"][0]
    steps = {"spec": {"containers": [{**found, "command": ["other"]}]}}
    podns.patch("pods", "p", steps).refused(422, "Invalid", "pod updates may not change fields other than")


def test_a_kind_and_a_name_stay(ns: Space) -> None:
    ns.make("configmaps", config())
    body = {**ns.get("configmaps", "config"), "kind": "Secret"}
    assert ns.api.put(ns.path("configmaps", "config"), body).status == 400
