"""The cluster that the cases run on: the one of KUBECONFIG, else a sandbox that this session starts and stops."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.client import Client, connect, until
from tests.contract.space import Space, release, space

_CHECKOUT = Path(__file__).parents[2]
REAL = bool(os.environ.get("KUBECONFIG"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: waits for something that Kubernetes does in its own time")


def pytest_report_header() -> str:
    return f"cluster: {os.environ['KUBECONFIG'] if REAL else 'a sandbox of this session'}"


def _sandbox(verb: str, state: Path) -> None:
    command = [sys.executable, "-m", "sandbox", verb, "--state-dir", str(state)]
    done = subprocess.run(command, cwd=_CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of the cluster, as its administrator."""
    if REAL:
        client = connect(None)
        yield client
        client.close()
        return
    state = tmp_path_factory.mktemp("sandbox")
    try:
        _sandbox("up", state)
        client = connect(str(state / "kubeconfig"))
        yield client
        client.close()
    finally:
        _sandbox("down", state)


@pytest.fixture(scope="session")
def _left(api: Client) -> Iterator[list[Space]]:
    """The namespaces of all cases; the session ends when they have gone, which cases themselves need not wait for."""
    left: list[Space] = []
    yield left
    for made in left:
        until(f"namespace {made.name} is gone", lambda made=made: release(made), 300)


@pytest.fixture
def spaces(api: Client, _left: list[Space]) -> Iterator[Callable[[str], Space]]:
    """Makes namespaces with the Pod Security level that is asked for."""
    with ExitStack() as stack:
        yield lambda level: stack.enter_context(space(api, level, _left))


@pytest.fixture
def ns(spaces: Callable[[str], Space]) -> Space:
    """A namespace that allows everything."""
    return spaces("privileged")


@pytest.fixture
def podns(ns: Space) -> Space:
    """A namespace in which pods can be made."""
    ns.ready_for_pods()
    return ns


@pytest.fixture
def restricted(spaces: Callable[[str], Space]) -> Space:
    """A namespace that enforces Pod Security `restricted`, in which pods can be made."""
    made = spaces("restricted")
    made.ready_for_pods()
    return made
