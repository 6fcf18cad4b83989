"""The user's road: real ansible-playbook runs on a real sandbox, in a folder that goes away."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
MISSION = {"features": [[0.1, -0.2, 0.3, 0.4, -0.5, 0.6, -0.7, 0.8, -0.9, 1.0, 0.1, -0.1, 0.2]]}


class Run(NamedTuple):
    """One ansible-playbook run."""

    code: int
    out: str

    @property
    def words(self) -> str:
        """The output without line breaks: where they fall depends on the callback."""
        return " ".join(self.out.split())

    @property
    def changed(self) -> int:
        return sum(int(count) for count in re.findall(r"changed=(\d+)", self.out))


class Sandbox:
    """A sandbox of this test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "sandbox"
        self.kubeconfig = self.state / "kubeconfig"
        self.profile = False  # whether runs end with a table of where their seconds went
        self._command("up")

    def _command(self, verb: str) -> None:
        command = [sys.executable, "-m", "sandbox", verb, "--state-dir", str(self.state)]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        self._command("down")

    def play(self, playbook: str, inventory: str = "local", *options: str, **variables: Any) -> Run:
        """Runs a playbook with this sandbox as its cluster."""
        with self.start(playbook, inventory, *options, **variables) as process:
            out, _none = process.communicate(timeout=300)
        return Run(process.returncode, out)

    def start(self, playbook: str, inventory: str = "local", *options: str, **variables: Any) -> subprocess.Popen[str]:
        """Starts a playbook, in a process group of its own."""
        variables = {"gcloud_credentials_kubeconfig": str(self.kubeconfig), **variables}
        variables = {name: value for name, value in variables.items() if value is not None}
        command = [
            str(BIN / "ansible-playbook"),
            playbook,
            "-i",
            inventory if "/" in inventory else f"inventories/{inventory}",
            "-e",
            json.dumps(variables),
            *options,
        ]
        environment = {**os.environ, "HOME": str(self.folder), "ANSIBLE_NOCOLOR": "1"}
        environment.pop("KUBECONFIG", None)
        if self.profile:
            environment["ANSIBLE_CALLBACKS_ENABLED"] = "ansible.posix.profile_tasks"
        return subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def deploy(self, *options: str, **variables: Any) -> Run:
        return self.play("deploy.yml", "local", *options, **variables)

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={self.kubeconfig}", "-n", "ml-inference", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "HOME": str(self.folder)},
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def get(self, path: str) -> Any:
        """What the API server says, as JSON; None for 404."""
        return self.request("GET", path)

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        import ssl

        import yaml

        config = yaml.safe_load(self.kubeconfig.read_text())
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        asked = urllib.request.Request(server["server"] + path, method=method)
        asked.add_header("Authorization", f"Bearer {user['token']}")
        if body is not None:
            asked.data = json.dumps(body).encode()
            asked.add_header("Content-Type", content_type)
        import base64

        trust = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
        try:
            with urllib.request.urlopen(asked, timeout=30, context=trust) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def object(self, kind: str, name: str = "inference-api") -> Any:
        """One object of the namespace, or None."""
        roots = {
            "deployments": "/apis/apps/v1",
            "horizontalpodautoscalers": "/apis/autoscaling/v2",
            "poddisruptionbudgets": "/apis/policy/v1",
            "networkpolicies": "/apis/networking.k8s.io/v1",
            "leases": "/apis/coordination.k8s.io/v1",
        }
        return self.get(f"{roots.get(kind, '/api/v1')}/namespaces/ml-inference/{kind}/{name}".rstrip("/"))

    def audit(self) -> list[dict[str, Any]]:
        """Every request that a client has made, oldest first."""
        log = self.state / "audit.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def writes(self) -> list[dict[str, Any]]:
        """Every persisted write that a client has asked for."""
        return [
            entry
            for entry in self.audit()
            if entry["verb"] not in ("get", "list", "watch")
            and not entry.get("dryRun")
            and "accessreview" not in entry["path"]
            and "/proxy" not in entry["path"]
        ]

    def address(self) -> str:
        service = self.object("services")
        return f"http://{service['status']['loadBalancer']['ingress'][0]['ip']}:{service['spec']['ports'][0]['port']}"

    def predict(self, body: Any = MISSION) -> tuple[int, Any]:
        """Asks through the clients' address."""
        request = urllib.request.Request(
            f"{self.address()}/predict", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def wait_for(self, what: Any, seconds: float = 30) -> Any:
        """Polls until a function gives something true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = what()
            if found:
                return found
            time.sleep(0.3)
        raise AssertionError(f"not within {seconds} s")


def new_sandbox() -> Iterator[Sandbox]:
    with tempfile.TemporaryDirectory(prefix="inference-e2e-") as folder:
        made = Sandbox(Path(folder))
        try:
            yield made
        finally:
            made.down()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for all tests of a file, in their order."""
    yield from new_sandbox()


@pytest.fixture
def fresh() -> Iterator[Sandbox]:
    """A sandbox for one test."""
    yield from new_sandbox()
