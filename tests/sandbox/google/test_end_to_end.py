"""From a service-account key to a cluster that answers: the sandbox as a process, and the real clients."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from ansible_collections.deepmlhub.inference.plugins.module_utils import preflight, registry
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import AUTH_ARG_SPEC, Cluster, connect
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.gke import write_credentials
from ansible_collections.deepmlhub.inference.plugins.module_utils.google import LOGIN_ARG_SPEC, login_with

from tests.google_standin import sandbox_process

ENDPOINTS = ["default", "internal", "dns", "connect_gateway"]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables that send an inventory to the stand-in."""
    state = tmp_path_factory.mktemp("sandbox")
    with sandbox_process(state) as variables:
        data = yaml.safe_load((state / "kubeconfig").read_text())["clusters"][0]["cluster"]
        authority = tmp_path_factory.mktemp("ca") / "ca.pem"
        authority.write_bytes(base64.b64decode(data["certificate-authority-data"]))
        yield {**variables, "authority": str(authority)}


@pytest.fixture
def options(sandbox: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    # A public authority signs for a DNS name and the gateway; here it is the sandbox's own.
    monkeypatch.setenv("SSL_CERT_FILE", sandbox["authority"])
    return {
        **{name: spec.get("default") for name, spec in LOGIN_ARG_SPEC.items()},
        **{name: sandbox[f"gcloud_credentials_{name}"] for name in ("project", "location", "cluster")},
        "credentials_file": sandbox["gcloud_credentials_file"],
        "container_api_url": sandbox["gcloud_credentials_container_api_url"],
        "connect_gateway_url": sandbox["gcloud_credentials_connect_gateway_url"],
        "kubeconfig": str(tmp_path / "kubeconfig"),
        "endpoint": "default",
        "set_current_context": False,
        "prefer_google_plugin": False,
    }


def login(options: dict[str, Any]) -> dict[str, Any]:
    return write_credentials(options, os.environ, sys.executable, check_mode=False)


def reach(result: dict[str, Any]) -> Cluster:
    params = {**dict.fromkeys(AUTH_ARG_SPEC), "kubeconfig": result["kubeconfig"], "context": result["context"]}
    return connect(SimpleNamespace(params=params, warn=lambda _: None, fail_json=pytest.fail))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_key_opens_the_cluster_by_each_endpoint(endpoint: str, options: dict[str, Any]) -> None:
    result = login({**options, "endpoint": endpoint})
    assert result["account"] == "deployer@sandbox-project.iam.gserviceaccount.com"
    assert reach(result).request("GET", "/api/v1/namespaces/default").body["kind"] == "Namespace"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_kubectl_takes_the_kubeconfig(endpoint: str, options: dict[str, Any]) -> None:
    result = login({**options, "endpoint": endpoint})
    command = ["kubectl", "--kubeconfig", result["kubeconfig"], "get", "namespace", "default", "-o", "name"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "namespace/default\n"), done.stderr


def test_a_run_outlives_its_token(sandbox: dict[str, str], options: dict[str, Any]) -> None:
    life = f"{sandbox['inference_workload_registry_url']}/admin/token-life"
    httpx.put(life, json=2).raise_for_status()
    try:
        cluster = reach(login(options))
        used = set()
        end = time.monotonic() + 4
        while time.monotonic() < end:
            cluster.request("GET", "/api/v1/namespaces/default")
            used.add(cluster._authorize()["Authorization"])
        assert len(used) >= 2
    finally:
        httpx.put(life, json=3600).raise_for_status()


def test_an_account_without_roles_is_told_all_that_it_lacks_at_once(
    sandbox: dict[str, str], options: dict[str, Any]
) -> None:
    cluster = reach(login(options))
    cluster.request("POST", "/api/v1/namespaces/default/serviceaccounts", body={"metadata": {"name": "nobody"}})
    path = "/api/v1/namespaces/default/serviceaccounts/nobody/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = cluster.request("POST", path, body=body).body["status"]["token"]
    cluster._authorize = lambda: {"Authorization": f"Bearer {token}"}
    manifests = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}},
    ]

    def image() -> preflight.Finding:
        where = {"image": sandbox["inference_workload_image"] + "-gone", "auth": "auto", "wait_timeout": 8.0}
        where["registry_url"] = sandbox["inference_workload_registry_url"]
        return preflight.image_finding(
            where["image"], lambda: registry.image_info(where, lambda: login_with(options, os.environ))
        )

    found = preflight.examine(cluster, "default", manifests, manage_namespace=True, gke=None, image=image)
    failed = {row["check"]: row for row in found["findings"] if row["ok"] is False and row["required"]}
    assert set(failed) == {
        "may use configmaps",
        "may use deployments.apps",
        "may use horizontalpodautoscalers.autoscaling",
        "may use leases.coordination.k8s.io",
        "may use namespaces",
        "may use secrets",
        "may use services/proxy",
        "image",
    }
    assert "there are 0.1.0" in failed["image"]["detail"]
    assert all(row["check"] in found["msg"] for row in failed.values())


def test_a_wrong_place_names_the_right_one(options: dict[str, Any]) -> None:
    with pytest.raises(InferenceError, match="it is in europe-west1"):
        login({**options, "location": "us-east1"})


def test_the_files_of_the_stand_in_are_private(sandbox: dict[str, str]) -> None:
    folder = Path(sandbox["gcloud_credentials_file"]).parent
    assert json.loads((folder / "key.json").read_text())["type"] == "service_account"
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()} == {0o600}
