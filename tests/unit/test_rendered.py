"""What the inventories render to, without a cluster: what was promised, and every supported Kubernetes' schema."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
IMAGE = "registry.invalid/inference/inference-api@sha256:" + "0" * 64
INVENTORIES = ["local", "dev", "prod"]
GIVEN = {
    "gcloud_credentials_project": "project",
    "gcloud_credentials_location": "europe-west1",
    "gcloud_credentials_cluster": "cluster",
    "inference_workload_image": IMAGE,
}

Rendered = dict[str, dict[str, dict[str, Any]]]


def render(inventory: str, folder: Path, **variables: Any) -> dict[str, dict[str, Any]]:
    """The objects by kind, as the render playbook writes them."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "playbooks/render.yml", "-i"]
    given = json.dumps({**GIVEN, "render_output": str(folder), **variables})
    done = subprocess.run(
        [*command, f"inventories/{inventory}", "-e", given], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")]
    return {item["kind"]: item for item in found if item["kind"] != "Kustomization"}


@pytest.fixture(scope="module")
def rendered() -> Iterator[Rendered]:
    with tempfile.TemporaryDirectory(prefix="inference-rendered-") as folder:
        yield {name: render(name, Path(folder) / name) for name in INVENTORIES}


def pod_spec(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", [f"1.{minor}" for minor in range(30, 38)])
@pytest.mark.parametrize("inventory", INVENTORIES)
def test_every_object_fits_the_schema_of_every_supported_kubernetes(
    rendered: Rendered, inventory: str, version: str
) -> None:
    for item in rendered[inventory].values():
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_probes_ask_where_and_as_often_as_promised(rendered: Rendered, inventory: str) -> None:
    container = pod_spec(rendered[inventory])["containers"][0]
    assert (container["livenessProbe"]["httpGet"]["path"], container["livenessProbe"]["periodSeconds"]) == (
        "/health",
        30,
    )
    assert (container["readinessProbe"]["httpGet"]["path"], container["readinessProbe"]["periodSeconds"]) == (
        "/ready",
        10,
    )
    assert container["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    assert {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")} == {"http"}


@pytest.mark.parametrize(
    ("inventory", "requests", "limits"),
    [
        ("local", ("250m", "256Mi"), ("500m", "512Mi")),
        ("dev", ("250m", "256Mi"), ("500m", "512Mi")),
        ("prod", ("500m", "512Mi"), ("1000m", "1Gi")),
    ],
)
def test_resources(rendered: Rendered, inventory: str, requests: tuple[str, str], limits: tuple[str, str]) -> None:
    resources = pod_spec(rendered[inventory])["containers"][0]["resources"]
    assert (resources["requests"]["cpu"], resources["requests"]["memory"]) == requests
    assert (resources["limits"]["cpu"], resources["limits"]["memory"]) == limits


@pytest.mark.parametrize(("inventory", "fewest", "most"), [("local", 2, 4), ("dev", 1, 2), ("prod", 3, 10)])
def test_the_autoscaler_starts_from_the_inventory_s_replicas(
    rendered: Rendered, inventory: str, fewest: int, most: int
) -> None:
    spec = rendered[inventory]["HorizontalPodAutoscaler"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (fewest, most)
    assert "replicas" not in rendered[inventory]["Deployment"]["spec"]
    assert ("PodDisruptionBudget" in rendered[inventory]) == (fewest > 1)


def test_replicas_come_from_the_inventory_where_nothing_scales(tmp_path: Path) -> None:
    objects = render(
        "local", tmp_path, inference_workload_autoscaling={"enabled": False}, inference_workload_replicas=5
    )
    assert objects["Deployment"]["spec"]["replicas"] == 5
    assert "HorizontalPodAutoscaler" not in objects


def test_another_value_in_the_configmap_means_other_pods(rendered: Rendered, tmp_path: Path) -> None:
    name = "inference.deepmlhub.io/config-sha256"
    other = render("local", tmp_path, namespace_config_data={"LOG_LEVEL": "debug"})
    hashes = [
        objects["Deployment"]["spec"]["template"]["metadata"]["annotations"][name]
        for objects in (rendered["local"], other)
    ]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_pods_have_no_privilege_and_no_login(rendered: Rendered, inventory: str) -> None:
    spec = pod_spec(rendered[inventory])
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000
    for container in spec["containers"]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert rendered[inventory]["ServiceAccount"]["automountServiceAccountToken"] is False
    assert rendered[inventory]["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 1,
        "maxUnavailable": 0,
    }
    assert not {kind for kind in rendered[inventory] if "Role" in kind}, "a release grants nobody anything"


def test_the_documented_roles_grant_no_wildcard_and_no_more_than_a_namespace() -> None:
    found = [item for item in yaml.safe_load_all((ROOT / "docs/rbac/namespaced.yml").read_text()) if item]
    assert {item["kind"] for item in found} <= {"Role", "RoleBinding", "Namespace", "ServiceAccount"}
    for item in found:
        for rule in item.get("rules", []):
            assert "*" not in [*rule.get("verbs", []), *rule.get("resources", []), *rule.get("apiGroups", [])]
