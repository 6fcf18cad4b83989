"""The gate, asked over real HTTP: a stand-in for the API server and one for the load balancer."""

from __future__ import annotations

import contextlib
import copy
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import urllib3
from ansible_collections.deepmlhub.inference.plugins.module_utils import probe
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import Cluster, Unreachable
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.unit.endpoint_world import GOLDEN, NAMESPACE, SHA, Clock, World, app

KEYS = {
    "ok", "checked", "address", "attempts", "elapsed", "checks", "latencies", "pods", "autoscaler", "model_sha256",
    "notes", "last_error", "msg",
}  # fmt: skip


@pytest.fixture
def world() -> Iterator[World]:
    found = World()
    yield found
    found.close()


def run(world: World, **options: Any) -> dict[str, Any]:
    extra = {name: options.pop(name) for name in ("fetch", "on_progress", "check_mode") if name in options}
    retries = Clock()
    cluster = Cluster(world.api.url, urllib3.PoolManager(), dict, clock=retries, sleep=retries.sleep)
    spec = {"namespace": NAMESPACE, "golden": GOLDEN, "autoscaler": "skip", "wait_timeout": 60, **options}
    result = probe.run_gate(cluster, spec, clock=world.clock, sleep=world.sleep, **extra)
    assert set(result) == KEYS
    assert "\n" not in result["msg"]
    return result


def check(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in result["checks"] if item["name"] == name)


def test_passes_when_the_address_and_every_pod_answer_rightly(world: World) -> None:
    result = run(world)
    assert result["ok"], result["msg"]
    assert result["address"] == world.balancer.url
    assert [item["name"] for item in result["checks"] if item["ok"]] == [
        "service", "address", "health", "ready", "predict", "pods", "autoscaler", "latency"
    ]  # fmt: skip
    assert result["pods"] == [{"name": name, "ok": True, "model_sha256": SHA, "via": "pod"} for name in "ab"]
    assert result["latencies"]["count"] == 20
    assert (result["attempts"], result["elapsed"], result["last_error"], result["notes"]) == (1, 0.0, "", [])


def test_asks_every_pod_for_every_pair_and_writes_nothing(world: World) -> None:
    run(world)
    asked = [path for method, path in world.requests if method == "POST" and "/pods/" in path]
    for name in "ab":
        assert asked.count(f"/api/v1/namespaces/{NAMESPACE}/pods/http:{name}:8080/proxy/predict") == 3
    assert {path.rsplit("/", 1)[1] for method, path in world.requests if method != "GET"} == {"predict"}


def test_waits_for_the_address_and_says_why_it_does_not_come(world: World) -> None:
    assert world.service
    status = world.service.pop("status")
    world.events = [
        {"lastTimestamp": "2026-11-24T00:00:01Z", "reason": "SyncLoadBalancerFailed", "message": "quota\nis used up"},
        {"lastTimestamp": "2026-11-24T00:00:00Z", "reason": "Older", "message": "no matter"},
    ]
    world.on_sleep[4] = lambda: world.service.update(status=status)  # type: ignore[union-attr]
    result = run(world)
    assert result["ok"] and result["attempts"] == 5
    assert "SyncLoadBalancerFailed: quota is used up" in result["last_error"]


def test_an_address_that_never_comes_ends_at_the_deadline(world: World) -> None:
    assert world.service
    world.service["status"] = {}
    result = run(world, wait_timeout=7)
    assert not result["ok"] and result["address"] is None
    assert result["elapsed"] == 7 and sum(world.naps) == 7
    assert "within 7 s" in result["msg"] and "no address in status.loadBalancer yet" in result["msg"]
    assert check(result, "service")["ok"] and not check(result, "address")["ok"]
    assert check(result, "latency")["detail"] == "not reached"


def test_a_service_that_does_not_exist_is_waited_for(world: World) -> None:
    service, world.service = world.service, None
    world.on_sleep[2] = lambda: setattr(world, "service", service)
    result = run(world)
    assert result["ok"] and result["last_error"] == f"Service inference-api does not exist in namespace {NAMESPACE}"


def test_an_address_is_not_yet_a_serving_address(world: World) -> None:
    world.in_front = []
    world.on_sleep[3] = lambda: setattr(world, "in_front", None)
    result = run(world)
    assert result["ok"] and result["attempts"] == 4 and result["last_error"].startswith("GET http://127.0.0.1:")


def test_an_endpoint_that_is_not_ready_is_not_yet(world: World) -> None:
    world.in_front = ["slow"]
    world.apps["slow"] = app("a", ready=503)
    result = run(world, wait_timeout=3)
    assert "/ready answered 503" in result["msg"] and "model is not loaded" in result["msg"]
    assert check(result, "health")["ok"] and not check(result, "ready")["ok"]


def test_server_errors_of_predict_are_not_yet(world: World) -> None:
    world.in_front = ["slow"]
    world.apps["slow"] = app("a", status=503)
    world.on_sleep[1] = lambda: setattr(world, "in_front", None)
    result = run(world)
    assert result["ok"] and "/predict answered 503" in result["last_error"]


def test_a_wrong_prediction_fails_at_once_with_both_numbers(world: World) -> None:
    world.apps["a"] = world.apps["b"] = app("a", wrong=True)
    result = run(world)
    assert not result["ok"] and world.naps == []
    assert (
        "pod a: golden pair 1: predictions[0] expected 0, received 2; "
        "probabilities[0][1] expected 0.9300000123, received 0.12 (tolerance 1e-05)"
    ) in result["msg"]
    assert not check(result, "predict")["ok"]


def test_a_wrong_pod_behind_right_ones_is_found(world: World) -> None:
    world.in_front = ["a"]
    world.apps["b"] = app("b", wrong=True)
    result = run(world)
    assert "pod b: golden pair 1: predictions[0] expected 0, received 2" in result["msg"]
    assert world.naps == [] and check(result, "predict")["ok"] and not check(result, "pods")["ok"]
    assert [(pod["name"], pod["ok"]) for pod in result["pods"]] == [("a", True), ("b", False)]


def test_answers_of_the_old_release_neither_pass_nor_fail(world: World) -> None:
    world.add_pod("old-1", owner="old", behave=app("old-1", wrong=True))
    world.terminate("old-1")
    world.in_front = ["old-1", "a"]
    result = run(world, wait_timeout=5)
    assert not result["ok"] and result["elapsed"] == 5
    assert "was answered by old-1, which is not a ready pod of this release" in result["msg"]
    world.in_front, world.naps = None, []
    assert run(world)["ok"]


def test_old_pods_that_still_serve_are_waited_for(world: World) -> None:
    world.add_pod("old-1", owner="old")
    world.on_sleep[2] = lambda: world.terminate("old-1")
    result = run(world)
    assert result["ok"] and "older template of Deployment inference-api still serve: old-1" in result["last_error"]


def test_a_wrong_answer_of_a_pod_that_has_left_meanwhile_is_not_final(world: World) -> None:
    world.in_front = ["a"]

    def wrong_and_gone(method: str, path: str, body: Any) -> Any:
        world.terminate("b")
        return app("b", wrong=True)(method, path, body)

    world.apps["b"] = wrong_and_gone
    result = run(world)
    assert result["ok"] and [pod["name"] for pod in result["pods"]] == ["a"]


def test_no_ready_pod_names_what_the_pods_wait_for(world: World) -> None:
    world.pods.clear()
    world.add_pod("c", ready=False)
    world.pods["c"]["status"]["containerStatuses"] = [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]
    result = run(world, wait_timeout=2)
    assert "no ready pod of its present template (c: CrashLoopBackOff)" in result["msg"]


def test_a_pod_that_is_not_ready_is_noted(world: World) -> None:
    world.add_pod("c", ready=False)
    result = run(world)
    assert result["ok"] and result["notes"] == ["Not every pod is ready: c: not ready"]


def test_another_model_is_named_with_the_expected_one(world: World) -> None:
    world.apps["b"] = app("b", sha="b" * 64)
    result = run(world)
    assert f"pod b: it serves model sha256 {'b' * 64}, expected {SHA}" in result["msg"] and world.naps == []


def test_an_answer_without_the_models_hash_fails_where_one_is_expected(world: World) -> None:
    world.apps["a"] = world.apps["b"] = app("a", sha=None)
    assert f"(no X-Model-Sha256), expected {SHA}" in run(world)["msg"]


def test_pods_must_agree_when_no_hash_is_known(world: World) -> None:
    assert run(world, golden=GOLDEN["pairs"])["model_sha256"] == SHA
    world.apps["b"] = app("b", sha="b" * 64)
    result = run(world, golden=GOLDEN["pairs"])
    assert not result["ok"] and SHA in result["msg"] and "b" * 64 in result["msg"]


def test_a_hash_in_capitals_is_the_same_hash(world: World) -> None:
    assert run(world, golden=GOLDEN["pairs"], model_sha256=SHA.upper())["ok"]


def test_a_refused_request_of_a_ready_pod_is_final(world: World) -> None:
    world.apps["a"] = world.apps["b"] = app("a", status=422)
    result = run(world)
    assert world.naps == [] and "golden pair 1 was answered with 422" in result["msg"]
    assert "13 numbers are needed" in result["msg"]


def test_a_pod_that_signs_with_another_name_is_told(world: World) -> None:
    world.in_front = ["a"]
    world.apps["b"] = app("localhost")
    result = run(world)
    assert "pod b: its answers carry X-Pod-Name: localhost. Set its POD_NAME" in result["msg"]


def test_unsigned_answers_do_not_count(world: World) -> None:
    world.apps["a"] = world.apps["b"] = app(None)
    assert "without the header X-Pod-Name" in run(world, wait_timeout=2)["msg"]


def test_without_pods_proxy_every_pod_is_awaited_at_the_address(world: World) -> None:
    world.forbidden = {"pods/proxy"}
    result = run(world)
    assert result["ok"] and [pod["via"] for pod in result["pods"]] == ["address", "address"]
    assert "pods/proxy is not allowed" in result["notes"][0]
    assert len([path for _, path in world.requests if "/pods/" in path]) == 1


def test_without_pods_proxy_a_pod_that_is_never_seen_fails_at_the_deadline(world: World) -> None:
    world.forbidden, world.in_front = {"pods/proxy"}, ["a"]
    result = run(world, wait_timeout=4)
    assert "these pods have not answered the golden set yet: b (pods/proxy is not allowed" in result["msg"]
    assert [(pod["name"], pod["ok"], pod["via"]) for pod in result["pods"]] == [
        ("a", True, "address"),
        ("b", False, None),
    ]


def test_a_pod_that_the_api_server_cannot_reach_may_be_seen_at_the_address(world: World) -> None:
    direct = {"b": None}

    def reach(method: str, path: str) -> None:
        world.apps["b"] = direct["b"] if "/pods/http:b:" in path else app("b")

    world.on_request = reach
    result = run(world)
    assert result["ok"] and [pod["via"] for pod in result["pods"]] == ["pod", "address"]
    assert "connection refused" in result["notes"][0]


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", None])
def test_other_services_are_asked_through_the_api_server(world: World, kind: str | None) -> None:
    assert world.service
    world.service["spec"]["type"] = kind
    result = run(world)
    assert result["ok"], result["msg"]
    assert result["address"] == f"/api/v1/namespaces/{NAMESPACE}/services/http:inference-api:http/proxy"
    assert ("POST", "/predict") not in world.requests


def test_through_the_api_server_wrong_numbers_and_app_errors_are_told_as_well(world: World) -> None:
    assert world.service
    world.service["spec"]["type"] = "ClusterIP"
    world.apps["a"] = world.apps["b"] = app("a", status=422)
    assert "golden pair 1 was answered with 422" in run(world)["msg"]
    world.apps["a"] = world.apps["b"] = app("a", wrong=True)
    assert "expected 0, received 2" in run(world)["msg"]
    world.apps["a"] = world.apps["b"] = app("a", ready=503)
    assert "/ready answered 503" in run(world, wait_timeout=1)["msg"]


def test_a_service_without_endpoints_is_not_yet(world: World) -> None:
    assert world.service
    world.service["spec"]["type"], world.in_front = "ClusterIP", []
    assert "no endpoints available" in run(world, wait_timeout=1)["msg"]


def test_without_services_proxy_a_cluster_address_cannot_be_asked(world: World) -> None:
    assert world.service
    world.service["spec"]["type"], world.forbidden = "ClusterIP", {"services/proxy"}
    result = run(world)
    assert world.naps == [] and "Grant get and create on services/proxy" in result["msg"]


def test_an_external_name_has_no_pods(world: World) -> None:
    assert world.service
    world.service["spec"] = {"type": "ExternalName", "externalName": "example.org"}
    assert "is of type ExternalName" in run(world)["msg"] and world.naps == []


def test_a_port_that_the_service_lacks_is_final(world: World) -> None:
    assert (
        "Service inference-api has no port grpc (it has: http)" in run(world, port="grpc")["msg"] and world.naps == []
    )


def test_several_addresses_take_turns_until_one_serves(world: World) -> None:
    assert world.service
    # Nothing listens on the first one: the load balancer is bound to 127.0.0.1 only.
    world.service["status"]["loadBalancer"]["ingress"] = [{"ip": "127.0.0.2"}, {"hostname": "localhost"}]
    result = run(world)
    assert result["ok"] and result["address"] == f"http://localhost:{world.balancer.port}"
    assert "Connection refused" in result["last_error"]


def test_pods_that_the_autoscaler_adds_meanwhile_must_answer_too(world: World) -> None:
    def scale(method: str, path: str) -> None:
        if path.endswith("horizontalpodautoscalers") and "c" not in world.pods:
            world.add_pod("c")

    world.add_hpa()
    world.on_request, world.in_front = scale, ["a", "b"]
    result = run(world, autoscaler="warn")
    assert result["ok"] and result["attempts"] == 2
    assert [(pod["name"], pod["via"]) for pod in result["pods"]] == [("a", "pod"), ("b", "pod"), ("c", "pod")]
    assert result["last_error"] == "these pods have become ready meanwhile: c"


def test_a_new_pod_may_answer_before_it_was_listed(world: World) -> None:
    world.on_request = lambda method, path: world.add_pod("c") if path == "/predict" and "c" not in world.pods else None
    result = run(world)
    assert result["ok"] and result["attempts"] == 1 and [pod["name"] for pod in result["pods"]] == ["a", "b", "c"]


def test_pods_that_go_meanwhile_are_not_waited_for(world: World) -> None:
    world.forbidden, world.in_front = {"pods/proxy"}, ["a"]
    world.on_sleep[2] = lambda: world.terminate("b")
    result = run(world)
    assert result["ok"] and [pod["name"] for pod in result["pods"]] == ["a"]


def test_an_autoscaler_that_measures_is_reported(world: World) -> None:
    world.add_hpa(measured=0)
    result = run(world, autoscaler="require")
    assert result["ok"] and result["notes"] == []
    assert result["autoscaler"]["metrics"] == [{"name": "cpu", "current": 0, "target": 70}]
    assert result["autoscaler"]["replicas"] == {"min": 2, "max": 5, "current": 2, "desired": 2}
    assert check(result, "autoscaler")["detail"] == "inference-api scales on cpu 0 of 70"


MISSING_REQUEST = "failed to get cpu utilization: missing request for cpu in container api of Pod a"


def test_an_autoscaler_that_does_not_measure_is_a_warning(world: World) -> None:
    world.add_hpa(measured=None, reason="FailedGetResourceMetric", message=MISSING_REQUEST)
    result = run(world, autoscaler="warn")
    assert result["ok"] and world.naps == []
    assert MISSING_REQUEST in result["notes"][0] and "Set resources.requests" in result["notes"][0]
    assert (check(result, "autoscaler")["ok"], check(result, "autoscaler")["required"]) == (False, False)


def test_a_required_autoscaler_is_waited_for(world: World) -> None:
    world.add_hpa(measured=None, reason="FailedGetResourceMetric", message="no metrics returned")
    world.on_sleep[5] = world.add_hpa
    result = run(world, autoscaler="require")
    assert result["ok"] and result["attempts"] == 6 and result["latencies"]["count"] == 20


def test_a_required_autoscaler_that_never_measures_fails_with_the_reason(world: World) -> None:
    world.add_hpa(measured=None, reason="FailedGetResourceMetric", message=MISSING_REQUEST)
    result = run(world, autoscaler="require", wait_timeout=20)
    assert not result["ok"] and result["elapsed"] == 20
    assert f"FailedGetResourceMetric: {MISSING_REQUEST}. Set resources.requests" in result["msg"]
    assert all(pod["ok"] for pod in result["pods"])


def test_no_autoscaler_fails_only_where_it_is_required(world: World) -> None:
    assert run(world, autoscaler="warn")["notes"] == []
    result = run(world, autoscaler="require")
    assert not result["ok"] and world.naps == [] and "no HorizontalPodAutoscaler targets" in result["msg"]


def test_an_autoscaler_that_may_not_be_read_is_a_warning(world: World) -> None:
    world.forbidden = {"horizontalpodautoscalers"}
    result = run(world, autoscaler="warn")
    assert result["ok"] and "cannot be read" in result["notes"][0]
    assert not run(world, autoscaler="require")["ok"]


def slow(world: World, rounds: int) -> Callable[[str, str], None]:
    """Each prediction at the address takes 0.1 s, until so many rounds of measuring are over."""
    measured = iter(range(rounds * 20 + 3 * rounds))

    def tick(method: str, path: str) -> None:
        if path == "/predict" and next(measured, None) is not None:
            world.clock.now += 0.1

    return tick


def test_latency_above_the_limit_fails_after_three_rounds(world: World) -> None:
    world.on_request = slow(world, 100)
    result = run(world, max_p95_ms=50)
    assert "p95 over 20 requests is 100.0 ms, max_p95_ms is 50 ms, in each of 3 rounds" in result["msg"]
    assert result["attempts"] == 3 and result["latencies"] == {"p50": 100.0, "p95": 100.0, "count": 20}


def test_a_slow_first_round_is_a_cold_start(world: World) -> None:
    world.on_request = slow(world, 1)
    result = run(world, max_p95_ms=50)
    assert result["ok"] and result["attempts"] == 2 and result["latencies"]["p95"] == 0.0


def test_latency_without_a_limit_is_only_reported(world: World) -> None:
    world.on_request = slow(world, 100)
    result = run(world)
    assert result["ok"] and result["latencies"]["p95"] == 100.0


def test_the_deadline_holds_while_requests_succeed(world: World) -> None:
    world.on_request = slow(world, 100)
    result = run(world, wait_timeout=1)
    assert not result["ok"] and result["elapsed"] <= 1.1
    assert "the deadline passed during the check latency" in result["msg"]


def test_no_request_may_outlast_the_deadline(world: World) -> None:
    seen = []

    def silent(method: str, url: str, *, body: Any = None, timeout: float) -> Any:
        seen.append((world.clock.now + timeout, timeout))
        world.clock.now += timeout
        raise Unreachable(f"{method} {url}: no answer within {timeout} s")

    result = run(world, fetch=silent, wait_timeout=25)
    assert result["elapsed"] == 25 and max(end for end, _ in seen) == 1025 and max(time for _, time in seen) == 10


def test_check_mode_does_not_wait_for_what_is_not_there_yet(world: World) -> None:
    assert run(world, check_mode=True)["ok"]
    world.deployment = None
    result = run(world, check_mode=True)
    assert (result["ok"], result["checked"], world.naps) == (False, False, [])
    assert result["msg"].startswith("Not checked in check mode: Deployment inference-api does not exist")


@pytest.mark.parametrize("what", ["services", "pods", "replicasets", "deployments"])
def test_a_missing_permission_is_final(world: World, what: str) -> None:
    world.forbidden = {what}
    result = run(world)
    assert not result["ok"] and world.naps == []
    assert "403" in result["msg"] and "Give the user that the message names this permission" in result["msg"]


def test_an_api_server_that_never_answered_is_final(world: World) -> None:
    world.api.close()
    result = run(world)
    assert world.naps == [] and "did not answer" in result["msg"]


def test_an_api_server_that_answered_before_is_waited_for(world: World) -> None:
    world.in_front = []
    world.on_sleep[1] = world.api.close
    result = run(world, wait_timeout=3)
    assert result["elapsed"] == 3 and "did not answer" in result["last_error"]


def test_an_api_server_in_trouble_is_waited_for(world: World) -> None:
    world.broken = {"services", "replicasets"}
    world.on_sleep[1] = lambda: world.broken.discard("services")
    world.on_sleep[3] = world.broken.clear
    result = run(world)
    assert result["ok"] and result["attempts"] == 4 and "500 InternalError" in result["last_error"]


def test_a_pod_that_answers_with_a_server_error_is_asked_again(world: World) -> None:
    world.in_front, world.apps["b"] = ["a"], app("b", status=500)
    world.on_sleep[1] = lambda: world.apps.update(b=app("b"))
    result = run(world)
    assert result["ok"] and "b (pod b answered 500" in result["last_error"] and result["pods"][1]["via"] == "pod"


def test_checks_tell_of_the_last_attempt_only(world: World) -> None:
    world.add_hpa(measured=None)
    world.on_sleep[1] = lambda: world.apps.update({name: app(name, ready=503) for name in "ab"})
    result = run(world, autoscaler="require", wait_timeout=3)
    assert not check(result, "ready")["ok"]
    assert [check(result, name)["detail"] for name in ("predict", "autoscaler", "latency")] == ["not reached"] * 3


def test_one_attempt_is_one_request_also_through_the_api_server(world: World) -> None:
    assert world.service
    world.service["spec"]["type"] = "ClusterIP"
    world.apps["a"] = world.apps["b"] = app("a", ready=503)
    result = run(world, wait_timeout=3)
    assert len([path for _, path in world.requests if path.endswith("/proxy/ready")]) == result["attempts"]


def test_progress_is_told_before_every_request_and_may_stop_the_gate(world: World) -> None:
    told: list[dict[str, Any]] = []
    run(world, on_progress=told.append)
    assert len(told) == len(world.requests) and set(told[0]) == {"attempts", "elapsed", "last_error"}

    def lost(_progress: dict[str, Any]) -> None:
        raise InferenceError("The lock was lost")

    with pytest.raises(InferenceError, match="lock was lost"):
        run(world, on_progress=lost)


def test_settings_that_cannot_be_are_a_result_like_any_other(world: World) -> None:
    result = run(world, tolerance=-1)
    assert not result["ok"] and result["attempts"] == 0 and result["msg"].startswith("tolerance is -1.")
    assert result["last_error"] == "tolerance is -1" and check(result, "service")["detail"] == "not reached"
    assert world.requests == []


def test_altered_golden_predictions_fail_with_both_numbers(world: World) -> None:
    golden = copy.deepcopy(GOLDEN)
    golden["pairs"][2]["response"]["probabilities"][0][2] = 0.5  # type: ignore[index]
    assert "golden pair 3: probabilities[0][2] expected 0.5, received 0.03" in run(world, golden=golden)["msg"]


# fetch


def listening(host: str = "127.0.0.1", family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    """Gives up by itself, so that a failing test does not wait for the client that never came."""
    listener = socket.create_server((host, 0), family=family)
    listener.settimeout(10)
    return listener


@pytest.fixture
def raw() -> Iterator[Callable[[bytes, bool], str]]:
    """Serves one connection with these bytes; then closes it, or keeps it open until the test is over."""
    over = threading.Event()
    listener = listening()
    threads = []

    def serve(data: bytes, hold: bool = False) -> str:
        def one() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(data)
                if hold:
                    over.wait(10)

        threads.append(threading.Thread(target=one))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/predict"

    yield serve
    over.set()
    for thread in threads:
        thread.join()
    listener.close()


def test_fetch_gives_status_headers_and_json(world: World) -> None:
    request = GOLDEN["pairs"][1]["request"]  # type: ignore[index]
    answer = probe.fetch("POST", f"{world.balancer.url}/predict", body=request, timeout=5)
    assert answer.status == 200 and answer.headers.get("x-pod-name") == "a" and answer.body["predictions"] == [1]


def test_fetch_ignores_the_environments_proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert probe.fetch("GET", f"{world.balancer.url}/health", timeout=5).status == 200


def test_fetch_follows_no_redirect(raw: Callable[..., str]) -> None:
    url = raw(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 2\r\n\r\nno")
    assert probe.fetch("GET", url, timeout=5)[::2] == (302, "no")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "closed connection"),
        (b"SSH-2.0-OpenSSH_9\r\n", "SSH-2.0"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "IncompleteRead"),
    ],
)
def test_fetch_tells_what_is_no_answer(raw: Callable[..., str], data: bytes, words: str) -> None:
    with pytest.raises(Unreachable, match=words):
        probe.fetch("GET", raw(data), timeout=5)


def test_fetch_bounds_the_whole_request(raw: Callable[..., str]) -> None:
    # Half an answer on a connection that stays open.
    url = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", True)
    with pytest.raises(Unreachable, match=r"no answer within 0\.2 s"):
        probe.fetch("GET", url, timeout=0.2)


def test_fetch_bounds_an_answer_that_drips() -> None:
    with listening() as listener:
        over = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n")
                try:
                    while not over.wait(0.05):
                        connection.sendall(b"x")
                except OSError:
                    over.set()

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(Unreachable, match=r"no answer within 0\.3 s"):
                probe.fetch("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.3)
            # The connection was given up, not left to drip on.
            assert over.wait(5)
        finally:
            over.set()
            thread.join()


def test_fetch_bounds_the_size_of_an_answer(raw: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MAX_ANSWER", 10)
    with pytest.raises(Unreachable, match="longer than 10 bytes"):
        probe.fetch("GET", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"), timeout=5)


def test_fetch_speaks_to_ipv6() -> None:
    try:
        listener = listening("::1", socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=_answer_once, args=(listener,))
        thread.start()
        try:
            assert probe.fetch("GET", f"http://[::1]:{port}/health", timeout=5).status == 204
        finally:
            thread.join()


def _answer_once(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server on loopback that speaks TLS once, and the certificate that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with listening() as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(65536)
                wrapped.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/health", path
        thread.join()


def test_fetch_trusts_a_certificate_that_is_vouched_for(tls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, certificate = tls
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert probe.fetch("GET", url, timeout=5).status == 204


def test_fetch_trusts_no_other_certificate(tls: Any) -> None:
    with pytest.raises(Unreachable, match="certificate verify failed"):
        probe.fetch("GET", tls[0], timeout=5)


# golden files


def test_a_golden_file_is_read(tmp_path: Any) -> None:
    path = tmp_path / "golden.json"
    path.write_text(json.dumps(GOLDEN))
    assert probe.prepare({"golden": str(path)})["golden"] == GOLDEN
    assert probe.prepare({"golden": GOLDEN})["golden"] == GOLDEN


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "is not JSON"),
        ("\udcff", "is not JSON"),
        ("{}", "holds no golden pairs"),
        ('{"pairs": [{"request": {"features": []}}]}', "golden pair 1 has no response"),
    ],
)
def test_a_golden_file_that_cannot_be_used_is_named_with_the_remedy(tmp_path: Any, content: Any, words: str) -> None:
    path = tmp_path / "golden.json"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InferenceError, match=words) as caught:
        probe.prepare({"golden": str(path)})
    assert str(path) in str(caught.value) and "python -m inference_app.train" in str(caught.value)
    assert "\n" not in str(caught.value)
