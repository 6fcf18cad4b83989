"""The documented Role is enough for the preflight, and the preflight names each rule of it that is missing."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from ansible_collections.deepmlhub.inference.plugins.module_utils import preflight
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import AUTH_ARG_SPEC, Cluster, connect
from ansible_collections.deepmlhub.inference.plugins.module_utils.gke import write_credentials
from ansible_collections.deepmlhub.inference.plugins.module_utils.objects import KINDS

from tests.google_standin import sandbox_process, write

ROLE, BINDING = yaml.safe_load_all((Path(__file__).parents[3] / "docs" / "rbac" / "namespaced.yml").read_text())
EMAIL = "ci@sandbox-project.iam.gserviceaccount.com"
NAMESPACE = ROLE["metadata"]["namespace"]
ROLES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
MANIFESTS = [
    {"apiVersion": KINDS[kind].api_version, "kind": kind, "metadata": {"name": "inference-api"}}
    for kind in (
        "ConfigMap",
        "HorizontalPodAutoscaler",
        "LimitRange",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "ResourceQuota",
        "Service",
        "ServiceAccount",
    )
]


def reach(variables: dict[str, Any], key: str, kubeconfig: Path) -> Cluster:
    options = {
        **dict.fromkeys(("access_token", "impersonate_service_account", "use_metadata_server", "context", "namespace")),
        **{name: variables[f"gcloud_credentials_{name}"] for name in ("project", "location", "cluster")},
        "container_api_url": variables["gcloud_credentials_container_api_url"],
        "credentials_file": key,
        "kubeconfig": str(kubeconfig),
        "endpoint": "default",
        "wait_timeout": 8.0,
        "set_current_context": False,
        "prefer_google_plugin": False,
    }
    result = write_credentials(options, os.environ, sys.executable, check_mode=False)
    params = {**dict.fromkeys(AUTH_ARG_SPEC), "kubeconfig": result["kubeconfig"]}
    return connect(SimpleNamespace(params=params, warn=lambda _: None, fail_json=pytest.fail))


def examine(cluster: Cluster) -> dict[str, preflight.Finding]:
    found = preflight.examine(
        cluster, NAMESPACE, MANIFESTS, manage_namespace=False, gke=None, image=lambda: None, kubectl=lambda: None
    )
    return {row["check"]: preflight.Finding(**row) for row in found["findings"]}


def test_every_rule_is_missed_by_name_when_it_is_gone(tmp_path: Path) -> None:
    with sandbox_process(tmp_path / "state") as variables:
        admin = reach(variables, variables["gcloud_credentials_file"], tmp_path / "admin")
        made = httpx.post(f"{variables['inference_workload_registry_url']}/admin/keys/{EMAIL}")
        deployer = reach(variables, write(tmp_path / "key.json", made.json()), tmp_path / "deployer")
        admin.request("POST", "/api/v1/namespaces", body={"metadata": {"name": NAMESPACE}})
        binding = copy.deepcopy(BINDING)
        binding["subjects"][0]["name"] = EMAIL
        admin.request("POST", f"{ROLES}/roles", body=ROLE)
        admin.request("POST", f"{ROLES}/rolebindings", body=binding)
        rows = examine(deployer)
        assert [row for row in rows.values() if row.ok is not True] == []
        for index, rule in enumerate(ROLE["rules"]):
            role = {**ROLE, "rules": [other for place, other in enumerate(ROLE["rules"]) if place != index]}
            admin.request("PUT", f"{ROLES}/roles/{ROLE['metadata']['name']}", body=role)
            rows = examine(deployer)
            for resource in rule["resources"]:
                group = f".{rule['apiGroups'][0]}" if rule["apiGroups"][0] else ""
                assert rows[f"may use {resource}{group}"].ok is False, (rule, rows)
