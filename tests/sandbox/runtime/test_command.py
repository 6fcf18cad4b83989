"""up, down, status: nothing is left behind, however it ended."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox import processes

from .conftest import ROOT, Client, command, deployment, pod, running, wait_for

# a child that leaves the container's session, as a daemon does
ESCAPE = "import os,time\nif os.fork() == 0:\n    os.setsid()\ntime.sleep(600)"


def record(client: Client) -> dict[str, Any]:
    return json.loads((client.kubeconfig.parent / "server.json").read_text())


def marked(mark: str) -> list[int]:
    """The processes that carry a sandbox's mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{processes.MARK}={mark}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def start_pods(client: Client) -> str:
    spec = pod("python:3.11-slim", args=["-c", ESCAPE])
    client.create("Deployment", "default", deployment("sleeper", 2, spec))
    mark: str = record(client)["mark"]
    wait_for(lambda: len(marked(mark)) == 4)
    return mark


def test_down_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        mark, server = start_pods(client), record(client)["pid"]
        assert stat.S_IMODE(client.kubeconfig.stat().st_mode) == 0o600
        assert command(tmp_path / "state", "down").returncode == 0
        assert marked(mark) == []
        assert processes.started(server) is None
        assert not (tmp_path / "state").exists()
        again = command(tmp_path / "state", "down")
        assert (again.returncode, again.stdout) == (0, "sandbox is down\n")


def test_pods_do_not_outlive_a_killed_server(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        mark = start_pods(client)
        os.kill(record(client)["pid"], signal.SIGKILL)
        wait_for(lambda: marked(mark) == [])
        assert command(tmp_path / "state", "status").stdout == "sandbox is down\n"
        assert command(tmp_path / "state", "down").returncode == 0
        assert not (tmp_path / "state").exists()


def test_up_twice_is_one_sandbox_and_comes_back_after_a_kill(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        first = record(client)
        second = command(tmp_path / "state", "up")
        assert second.returncode == 0
        assert "up already" in second.stdout
        assert first["url"] in second.stdout
        os.kill(first["pid"], signal.SIGKILL)
        wait_for(lambda: processes.started(first["pid"]) is None)
        assert command(tmp_path / "state", "up").returncode == 0
        assert len(Client(client.kubeconfig).list("Node", "")) == 1


def test_a_recycled_pid_is_not_killed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            record = {"pid": stranger.pid, "started": "1", "mark": "none", "url": "https://127.0.0.1:1"}
            (state / "server.json").write_text(json.dumps(record))
            assert command(state, "status").returncode == 3
            assert command(state, "down").returncode == 0
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_somebody_elses_file_in_the_state_directory_stays(tmp_path: Path) -> None:
    with running(tmp_path):
        (tmp_path / "state" / "notes.txt").write_text("mine")
        assert command(tmp_path / "state", "down").returncode == 0
        assert [path.name for path in (tmp_path / "state").iterdir()] == ["notes.txt"]


def test_two_sandboxes_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running(tmp_path / "a") as one, running(tmp_path / "b") as other:
        addresses = set()
        for client in (one, other):
            client.create("Deployment", "default", deployment("sleeper", 1, pod()))
            pods = wait_for(lambda client=client: [p for p in client.pods("default") if p["status"].get("podIP")])
            addresses.add(pods[0]["status"]["podIP"])
        assert len(addresses) == 2
        assert command(tmp_path / "a" / "state", "down").returncode == 0
        assert other.pods("default")[0]["status"]["phase"] in ("Pending", "Running")


def test_the_server_stops_by_itself(tmp_path: Path) -> None:
    with running(tmp_path, idle_seconds=0.5) as client:
        server = record(client)["pid"]
        wait_for(lambda: processes.started(server) is None)


@pytest.mark.parametrize(
    ("text", "told"),
    [("images: [", "cannot be read"), ("nonsense: 1", "unknown key nonsense"), ("images: [{image: x}]", "`command`")],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "config.yml"
    file.write_text(text)
    done = command(tmp_path / "state", "up", "--config", str(file))
    assert done.returncode == 2
    assert told in done.stdout
    assert done.stdout.count("\n") == 1
    assert not (tmp_path / "state").exists()


def test_elsewhere_than_on_linux_it_says_so() -> None:
    script = (
        "import sys; sys.platform = 'darwin'; sys.argv = ['sandbox', 'up']\n"
        "from sandbox.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "Linux only" in done.stdout
    assert done.stdout.count("\n") == 1
