"""Runs that are killed, and runs that meet: the next plain deploy makes it whole."""

from __future__ import annotations

import os
import signal
import time

import pytest

from .conftest import Sandbox

# After how many writes a run is killed: INFERENCE_KILLS=10 tries ten moments instead of three.
MOMENTS = sorted(
    {
        2 + round(step * 14 / int(os.environ.get("INFERENCE_KILLS", "3")))
        for step in range(int(os.environ.get("INFERENCE_KILLS", "3")))
    }
)
QUICK = {"inference_workload_lock_timeout": 90}


def kill_after(sandbox: Sandbox, writes: int, **variables: object) -> bool:
    """Starts a deploy and kills it, unasked and at once, after that many writes; false when it ended before."""
    before = len(sandbox.writes())
    with sandbox.start("deploy.yml", **variables) as process:
        end = time.monotonic() + 120
        while process.poll() is None and len(sandbox.writes()) - before < writes:
            assert time.monotonic() < end
            time.sleep(0.01)
        alive = process.poll() is None
        if alive:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
    return alive


@pytest.mark.parametrize("writes", MOMENTS)
def test_after_a_kill_a_plain_deploy_makes_it_whole(sandbox: Sandbox, writes: int) -> None:
    level = f"v{writes}"
    data = {"LOG_LEVEL": "debug" if writes % 2 else "info", "MARK": level}
    kill_after(sandbox, writes, namespace_config_data=data)
    run = sandbox.deploy(namespace_config_data=data, **QUICK)
    assert run.code == 0, run.out
    assert sandbox.object("configmaps", "inference-config")["data"]["MARK"] == level
    assert sandbox.object("leases") is None
    assert sandbox.predict()[0] == 200
    again = sandbox.deploy(namespace_config_data=data)
    assert (again.code, again.changed) == (0, 0), again.out


def test_two_deploys_at_once_leave_one_of_the_two_whole(sandbox: Sandbox) -> None:
    asked = [{"MARK": "left"}, {"MARK": "right"}]
    runs = [sandbox.start("deploy.yml", namespace_config_data=data, **QUICK) for data in asked]
    said = []
    for process in runs:
        with process:
            out, _none = process.communicate(timeout=300)
            said.append((process.returncode, " ".join(out.split())))
    assert any(code == 0 for code, _out in said), said
    assert all(code == 0 or "is locked by" in out for code, out in said), said
    mark = sandbox.object("configmaps", "inference-config")["data"]["MARK"]
    assert mark in ("left", "right")
    again = sandbox.deploy(namespace_config_data={"MARK": mark})
    assert (again.code, again.changed) == (0, 0), again.out
