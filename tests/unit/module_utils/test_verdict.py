"""The rules of the verdict that no recording holds: what other kubelets, runtimes, registries and clusters say."""

from __future__ import annotations

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils.observation import Observation
from ansible_collections.deepmlhub.inference.plugins.module_utils.verdict import RULES, judge

from .world import IMAGE, REVISION, World, condition, ended, running, stamp, template, waiting


def outcome(world, t, **more):
    verdict = world.judge(t, **more)
    return verdict["verdict"], verdict["cause"]


PROGRESSING = ("progressing", None)
DONE = ("done", None)


def failed(cause):
    return "failed", cause


# Done ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "status", "progress"),
    [
        ({}, {"availableReplicas": 2}, ""),
        ({}, {"availableReplicas": 2, "observedGeneration": 0}, "the controller to see the change"),
        ({}, {"availableReplicas": 2, "observedGeneration": None}, "the controller to see the change"),
        ({"replicas": 3}, {"availableReplicas": 2}, "1 more updated pod"),
        ({"replicas": 5}, {"availableReplicas": 2, "updatedReplicas": None}, "5 more updated pods"),
        ({}, {"availableReplicas": 2, "replicas": 3}, "1 old pod to end"),
        ({}, {"availableReplicas": 1}, "1 pod to be available"),
        ({}, {}, "2 pods to be available"),
        ({"replicas": None}, {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}, ""),
        ({"replicas": None}, {"replicas": 0, "updatedReplicas": 0, "availableReplicas": 0}, "1 more updated pod"),
        ({"replicas": 0}, {"replicas": None, "updatedReplicas": None}, ""),
        ({}, {"availableReplicas": 2, "observedGeneration": 2}, ""),
        ({}, {"availableReplicas": 3, "updatedReplicas": 3, "replicas": 3}, ""),
        ({}, {"availableReplicas": 3}, ""),
    ],
)
def test_done_is_what_kubectl_calls_done(spec, status, progress):
    world = World()
    world.deployment(spec=spec, status=status)
    verdict = world.judge(0)
    wanted = 1 if spec.get("replicas", 2) is None else spec.get("replicas", 2)
    words = f"0 of {wanted} ready"
    assert verdict["verdict"] == ("progressing" if progress else "done")
    assert verdict["progress"] == (f"{words}, waiting for {progress}" if progress else words)
    assert (verdict["cause"], verdict["summary"], verdict["hint"], verdict["evidence"]) == (None, "", "", {})


def test_a_server_that_counts_no_generations_can_be_done():
    world = World()
    world.deployment(metadata={"generation": None}, status={"observedGeneration": None, "availableReplicas": 2})
    assert outcome(world, 0) == DONE


def test_without_a_deployment_it_waits_for_one():
    verdict = World().judge(0)
    assert (verdict["verdict"], verdict["progress"]) == (
        "progressing",
        "waiting for the Deployment inference-api to appear",
    )


def test_another_deployment_of_the_namespace_says_nothing():
    world = World()
    other = world.deployment(status={"availableReplicas": 2}, metadata={"name": "other", "uid": "o"})
    assert outcome(world, 0) == PROGRESSING
    world.tell(1, "deployments", other, "DELETED")
    assert outcome(world, 1) == PROGRESSING


def test_a_picture_from_before_the_change_is_not_done():
    world = World(generation=2)
    world.deployment(status={"availableReplicas": 2})
    assert outcome(world, 0) == PROGRESSING
    world.deployment(1, status={"availableReplicas": 2, "observedGeneration": 2}, metadata={"generation": 2})
    assert outcome(world, 1) == DONE


def test_an_older_picture_that_comes_late_changes_nothing():
    world = World()
    old = world.deployment()
    world.deployment(1, status={"availableReplicas": 2})
    world.seen.observe(2, "deployments", "MODIFIED", old)
    assert outcome(world, 2) == DONE


def test_the_rollout_is_told_in_one_line_while_it_goes_on():
    world = World().running(waiting("ContainerCreating"))
    world.pod(0, running(ready=True), name="b", status={"conditions": [condition("Ready", "True")]})
    assert world.judge(1)["progress"] == "1 of 2 ready, waiting for inference-api-a: ContainerCreating"
    world.pod(1, waiting("PodInitializing"), name="c")
    assert world.judge(1)["progress"] == "1 of 2 ready, waiting for inference-api-a: ContainerCreating"
    world.event(2, "pod-a", "FailedScheduling", "older")
    world.event(3, "pod-a", "FailedCreatePodSandBox", "no address left")
    verdict = world.judge(3)
    assert verdict["verdict"] == "progressing"
    assert verdict["evidence"]["message"] == "no address left"
    assert (verdict["evidence"]["container"], verdict["evidence"]["reason"]) == ("api", "ContainerCreating")
    world.pod(4, running(), running(ready=True, name="proxy"))
    world.event(5, "pod-a", "Unhealthy", "Readiness probe failed: 503", container="api")
    world.event(6, "pod-a", "Unhealthy", "not about this container", container="other")
    verdict = world.judge(6)
    assert verdict["progress"] == "1 of 2 ready, waiting for inference-api-a: not ready yet"
    assert verdict["evidence"]["message"] == "Readiness probe failed: 503"


def test_a_pod_that_waits_for_something_other_than_its_containers_says_what():
    world = World().running(
        running(ready=True),
        status={
            "conditions": [
                condition("Initialized", "True"),
                condition("Ready", "False", "ReadinessGatesNotReady", "not in the load balancer yet"),
            ]
        },
    )
    verdict = world.judge(1)
    assert verdict["progress"].endswith("inference-api-a: ReadinessGatesNotReady")
    assert verdict["evidence"]["message"] == "not in the load balancer yet"
    assert verdict["evidence"]["container"] is None


def test_an_init_container_that_has_ended_is_not_what_is_waited_for():
    world = World().running(
        waiting("PodInitializing"), status={"initContainerStatuses": [ended(0, "Completed", name="fetch", restarts=4)]}
    )
    assert world.judge(1)["evidence"]["container"] == "api"
    assert outcome(world, 99) == PROGRESSING


# Gone, paused -------------------------------------------------------------------------------------------------------


def test_a_deleted_deployment_is_gone():
    world = World()
    world.tell(1, "deployments", world.deployment(), "DELETED")
    verdict = world.judge(1)
    assert (verdict["verdict"], verdict["cause"]) == failed("Gone")
    assert (verdict["progress"], verdict["evidence"]["message"]) == ("The Deployment inference-api was deleted",) * 2


def test_a_deployment_that_is_being_deleted_is_gone():
    world = World()
    world.deployment(metadata={"deletionTimestamp": stamp(1)}, status={"availableReplicas": 2})
    assert outcome(world, 1) == failed("Gone")
    assert "is being deleted" in world.judge(1)["evidence"]["message"]


@pytest.mark.parametrize("uid", ["another", "zebra"])
def test_a_deployment_that_was_replaced_is_gone(uid):
    world = World()
    world.deployment()
    world.deployment(1, uid=uid, status={"availableReplicas": 2})
    assert outcome(world, 1) == failed("Gone")
    assert "was replaced by another one" in world.judge(1)["evidence"]["message"]


def test_a_list_without_the_deployment_says_that_it_is_gone():
    seen = Observation("inference-api")
    seen.replace(0, "pods", [])
    assert judge(seen, 0)["verdict"] == "progressing"
    seen.replace(0, "deployments", [{"metadata": {"name": "other", "uid": "o"}}])
    verdict = judge(seen, 0)
    assert (verdict["cause"], verdict["evidence"]["message"]) == ("Gone", "There is no Deployment inference-api")


def test_a_list_tells_what_there_is():
    world = World().running()
    (pod,) = World().running(ended(restarts=2)).seen.owned("pods", {"metadata": {"uid": "rs2"}})
    world.seen.replace(1, "pods", [{**pod, "metadata": {**pod["metadata"], "resourceVersion": "999"}}])
    assert outcome(world, 1) == failed("CrashLoopBackOff")


def test_a_list_replaces_what_was_known():
    world = World().running(ended(restarts=2))
    assert outcome(world, 1) == failed("CrashLoopBackOff")
    world.seen.replace(2, "pods", [])
    assert outcome(world, 2) == PROGRESSING
    world.seen.replace(3, "deployments", [])
    assert world.judge(3)["evidence"]["message"] == "The Deployment inference-api was deleted"


@pytest.mark.parametrize(
    ("old_replicas", "new_set", "expected"),
    [(2, False, failed("Paused")), (1, True, failed("Paused")), (0, True, PROGRESSING), (0, False, failed("Paused"))],
)
def test_paused_fails_only_where_it_keeps_a_change_from_rolling_out(old_replicas, new_set, expected):
    world = World()
    world.deployment(spec={"paused": True}, status={"updatedReplicas": 1})
    world.replica_set(version="1", spec={"replicas": old_replicas})
    if new_set:
        world.replica_set()
    assert outcome(world, 0) == expected


def test_a_paused_deployment_that_is_complete_is_done():
    world = World()
    world.deployment(spec={"paused": True}, status={"availableReplicas": 2})
    assert outcome(world, 0) == DONE


# The new ReplicaSet -------------------------------------------------------------------------------------------------


def test_old_pods_prove_nothing():
    world = World()
    world.deployment(status={"updatedReplicas": 1, "replicas": 3})
    world.replica_set(version="1", created=-60)
    world.replica_set()
    world.pod(0, ended(restarts=9), version="1")
    assert outcome(world, 1) == PROGRESSING


def test_the_revision_is_not_believed_before_the_controller_has_seen_the_change():
    world = World()
    world.deployment(version="2", status={"observedGeneration": 0})
    old = world.replica_set(version="1")
    old["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "2"}
    world.tell(0, "replicasets", old)
    world.pod(0, ended(restarts=9), version="1")
    assert outcome(world, 1) == PROGRESSING
    world.deployment(2, version="2", status={"observedGeneration": 1})
    assert outcome(world, 2) == failed("CrashLoopBackOff")
    world.deployment(3, version="2", status={"observedGeneration": 1}, spec={"paused": True})
    assert outcome(world, 3) == failed("Paused")


@pytest.mark.parametrize(("wanted", "there"), [({}, {}), ({REVISION: "2"}, {REVISION: "1"}), ({REVISION: "2"}, {})])
def test_without_an_equal_revision_no_replica_set_is_guessed(wanted, there):
    world = World()
    world.deployment(metadata={"annotations": wanted})
    old = world.replica_set(version="1")
    old["metadata"]["annotations"] = there
    world.tell(0, "replicasets", old)
    world.pod(0, ended(restarts=9), version="1")
    assert outcome(world, 1) == PROGRESSING


def test_of_equal_replica_sets_the_oldest_is_the_new_one():
    world = World()
    world.deployment()
    world.replica_set(created=0)
    younger = world.replica_set(created=5)
    younger["metadata"].update(uid="younger", name="aaa")
    world.tell(0, "replicasets", younger)
    world.replica_set(created=0)
    world.pod(0, ended(restarts=2))
    assert outcome(world, 1) == failed("CrashLoopBackOff")


def test_empty_parts_of_a_template_are_as_absent_ones():
    world = World()
    own = template("2")
    own["spec"]["containers"][0].update(env=[], command=None)
    own["metadata"]["creationTimestamp"] = None
    world.deployment(spec={"template": own}, metadata={"annotations": {}})
    world.replica_set()
    world.pod(0, ended(restarts=2))
    assert outcome(world, 1) == failed("CrashLoopBackOff")


def test_a_replica_set_that_another_owns_is_not_ours():
    world = World()
    world.deployment()
    foreign = world.replica_set()
    foreign["metadata"]["ownerReferences"] = [{"uid": "someone"}]
    world.tell(0, "replicasets", foreign)
    world.pod(0, ended(restarts=9))
    assert outcome(world, 1) == PROGRESSING


# Pods that prove nothing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": {"deletionTimestamp": stamp(1)}},
        {"status": {"phase": "Failed", "reason": "Evicted"}},
        {"status": {"phase": "Succeeded"}},
        {"status": {"conditions": [condition("DisruptionTarget", "True", "PreemptionByScheduler")]}},
    ],
)
def test_a_pod_on_its_way_out_proves_nothing(more):
    world = World().running(ended(137, restarts=9), **more)
    assert outcome(world, 1) == PROGRESSING
    assert world.judge(1)["progress"] == "0 of 2 ready, waiting for 2 pods to be available"


def test_a_disruption_that_did_not_happen_excuses_nothing():
    world = World().running(ended(restarts=2), status={"conditions": [condition("DisruptionTarget", "False")]})
    assert outcome(world, 1) == failed("CrashLoopBackOff")


# Images -------------------------------------------------------------------------------------------------------------

REFERENCE = "registry.example/demo/api"
PULLS = [
    # not found, by several runtimes and registries
    (1, "does not have", f'code = NotFound desc = failed to pull and unpack image "{REFERENCE}:v1": not found'),
    (1, "does not have", f"reading manifest v1 in {REFERENCE}: manifest unknown"),
    (1, "does not have", f"reading manifest v1 in {REFERENCE}: name unknown: Repository name not known to registry"),
    (1, "does not have", f"unexpected status from HEAD request to https://{REFERENCE}/manifests/v1: 404 Not Found"),
    (1, "platform", "no match for platform in manifest: not found"),
    # denied
    (1, "refuses", "pull access denied, repository does not exist or may require authorization: insufficient_scope"),
    (1, "refuses", "reading manifest v1: unauthorized: access to the requested resource is not authorized"),
    (1, "refuses", "failed to authorize: failed to fetch oauth token: unexpected status: 403 Forbidden"),
    (1, "refuses", 'denied: Permission "artifactregistry.repositories.downloadArtifacts" denied on resource'),
    (1, "refuses", "authorization failed: no basic auth credentials"),
    (1, "refuses", "unexpected status code 401 from the registry"),
    # what may pass
    (3, "limits", "429 Too Many Requests: you have reached your unauthenticated pull rate limit, access denied"),
    (3, "cannot resolve", "dial tcp: lookup registry.example on 10.0.0.10:53: no such host: not found"),
    (3, "cannot resolve", "dial tcp: lookup registry.example: server misbehaving"),
    (3, "cannot be pulled", "tls: failed to verify certificate: x509: certificate signed by unknown authority"),
    (3, "cannot be pulled", "dial tcp 10.0.0.1:443: i/o timeout"),
    (3, "cannot be pulled", "unexpected status: 503 Service Unavailable"),
    (3, "cannot be pulled", 'Get "https://blobs.example/denied/not-found?X-Signature=a401": deadline exceeded'),
    (3, "cannot be pulled", ""),
]


@pytest.mark.parametrize(("needed", "summary", "message"), PULLS)
def test_a_pull_is_final_or_counts(needed, summary, message):
    world = World().running(waiting("ContainerCreating"))
    for attempt in range(1, 4):
        world.pod(attempt * 20, waiting("ErrImagePull", message))
        times = f", {attempt} times" if attempt > 1 else ""
        assert world.judge(attempt * 20)["progress"].endswith(f"inference-api-a: ErrImagePull{times}")
        expected = failed("ImagePullBackOff") if attempt >= needed else PROGRESSING
        assert outcome(world, attempt * 20) == expected
        world.pod(attempt * 20 + 1, waiting("ImagePullBackOff", "Back-off pulling image"))
        if expected == PROGRESSING:
            assert outcome(world, attempt * 20 + 1) == expected
        else:
            break
    world.pod(90, waiting("ErrImagePull", message))
    assert summary in world.judge(90)["summary"]
    assert IMAGE in world.judge(90)["summary"]


def test_the_words_of_a_failed_pull_come_from_its_event_where_the_status_lacks_them():
    """Before 1.31 the status of a pod that backs off does not say why."""
    world = World().running(waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"'))
    assert outcome(world, 1) == PROGRESSING
    world.event(0, "pod-a", "Failed", f'Failed to pull image "{IMAGE}": an earlier i/o timeout', container="api")
    world.event(1, "pod-a", "Failed", f'Failed to pull image "{IMAGE}": manifest unknown', container="api", uid="last")
    verdict = world.judge(1)
    assert (verdict["cause"], verdict["evidence"]["message"]) == (
        "ImagePullBackOff",
        f'Failed to pull image "{IMAGE}": manifest unknown',
    )


def test_the_status_of_a_pod_that_backs_off_speaks_before_older_events():
    world = World().running(waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}": ErrImagePull: i/o timeout'))
    world.event(1, "pod-a", "Failed", f'Failed to pull image "{IMAGE}": 503', container="api")
    assert world.judge(1)["evidence"]["message"].endswith("i/o timeout")


def test_failed_pulls_are_counted_by_events_also_when_their_words_differ():
    world = World().running(waiting("ImagePullBackOff", "Back-off pulling image: ErrImagePull: i/o timeout"))
    world.event(
        1,
        "pod-a",
        "Failed",
        'Failed to pull image "x": read 10.0.0.1:4001: i/o timeout',
        container="api",
        count=2,
        uid="e1",
    )
    assert outcome(world, 1) == PROGRESSING
    world.event(2, "pod-b", "Failed", 'Failed to pull image "x": of another pod', container="api", count=9)
    world.event(2, "pod-a", "Failed", 'Failed to pull image "x": of another container', container="proxy", count=9)
    assert outcome(world, 2) == PROGRESSING
    world.event(
        3, "pod-a", "Failed", 'Failed to pull image "x": read 10.0.0.1:4002: i/o timeout', container="api", uid="e2"
    )
    assert outcome(world, 3) == failed("ImagePullBackOff")


def test_an_image_whose_name_says_not_found_may_still_come():
    image = "registry.example/demo/not-found:denied"
    spec = {"containers": [{"name": "api", "image": image}]}
    world = World().running(waiting("ErrImagePull", f'failed to resolve "{image}": i/o timeout'), spec=spec)
    assert outcome(world, 1) == PROGRESSING
    world = World().running(waiting("ErrImagePull", f'failed to resolve "{image}": not found'), spec=spec)
    assert outcome(world, 1) == failed("ImagePullBackOff")


@pytest.mark.parametrize("reason", ["RegistryUnavailable", "ImageInspectError"])
def test_other_words_for_a_failed_pull_count_too(reason):
    world = World().running(waiting(reason, "unavailable"))
    assert outcome(world, 1) == PROGRESSING
    world.event(1, "pod-a", "Failed", "Failed to pull image: unavailable", container="api", count=3)
    assert outcome(world, 1) == failed("ImagePullBackOff")
    assert world.judge(1)["evidence"]["message"] == "unavailable"


def test_a_signature_that_is_refused_is_final():
    world = World().running(waiting("SignatureValidationFailed", "image pull failed: Source image rejected"))
    assert outcome(world, 1) == failed("ImagePullBackOff")


# What is stuck ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "message", "age", "summary"),
    [
        ("InvalidImageName", "couldn't parse image name", 5, f"the image name {IMAGE} cannot be parsed"),
        ("ErrImageNeverPull", "not present with pull policy of Never", 5, f"the image {IMAGE} is not on node node1"),
        ("CreateContainerConfigError", 'configmap "inference-config" not found', 5, "container api needs something"),
        (
            "CreateContainerConfigError",
            "couldn't find key timed-out in ConfigMap x/y",
            5,
            "container api needs something",
        ),
        ("CreateContainerConfigError", 'secret "registry" not found', 5, "container api needs something"),
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
            5,
            "container api needs",
        ),
    ],
)
def test_what_is_still_stuck_after_5_s_has_failed(reason, message, age, summary):
    world = World().running(waiting("ContainerCreating"))
    world.pod(10, waiting(reason, message))
    assert outcome(world, 10 + age - 0.1) == PROGRESSING
    verdict = world.judge(10 + age)
    assert (verdict["verdict"], verdict["cause"]) == failed(reason)
    assert verdict["summary"].startswith(summary)
    assert (verdict["evidence"]["message"], verdict["evidence"]["reason"]) == (message, reason)


def test_what_came_unstuck_in_between_begins_anew():
    world = World().running(waiting("CreateContainerConfigError", "x"))
    world.pod(3, running())
    world.pod(4, waiting("CreateContainerConfigError", "x"))
    assert outcome(world, 6) == PROGRESSING
    assert outcome(world, 9) == failed("CreateContainerConfigError")


def test_a_new_watcher_learns_from_events_how_long_something_has_been_stuck():
    world = World()
    world.event(100, "pod-a", "Failed", "Error: no key", container="api", count=2, first=90, last=92)
    world.running(waiting("CreateContainerConfigError", "no key"), t=100)
    assert outcome(world, 100) == PROGRESSING
    world.event(100, "pod-a", "Failed", "Error: no key", container="api", count=3, first=80, last=92)
    assert outcome(world, 100) == failed("CreateContainerConfigError")


def test_events_of_other_trouble_do_not_make_it_older():
    world = World()
    world.event(100, "pod-a", "Failed", "Failed to pull image", container="api", count=2, first=10, last=92)
    world.running(waiting("CreateContainerConfigError", "no key"), t=100)
    assert outcome(world, 100) == PROGRESSING


@pytest.mark.parametrize(
    "message",
    [
        "failed to sync configmap cache: timed out waiting for the condition",
        "services have not yet been read at least once, cannot construct envvars",
        'object "ml-inference"/"inference-config" not registered',
    ],
)
def test_a_kubelet_that_is_late_is_no_missing_key(message):
    world = World().running(waiting("CreateContainerConfigError", message))
    assert outcome(world, 59) == PROGRESSING
    assert outcome(world, 60) == failed("CreateContainerConfigError")
    assert "the kubelet on node1" in world.judge(60)["summary"]


# What cannot be started ---------------------------------------------------------------------------------------------

NO_COMMAND = 'exec: "/app/serve": stat /app/serve: no such file or directory'


@pytest.mark.parametrize("reason", ["CreateContainerError", "RunContainerError"])
def test_the_second_attempt_to_start_is_proof(reason):
    world = World().running(waiting(reason, NO_COMMAND))
    world.event(0, "pod-a", "Failed", f"Error: {NO_COMMAND}", container="api")
    world.event(0, "pod-a", "Pulled", NO_COMMAND, container="api", kind="Normal")
    assert outcome(world, 0) == PROGRESSING
    world.event(0, "pod-a", "Failed", f"Error: {NO_COMMAND}", container="api", count=2)
    assert outcome(world, 0) == failed(reason)


@pytest.mark.parametrize("reason", ["CreateContainerError", "RunContainerError"])
def test_without_events_the_time_tells_of_a_second_attempt(reason):
    world = World().running(waiting(reason, NO_COMMAND))
    assert outcome(world, 14.9) == PROGRESSING
    assert outcome(world, 15) == failed(reason)


@pytest.mark.parametrize("ended_as", ["StartError", "ContainerCannotRun"])
def test_what_never_started_stays_the_cause_when_it_backs_off(ended_as):
    last = {"reason": ended_as, "exitCode": 128, "message": NO_COMMAND}
    world = World().running(waiting("CrashLoopBackOff", "back-off 10s", restarts=0, last=last))
    assert outcome(world, 1) == PROGRESSING
    world.pod(2, waiting("CrashLoopBackOff", "back-off 10s", restarts=1, last=last))
    verdict = world.judge(2)
    assert (verdict["verdict"], verdict["cause"]) == failed("RunContainerError")
    evidence = verdict["evidence"]
    assert (evidence["message"], evidence["exit_code"], evidence["reason"]) == (NO_COMMAND, 128, ended_as)
    assert verdict["progress"] == f"0 of 2 ready, waiting for inference-api-a: {ended_as}, exit code 128, 2 times"


def test_a_container_that_runs_now_can_be_started():
    world = World().running(running(restarts=1, last={"reason": "StartError", "exitCode": 128}))
    assert outcome(world, 99) == PROGRESSING


@pytest.mark.parametrize("reason", ["CreateContainerError", "RunContainerError"])
def test_a_runtime_that_is_late_may_still_start_it(reason):
    world = World().running(waiting(reason, "context deadline exceeded"))
    assert outcome(world, 119) == PROGRESSING
    assert outcome(world, 120) == failed(reason)
    assert "the container runtime on node1" in world.judge(120)["summary"]


def test_a_name_that_is_still_reserved_follows_from_a_late_runtime():
    world = World().running(
        waiting("CreateContainerError", 'failed to reserve container name "x": name "x" is reserved for "y"')
    )
    assert outcome(world, 60) == PROGRESSING


# Crashes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 137, 139, 143])
def test_the_third_exit_is_proof(code):
    last = {"exitCode": code, "reason": "Error"}
    world = World().running(ended(code))
    assert outcome(world, 1) == PROGRESSING
    assert world.judge(1)["progress"] == f"0 of 2 ready, waiting for inference-api-a: Error, exit code {code}"
    world.pod(2, running(restarts=1, last=last))
    assert outcome(world, 2) == PROGRESSING
    world.pod(3, waiting("CrashLoopBackOff", restarts=1, last=last))
    assert outcome(world, 3) == PROGRESSING
    world.pod(4, running(restarts=2, last=last))
    assert outcome(world, 4) == PROGRESSING
    world.pod(5, ended(code, restarts=2, message="bad model"))
    verdict = world.judge(5)
    assert (verdict["verdict"], verdict["cause"]) == failed("CrashLoopBackOff")
    assert verdict["summary"] == f"container api keeps ending (exit code {code})"
    evidence = dict(verdict["evidence"])
    assert evidence.pop("events") == []
    assert evidence == {
        "pod": "inference-api-a",
        "container": "api",
        "reason": "Error",
        "message": "bad model",
        "exit_code": code,
        "node": "node1",
        "image": IMAGE,
        "restarts": 2,
        "limit": "512Mi",
    }


def test_a_new_watcher_counts_the_exits_of_a_container_that_runs_just_now():
    world = World().running(running(restarts=3, last={"exitCode": 1, "reason": "Error"}))
    assert outcome(world, 1) == failed("CrashLoopBackOff")


def test_exits_of_different_pods_do_not_add_up():
    world = World().running(ended(restarts=1))
    world.pod(0, ended(restarts=1), name="b")
    assert outcome(world, 1) == PROGRESSING
    assert world.judge(1)["evidence"]["pod"] == "inference-api-a"


def test_backing_off_without_a_last_state_is_read_as_an_exit():
    world = World().running(waiting("CrashLoopBackOff", "back-off 20s", restarts=1))
    assert outcome(world, 1) == PROGRESSING
    world.pod(2, waiting("CrashLoopBackOff", "back-off 20s", restarts=2))
    verdict = world.judge(2)
    assert (verdict["verdict"], verdict["cause"]) == failed("CrashLoopBackOff")
    assert verdict["summary"] == "container api keeps ending (exit code unknown)"


def test_a_container_that_is_ready_is_forgiven():
    world = World().running(running(restarts=9, ready=True, last={"exitCode": 1}))
    assert outcome(world, 1) == PROGRESSING


def test_a_container_that_has_long_run_is_forgiven():
    world = World().running(running(restarts=9, started=-700, last={"exitCode": 1}), created=-9000)
    assert outcome(world, -101) == failed("CrashLoopBackOff")
    assert outcome(world, 0) == PROGRESSING


def test_a_container_that_a_lost_node_ended_has_not_crashed():
    last = {"exitCode": 137, "reason": "ContainerStatusUnknown"}
    assert outcome(World().running(waiting("CrashLoopBackOff", restarts=5, last=last)), 1) == PROGRESSING


def test_a_server_that_ends_well_is_told_so():
    world = World().running(waiting("CrashLoopBackOff", restarts=1, last={"exitCode": 0, "reason": "Completed"}))
    assert outcome(world, 0) == PROGRESSING
    world.pod(1, waiting("CrashLoopBackOff", restarts=2, last={"exitCode": 0, "reason": "Completed"}))
    verdict = world.judge(1)
    assert (verdict["cause"], verdict["evidence"]["exit_code"]) == ("CrashLoopBackOff", 0)
    assert "ends by itself (exit code 0)" in verdict["summary"]
    assert outcome(World().running(ended(0, "Completed", restarts=2)), 1) == failed("CrashLoopBackOff")


@pytest.mark.parametrize(
    ("kills", "probe", "summary"),
    [
        (1, "liveness", "a probe keeps killing"),
        (2, "startup", "a probe keeps killing"),
    ],
)
def test_a_probe_that_kills_is_told_apart_from_a_crash(kills, probe, summary):
    world = World().running(waiting("CrashLoopBackOff", restarts=2, last={"exitCode": 137, "reason": "Error"}))
    message = f"Container api failed {probe} probe, will be restarted"
    world.event(0, "pod-a", "Killing", "Container api failed some probe", container="api", kind="Normal", uid="first")
    world.event(1, "pod-a", "Killing", message, container="api", count=kills, kind="Normal", uid="last")
    world.event(1, "pod-a", "Killing", "Stopping container api", container="api", count=9, kind="Normal")
    verdict = world.judge(1)
    assert verdict["cause"] == "CrashLoopBackOff"
    assert summary in verdict["summary"]
    assert verdict["evidence"]["message"] == message
    assert {"reason": "Killing", "message": message, "count": kills} in verdict["evidence"]["events"]


def test_one_kill_of_a_probe_does_not_explain_three_exits():
    world = World().running(waiting("CrashLoopBackOff", restarts=2, last={"exitCode": 1, "reason": "Error"}))
    world.event(1, "pod-a", "Killing", "Container api failed liveness probe", container="api", kind="Normal")
    assert "keeps ending" in world.judge(1)["summary"]


def test_an_init_container_counts():
    world = World().running(
        waiting("PodInitializing"), status={"initContainerStatuses": [ended(4, restarts=2, name="fetch")]}
    )
    verdict = world.judge(1)
    assert (verdict["cause"], verdict["evidence"]["container"]) == ("CrashLoopBackOff", "fetch")
    assert (verdict["evidence"]["image"], verdict["evidence"]["exit_code"]) == (None, 4)


def test_an_init_container_that_stays_is_a_sidecar_and_must_not_end():
    spec = {"initContainers": [{"name": "proxy", "restartPolicy": "Always", "image": "registry.example/proxy"}]}
    world = World().running(
        waiting("PodInitializing"),
        spec=spec,
        status={"initContainerStatuses": [ended(0, "Completed", restarts=2, name="proxy")]},
    )
    assert outcome(world, 1) == failed("CrashLoopBackOff")
    assert world.judge(1)["evidence"]["image"] == "registry.example/proxy"


@pytest.mark.parametrize("policy", ["OnFailure", "", None])
def test_an_init_container_with_another_restart_policy_is_no_sidecar(policy):
    spec = {"initContainers": [{"name": "fetch", "restartPolicy": policy}]}
    done = ended(0, "Completed", restarts=4, name="fetch")
    world = World().running(waiting("PodInitializing"), spec=spec, status={"initContainerStatuses": [done]})
    assert outcome(world, 1) == PROGRESSING


def test_the_second_container_of_a_pod_counts():
    world = World().running(running(ready=True), ended(restarts=2, name="proxy"))
    assert world.judge(1)["evidence"]["container"] == "proxy"
    spec = {"containers": [{"name": "proxy", "image": "registry.example/proxy"}, {"name": "api", "image": IMAGE}]}
    first, second = running(ready=True, name="proxy"), running(ready=True, name="aaa")
    world = World().running(first, second, ended(restarts=2), spec=spec)
    evidence = world.judge(1)["evidence"]
    assert (evidence["container"], evidence["image"], evidence["restarts"]) == ("api", IMAGE, 2)


# Memory -------------------------------------------------------------------------------------------------------------


def test_memory_names_its_limit():
    world = World().running(waiting("CrashLoopBackOff", restarts=2, last={"exitCode": 137, "reason": "OOMKilled"}))
    verdict = world.judge(1)
    assert (verdict["verdict"], verdict["cause"]) == failed("OOMKilled")
    assert verdict["summary"] == "container api needs more memory than its limit 512Mi"
    assert verdict["hint"].startswith("Raise resources.limits.memory of api above 512Mi")


def test_memory_stays_the_cause_when_the_runtime_misses_one_kill():
    world = World().running(ended(137, "OOMKilled"))
    world.pod(1, ended(137, "Error", restarts=2))
    assert outcome(world, 1) == failed("OOMKilled")
    assert world.judge(1)["evidence"]["reason"] == "OOMKilled"


def test_memory_is_not_the_cause_of_a_later_crash():
    world = World().running(ended(137, "OOMKilled"))
    world.pod(1, ended(1, "Error", restarts=2))
    assert outcome(world, 1) == failed("CrashLoopBackOff")


def test_a_plain_137_is_no_memory():
    assert outcome(World().running(ended(137, "Error", restarts=2)), 1) == failed("CrashLoopBackOff")


# Volumes ------------------------------------------------------------------------------------------------------------

MISSING = 'MountVolume.SetUp failed for volume "config" : configmap "inference-config" not found'


def test_a_volume_that_names_nothing_has_failed_after_5_s():
    world = World().running(waiting("ContainerCreating"))
    world.event(1, "pod-a", "FailedMount", MISSING, count=1)
    assert outcome(world, 1) == PROGRESSING
    world.event(4.5, "pod-a", "FailedMount", MISSING, count=4, first=1)
    assert outcome(world, 5.5) == PROGRESSING
    world.event(8.5, "pod-a", "FailedMount", MISSING, count=5, first=1)
    verdict = world.judge(8.5)
    assert (verdict["verdict"], verdict["cause"]) == failed("FailedMount")
    assert (verdict["evidence"]["message"], verdict["evidence"]["container"]) == (MISSING, None)
    assert verdict["summary"] == "a volume of pod inference-api-a names something that does not exist"


def test_silence_after_two_refusals_counts_as_still_failing():
    world = World().running(waiting("ContainerCreating"))
    world.event(0, "pod-a", "FailedMount", MISSING, count=2)
    assert outcome(world, 11.9) == PROGRESSING
    assert outcome(world, 12) == failed("FailedMount")


def test_the_words_of_the_missing_thing_are_shown_before_the_later_time_out():
    world = World().running(waiting("ContainerCreating"))
    world.event(1, "pod-a", "FailedMount", MISSING, count=9)
    world.event(120, "pod-a", "FailedMount", "Unable to attach or mount volumes: unmounted volumes=[config]: timed out")
    assert world.judge(121)["evidence"]["message"] == MISSING


@pytest.mark.parametrize("reason", ["FailedMount", "FailedAttachVolume"])
def test_a_volume_that_only_does_not_come_takes_longer(reason):
    world = World().running(waiting("ContainerCreating"))
    world.event(0, "pod-a", "FailedMount", "another way", count=1)
    world.event(1, "pod-a", reason, "mount failed: exit status 32", count=3)
    assert outcome(world, 500) == PROGRESSING
    world.event(2, "pod-a", reason, "mount failed: exit status 32", count=4, first=1)
    assert outcome(world, 66.9) == PROGRESSING
    assert outcome(world, 67) == failed("FailedMount")
    assert world.judge(67)["evidence"]["reason"] == reason
    assert world.judge(67)["evidence"]["message"] == "mount failed: exit status 32"


@pytest.mark.parametrize("reason", ["Pulling", "Pulled", "Created", "Started"])
def test_a_volume_that_came_is_forgotten(reason):
    world = World().running(waiting("ContainerCreating"))
    world.event(1, "pod-a", "FailedMount", MISSING, count=9)
    world.event(2, "pod-a", reason, container="api", kind="Normal")
    assert outcome(world, 99) == PROGRESSING
    world.event(3, "pod-a", "FailedMount", "another one does not come", count=10)
    assert outcome(world, 99) == failed("FailedMount")


@pytest.mark.parametrize(
    "status",
    [running(), ended(), waiting("ErrImagePull", "i/o timeout"), waiting("ContainerCreating", last={"exitCode": 1})],
)
def test_a_container_that_came_further_has_its_volumes(status):
    world = World().running(status)
    world.event(1, "pod-a", "FailedMount", MISSING, count=9)
    assert outcome(world, 99) == PROGRESSING


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing", ""])
def test_a_container_that_has_not_come_further_lacks_them(reason):
    world = World().running(waiting(reason))
    world.event(1, "pod-a", "FailedMount", MISSING, count=9)
    assert outcome(world, 99) == failed("FailedMount")


# Refused pods -------------------------------------------------------------------------------------------------------

QUOTA = 'Error creating: pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2'


def refused(message=QUOTA, *, there=1):
    world = World()
    world.deployment(status={"updatedReplicas": there, "replicas": there})
    world.replica_set(
        status={"replicas": there, "conditions": [condition("ReplicaFailure", "True", "FailedCreate", message)]}
    )
    world.event(0, "rs2", "FailedCreate", message, uid="first")
    return world


@pytest.mark.parametrize(
    ("message", "summary"),
    [
        (QUOTA, "the namespace's quota has no room"),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', "Pod Security"),
        ('admission webhook "policy.example" denied the request: no latest tag', "refuses to create the pod"),
        (
            'pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi',
            "refuses to create the pod",
        ),
        (
            'pods "x" is forbidden: error looking up service account ml-inference/y: serviceaccount "y" not found',
            "refuses",
        ),
    ],
)
def test_a_refusal_that_lasts_5_s_is_proof(message, summary):
    world = refused(message)
    world.replica_set(version="1", created=-60)
    world.pod(0, running(ready=True), version="1", name="old", created=-50)
    assert outcome(world, 4) == PROGRESSING
    world.event(4.9, "rs2", "FailedCreate", message, count=9, first=0, uid="first")
    assert outcome(world, 5.5) == PROGRESSING
    world.event(5.2, "rs2", "FailedCreate", f"(combined from similar events): {message}", uid="second")
    verdict = world.judge(5.2)
    assert (verdict["verdict"], verdict["cause"]) == failed("FailedCreate")
    assert summary in verdict["summary"]
    assert (verdict["evidence"]["message"], verdict["evidence"]["pod"]) == (message, None)
    assert verdict["evidence"]["events"] == [{"reason": "FailedCreate", "message": message, "count": 10}]


@pytest.mark.parametrize(("message", "age"), [(QUOTA, 12), ("no", 12), ("failed calling webhook: refused", 19)])
def test_silence_after_one_refusal_counts_as_still_refused(message, age):
    world = refused(message)
    assert outcome(world, age - 0.1) == PROGRESSING
    assert outcome(world, age) == failed("FailedCreate")


def test_without_events_the_condition_tells():
    world = World()
    world.deployment()
    world.replica_set(
        status={"replicas": 0, "conditions": [condition("ReplicaFailure", "True", "FailedCreate", QUOTA)]}
    )
    assert outcome(world, 11.9) == PROGRESSING
    assert outcome(world, 12) == failed("FailedCreate")
    assert world.judge(12)["evidence"]["message"] == QUOTA


@pytest.mark.parametrize(
    "conditions", [[], [("ReplicaFailure", "False", "FailedCreate")], [("ReplicaFailure", "True", "FailedDelete")]]
)
def test_a_refusal_that_is_over_is_forgotten(conditions):
    world = refused()
    world.event(9, "rs2", "FailedCreate", f"{QUOTA} now", count=20, first=0, uid="last")
    assert outcome(world, 9) == failed("FailedCreate")
    assert world.judge(9)["evidence"]["message"] == f"{QUOTA} now"
    world.replica_set(9, status={"conditions": [condition(*one) for one in conditions]})
    assert outcome(world, 99) == PROGRESSING


def test_a_pod_that_is_let_in_starts_the_clock_again():
    world = refused()
    world.pod(3, waiting("ContainerCreating"), created=3)
    world.event(7.5, "rs2", "FailedCreate", QUOTA, count=20, first=0, uid="first")
    assert outcome(world, 7.5) == PROGRESSING
    assert outcome(world, 14.9) == PROGRESSING
    world.event(8.1, "rs2", "FailedCreate", QUOTA, count=21, first=0, uid="first")
    assert outcome(world, 8.1) == failed("FailedCreate")


def test_what_a_pod_frees_starts_the_clock_of_a_quota_again():
    world = refused()
    old = world.pod(0, running(ready=True), version="1", name="old")
    world.tell(3, "pods", old, "DELETED")
    world.event(7.5, "rs2", "FailedCreate", QUOTA, count=20, first=0, uid="first")
    assert outcome(world, 7.5) == PROGRESSING
    world.event(8.1, "rs2", "FailedCreate", QUOTA, count=21, first=0, uid="first")
    assert outcome(world, 8.1) == failed("FailedCreate")


def test_what_frees_no_room_does_not_start_it_again():
    world = refused()
    old = world.replica_set(version="1", created=-60)
    world.tell(3, "replicasets", old, "DELETED")
    world.tell(3, "pods", {"metadata": {"name": "never seen", "uid": "x"}}, "DELETED")
    world.event(6, "rs2", "FailedCreate", QUOTA, count=20, first=0, uid="first")
    assert outcome(world, 6) == failed("FailedCreate")


def test_what_a_pod_frees_does_not_matter_to_other_refusals():
    message = "violates PodSecurity"
    world = refused(message)
    old = world.pod(0, running(ready=True), version="1", name="old")
    world.tell(3, "pods", old, "DELETED")
    world.event(6, "rs2", "FailedCreate", message, count=20, first=0, uid="first")
    assert outcome(world, 6) == failed("FailedCreate")


@pytest.mark.parametrize(
    ("message", "expected"), [(QUOTA, PROGRESSING), ("violates PodSecurity", failed("FailedCreate"))]
)
def test_a_quota_waits_for_pods_that_are_ending(message, expected):
    world = refused(message)
    world.replica_set(version="1", created=-60)
    world.pod(0, running(), version="1", name="old", metadata={"deletionTimestamp": stamp(30)}, created=-50)
    world.event(9, "rs2", "FailedCreate", message, count=20, first=0, uid="first")
    assert outcome(world, 36.9) == expected
    assert outcome(world, 37) == failed("FailedCreate")  # one that does not end in its grace frees nothing


@pytest.mark.parametrize(
    "message",
    [
        'Internal error occurred: failed calling webhook "w": connect: connection refused',
        "the server is currently unable to handle the request",
        "etcdserver: request timed out",
    ],
)
def test_an_admission_that_cannot_be_asked_is_given_longer(message):
    world = refused(message)
    world.event(11.5, "rs2", "FailedCreate", message, count=20, first=0, uid="first")
    assert outcome(world, 11.5) == PROGRESSING
    world.event(12.1, "rs2", "FailedCreate", message, count=21, first=0, uid="first")
    assert outcome(world, 12.1) == failed("FailedCreate")


def test_a_new_watcher_learns_from_events_how_long_pods_have_been_refused():
    world = World()
    world.event(100, "rs2", "FailedCreate", QUOTA, count=9, first=80, last=95)
    world.deployment(100)
    world.replica_set(
        100, status={"replicas": 0, "conditions": [condition("ReplicaFailure", "True", "FailedCreate", QUOTA, t=80)]}
    )
    assert outcome(world, 100) == failed("FailedCreate")


def test_a_replica_set_that_is_refused_is_like_a_pod_that_is():
    progressing = condition(
        "Progressing", "False", "ReplicaSetCreateError", "replicasets.apps is forbidden: exceeded quota"
    )
    world = World()
    world.deployment(1, status={"updatedReplicas": 0, "conditions": [progressing]})
    assert outcome(world, 5.9) == PROGRESSING
    verdict = world.judge(6)
    assert (verdict["verdict"], verdict["cause"]) == failed("FailedCreate")
    assert verdict["evidence"]["message"] == "replicasets.apps is forbidden: exceeded quota"


# Nodes --------------------------------------------------------------------------------------------------------------

NO_CPU = "0/3 nodes are available: 3 Insufficient cpu."


def unschedulable(message=NO_CPU, *, t=0.0, **more):
    status = {"containerStatuses": [], "conditions": [condition("PodScheduled", "False", "Unschedulable", message)]}
    return World().running(t=t, status={**status, **more})


def test_a_pod_without_a_node_fails_after_the_timeout():
    world = unschedulable()
    assert outcome(world, 9.9) == PROGRESSING
    verdict = world.judge(10)
    assert (verdict["verdict"], verdict["cause"]) == failed("Unschedulable")
    assert verdict["evidence"]["message"] == NO_CPU
    assert outcome(world, 299, unschedulable_timeout=300) == PROGRESSING
    assert outcome(world, 300, unschedulable_timeout=300) == failed("Unschedulable")


def test_what_was_seen_arriving_is_more_exact_than_its_stamp():
    conditions = [condition("PodScheduled", "False", "Unschedulable", NO_CPU, t=0.9)]
    world = World().running(t=0.9, status={"containerStatuses": [], "conditions": conditions})
    assert outcome(world, 10.5) == PROGRESSING
    assert outcome(world, 11) == failed("Unschedulable")


def test_a_new_watcher_knows_since_when_a_pod_has_waited_for_a_node():
    assert outcome(unschedulable(t=100), 100) == failed("Unschedulable")
    assert outcome(unschedulable(t=100), 100, unschedulable_timeout=99) == failed("Unschedulable")
    assert outcome(unschedulable(t=100), 100, unschedulable_timeout=99.1) == PROGRESSING


def test_a_pod_that_is_held_back_on_purpose_is_not_unschedulable():
    gated = {"conditions": [condition("PodScheduled", "False", "SchedulingGated", "waiting")]}
    assert outcome(World().running(status=gated), 999) == PROGRESSING


@pytest.mark.parametrize(
    "message",
    [
        "0/3 nodes are available: 3 node(s) were unschedulable.",
        "0/3 nodes are available: 1 Insufficient cpu, 2 had untolerated taint {node.kubernetes.io/not-ready: }.",
    ],
)
def test_cordons_and_the_clusters_own_taints_pass(message):
    world = unschedulable(message)
    assert outcome(world, 299) == PROGRESSING
    assert outcome(world, 300) == failed("Unschedulable")
    assert outcome(world, 599, unschedulable_timeout=600) == PROGRESSING
    assert "expected to" in world.judge(300)["summary"]


def test_a_taint_of_the_owners_does_not_pass():
    assert outcome(unschedulable("1 node(s) had untolerated taint {gpu: yes}"), 10) == failed("Unschedulable")


def test_a_node_that_will_not_be_added_ends_the_wait_at_once():
    world = unschedulable()
    world.event(
        2, "pod-a", "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached", kind="Normal"
    )
    verdict = world.judge(2, unschedulable_timeout=300)
    assert (verdict["verdict"], verdict["cause"]) == failed("Unschedulable")
    assert "will add none" in verdict["summary"]
    assert verdict["evidence"]["message"] == f"{NO_CPU} pod didn't trigger scale-up: 1 max node group size reached"
    assert [one["reason"] for one in verdict["evidence"]["events"]] == ["NotTriggerScaleUp"]


def test_a_node_that_is_being_added_is_progress():
    world = unschedulable()
    world.event(2, "pod-a", "NotTriggerScaleUp", "in backoff", kind="Normal")
    world.event(8, "pod-a", "TriggeredScaleUp", "pod triggered scale-up: [{pool 0->1 (max: 3)}]", kind="Normal")
    verdict = world.judge(200)
    assert verdict["verdict"] == "progressing"
    assert verdict["progress"] == "0 of 2 ready, waiting for inference-api-a: a node is being added"
    assert verdict["evidence"]["message"] == f"{NO_CPU} pod triggered scale-up: [{{pool 0->1 (max: 3)}}]"
    assert outcome(world, 307.9) == PROGRESSING
    assert outcome(world, 308) == failed("Unschedulable")


def test_a_pod_that_pushes_others_out_will_have_a_node():
    world = unschedulable(nominatedNodeName="node1")
    assert outcome(world, 299) == PROGRESSING


# Deadline -----------------------------------------------------------------------------------------------------------


def late(t=0.0, **more):
    words = 'Deployment "inference-api" has timed out progressing.'
    return {"conditions": [condition("Progressing", "False", "ProgressDeadlineExceeded", words, t=t)], **more}


def test_the_progress_deadline_is_told_with_the_probe_that_fails():
    world = World()
    world.deployment(status=late(), spec={"progressDeadlineSeconds": 30})
    world.replica_set()
    world.pod(0, running())
    world.event(1, "pod-a", "Unhealthy", "Readiness probe failed: 503", container="api", count=20)
    verdict = world.judge(1)
    assert (verdict["verdict"], verdict["cause"]) == failed("ProgressDeadlineExceeded")
    assert verdict["summary"] == "the rollout made no progress for 30 s (progressDeadlineSeconds)"
    evidence = verdict["evidence"]
    assert (evidence["pod"], evidence["container"], evidence["message"]) == (
        "inference-api-a",
        "api",
        "Readiness probe failed: 503",
    )
    assert evidence["reason"] == "ProgressDeadlineExceeded"


def test_the_progress_deadline_points_at_an_init_container_that_failed():
    world = World()
    world.deployment(status=late())
    world.replica_set()
    fetch = ended(1, name="fetch", restarts=1)
    world.pod(0, waiting("PodInitializing"), status={"initContainerStatuses": [fetch]})
    assert world.judge(1)["evidence"]["container"] == "fetch"


def test_the_progress_deadline_without_pods_is_told_in_the_controllers_words():
    world = World()
    world.deployment(status=late())
    verdict = world.judge(1)
    assert verdict["cause"] == "ProgressDeadlineExceeded"
    assert "600 s" in verdict["summary"]
    assert verdict["evidence"]["message"] == 'Deployment "inference-api" has timed out progressing.'
    assert verdict["evidence"]["pod"] is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('ReplicaSet "inference-api-hash2" has timed out progressing.', failed("ProgressDeadlineExceeded")),
        ('ReplicaSet "inference-api-hash1" has timed out progressing.', PROGRESSING),
        ('Deployment "inference-api" has timed out progressing.', failed("ProgressDeadlineExceeded")),
    ],
)
def test_a_deadline_that_another_replica_set_missed_says_nothing(message, expected):
    """On the way back the condition still speaks of the release that failed."""
    world = World()
    world.deployment(status={"conditions": [condition("Progressing", "False", "ProgressDeadlineExceeded", message)]})
    world.replica_set()
    assert outcome(world, 1) == expected


def test_a_refused_replica_set_that_is_there_now_says_nothing():
    world = World()
    world.deployment(status={"conditions": [condition("Progressing", "False", "ReplicaSetCreateError", "forbidden")]})
    world.replica_set()
    assert outcome(world, 99) == PROGRESSING


def test_a_deadline_of_an_earlier_generation_says_nothing():
    world = World()
    world.deployment(status=late(), metadata={"generation": 2})
    assert outcome(world, 1) == PROGRESSING


def test_a_cause_is_told_before_the_deadline_that_it_led_to():
    world = World()
    world.deployment(status=late())
    world.replica_set()
    world.pod(0, ended(restarts=2))
    assert outcome(world, 1) == failed("CrashLoopBackOff")


# What is older than the change --------------------------------------------------------------------------------------


def test_facts_from_before_the_change_do_not_count():
    world = World(since=stamp(0))
    world.deployment(status=late(t=-5))
    world.replica_set()
    world.pod(0, ended(restarts=5), created=-100)
    world.event(0, "pod-a", "Failed", "Failed to pull image: x", container="api", count=9, first=-50, last=-5)
    assert outcome(world, 0) == PROGRESSING
    world.pod(1, waiting("ImagePullBackOff", "i/o timeout", restarts=5), created=-100)
    assert outcome(world, 1) == PROGRESSING
    world.event(2, "pod-a", "Failed", "Failed to pull image: y", container="api", count=9, first=-50, last=0, uid="y")
    assert outcome(world, 2) == failed("ImagePullBackOff")


def test_facts_from_after_the_change_do():
    world = World(since=stamp(0)).running(waiting("ImagePullBackOff", "i/o timeout"))
    world.event(9, "pod-a", "Failed", "Failed to pull image: x", container="api", count=3, first=5)
    assert outcome(world, 9) == failed("ImagePullBackOff")


def test_exits_are_counted_from_the_change_on():
    world = World(since=stamp(0)).running(ended(restarts=5), created=-100)
    world.pod(1, ended(restarts=7), created=-100)
    assert outcome(world, 1) == PROGRESSING
    world.pod(2, ended(restarts=8), created=-100)
    assert outcome(world, 2) == failed("CrashLoopBackOff")


def test_a_pod_made_by_the_change_counts_from_its_first_exit():
    world = World(since=stamp(0)).running(ended(restarts=2), created=0)
    assert outcome(world, 1) == failed("CrashLoopBackOff")


def test_waiting_for_a_node_is_counted_from_the_change_on():
    world = World(since=stamp(0))
    status = {
        "containerStatuses": [],
        "conditions": [condition("PodScheduled", "False", "Unschedulable", NO_CPU, t=-500)],
    }
    world.running(status=status, created=-500)
    assert outcome(world, 8) == PROGRESSING
    assert outcome(world, 10) == failed("Unschedulable")


def test_without_any_time_stamp_the_arrival_tells():
    seen = Observation("inference-api", since="not a time")
    world = World().running(waiting("CreateContainerConfigError", "no key"))
    for resource in ("deployments", "replicasets", "pods"):
        for found in world.seen.owned(resource, {"metadata": {"uid": "d"}}, {"metadata": {"uid": "rs2"}}) or [
            world.seen.deployment()
        ]:
            bare = {key: value for key, value in found["metadata"].items() if key != "creationTimestamp"}
            seen.observe(0, resource, "ADDED", {**found, "metadata": bare})
    assert judge(seen, 4.9)["verdict"] == "progressing"
    assert judge(seen, 5)["cause"] == "CreateContainerConfigError"
    conditions = [condition("PodScheduled", "False", "Unschedulable", NO_CPU)]
    pod = {"metadata": {"uid": "p", "ownerReferences": [{"uid": "rs2"}]}, "status": {"conditions": conditions}}
    seen.replace(6, "pods", [pod])
    assert judge(seen, 15.9, unschedulable_timeout=10)["verdict"] == "progressing"
    assert judge(seen, 16, unschedulable_timeout=10)["cause"] == "Unschedulable"


# Evidence -----------------------------------------------------------------------------------------------------------


def test_of_alike_events_the_last_is_shown_with_their_count_and_no_more_than_five():
    world = World().running(ended(restarts=2))
    for number in range(7):
        world.event(number, "pod-a", f"Reason{number}", "word " * 20 + str(number))
    world.event(8, "pod-a", "Reason5", "word " * 20 + "again", count=3, uid="again")
    world.event(9, "pod-a", "Pulled", "no warning", kind="Normal")
    events = world.judge(9)["evidence"]["events"]
    assert [one["reason"] for one in events] == ["Reason2", "Reason3", "Reason4", "Reason6", "Reason5"]
    assert events[-1] == {"reason": "Reason5", "message": "word " * 20 + "again", "count": 4}


def test_events_of_the_newer_kind_count_by_their_series():
    world = World().running(waiting("ImagePullBackOff", "i/o timeout"))
    event = world.event(1, "pod-a", "Failed", "Failed to pull image: i/o timeout", container="api")
    event.update(firstTimestamp=None, lastTimestamp=None, count=None, eventTime="2026-11-23T06:00:01.123456Z")
    event["series"] = {"count": 3, "lastObservedTime": "2026-11-23T06:00:50.123456Z"}
    world.tell(51, "events", event)
    assert outcome(world, 51) == failed("ImagePullBackOff")


def test_an_event_without_a_count_happened_once():
    world = World().running(waiting("ImagePullBackOff", "i/o timeout"))
    for number in range(3):
        assert outcome(world, number) == PROGRESSING
        event = world.event(number, "pod-a", "Failed", "Failed to pull image", container="api", uid=f"e{number}")
        world.tell(number, "events", {**event, "count": None})
    assert outcome(world, 3) == failed("ImagePullBackOff")


def test_an_event_that_expired_still_happened():
    world = World().running(waiting("ImagePullBackOff", "i/o timeout"))
    event = world.event(1, "pod-a", "Failed", "Failed to pull image: i/o timeout", container="api", count=3)
    world.tell(2, "events", event, "DELETED")
    assert outcome(world, 2) == failed("ImagePullBackOff")


def test_of_several_causes_the_one_that_stands_first_in_the_table_is_told():
    world = World().running(ended(restarts=2))
    world.pod(0, waiting("ErrImagePull", "manifest unknown"), name="b")
    assert outcome(world, 1) == failed("ImagePullBackOff")


def test_every_cause_has_a_row_that_applies_to_any_text_and_every_row_can_be_reached():
    last = {rule.cause: rule.text for rule in RULES}
    assert set(last.values()) == {""}
    assert all(rule.repeats >= 1 and (rule.age is None or rule.age >= 0) for rule in RULES)
    for place, rule in enumerate(RULES):
        assert not any(earlier.cause == rule.cause and not earlier.text for earlier in RULES[:place])


@pytest.mark.parametrize("resource", ["apply", "mark", "horizontalpodautoscalers"])
def test_other_resources_are_passed_over(resource):
    world = World()
    world.seen.observe(0, resource, "ADDED", {"message": "x"})
    assert outcome(world, 0) == PROGRESSING
