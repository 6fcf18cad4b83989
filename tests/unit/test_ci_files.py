"""The files that a CI runner is given: pinned, with the least rights, and with credentials that we can read."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.deepmlhub.inference.plugins.module_utils import gke_exec

ROOT = Path(__file__).parents[2]
GITHUB = (ROOT / "docs" / "ci" / "github-actions.yml").read_text()
GITLAB = (ROOT / "docs" / "ci" / "gitlab-ci.yml").read_text()
PROVIDER = "projects/12/locations/global/workloadIdentityPools/ci/providers/gitlab"


def test_every_action_is_pinned_by_its_hash_with_the_version_beside_it() -> None:
    used = re.findall(r"uses: (.*)", GITHUB)
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_the_github_job_may_read_the_code_and_prove_who_it_is_and_no_more() -> None:
    workflow = yaml.safe_load(GITHUB)
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["deploy"]["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in GITHUB


def test_what_an_expression_holds_never_becomes_shell_text() -> None:
    steps = yaml.safe_load(GITHUB)["jobs"]["deploy"]["steps"]
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []


def test_the_credentials_that_the_gitlab_job_writes_are_understood(tmp_path: Path) -> None:
    job: dict[str, Any] = yaml.safe_load(GITLAB)["deploy"]
    assert job["id_tokens"]["GOOGLE_ID_TOKEN"]["aud"] == "https://iam.googleapis.com/$WORKLOAD_IDENTITY_PROVIDER"
    start = next(place for place, line in enumerate(job["before_script"]) if line.startswith("umask"))
    project = tmp_path / "project"
    environ = {
        "PATH": os.environ["PATH"],
        "CI_PROJECT_DIR": str(project),
        "WORKLOAD_IDENTITY_PROVIDER": PROVIDER,
        "DEPLOYER": "deployer@p.iam.gserviceaccount.com",
        "GOOGLE_ID_TOKEN": "the-token",
        "GOOGLE_APPLICATION_CREDENTIALS": f"{project}.tmp/google/credentials.json",
    }
    script = "\n".join(job["before_script"][start:])
    subprocess.run(["sh", "-eu", "-c", script], env=environ, check=True, timeout=30)
    path = Path(environ["GOOGLE_APPLICATION_CREDENTIALS"])
    info = gke_exec.read_credentials_file(str(path))
    assert info["audience"] == f"//iam.googleapis.com/{PROVIDER}"
    assert Path(info["credential_source"]["file"]).read_text() == "the-token"
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    assert gke_exec._credentials(gke_exec.Login(file=str(path))).service_account_email == environ["DEPLOYER"]
    subprocess.run(["sh", "-eu", "-c", "\n".join(job["after_script"])], env=environ, check=True, timeout=30)
    assert not path.parent.exists()


def test_the_playbooks_that_the_jobs_run_are_there() -> None:
    for text in (GITHUB, GITLAB):
        found = re.findall(r"ansible-playbook (\S+) -i (\S+)", text)
        assert [(ROOT / playbook).is_file() and (ROOT / inventory).is_dir() for playbook, inventory in found] == [
            True
        ] * 2


def test_the_execution_environment_holds_this_version() -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    environment = yaml.safe_load((ROOT / "execution-environment.yml").read_text())
    [ours] = environment["dependencies"]["galaxy"]["collections"]
    assert (
        ours["name"] == environment["additional_build_files"][0]["src"] == f"dist/deepmlhub-inference-{version}.tar.gz"
    )
    named = yaml.safe_load((ROOT / "meta" / "execution-environment.yml").read_text())["dependencies"]
    assert all((ROOT / name).is_file() for name in named.values())
