"""The dev and prod inventories give the mission's numbers, and render gives the same objects as deploy."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest
import yaml

from .conftest import CHECKOUT, Sandbox

KINDS = {
    "configmaps": "inference-config",
    "serviceaccounts": "inference-api",
    "services": "inference-api",
    "deployments": "inference-api",
    "horizontalpodautoscalers": "inference-api",
    "networkpolicies": "inference-api",
    "poddisruptionbudgets": "inference-api",
    "resourcequotas": "inference-quota",
    "limitranges": "inference-limits",
}
NUMBERS: dict[str, dict[str, Any]] = {
    "dev": {
        "replicas": 1,
        "requests": {"cpu": "250m", "memory": "256Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi"},
        "type": "ClusterIP",
        "bounds": (1, 2),
        "level": "debug",
        "budget": False,
    },
    "prod": {
        "replicas": 3,
        "requests": {"cpu": "500m", "memory": "512Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
        "type": "LoadBalancer",
        "bounds": (3, 10),
        "level": "info",
        "budget": True,
    },
}


def stand_in(sandbox: Sandbox) -> dict[str, Any]:
    """What inventories/on-sandbox.yml sets, for a sandbox that is elsewhere."""
    variables: dict[str, Any] = yaml.safe_load((sandbox.state / "google" / "variables.yml").read_text())
    return {**variables, "inference_workload_service_port": 8080}


@pytest.mark.parametrize("environment", NUMBERS)
def test_the_mission_s_numbers(fresh: Sandbox, environment: str) -> None:
    wanted = NUMBERS[environment]
    run = fresh.play("deploy.yml", environment, **stand_in(fresh))
    assert run.code == 0, run.out
    deployment = fresh.object("deployments")
    assert deployment["spec"]["replicas"] == deployment["status"]["readyReplicas"] == wanted["replicas"]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    for bound in ("requests", "limits"):
        assert wanted[bound].items() <= container["resources"][bound].items()
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["livenessProbe"]["periodSeconds"] == 30
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["readinessProbe"]["periodSeconds"] == 10
    assert fresh.object("services")["spec"]["type"] == wanted["type"]
    scaler = fresh.object("horizontalpodautoscalers")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == wanted["bounds"]
    assert fresh.object("configmaps", "inference-config")["data"]["LOG_LEVEL"] == wanted["level"]
    assert (fresh.object("poddisruptionbudgets") is not None) is wanted["budget"]
    again = fresh.play("deploy.yml", environment, **stand_in(fresh))
    assert (again.code, again.changed) == (0, 0), again.out


def declared(obj: dict[str, Any]) -> dict[str, Any]:
    """The object without what the server allocates and without release annotations."""
    found = copy.deepcopy(obj)
    metadata = {name: found["metadata"].get(name) for name in ("name", "namespace", "labels")}
    annotations = found["metadata"].get("annotations") or {}
    skipped = ("deployment.kubernetes.io/", "kubectl.kubernetes.io/", "inference.deepmlhub.io/")
    metadata["annotations"] = {k: v for k, v in annotations.items() if not k.startswith(skipped)}
    spec = found.get("spec", {})
    for name in ("clusterIP", "clusterIPs", "replicas"):
        spec.pop(name, None)
    for port in spec.get("ports") or []:
        port.pop("nodePort", None)
    return {**{name: value for name, value in found.items() if name != "status"}, "metadata": metadata}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_render_and_kubectl_on_another_cluster_give_the_same_objects(sandbox: Sandbox, fresh: Sandbox) -> None:
    assert sandbox.deploy().code == 0
    folder = fresh.folder / "rendered"
    run = fresh.play("playbooks/render.yml", render_output=str(folder))
    assert run.code == 0, run.out
    assert fresh.writes() == []
    fresh.kubectl("apply", "-k", str(folder))
    fresh.kubectl("rollout", "status", "deployment/inference-api", "--timeout=60s")
    fresh.wait_for(lambda: fresh.object("deployments")["status"].get("readyReplicas") == 2)
    for kind, name in KINDS.items():
        assert declared(fresh.object(kind, name)) == declared(sandbox.object(kind, name)), kind


def test_two_hosts_are_two_targets_of_one_run(sandbox: Sandbox, fresh: Sandbox) -> None:
    hosts = {
        name: {"gcloud_credentials_kubeconfig": str(target.kubeconfig)}
        for name, target in (("one", sandbox), ("two", fresh))
    }
    folder = fresh.folder / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "hosts.yml").write_text(yaml.safe_dump({"inference": {"hosts": hosts}}))
    local = yaml.safe_load((CHECKOUT / "inventories/local/group_vars/inference.yml").read_text())
    local["verification_golden"] = "{{ lookup('ansible.builtin.env', 'PWD') }}/models/default/golden.json"
    (folder / "group_vars" / "inference.yml").write_text(yaml.safe_dump(local))
    run = fresh.play("deploy.yml", str(folder), gcloud_credentials_kubeconfig=None)
    assert run.code == 0, run.out
    assert sandbox.predict()[0] == fresh.predict()[0] == 200
