"""The image, as far as it can be judged without building one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from .conftest import ROOT, free_port

HADOLINT, UV = (Path(sys.executable).with_name(name) for name in ("hadolint", "uv"))
DOCKERFILE = ROOT / "Dockerfile"


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is absent")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([HADOLINT, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_last_stage_runs_as_1000_and_installs_nothing() -> None:
    *_, last = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)
    assert "USER 1000:1000" in last and "WORKDIR /app" in last
    assert not re.search(r"^RUN |pip|apt", last, re.MULTILINE)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    kept = (ROOT / ".dockerignore").read_text()
    assert copied and all(f"!{path}" in kept for path in copied)


@pytest.mark.skipif(not UV.exists(), reason="uv is absent")
def test_what_the_image_holds_serves_and_writes_nothing(wine: Path, tmp_path: Path) -> None:
    venv, app = tmp_path / "venv", tmp_path / "app"
    install = [UV, "pip", "install", "--quiet", "--python", venv, "--require-hashes", "--only-binary", ":all:"]
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    subprocess.run([*install, "-r", ROOT / "requirements-app.txt"], check=True)
    shutil.copytree(ROOT / "inference_app", app / "inference_app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(wine, app / "models/default")
    home = tmp_path / "home"  # a library that reports to its maker keeps an id there
    home.mkdir()
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    port = free_port()
    env = {"PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1", "DRAIN_SECONDS": "0", "HOME": str(home)}
    command = [venv / "bin/python", "-m", "inference_app", "--host", "127.0.0.1"]
    with subprocess.Popen(command, cwd=app, env=env, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
                        assert answer.status == 200
                        break
                except OSError:
                    assert process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            process.terminate()
    assert process.returncode == 0
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} == before
