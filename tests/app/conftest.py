"""A real server process on loopback, on a free port, that ends with its test."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
MISSION = [0.1, -0.2, 0.3, 0.4, -0.5, 0.6, -0.7, 0.8, -0.9, 1.0, 0.1, -0.1, 0.2]


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A running server: its address, its client, its log."""

    def __init__(self, log: Path, env: dict[str, str]) -> None:
        self.port = free_port()
        self.log_path = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "inference_app", "--host", "127.0.0.1"],
                cwd=ROOT,
                env={**_clean_environment(), "PORT": str(self.port), "POD_NAME": "pod-a", "DRAIN_SECONDS": "0", **env},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def wait(self, path: str = "/ready", until: Callable[[httpx.Response], bool] | None = None) -> httpx.Response:
        """The first answer of path that fits (default: 200)."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the server ended: {self.log()}"
            with contextlib.suppress(httpx.TransportError):
                answer = self.client.get(path)
                if until(answer) if until else answer.status_code == 200:
                    return answer
            time.sleep(0.02)
        raise AssertionError(f"{path} never fitted: {self.log()}")

    def log(self) -> str:
        return self.log_path.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """The log, every whole line of which must be JSON."""
        # not splitlines: to it some letters that a client sends end a line too
        return [json.loads(line) for line in self.log().split("\n")[:-1]]

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _clean_environment() -> dict[str, str]:
    """Ours, without what would change the server."""
    names = {"PORT", "HOST", "WORKERS", "LOG_LEVEL", "POD_NAME"}
    return {k: v for k, v in os.environ.items() if k not in names and not k.startswith(("MODEL_", "MAX_"))}


@pytest.fixture(scope="session")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model, made once."""
    from inference_app.train import train

    directory = tmp_path_factory.mktemp("models") / "default"
    train(directory)
    return directory


@pytest.fixture
def start(tmp_path: Path, wine: Path) -> Iterator[Callable[..., Process]]:
    """Start servers; all are stopped when the test ends."""
    with contextlib.ExitStack() as stack:
        count = 0

        def begin(**env: str) -> Process:
            nonlocal count
            count += 1
            process = Process(tmp_path / f"server-{count}.log", {"MODEL_PATH": str(wine), **env})
            stack.callback(process.close)
            return process

        yield begin


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, wine: Path) -> Iterator[Process]:
    """One ready server for all tests that only ask."""
    process = Process(tmp_path_factory.mktemp("server") / "log", {"MODEL_PATH": str(wine), "LOG_LEVEL": "debug"})
    try:
        process.wait()
        yield process
    finally:
        process.close()
