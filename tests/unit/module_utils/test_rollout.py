"""Watching a rollout over real HTTP, with an API server that misbehaves."""

from __future__ import annotations

import itertools
import time

import pytest
import urllib3
from ansible_collections.deepmlhub.inference.plugins.module_utils import rollout
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import ApiError, Cluster, Unreachable

from . import rollouts
from .apiserver import ApiServer, status

KEYS = {
    "verdict",
    "cause",
    "summary",
    "hint",
    "evidence",
    "progress",
    "name",
    "namespace",
    "elapsed",
    "notes",
}


def fast_clock():
    """A minute of the rollout passes in 0.6 s."""
    return time.monotonic() * 100


class StepClock:
    """Stands still until it is started; then a second passes with each look at it."""

    def __init__(self, deadline=10**9, at_deadline=lambda: None):
        self.now, self.going, self.deadline, self.at_deadline = 0, False, deadline, at_deadline

    def start(self):
        self.going = True

    def __call__(self):
        self.now += self.going
        if self.now > self.deadline:
            self.at_deadline()
        return self.now


@pytest.fixture
def server():
    with ApiServer() as running:
        yield running


@pytest.fixture
def cluster(server):
    with urllib3.PoolManager(maxsize=8) as pool:
        yield Cluster(server.url, pool, dict, request_timeout=5.0)


def watch(cluster, **more):
    options = {
        "wait_timeout": 1e6,
        "wait_sleep": 0.01,
        "request_timeout": 5.0,
        "unschedulable_timeout": 10.0,
        "clock": fast_clock,
    }
    return rollout.wait(cluster, "ml-inference", "inference-api", **{**options, **more})


def play(server, name, count=None, skip=0):
    """Put lines of a recording into the server; the count of those that were put."""
    recording = rollouts.load(name)
    for line in [*recording.before, *recording.lines][skip:count]:
        if line.resource in ("deployments", "replicasets", "pods", "events"):
            server.put(line.resource, line.change, line.object)
    server.logs.update(recording.logs)


class Cues:
    """Runs an action each time the wait reports progress that contains a text, in the order given."""

    def __init__(self, *cues):
        self.cues = list(cues)
        self.heard = []

    def __call__(self, text):
        self.heard.append(text)
        if self.cues and self.cues[0][0] in text:
            self.cues.pop(0)[1]()


def test_a_rollout_that_is_done_already_is_done_at_once(server, cluster):
    play(server, "first-deploy")
    result = watch(cluster)
    assert set(result) == KEYS
    assert (result["verdict"], result["cause"], result["progress"]) == ("done", None, "2 of 2 ready")
    assert rollout.report(result) == ["Deployment ml-inference/inference-api: done, 2 of 2 ready"]


def test_changes_come_by_watch_and_nothing_is_polled(server, cluster):
    play(server, "first-deploy", 3)
    cues = Cues(("0 of 2", lambda: play(server, "first-deploy", None, 3)))
    assert watch(cluster, on_progress=cues)["verdict"] == "done"
    assert sorted(one for one in server.requests if one.startswith("GET")) == [
        "GET deployments",
        "GET events",
        "GET pods",
        "GET replicasets",
    ]
    assert cues.heard[0] == "0 of 2 ready, waiting for the controller to see the change"


def test_a_crash_is_named_with_its_log_in_at_most_15_lines(server, cluster):
    play(server, "crash-at-start")
    result = watch(cluster)
    assert set(result) == KEYS
    assert (result["verdict"], result["cause"]) == ("failed", "CrashLoopBackOff")
    assert result["evidence"]["log"] == ["loading model", "ModelError: sha256 mismatch for model.skops"]
    assert result["evidence"]["previous_log"] == result["evidence"]["log"]
    lines = rollout.report(result)
    text = "\n".join(lines)
    assert len(lines) <= 15
    assert lines[0] == (
        "Deployment ml-inference/inference-api failed: CrashLoopBackOff: container api keeps ending (exit code 3)"
    )
    for part in (
        result["evidence"]["pod"],
        "container api",
        "node1",
        "exit code 3",
        "sha256 mismatch",
        "BackOff",
        "next:",
    ):
        assert part in text


def test_a_container_that_never_ran_has_no_log(server, cluster):
    play(server, "image-not-found")
    result = watch(cluster)
    assert (result["cause"], result["evidence"]["log"], result["evidence"]["previous_log"]) == (
        "ImagePullBackOff",
        [],
        [],
    )


@pytest.mark.parametrize("how", ["end", "cut"])
def test_a_watch_that_ends_or_breaks_is_taken_up_again(server, cluster, how):
    play(server, "first-deploy", 3)
    cues = Cues(("0 of 2", lambda: (server.end_watches(how), play(server, "first-deploy", None, 3))))
    assert watch(cluster, on_progress=cues)["verdict"] == "done"


def test_a_watch_that_expired_lists_again(server, cluster):
    play(server, "first-deploy", 3)
    expired = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}

    def expire():
        for resource in ("deployments", "replicasets", "pods", "events"):
            server.say(resource, expired)
        play(server, "first-deploy", None, 3)

    assert watch(cluster, on_progress=Cues(("0 of 2", expire)))["verdict"] == "done"


def test_a_version_that_is_gone_when_the_watch_opens_lists_again(server, cluster):
    play(server, "first-deploy", 3)
    refused = set()

    def interfere(resource, query):
        if "watch" in query and resource not in refused:
            refused.add(resource)
            return status(410, "Expired", "too old resource version")
        return None

    server.interfere = interfere
    cues = Cues(("0 of 2", lambda: play(server, "first-deploy", None, 3)))
    assert watch(cluster, on_progress=cues)["verdict"] == "done"
    assert len(refused) == 4


def test_an_object_that_went_while_nobody_watched_is_gone(server, cluster):
    play(server, "first-deploy", 3)

    def replace():
        server.end_watches("cut")
        for uid, found in list(server.objects["deployments"].items()):
            server.put("deployments", "DELETED", {**found, "metadata": {**found["metadata"], "uid": uid}})

    result = watch(cluster, on_progress=Cues(("0 of 2", replace)))
    assert (result["verdict"], result["cause"]) == ("failed", "Gone")
    assert "deleted" in result["evidence"]["message"]


def test_an_overloaded_server_is_asked_again_when_it_says(server, cluster):
    play(server, "first-deploy")
    answers = itertools.chain([status(429, "TooManyRequests", "later", Retry_After="7")] * 4, itertools.repeat(None))
    server.interfere = lambda _resource, query: None if "watch" in query else next(answers)
    pauses = []
    assert watch(cluster, sleep=pauses.append)["verdict"] == "done"
    assert pauses[:4] == [7.0] * 4


def test_while_the_server_is_away_nothing_is_judged(server, cluster):
    """The missing key is known and its 5 s pass while the server is away; when it is back, the rollout is done."""
    play(server, "config-key-missing", 33)

    def leave():
        server.interfere = lambda _resource, _query: "cut"
        server.end_watches("cut")
        (deployment,) = server.objects["deployments"].values()
        counts = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
        server.put("deployments", "MODIFIED", {**deployment, "status": counts})

    def come_back():
        server.interfere = lambda _resource, _query: None

    clock = StepClock(20, come_back)
    cues = Cues(
        ("CreateContainerConfigError", leave),
        ("waiting for the API server to answer", clock.start),
    )
    assert watch(cluster, on_progress=cues, clock=clock)["verdict"] == "done"
    assert clock.going


def test_a_server_that_stays_away_is_no_failed_rollout(server, cluster):
    server.interfere = lambda _resource, _query: "cut"
    with pytest.raises(Unreachable, match="did not answer"):
        watch(cluster, wait_timeout=20.0)


def test_a_server_that_goes_away_before_the_deadline_is_no_failed_rollout(server, cluster):
    play(server, "first-deploy", 3)

    clock = StepClock()

    def leave():
        server.interfere = lambda _resource, _query: "cut"
        server.end_watches("cut")

    cues = Cues(("0 of 2", leave), ("waiting for the API server", clock.start))
    with pytest.raises(Unreachable, match="did not answer"):
        watch(cluster, wait_timeout=60.0, on_progress=cues, clock=clock)


def test_a_time_out_names_what_it_waited_for(server, cluster):
    play(server, "readiness-never", 60)
    clock = StepClock()
    result = watch(cluster, wait_timeout=30.0, on_progress=Cues(("0 of 2", clock.start)), clock=clock)
    assert set(result) == KEYS
    assert (result["verdict"], result["cause"]) == ("failed", "Timeout")
    assert result["evidence"]["message"].startswith("Readiness probe failed")
    text = "\n".join(rollout.report(result))
    assert "0 of 2 ready, waiting for inference-api-" in text
    assert "wait_timeout" in text


def test_without_permission_for_events_the_verdict_still_comes(server, cluster):
    play(server, "crash-at-start")
    server.interfere = lambda resource, _query: status(403, "Forbidden", "no") if resource == "events" else None
    result = watch(cluster)
    assert result["cause"] == "CrashLoopBackOff"
    assert len(result["notes"]) == 1
    assert "list events" in result["notes"][0]
    assert rollout.look(cluster, "ml-inference", "inference-api", unschedulable_timeout=10)["notes"] == result["notes"]


@pytest.mark.parametrize("ask", [watch, lambda cluster: rollout.look(cluster, "x", "y", unschedulable_timeout=10)])
def test_without_permission_for_deployments_there_is_no_verdict(server, cluster, ask):
    server.interfere = lambda _resource, _query: status(403, "Forbidden", "deployments is forbidden")
    with pytest.raises(ApiError, match="deployments is forbidden"):
        ask(cluster)


def test_a_deployment_that_is_not_there(server, cluster):
    result = watch(cluster)
    assert (result["verdict"], result["cause"]) == ("failed", "Gone")
    assert rollout.report(result)[0].startswith("Deployment ml-inference/inference-api failed: Gone")


def test_a_look_judges_once_and_watches_nothing(server, cluster):
    play(server, "quota-exceeded")
    server.date = "Mon, 23 Nov 2026 06:16:30 GMT"
    result = rollout.look(cluster, "ml-inference", "inference-api", unschedulable_timeout=10)
    assert set(result) == KEYS
    assert result["cause"] == "FailedCreate"
    assert not [one for one in server.requests if one.startswith("WATCH")]


def test_no_secret_of_a_log_is_shown(server, cluster):
    play(server, "crash-at-start")
    words = (
        "failed to fetch oauth token: unexpected status\nDB_PASSWORD=hunter2 token: 'abc.def' token: eyJ0\n"
        "Authorization: Bearer xyz\nhttps://me:hunter3@host/x\n"
    )
    for name in list(server.logs):
        server.logs[name] = words
    result = watch(cluster)
    text = "\n".join(rollout.report(result) + result["evidence"]["log"] + result["evidence"]["previous_log"])
    for secret in ("hunter2", "abc.def", "eyJ0", "xyz", "hunter3"):
        assert secret not in text
    assert "DB_PASSWORD=***" in text
    assert "oauth token: unexpected status" in text


def test_a_log_of_one_json_line_is_a_line(server, cluster):
    play(server, "crash-at-start")
    for name in list(server.logs):
        server.logs[name] = '{"level": "error", "message": "no model"}\n'
    assert watch(cluster)["evidence"]["log"] == ['{"level": "error", "message": "no model"}']


def test_the_servers_clock_tells_how_long_a_pod_has_waited(server, cluster):
    play(server, "unschedulable")
    began = "Mon, 23 Nov 2026 06:16:{} GMT"
    server.date = began.format(47)
    assert rollout.look(cluster, "ml-inference", "inference-api", unschedulable_timeout=10)["verdict"] == "progressing"
    server.date = began.format(54)
    assert rollout.look(cluster, "ml-inference", "inference-api", unschedulable_timeout=10)["cause"] == "Unschedulable"
