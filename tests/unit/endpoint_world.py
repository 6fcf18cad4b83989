"""A stand-in for a cluster with one endpoint: an API server and a load balancer, as real HTTP servers on loopback.

Time is the test's own: the clock moves only when somebody sleeps, and on_sleep changes the world meanwhile.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SHA = "a" * 64
NAMESPACE = "ml-inference"
GOLDEN = {
    "model": {"name": "wine", "version": "1", "sha256": SHA},
    "pairs": [
        {
            "request": {"features": [[float(number)] * 13]},
            "response": {
                "predictions": [number],
                "class_names": [f"class_{number}"],
                "probabilities": [[0.04 + number / 100, 0.9300000123, 0.03]],
            },
        }
        for number in range(3)
    ],
}
Reply = tuple[int, dict[str, str], Any]
App = Callable[[str, str, Any], Reply | None]


def app(name: str | None, sha: str | None = SHA, wrong: bool = False, ready: int = 200, status: int = 200) -> App:
    """An inference app as one pod of it would answer; a status other than 200 is for its predictions."""

    def answer(method: str, path: str, body: Any) -> Reply:
        headers = {"X-Pod-Name": name, "X-Model-Sha256": sha}
        headers = {key: value for key, value in headers.items() if value}
        if path == "/health":
            return 200, headers, {"status": "ok"}
        if path == "/ready":
            return ready, headers, {"ready": ready == 200}
        if status != 200:
            return status, headers, {"detail": "features: 13 numbers are needed"}
        number = int(body["features"][0][0])
        response = json.loads(json.dumps(GOLDEN["pairs"][number]["response"]))
        if wrong:
            response["predictions"] = [2]
            response["probabilities"][0][1] = 0.12
        return 200, headers, {**response, "model_version": "1"}

    return answer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.naps: list[float] = []
        self.on_sleep: dict[int, Callable[[], None]] = {}
        self.on_request: Callable[[str, str], None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.forbidden: set[str] = set()
        self.broken: set[str] = set()
        self.apps: dict[str, App | None] = {}
        self.turn = itertools.count()
        self.in_front: list[str] | None = None  # who stands behind the load balancer, when not all ready pods do
        self.pods: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.hpas: list[dict[str, Any]] = []
        self.api = _Server(self._api)
        self.balancer = _Server(self._balance)
        labels = {"app.kubernetes.io/name": "inference-api"}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "api", "ports": [{"name": "http", "containerPort": 8080}]}]},
        }
        self.deployment: dict[str, Any] | None = {
            "metadata": {"name": "inference-api", "uid": "d1"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
        self.replica_sets = [
            {
                "metadata": {
                    "name": f"inference-api-{uid}",
                    "uid": uid,
                    "ownerReferences": [{"uid": "d1", "controller": True}],
                },
                "spec": {
                    "template": {
                        **template,
                        "metadata": {"labels": {**labels, "pod-template-hash": uid}, "annotations": annotations},
                    }
                },
            }
            for uid, annotations in (("new", {}), ("old", {"inference.deepmlhub.io/config-sha256": "0"}))
        ]
        self.service: dict[str, Any] | None = {
            "metadata": {"name": "inference-api"},
            "spec": {
                "type": "LoadBalancer",
                "ports": [{"name": "http", "port": self.balancer.port, "targetPort": "http"}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}},
        }
        self.add_pod("a")
        self.add_pod("b")

    def close(self) -> None:
        self.api.close()
        self.balancer.close()

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.clock.sleep(seconds)
        self.on_sleep.get(len(self.naps), lambda: None)()

    def add_pod(self, name: str, *, owner: str = "new", ready: bool = True, behave: App | None = None) -> None:
        self.apps[name] = behave or app(name)
        self.pods[name] = {
            "metadata": {"name": name, "uid": f"uid-{name}", "ownerReferences": [{"uid": owner, "controller": True}]},
            "spec": {"containers": [{"name": "api", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
        }

    def terminate(self, name: str) -> None:
        self.pods[name]["metadata"]["deletionTimestamp"] = "2026-11-24T00:00:00Z"

    def add_hpa(self, *, measured: int | None = 7, reason: str = "ValidMetricFound", message: str = "fine") -> None:
        current = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": measured}}}]
        target = {"type": "Utilization", "averageUtilization": 70}
        self.hpas = [
            {
                "metadata": {"name": "inference-api"},
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "inference-api"},
                    "minReplicas": 2,
                    "maxReplicas": 5,
                    "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
                },
                "status": {
                    "currentReplicas": 2,
                    "desiredReplicas": 2,
                    "currentMetrics": [{"type": ""}] if measured is None else current,
                    "conditions": [
                        {
                            "type": "ScalingActive",
                            "status": "False" if measured is None else "True",
                            "reason": reason,
                            "message": message,
                        }
                    ],
                },
            }
        ]

    def _serving(self) -> list[str]:
        if self.in_front is not None:
            return self.in_front
        return [
            name
            for name, pod in self.pods.items()
            if pod["status"]["conditions"][0]["status"] == "True" and not pod["metadata"].get("deletionTimestamp")
        ]

    def _balance(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Reply | None:
        self.requests.append((method, path))
        self.on_request(method, path)
        names = self._serving()
        behave = self.apps[names[next(self.turn) % len(names)]] if names else None
        return behave(method, path, body) if behave else None

    def _api(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Reply:
        self.requests.append((method, path))
        self.on_request(method, path)
        found = re.fullmatch(rf"/api/v1/namespaces/{NAMESPACE}/(services|pods)/http:([^:]+):([^/]+)/proxy(/.*)", path)
        if found:
            return self._proxy(method, found[1], found[2], found[3], found[4], body)
        lists = {
            f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets": self.replica_sets,
            f"/api/v1/namespaces/{NAMESPACE}/pods": list(self.pods.values()),
            f"/api/v1/namespaces/{NAMESPACE}/events": self.events,
            f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers": self.hpas,
        }
        objects = {
            f"/api/v1/namespaces/{NAMESPACE}/services/inference-api": self.service,
            f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/inference-api": self.deployment,
        }
        kinds = set(path.split("/")[-2:])
        if kinds & self.broken:
            return _status(500, "InternalError", "etcdserver: leader changed")
        if kinds & self.forbidden:
            return _status(403, "Forbidden", f"{path} is forbidden")
        if path in lists:
            if path.split("/")[-1] in ("replicasets", "pods"):
                assert query["labelSelector"] == ["app.kubernetes.io/name=inference-api"]
            return 200, {}, {"items": lists[path]}
        if objects.get(path):
            return 200, {}, objects[path]
        return _status(404, "NotFound", f'"{path.split("/")[-1]}" not found')

    def _proxy(self, method: str, kind: str, name: str, port: str, path: str, body: Any) -> Reply:
        if f"{kind}/proxy" in self.forbidden:
            return _status(403, "Forbidden", f"{kind}/proxy is forbidden")
        if kind == "services":
            assert port == "http", port
            names = self._serving()
            if not names:
                return _status(503, "ServiceUnavailable", 'no endpoints available for service "inference-api"')
            name = names[next(self.turn) % len(names)]
        elif name not in self.pods:
            return _status(404, "NotFound", f'pods "{name}" not found')
        else:
            assert port == "8080", port  # the API server looks no names of pods' ports up
        behave = self.apps[name]
        if behave is None:
            return _status(503, "ServiceUnavailable", "error trying to reach service: dial tcp: connection refused")
        answer = behave(method, path, body)
        assert answer
        return answer


def _status(code: int, reason: str, message: str) -> Reply:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return code, {}, body


class _Server:
    """Hands each request to a function; an answer of None closes the connection without a word."""

    def __init__(self, answer: Callable[[str, str, dict[str, list[str]], Any], Reply | None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                parts = urlsplit(self.path)
                said = answer(self.command, parts.path, parse_qs(parts.query), body)
                if said is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers, content = said
                data = json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
