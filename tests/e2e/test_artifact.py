"""The artifact holds the collection and nothing else, installs into an empty folder and deploys from there."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

from .conftest import BIN, CHECKOUT, Sandbox

BELONGS = {
    "CONTRIBUTING.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "SECURITY.md", "changelogs", "docs",
    "examples", "inventories", "meta", "playbooks", "plugins", "requirements.txt",
    "requirements.yml", "roles",
}  # fmt: skip


def command(folder: Path, *words: str) -> str:
    environment = {
        **os.environ,
        "HOME": str(folder),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections"),
    }
    environment.pop("ANSIBLE_CONFIG", None)
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_artifact_installs_and_deploys_from_an_empty_folder(fresh: Sandbox) -> None:
    folder = fresh.folder
    galaxy = str(BIN / "ansible-galaxy")
    command(folder, galaxy, "collection", "build", "--output-path", str(folder), str(CHECKOUT))
    (artifact,) = folder.glob("deepmlhub-inference-*.tar.gz")
    with tarfile.open(artifact) as files:
        assert {Path(name).parts[0] for name in files.getnames()} <= BELONGS
    command(folder, galaxy, "collection", "install", "--no-deps", "-p", str(folder / "collections"), str(artifact))
    (folder / "hosts").write_text("[inference]\nelsewhere\n")
    variables = {
        "gcloud_credentials_kubeconfig": str(fresh.kubeconfig),
        "inference_workload_image": "sandbox/inference-api:0.1.0",
        "verification_golden": str(CHECKOUT / "models/default/golden.json"),
    }
    playbook = [str(BIN / "ansible-playbook"), "deepmlhub.inference.deploy", "-i", "hosts", "-e", json.dumps(variables)]
    command(folder, *playbook)
    assert fresh.object("deployments")["status"]["readyReplicas"] == 2
