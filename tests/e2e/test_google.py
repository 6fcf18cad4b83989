"""From a service-account key to a verified prediction on production's inventory, only base addresses redirected."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import CHECKOUT, Sandbox, new_sandbox

SECRETS = re.compile(r"ya29\.[\w-]{8}|BEGIN (RSA )?PRIVATE KEY|eyJ[\w-]{20,}\.eyJ")
CI = "ci@sandbox-project.iam.gserviceaccount.com"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    yield from new_sandbox()


def variables(sandbox: Sandbox, **more: Any) -> dict[str, Any]:
    found = yaml.safe_load((sandbox.state / "google" / "variables.yml").read_text())
    # A port below 1024 would need a privilege on this machine.
    return {**found, "inference_workload_service_port": 8080, **more}


def test_a_key_is_enough_to_deploy_and_nothing_of_it_is_shown(sandbox: Sandbox) -> None:
    pods_act_as = "inference@sandbox-project.iam.gserviceaccount.com"
    wanted = variables(
        sandbox,
        inference_workload_pin_digest=True,
        inference_workload_gcp_service_account=pods_act_as,
        inference_workload_gcp_binding=True,
    )
    predicted = sandbox.play("deploy.yml", "prod", "--check", **wanted)
    assert predicted.code == 0, predicted.out
    first = sandbox.play("deploy.yml", "prod", "-vvv", "--diff", **wanted)
    assert first.code == 0, first.out
    status, answer = sandbox.predict()
    assert (status, len(answer["predictions"])) == (200, 1)
    image = sandbox.object("deployments")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert "inference-api@sha256:" in image
    assert sandbox.object("serviceaccounts")["metadata"]["annotations"]["iam.gke.io/gcp-service-account"] == pods_act_as
    writes = len(sandbox.writes())
    again = sandbox.play("deploy.yml", "prod", **wanted)
    assert (again.code, again.changed) == (0, 0), again.out
    assert len(sandbox.writes()) == writes
    for run in (predicted, first, again):
        assert not SECRETS.search(run.out)


def test_a_login_that_does_not_work_stops_the_run_in_one_line_before_anything_is_written(sandbox: Sandbox) -> None:
    writes = len(sandbox.writes())
    run = sandbox.play("deploy.yml", "prod", **variables(sandbox, gcloud_credentials_location="us-east1"))
    assert run.code != 0
    assert "no cluster sandbox in us-east1 of project sandbox-project: it is in europe-west1" in run.words
    assert "Traceback" not in run.out
    assert len(sandbox.writes()) == writes


def google_admin(variables: dict[str, Any], method: str, path: str, body: bytes | None = None) -> bytes:
    url = f"{variables['inference_workload_registry_url']}/admin/{path}"
    with urllib.request.urlopen(urllib.request.Request(url, body, method=method), timeout=10) as answer:
        return bytes(answer.read())


def forbidden(sandbox: Sandbox) -> list[tuple[str, str]]:
    entries = map(json.loads, (sandbox.state / "audit.jsonl").read_text().splitlines())
    return [(entry["verb"], entry["path"]) for entry in entries if entry["user"] == CI and entry["code"] == 403]


def test_the_documented_role_is_enough_for_the_life_of_a_release(fresh: Sandbox, tmp_path: Path) -> None:
    role, binding = yaml.safe_load_all((CHECKOUT / "docs" / "rbac" / "namespaced.yml").read_text())
    binding["subjects"][0]["name"] = CI
    home = "/apis/rbac.authorization.k8s.io/v1/namespaces/ml-inference"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    labels |= {"app.kubernetes.io/part-of": "deepmlhub-inference", "app.kubernetes.io/managed-by": "ansible"}
    fresh.request("POST", "/api/v1/namespaces", {"metadata": {"name": "ml-inference", "labels": labels}})
    fresh.request("POST", f"{home}/roles", role)
    fresh.request("POST", f"{home}/rolebindings", binding)
    wanted = variables(
        fresh,
        gcloud_credentials_file=str(tmp_path / "key.json"),
        gcloud_credentials_kubeconfig=str(tmp_path / "kubeconfig"),
        namespace_config_manage_namespace=False,
    )
    (tmp_path / "key.json").write_bytes(google_admin(wanted, "POST", f"keys/{CI}"))
    # Every run outlives its first token.
    google_admin(wanted, "PUT", "token-life", b"5")
    changed = {**wanted, "namespace_config_data": {"LOG_LEVEL": "debug"}}
    steps = [("deploy.yml", wanted), ("deploy.yml", changed), ("playbooks/rollback.yml", wanted)]
    steps += [("playbooks/verify.yml", wanted), ("playbooks/status.yml", wanted)]
    for playbook, given in steps:
        run = fresh.play(playbook, "prod", **given)
        assert run.code == 0, f"{playbook}: {run.out}"
    assert forbidden(fresh) == []
    run = fresh.play("playbooks/teardown.yml", "prod", **wanted, confirm=True)
    assert run.code == 0, run.out
    # What others may have left in the Namespace is asked too, and this account lives with the refusals.
    assert {verb for verb, _ in forbidden(fresh)} <= {"list"}
    assert fresh.object("deployments") is None
