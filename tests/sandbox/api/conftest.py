"""A real server on loopback for each test module: uvicorn in a thread, a free port, gone at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn

from sandbox.api.http import make_asgi
from sandbox.api.machinery import Api

T = TypeVar("T")
ADMIN_TOKEN = "admin-token-of-the-tests"


@dataclass
class Cluster:
    """An HTTP client with the admin's token, the store behind it, and a way onto the store's loop."""

    http: httpx.Client
    api: Api
    url: str
    audit: Path
    _loop: asyncio.AbstractEventLoop

    def on_loop(self, act: Callable[[], T]) -> T:
        async def run() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def client(self, token: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers={"User-Agent": "python-requests/2", **headers}, timeout=20)

    def make(self, path: str, body: dict[str, Any], **query: str) -> dict[str, Any]:
        answer = self.http.post(path, json=body, params=query)
        assert answer.status_code == 201, answer.text
        return answer.json()


@contextmanager
def serve(tmp_path: Path, **settings: Any) -> Iterator[Cluster]:
    api = Api(**settings)
    audit = tmp_path / "audit.jsonl"
    app = make_asgi(api, admin_token=ADMIN_TOKEN, audit_path=audit)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
    )
    started = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        serving = asyncio.ensure_future(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        started.set()
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(20)
    port = server.servers[0].sockets[0].getsockname()[1]
    cluster = Cluster(httpx.Client(), api, f"http://127.0.0.1:{port}", audit, loops[0])
    cluster.http = cluster.client(ADMIN_TOKEN)
    try:
        yield cluster
    finally:
        cluster.http.close()
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with serve(tmp_path) as found:
        yield found


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    cluster.make("/api/v1/namespaces", {"metadata": {"name": "work"}})
    return "work"
