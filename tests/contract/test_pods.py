"""A pod's life on a node: phases, exits, restarts, logs, init containers, and its end."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from tests.contract.bodies import SERVE, SLEEP, condition, container, is_true, pod, seconds, status_of
from tests.contract.client import Obj, until
from tests.contract.space import Space, absent_tag

_ABSENT_NODE = {"example.test/absent": "yes"}


def _says(text: str, code: int = 0) -> Obj:
    """A container that prints and exits."""
    return container(f"import sys; print({text!r}, flush=True); sys.exit({code})")


def _terminated(found: Obj, name: str = "main", part: str = "containerStatuses") -> Obj:
    state: Obj = status_of(found, name, part).get("state", {}).get("terminated") or {}
    return state


def _waiting(found: Obj, name: str = "main", part: str = "containerStatuses") -> Obj:
    state: Obj = status_of(found, name, part).get("state", {}).get("waiting") or {}
    return state


def _running(found: Obj) -> bool:
    return "running" in status_of(found).get("state", {})


def _finished(ns: Space, name: str = "p") -> Obj:
    return ns.pod_when(name, "has finished", lambda p: p["status"].get("phase") in ("Succeeded", "Failed"))


def _restarts(count: int) -> Any:
    return lambda p: status_of(p).get("restartCount", 0) >= count


# --- running ----------------------------------------------------------------------------------------------------------


def test_a_pod_runs_and_says_where(podns: Space) -> None:
    podns.make("pods", pod("p"))
    found = podns.pod_when("p", "is ready", lambda p: is_true(p, "Ready"))
    status = found["status"]
    assert status["phase"] == "Running"
    assert found["spec"]["nodeName"]
    assert re.fullmatch(r"[0-9a-f.:]+", status["podIP"])
    assert status["podIPs"][0] == {"ip": status["podIP"]}
    assert status["hostIP"]
    assert seconds(status["startTime"]) >= seconds(found["metadata"]["creationTimestamp"])
    for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        assert is_true(found, kind), kind


def test_a_running_container_has_a_full_status(podns: Space) -> None:
    podns.make("pods", pod("p"))
    status = status_of(podns.pod_when("p", "is ready", lambda p: is_true(p, "Ready")))
    assert (status["name"], status["ready"], status["started"], status["restartCount"]) == ("main", True, True, 0)
    assert status["state"]["running"]["startedAt"]
    assert status["lastState"] == {}
    assert "://" in status["containerID"]
    assert status["image"]
    assert "imageID" in status


def test_the_road_of_a_pod_is_told_in_events(podns: Space) -> None:
    podns.make("pods", pod("p"))
    found: dict[str, Obj] = {}

    def told() -> bool:
        found.update({event["reason"]: event for event in podns.events("p")})
        return {"Scheduled", "Pulled", "Created", "Started"} <= set(found)

    until("all of it is told", told)
    assert f"Successfully assigned {podns.name}/p to " in found["Scheduled"]["message"]
    started = found["Started"]
    assert started["type"] == "Normal"
    assert started["involvedObject"]["kind"] == "Pod"
    assert started["involvedObject"]["fieldPath"] == "spec.containers{main}"
    assert started["source"]["component"] == "kubelet"


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "Completed"), (3, "Failed", "Error")])
def test_a_pod_that_never_restarts_ends_as_its_container(podns: Space, code: int, phase: str, reason: str) -> None:
    podns.make("pods", pod("p", _says("done", code), restartPolicy="Never"))
    found = _finished(podns)
    assert found["status"]["phase"] == phase
    ended = _terminated(found)
    assert (ended["exitCode"], ended["reason"]) == (code, reason)
    assert seconds(ended["startedAt"]) <= seconds(ended["finishedAt"])
    assert not status_of(found)["ready"]
    assert condition(found, "Ready")["status"] == "False"
    assert status_of(found)["restartCount"] == 0


def test_on_failure_restarts_until_success(podns: Space) -> None:
    code = """
import pathlib, sys
seen = pathlib.Path(sys.argv[1]) / "seen"
first = not seen.exists()
seen.touch()
sys.exit(1 if first else 0)
"""
    mounts = [{"name": "v", "mountPath": "/kept"}]
    main = container(code, args=["/kept"], volumeMounts=mounts)
    podns.make("pods", pod("p", main, restartPolicy="OnFailure", volumes=[{"name": "v", "emptyDir": {}}]))
    found = _finished(podns)
    assert found["status"]["phase"] == "Succeeded"
    assert status_of(found)["restartCount"] == 1
    assert status_of(found)["lastState"]["terminated"]["exitCode"] == 1


def test_always_restarts_what_ends_well(podns: Space) -> None:
    podns.make("pods", pod("p", _says("done")))
    found = podns.pod_when("p", "was restarted", _restarts(1))
    assert found["status"]["phase"] == "Running"
    assert status_of(found)["lastState"]["terminated"]["reason"] == "Completed"


@pytest.mark.slow
def test_restarts_wait_longer_and_longer(podns: Space) -> None:
    podns.make("pods", pod("p", _says("done", 3)))
    found = podns.pod_when("p", "backs off", lambda p: _waiting(p).get("reason") == "CrashLoopBackOff")
    assert re.match(r"back-off \d+m?s.* restarting failed container=main pod=p_", _waiting(found)["message"])
    assert found["status"]["phase"] == "Running"
    found = podns.pod_when("p", "was restarted twice", _restarts(2))
    ended = status_of(found)["lastState"]["terminated"]
    assert ended["exitCode"] == 3
    state = status_of(found)["state"]
    begun = (state.get("running") or state.get("terminated") or {}).get("startedAt")
    if begun:
        assert seconds(begun) - seconds(ended["finishedAt"]) >= 8
    event = podns.event("p", "BackOff")
    assert event["type"] == "Warning"
    assert "Back-off restarting failed container main in pod p_" in event["message"]


def test_one_container_restarts_and_the_other_goes_on(podns: Space) -> None:
    podns.make("pods", pod("p", _says("done", 1), container(SLEEP, "other")))
    found = podns.pod_when("p", "was restarted", _restarts(1))
    assert status_of(found, "other")["restartCount"] == 0
    assert condition(found, "Ready")["status"] == "False" or status_of(found)["ready"]


def test_a_container_over_its_memory_is_killed(podns: Space) -> None:
    code = "held = []\nwhile True:\n    held.append(bytearray(8 * 1024 * 1024))\n"
    main = container(code, resources={"limits": {"memory": "64Mi"}})
    podns.make("pods", pod("p", main, restartPolicy="Never"))
    ended = _terminated(_finished(podns))
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


# --- what cannot start ------------------------------------------------------------------------------------------------


def test_an_image_that_is_not_there(podns: Space) -> None:
    image = absent_tag()
    podns.make("pods", pod("p", container(image=image)))
    seen: list[str] = []

    def backs_off(found: Obj) -> bool:
        reason = _waiting(found).get("reason")
        if reason and reason not in seen:
            seen.append(reason)
        return reason == "ImagePullBackOff"

    found = podns.pod_when("p", "backs off from pulling", backs_off)
    assert [reason for reason in seen if reason != "ContainerCreating"] == ["ErrImagePull", "ImagePullBackOff"]
    assert found["status"]["phase"] == "Pending"
    assert f'Back-off pulling image "{image}"' in _waiting(found)["message"]
    events = until(
        "events tell of it",
        lambda: (e := podns.events("p")) and {"Failed", "BackOff"} <= {x["reason"] for x in e} and e,
    )
    texts = [event["message"] for event in events if event["reason"] == "Failed"]
    assert any(text.startswith(f'Failed to pull image "{image}"') for text in texts)
    assert "Error: ErrImagePull" in texts


def test_an_image_name_that_is_none(podns: Space) -> None:
    podns.make("pods", pod("p", container(image="UPPER/Case:v 1")))
    found = podns.pod_when("p", "says so", lambda p: _waiting(p).get("reason") == "InvalidImageName")
    assert "UPPER/Case:v 1" in _waiting(found)["message"]


def test_an_image_that_must_not_be_pulled(podns: Space) -> None:
    podns.make("pods", pod("p", container(image=absent_tag(), imagePullPolicy="Never")))
    podns.pod_when("p", "says so", lambda p: _waiting(p).get("reason") == "ErrImageNeverPull")


def test_a_command_that_is_not_there(podns: Space) -> None:
    podns.make("pods", pod("p", container(command=["/absent/command"]), restartPolicy="Never"))
    ended = _terminated(_finished(podns))
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert 'exec: "/absent/command": stat /absent/command: no such file or directory' in ended["message"]


def test_a_command_that_is_not_there_is_tried_again(podns: Space) -> None:
    podns.make("pods", pod("p", container(command=["/absent/command"])))

    def tried(found: Obj) -> bool:
        last = status_of(found).get("lastState", {}).get("terminated", {})
        return last.get("reason") == "StartError" and _waiting(found).get("reason") in (
            "RunContainerError",
            "CrashLoopBackOff",
        )

    podns.pod_when("p", "was tried again", tried)
    event = podns.event("p", "Failed")
    assert (
        event["message"].startswith("Error: failed to create containerd task") or "/absent/command" in event["message"]
    )


def test_a_pod_that_fits_nowhere_stays_pending(podns: Space) -> None:
    podns.make("pods", pod("p", nodeSelector=_ABSENT_NODE))
    found = podns.pod_when("p", "is refused", lambda p: condition(p, "PodScheduled").get("reason") == "Unschedulable")
    assert found["status"]["phase"] == "Pending"
    assert condition(found, "PodScheduled")["status"] == "False"
    assert re.match(r"0/\d+ nodes are available", condition(found, "PodScheduled")["message"])
    assert "nodeName" not in found["spec"]
    event = podns.event("p", "FailedScheduling")
    assert event["type"] == "Warning"
    assert re.match(r"0/\d+ nodes are available", event["message"])


def test_a_pod_that_is_too_large_for_every_node(podns: Space) -> None:
    podns.make("pods", pod("p", container(resources={"requests": {"cpu": "100k"}})))
    found = podns.pod_when("p", "is refused", lambda p: condition(p, "PodScheduled").get("reason") == "Unschedulable")
    assert "Insufficient cpu" in condition(found, "PodScheduled")["message"]


# --- init containers --------------------------------------------------------------------------------------------------


def test_init_containers_run_one_after_the_other_before_the_rest(podns: Space) -> None:
    code = "import sys, time; time.sleep(1); open(sys.argv[1], 'a').write(sys.argv[2])"
    show = "import sys; print('read', open(sys.argv[1]).read(), flush=True)\n" + SLEEP
    volume = {"volumeMounts": [{"name": "v", "mountPath": "/kept"}]}
    first = [container(code, name, args=["/kept/list", name], **volume) for name in ("one", "two")]
    main = container(show, args=["/kept/list"], **volume)
    podns.make("pods", pod("p", main, initContainers=first, volumes=[{"name": "v", "emptyDir": {}}]))
    podns.logged("p", "read onetwo")
    found = podns.pod_when("p", "is ready", lambda p: is_true(p, "Ready"))
    one, two = (_terminated(found, name, "initContainerStatuses") for name in ("one", "two"))
    assert one["exitCode"] == two["exitCode"] == 0
    assert seconds(one["finishedAt"]) <= seconds(two["startedAt"])
    assert seconds(two["finishedAt"]) <= seconds(status_of(found)["state"]["running"]["startedAt"])
    assert is_true(found, "Initialized")


def test_the_rest_waits_for_init_containers(podns: Space) -> None:
    podns.make("pods", pod("p", initContainers=[container(SLEEP, "first")]))
    running = lambda p: "running" in status_of(p, "first", "initContainerStatuses").get("state", {})  # noqa: E731
    found = podns.pod_when("p", "runs its first container", running)
    assert _waiting(found)["reason"] == "PodInitializing"
    assert condition(found, "Initialized")["status"] == "False"
    assert found["status"]["phase"] == "Pending"


def test_an_init_container_that_fails_for_good_fails_the_pod(podns: Space) -> None:
    first = {**_says("no", 4), "name": "first"}
    podns.make("pods", pod("p", initContainers=[first], restartPolicy="Never"))
    found = _finished(podns)
    assert found["status"]["phase"] == "Failed"
    assert _terminated(found, "first", "initContainerStatuses")["exitCode"] == 4
    assert "running" not in status_of(found)["state"]


def test_an_init_container_that_fails_is_restarted(podns: Space) -> None:
    first = {**_says("no", 4), "name": "first"}
    podns.make("pods", pod("p", initContainers=[first]))

    def again(found: Obj) -> bool:
        return status_of(found, "first", "initContainerStatuses").get("restartCount", 0) >= 1

    found = podns.pod_when("p", "tries again", again)
    assert found["status"]["phase"] == "Pending"
    assert _waiting(found)["reason"] == "PodInitializing"


# --- logs -------------------------------------------------------------------------------------------------------------


def _three_lines(podns: Space) -> None:
    podns.make("pods", pod("p", container("for word in ('one', 'two', 'three'): print(word)"), restartPolicy="Never"))
    _finished(podns)


def test_a_log_holds_both_streams(podns: Space) -> None:
    code = "import sys\nprint('out', flush=True)\nprint('err', file=sys.stderr, flush=True)\n"
    podns.make("pods", pod("p", container(code), restartPolicy="Never"))
    _finished(podns)
    assert sorted(podns.logs("p").splitlines()) == ["err", "out"]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"tailLines": 1}, "three\n"),
        ({"tailLines": 0}, ""),
        ({"limitBytes": 5}, "one\nt"),
        ({"sinceSeconds": 3600}, "one\ntwo\nthree\n"),
    ],
)
def test_a_part_of_a_log(podns: Space, query: Obj, text: str) -> None:
    _three_lines(podns)
    assert podns.logs("p", **query) == text


def test_a_log_with_times(podns: Space) -> None:
    _three_lines(podns)
    lines = podns.logs("p", timestamps=True).splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["one", "two", "three"]
    stamps = [line.split(" ", 1)[0] for line in lines]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-])", stamp) for stamp in stamps)
    assert stamps == sorted(stamps)


def test_the_log_of_the_container_before(podns: Space) -> None:
    code = """
import pathlib, sys, time
seen = pathlib.Path(sys.argv[1]) / "seen"
number = int(seen.read_text()) + 1 if seen.exists() else 1
seen.write_text(str(number))
print("start", number, flush=True)
if number == 1: sys.exit(1)
time.sleep(3600)
"""
    main = container(code, args=["/kept"], volumeMounts=[{"name": "v", "mountPath": "/kept"}])
    podns.make("pods", pod("p", main, volumes=[{"name": "v", "emptyDir": {}}]))
    podns.logged("p", "start 2")
    assert podns.logs("p") == "start 2\n"
    assert podns.logs("p", previous=True) == "start 1\n"


def test_there_is_no_log_of_a_container_before_the_first(podns: Space) -> None:
    podns.make("pods", pod("p"))
    podns.logged("p", "started")
    answer = podns.api.get(podns.path("pods", "p", "log"), previous=True)
    answer.refused(400, "BadRequest", 'previous terminated container "main" in pod "p" not found')


def test_a_log_of_one_of_several_containers(podns: Space) -> None:
    first = {**_says("first"), "name": "first"}
    podns.make(
        "pods",
        pod(
            "p", {**_says("a"), "name": "a"}, {**_says("b"), "name": "b"}, initContainers=[first], restartPolicy="Never"
        ),
    )
    _finished(podns)
    assert [podns.logs("p", container=name) for name in ("a", "b", "first")] == ["a\n", "b\n", "first\n"]
    answer = podns.api.get(podns.path("pods", "p", "log"))
    answer.refused(400, "BadRequest", "a container name must be specified for pod p, choose one of: [a b]", "[first]")


def test_a_log_of_a_container_that_the_pod_does_not_have(podns: Space) -> None:
    podns.make("pods", pod("p", nodeSelector=_ABSENT_NODE))
    answer = podns.api.get(podns.path("pods", "p", "log"), container="absent")
    answer.refused(400, "BadRequest", "container absent is not valid for pod p")


def test_a_log_of_a_container_that_waits(podns: Space) -> None:
    podns.make("pods", pod("p", container(image=absent_tag())))
    podns.pod_when("p", "cannot pull", lambda p: _waiting(p).get("reason") in ("ErrImagePull", "ImagePullBackOff"))
    answer = podns.api.get(podns.path("pods", "p", "log"))
    answer.refused(400, "BadRequest", 'container "main" in pod "p" is waiting to start:')


def test_a_log_that_is_followed_ends_with_its_container(podns: Space) -> None:
    code = "import time\nfor n in range(3):\n    print(n, flush=True)\n    time.sleep(0.5)\n"
    podns.make("pods", pod("p", container(code), restartPolicy="Never"))
    podns.pod_when("p", "has begun", lambda p: p["status"].get("phase") not in (None, "Pending"))
    assert podns.logs("p", follow=True) == "0\n1\n2\n"


# --- the end ----------------------------------------------------------------------------------------------------------

_LAST_WORDS = """
import signal, sys, time
def stop(*_):
    print("told to stop", flush=True)
    time.sleep(float(sys.argv[1]))
    print("stopped", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("started", flush=True)
while True: time.sleep(0.1)
"""


def _stubborn(seconds: float) -> Obj:
    """A container that takes `seconds` to stop."""
    return container(_LAST_WORDS, args=[str(seconds)])


def _ends(ns: Space, name: str, version: str) -> list[Obj]:
    """The states of the pod from that version until it is gone."""
    states = []
    events = ns.api.watch(ns.path("pods"), resourceVersion=version, fieldSelector=f"metadata.name={name}", seconds=100)
    for event in events:
        states.append(event["object"])
        if event["type"] == "DELETED":
            break
    events.close()  # type: ignore[attr-defined]
    return states


def test_a_deleted_pod_has_time_to_stop(podns: Space) -> None:
    podns.make("pods", pod("p", _stubborn(1), terminationGracePeriodSeconds=20))
    podns.logged("p", "started")
    version = podns.get("pods", "p")["metadata"]["resourceVersion"]
    done = podns.delete("pods", "p").ok(200)
    assert done["metadata"]["deletionGracePeriodSeconds"] == 20
    assert podns.get("pods", "p")["metadata"]["deletionTimestamp"] >= done["metadata"]["deletionTimestamp"]
    last = _ends(podns, "p", version)[-1]
    assert _terminated(last)["exitCode"] == 0
    assert podns.find("pods", "p") is None


def test_a_pod_that_does_not_stop_is_killed_after_its_grace(podns: Space) -> None:
    podns.make("pods", pod("p", _stubborn(3600), terminationGracePeriodSeconds=2))
    podns.logged("p", "started")
    version = podns.get("pods", "p")["metadata"]["resourceVersion"]
    podns.delete("pods", "p").ok(200)
    states = _ends(podns, "p", version)
    ended = _terminated(states[-1])
    assert ended["exitCode"] == 137
    asked = next(s["metadata"] for s in states if s["metadata"].get("deletionTimestamp"))
    # the deletionTimestamp lies the grace after the request; seconds are all that these stamps hold
    assert seconds(ended["finishedAt"]) >= seconds(asked["deletionTimestamp"]) - 1


def test_a_pod_in_its_last_seconds_is_not_ready(podns: Space) -> None:
    podns.make("pods", pod("p", _stubborn(2), terminationGracePeriodSeconds=20))
    podns.pod_when("p", "is ready", lambda p: is_true(p, "Ready"))
    podns.logged("p", "started")
    version = podns.get("pods", "p")["metadata"]["resourceVersion"]
    podns.delete("pods", "p").ok(200)
    assert condition(_ends(podns, "p", version)[-1], "Ready")["status"] == "False"


def test_the_request_can_set_the_grace(podns: Space) -> None:
    podns.make("pods", pod("p", _stubborn(3600), terminationGracePeriodSeconds=600))
    podns.logged("p", "started")
    done = podns.delete("pods", "p", gracePeriodSeconds=1).ok(200)
    assert done["metadata"]["deletionGracePeriodSeconds"] == 1
    podns.gone("pods", "p")


def test_no_grace_at_all_removes_the_pod_at_once(podns: Space) -> None:
    podns.make("pods", pod("p", _stubborn(3600), terminationGracePeriodSeconds=600))
    podns.logged("p", "started")
    podns.delete("pods", "p", gracePeriodSeconds=0).ok(200)
    assert podns.find("pods", "p") is None


def test_a_pod_without_a_node_goes_at_once(podns: Space) -> None:
    podns.make("pods", pod("p", nodeSelector=_ABSENT_NODE, terminationGracePeriodSeconds=600))
    podns.delete("pods", "p").ok(200)
    podns.gone("pods", "p")


def _followed(ns: Space, name: str) -> tuple[threading.Thread, list[str]]:
    """The pod's log to its end, read in a thread of its own."""
    found: list[str] = []

    def read() -> None:
        found.append(ns.logs(name, follow=True, timeout=150))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, found


def test_pre_stop_comes_before_the_signal(podns: Space) -> None:
    code = SERVE.replace(
        "def do_GET(self):", "def do_GET(self):\n        print('asked for', self.path, flush=True)"
    ).replace("lambda *_: os._exit(0)", "lambda *_: (print('told to stop', flush=True), os._exit(0))")
    hook = {"preStop": {"httpGet": {"path": "/before", "port": 8080}}}
    podns.make("pods", pod("p", container(code, lifecycle=hook), terminationGracePeriodSeconds=20))
    podns.logged("p", "serving")
    thread, found = _followed(podns, "p")
    podns.delete("pods", "p").ok(200)
    thread.join(150)
    assert found[0].splitlines()[-2:] == ["asked for /before", "told to stop"]


def test_pre_stop_can_sleep(podns: Space) -> None:
    hook = {"preStop": {"sleep": {"seconds": 2}}}
    main = {**_stubborn(0), "lifecycle": hook}
    podns.make("pods", pod("p", main, terminationGracePeriodSeconds=20))
    podns.logged("p", "started")
    version = podns.get("pods", "p")["metadata"]["resourceVersion"]
    podns.delete("pods", "p").ok(200)
    states = _ends(podns, "p", version)
    asked = next(s["metadata"] for s in states if s["metadata"].get("deletionTimestamp"))
    began = seconds(asked["deletionTimestamp"]) - 20
    assert _terminated(states[-1])["exitCode"] == 0
    assert seconds(_terminated(states[-1])["finishedAt"]) - began >= 1


def test_killing_is_told_in_an_event(podns: Space) -> None:
    podns.make("pods", pod("p", _stubborn(1), terminationGracePeriodSeconds=20))
    podns.logged("p", "started")
    podns.delete("pods", "p").ok(200)
    assert podns.event("p", "Killing")["message"] == "Stopping container main"
