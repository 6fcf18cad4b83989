"""Startup, readiness and liveness probes: what passes, what fails, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.bodies import SERVE, SLEEP, condition, container, is_true, pod, seconds, status_of
from tests.contract.client import Obj, until
from tests.contract.space import Space

# A server whose answer to /switch is 500 until one asks for /on, and again after /off.
_SWITCH = SERVE.replace(
    'if self.path.startswith("/status/"):',
    'global on\n        on = {"/on": True, "/off": False}.get(self.path, on)\n'
    '        if self.path == "/switch" and not on:\n            self.send_response(500)\n'
    '        elif self.path.startswith("/status/"):',
).replace("class Handler", "on = False\nclass Handler")

_CLOSED = {"tcpSocket": {"port": 9}}


def _http(path: str, **more: Any) -> Obj:
    return {"httpGet": {"path": path, "port": 8080}, "periodSeconds": 1, **more}


def _server(**probes: Obj) -> Obj:
    return container(_SWITCH, ports=[{"name": "http", "containerPort": 8080}], **probes)


def _ask(ns: Space, path: str) -> None:
    """Through the API server, so that it works from anywhere."""
    ns.api.get(ns.path("pods", "p:8080", "proxy") + path)


def _ready(found: Obj) -> bool:
    return is_true(found, "Ready")


def _unready(found: Obj) -> bool:
    return condition(found, "Ready").get("status") == "False"


def _restarted(found: Obj) -> bool:
    return bool(status_of(found).get("restartCount"))


@pytest.mark.parametrize(
    "probe",
    [
        _http("/status/200"),
        _http("/status/399"),
        {"httpGet": {"path": "/", "port": "http", "httpHeaders": [{"name": "X-Contract", "value": "1"}]}},
        {"tcpSocket": {"port": 8080}},
        {"tcpSocket": {"port": "http"}},
        {"exec": {"command": ["python", "-c", "pass"]}, "timeoutSeconds": 10},
    ],
    ids=["200", "399", "port by name", "TCP", "TCP by name", "command"],
)
def test_a_probe_that_passes_makes_ready(podns: Space, probe: Obj) -> None:
    podns.make("pods", pod("p", _server(readinessProbe=probe)))
    podns.pod_when("p", "is ready", _ready)


@pytest.mark.parametrize(
    ("probe", "text"),
    [
        (_http("/status/400"), "Readiness probe failed: HTTP probe failed with statuscode: 400"),
        (_http("/status/503"), "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        ({**_CLOSED, "periodSeconds": 1}, "connect: connection refused"),
        ({"exec": {"command": ["python", "-c", "print('not yet'); exit(1)"]}, "timeoutSeconds": 10, "periodSeconds": 2},
         "Readiness probe failed: not yet"),
    ],
    ids=["400", "503", "TCP", "command"],
)  # fmt: skip
def test_a_readiness_probe_that_fails_keeps_out_of_service(podns: Space, probe: Obj, text: str) -> None:
    podns.make("pods", pod("p", _server(readinessProbe=probe)))
    podns.logged("p", "serving")
    event = podns.event("p", "Unhealthy")
    assert event["type"] == "Warning"
    until(f"an event says {text}", lambda: any(text in e["message"] for e in podns.events("p", "Unhealthy")))
    found = podns.get("pods", "p")
    assert not status_of(found)["ready"]
    assert condition(found, "Ready")["reason"] == "ContainersNotReady"
    assert condition(found, "ContainersReady")["message"] == "containers with unready status: [main]"
    assert status_of(found)["restartCount"] == 0
    assert found["status"]["phase"] == "Running"


def test_readiness_comes_and_goes_without_a_restart(podns: Space) -> None:
    podns.make("pods", pod("p", _server(readinessProbe=_http("/switch", failureThreshold=1))))
    podns.logged("p", "serving")
    assert _unready(podns.pod_when("p", "is not ready", _unready))
    _ask(podns, "/on")
    podns.pod_when("p", "is ready", _ready)
    _ask(podns, "/off")
    found = podns.pod_when("p", "is not ready again", _unready)
    assert status_of(found)["restartCount"] == 0


def test_a_liveness_probe_that_fails_restarts_the_container(podns: Space) -> None:
    podns.make("pods", pod("p", _server(livenessProbe=_http("/status/500", initialDelaySeconds=2))))
    found = podns.pod_when("p", "was restarted", _restarted)
    assert found["metadata"]["uid"]
    texts = [event["message"] for event in podns.events("p", "Unhealthy")]
    assert "Liveness probe failed: HTTP probe failed with statuscode: 500" in texts
    killing = podns.event("p", "Killing")
    assert killing["message"] == "Container main failed liveness probe, will be restarted"
    assert status_of(found)["lastState"]["terminated"]["exitCode"] == 0


def test_a_liveness_probe_waits_for_its_delay(podns: Space) -> None:
    probe = _http("/status/500", failureThreshold=1, initialDelaySeconds=4)
    podns.make("pods", pod("p", _server(livenessProbe=probe)))
    found = podns.pod_when("p", "was restarted", _restarted)
    ended = status_of(found)["lastState"]["terminated"]
    assert seconds(ended["finishedAt"]) - seconds(ended["startedAt"]) >= 3


def test_a_startup_probe_holds_the_others_back(podns: Space) -> None:
    main = _server(
        startupProbe=_http("/switch", failureThreshold=120), livenessProbe=_http("/status/200"),
        readinessProbe=_http("/status/200"),
    )  # fmt: skip
    podns.make("pods", pod("p", main))
    podns.logged("p", "serving")
    podns.event("p", "Unhealthy")
    found = podns.get("pods", "p")
    assert status_of(found)["started"] is False
    assert not status_of(found)["ready"]
    _ask(podns, "/on")
    found = podns.pod_when("p", "is ready", _ready)
    assert status_of(found)["started"] is True
    assert status_of(found)["restartCount"] == 0


def test_a_startup_probe_that_fails_restarts_the_container(podns: Space) -> None:
    podns.make("pods", pod("p", _server(startupProbe=_http("/status/500", failureThreshold=2))))
    podns.pod_when("p", "was restarted", _restarted)
    assert podns.event("p", "Killing")["message"] == "Container main failed startup probe, will be restarted"
    texts = [event["message"] for event in podns.events("p", "Unhealthy")]
    assert any(text.startswith("Startup probe failed: ") for text in texts)


def test_a_failing_liveness_probe_does_not_count_before_startup(podns: Space) -> None:
    main = _server(
        startupProbe=_http("/switch", failureThreshold=120), livenessProbe=_http("/status/500", failureThreshold=1)
    )
    podns.make("pods", pod("p", main))
    podns.logged("p", "serving")
    podns.event("p", "Unhealthy")
    assert status_of(podns.get("pods", "p"))["restartCount"] == 0
    _ask(podns, "/on")
    podns.pod_when("p", "was restarted", _restarted)


def test_a_container_that_is_killed_by_its_probe_has_its_grace(podns: Space) -> None:
    code = SLEEP.replace("lambda *_: os._exit(0)", "lambda *_: None")
    probe = {**_CLOSED, "periodSeconds": 1, "failureThreshold": 1}
    podns.make("pods", pod("p", container(code, livenessProbe=probe), terminationGracePeriodSeconds=2))
    found = podns.pod_when("p", "was restarted", _restarted)
    assert status_of(found)["lastState"]["terminated"]["exitCode"] == 137


def test_without_probes_running_is_ready(podns: Space) -> None:
    podns.make("pods", pod("p"))
    found = podns.pod_when("p", "is ready", _ready)
    assert status_of(found)["started"] is True


def test_a_slow_answer_fails_the_probe(podns: Space) -> None:
    code = SERVE.replace("def do_GET(self):", "def do_GET(self):\n        time.sleep(3)")
    podns.make("pods", pod("p", container(code, readinessProbe=_http("/", timeoutSeconds=1))))
    podns.logged("p", "serving")
    event = podns.event("p", "Unhealthy")
    assert "Readiness probe failed" in event["message"]
    assert not status_of(podns.get("pods", "p"))["ready"]
