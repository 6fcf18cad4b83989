# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The verdict on a Deployment's rollout: progressing, done, or failed with a proven cause. Pure.

C(judge) looks at an Observation, which is fed what the API server says, at a given moment: a number of seconds on the
caller's steady clock. What goes wrong becomes a Fact: a cause, how often, for how long. RULES says from when on it is
proof; before that it is only what the rollout waits for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.deepmlhub.inference.plugins.module_utils.observation import (
    Happening,
    Object,
    Observation,
    condition_of,
    containers_of,
    get_at,
    list_at,
    name_of,
    number_at,
    text_at,
)

# A node that is being added, or that is expected back, normally takes minutes.
NODE_COMES = 300.0
# Retries come ever more rarely. After this silence, what failed before counts as still failing.
SILENCE = 7.0
# The kubelet comes back to a pod that it could not start after 10 to 15 seconds.
KUBELET_RETRY = 15.0

DENIED = (
    r"denied|unauthorized|forbidden|\b40[13]\b|authentication required|authorization failed|no basic auth credentials|"
    r"insufficient.scope|SignatureValidationFailed"
)
NOT_FOUND = r"not.?found|manifest.unknown|name.unknown|repository name not known|does not exist|no such image|\b404\b"
OVERLOADED = r"\b429\b|too ?many ?requests|rate limit"
# The kubelet or the runtime is late, which says nothing of the manifest.
LATE = r"timed out waiting|deadline exceeded|is reserved for|not yet been read|failed to sync|not registered"
QUOTA = r"exceeded quota"


class Rule(NamedTuple):
    """From when on a fact is proof. The first row with the fact's cause whose C(text) is found in its text applies.

    C(repeats): times that one container, pod or ReplicaSet must have failed. C(age): seconds that it must have lasted;
    None stands for C(unschedulable_timeout). C(summary) and C(hint) are for the person, with fields of the evidence.
    """

    cause: str
    text: str
    repeats: int
    age: float | None
    summary: str
    hint: str


RULES = (
    Rule(
        "Gone", "", 1, 0,
        "the Deployment is gone",
        "Somebody or something deleted or replaced it: see who in the audit log, then deploy again",
    ),
    Rule(
        "Paused", "", 1, 0,
        "the Deployment is paused, so its change does not roll out",
        "Run kubectl rollout resume, or take spec.paused out of the manifest, and deploy again",
    ),
    Rule(
        "InvalidImageName", "", 1, 5,
        "the image name {image} cannot be parsed",
        "Correct the image name: lower case, no blanks, [host/]path[:tag][@digest]",
    ),
    Rule(
        "ErrImageNeverPull", "", 1, 5,
        "the image {image} is not on node {node}, and imagePullPolicy Never forbids to fetch it",
        "Set imagePullPolicy to IfNotPresent or Always, or load the image onto the nodes",
    ),
    Rule(
        "ImagePullBackOff", OVERLOADED, 3, 0,
        "the registry limits how often {image} may be pulled",
        "Log in to the registry with an imagePullSecret, use a mirror, or wait for the limit to reset",
    ),
    Rule(
        "ImagePullBackOff", DENIED, 1, 0,
        "the registry refuses to hand out the image {image}",
        "Give the nodes (or the pod's imagePullSecrets) the right to read this repository. Some registries say the "
        "same of an image that does not exist",
    ),
    Rule(
        "ImagePullBackOff", r"no match for platform", 1, 0,
        "the image {image} is not built for the platform of node {node}",
        "Build the image for this platform, or select nodes that fit it",
    ),
    # A name that does not resolve is the network's trouble, and it passes.
    Rule(
        "ImagePullBackOff", r"no such host|server misbehaving", 3, 0,
        "the node cannot resolve the name of the registry of {image}",
        "Check the registry's name in the image, and DNS on the node",
    ),
    Rule(
        "ImagePullBackOff", NOT_FOUND, 1, 0,
        "the registry does not have the image {image}",
        "Push the image first, or correct its name and tag",
    ),
    Rule(
        "ImagePullBackOff", "", 3, 0,
        "the image {image} cannot be pulled",
        "Check that the nodes reach the registry and trust its certificate",
    ),
    Rule(
        "CreateContainerConfigError", LATE, 1, 60,
        "the kubelet on {node} cannot prepare container {container}",
        "Look at the kubelet of this node and at what the message names",
    ),
    Rule(
        "CreateContainerConfigError", "", 1, 5,
        "container {container} needs something that its configuration does not give",
        "Add what the message names (a ConfigMap or Secret, or a key in it; or a numeric user), or stop asking for it",
    ),
    Rule(
        "CreateContainerError", LATE, 1, 120,
        "the container runtime on {node} does not create container {container}",
        "Look at the node's disk and container runtime",
    ),
    Rule(
        "CreateContainerError", "", 2, 0,
        "container {container} cannot be created",
        "Correct what the message names, usually command, args, mounts or securityContext",
    ),
    Rule(
        "RunContainerError", LATE, 1, 120,
        "the container runtime on {node} does not start container {container}",
        "Look at the node's disk and container runtime",
    ),
    Rule(
        "RunContainerError", "", 2, 0,
        "container {container} cannot be started",
        "Correct command, args or workingDir so that they name something that is in the image and may be run",
    ),
    Rule(
        "OOMKilled", "", 3, 0,
        "container {container} needs more memory than its limit {limit}",
        "Raise resources.limits.memory of {container} above {limit}, or load less: fewer workers, a smaller model",
    ),
    Rule(
        "CrashLoopBackOff", r"liveness probe|startup probe", 3, 0,
        "a probe keeps killing container {container} (exit code {exit_code})",
        "Give the container more time with a startupProbe, or correct the probe's path and port, or see in the log "
        "why it does not answer",
    ),
    Rule(
        "CrashLoopBackOff", r"exit code 0\b", 3, 0,
        "container {container} ends by itself (exit code 0), and a Deployment starts it again and again",
        "Let the container's command run a server in the foreground",
    ),
    Rule(
        "CrashLoopBackOff", "", 3, 0,
        "container {container} keeps ending (exit code {exit_code})",
        "Read its last log lines, correct the image or its configuration, and deploy again",
    ),
    Rule(
        "FailedMount", NOT_FOUND + r"|non-existent", 2, 5,
        "a volume of pod {pod} names something that does not exist",
        "Create the ConfigMap, Secret, key or claim that the message names, or correct the volume",
    ),
    Rule(
        "FailedMount", "", 5, 60,
        "a volume of pod {pod} cannot be mounted",
        "See the message: the storage, its driver or the node refuse the volume",
    ),
    Rule(
        "FailedCreate", r"failed calling webhook|timed? ?out|deadline exceeded|currently unable", 1, 12,
        "the API server cannot ask an admission webhook, and creates no pod",
        "Bring the webhook that the message names back, or let its failurePolicy be Ignore",
    ),
    Rule(
        "FailedCreate", QUOTA, 1, 5,
        "the namespace's quota has no room for another pod",
        "Raise the ResourceQuota, free something, or ask for less; a rolling update needs room for maxSurge pods more",
    ),
    Rule(
        "FailedCreate", r"violates PodSecurity", 1, 5,
        "Pod Security of the namespace forbids the pod",
        "Set in the pod template what the message lists, or ask for another level on the namespace",
    ),
    Rule(
        "FailedCreate", "", 1, 5,
        "the API server refuses to create the pod",
        "Correct what the message names (admission policy or webhook, LimitRange, service account) and deploy again",
    ),
    Rule(
        "Unschedulable", r"^NotTriggerScaleUp", 1, 0,
        "no node has room for pod {pod}, and the autoscaler will add none",
        "Ask for less, or give the cluster a node pool whose nodes fit the pod and may grow",
    ),
    Rule(
        "Unschedulable", r"^TriggeredScaleUp|^Nominated|were unschedulable|\{node\.kubernetes\.io/", 1, NODE_COMES,
        "no node has taken pod {pod}, though one was expected to",
        "See kubectl get nodes: cordoned, not ready, or a new one that does not come up",
    ),
    Rule(
        "Unschedulable", "", 1, None,
        "no node takes pod {pod}",
        "Ask for less CPU or memory, free or add nodes, or correct node selector, affinity and tolerations",
    ),
    Rule(
        "ProgressDeadlineExceeded", "", 1, 0,
        "the rollout made no progress for {deadline} s (progressDeadlineSeconds)",
        "See why the pod is not ready: its probe's path and port, its log, its events",
    ),
)  # fmt: skip

PULL_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed", "ImageInspectError"}
)
STUCK_REASONS = frozenset({"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"})
START_REASONS = frozenset({"CreateContainerError", "RunContainerError"})
NOT_STARTED = frozenset({"StartError", "ContainerCannotRun"})
# Events that tell something without being warnings.
TELLING = frozenset({"Killing", "TriggeredScaleUp", "NotTriggerScaleUp"})
REVISION = "deployment.kubernetes.io/revision"
# The kubelet forgets a container's crashes when it has run for this long.
FORGIVEN = 600.0


class Fact(NamedTuple):
    """What the cluster says goes wrong: C(repeats) times, for C(age) seconds; C(about) is the pod or other object."""

    cause: str
    text: str
    about: Object
    repeats: int = 1
    age: float = 0.0
    container: str = ""
    reason: str = ""
    message: str = ""
    exit_code: int | None = None


def judge(seen: Observation, t: float, *, unschedulable_timeout: float = 300.0) -> dict[str, Any]:
    """The verdict at moment C(t).

    :returns: C(verdict) (progressing, done or failed), C(cause) (a cause of RULES or None), C(summary) and C(hint) (one
        line each, empty unless failed), C(evidence) of what failed or is waited for (pod, container, reason, message,
        exit_code, node, image, restarts, limit, events; or empty) and C(progress) ("2 of 3 ready, waiting for ...").
    """
    deployment = seen.deployment()
    if seen.gone:
        gone = Fact("Gone", "", {}, reason="Gone", message=seen.gone)
        return _verdict("failed", seen.gone, seen, gone, _rule(gone))
    if deployment is None:
        return _verdict("progressing", f"waiting for the Deployment {seen.name} to appear")
    pods = [pod for pod in seen.owned("pods", new_replica_set(seen, deployment)) if _counts(pod)]
    late = [pod for pod in pods if not _ready(pod)]
    progress = f"{len(pods) - len(late)} of {_wanted(deployment)} ready"
    waiting = _incomplete(deployment)
    if not waiting:
        return _verdict("done", progress)
    facts = [(_rule(fact), fact) for fact in _facts(seen, t, deployment, pods)]
    proven = [one for one in facts if _proves(*one, unschedulable_timeout)]
    rule, subject = min(proven or facts, key=lambda one: RULES.index(one[0]), default=(None, _lateness(seen, late)))
    progress = f"{progress}, waiting for {_subject_words(subject) if subject else waiting}"
    if proven:
        return _verdict("failed", progress, seen, subject, rule)
    return _verdict("progressing", progress, seen, subject)


def _verdict(
    verdict: str, progress: str, seen: Observation | None = None, subject: Fact | None = None, rule: Rule | None = None
) -> dict[str, Any]:
    evidence = _evidence(seen, subject) if seen and subject else {}
    words = {key: "unknown" if value is None else value for key, value in evidence.items()}
    deployment = seen.deployment() if seen else None
    words["deadline"] = get_at(deployment, "spec", "progressDeadlineSeconds", default=600)
    return {
        "verdict": verdict,
        "cause": rule.cause if rule else None,
        "summary": rule.summary.format_map(words) if rule else "",
        "hint": rule.hint.format_map(words) if rule else "",
        "evidence": evidence,
        "progress": progress,
    }


def _rule(fact: Fact) -> Rule:
    return next(rule for rule in RULES if rule.cause == fact.cause and re.search(rule.text, fact.text, re.IGNORECASE))


def _proves(rule: Rule, fact: Fact, unschedulable_timeout: float) -> bool:
    age = unschedulable_timeout if rule.age is None else rule.age
    if rule.age == NODE_COMES:
        age = max(age, unschedulable_timeout)
    return fact.repeats >= rule.repeats and fact.age >= age


def _incomplete(deployment: Object) -> str:
    """What kubectl rollout status would still wait for; empty when the rollout is done. Every field may be absent."""
    if number_at(deployment, "status", "observedGeneration") < number_at(deployment, "metadata", "generation"):
        return "the controller to see the change"
    updated = number_at(deployment, "status", "updatedReplicas")
    if (missing := _wanted(deployment) - updated) > 0:
        return f"{missing} more updated {_pods(missing)}"
    if (old := number_at(deployment, "status", "replicas") - updated) > 0:
        return f"{old} old {_pods(old)} to end"
    if (late := updated - number_at(deployment, "status", "availableReplicas")) > 0:
        return f"{late} {_pods(late)} to be available"
    return ""


def new_replica_set(seen: Observation, deployment: Object) -> Object | None:
    """The ReplicaSet of the Deployment's present template, found as the controller does: the oldest with an equal one.

    Templates that an older API server wrote may differ in defaults; then the revision tells, once it is up to date.
    """
    sets = seen.owned("replicasets", deployment)
    template = _template(deployment)
    for one in sets:
        if _template(one) == template:
            return one
    if _incomplete(deployment).startswith("the controller") or get_at(deployment, "spec", "paused"):
        return None
    revision = get_at(deployment, "metadata", "annotations", REVISION)
    return next(
        (one for one in sets if revision and get_at(one, "metadata", "annotations", REVISION) == revision), None
    )


def _facts(seen: Observation, t: float, deployment: Object, pods: list[Object]) -> Iterator[Fact]:
    newest = new_replica_set(seen, deployment)
    yield from _deployment_facts(seen, t, deployment, newest, pods)
    for pod in pods:
        yield from _pod_facts(seen, t, pod)
        for status, lasting in containers_of(pod):
            yield from _container_facts(seen, t, pod, status, lasting)
    if newest is not None:
        yield from _refusals(seen, t, deployment, newest)


def _deployment_facts(
    seen: Observation, t: float, deployment: Object, newest: Object | None, pods: list[Object]
) -> Iterator[Fact]:
    others = [one for one in seen.owned("replicasets", deployment) if one is not newest]
    if get_at(deployment, "spec", "paused") is True and (
        newest is None or any(number_at(one, "spec", "replicas") for one in others)
    ):
        yield Fact("Paused", "", deployment, reason="DeploymentPaused", message="Deployment is paused")
    condition = condition_of(deployment, "Progressing")
    reason, message = text_at(condition, "reason"), text_at(condition, "message")
    observed = number_at(deployment, "status", "observedGeneration") >= number_at(deployment, "metadata", "generation")
    if not observed or not seen.fresh(get_at(condition, "lastUpdateTime")):
        return
    if reason == "ProgressDeadlineExceeded" and (newest is None or _names(message, newest)):
        pod = next((pod for pod in pods if not _ready(pod)), None)
        if pod is None:
            yield Fact(reason, "", deployment, reason=reason, message=message)
        else:
            container, _why, words = _trouble(seen, pod)
            yield Fact(reason, "", pod, container=container, reason=reason, message=words or message)
    elif reason == "ReplicaSetCreateError" and newest is None:
        yield Fact(
            "FailedCreate", message, deployment, age=t - seen.began(deployment, reason), reason=reason, message=message
        )


def _names(message: str, newest: Object) -> bool:
    """Whether a condition speaks of this ReplicaSet, not of the one whose failure a way back has to undo."""
    return 'ReplicaSet "' not in message or f'"{name_of(newest, "metadata")}"' in message


def _refusals(seen: Observation, t: float, deployment: Object, newest: Object) -> Iterator[Fact]:
    """The API server's refusals of new pods since it last took one, or since something of a quota was freed."""
    condition = condition_of(newest, "ReplicaFailure")
    if get_at(condition, "status") != "True" or get_at(condition, "reason") != "FailedCreate":
        return
    refused = [one for one in seen.happenings(newest) if one.reason == "FailedCreate"]
    message = refused[-1].message if refused else text_at(condition, "message")
    accepted = [
        seen.when(seen.began(pod, ""), get_at(pod, "metadata", "creationTimestamp"))
        for pod in seen.owned("pods", newest)
    ]
    cleared = max(accepted, default=-math.inf)
    age = math.inf
    if re.search(QUOTA, message):
        cleared = max(cleared, seen.freed)
        pods = seen.owned("pods", *seen.owned("replicasets", deployment))
        if any(seen.local(get_at(pod, "metadata", "deletionTimestamp"), -math.inf) + SILENCE > t for pod in pods):
            age = 0.0  # a pod is ending, so room is about to come
    began = max(cleared, seen.when(seen.began(newest, "ReplicaFailure"), get_at(condition, "lastTransitionTime")))
    spans = [(max(one.first, cleared), one.last) for one in refused]
    yield Fact(
        "FailedCreate",
        message,
        newest,
        sum(one.repeats for one in refused) or 1,
        min(age, _standing([*spans, (began, began)], t)),
        reason="FailedCreate",
        message=message,
    )


def _pod_facts(seen: Observation, t: float, pod: Object) -> Iterator[Fact]:
    happenings = seen.happenings(pod)
    condition = condition_of(pod, "PodScheduled")
    if get_at(condition, "reason") == "Unschedulable":
        began = seen.when(seen.began(pod, "Unschedulable"), get_at(condition, "lastTransitionTime"))
        text = message = text_at(condition, "message")
        scaling = [one for one in happenings if one.reason in ("TriggeredScaleUp", "NotTriggerScaleUp")]
        if scaling:
            text = f"{scaling[-1].reason}: {scaling[-1].message}; {message}"
            message = f"{message} {scaling[-1].message}"
            began = max(began, scaling[-1].last)
        elif node := get_at(pod, "status", "nominatedNodeName"):
            text = f"Nominated to {node}: {message}"
        yield Fact("Unschedulable", text, pod, age=t - began, reason="Unschedulable", message=message)
    failed = [one for one in happenings if one.reason in ("FailedMount", "FailedAttachVolume")]
    begun = [one.last for one in happenings if one.reason in ("Pulling", "Pulled", "Created", "Started")]
    if failed and not _mounted(pod) and max(begun, default=-math.inf) < failed[-1].last:
        text = "; ".join(one.message for one in failed)
        clear = next((one.message for one in failed if re.search(NOT_FOUND, one.message)), failed[-1].message)
        repeats = sum(one.repeats for one in failed)
        age = _standing([(one.first, one.last) for one in failed], t)
        yield Fact("FailedMount", text, pod, repeats, age, reason=failed[-1].reason, message=clear)


def _container_facts(seen: Observation, t: float, pod: Object, status: Object, lasting: bool) -> Iterator[Fact]:
    name = name_of(status)
    ended = get_at(status, "state", "terminated") or get_at(status, "lastState", "terminated") or {}
    code = get_at(ended, "exitCode")
    if get_at(status, "ready") is True or (not lasting and code == 0 and get_at(status, "state", "terminated")):
        return
    reason, message = text_at(status, "state", "waiting", "reason"), text_at(status, "state", "waiting", "message")
    told = [one for one in seen.happenings(pod) if one.container == name]
    stood = max(0.0, t - seen.began(pod, f"{name}:{reason}"))  # a mark never seen has stood for no time
    if reason in PULL_REASONS:
        pulls = [one for one in told if "Failed to pull image" in one.message]
        if reason == "ImagePullBackOff" and "ErrImagePull" not in message and pulls:
            message = pulls[-1].message
        repeats = max(1, seen.times(pod, f"{name}:ErrImagePull"), sum(one.repeats for one in pulls))
        text = f"{reason}: {_without_names(message, pod, name)}"
        yield Fact("ImagePullBackOff", text, pod, repeats, stood, name, reason, message)
    elif reason in STUCK_REASONS:
        again = [(one.first, one.last) for one in told if reason in one.message or message[:40] in one.message]
        age = max(stood, _standing(again, t) if again else stood)
        yield Fact(reason, message, pod, age=age, container=name, reason=reason, message=message)
    elif reason in START_REASONS or (
        text_at(ended, "reason") in NOT_STARTED and not get_at(status, "state", "running")
    ):
        message = message if reason in START_REASONS else text_at(ended, "message")
        tries = sum(one.repeats for one in told if one.warning and message[:40] in one.message)
        if text_at(ended, "reason") in NOT_STARTED:
            tries = max(tries, seen.exits(pod, status))
        cause = reason if reason in START_REASONS else "RunContainerError"
        tries = max(tries, 1 + int(stood // KUBELET_RETRY))
        yield Fact(cause, message, pod, tries, stood, name, text_at(ended, "reason") or reason, message, code)
    elif text_at(ended, "reason") != "ContainerStatusUnknown":
        yield from _crashes(seen, t, pod, status, ended, told)


def _crashes(
    seen: Observation, t: float, pod: Object, status: Object, ended: Object, told: list[Happening]
) -> Iterator[Fact]:
    name, code, exits = name_of(status), get_at(ended, "exitCode"), seen.exits(pod, status)
    running = get_at(status, "state", "running", "startedAt")
    if exits < 1 or (running and t - seen.when(t, running) > FORGIVEN):
        return
    killed = [one for one in told if one.reason == "Killing" and "probe" in one.message]
    text = f"exit code {code}"
    if sum(one.repeats for one in killed) >= exits - 1:
        text = "; ".join([text, *(one.message for one in killed)])
    # The runtime sometimes misses that the kernel killed for memory, and reports a plain 137.
    oom = get_at(ended, "reason") == "OOMKilled" or (code == 137 and seen.times(pod, f"{name}:OOMKilled") > 0)
    cause = "OOMKilled" if oom else "CrashLoopBackOff"
    reason = "OOMKilled" if oom else text_at(ended, "reason")
    message = text_at(ended, "message") or (killed[-1].message if killed else "")
    yield Fact(cause, text, pod, exits, 0.0, name, reason, message, code)


def _lateness(seen: Observation, late: list[Object]) -> Fact | None:
    """The first pod that is not ready, though nothing says that it fails."""
    if not late:
        return None
    container, reason, message = _trouble(seen, late[0])
    return Fact("", "", late[0], container=container, reason=reason, message=message)


def _subject_words(fact: Fact) -> str:
    name = name_of(fact.about, "metadata")
    if fact.text.startswith("TriggeredScaleUp"):
        return f"{name}: a node is being added"
    code = "" if fact.exit_code is None else f", exit code {fact.exit_code}"
    times = f", {fact.repeats} times" if fact.container and fact.repeats > 1 else ""
    return f"{name}: {fact.reason}{code}{times}"


def _trouble(seen: Observation, pod: Object) -> tuple[str, str, str]:
    """Why a pod is not ready, as far as it says: container, reason, message."""
    told = [one for one in seen.happenings(pod) if one.warning]
    for status, lasting in containers_of(pod):
        if get_at(status, "ready") is True or (not lasting and get_at(status, "state", "terminated", "exitCode") == 0):
            continue
        name = name_of(status)
        words = next((one.message for one in reversed(told) if one.container in (name, "")), "")
        waiting = get_at(status, "state", "waiting")
        if waiting:
            return name, text_at(waiting, "reason"), text_at(waiting, "message") or words
        return name, "not ready yet", words
    condition: Object = next(
        (one for one in list_at(pod, "status", "conditions") if get_at(one, "status") == "False"), {}
    )
    return "", text_at(condition, "reason") or "not ready yet", text_at(condition, "message")


def _evidence(seen: Observation, fact: Fact) -> dict[str, Any]:
    kind_is_pod = bool(get_at(fact.about, "spec", "containers"))
    spec = _container_spec(fact.about, fact.container)
    status = next((one for one, _lasting in containers_of(fact.about) if name_of(one) == fact.container), {})
    told: dict[tuple[str, str], dict[str, Any]] = {}
    for one in seen.happenings(fact.about):
        if one.warning or one.reason in TELLING:
            kind = (one.reason, one.message[:30])  # alike but for the name of a pod or an address
            count = one.repeats + (told.pop(kind)["count"] if kind in told else 0)
            told[kind] = {"reason": one.reason, "message": one.message, "count": count}
    return {
        "pod": name_of(fact.about, "metadata") if kind_is_pod else None,
        "container": fact.container or None,
        "reason": fact.reason,
        "message": fact.message,
        "exit_code": fact.exit_code,
        "node": get_at(fact.about, "spec", "nodeName"),
        "image": get_at(spec, "image"),
        "restarts": get_at(status, "restartCount"),
        "limit": get_at(spec, "resources", "limits", "memory"),
        "events": list(told.values())[-5:],
    }


def _counts(pod: Object) -> bool:
    """Whether a pod can prove anything: one that is on its way out, or was moved by the cluster, cannot."""
    moved = get_at(condition_of(pod, "DisruptionTarget"), "status") == "True"
    over = get_at(pod, "status", "phase") in ("Failed", "Succeeded")
    return not (moved or over or get_at(pod, "metadata", "deletionTimestamp"))


def _ready(pod: Object) -> bool:
    return bool(get_at(condition_of(pod, "Ready"), "status") == "True")


def _mounted(pod: Object) -> bool:
    """Whether a container has come further than waiting for its volumes."""
    return any(
        get_at(status, "state", "running")
        or get_at(status, "state", "terminated")
        or get_at(status, "lastState", "terminated")
        or text_at(status, "state", "waiting", "reason") not in ("", "ContainerCreating", "PodInitializing")
        for status, _lasting in containers_of(pod)
    )


def _container_spec(pod: Object, name: str) -> Object:
    every = [*list_at(pod, "spec", "initContainers"), *list_at(pod, "spec", "containers")]
    return next((one for one in every if get_at(one, "name") == name), {})


def _standing(spans: list[tuple[float, float]], t: float) -> float:
    """For how long something has failed, given the first and last moment of each way in which it did."""
    first = min(span[0] for span in spans)
    return max(max(span[1] for span in spans) - first, t - first - SILENCE)


def _without_names(message: str, pod: Object, container: str) -> str:
    """A pull's message without addresses and the image's name, which may contain any word."""
    image = str(get_at(_container_spec(pod, container), "image", default="")).split("@")[0]
    path = re.sub(r":[^/]*$", "", image)
    names = r"https?://\S+" + (rf"|\S*{re.escape(path)}\S*" if path else "")
    return re.sub(names, "", message)


def _template(found: Object) -> Any:
    template = _bare(get_at(found, "spec", "template", default={}))
    labels = get_at(template, "metadata", "labels")
    if isinstance(labels, dict):
        labels.pop("pod-template-hash", None)
    return _bare(template)


def _bare(value: Any) -> Any:
    """A copy without empty parts, which mean the same as absent ones."""
    if isinstance(value, Mapping):
        pairs = {key: _bare(part) for key, part in value.items()}
        return {key: part for key, part in pairs.items() if part not in (None, "", {}, [])}
    if isinstance(value, list):
        return [_bare(part) for part in value]
    return value


def _pods(count: int) -> str:
    return "pod" if count == 1 else "pods"


def _wanted(deployment: Object) -> int:
    wanted = get_at(deployment, "spec", "replicas")
    return wanted if isinstance(wanted, int) else 1
