"""The documented roles hold what a release needs, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.deepmlhub.inference.plugins.module_utils.objects import KINDS
from ansible_collections.deepmlhub.inference.plugins.module_utils.preflight import needs

FOLDER = Path(__file__).parents[3] / "docs" / "rbac"
RELEASE = [
    "ConfigMap",
    "Deployment",
    "HorizontalPodAutoscaler",
    "LimitRange",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "ResourceQuota",
    "Service",
    "ServiceAccount",
]


def held(name: str) -> list[tuple[str, str, str]]:
    role, binding = yaml.safe_load_all((FOLDER / name).read_text())
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["roleRef"]["kind"] == role["kind"]
    return [
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


@pytest.mark.parametrize(
    ("name", "manage", "more"),
    [
        ("namespaced.yml", False, set()),
        ("cluster.yml", True, {("", "namespaces", "delete")}),  # the end of everything: the playbook teardown
    ],
)
def test_a_documented_role_is_what_a_release_needs(name: str, manage: bool, more: set[Any]) -> None:
    manifests = [{"kind": kind, "apiVersion": KINDS[kind].api_version} for kind in RELEASE]
    wanted = {need[:3] for need in needs(manifests, manage_namespace=manage)}
    there = held(name)
    assert len(there) == len(set(there))
    assert set(there) == wanted | more
