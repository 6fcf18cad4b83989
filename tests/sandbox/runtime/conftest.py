"""A sandbox of its own for these tests: the real command, real processes, real HTTPS."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CONFIG = {
    "images": [
        {"image": "python:3.11-slim", "command": ["{python}"], "env": {"POD_IP": "{pod_ip}"}},
        {"image": "sleeper:1", "command": ["sleep"], "args": ["600"]},
    ],
    "autoscaler_seconds": 1,
    "metrics_seconds": 1,
}
_PATHS = {
    "Namespace": "/api/v1/namespaces",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Event": "/api/v1/namespaces/{}/events",
    "Service": "/api/v1/namespaces/{}/services",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "Node": "/api/v1/nodes",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "PodMetrics": "/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods",
}


def command(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments, "--state-dir", str(state)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def wait_for(what: Callable[[], Any], timeout: float = 20) -> Any:
    """The first true result; an assertion error with the last one when it takes too long."""
    deadline = time.monotonic() + timeout
    while True:
        if found := what():
            return found
        assert time.monotonic() < deadline, f"waited {timeout} s; last: {found!r}"
        time.sleep(0.05)


class Client:
    """Plain HTTPS to the sandbox's API."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self.url, self.token = cluster["server"], config["users"][0]["user"]["token"]
        self.tls = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())

    def open(self, method: str, path: str, body: Any = None, kind: str = "application/json", timeout: int = 20) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        return urllib.request.urlopen(request, context=self.tls, timeout=timeout)

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        with self.open(method, path, body, kind) as answer:
            return json.load(answer)

    def path(self, kind: str, namespace: str = "", name: str = "") -> str:
        return _PATHS[kind].format(namespace) + (f"/{name}" if name else "")

    def create(self, kind: str, namespace: str, obj: dict[str, Any]) -> Any:
        return self.request("POST", self.path(kind, namespace), obj)

    def namespace(self, name: str, **labels: str) -> str:
        self.create("Namespace", "", {"metadata": {"name": name, "labels": labels}})
        return name

    def get(self, kind: str, namespace: str, name: str) -> Any:
        try:
            return self.request("GET", self.path(kind, namespace, name))
        except urllib.error.HTTPError as error:
            assert error.code == 404
            return None

    def list(self, kind: str, namespace: str) -> list[Any]:
        return self.request("GET", self.path(kind, namespace))["items"]

    def patch(self, kind: str, namespace: str, name: str, patch: Any) -> Any:
        return self.request("PATCH", self.path(kind, namespace, name), patch, "application/merge-patch+json")

    def delete(self, kind: str, namespace: str, name: str) -> None:
        self.request("DELETE", self.path(kind, namespace, name))

    def text(self, path: str) -> str:
        with self.open("GET", path) as answer:
            return answer.read().decode()

    def pods(self, namespace: str) -> list[Any]:
        return self.list("Pod", namespace)

    def events(self, namespace: str, reason: str) -> list[Any]:
        return [event for event in self.list("Event", namespace) if event["reason"] == reason]


class Recording:
    """Everything that changes in the cluster from now on, in order of arrival."""

    def __init__(self, client: Client) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []
        for plural, base in (("pods", "api/v1"), ("events", "api/v1"), ("deployments", "apis/apps/v1"),
                             ("replicasets", "apis/apps/v1")):  # fmt: skip
            stream = client.open("GET", f"/{base}/{plural}?watch=1&resourceVersion=0", timeout=120)
            threading.Thread(target=self._read, args=(plural, stream), daemon=True).start()

    def _read(self, plural: str, stream: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # the server goes at the end
            for line in stream:
                event = json.loads(line)
                self.lines.append((plural, event["type"], event["object"]))


@contextlib.contextmanager
def running(directory: Path, **config: Any) -> Iterator[Client]:
    """A sandbox in this directory, taken down at the end."""
    state, file = directory / "state", directory / "config.yml"
    file.write_text(yaml.safe_dump(CONFIG | config))
    try:
        done = command(state, "up", "--config", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
        yield Client(state / "kubeconfig")
    finally:
        command(state, "down")


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running(tmp_path_factory.mktemp("sandbox")) as client:
        yield client
        log = (client.kubeconfig.parent / "server.log").read_text()
        assert not any(word in log for word in ("Traceback", "never awaited", "was destroyed")), log


def pod(image: str = "sleeper:1", **container: Any) -> dict[str, Any]:
    """A pod's spec with one container, `api`."""
    return {"terminationGracePeriodSeconds": 1, "containers": [{"name": "api", "image": image, **container}]}


def deployment(name: str, replicas: int, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **more},
    }


SERVE = """
import http.server, os, signal, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = (os.environ.get("VERSION", "1") + " " + os.environ.get("NAME", "")).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer((os.environ["POD_IP"], 8000), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("serving", flush=True)
server.serve_forever()
"""


def web(**container: Any) -> dict[str, Any]:
    """A pod's spec whose container answers HTTP on port 8000 with VERSION and its pod's name."""
    env = [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, *container.pop("env", [])]
    ports = [{"name": "http", "containerPort": 8000}]
    ready = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    return pod("python:3.11-slim", args=["-c", SERVE], env=env, ports=ports, readinessProbe=ready, **container)
