"""Every failure is named with its proof, and what was there goes on answering."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Sandbox

TINY = {"requests": {"memory": "16Mi"}, "limits": {"memory": "24Mi"}}
HUGE = {"requests": {"cpu": "9"}, "limits": {"cpu": "9"}}

FAILURES = [
    ("image not found", {"inference_workload_image": "sandbox/inference-api:absent"}, "ImagePullBackOff", "absent"),
    ("crash on update", {"namespace_config_data": {"LOG_LEVEL": "loud"}}, "CrashLoopBackOff", "LOG_LEVEL"),
    ("out of memory", {"inference_workload_resources": TINY}, "OOMKilled", "24Mi"),
    (
        "no node",
        {"inference_workload_resources": HUGE},
        "Unschedulable",
        "Insufficient cpu",
    ),
    (
        "never ready",
        {"namespace_config_data": {"MODEL_PATH": "models/absent"}, "inference_workload_progress_deadline": 12},
        "ProgressDeadlineExceeded",
        "absent",
    ),
]

REFUSALS = [
    (
        "quota without room for the surge",
        {"namespace_config_quota": {"pods": "2"}, "namespace_config_data": {"A": "b"}},
        "exceeded quota",
    ),
    ("Pod Security", {"inference_workload_run_as_user": 0}, "violates PodSecurity"),
]


class Client(threading.Thread):
    """Keeps asking through the clients' address, and keeps what went wrong."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(daemon=True)
        self.sandbox, self.done, self.answers, self.failures = sandbox, threading.Event(), 0, list[str]()

    def run(self) -> None:
        while not self.done.wait(0.05):
            try:
                status, _answer = self.sandbox.predict()
            except OSError as error:
                self.failures.append(repr(error))
            else:
                self.answers += 1
                if status != 200:
                    self.failures.append(f"status {status}")


@pytest.fixture(scope="module")
def healthy(sandbox: Sandbox) -> Sandbox:
    run = sandbox.deploy()
    assert run.code == 0, run.out
    return sandbox


@pytest.fixture
def client(healthy: Sandbox) -> Iterator[Client]:
    asking = Client(healthy)
    asking.start()
    yield asking
    asking.done.set()
    asking.join()


@pytest.mark.parametrize(("name", "broken", "cause", "proof"), FAILURES, ids=[case[0] for case in FAILURES])
def test_a_failed_update_is_named_and_undone_while_clients_notice_nothing(
    healthy: Sandbox, client: Client, name: str, broken: dict[str, Any], cause: str, proof: str
) -> None:
    before = healthy.object("deployments")["spec"]
    run = healthy.deploy(**broken)
    assert run.code == 2, run.out
    assert cause in run.words
    assert proof in run.words
    assert "was restored, is healthy and passed its gate" in run.words
    assert healthy.object("deployments")["spec"] == before
    assert healthy.object("leases") is None
    client.done.set()
    client.join()
    assert client.answers > 0
    assert client.failures == []


@pytest.mark.parametrize(("name", "broken", "proof"), REFUSALS, ids=[case[0] for case in REFUSALS])
def test_what_the_server_would_refuse_is_said_before_the_release_is_written(
    healthy: Sandbox, name: str, broken: dict[str, Any], proof: str
) -> None:
    revisions = healthy.object("secrets", "")["items"]
    before = healthy.object("deployments")["metadata"]["generation"]
    run = healthy.deploy(**broken)
    assert run.code == 2, run.out
    assert proof in run.words
    assert "nothing was written" in run.words
    assert healthy.object("deployments")["metadata"]["generation"] == before
    assert len(healthy.object("secrets", "")["items"]) == len(revisions)
    assert healthy.deploy().code == 0


def test_a_failed_first_release_leaves_nothing(fresh: Sandbox) -> None:
    run = fresh.deploy(inference_workload_image="sandbox/inference-api:absent")
    assert run.code == 2, run.out
    assert "ImagePullBackOff" in run.words
    assert "what it had created was removed again" in run.words
    for kind, name in (
        ("deployments", "inference-api"),
        ("services", "inference-api"),
        ("configmaps", "inference-config"),
    ):
        assert fresh.object(kind, name) is None
    again = fresh.deploy()
    assert again.code == 0, again.out
    assert fresh.predict()[0] == 200
