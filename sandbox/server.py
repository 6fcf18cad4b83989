"""The sandbox's one process: the API over TLS, the controllers and the kubelet on one asyncio loop."""

from __future__ import annotations

import asyncio
import base64
import importlib
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

from sandbox import certificates, processes
from sandbox.addresses import Block
from sandbox.api.http import make_asgi
from sandbox.api.machinery import Api
from sandbox.autoscaler import Autoscaler
from sandbox.config import CHECKOUT, Config
from sandbox.controller import stamp
from sandbox.deployments import Deployments
from sandbox.endpoints import Budgets, Endpoints
from sandbox.kubelet import Kubelet
from sandbox.loadbalancer import Services
from sandbox.replicasets import ReplicaSets
from sandbox.scheduler import Scheduler

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


def kubeconfig(url: str, ca_pem: str, token: str) -> str:
    """As JSON, which every reader of YAML takes."""
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode()}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sandbox", "cluster": cluster}],
            "users": [{"name": "sandbox", "user": {"token": token}}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox"}}],
            "current-context": "sandbox",
        },
        indent=2,
    )


def write_private(path: Path, text: str) -> None:
    """Replace a file whole, readable by nobody else at any moment."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)


def add_nodes(api: Api, config: Config, address: str) -> None:
    for row in config.nodes:
        name = row["name"]
        room = {key: str(value) for key, value in row.items() if key != "name"}
        now = stamp(api.clock())
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now,
                 "reason": "KubeletReady", "message": "kubelet is posting ready status"}  # fmt: skip
        info = dict.fromkeys(("machineID", "systemUUID", "bootID", "kubeProxyVersion"), "")
        info |= {"kernelVersion": os.uname().release, "osImage": "Linux", "containerRuntimeVersion": "processes://1",
                 "kubeletVersion": "v1.36.2", "operatingSystem": "linux",
                 "architecture": os.uname().machine}  # fmt: skip
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": "sandbox"}
        node = {
            "metadata": {"name": name, "labels": labels},
            "spec": {},
            "status": {"capacity": room, "allocatable": room, "conditions": [ready], "nodeInfo": info,
                       "addresses": [{"type": "InternalIP", "address": address}]},
        }  # fmt: skip
        api.create("Node", node, manager="kubelet")


def google_side(kubernetes: App, url: str, ca_pem: str) -> Any:
    """Google's side of the cluster, if that package is here; else None."""
    if importlib.util.find_spec("sandbox.google") is None:
        return None
    return importlib.import_module("sandbox.google").Google(kubernetes, url, ca_pem)


class Server:
    """Everything that one sandbox runs."""

    def __init__(self, state: Path, config: Config, port: int) -> None:
        self._state, self._config = state, config
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        # asyncio sets this only on sockets that name their protocol; without it each answer waits 40 ms for an ACK
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = self._socket.getsockname()[1]
        self._last_request = self._started = time.monotonic()
        self._mark = uuid.uuid4().hex
        self._token = secrets.token_urlsafe(32)
        self._google: App | None = None

    async def run(self) -> None:
        watchdog = subprocess.Popen(  # noqa: S603 - our own file; it takes no time to start
            [sys.executable, "-S", "-E", processes.__file__, self._mark], stdin=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            await self._serve()
        finally:
            assert watchdog.stdin is not None
            watchdog.stdin.close()  # it kills what is left of the pods
            watchdog.wait()

    async def _serve(self) -> None:
        url = f"https://127.0.0.1:{self._port}"
        ca_pem, certificate, key = certificates.make(self._state)
        block = Block(zlib.crc32(str(self._state).encode()))
        api = Api()
        api.ca_pem = ca_pem
        api.cluster_address = lambda: block.take("cluster")
        add_nodes(api, self._config, block.node)
        kubelet = Kubelet(api, self._config, block, self._state / "pods", self._mark, self._port)
        api.runtime = kubelet
        autoscaler = Autoscaler(api, kubelet.meter, self._config.autoscaler_seconds)
        kubernetes = make_asgi(api, admin_token=self._token, audit_path=self._state / "audit.jsonl")
        google = google_side(kubernetes, url, ca_pem)
        self._google = google and google.app
        app = self._counting(kubernetes)
        server = uvicorn.Server(
            uvicorn.Config(
                app, loop="asyncio", lifespan="off", log_config=None, access_log=False, timeout_keep_alive=75,
                ssl_certfile=str(certificate), ssl_keyfile=str(key), timeout_graceful_shutdown=0,
            )
        )  # fmt: skip
        parts = (Scheduler(api), ReplicaSets(api), Deployments(api), Endpoints(api), Budgets(api), Services(api, block))
        tasks = [asyncio.create_task(part.run()) for part in (*parts, kubelet, kubelet.meter, autoscaler)]
        tasks += [asyncio.create_task(self._announce(server, url, ca_pem)), asyncio.create_task(self._expire(server))]
        if google:
            google.write(self._state / "google")
            tasks.append(asyncio.create_task(google.serve()))
        try:
            await server.serve(sockets=[self._socket])
        finally:
            for task in tasks:
                task.cancel()
            block.close()

    def _counting(self, kubernetes: App) -> App:
        async def app(scope: Scope, receive: Any, send: Any) -> None:
            self._last_request = time.monotonic()
            path: str = scope.get("path", "")
            if self._google and path.startswith("/google/"):
                scope = {**scope, "path": path.removeprefix("/google"), "root_path": ""}
                await self._google(scope, receive, send)
            else:
                await kubernetes(scope, receive, send)

        return app

    async def _announce(self, server: uvicorn.Server, url: str, ca_pem: str) -> None:
        """Write where the server is once it answers."""
        while not server.started:
            await asyncio.sleep(0.01)
        write_private(self._state / "kubeconfig", kubeconfig(url, ca_pem, self._token))
        record = {"pid": os.getpid(), "started": processes.started(os.getpid()), "mark": self._mark, "url": url}
        write_private(self._state / "server.json", json.dumps(record))

    async def _expire(self, server: uvicorn.Server) -> None:
        while not server.should_exit:
            idle, life = self._config.idle_seconds, self._config.lifetime_seconds
            await asyncio.sleep(min(10.0, idle, life))
            now = time.monotonic()
            server.should_exit |= now - self._last_request > idle or now - self._started > life


def main(state: Path, config: Config, port: int) -> None:
    os.chdir(CHECKOUT)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(Server(state, config, port).run())
