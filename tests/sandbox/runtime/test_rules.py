"""The runtime's rules that need no cluster to be shown."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox import images
from sandbox.config import expand, load
from sandbox.containers import BackOff
from sandbox.deployments import bounds, template_hash
from sandbox.probes import port_number
from sandbox.replicasets import _victim_order
from sandbox.scheduler import objections
from sandbox.volumes import Paths, substitute


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (3, 1, 0, (1, 0)),
        (10, "25%", "25%", (3, 2)),  # a surge rounds up, the other down
        (1, "25%", "25%", (1, 0)),
        (2, "0%", "10%", (0, 1)),  # never both zero
        (3, 0, 5, (0, 3)),
    ],
)
def test_surge_and_unavailable(
    replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]
) -> None:
    strategy = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    assert bounds({"spec": {"replicas": replicas, "strategy": strategy}}) == expected


def test_the_template_hash_knows_the_template_alone() -> None:
    assert template_hash({"a": 1, "b": 2}) == template_hash({"b": 2, "a": 1})
    assert template_hash({"a": 1}) != template_hash({"a": 2})


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("inference-api:1.0.0", None),
        ("localhost:5000/team/inference-api:1.0.0", None),
        ("europe-west4-docker.pkg.dev/p/r/inference-api@sha256:" + "0" * 64, None),
        ("Demo/UPPER:v 1", "invalid reference format: repository name (UPPER) must be lowercase"),
        ("inference api", "invalid reference format"),
        ("inference-api:", "invalid reference format"),
        ("", "invalid reference format"),
    ],
)
def test_which_image_references_can_be_parsed(reference: str, problem: str | None) -> None:
    assert images.problem(reference) == problem


def test_restarts_back_off_and_are_forgiven() -> None:
    backoff, now = BackOff(), 1000.0
    delays = []
    for _ in range(8):
        delays.append(backoff.delay(now))
        now += delays[-1]
        backoff.started(now)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]
    assert backoff.delay(now + 601) == 0


def test_what_is_deleted_first() -> None:
    def pod(name: str, ready: bool, created: int, node: str = "n", **annotations: str) -> dict[str, Any]:
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": f"2026-01-01T00:00:{created:02}Z"}
        return {
            "metadata": {
                "name": name,
                "creationTimestamp": f"2026-01-01T00:00:{created:02}Z",
                "annotations": {f"controller.kubernetes.io/{k.replace('_', '-')}": v for k, v in annotations.items()},
            },
            "spec": {"nodeName": node},
            "status": {"phase": "Running" if node else "Pending", "conditions": [condition]},
        }

    pods = [
        pod("old", True, 1),
        pod("new", True, 9),
        pod("unready", False, 2),
        pod("unassigned", False, 3, node=""),
        pod("cheap", True, 1, pod_deletion_cost="-5"),
    ]
    order = [found["metadata"]["name"] for found in sorted(pods, key=_victim_order)]
    assert order == ["unassigned", "unready", "cheap", "new", "old"]


@pytest.mark.parametrize(
    ("pod", "node", "expected"),
    [
        ({}, {"unschedulable": True}, (["node(s) were unschedulable"], False)),
        ({}, {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}, (["node(s) had untolerated taint(s)"], False)),
        (
            {"tolerations": [{"key": "gpu", "operator": "Exists"}]},
            {"taints": [{"key": "gpu", "effect": "NoSchedule"}]},
            ([], True),
        ),
        ({"nodeSelector": {"disk": "ssd"}}, {}, (["node(s) didn't match Pod's node affinity/selector"], False)),
    ],
)
def test_why_a_node_does_not_take_a_pod(
    pod: dict[str, Any], node: dict[str, Any], expected: tuple[list[str], bool]
) -> None:
    room = {"metadata": {}, "spec": node, "status": {"allocatable": {"cpu": "1", "pods": "9"}}}
    assert objections({"spec": {"containers": [], **pod}}, room, []) == expected


def test_paths_at_or_below_a_mount_move_and_others_stay(tmp_path: Any) -> None:
    container = {"volumeMounts": [{"name": "a", "mountPath": "/models"}, {"name": "b", "mountPath": "/models/own"}]}
    paths = Paths(container, {"a": tmp_path / "a", "b": tmp_path / "b"})
    assert paths.real("/models/default") == f"{tmp_path}/a/default"
    assert paths.real("/models/own") == f"{tmp_path}/b"
    assert paths.real("/models-other") == "/models-other"
    assert paths.real("see /models") == "see /models"


def test_variables_in_commands() -> None:
    assert substitute("$(A)-$$(A)-$(B)-$A", {"A": "1"}) == "1-$(A)-$(B)-$A"


def test_ports_by_name_and_number() -> None:
    container = {"ports": [{"name": "http", "containerPort": 8080}]}
    assert [port_number(port, container) for port in ("http", 9, "9", "absent")] == [8080, 9, 9, None]


def test_the_built_in_configuration_knows_the_inference_image_only() -> None:
    config = load(None)
    for reference in ("inference-api:1.0.0", "registry.example/team/inference-api@sha256:" + "0" * 64):
        image = config.image(reference)
        assert image is not None
        assert [expand(part, "127.1.2.3") for part in image.command][1:] == [
            "-m",
            "inference_app",
            "--host",
            "127.1.2.3",
        ]
    assert config.image("inference-api:latest") is None
    assert config.image("other:1") is None
