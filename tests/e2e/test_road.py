"""From an empty cluster to a verified prediction, and back; the tests of this file build on one another."""

from __future__ import annotations

import shutil

import pytest

from .conftest import Sandbox


def test_check_mode_on_an_empty_cluster_predicts_every_object(sandbox: Sandbox) -> None:
    run = sandbox.deploy("--check", "--diff")
    assert run.code == 0, run.out
    for kind in ("Namespace", "ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler", "NetworkPolicy"):
        assert f"+kind: {kind}" in run.out, run.out
    assert "does not exist yet" in run.out
    assert sandbox.get("/api/v1/namespaces/ml-inference") is None


def test_deploy_answers_through_the_load_balancer(sandbox: Sandbox) -> None:
    run = sandbox.deploy()
    assert run.code == 0, run.out
    status, answer = sandbox.predict()
    assert status == 200
    assert set(answer) >= {"predictions", "class_names", "probabilities", "model_version"}
    deployment = sandbox.object("deployments")
    assert deployment["status"]["readyReplicas"] == 2
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "250m", "memory": "256Mi", "ephemeral-storage": "128Mi"}
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    metrics = sandbox.object("horizontalpodautoscalers")["status"]["currentMetrics"]
    assert metrics[0]["resource"]["current"]["averageUtilization"] >= 0


def test_a_second_deploy_changes_and_writes_nothing(sandbox: Sandbox) -> None:
    before = len(sandbox.writes())
    run = sandbox.deploy()
    assert run.code == 0, run.out
    assert run.changed == 0, run.out
    assert sandbox.writes()[before:] == []


def test_check_mode_shows_a_changed_value_and_the_hash_and_nothing_else(sandbox: Sandbox) -> None:
    run = sandbox.deploy("--check", "--diff", namespace_config_data={"LOG_LEVEL": "debug"})
    assert run.code == 0, run.out
    changed = [line.strip() for line in run.out.splitlines() if line.startswith(("+", "-")) and line[1:2] == " "]
    assert [line.split(":")[0] for line in changed] == [
        "-  LOG_LEVEL",
        "+  LOG_LEVEL",
        "-        inference.deepmlhub.io/config-sha256",
        "+        inference.deepmlhub.io/config-sha256",
    ], run.out


def test_a_changed_value_rolls_the_pods(sandbox: Sandbox) -> None:
    before = {pod["metadata"]["name"] for pod in sandbox.get("/api/v1/namespaces/ml-inference/pods")["items"]}
    run = sandbox.deploy(namespace_config_data={"LOG_LEVEL": "debug"})
    assert run.code == 0, run.out
    after = {pod["metadata"]["name"] for pod in sandbox.get("/api/v1/namespaces/ml-inference/pods")["items"]}
    assert len(after - before) == 2


def test_verify_alone_changes_nothing(sandbox: Sandbox) -> None:
    before = len(sandbox.writes())
    run = sandbox.play("playbooks/verify.yml")
    assert run.code == 0, run.out
    assert run.changed == 0
    assert sandbox.writes()[before:] == []


def test_status_is_quiet_then_names_who_drifted(sandbox: Sandbox) -> None:
    run = sandbox.play("playbooks/status.yml")
    assert run.code == 0, run.out
    patch = {"data": {"LOG_LEVEL": "warning"}}
    path = "/api/v1/namespaces/ml-inference/configmaps/inference-config?fieldManager=somebody"
    sandbox.request("PATCH", path, patch, "application/merge-patch+json")
    run = sandbox.play("playbooks/status.yml")
    assert run.code == 2, run.out
    assert 'data.LOG_LEVEL is "warning", recorded "debug", by somebody' in run.words


def test_rollback_brings_the_exact_earlier_release_back(sandbox: Sandbox) -> None:
    run = sandbox.play("playbooks/rollback.yml", revision=1)
    assert run.code == 0, run.out
    assert sandbox.object("configmaps", "inference-config")["data"]["LOG_LEVEL"] == "info"
    assert sandbox.play("playbooks/status.yml").code == 0
    assert sandbox.deploy().changed == 0


def test_altered_golden_predictions_fail_with_both_numbers(sandbox: Sandbox) -> None:
    features = [[0.0] * 13]
    wrong = {"pairs": [{"request": {"features": features}, "response": {"predictions": [99]}}]}
    run = sandbox.deploy(verification_golden=wrong)
    assert run.code == 2
    assert "expected 99" in run.out
    assert "received" in run.out
    assert sandbox.predict()[0] == 200


def test_teardown_removes_what_was_deployed_and_the_namespace(sandbox: Sandbox) -> None:
    run = sandbox.play("playbooks/teardown.yml")
    assert run.code == 0, run.out
    assert sandbox.get("/api/v1/namespaces/ml-inference") is None
    again = sandbox.play("playbooks/teardown.yml")
    assert again.code == 0, again.out
    assert again.changed == 0


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_render_and_kubectl_give_what_deploy_gives(sandbox: Sandbox) -> None:
    output = sandbox.folder / "rendered"
    run = sandbox.play("playbooks/render.yml", render_output=str(output))
    assert run.code == 0, run.out
    sandbox.kubectl("apply", "-k", str(output))
    sandbox.kubectl("rollout", "status", "deployment/inference-api", "--timeout=60s")
    adopted = sandbox.deploy()
    assert adopted.code == 0, adopted.out
    changed = [line for line in adopted.out.splitlines() if line.startswith(("+ ", "- "))]
    assert not changed
