"""Rollouts: revisions, the arithmetic of surge and unavailable, deadlines, undo."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import pytest

from tests.contract.bodies import SLEEP, condition, container, deployment, is_ready, is_true, seconds
from tests.contract.client import MERGE, Obj, until
from tests.contract.space import Space

_NEVER = {"tcpSocket": {"port": 9}, "periodSeconds": 5}
_REVISION = "deployment.kubernetes.io/revision"


def _done(ns: Space, name: str = "web") -> Obj:
    """The Deployment when its rollout is complete, by kubectl's rules."""

    def look() -> Obj | None:
        found = ns.get("deployments", name)
        status, wanted = found.get("status", {}), found["spec"]["replicas"]
        complete = (
            status.get("observedGeneration", 0) >= found["metadata"]["generation"]
            and status.get("updatedReplicas", 0) == wanted
            and status.get("replicas", 0) == wanted
            and status.get("availableReplicas", 0) == wanted
        )
        return found if complete else None

    return until(f"{name} is rolled out", look)  # type: ignore[return-value]


def _change(ns: Space, **env: str) -> Obj:
    """A new revision: another environment for the container."""
    body = ns.get("deployments", "web")["spec"]["template"]["spec"]["containers"][0]
    kept = [e for e in body["env"] if e["name"] not in env]
    patch = {"spec": {"template": {"spec": {"containers": [{**body, "env": kept + _env(**env)}]}}}}
    done: Obj = ns.patch("deployments", "web", patch).ok(200)
    return done


def _env(**values: str) -> list[Obj]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _sets(ns: Space) -> dict[str, Obj]:
    """revision: ReplicaSet."""
    return {rs["metadata"]["annotations"][_REVISION]: rs for rs in ns.list("replicasets")}


def _sizes(ns: Space) -> dict[str, int]:
    """revision: how many pods its ReplicaSet is told to have."""
    return {revision: rs["spec"]["replicas"] for revision, rs in _sets(ns).items()}


def test_a_deployment_makes_a_replica_set_and_that_its_pods(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=2))
    found = _done(podns)
    (owned,) = podns.list("replicasets")
    hash_ = owned["metadata"]["labels"]["pod-template-hash"]
    assert owned["metadata"]["name"] == f"web-{hash_}"
    assert owned["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": hash_}
    (ref,) = owned["metadata"]["ownerReferences"]
    assert (ref["kind"], ref["name"], ref["uid"]) == ("Deployment", "web", found["metadata"]["uid"])
    assert ref["controller"] is ref["blockOwnerDeletion"] is True
    pods = podns.list("pods")
    assert len(pods) == 2
    for pod in pods:
        assert re.fullmatch(rf"web-{hash_}-[a-z0-9]{{5}}", pod["metadata"]["name"])
        assert pod["metadata"]["generateName"] == f"web-{hash_}-"
        assert pod["metadata"]["labels"] == {"app": "web", "pod-template-hash": hash_}
        assert pod["metadata"]["ownerReferences"][0]["name"] == owned["metadata"]["name"]


def test_a_finished_rollout_says_so(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=2))
    found = _done(podns)
    status = found["status"]
    assert (status["readyReplicas"], status["availableReplicas"], status["updatedReplicas"]) == (2, 2, 2)
    assert not status.get("unavailableReplicas")
    found = until("it has progressed", lambda: _progressed(podns))
    progress, available = condition(found, "Progressing"), condition(found, "Available")
    assert progress["status"] == "True"
    assert re.fullmatch(r'ReplicaSet "web-\w+" has successfully progressed\.', progress["message"])
    assert (available["status"], available["reason"]) == ("True", "MinimumReplicasAvailable")
    assert found["metadata"]["annotations"][_REVISION] == "1"


def _progressed(ns: Space) -> Obj | None:
    found = ns.get("deployments", "web")
    return found if condition(found, "Progressing").get("reason") == "NewReplicaSetAvailable" else None


def test_scaling_is_told_in_events(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=1))
    event = podns.event("web", "ScalingReplicaSet")
    assert re.fullmatch(r"Scaled up replica set web-\w+ from 0 to 1", event["message"])
    (owned,) = podns.list("replicasets")
    event = podns.event(owned["metadata"]["name"], "SuccessfulCreate")
    assert event["message"].startswith("Created pod: web-")


def test_a_status_field_that_is_zero_is_absent(ns: Space) -> None:
    ns.make("deployments", deployment(replicas=0))
    found = _done(ns)
    for key in ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas"):
        assert key not in found["status"]


def test_a_pod_that_is_deleted_is_replaced(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=1))
    _done(podns)
    (pod,) = podns.list("pods")
    podns.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0).ok(200)
    until(
        "there is another",
        lambda: any(is_ready(p) for p in podns.list("pods") if p["metadata"]["uid"] != pod["metadata"]["uid"]),
    )


@pytest.mark.parametrize("how", ["spec", "patch", "replace"])
def test_a_deployment_is_scaled(podns: Space, how: str) -> None:
    podns.make("deployments", deployment(replicas=1))
    _done(podns)
    path = podns.path("deployments", "web", "scale")
    for size in (3, 0):
        if how == "spec":
            podns.patch("deployments", "web", {"spec": {"replicas": size}}).ok(200)
        elif how == "patch":
            podns.api.patch(path, {"spec": {"replicas": size}}, MERGE).ok(200)
        else:
            scale = podns.api.get(path).ok(200)
            podns.api.put(path, {**scale, "spec": {"replicas": size}}).ok(200)
        _done(podns)
        until(
            f"{size} pods are left",
            lambda size=size: len([p for p in podns.list("pods") if "deletionTimestamp" not in p["metadata"]]) == size,
        )
    assert len(podns.list("replicasets")) == 1


def test_a_scale_shows_size_and_selector(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=1))
    _done(podns)
    scale = podns.api.get(podns.path("deployments", "web", "scale")).ok(200)
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 1, "selector": "app=web"}
    assert scale["metadata"]["uid"] == podns.get("deployments", "web")["metadata"]["uid"]


def test_a_scale_below_zero_is_refused(ns: Space) -> None:
    ns.make("deployments", deployment())
    path = ns.path("deployments", "web", "scale")
    ns.api.patch(path, {"spec": {"replicas": -1}}, MERGE).refused(422, "Invalid", "must be greater than or equal to 0")


def test_a_scale_with_an_old_version_conflicts(ns: Space) -> None:
    ns.make("deployments", deployment())
    _done(ns)
    path = ns.path("deployments", "web", "scale")
    scale = ns.api.get(path).ok(200)
    ns.patch("deployments", "web", {"metadata": {"labels": {"x": "y"}}}).ok(200)
    ns.api.put(path, {**scale, "spec": {"replicas": 0}}).refused(409, "Conflict", "the object has been modified")


# --- revisions --------------------------------------------------------------------------------------------------------


def test_another_template_is_another_revision(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=1))
    _done(podns)
    _change(podns, A="1")
    found = _done(podns)
    assert found["metadata"]["annotations"][_REVISION] == "2"
    assert _sizes(podns) == {"1": 0, "2": 1}


def test_what_is_outside_the_template_is_no_revision(ns: Space) -> None:
    ns.make("deployments", deployment())
    _done(ns)
    ns.patch("deployments", "web", {"metadata": {"labels": {"x": "y"}}, "spec": {"minReadySeconds": 1}}).ok(200)
    assert _done(ns)["metadata"]["annotations"][_REVISION] == "1"
    assert len(ns.list("replicasets")) == 1


def test_an_annotation_of_the_template_is_a_revision(ns: Space) -> None:
    """Which is how a changed ConfigMap is made to roll the pods."""
    ns.make("deployments", deployment())
    _done(ns)
    ns.patch("deployments", "web", {"spec": {"template": {"metadata": {"annotations": {"config": "2"}}}}}).ok(200)
    until("there is a second revision", lambda: set(_sets(ns)) == {"1", "2"})


def test_an_old_template_takes_its_old_replica_set_up_again(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=1))
    first = _done(podns)["spec"]["template"]
    _change(podns, A="1")
    _done(podns)
    before = {rs["metadata"]["name"] for rs in podns.list("replicasets")}
    old = _sets(podns)["1"]["metadata"]["name"]
    body = podns.get("deployments", "web")
    podns.api.patch(
        podns.path("deployments", "web"),
        [{"op": "replace", "path": "/spec/template", "value": first}],
        "application/json-patch+json",
    ).ok(200)
    found = _done(podns)
    assert found["metadata"]["annotations"][_REVISION] == "3"
    assert found["metadata"]["uid"] == body["metadata"]["uid"]
    assert {rs["metadata"]["name"] for rs in podns.list("replicasets")} == before
    again = _sets(podns)["3"]
    assert again["metadata"]["name"] == old
    assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"
    assert again["spec"]["replicas"] == 1


def test_a_revision_can_be_undone_from_its_replica_set(podns: Space) -> None:
    """What kubectl's undo does: the ReplicaSet's template without its hash."""
    podns.make("deployments", deployment("web", container(env=_env(A="good")), replicas=1))
    _done(podns)
    _change(podns, A="bad")
    _done(podns)
    template = copy.deepcopy(_sets(podns)["1"]["spec"]["template"])
    del template["metadata"]["labels"]["pod-template-hash"]
    patch = [{"op": "replace", "path": "/spec/template", "value": template}]
    podns.api.patch(podns.path("deployments", "web"), patch, "application/json-patch+json").ok(200)
    found = _done(podns)
    env = {e["name"]: e.get("value") for e in found["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["A"] == "good"
    assert _sizes(podns) == {"2": 0, "3": 1}


@pytest.mark.parametrize(("limit", "left"), [(0, {"4"}), (1, {"3", "4"}), (10, {"1", "2", "3", "4"})])
def test_history_is_as_long_as_its_limit(ns: Space, limit: int, left: set[str]) -> None:
    ns.make("deployments", deployment(revisionHistoryLimit=limit))
    _done(ns)
    for value in "123":
        _change(ns, A=value)
        until("the revision is there", lambda value=value: str(int(value) + 1) in _sets(ns))
        _done(ns)
    until("the history has its length", lambda: set(_sets(ns)) == left)


def test_replica_sets_remember_what_was_wanted(ns: Space) -> None:
    ns.make("deployments", deployment(replicas=0))
    _done(ns)
    (owned,) = ns.list("replicasets")
    annotations = owned["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/desired-replicas"] == "0"
    assert annotations["deployment.kubernetes.io/max-replicas"] == "0"


# --- arithmetic -------------------------------------------------------------------------------------------------------


def _rolling(surge: Any, unavailable: Any) -> Obj:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


# (replicas, surge, unavailable): (old pods, new pods) when no new pod ever becomes ready
_STALLED = {
    (4, 1, 0): (4, 1),
    (4, 0, 1): (3, 1),
    (4, 1, 1): (3, 2),
    (4, 2, 1): (3, 3),
    (4, 0, 4): (0, 4),
    (4, "25%", "25%"): (3, 2),
    (3, "25%", "25%"): (3, 1),
    (3, "34%", "34%"): (2, 3),
    (5, "10%", "50%"): (3, 3),
    (2, "100%", 0): (2, 2),
    (2, "150%", "0%"): (2, 2),
    (2, "100%", "100%"): (0, 2),
    (1, "25%", "25%"): (1, 1),
    (1, 0, "1%"): (0, 1),
    (3, 0, "10%"): (2, 1),
}


@pytest.mark.parametrize(("replicas", "surge", "unavailable"), _STALLED)
def test_a_rollout_that_stalls_comes_to_rest(podns: Space, replicas: int, surge: Any, unavailable: Any) -> None:
    podns.make("deployments", deployment(replicas=replicas, strategy=_rolling(surge, unavailable)))
    _done(podns)
    patch = [
        {"op": "add", "path": "/spec/template/metadata/annotations", "value": {"next": "1"}},
        {"op": "add", "path": "/spec/template/spec/containers/0/readinessProbe", "value": _NEVER},
    ]
    podns.patch("deployments", "web", patch, "application/json-patch+json").ok(200)
    old, new = _STALLED[replicas, surge, unavailable]

    def rests() -> bool:
        status = podns.get("deployments", "web")["status"]
        told = [status.get(f"{key}eplicas", 0) for key in ("r", "updatedR", "availableR")]
        return _sizes(podns) == {"1": old, "2": new} and told == [old + new, new, old]

    until(f"there are {old} old and {new} new pods", rests)
    assert podns.get("deployments", "web")["status"]["observedGeneration"] == 2
    assert _sizes(podns) == {"1": old, "2": new}


def _bounds(replicas: int, surge: Any, unavailable: Any) -> tuple[int, int]:
    """(most, least) pods, as the documentation has it: surge is rounded up, unavailable down."""

    def amount(value: Any, round_: Any) -> int:
        return round_(int(value[:-1]) * replicas / 100) if isinstance(value, str) else value

    more, fewer = amount(surge, math.ceil), amount(unavailable, math.floor)
    return replicas + more, replicas - (fewer if more or fewer else 1)


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable"),
    [(3, 1, 0), (3, 0, 1), (4, 2, 1), (4, "25%", "25%"), (2, "100%", 0), (3, "50%", "50%")],
)
def test_a_rollout_keeps_its_bounds(podns: Space, replicas: int, surge: Any, unavailable: Any) -> None:
    """Told by two watches: the sizes that ReplicaSets were given, and the pods that were ready, at every moment."""
    podns.make("deployments", deployment(replicas=replicas, strategy=_rolling(surge, unavailable)))
    _done(podns)
    most, least = _bounds(replicas, surge, unavailable)
    before = {plural: podns.api.get(podns.path(plural)).ok(200) for plural in ("replicasets", "pods")}
    _change(podns, A="1")
    _done(podns)

    def history(plural: str) -> list[dict[str, Obj]]:
        """All objects by name after each event of the rollout."""
        now = {item["metadata"]["name"]: item for item in before[plural]["items"]}
        states = []
        version = before[plural]["metadata"]["resourceVersion"]
        for event in podns.api.watch(podns.path(plural), resourceVersion=version, seconds=3):
            name = event["object"]["metadata"]["name"]
            now = {**now, name: event["object"]}
            if event["type"] == "DELETED":
                del now[name]
            states.append(now)
        return states

    sizes = [sum(rs["spec"]["replicas"] for rs in state.values()) for state in history("replicasets")]
    assert max(sizes) <= most
    ready = [sum(is_ready(pod) for pod in state.values()) for state in history("pods")]
    assert min(ready) >= least
    assert ready[-1] == replicas


def test_recreate_ends_the_old_before_it_begins_the_new(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=2, strategy={"type": "Recreate"}))
    _done(podns)
    before = podns.api.get(podns.path("pods")).ok(200)
    old = {pod["metadata"]["name"] for pod in before["items"]}
    _change(podns, A="1")
    _done(podns)
    for event in podns.api.watch(podns.path("pods"), resourceVersion=before["metadata"]["resourceVersion"], seconds=3):
        name, phase = event["object"]["metadata"]["name"], event["object"]["status"].get("phase")
        if event["type"] == "DELETED" or phase in ("Succeeded", "Failed"):
            old.discard(name)
        if event["type"] == "ADDED":
            assert not old
    assert not old


# --- waiting, pausing, giving up --------------------------------------------------------------------------------------


def test_a_rollout_goes_on_from_a_broken_revision_to_the_next(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=2, strategy=_rolling(1, 0)))
    _done(podns)
    patch = [{"op": "add", "path": "/spec/template/spec/containers/0/readinessProbe", "value": _NEVER}]
    podns.patch("deployments", "web", patch, "application/json-patch+json").ok(200)
    until("the broken revision begins", lambda: _sizes(podns).get("2") == 1)
    patch = [
        {"op": "remove", "path": "/spec/template/spec/containers/0/readinessProbe"},
        {"op": "add", "path": "/spec/template/metadata/annotations", "value": {"next": "2"}},
    ]
    podns.patch("deployments", "web", patch, "application/json-patch+json").ok(200)
    _done(podns)
    assert _sizes(podns) == {"1": 0, "2": 0, "3": 2}


def test_a_paused_deployment_does_not_roll(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=1))
    _done(podns)
    podns.patch("deployments", "web", {"spec": {"paused": True}}).ok(200)
    _change(podns, A="1")
    found = until("it says that it is paused", lambda: _reason(podns, "DeploymentPaused"))
    until("the change is seen", lambda: podns.get("deployments", "web")["status"]["observedGeneration"] >= 3)
    assert condition(found, "Progressing")["status"] == "Unknown"
    assert condition(found, "Progressing")["message"] == "Deployment is paused"
    assert set(_sets(podns)) == {"1"}
    podns.patch("deployments", "web", {"spec": {"paused": None}}).ok(200)
    assert _done(podns)["metadata"]["annotations"][_REVISION] == "2"


def _reason(ns: Space, reason: str) -> Obj | None:
    found = ns.get("deployments", "web")
    return found if condition(found, "Progressing").get("reason") == reason else None


def test_a_paused_deployment_still_scales(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=1))
    _done(podns)
    podns.patch("deployments", "web", {"spec": {"paused": True, "replicas": 2}}).ok(200)
    _done(podns)


@pytest.mark.slow
def test_a_rollout_gives_up_at_its_deadline(podns: Space) -> None:
    podns.make(
        "deployments", deployment("web", container(readinessProbe=_NEVER), replicas=1, progressDeadlineSeconds=5)
    )
    found = until("the deadline is over", lambda: _reason(podns, "ProgressDeadlineExceeded"))
    progress = condition(found, "Progressing")
    assert progress["status"] == "False"
    assert re.fullmatch(r'ReplicaSet "web-\w+" has timed out progressing\.', progress["message"])
    assert seconds(progress["lastTransitionTime"]) - seconds(found["metadata"]["creationTimestamp"]) >= 5
    assert condition(found, "Available")["reason"] == "MinimumReplicasUnavailable"
    assert found["status"]["unavailableReplicas"] == 1


def test_a_pod_counts_only_after_its_time(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=1, minReadySeconds=4))
    until("the pod is ready", lambda: podns.get("deployments", "web").get("status", {}).get("readyReplicas"))
    found = _done(podns)
    (pod,) = podns.list("pods")
    available = seconds(condition(found, "Available")["lastTransitionTime"])
    assert available - seconds(condition(pod, "Ready")["lastTransitionTime"]) >= 3


def test_a_deployment_that_loses_its_pods_says_so(podns: Space) -> None:
    code = SLEEP.replace("time.sleep(3600)", "time.sleep(2); sys.exit(1)")
    podns.make("deployments", deployment("web", container(code), replicas=1))
    until("it was there", lambda: is_true(podns.get("deployments", "web"), "Available"))
    until("it is gone", lambda: condition(podns.get("deployments", "web"), "Available").get("status") == "False")


def test_a_dead_deployment_leaves_no_pods(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=2))
    _done(podns)
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
    podns.delete("deployments", "web", options).ok(200)
    podns.gone("deployments", "web")
    assert podns.list("replicasets") == []
    assert podns.list("pods") == []


def test_one_change_while_another_rolls(podns: Space) -> None:
    podns.make("deployments", deployment(replicas=2))
    _done(podns)
    _change(podns, A="1")
    _change(podns, A="2")
    podns.patch("deployments", "web", {"spec": {"replicas": 3}}).ok(200)
    found = _done(podns)
    (current,) = [rs for rs in podns.list("replicasets") if rs["spec"]["replicas"]]
    env = {e["name"]: e.get("value") for e in current["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["A"] == "2"
    assert current["metadata"]["annotations"][_REVISION] == found["metadata"]["annotations"][_REVISION]
