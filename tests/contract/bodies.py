"""Objects that the cases send. Their pods run Python alone and are allowed in every namespace."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.contract.client import Obj
from tests.contract.space import IMAGE

# A process that is the first of its container gets no signal that it does not handle.
_TERM = "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(0))\n"
SLEEP = _TERM + "print('started', flush=True)\ntime.sleep(3600)\n"
SERVE = (
    _TERM
    + """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{os.environ['HOSTNAME_OF_POD']} {self.command} {self.path}".encode()
        if self.path.startswith("/status/"):
            self.send_response(int(self.path.split("/")[2]))
        else:
            self.send_response(200)
        length = int(self.headers.get("Content-Length") or 0)
        body += b" " + self.rfile.read(length) if length else b""
        self.send_header("X-Contract", self.headers.get("X-Contract", ""))
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer((os.environ["POD_IP"], 8080), Handler)
print("serving", flush=True)
server.serve_forever()
"""
)

SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
LABELS = {"app": "web"}


def field_env(name: str, path: str) -> Obj:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def container(code: str = SLEEP, name: str = "main", **more: Any) -> Obj:
    """A container that runs `code`; a keyword replaces a field, and `env` adds to the pod's own address and name."""
    env = [field_env("POD_IP", "status.podIP"), field_env("HOSTNAME_OF_POD", "metadata.name"), *more.pop("env", [])]
    return {
        "name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["python", "-c", code],
        "env": env, "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}, "securityContext": SAFE, **more,
    }  # fmt: skip


def pod_spec(*containers: Obj, **more: Any) -> Obj:
    return {
        "containers": list(containers) or [container()], "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False, **more,
    }  # fmt: skip


def pod(name: str, *containers: Obj, labels: Obj | None = None, **spec: Any) -> Obj:
    return {"metadata": {"name": name, "labels": labels or LABELS}, "spec": pod_spec(*containers, **spec)}


def deployment(
    name: str = "web", *containers: Obj, replicas: int | None = 0, pods: Obj | None = None, **spec: Any
) -> Obj:
    """Without pods unless `replicas` asks for them; `pods` are further fields of the pods' spec."""
    template = {"metadata": {"labels": {"app": name}}, "spec": pod_spec(*containers, **(pods or {}))}
    body = {"selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return {"metadata": {"name": name}, "spec": body if replicas is None else {"replicas": replicas, **body}}


def service(name: str = "web", **spec: Any) -> Obj:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports, **spec}}


def config(name: str = "config", labels: Obj | None = None, **data: str) -> Obj:
    return {"metadata": {"name": name, **({"labels": labels} if labels else {})}, "data": data or {"A": "1"}}


def autoscaler(name: str = "web", **spec: Any) -> Obj:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return {"metadata": {"name": name}, "spec": {"scaleTargetRef": target, "maxReplicas": 3, **spec}}


def cpu_metric(percent: int) -> Obj:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def budget(name: str = "web", **spec: Any) -> Obj:
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": name}}, **spec}}


def lease(name: str = "lock", holder: str = "a", **spec: Any) -> Obj:
    times = {"acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z"}
    return {"metadata": {"name": name}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, **times, **spec}}


# --- reading ----------------------------------------------------------------------------------------------------------


def status_of(pod: Obj, name: str = "main", part: str = "containerStatuses") -> Obj:
    """The status of one container, or {} before the kubelet has written any."""
    found = (pod.get("status") or {}).get(part) or []
    return next((status for status in found if status["name"] == name), {})


def condition(obj: Obj, kind: str) -> Obj:
    found = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in found if c["type"] == kind), {})


def is_true(obj: Obj, kind: str) -> bool:
    return condition(obj, kind).get("status") == "True"


def seconds(stamp: str) -> float:
    """A timestamp of the API as seconds since 1970; it holds no fractions."""
    return datetime.fromisoformat(stamp).timestamp()


def is_ready(pod: Obj) -> bool:
    return is_true(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]


def managers(obj: Obj) -> dict[tuple[str, str, str], Obj]:
    """(manager, operation, subresource): the fields that it owns."""
    entries = obj["metadata"].get("managedFields") or []
    return {(e["manager"], e["operation"], e.get("subresource", "")): e["fieldsV1"] for e in entries}


def causes(status: Obj) -> dict[str, str]:
    """field: what is wrong with it."""
    return {cause.get("field", ""): cause["message"] for cause in status["details"]["causes"]}
