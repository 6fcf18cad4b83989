"""Start, failure and stop of the real process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOT, Process

Start = Callable[..., Process]


@pytest.fixture
def copy(wine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(wine, tmp_path / "model"))


def refused(server: Process) -> str:
    """Why the server isn't ready; its process lives and its log says the same."""
    answer = server.wait(until=lambda a: a.status_code == 503 and "being loaded" not in a.text)
    reason = answer.json()["reason"]
    assert "\n" not in reason
    assert server.client.get("/health").status_code == 200
    assert any(reason in line["message"] for line in server.lines())
    predicted = server.client.post("/predict", json={"features": [[0] * 13]})
    assert predicted.status_code == 503
    return str(reason)


def test_a_missing_model_is_told_with_its_path(start: Start, tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refused(start(MODEL_PATH=str(tmp_path / "none")))


def test_a_wrong_hash_names_both_sides(start: Start, wine: Path) -> None:
    found = json.loads((wine / "golden.json").read_text())["model"]["sha256"]
    reason = refused(start(MODEL_SHA256="0" * 64))
    assert found in reason and "0" * 64 in reason


def test_another_scikit_learn_names_both_versions(start: Start, copy: Path) -> None:
    from inference_app import bundle

    source = bundle.read(copy)
    metadata = {**source.metadata, "versions": {"scikit-learn": "1.0.2"}}
    bundle.write(copy, metadata, source.files, source.pairs)
    reason = refused(start(MODEL_PATH=str(copy), MODEL_BACKEND="sklearn"))
    assert "1.0.2" in reason and source.metadata["versions"]["scikit-learn"] in reason


def test_a_wrong_golden_prediction_names_both_numbers(start: Start, copy: Path) -> None:
    from inference_app import bundle

    source = bundle.read(copy)
    source.pairs[0]["response"]["predictions"] = [2]
    bundle.write(copy, source.metadata, source.files, source.pairs)
    reason = refused(start(MODEL_PATH=str(copy)))
    assert "[1]" in reason and "[2]" in reason


def test_sigterm_drains_and_exits_0(start: Start) -> None:
    server = start(DRAIN_SECONDS="1")
    server.wait()
    os.kill(server.process.pid, signal.SIGTERM)
    answer = server.wait(until=lambda a: a.status_code == 503)
    assert "stopping" in answer.json()["reason"]
    last = server.client.get("/health")
    assert last.status_code == 200 and last.headers["connection"] == "close"
    assert server.process.wait(20) == 0
    assert server.lines()[-1]["message"] == "stopped"


def test_bad_settings_are_one_line_and_exit_2() -> None:
    env = {**os.environ, "PORT": "abc", "WORKERS": "0", "LOG_LEVEL": "loud"}
    done = subprocess.run([sys.executable, "-m", "inference_app"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    for name in ("PORT='abc'", "WORKERS='0'", "LOG_LEVEL='LOUD'"):
        assert name in done.stderr
