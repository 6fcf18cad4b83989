"""Rolling restarts under keep-alive load lose no request."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from .conftest import MISSION, Process

RESTARTS = int(os.environ.get("ROLLING_RESTARTS", "4"))
CLIENTS = 4


class Balancer:
    """A TCP proxy: each new connection goes to the next server that it was told of, as a Service's does."""

    def __init__(self) -> None:
        self.targets: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        count = 0
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            targets = self.targets
            server = socket.create_connection(("127.0.0.1", targets[count % len(targets)]))
            count += 1
            thread = threading.Thread(target=self._carry, args=(client, server))
            self._threads.append(thread)
            thread.start()

    @staticmethod
    def _carry(client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            while True:
                for side in select.select([client, server], [], [])[0]:
                    data = side.recv(65536)
                    if not data:
                        return
                    (server if side is client else client).sendall(data)

    def close(self) -> None:
        # shutdown wakes accept, which close alone does not
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


class Load:
    """Clients that each send one request after another over kept connections, and never try one twice."""

    def __init__(self, url: str) -> None:
        self.answered: list[str] = []
        self.lost: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/predict", json={"features": [MISSION]})
                    answer.raise_for_status()
                    self.answered.append(answer.headers["x-pod-name"])
                except httpx.HTTPError as error:
                    self.lost.append(repr(error))

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def closing(*things: Any) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for thing in things:
            stack.callback(thing.close)
        yield


def test_no_request_is_lost(start: Callable[..., Process]) -> None:
    running = [start(POD_NAME=f"pod-{n}", DRAIN_SECONDS="1") for n in range(2)]
    for server in running:
        server.wait()
    balancer = Balancer()
    balancer.targets = [server.port for server in running]
    load = Load(balancer.url)
    with closing(balancer, load):
        for number in range(2, 2 + RESTARTS):
            new = start(POD_NAME=f"pod-{number}", DRAIN_SECONDS="1")
            new.wait()
            old = running.pop(0)
            running.append(new)
            balancer.targets = [server.port for server in running]
            old.process.send_signal(signal.SIGTERM)
            assert old.process.wait(30) == 0
    assert load.lost == []
    assert {f"pod-{number}" for number in range(2 + RESTARTS)} <= set(load.answered)
