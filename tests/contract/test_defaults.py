"""What the server fills in: a client that compares its manifest with the live object must know all of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.bodies import autoscaler, budget, container, cpu_metric, deployment, lease, service
from tests.contract.client import Obj, until
from tests.contract.space import Space

_HTTP = {"httpGet": {"port": 8080}}
_BOX = ("spec", "template", "spec", "containers", 0)
_POD = ("spec", "template", "spec")
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_PERCENT = [{"type": "Percent", "value": 100, "periodSeconds": 15}]


def _plain() -> Obj:
    """A Deployment with as little as will do."""
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "example.test/i:1"}]},
    }
    spec = {"paused": True, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"metadata": {"name": "web"}, "spec": spec}


def _image(image: str) -> Obj:
    body = _plain()
    body["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return body


def _volume(**source: Any) -> Obj:
    return deployment(pods={"volumes": [{"name": "v", **source}]})


def _policy(**spec: Any) -> Obj:
    return {"metadata": {"name": "n"}, "spec": {"podSelector": {}, **spec}}


def _limits(**item: Any) -> Obj:
    return {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", **item}]}}


# what is set: (plural, object, where, what stands there then)
_FILLED: dict[str, tuple[str, Obj, tuple[str | int, ...], Any]] = {
    "replicas": ("deployments", _plain(), ("spec", "replicas"), 1),
    "strategy": (
        "deployments", _plain(), ("spec", "strategy"),
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
    "half a strategy": (
        "deployments", deployment(strategy={"rollingUpdate": {"maxSurge": 2}}), ("spec", "strategy"),
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": "25%"}}),
    "Recreate": ("deployments", deployment(strategy={"type": "Recreate"}), ("spec", "strategy"), {"type": "Recreate"}),
    "history": ("deployments", _plain(), ("spec", "revisionHistoryLimit"), 10),
    "deadline": ("deployments", _plain(), ("spec", "progressDeadlineSeconds"), 600),
    "restart policy": ("deployments", _plain(), (*_POD, "restartPolicy"), "Always"),
    "grace": ("deployments", _plain(), (*_POD, "terminationGracePeriodSeconds"), 30),
    "DNS": ("deployments", _plain(), (*_POD, "dnsPolicy"), "ClusterFirst"),
    "scheduler": ("deployments", _plain(), (*_POD, "schedulerName"), "default-scheduler"),
    "pod's security": ("deployments", _plain(), (*_POD, "securityContext"), {}),
    "container's resources": ("deployments", _plain(), (*_BOX, "resources"), {}),
    "termination message": ("deployments", _plain(), (*_BOX, "terminationMessagePath"), "/dev/termination-log"),
    "message policy": ("deployments", _plain(), (*_BOX, "terminationMessagePolicy"), "File"),
    "pull policy of a tag": ("deployments", _image("example.test/i:1"), (*_BOX, "imagePullPolicy"), "IfNotPresent"),
    "pull policy of latest": ("deployments", _image("example.test/i:latest"), (*_BOX, "imagePullPolicy"), "Always"),
    "pull policy of no tag": ("deployments", _image("example.test/i"), (*_BOX, "imagePullPolicy"), "Always"),
    "pull policy of a digest": (
        "deployments", _image(f"example.test/i@sha256:{'0' * 64}"), (*_BOX, "imagePullPolicy"), "IfNotPresent"),
    "port's protocol": (
        "deployments", deployment("web", container(ports=[{"containerPort": 1}])), (*_BOX, "ports"),
        [{"containerPort": 1, "protocol": "TCP"}]),
    "readiness probe": (
        "deployments", deployment("web", container(readinessProbe=_HTTP)), (*_BOX, "readinessProbe"),
        {"httpGet": {"path": "/", "port": 8080, "scheme": "HTTP"}, **_PROBE}),
    "startup probe": (
        "deployments", deployment("web", container(startupProbe={"tcpSocket": {"port": 1}})), (*_BOX, "startupProbe"),
        {"tcpSocket": {"port": 1}, **_PROBE}),
    "field reference": (
        "deployments",
        deployment("web", container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}])),
        (*_BOX, "env", 2, "valueFrom", "fieldRef"), {"apiVersion": "v1", "fieldPath": "metadata.uid"}),
    "config volume": (
        "deployments", _volume(configMap={"name": "c"}), (*_POD, "volumes", 0, "configMap"),
        {"name": "c", "defaultMode": 420}),
    "secret volume": (
        "deployments", _volume(secret={"secretName": "s"}), (*_POD, "volumes", 0, "secret"),
        {"secretName": "s", "defaultMode": 420}),
    "volume of no kind": ("deployments", _volume(), (*_POD, "volumes", 0), {"name": "v", "emptyDir": {}}),
    "old account name": (
        "deployments", deployment(pods={"serviceAccountName": "a"}), (*_POD, "serviceAccount"), "a"),
    "quantity's form": (
        "deployments", deployment("web", container(resources={"limits": {"cpu": "0.5", "memory": "1024Mi"}})),
        (*_BOX, "resources", "limits"), {"cpu": "500m", "memory": "1Gi"}),
    "service's type": ("services", service(), ("spec", "type"), "ClusterIP"),
    "service's affinity": ("services", service(), ("spec", "sessionAffinity"), "None"),
    "service's families": ("services", service(), ("spec", "ipFamilyPolicy"), "SingleStack"),
    "service's internal traffic": ("services", service(), ("spec", "internalTrafficPolicy"), "Cluster"),
    "service port": (
        "services", service(ports=[{"port": 80}]), ("spec", "ports"),
        [{"port": 80, "protocol": "TCP", "targetPort": 80}]),
    "load balancer's traffic": (
        "services", service(type="LoadBalancer"), ("spec", "externalTrafficPolicy"), "Cluster"),
    "load balancer's node ports": (
        "services", service(type="LoadBalancer"), ("spec", "allocateLoadBalancerNodePorts"), True),
    "load balancer's status": ("services", service(type="LoadBalancer"), ("status",), {"loadBalancer": {}}),
    "client affinity": (
        "services", service(sessionAffinity="ClientIP"), ("spec", "sessionAffinityConfig"),
        {"clientIP": {"timeoutSeconds": 10800}}),
    "autoscaler's minimum": ("horizontalpodautoscalers", autoscaler(), ("spec", "minReplicas"), 1),
    "autoscaler's metric": ("horizontalpodautoscalers", autoscaler(), ("spec", "metrics"), [cpu_metric(80)]),
    "autoscaler's way down": (
        "horizontalpodautoscalers", autoscaler(behavior={"scaleDown": {"stabilizationWindowSeconds": 5}}),
        ("spec", "behavior", "scaleDown"),
        {"stabilizationWindowSeconds": 5, "selectPolicy": "Max", "policies": _PERCENT}),
    "autoscaler's way up": (
        "horizontalpodautoscalers", autoscaler(behavior={"scaleDown": {"stabilizationWindowSeconds": 5}}),
        ("spec", "behavior", "scaleUp"),
        {"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
         "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, *_PERCENT]}),
    "policy of ingress": ("networkpolicies", _policy(), ("spec", "policyTypes"), ["Ingress"]),
    "policy of both": ("networkpolicies", _policy(egress=[{}]), ("spec", "policyTypes"), ["Ingress", "Egress"]),
    "policy's port": (
        "networkpolicies", _policy(ingress=[{"ports": [{"port": 80}]}]), ("spec", "ingress", 0, "ports"),
        [{"port": 80, "protocol": "TCP"}]),
    "secret's type": ("secrets", {"metadata": {"name": "s"}}, ("type",), "Opaque"),
    "limit of a maximum": ("limitranges", _limits(max={"cpu": "1"}), ("spec", "limits", 0, "default"), {"cpu": "1"}),
    "request of a default": (
        "limitranges", _limits(default={"cpu": "1"}), ("spec", "limits", 0, "defaultRequest"), {"cpu": "1"}),
    "request of a maximum": (
        "limitranges", _limits(max={"cpu": "1"}), ("spec", "limits", 0, "defaultRequest"), {"cpu": "1"}),
    "quota's form": (
        "resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "1000m"}}}, ("spec", "hard"),
        {"requests.cpu": "1"}),
    "binding's group": (
        "rolebindings",
        {"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"},
         "subjects": [{"kind": "User", "name": "u"}]},
        ("subjects",), [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]),
}  # fmt: skip


@pytest.mark.parametrize("case", _FILLED)
def test_the_server_fills_in(ns: Space, case: str) -> None:
    plural, body, path, wanted = _FILLED[case]
    found: Any = ns.post(plural, body, dryRun="All").ok(201)
    for key in path:
        found = found[key]
    assert found == wanted


# what stays as it was sent: (plural, object, where)
_LEFT_OUT: dict[str, tuple[str, Obj, tuple[str | int, ...]]] = {
    "budget's policy": ("poddisruptionbudgets", budget(minAvailable=1), ("spec", "unhealthyPodEvictionPolicy")),
    "budget's other number": ("poddisruptionbudgets", budget(minAvailable=1), ("spec", "maxUnavailable")),
    "lease's transitions": ("leases", lease(), ("spec", "leaseTransitions")),
    "autoscaler's behaviour": ("horizontalpodautoscalers", autoscaler(), ("spec", "behavior")),
    "zero": (
        "deployments",
        deployment("web", container(readinessProbe=_HTTP)),
        (*_BOX, "readinessProbe", "initialDelaySeconds"),
    ),
    "false": ("deployments", deployment(paused=False), ("spec", "paused")),
    "no minimum": ("deployments", deployment(minReadySeconds=0), ("spec", "minReadySeconds")),
    "account's tokens": ("serviceaccounts", {"metadata": {"name": "a"}}, ("automountServiceAccountToken",)),
}


@pytest.mark.parametrize("case", _LEFT_OUT)
def test_the_server_does_not_fill_in(ns: Space, case: str) -> None:
    plural, body, path = _LEFT_OUT[case]
    found: Any = ns.post(plural, body, dryRun="All").ok(201)
    for key in path[:-1]:
        found = found[key]
    assert path[-1] not in found


def test_a_pods_requests_follow_its_limits(podns: Space) -> None:
    body = {
        "metadata": {"name": "p"},
        "spec": {"containers": [container(resources={"limits": {"cpu": "1", "memory": "1Gi"}})]},
    }
    made = podns.post("pods", body, dryRun="All").ok(201)
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}


def test_a_pod_gets_an_account_tolerations_and_a_priority(podns: Space) -> None:
    made = podns.post("pods", {"metadata": {"name": "p"}, "spec": {"containers": [container()]}}, dryRun="All").ok(201)
    spec = made["spec"]
    assert spec["serviceAccountName"] == "default"
    assert spec["enableServiceLinks"] is True
    assert spec["preemptionPolicy"] == "PreemptLowerPriority"
    tolerated = {
        t.get("key"): (t["operator"], t.get("effect"), t.get("tolerationSeconds")) for t in spec["tolerations"]
    }
    for taint in ("not-ready", "unreachable"):
        assert tolerated[f"node.kubernetes.io/{taint}"] == ("Exists", "NoExecute", 300)
    assert made["status"]["phase"] == "Pending"


def test_a_pods_token_is_mounted_unless_it_says_no(podns: Space) -> None:
    def mounts(**spec: Any) -> list[str]:
        body = {"metadata": {"name": "p"}, "spec": {"containers": [container()], **spec}}
        made = podns.post("pods", body, dryRun="All").ok(201)
        return [m["mountPath"] for m in made["spec"]["containers"][0].get("volumeMounts") or []]

    assert mounts() == ["/var/run/secrets/kubernetes.io/serviceaccount"]
    assert mounts(automountServiceAccountToken=False) == []


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "10m"}}, "Burstable"),
        ({"limits": {"cpu": "10m", "memory": "32Mi"}}, "Guaranteed"),
    ],
)
def test_a_pod_has_a_class_of_service(podns: Space, resources: Obj, wanted: str) -> None:
    body = {"metadata": {"name": "p"}, "spec": {"containers": [container(resources=resources)]}}
    assert podns.post("pods", body, dryRun="All").ok(201)["status"]["qosClass"] == wanted


def test_a_namespace_is_labelled_with_its_name(ns: Space) -> None:
    found = ns.api.get(f"/api/v1/namespaces/{ns.name}").ok(200)
    assert found["metadata"]["labels"]["kubernetes.io/metadata.name"] == ns.name
    assert found["spec"]["finalizers"] == ["kubernetes"]
    assert found["status"]["phase"] == "Active"


def test_a_namespace_gets_an_account_and_the_clusters_certificate(ns: Space) -> None:
    ns.ready_for_pods()
    assert ns.get("serviceaccounts", "default")["metadata"]["name"] == "default"
    found = until("the certificate is published", lambda: ns.find("configmaps", "kube-root-ca.crt"))
    assert found["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")
