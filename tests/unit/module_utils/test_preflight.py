"""What stands in the way of a release, judged from plain dicts."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils import preflight
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.objects import KINDS
from ansible_collections.deepmlhub.inference.plugins.module_utils.preflight import Finding, Need


def manifest(kind: str, spec: dict[str, Any] | None = None, **annotations: str) -> dict[str, Any]:
    metadata = {"name": "inference-api", "annotations": annotations}
    return {"apiVersion": KINDS[kind].api_version, "kind": kind, "metadata": metadata, "spec": spec or {}}


def deployment(replicas: int | None = 2, surge: Any = 1, **resources: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge}},
        "template": {"spec": {"containers": [{"name": "inference-api", "resources": resources}]}},
    }
    return manifest("Deployment", {**spec, **({"replicas": replicas} if replicas else {})})


def verbs(found: list[Need], group: str, resource: str, optional: bool = False) -> set[str]:
    return {
        need.verb for need in found if (need.group, need.resource, bool(need.optional)) == (group, resource, optional)
    }


def test_a_release_needs_to_write_what_it_holds_and_its_own_records() -> None:
    found = preflight.needs([deployment(), manifest("Service")], manage_namespace=True)
    assert verbs(found, "apps", "deployments") == {"get", "list", "watch", "create", "update", "patch", "delete"}
    assert verbs(found, "", "services") == {"get", "create", "update", "patch", "delete"}
    assert verbs(found, "", "secrets") == {"list", "create", "delete"}
    assert verbs(found, "coordination.k8s.io", "leases") == {"get", "create", "update", "delete"}
    assert verbs(found, "", "namespaces") == {"get", "create", "patch"}
    assert verbs(found, "", "configmaps") == set()
    assert verbs(found, "", "pods", optional=True) == {"list", "watch", "create"}
    assert verbs(found, "", "services/proxy") == {"get", "create"}
    assert len(found) == len(set(found))


def test_without_the_namespace_to_manage_it_is_only_read_where_that_is_allowed() -> None:
    found = preflight.needs([manifest("ConfigMap")], manage_namespace=False)
    assert verbs(found, "", "namespaces") == set()
    assert verbs(found, "", "namespaces", optional=True) == {"get"}


def test_a_load_balancer_does_without_the_proxy() -> None:
    found = preflight.needs([manifest("Service", {"type": "LoadBalancer"})], manage_namespace=True)
    assert verbs(found, "", "services/proxy") == set()
    assert verbs(found, "", "services/proxy", optional=True) == {"get", "create"}


def test_refusals_are_one_row_a_resource_and_only_the_needed_ones_stop_a_run() -> None:
    asked = {
        Need("apps", "deployments", "get"): None,
        Need("apps", "deployments", "patch"): "",
        Need("apps", "deployments", "delete"): "no",
        Need("", "pods", "list", "late"): "",
        Need("", "pods", "create", "unasked"): "",
        Need("", "services", "get"): None,
    }
    rows = {finding.check: finding for finding in preflight.access_findings(asked, "ns")}
    assert rows["may use services"] == Finding("may use services", True, "get")
    refused = rows["may use deployments.apps"]
    assert (refused.ok, refused.required) == (False, True)
    assert refused.detail == "may not patch, delete in namespace ns (no)"
    assert "verbs patch, delete on deployments of API group apps" in refused.hint
    lesser = rows["may use pods"]
    assert (lesser.ok, lesser.required) == (False, False)
    assert lesser.detail == "may not list, create in namespace ns: late; unasked"


@pytest.mark.parametrize(
    ("server", "kubectl", "ok", "near"),
    [
        ("v1.36.2-gke.1", "v1.35.0", True, True),
        ("v1.30.0", "v1.32.4-dispatcher", True, False),
        ("v1.29.9", None, False, None),
        ("v2.0.0", "v1.0.0", True, False),
    ],
)
def test_versions(server: str, kubectl: str | None, ok: bool, near: bool | None) -> None:
    found = preflight.version_findings({"gitVersion": server}, {"gitVersion": kubectl} if kubectl else None)
    assert (found[0].ok, found[0].required) == (ok, True)
    assert [finding.ok for finding in found[1:]] == ([] if near is None else [near])
    assert not any(finding.required for finding in found[1:])


def test_a_version_that_says_nothing_stops_nobody() -> None:
    assert preflight.version_findings({}, None) == [
        Finding("cluster version", None, "not understood: unknown", required=False)
    ]


def test_apis_that_are_not_served_are_named() -> None:
    manifests = [deployment(), manifest("HorizontalPodAutoscaler")]
    served = {"apps/v1", "coordination.k8s.io/v1"}
    [found] = preflight.api_findings(served, manifests)
    assert (found.ok, found.detail) == (False, "not served: autoscaling/v2")
    assert preflight.api_findings(served | {"autoscaling/v2"}, manifests)[0].ok


@pytest.mark.parametrize(
    ("served", "answered", "ok"), [(set(), False, False), ({"metrics.k8s.io/v1beta1"}, False, False)]
)
def test_an_autoscaler_without_metrics_is_told(served: set[str], answered: bool, ok: bool) -> None:
    assert preflight.metrics_finding(served, answered).ok is ok
    assert preflight.metrics_finding({"metrics.k8s.io/v1beta1"}, True).ok


@pytest.mark.parametrize(
    ("live", "manage", "readable", "ok", "words"),
    [
        (None, True, True, True, "will be created"),
        (None, False, True, False, "does not exist"),
        (None, False, False, None, "no permission"),
        ({"metadata": {}, "status": {"phase": "Active"}}, True, True, True, "is Active"),
        (
            {
                "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
                "status": {
                    "conditions": [{"status": "True", "message": "held by x"}, {"status": "False", "message": "n"}]
                },
            },
            True,
            True,
            False,
            "is being deleted since 2026-01-01T00:00:00Z: held by x",
        ),
    ],
)
def test_the_namespace(live: Any, manage: bool, readable: bool, ok: bool | None, words: str) -> None:
    found = preflight.namespace_finding("ns", live, manage_namespace=manage, readable=readable)
    assert found.ok is ok
    assert words in found.detail


@pytest.mark.parametrize(
    ("skew", "ok", "required", "words"),
    [
        (0, True, True, "within"),
        (-29, True, True, "within"),
        (60, False, False, "60 s ahead"),
        (-999, False, True, "behind"),
    ],
)
def test_the_clock(skew: float, ok: bool, required: bool, words: str) -> None:
    found = preflight.clock_finding(formatdate(1_000_000), 1_000_000 + skew)
    assert (found.ok, found.required) == (ok, required)
    assert words in found.detail


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_server_without_a_clock_stops_nobody(date: str | None) -> None:
    assert preflight.clock_finding(date, 0).ok is None


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used}}


SIZE = {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}


@pytest.mark.parametrize(
    ("hard", "used", "live", "ok", "words"),
    [
        ({"pods": "2"}, {"pods": "0"}, None, True, "2 more pods"),
        ({"pods": "1"}, {"pods": "0"}, None, False, "pods 0 of 1 are used, 2 more are needed"),
        ({"pods": "2"}, {"pods": "2"}, {"status": {"replicas": 2}}, False, "1 more pods"),
        ({"pods": "3"}, {"pods": "2"}, {"status": {"replicas": 2}}, True, "1 more pods"),
        ({"requests.cpu": "1"}, {"requests.cpu": "1"}, {"status": {"replicas": 4}}, False, "0.25 more are needed"),
        ({"cpu": "750m"}, {"cpu": "500m"}, {"status": {"replicas": 2}}, True, "fit"),
        ({"limits.memory": "1Gi"}, {"limits.memory": "1Gi"}, {"status": {"replicas": 2}}, False, "512Mi more"),
        ({"requests.ephemeral-storage": "0"}, {}, None, True, "fit"),
        ({"configmaps": "0", "count/deployments.apps": "0"}, {}, None, True, "fit"),
    ],
)
def test_the_room_for_a_rollout(hard: Any, used: Any, live: Any, ok: bool, words: str) -> None:
    [found] = preflight.quota_findings([quota(hard, used)], [deployment(**SIZE)], live)
    assert found.ok is ok
    assert words in found.detail


def test_an_autoscaler_s_count_and_a_surge_in_percent_are_reckoned_with() -> None:
    live = {"spec": {"replicas": 5}, "status": {"replicas": 5}}
    [found] = preflight.quota_findings([quota({"pods": "6"}, {"pods": "5"})], [deployment(None, "25%")], live)
    assert (found.ok, found.detail) == (False, "2 more pods for the rollout: pods 5 of 6 are used, 2 more are needed")


def test_a_limit_alone_is_a_request_too_and_init_containers_count() -> None:
    one = deployment(limits={"cpu": "1"})
    one["spec"]["template"]["spec"]["initContainers"] = [{"resources": {"requests": {"cpu": "2"}}}]
    assert not preflight.quota_findings([quota({"cpu": "3"}, {"cpu": "0"})], [one], None)[0].ok
    del one["spec"]["template"]["spec"]["initContainers"]
    assert preflight.quota_findings([quota({"cpu": "3"}, {"cpu": "0"})], [one], None)[0].ok
    assert not preflight.quota_findings([quota({"cpu": "1"}, {"cpu": "0"})], [one], None)[0].ok


def test_a_quota_with_scopes_is_left_alone() -> None:
    assert (
        preflight.quota_findings([quota({"pods": "0"}, {}, scopes=["BestEffort"])], [deployment()], None)[0].ok is None
    )


def test_workload_identity_needs_a_pool() -> None:
    account = manifest("ServiceAccount", **{preflight.GCP_ACCOUNT: "a@b"})
    found = {f.check: f for f in preflight.gke_findings({"cluster_status": "RUNNING", "workload_pool": ""}, [account])}
    assert found["workload identity pool"].ok is False
    assert "a@b" in found["workload identity pool"].detail
    assert preflight.gke_findings({"cluster_status": "RUNNING", "workload_pool": "p.svc.id.goog"}, [account])[1].ok
    assert len(preflight.gke_findings({"cluster_status": "RUNNING"}, [manifest("ServiceAccount")])) == 1
    assert preflight.gke_findings(None, [account]) == []


@pytest.mark.parametrize(
    ("look", "ok", "required"),
    [
        (lambda: {"digest": "sha256:1"}, True, True),
        (InferenceError("gone", status=404), False, True),
        (InferenceError("away"), None, False),
    ],
)
def test_an_image_that_cannot_be_seen_from_here_may_still_be_there(look: Any, ok: bool | None, required: bool) -> None:
    def answer() -> dict[str, Any]:
        if isinstance(look, Exception):
            raise look
        return dict(look())

    found = preflight.image_finding("registry.example/a:1", answer)
    assert (found.ok, found.required) == (ok, required)


def test_the_table_is_aligned_and_the_message_holds_every_failure() -> None:
    found = preflight.result(
        [
            Finding("a", True, "fine"),
            Finding("longer", False, "bad", hint="Mend it"),
            Finding("b", False, "meh", required=False),
            Finding("c", None, "?", required=False),
            Finding("d", False, "worse"),
        ]
    )
    assert found["table"] == [
        "ok    a       fine",
        "FAIL  longer  bad. Mend it",
        "warn  b       meh",
        "-     c       ?",
        "FAIL  d       worse",
    ]
    assert found["msg"] == "2 things stand in the way of a release: longer: bad. Mend it; d: worse"
    assert not found["ok"]
    assert preflight.result([Finding("b", False, "meh", required=False)])["ok"]
