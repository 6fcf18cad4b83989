"""python -m sandbox up|down|status: a Kubernetes stand-in whose pods are local processes."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox import processes

_PATIENCE = 30.0  # seconds that a start or a stop may take
_FILES = ("server.json", "kubeconfig", "server.crt", "server.key", "server.log", "audit.jsonl", "pods", "google")


def _say(text: str) -> None:
    print(text)  # noqa: T201 - this is a command


def _record(state: Path) -> dict[str, Any] | None:
    """What the server wrote when it was ready; None without one."""
    try:
        found: dict[str, Any] = json.loads((state / "server.json").read_text())
    except (OSError, ValueError):
        return None
    return found


def _is_running(record: dict[str, Any] | None) -> bool:
    return bool(record and processes.started(record["pid"]) == record["started"])


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    """One `up` or `down` at a time."""
    path = state / "lock"
    while True:
        state.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield
                return
            # a `down` has removed it meanwhile


def _describe(state: Path, record: dict[str, Any]) -> None:
    _say(f"API        {record['url']}")
    _say(f"kubeconfig {state / 'kubeconfig'}")


def up(state: Path, config: Path | None, port: int) -> int:
    from sandbox.config import ConfigError, load

    try:
        load(config)
    except ConfigError as error:
        _say(f"sandbox: {error}")
        return 2
    with _locked(state):
        record = _record(state)
        if record and _is_running(record):
            _say("sandbox is up already")
            _describe(state, record)
            return 0
        _clear(state, record)
        argv = [sys.executable, "-m", "sandbox", "serve", "--state-dir", str(state), "--port", str(port)]
        argv += ["--config", str(config.resolve())] if config else []
        here = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        with (state / "server.log").open("wb") as log:
            server = subprocess.Popen(  # noqa: S603 - our own module
                argv, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, close_fds=True,
            )  # fmt: skip
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and server.poll() is None:
            record = _record(state)
            if record and record["pid"] == server.pid:
                _say("sandbox is up")
                _describe(state, record)
                return 0
            time.sleep(0.02)
        if server.poll() is None:
            server.kill()
        last = (state / "server.log").read_text(errors="replace").strip().splitlines()[-1:] or ["no message"]
        _say(f"sandbox: the server did not start: {last[0]} (all of it: {state / 'server.log'})")
        return 1


def _clear(state: Path, record: dict[str, Any] | None) -> None:
    """Kill what a server that is no more has left running, and remove its files."""
    if record:
        processes.reap(record["mark"])
    for name in _FILES:
        path = state / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def down(state: Path) -> int:
    if not state.is_dir():
        _say("sandbox is down")
        return 0
    with _locked(state):
        record = _record(state)
        if record and _is_running(record):
            processes.kill(record["pid"], signal.SIGTERM)
            deadline = time.monotonic() + _PATIENCE
            while _is_running(record) and time.monotonic() < deadline:
                time.sleep(0.02)
            if _is_running(record):
                processes.kill(record["pid"], signal.SIGKILL)
        _clear(state, record)
        (state / "lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's files stay
        state.rmdir()
    _say("sandbox is down")
    return 0


def status(state: Path) -> int:
    record = _record(state)
    if not record or not _is_running(record):
        _say("sandbox is down")
        return 3
    _say(f"sandbox is up (pid {record['pid']})")
    _describe(state, record)
    pods = sorted(state.glob("pods/*"))
    _say(f"pods       {len(pods)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "serve"), metavar="up|down|status")
    parser.add_argument("--state-dir", type=Path, default=Path(".sandbox"), help="where it keeps its files (.sandbox)")
    parser.add_argument("--config", type=Path, help="a YAML file over the built-in sandbox/default.yml")
    parser.add_argument("--port", type=int, default=0, help="the API's port (default: a free one)")
    arguments = parser.parse_args()
    if sys.platform != "linux":
        _say("sandbox: Linux only (it needs 127.0.0.0/8 and /proc); use kind or a real cluster here")
        return 2
    state = arguments.state_dir.resolve()
    if arguments.command == "up":
        return up(state, arguments.config, arguments.port)
    if arguments.command == "down":
        return down(state)
    if arguments.command == "status":
        return status(state)
    from sandbox.config import load
    from sandbox.server import main as serve

    serve(state, load(arguments.config), arguments.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
