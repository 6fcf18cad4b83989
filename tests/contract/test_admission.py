"""What admission refuses and fills in: Pod Security, ResourceQuota, LimitRange."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.bodies import SAFE, config, container, deployment, pod, service
from tests.contract.client import Obj, until
from tests.contract.space import Space

# --- Pod Security: restricted -----------------------------------------------------------------------------------------


def _safe(**fields: Any) -> Obj:
    """A pod that conforms, with these fields of its container instead."""
    return pod("probe", container(**fields))


def _context(**fields: Any) -> Obj:
    return _safe(securityContext={**SAFE, **fields})


def _missing(field: str) -> Obj:
    return _safe(securityContext={key: value for key, value in SAFE.items() if key != field})


def _volume(**source: Any) -> Obj:
    return pod("probe", volumes=[{"name": "v", **source}])


def _ports(number: int) -> list[Obj]:
    return [{"containerPort": number, "hostPort": number}]


_ESCALATION = (
    'allowPrivilegeEscalation != false (container "main" must set securityContext.allowPrivilegeEscalation=false)'
)
_CAPABILITIES = 'unrestricted capabilities (container "main" must set securityContext.capabilities.drop=["ALL"])'
_NON_ROOT = 'runAsNonRoot != true (pod or container "main" must set securityContext.runAsNonRoot=true)'
_SECCOMP = (
    'seccompProfile (pod or container "main" must set securityContext.seccompProfile.type to "RuntimeDefault" or'
    ' "Localhost")'
)

# what is wrong: (pod, what the refusal says)
_UNSAFE: dict[str, tuple[Obj, str]] = {
    "escalation not forbidden": (_missing("allowPrivilegeEscalation"), _ESCALATION),
    "escalation allowed": (_context(allowPrivilegeEscalation=True), _ESCALATION),
    "capabilities not dropped": (_missing("capabilities"), _CAPABILITIES),
    "capabilities dropped in part": (_context(capabilities={"drop": ["NET_RAW"]}), _CAPABILITIES),
    "capability added": (
        _context(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        'container "main" must not include "NET_ADMIN" in securityContext.capabilities.add'),
    "may be root": (_missing("runAsNonRoot"), _NON_ROOT),
    "is root": (_context(runAsUser=0), 'runAsUser=0 (container "main" must not set runAsUser=0)'),
    "says that it is root": (
        _context(runAsNonRoot=False), 'container "main" must not set securityContext.runAsNonRoot=false'),
    "no seccomp profile": (_missing("seccompProfile"), _SECCOMP),
    "no seccomp": (_context(seccompProfile={"type": "Unconfined"}), "seccompProfile"),
    "privileged": (
        _context(privileged=True, allowPrivilegeEscalation=None),
        'privileged (container "main" must not set securityContext.privileged=true)'),
    "host's network": (pod("probe", hostNetwork=True), "host namespaces (hostNetwork=true)"),
    "host's processes": (pod("probe", hostPID=True), "host namespaces (hostPID=true)"),
    "host's memory": (pod("probe", hostIPC=True), "host namespaces (hostIPC=true)"),
    "host's port": (_safe(ports=_ports(18080)), 'hostPort (container "main" uses hostPort 18080)'),
    "host's path": (
        _volume(hostPath={"path": "/"}),
        'restricted volume types (volume "v" uses restricted volume type "hostPath")'),
    "NFS": (
        _volume(nfs={"server": "x", "path": "/"}),
        'restricted volume types (volume "v" uses restricted volume type "nfs")'),
    "host in a probe": (
        _safe(readinessProbe={"httpGet": {"path": "/", "port": 80, "host": "127.0.0.1"}}), "probe or lifecycle host"),
    "unsafe sysctl": (
        pod("probe", securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
        "forbidden sysctls (kernel.msgmax)"),
    "an init container": (
        pod("probe", initContainers=[
            container(name="first", securityContext={**SAFE, "allowPrivilegeEscalation": True})]),
        'container "first" must set securityContext.allowPrivilegeEscalation=false'),
}  # fmt: skip


@pytest.mark.parametrize("case", _UNSAFE)
def test_restricted_refuses(restricted: Space, case: str) -> None:
    body, text = _UNSAFE[case]
    status = restricted.post("pods", body, dryRun="All").refused(403, "Forbidden", text)
    assert status["message"].startswith('pods "probe" is forbidden: violates PodSecurity "restricted:latest": ')


def test_restricted_names_all_that_is_missing(restricted: Space) -> None:
    body = _safe(securityContext={})
    status = restricted.post("pods", body, dryRun="All").refused(403, "Forbidden")
    rules = ", ".join([_ESCALATION, _CAPABILITIES, _NON_ROOT, _SECCOMP])
    assert status["message"] == f'pods "probe" is forbidden: violates PodSecurity "restricted:latest": {rules}'


_CONFORMING: dict[str, Obj] = {
    "the pod of these tests": _safe(),
    "what the pod says for all": pod(
        "probe", container(securityContext={"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}),
        securityContext={"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    ),
    "a small port for all": _context(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),
    "volumes of the allowed kinds": pod("probe", volumes=[
        {"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "c", "optional": True}},
        {"name": "c", "secret": {"secretName": "s", "optional": True}}, {"name": "d", "projected": {"sources": []}},
        {"name": "e", "downwardAPI": {"items": []}}, {"name": "f", "persistentVolumeClaim": {"claimName": "p"}},
    ]),
    "a read-only root": _context(readOnlyRootFilesystem=True),
    "a safe sysctl": pod("probe", securityContext={
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]}),
}  # fmt: skip


@pytest.mark.parametrize("case", _CONFORMING)
def test_restricted_admits(restricted: Space, case: str) -> None:
    restricted.post("pods", _CONFORMING[case], dryRun="All").ok(201)


def test_a_workload_is_taken_and_its_pods_are_not(restricted: Space) -> None:
    body = deployment("web", container(securityContext={}), replicas=1)
    restricted.post("deployments", body).ok(201)

    def refused() -> Obj:
        found: Obj = {c["type"]: c for c in restricted.get("deployments", "web")["status"]["conditions"]}[
            "ReplicaFailure"
        ]
        return found

    found = until("the refusal shows", lambda: _or_none(refused))
    assert (found["status"], found["reason"]) == ("True", "FailedCreate")
    assert 'violates PodSecurity "restricted:latest"' in found["message"]
    (owned,) = restricted.list("replicasets")
    event = restricted.event(owned["metadata"]["name"], "FailedCreate")
    assert event["type"] == "Warning"
    assert "Error creating: pods " in event["message"]


def _or_none(look: Callable[[], Obj]) -> Obj | None:
    try:
        return look()
    except KeyError:
        return None


def test_warn_tells_the_author_of_a_workload(ns: Space) -> None:
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/warn": "restricted"}}}
    ns.api.patch(f"/api/v1/namespaces/{ns.name}", labels).ok(200)

    def warned() -> str:
        body = deployment("web", container(securityContext={}))
        return ns.post("deployments", body, dryRun="All").headers.get("Warning", "")

    text = until("the label is seen", warned)
    assert 'would violate PodSecurity \\"restricted:latest\\": allowPrivilegeEscalation != false' in text


@pytest.mark.parametrize("case", ["privileged", "host's network", "host's path", "host's port", "capability added"])
def test_baseline_refuses(spaces: Callable[[str], Space], case: str) -> None:
    baseline = spaces("baseline")
    baseline.ready_for_pods()
    status = baseline.post("pods", _UNSAFE[case][0], dryRun="All").refused(403, "Forbidden")
    assert 'violates PodSecurity "baseline:latest"' in status["message"]


@pytest.mark.parametrize(
    "case", ["escalation allowed", "may be root", "no seccomp profile", "capabilities not dropped"]
)
def test_baseline_admits(spaces: Callable[[str], Space], case: str) -> None:
    baseline = spaces("baseline")
    baseline.ready_for_pods()
    baseline.post("pods", _UNSAFE[case][0], dryRun="All").ok(201)


def test_privileged_admits_everything(podns: Space) -> None:
    podns.post("pods", _UNSAFE["host's network"][0], dryRun="All").ok(201)


def test_a_level_can_be_pinned_to_a_version(restricted: Space) -> None:
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce-version": "v1.30"}}}
    restricted.api.patch(f"/api/v1/namespaces/{restricted.name}", labels).ok(200)

    def told() -> bool:
        status = restricted.post("pods", _missing("capabilities"), dryRun="All").refused(403, "Forbidden")
        return 'violates PodSecurity "restricted:v1.30"' in status["message"]

    until("the version is seen", told)


def test_a_level_that_is_none_is_refused(ns: Space) -> None:
    body = {"metadata": {"name": f"{ns.name}-x", "labels": {"pod-security.kubernetes.io/enforce": "strictest"}}}
    answer = ns.api.post("/api/v1/namespaces", body)
    answer.refused(422, "Invalid", "must be one of privileged, baseline, restricted")


# --- ResourceQuota ----------------------------------------------------------------------------------------------------


def _quota(ns: Space, name: str = "q", **hard: str) -> None:
    """A quota that is in force: the server refuses before it has counted, so wait for its status."""
    hard = {key.replace("_", "."): value for key, value in hard.items()}
    ns.make("resourcequotas", {"metadata": {"name": name}, "spec": {"hard": hard}})
    until("the quota is counted", lambda: ns.get("resourcequotas", name)["status"].get("hard") == hard)


def _sized(cpu: str = "10m", memory: str = "16Mi", name: str = "probe", **spec: Any) -> Obj:
    resources = {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}
    return pod(name, container(resources=resources), **spec)


def test_a_quota_refuses_what_is_over_it(podns: Space) -> None:
    _quota(podns, requests_cpu="60m")
    status = podns.post("pods", _sized("90m"), dryRun="All").refused(403, "Forbidden")
    text = "exceeded quota: q, requested: requests.cpu=90m, used: requests.cpu=0, limited: requests.cpu=60m"
    assert status["message"] == f'pods "probe" is forbidden: {text}'


def test_a_quota_lists_all_that_is_over(podns: Space) -> None:
    _quota(podns, requests_cpu="60m", limits_memory="100Mi")
    status = podns.post("pods", _sized("90m", "200Mi"), dryRun="All").refused(403, "Forbidden")
    assert "requested: limits.memory=200Mi,requests.cpu=90m, used: limits.memory=0,requests.cpu=0" in status["message"]


def test_a_quota_demands_what_it_counts(podns: Space) -> None:
    _quota(podns, requests_cpu="60m", limits_memory="100Mi")
    status = podns.post("pods", pod("probe", container(resources={})), dryRun="All").refused(403, "Forbidden")
    text = "failed quota: q: must specify limits.memory for: main; requests.cpu for: main"
    assert status["message"] == f'pods "probe" is forbidden: {text}'


def test_a_quota_counts_pods(podns: Space) -> None:
    _quota(podns, pods="1")
    never = {"nodeSelector": {"example.test/absent": "yes"}}
    podns.make("pods", _sized(name="one", **never))
    until("it is counted", lambda: podns.get("resourcequotas", "q")["status"]["used"] == {"pods": "1"})
    status = podns.post("pods", _sized(name="two", **never)).refused(403, "Forbidden")
    assert "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1" in status["message"]
    podns.delete("pods", "one", gracePeriodSeconds=0).ok(200)
    until("it is freed", lambda: podns.get("resourcequotas", "q")["status"]["used"] == {"pods": "0"})
    podns.post("pods", _sized(name="two", **never)).ok(201)


def test_a_dry_run_uses_nothing_up(podns: Space) -> None:
    _quota(podns, pods="1")
    for _ in range(3):
        podns.post("pods", _sized(), dryRun="All").ok(201)


def test_a_quota_counts_objects(ns: Space) -> None:
    _quota(ns, services="1")
    ns.make("services", service("a"))
    ns.post("services", service("b")).refused(403, "Forbidden", "exceeded quota: q, requested: services=1")


def test_a_quota_counts_objects_by_resource(ns: Space) -> None:
    ns.ready_for_pods()
    hard = {"count/deployments.apps": "1"}
    ns.make("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    until("the quota is counted", lambda: ns.get("resourcequotas", "q")["status"].get("hard") == hard)
    ns.make("deployments", deployment("a"))
    status = ns.post("deployments", deployment("b")).refused(403, "Forbidden")
    assert "exceeded quota: q, requested: count/deployments.apps=1" in status["message"]


def test_a_quota_shows_what_is_used(podns: Space) -> None:
    _quota(podns, requests_cpu="1", limits_memory="1Gi")
    podns.make("pods", _sized("250m", "512Mi", nodeSelector={"example.test/absent": "yes"}))
    used = {"requests.cpu": "250m", "limits.memory": "512Mi"}
    until("it is counted", lambda: podns.get("resourcequotas", "q")["status"]["used"] == used)


def test_a_workload_over_quota_says_so(podns: Space) -> None:
    _quota(podns, pods="0")
    podns.make("deployments", deployment(replicas=1))

    def told() -> bool:
        conditions = podns.get("deployments", "web").get("status", {}).get("conditions") or []
        return any(c["type"] == "ReplicaFailure" and "exceeded quota: q" in c["message"] for c in conditions)

    until("the Deployment shows the refusal", told)


# --- LimitRange -------------------------------------------------------------------------------------------------------


def _limits(ns: Space, **item: Any) -> None:
    item = {"type": "Container", **item}
    ns.make("limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [item]}})


def _admitted(ns: Space, resources: Obj, **item: Any) -> Obj:
    """The container's resources once the LimitRange is seen by admission, which reads it from a cache."""
    _limits(ns, **item)

    def look() -> Obj | None:
        made = ns.post("pods", pod("probe", container(resources=copy.deepcopy(resources))), dryRun="All").ok(201)
        return made if "kubernetes.io/limit-ranger" in made["metadata"].get("annotations", {}) else None

    made: Obj = until("the LimitRange is seen", look)
    return made


def test_a_limit_range_fills_in_what_is_missing(podns: Space) -> None:
    made = _admitted(
        podns, {}, default={"cpu": "50m", "memory": "50Mi"}, defaultRequest={"cpu": "20m", "memory": "20Mi"}
    )
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "50m", "memory": "50Mi"}, "requests": {"cpu": "20m", "memory": "20Mi"},
    }  # fmt: skip
    text = "LimitRanger plugin set: cpu, memory request for container main; cpu, memory limit for container main"
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == text


def test_a_limit_range_keeps_what_is_said(podns: Space) -> None:
    said = {"requests": {"cpu": "30m"}, "limits": {"memory": "40Mi"}}
    made = _admitted(podns, said, default={"cpu": "50m", "memory": "50Mi"})
    resources = made["spec"]["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "50m", "memory": "40Mi"}
    assert resources["requests"] == {"cpu": "30m", "memory": "40Mi"}


@pytest.mark.parametrize(
    ("item", "resources", "text"),
    [
        ({"max": {"memory": "60Mi"}}, {"limits": {"memory": "64Mi"}},
         "maximum memory usage per Container is 60Mi, but limit is 64Mi"),
        ({"min": {"cpu": "100m"}}, {"requests": {"cpu": "50m"}, "limits": {"cpu": "200m"}},
         "minimum cpu usage per Container is 100m, but request is 50m"),
        ({"maxLimitRequestRatio": {"cpu": "2"}}, {"requests": {"cpu": "50m"}, "limits": {"cpu": "200m"}},
         "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000"),
    ],
    ids=["maximum", "minimum", "ratio"],
)  # fmt: skip
def test_a_limit_range_refuses(podns: Space, item: Obj, resources: Obj, text: str) -> None:
    _limits(podns, **item)

    def told() -> bool:
        answer = podns.post("pods", pod("probe", container(resources=copy.deepcopy(resources))), dryRun="All")
        return answer.status == 403 and text in answer.body["message"]

    until(f"the refusal says {text!r}", told, 20)


def test_a_limit_range_for_whole_pods(podns: Space) -> None:
    _limits(podns, type="Pod", max={"cpu": "100m"})
    body = pod("probe", *(container(name=name, resources={"limits": {"cpu": "60m"}}) for name in ("a", "b")))

    def told() -> bool:
        answer = podns.post("pods", body, dryRun="All")
        text = "maximum cpu usage per Pod is 100m, but limit is 120m"
        return answer.status == 403 and text in answer.body["message"]

    until("the refusal speaks of the pod", told, 20)


def test_nothing_else_is_limited(podns: Space) -> None:
    _limits(podns, max={"memory": "1Mi"})
    podns.make("configmaps", config())
