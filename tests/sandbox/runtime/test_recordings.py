"""Rollouts on the sandbox look like the same rollouts on a real cluster: reasons, messages, shapes, order."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Client, Recording, wait_for

DATA = Path(__file__).resolve().parents[2] / "unit" / "data" / "rollouts"
# case: how many seconds of the recording a run is compared with
CASES = {
    "first-deploy": 9,
    "image-not-found": 14,
    "image-name-invalid": 10,
    "config-key-missing": 10,
    "command-not-found": 10,
    "crash-at-start": 10,
    "oom-killed": 10,
    "readiness-never": 10,
    "liveness-kills": 14,
    "unschedulable": 10,
    "quota-exceeded": 10,
    "pod-security-denied": 10,
}
Line = tuple[str, str, dict[str, Any]]


def recorded(case: str) -> list[Line]:
    rows = [json.loads(line) for line in (DATA / f"{case}.jsonl").read_text().splitlines()]
    return [
        (row["resource"], row["type"], row["object"]) for row in rows
        if row.get("type") in ("ADDED", "MODIFIED", "DELETED") and row["t"] <= CASES[case]
    ]  # fmt: skip


def plain(value: Any) -> Any:
    """Without what differs from run to run."""
    text = re.sub(r"inference-api-[a-z0-9]{6,10}-[a-z0-9]{5}", "POD", json.dumps(value))
    text = re.sub(r"inference-api-[a-z0-9]{6,10}", "RS", text)
    text = re.sub(r"\b(10|127)\.\d+\.\d+\.\d+", "IP", text)
    return json.loads(re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "UID", text))


def distinct(values: Iterable[Any]) -> list[Any]:
    return [json.loads(text) for text in dict.fromkeys(json.dumps(plain(value), sort_keys=True) for value in values)]


def _state(state: dict[str, Any]) -> dict[str, Any]:
    kept = ("reason", "message", "exitCode")
    return {name: {key: value for key, value in inner.items() if key in kept} for name, inner in state.items()}


def of_pods(lines: list[Line]) -> list[Any]:
    """The distinct statuses of the first pod, in order."""
    pods = [obj for resource, _, obj in lines if resource == "pods"]
    return distinct(
        {
            "phase": pod["status"].get("phase"),
            "conditions": [
                [c["type"], c["status"], c.get("reason"), c.get("message")] for c in pod["status"].get("conditions", [])
            ],
            "containers": [
                [c["name"], c["ready"], c["started"], c["restartCount"], _state(c["state"]), _state(c["lastState"])]
                for c in pod["status"].get("containerStatuses", [])
            ],
        }
        for pod in pods
        if pod["metadata"]["name"] == pods[0]["metadata"]["name"]
    )


def of_events(lines: list[Line], kind: str) -> list[Any]:
    """The distinct events of the first object of the kind, in order; whether a probe came in time to fail is luck."""
    events = [obj for resource, _, obj in lines if resource == "events" and obj["involvedObject"]["kind"] == kind]
    return distinct(
        {**{key: event.get(key) for key in ("type", "reason", "message", "reportingComponent", "action")},
         "source": event["source"].get("component"), "field": event["involvedObject"].get("fieldPath")}
        for event in events
        if event["involvedObject"]["name"] == events[0]["involvedObject"]["name"] and event["reason"] != "Unhealthy"
    )  # fmt: skip


def of_status(lines: list[Line], resource: str) -> dict[str, Any]:
    """The last status of the Deployment or ReplicaSet, its conditions in no order and without times."""
    status = [obj["status"] for kind, _, obj in lines if kind == resource][-1]
    bare = [{k: v for k, v in c.items() if not k.endswith("Time")} for c in status.get("conditions", [])]
    return plain({**status, "conditions": sorted(bare, key=lambda c: c["type"])})


@pytest.fixture(scope="module")
def run(sandbox: Client) -> Recording:
    """All cases at once, each in a namespace of its own."""
    recording = Recording(sandbox)
    for case in CASES:
        header = json.loads((DATA / f"{case}.jsonl").open().readline())["header"]
        space = sandbox.namespace(f"rec-{case}", **header.get("namespaceLabels", {}))
        if case == "config-key-missing":
            config = {"metadata": {"name": "inference-config"}, "data": {"LOG_LEVEL": "info"}}
            sandbox.create("ConfigMap", space, config)
        if case == "quota-exceeded":
            quota = {"metadata": {"name": "inference"}, "spec": {"hard": {"pods": "1"}}}
            sandbox.create("ResourceQuota", space, quota)
        made = next(obj for resource, _, obj in recorded(case) if resource == "deployments")
        # two processes cannot both listen on 0.0.0.0
        spec = json.loads(json.dumps(made["spec"]).replace("HTTPServer(('',", "HTTPServer((os.environ['POD_IP'],"))
        sandbox.create("Deployment", space, {"metadata": {"name": "inference-api"}, "spec": spec})
    return recording


def ours(run: Recording, case: str) -> list[Line]:
    return [line for line in list(run.lines) if line[2]["metadata"]["namespace"] == f"rec-{case}"]


@pytest.mark.parametrize("case", CASES)
def test_the_sandbox_tells_what_a_cluster_told(case: str, run: Recording) -> None:
    real = recorded(case)

    def is_as_far() -> bool:
        lines = ours(run, case)
        return (
            len(of_pods(lines)) >= len(of_pods(real))
            and len(of_events(lines, "Pod")) >= len(of_events(real, "Pod"))
            and len(of_events(lines, "ReplicaSet")) >= len(of_events(real, "ReplicaSet"))
            and of_status(lines, "deployments") == of_status(real, "deployments")
        )

    with contextlib.suppress(AssertionError):  # the comparisons below say what is missing
        wait_for(is_as_far, 30)
    found = ours(run, case)
    assert of_pods(found)[: len(of_pods(real))] == of_pods(real)
    for kind in ("Deployment", "ReplicaSet", "Pod"):
        assert of_events(found, kind)[: len(of_events(real, kind))] == of_events(real, kind)
    for resource in ("deployments", "replicasets"):
        assert of_status(found, resource) == of_status(real, resource)


@pytest.mark.parametrize("case", ["readiness-never", "liveness-kills"])
def test_a_failing_probe_is_told_in_the_same_words(case: str, run: Recording) -> None:
    def told(lines: list[Line]) -> set[str]:
        return {plain(o["message"]) for r, _, o in lines if r == "events" and o["reason"] in ("Unhealthy", "Killing")}

    real = told(recorded(case))
    wait_for(lambda: real <= told(ours(run, case)))
