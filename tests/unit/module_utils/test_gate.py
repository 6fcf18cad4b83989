"""The gate's rules, on plain dicts and on recordings of a real cluster."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils import gate
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from hypothesis import given
from hypothesis import strategies as st

ROLLOUTS = Path(__file__).parent.parent / "data" / "rollouts"
PAIRS = [{"request": {"features": [[1.0]]}, "response": {"predictions": [1]}}]


# comparing


@pytest.mark.parametrize(
    ("expected", "received", "found"),
    [
        ({"predictions": [1]}, {"predictions": [1], "model_version": "7"}, []),
        ({"predictions": [1]}, {"predictions": [1.0]}, []),
        ({"p": [[0.5]]}, {"p": [[0.500009]]}, []),
        ({"p": [[0.5]]}, {"p": [[0.50002]]}, ["p[0][0] expected 0.5, received 0.50002"]),
        ({"predictions": [1]}, {"predictions": [2]}, ["predictions[0] expected 1, received 2"]),
        ({"predictions": [1]}, {"predictions": [True]}, ["predictions[0] expected 1, received True"]),
        ({"predictions": [1]}, {"predictions": ["1"]}, ["predictions[0] expected 1, received '1'"]),
        ({"predictions": [1]}, {"predictions": [1, 2]}, ["predictions expected 1 value, received 2 values"]),
        ({"predictions": [1]}, {"predictions": 1}, ["predictions expected [1], received 1"]),
        ({"predictions": [1]}, {}, ["predictions is missing"]),
        ({"a": {"b": 1}}, {"a": {}}, ["a.b is missing"]),
        ({"class_names": ["x"]}, {"class_names": ["y"]}, ["class_names[0] expected 'x', received 'y'"]),
        ({"p": None}, {"p": 0}, ["p expected None, received 0"]),
        ({"p": 1.0}, {"p": math.nan}, ["p expected 1.0, received nan"]),
        ({"p": math.inf}, {"p": math.inf}, []),
        ({"p": 0.5}, {"p": 10**400}, ["p expected 0.5, received 1" + "0" * 400]),
    ],
)
def test_differences(expected: Any, received: Any, found: list[str]) -> None:
    assert gate.differences(expected, received, 1e-5) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_an_answer_never_differs_from_itself(answer: Any) -> None:
    assert gate.differences(answer, copy.deepcopy(answer), 0.0) == []


@given(JSON, JSON)
def test_any_two_answers_can_be_compared_and_one_that_is_a_list_never_equals_one_that_is_not(
    one: Any, other: Any
) -> None:
    if isinstance(one, list) != isinstance(other, list):
        assert gate.differences([one], [other], 1e-5) != []
    else:
        assert isinstance(gate.differences(one, other, 1e-5), list)


@given(st.floats(-1e6, 1e6), st.floats(-1, 1), st.floats(0, 1))
def test_numbers_are_equal_exactly_within_the_tolerance(number: float, off: float, tolerance: float) -> None:
    close = abs(number - (number + off)) <= tolerance
    assert (gate.differences([number], [number + off], tolerance) == []) is close


def test_judge_names_the_pair_and_the_first_differences() -> None:
    pair = {"response": {"p": [1, 2, 3, 4, 5]}}
    assert gate.judge(3, pair, {"p": [1, 2, 3, 4, 5]}, 1e-5) is None
    assert gate.judge(3, pair, {"p": [0, 0, 0, 0, 0]}, 1e-5) == (
        "golden pair 3: p[0] expected 1, received 0; p[1] expected 2, received 0; p[2] expected 3, received 0; "
        "and 2 more (tolerance 1e-05)"
    )
    assert gate.judge(1, pair, "<html>", 1e-5) == "golden pair 1: the answer is not JSON (tolerance 1e-05)"


# settings


def test_a_golden_set_is_a_file_or_the_bare_pairs() -> None:
    assert gate.golden_set({"pairs": PAIRS, "model": {"sha256": "AB"}}) == gate.Golden(PAIRS, "ab")
    assert gate.golden_set(PAIRS) == gate.Golden(PAIRS, None)
    assert gate.golden_set({"pairs": PAIRS, "model": None}).model_sha256 is None


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        (None, "golden holds no golden pairs"),
        ([], "golden holds no golden pairs"),
        ({"pairs": "x"}, "golden holds no golden pairs"),
        ([*PAIRS, 7], "golden pair 2 has no request"),
        ([{"request": {"features": []}, "response": {}}], "golden pair 1 has no response"),
    ],
)
def test_a_golden_set_without_pairs_is_refused(golden: Any, words: str) -> None:
    with pytest.raises(InferenceError, match=words):
        gate.golden_set(golden)


def test_settings_fill_in_the_defaults_and_leave_the_spec_alone() -> None:
    spec = {"golden": PAIRS, "paths": {"predict": "/v1/predict"}, "tolerance": "0.1", "port": None}
    before = copy.deepcopy(spec)
    found = gate.settings(spec)
    assert found["paths"] == {"health": "/health", "ready": "/ready", "predict": "/v1/predict"}
    assert (found["tolerance"], found["service"], found["wait_timeout"], found["max_p95_ms"]) == (
        0.1, "inference-api", 300.0, None
    )  # fmt: skip
    assert spec == before and gate.settings({"golden": PAIRS})["paths"]["predict"] == "/predict"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"wait_timeout": 0}, "wait_timeout is 0. Set wait_timeout to a number of at least 0.001"),
        ({"tolerance": "much"}, "tolerance is much. Set tolerance to a number of at least 0"),
        ({"tolerance": math.nan}, "tolerance is nan"),
        ({"max_p95_ms": -5}, "max_p95_ms is -5"),
        ({"autoscaler": "maybe"}, "autoscaler is maybe. Set autoscaler to one of warn, require, skip"),
        ({"goldn": 1}, "The gate has no option goldn. It has: autoscaler, "),
        ({"model_sha256": "b"}, "belong to model a, but model_sha256 is b"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InferenceError) as caught:
        gate.settings({"golden": {"pairs": PAIRS, "model": {"sha256": "a"}}, **wrong})
    assert words in str(caught.value)


# the pods of a release


def replayed(name: str) -> list[dict[str, dict[str, Any]]]:
    """The state of a recorded rollout after each event: objects by kind/name."""
    state: dict[str, Any] = {}
    states = []
    for line in (ROLLOUTS / f"{name}.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event.get("resource") not in ("deployments", "replicasets", "pods"):
            continue
        key = f"{event['resource']}/{event['object']['metadata']['name']}"
        if event["type"] == "DELETED":
            state.pop(key, None)
        else:
            state[key] = event["object"]
        states.append(dict(state))
    return states


def of(state: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [item for key, item in state.items() if key.startswith(f"{kind}/")]


@pytest.mark.parametrize("name", sorted(path.stem for path in ROLLOUTS.glob("*.jsonl")))
def test_the_newest_replica_set_is_the_one_that_a_real_controller_numbers_highest(name: str) -> None:
    last = replayed(name)[-1]
    (deployment,) = of(last, "deployments")
    newest = gate.newest_replica_set(deployment, of(last, "replicasets"))
    if deployment["spec"].get("paused"):
        assert newest is None  # the controller makes none for the template of a paused Deployment
        return
    assert newest is not None
    numbers = {
        item["metadata"]["name"]: int(item["metadata"]["annotations"]["deployment.kubernetes.io/revision"])
        for item in of(last, "replicasets")
    }
    assert newest["metadata"]["name"] == max(numbers, key=lambda item: numbers[item])


def test_a_pod_of_the_old_template_never_counts_during_a_real_rolling_update() -> None:
    states = [state for state in replayed("rolling-update") if of(state, "deployments")]
    last = states[-1]
    (deployment,) = of(last, "deployments")
    final = gate.crew(deployment, of(last, "replicasets"), of(last, "pods"))
    assert len(final.ready) == deployment["spec"]["replicas"] and not final.older and not final.waiting
    newest = gate.newest_replica_set(deployment, of(last, "replicasets"))
    assert newest
    old = {item["metadata"]["uid"] for item in of(last, "replicasets")} - {newest["metadata"]["uid"]}
    seen_older = False
    for state in states:
        (now,) = of(state, "deployments")
        if now["spec"]["template"] != deployment["spec"]["template"]:
            continue
        found = gate.crew(now, of(state, "replicasets"), of(state, "pods"))
        assert not [pod for pod in found.ready if pod["metadata"]["ownerReferences"][0]["uid"] in old]
        seen_older = seen_older or bool(found.older)
    assert old and seen_older


def pod(name: str, owner: str | None = "r", ready: bool = True, **status: Any) -> dict[str, Any]:
    owners = [{"uid": owner, "controller": True}] if owner else []
    return {
        "metadata": {"name": name, "ownerReferences": owners},
        "spec": {"containers": [{"name": "api", "ports": [{"name": "http", "containerPort": 8080}]}, {"name": "x"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}], **status},
    }


TEMPLATE: dict[str, Any] = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}
DEPLOYMENT = {"metadata": {"uid": "d"}, "spec": {"template": TEMPLATE, "selector": {"matchLabels": {"app": "x"}}}}


def replica_set(uid: str, created: str, template: dict[str, Any] = TEMPLATE, owner: str = "d") -> dict[str, Any]:
    owners = [{"uid": owner, "controller": True}]
    return {
        "metadata": {"uid": uid, "creationTimestamp": created, "ownerReferences": owners},
        "spec": {"template": template},
    }


def test_of_two_equal_replica_sets_the_older_is_meant_and_strangers_are_not() -> None:
    found = [replica_set("s", "1", owner="stranger"), replica_set("b", "3"), replica_set("a", "2")]
    assert gate.newest_replica_set(DEPLOYMENT, found) == found[2]
    assert gate.newest_replica_set(DEPLOYMENT, found[:1]) is None


def test_crew_leaves_out_terminating_finished_and_foreign_pods() -> None:
    leaving = pod("leaving")
    leaving["metadata"]["deletionTimestamp"] = "now"
    evicted = pod("evicted", phase="Failed")
    pods = [pod("b"), pod("a"), leaving, evicted, pod("foreign", owner="other"), pod("orphan", owner=None)]
    found = gate.crew(DEPLOYMENT, [replica_set("r", "1")], pods)
    assert [item["metadata"]["name"] for item in found.ready] == ["a", "b"]
    assert (found.waiting, found.older) == ({}, [])


def test_crew_tells_what_pods_wait_for() -> None:
    creating = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    pulling = {"state": {"waiting": {"reason": "ImagePullBackOff"}}}
    unscheduled = pod("p", ready=False)
    unscheduled["status"]["conditions"].append({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"})
    pods = [
        pod("i", ready=False, initContainerStatuses=[pulling], containerStatuses=[creating]),
        pod("n", ready=False, containerStatuses=[creating, {"state": {"running": {}}}]),
        unscheduled,
        {**pod("z"), "status": {}},
    ]
    found = gate.crew(DEPLOYMENT, [replica_set("r", "1")], pods)
    assert found.waiting == {"i": "ImagePullBackOff", "n": "not ready", "p": "Unschedulable", "z": "not ready"}


def test_without_a_replica_set_of_the_present_template_no_pod_counts() -> None:
    other = replica_set("r", "1", {"metadata": {"labels": {"app": "x"}, "annotations": {"config": "old"}}, "spec": {}})
    found = gate.crew(DEPLOYMENT, [other], [pod("a"), pod("b", ready=False)])
    assert (found.ready, found.waiting, found.older) == ([], {}, ["a"])


def test_selectors() -> None:
    rules = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "old", "operator": "DoesNotExist"},
        {"key": "new", "operator": "Exists"},
        {"key": "env", "operator": "NotIn", "values": ["x"]},
    ]
    deployment = {"spec": {"selector": {"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": rules}}}
    assert gate.selector(deployment) == "a=1,b=2,tier in (a,b),!old,new,env notin (x)"


# addresses


def service(*ports: dict[str, Any], ingress: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"name": "inference-api"},
        "spec": {"ports": list(ports)},
        "status": {"loadBalancer": {"ingress": ingress} if ingress else {}},
    }


def test_addresses_of_either_family_or_a_name() -> None:
    ingress = [{"ip": "2001:db8::7"}, {"hostname": "lb.example.org"}, {"ip": "203.0.113.7", "ipMode": "VIP"}, {}]
    assert gate.addresses(service(ingress=ingress), 80, "http") == [
        "http://lb.example.org:80",
        "http://203.0.113.7:80",
        "http://[2001:db8::7]:80",
    ]
    assert gate.addresses(service(), 80, "http") == []
    assert gate.addresses({"metadata": {}, "spec": {}}, 80, "http") == []


def test_the_port_is_the_named_one_else_http_else_the_first() -> None:
    both = service({"name": "metrics", "port": 9000}, {"name": "http", "port": 80})
    assert gate.service_port(both, None)["port"] == 80
    assert gate.service_port(both, "metrics")["port"] == gate.service_port(both, "9000")["port"] == 9000
    assert gate.service_port(service({"port": 8080}), None)["port"] == 8080
    with pytest.raises(InferenceError, match=r"has no port grpc \(it has: metrics, http\)"):
        gate.service_port(both, "grpc")
    with pytest.raises(InferenceError, match=r"has no port \(it has: none\)"):
        gate.service_port(service(), None)


def test_the_pods_port_is_a_number() -> None:
    assert gate.pod_port({"port": 80, "targetPort": "http"}, pod("a")) == 8080
    assert gate.pod_port({"port": 80, "targetPort": 9}, pod("a")) == 9
    assert gate.pod_port({"port": 80}, pod("a")) == 80
    with pytest.raises(InferenceError, match="Pod a has no container port named grpc"):
        gate.pod_port({"port": 80, "targetPort": "grpc"}, pod("a"))


# numbers


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(1, 100))
def test_a_percentile_is_the_least_sample_that_so_many_do_not_exceed(samples: list[float], percent: float) -> None:
    found = gate.percentile(samples, percent)
    assert found in samples
    needed = len(samples) * percent / 100
    assert sum(sample <= found for sample in samples) >= needed
    assert sum(sample < found for sample in samples) < needed


def test_percentiles_of_nothing_and_of_twenty() -> None:
    assert gate.percentile([], 95) is None
    assert gate.percentile(range(20, 0, -1), 50) == 10 and gate.percentile(range(1, 21), 95) == 19


def test_delays_grow_to_the_wanted_one() -> None:
    assert [gate.next_delay(attempt, 1.0) for attempt in range(1, 5)] == [0.25, 0.5, 1.0, 1.0]
    assert gate.next_delay(10**6, 30.0) == 30.0 and gate.next_delay(1, 0.1) == 0.1


# the autoscaler


def hpa(status: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
    target = {"kind": "Deployment", "name": "inference-api"}
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    metrics = [{"type": "Resource", "resource": resource}]
    base = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5, "metrics": metrics, **spec}
    return {"metadata": {"name": "hpa"}, "spec": base, **({} if status is None else {"status": status})}


def active(status: str, reason: str = "ValidMetricFound", message: str = "") -> list[dict[str, Any]]:
    return [
        {"type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale"},
        {"type": "ScalingActive", "status": status, "reason": reason, "message": message},
    ]


CPU = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 0, "averageValue": "0"}}}


def test_an_idle_cpu_is_a_measured_value() -> None:
    found = gate.autoscaler(
        [hpa({"currentMetrics": [CPU], "conditions": active("True"), "currentReplicas": 2})], "inference-api"
    )
    assert found["ok"] and found["metrics"] == [{"name": "cpu", "current": 0, "target": 70}] and found["remedy"] == ""
    assert found["replicas"] == {"min": 2, "max": 5, "current": 2, "desired": None}


def test_other_kinds_of_metrics_are_read_as_well() -> None:
    custom = {"metric": {"name": "requests"}, "current": {"averageValue": "12"}}
    container = {"name": "memory", "container": "api", "current": {"averageUtilization": 40, "averageValue": "9Mi"}}
    measured = [
        {"type": "Pods", "pods": custom},
        {"type": "ContainerResource", "containerResource": container},
        {"type": ""},
    ]
    found = gate.autoscaler([hpa({"currentMetrics": measured, "conditions": active("True")})], "inference-api")
    assert [(metric["name"], metric["current"]) for metric in found["metrics"]] == [("requests", "12"), ("memory", 40)]


@pytest.mark.parametrize("current", [None, [], [{"type": ""}], [{"type": "Resource", "resource": {"name": "cpu"}}]])
def test_active_without_a_measured_value_is_not_enough(current: Any) -> None:
    found = gate.autoscaler([hpa({"currentMetrics": current, "conditions": active("True")})], "inference-api")
    assert not found["ok"] and found["message"] == "no metric has been measured yet"


@pytest.mark.parametrize(
    ("reason", "message", "remedy"),
    [
        ("FailedGetResourceMetric", "missing request for cpu in container api of Pod x", "resources.requests"),
        (
            "FailedGetResourceMetric",
            "unable to fetch metrics from resource metrics API: the server could not find the requested resource "
            "(get pods.metrics.k8s.io)",
            "Install metrics-server",
        ),
        ("FailedGetResourceMetric", "no metrics returned from resource metrics API", "about a minute"),
        ("ScalingDisabled", "scaling is disabled since the replica count of the target is zero", "at least 1"),
        ("AmbiguousSelector", "pods by selector are controlled by multiple HPAs", "other autoscaler"),
    ],
)
def test_an_inactive_autoscaler_gives_its_reason_and_a_remedy(reason: str, message: str, remedy: str) -> None:
    status = {"currentMetrics": [CPU], "conditions": active("False", reason, message)}
    found = gate.autoscaler([hpa(status)], "inference-api")
    assert (found["ok"], found["reason"], found["message"]) == (False, reason, message) and remedy in found["remedy"]


def test_an_autoscaler_that_cannot_find_its_target_says_so() -> None:
    able = {"type": "AbleToScale", "status": "False", "reason": "FailedGetScale", "message": "not found"}
    found = gate.autoscaler([hpa({"conditions": [able]})], "inference-api")
    assert found["reason"] == "FailedGetScale" and "scaleTargetRef" in found["remedy"]


@pytest.mark.parametrize("status", [None, {}])
def test_a_new_autoscaler_has_not_looked_yet(status: Any) -> None:
    assert "not looked" in gate.autoscaler([hpa(status)], "inference-api")["message"]


def test_autoscalers_of_others_are_not_ours() -> None:
    others = [
        hpa({}, scaleTargetRef={"kind": "StatefulSet", "name": "inference-api"}),
        hpa({}, scaleTargetRef={"kind": "Deployment", "name": "other"}),
    ]
    found = gate.autoscaler(others, "inference-api")
    assert found["name"] is None and not found["ok"]
    assert set(found) == set(gate.autoscaler([hpa({})], "inference-api"))
