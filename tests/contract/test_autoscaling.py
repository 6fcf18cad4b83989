"""The autoscaler, the metrics that it reads, disruption budgets and evictions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.bodies import (
    SLEEP,
    autoscaler,
    budget,
    condition,
    container,
    cpu_metric,
    deployment,
    is_ready,
    managers,
    pod,
)
from tests.contract.client import Client, Obj, until
from tests.contract.conftest import REAL
from tests.contract.space import Space

_BUSY = SLEEP.replace(
    "time.sleep(3600)",
    "\nwhile True:\n    end = time.monotonic() + 0.02\n    while time.monotonic() < end: pass\n    time.sleep(0.08)",
)
_METRICS = "/apis/metrics.k8s.io/v1beta1"
_LONG = 300.0  # seconds: metrics are measured twice a minute at best, and then the autoscaler looks


@pytest.fixture
def measured(api: Client) -> None:
    """For cases that need measured CPU: skipped where nobody measures."""
    if api.get(f"{_METRICS}/nodes").status != 200:
        assert REAL, "the sandbox measures"
        pytest.skip("this cluster has no metrics API")


def _ready(ns: Space, count: int) -> None:
    until(f"{count} are ready", lambda: ns.get("deployments", "web").get("status", {}).get("readyReplicas", 0) == count)


def _hpa(ns: Space) -> Obj:
    return ns.get("horizontalpodautoscalers", "web")


def _condition(ns: Space, kind: str, reason: str) -> Obj:
    """The autoscaler's condition when it has that reason."""
    return until(  # type: ignore[return-value]
        f"{kind} is {reason}", lambda: (c := condition(_hpa(ns), kind)) and c["reason"] == reason and c, _LONG
    )


@pytest.mark.slow
def test_an_autoscaler_of_nothing_says_so(ns: Space) -> None:
    ns.make("horizontalpodautoscalers", autoscaler())
    found = _condition(ns, "AbleToScale", "FailedGetScale")
    assert found["status"] == "False"
    assert 'deployments.apps "web" not found' in found["message"]
    assert ns.event("web", "FailedGetScale")["type"] == "Warning"


@pytest.mark.slow
def test_an_autoscaler_raises_to_its_minimum(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=1))
    podns.make("horizontalpodautoscalers", autoscaler(minReplicas=2))
    until("it is raised", lambda: podns.get("deployments", "web")["spec"]["replicas"] == 2, _LONG)
    text = "New size: 2; reason: Current number of replicas below Spec.MinReplicas"
    assert podns.event("web", "SuccessfulRescale")["message"] == text
    assert any(who[1:] == ("Update", "scale") for who in managers(podns.get("deployments", "web")))
    until("it says when", lambda: _hpa(podns)["status"].get("lastScaleTime"))


@pytest.mark.slow
def test_an_autoscaler_lowers_to_its_maximum(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=3))
    podns.make("horizontalpodautoscalers", autoscaler(maxReplicas=2))
    until("it is lowered", lambda: podns.get("deployments", "web")["spec"]["replicas"] == 2, _LONG)
    text = "New size: 2; reason: Current number of replicas above Spec.MaxReplicas"
    assert podns.event("web", "SuccessfulRescale")["message"] == text


@pytest.mark.slow
def test_an_autoscaler_leaves_what_is_switched_off(ns: Space) -> None:
    ns.make("deployments", deployment(replicas=0))
    ns.make("horizontalpodautoscalers", autoscaler(minReplicas=2))
    found = _condition(ns, "ScalingActive", "ScalingDisabled")
    assert found["status"] == "False"
    assert found["message"] == "scaling is disabled since the replica count of the target is zero"
    assert ns.get("deployments", "web")["spec"]["replicas"] == 0


@pytest.mark.slow
def test_an_autoscaler_needs_requests(podns: Space, measured: None) -> None:
    podns.make("deployments", deployment("web", container(resources={}), replicas=1))
    podns.make("horizontalpodautoscalers", autoscaler())
    found = _condition(podns, "ScalingActive", "FailedGetResourceMetric")
    assert found["status"] == "False"
    until(
        "it says what is missing",
        lambda: (
            "missing request for cpu in container main of Pod" in condition(_hpa(podns), "ScalingActive")["message"]
        ),
        _LONG,
    )


@pytest.mark.slow
def test_an_autoscaler_scales_what_is_busy_up_to_its_maximum(podns: Space, measured: None) -> None:
    podns.make("deployments", deployment("web", container(_BUSY), replicas=1))
    podns.make("horizontalpodautoscalers", autoscaler(maxReplicas=2, metrics=[cpu_metric(50)]))
    until("it is scaled up", lambda: podns.get("deployments", "web")["spec"]["replicas"] == 2, _LONG)
    event = podns.event("web", "SuccessfulRescale")
    assert event["message"] == "New size: 2; reason: cpu resource utilization (percentage of request) above target"
    found = _condition(podns, "ScalingLimited", "TooManyReplicas")
    assert (found["status"], found["message"]) == (
        "True",
        "the desired replica count is more than the maximum replica count",
    )
    found = _condition(podns, "ScalingActive", "ValidMetricFound")
    assert found["status"] == "True"
    assert "from cpu resource utilization (percentage of request)" in found["message"]
    status = until("both numbers are there", lambda: (s := _hpa(podns)["status"]).get("currentReplicas") == 2 and s)
    assert status["desiredReplicas"] == 2
    (current,) = status["currentMetrics"]
    assert current["resource"]["name"] == "cpu"
    assert current["resource"]["current"]["averageUtilization"] > 50


@pytest.mark.slow
def test_an_autoscaler_scales_what_is_idle_down_to_its_minimum(podns: Space, measured: None) -> None:
    podns.make("deployments", deployment("web", container(resources={"requests": {"cpu": "500m"}}), replicas=2))
    _ready(podns, 2)
    down = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    podns.make("horizontalpodautoscalers", autoscaler(behavior=down))
    until("it is scaled down", lambda: podns.get("deployments", "web")["spec"]["replicas"] == 1, _LONG)
    assert podns.event("web", "SuccessfulRescale")["message"] == "New size: 1; reason: All metrics below target"
    assert _condition(podns, "AbleToScale", "ReadyForNewScale")["status"] == "True"


@pytest.mark.slow
def test_an_autoscaler_waits_before_it_scales_down(podns: Space, measured: None) -> None:
    podns.make("deployments", deployment("web", container(resources={"requests": {"cpu": "500m"}}), replicas=2))
    _ready(podns, 2)
    podns.make("horizontalpodautoscalers", autoscaler())
    _condition(podns, "AbleToScale", "ScaleDownStabilized")
    assert podns.get("deployments", "web")["spec"]["replicas"] == 2


@pytest.mark.slow
def test_metrics_tell_what_a_pod_uses(podns: Space, measured: None) -> None:
    podns.make("pods", pod("p", container(_BUSY)))
    path = f"{_METRICS}/namespaces/{podns.name}/pods"
    found = until("it is measured", lambda: podns.api.get(path).ok(200)["items"], _LONG)[0]
    assert found["metadata"]["name"] == "p"
    assert found["timestamp"]
    assert found["window"]
    (used,) = found["containers"]
    assert used["name"] == "main"
    assert set(used["usage"]) == {"cpu", "memory"}
    assert podns.api.get(f"{path}/p").ok(200)["kind"] == "PodMetrics"


# --- disruption budgets -----------------------------------------------------------------------------------------------


def _status(ns: Space, **wanted: int) -> None:
    def look() -> bool:
        status = ns.get("poddisruptionbudgets", "web")["status"]
        return status.get("observedGeneration") == 1 and all(status.get(key) == value for key, value in wanted.items())

    until(f"the budget shows {wanted}", look)


@pytest.mark.parametrize(
    ("spec", "allowed", "desired"),
    [
        ({"minAvailable": 1}, 1, 1),
        ({"minAvailable": 2}, 0, 2),
        ({"minAvailable": "50%"}, 1, 1),
        ({"minAvailable": "51%"}, 0, 2),
        ({"maxUnavailable": 1}, 1, 1),
        ({"maxUnavailable": 0}, 0, 2),
        ({"maxUnavailable": "10%"}, 1, 1),
    ],
)
def test_a_budget_counts(podns: Space, spec: Obj, allowed: int, desired: int) -> None:
    podns.make("deployments", deployment(replicas=2))
    podns.make("poddisruptionbudgets", budget(**spec))
    _status(podns, disruptionsAllowed=allowed, desiredHealthy=desired, currentHealthy=2, expectedPods=2)
    found = condition(podns.get("poddisruptionbudgets", "web"), "DisruptionAllowed")
    assert (found["status"], found["reason"]) == (
        ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    )


def _evict(ns: Space, name: str, **query: Any) -> Any:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    return ns.api.post(ns.path("pods", name, "eviction"), body, **query)


def test_an_eviction_is_refused_by_the_budget(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=1))
    podns.make("poddisruptionbudgets", budget(minAvailable=1))
    _status(podns, currentHealthy=1)
    (found,) = podns.list("pods")
    status = _evict(podns, found["metadata"]["name"]).refused(429, "TooManyRequests")
    assert status["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    (cause,) = status["details"]["causes"]
    assert cause["reason"] == "DisruptionBudget"
    assert cause["message"] == "The disruption budget web needs 1 healthy pods and has 1 currently"


def test_an_eviction_that_the_budget_allows(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=2))
    podns.make("poddisruptionbudgets", budget(minAvailable=1))
    _status(podns, disruptionsAllowed=1)
    name = podns.list("pods")[0]["metadata"]["name"]
    assert _evict(podns, name).ok(201)["status"] == "Success"
    podns.gone("pods", name)
    until("another has come", lambda: len([p for p in podns.list("pods") if is_ready(p)]) == 2)


def test_an_eviction_without_a_budget(podns: Space) -> None:
    podns.make("pods", pod("p"))
    podns.logged("p", "started")
    _evict(podns, "p").ok(201)
    podns.gone("pods", "p")


def test_an_eviction_can_be_tried(podns: Space) -> None:
    podns.make("pods", pod("p"))
    podns.logged("p", "started")
    _evict(podns, "p", dryRun="All").ok(201)
    assert "deletionTimestamp" not in podns.get("pods", "p")["metadata"]


def test_an_eviction_of_nobody(ns: Space) -> None:
    _evict(ns, "absent").refused(404, "NotFound", 'pods "absent" not found')


@pytest.mark.parametrize("policy", ["AlwaysAllow", None])
def test_whether_a_pod_that_is_not_ready_can_be_evicted(podns: Space, policy: str | None) -> None:
    never = container(readinessProbe={"tcpSocket": {"port": 9}})
    podns.make("deployments", deployment("web", never, replicas=1))
    more = {"unhealthyPodEvictionPolicy": policy} if policy else {}
    podns.make("poddisruptionbudgets", budget(minAvailable=1, **more))
    _status(podns, expectedPods=1)
    (found,) = until("there is a pod", lambda: podns.list("pods"))
    podns.logged(found["metadata"]["name"], "started")
    answer = _evict(podns, found["metadata"]["name"])
    assert answer.status == (201 if policy else 429), answer
