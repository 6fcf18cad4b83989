"""Runs the stand-in for Google on a free loopback port, in a thread that ends with the block."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
import yaml
from ansible_collections.deepmlhub.inference.plugins.module_utils import gke_exec

from sandbox.google import State, make_asgi

ROOT = Path(__file__).parents[1]
DEPLOYER = "deployer@demo-project.iam.gserviceaccount.com"
TARGET = "release@demo-project.iam.gserviceaccount.com"


class Time:
    """A clock that only sleeping moves, for google-auth's pauses and our patience with them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("google.auth._exponential_backoff.time", SimpleNamespace(sleep=self.sleep))
        monkeypatch.setattr(gke_exec, "time", SimpleNamespace(time=time.time, monotonic=self.monotonic))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """The base address at which the application answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextlib.contextmanager
def stand_in(**settings: Any) -> Iterator[State]:
    """A stand-in with a machine account, and one account that the deployer may act as."""
    state = State(
        machine_account=DEPLOYER,
        internal_endpoint="10.0.0.2",
        dns_endpoint="gke-0123456789ab-123456789012.europe-west4.gke.goog",
        ca=b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        **settings,
    )
    with serving(make_asgi(state)) as url:
        state.url = url
        job, _ = state.check_oidc(state.oidc_token(), state.audience)
        state.actors[TARGET] = {DEPLOYER, job}
        state.policies[TARGET] = {"version": 1, "etag": "ACAB"}
        yield state


@contextlib.contextmanager
def sandbox_process(state: Path) -> Iterator[dict[str, str]]:
    """A sandbox as a process of its own; the variables that send an inventory to its Google side."""
    command = [sys.executable, "-m", "sandbox"]
    try:
        subprocess.run([*command, "up", "--state-dir", str(state)], cwd=ROOT, check=True, timeout=60)
        yield yaml.safe_load((state / "google" / "variables.yml").read_text())
    finally:
        subprocess.run([*command, "down", "--state-dir", str(state)], cwd=ROOT, check=True, timeout=60)
        assert not (state / "google").exists()


def write(path: Path, content: Any) -> str:
    """A file with JSON (or text), mode 0600; its name."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)
    return str(path)
