from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils import plan

RECORDINGS = Path(__file__).parents[1] / "data" / "api"


def recorded(scenario: str, note: str) -> dict:
    """What a real API server answered to the exchange with this note."""
    exchanges = json.loads((RECORDINGS / f"{scenario}.json").read_text())["exchanges"]
    answer: dict = next(e for e in exchanges if e.get("note") == note)["response"]["body"]
    return answer


def deployment(replicas: int | None = 2, **spec: object) -> dict:
    more = {} if replicas is None else {"replicas": replicas}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "inference-api", "namespace": "ns"},
        "spec": {"template": {"spec": {}}, **more, **spec},
    }


def scaler(low: int = 2, high: int = 4, target: str = "inference-api") -> dict:
    return {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "inference-api"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": target},
            "minReplicas": low,
            "maxReplicas": high,
        },
    }


def thing(kind: str, name: str, **more: object) -> dict:
    return {"kind": kind, "metadata": {"name": name}, **more}


def test_a_dry_run_that_changes_nothing_is_no_difference() -> None:
    live = recorded("apply-create-noop", "create")
    assert not plan.differs(live, recorded("apply-create-noop", "dry run of a no-op"))
    assert plan.differs(live, recorded("apply-create-noop", "dry run of a change"))
    assert plan.differs(None, live)


def test_conflicts_name_field_and_manager() -> None:
    found = plan.conflicts(recorded("apply-ownership", "another manager wants another value: conflict"))
    assert found
    assert all(entry["manager"] not in ("", "unknown") and entry["field"].startswith(".spec") for entry in found)
    assert not plan.conflicts(recorded("apply-ownership", "a replace with an old resourceVersion"))


def test_difference_shows_a_line_that_changed_and_who_loses_the_field() -> None:
    before = {**thing("ConfigMap", "c"), "data": {"LOG_LEVEL": "info", "PORT": "8080"}}
    after = {**thing("ConfigMap", "c"), "data": {"LOG_LEVEL": "debug", "PORT": "8080"}}
    found = plan.difference(before, after, "data.LOG_LEVEL taken over from kubectl-edit")
    changed = set(found["after"].splitlines()) - set(found["before"].splitlines())
    assert changed == {"  LOG_LEVEL: debug"}
    assert "kubectl-edit" in found["after_header"]


@pytest.mark.parametrize(
    ("replicas", "low", "high", "first"),
    [(3, 3, 10, 3), (None, 3, 10, 3), (1, 2, 4, 2), (9, 2, 4, 4)],
)
def test_first_replicas_lie_within_the_autoscaler_s_bounds(
    replicas: int | None, low: int, high: int, first: int
) -> None:
    assert plan.first_replicas(deployment(replicas), scaler(low, high)) == first


def test_autoscaled_looks_at_the_target() -> None:
    assert plan.autoscaled([scaler()], "inference-api") == scaler()
    assert plan.autoscaled([scaler(target="other"), thing("Service", "inference-api")], "inference-api") is None


def test_replicas_are_owned_until_they_are_handed_over() -> None:
    first = json.loads((RECORDINGS / "apply-replicas-handover.json").read_text())["exchanges"][0]["response"]["body"]
    manager = first["metadata"]["managedFields"][0]["manager"]
    assert plan.owns_replicas(first, {manager})
    handed = recorded("apply-replicas-handover", "the first one omits it")
    assert not plan.owns_replicas(handed, {manager})
    assert not plan.owns_replicas(None, {manager})


def test_the_scale_subresource_does_not_count_as_an_owner_of_ours() -> None:
    scaled = {
        "metadata": {
            "managedFields": [
                {
                    "manager": plan.MANAGER,
                    "operation": "Update",
                    "subresource": "scale",
                    "fieldsV1": {"f:spec": {"f:replicas": {}}},
                }
            ]
        }
    }
    assert not plan.owns_replicas(scaled, {plan.MANAGER})


def test_without_and_with_replicas_leave_the_manifest_as_it_was() -> None:
    manifest = deployment(2)
    kept = copy.deepcopy(manifest)
    assert "replicas" not in plan.without_replicas(manifest)["spec"]
    assert plan.with_replicas(manifest, 5)["spec"]["replicas"] == 5
    assert manifest == kept
    assert plan.replicas_only(manifest)["spec"] == {"replicas": 2}


def test_migration_makes_client_side_fields_ours() -> None:
    live = recorded("adopt-client-side-apply", "as kubectl apply creates")
    live["metadata"]["managedFields"].append(
        {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {}}
    )
    before = copy.deepcopy(live)
    patch = plan.migration(live)
    assert patch is not None
    entries = {entry["manager"]: entry for entry in patch[0]["value"]}
    assert "kubectl-client-side-apply" not in entries
    assert entries[plan.MANAGER]["operation"] == "Apply"
    theirs = next(e for e in before["metadata"]["managedFields"] if e["manager"] == "kubectl-client-side-apply")
    assert entries[plan.MANAGER]["fieldsV1"] == theirs["fieldsV1"]
    assert "kube-controller-manager" in entries
    assert patch[1]["value"] == live["metadata"]["resourceVersion"]
    assert live == before


def test_migration_adds_to_what_we_already_own() -> None:
    ours = {"manager": plan.MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:a": {}}}}
    update = {"manager": plan.MANAGER, "operation": "Update", "fieldsV1": {"f:spec": {"f:b": {"f:c": {}}}}}
    live = {"metadata": {"resourceVersion": "7", "managedFields": [ours, update]}}
    patch = plan.migration(live)
    assert patch is not None
    assert patch[0]["value"] == [{**ours, "fieldsV1": {"f:spec": {"f:a": {}, "f:b": {"f:c": {}}}}}]


def test_a_status_written_by_a_client_is_not_migrated() -> None:
    entry = {"manager": "kubectl-client-side-apply", "operation": "Update", "subresource": "status", "fieldsV1": {}}
    assert plan.migration({"metadata": {"resourceVersion": "1", "managedFields": [entry]}}) is None


def test_prunable_is_what_only_earlier_releases_hold_and_never_data() -> None:
    before = [
        thing("ConfigMap", "a"),
        thing("PersistentVolumeClaim", "data"),
        thing("Namespace", "ns"),
        thing("Deployment", "inference-api"),
        thing("HorizontalPodAutoscaler", "inference-api"),
    ]
    found = plan.prunable(before, [thing("ConfigMap", "a")])
    assert [obj["kind"] for obj in found] == ["HorizontalPodAutoscaler", "Deployment"]


def test_restored_service_keeps_what_the_server_allocated() -> None:
    recorded_service = thing("Service", "s", spec={"clusterIP": "10.0.0.1", "ports": [{"port": 80}]})
    live = thing("Service", "s", spec={"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ports": [{"port": 81}]})
    live["metadata"]["resourceVersion"] = "5"
    found = plan.restored(recorded_service, live, keep_replicas=False)
    assert found["spec"] == {"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ports": [{"port": 80}]}
    assert found["metadata"]["resourceVersion"] == "5"


def test_restored_deployment_keeps_the_autoscaler_s_count_only_if_there_is_one() -> None:
    live = deployment(5)
    live["metadata"] |= {"resourceVersion": "5", "annotations": {"deployment.kubernetes.io/revision": "4"}}
    assert plan.restored(deployment(2), live, keep_replicas=True)["spec"]["replicas"] == 5
    found = plan.restored(deployment(2), live, keep_replicas=False)
    assert found["spec"]["replicas"] == 2
    assert found["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "4"}


def test_restored_from_nothing_is_what_was_recorded() -> None:
    assert plan.restored(deployment(2), None, keep_replicas=True) == deployment(2)


@pytest.mark.parametrize(
    ("strategy", "surge"),
    [
        ({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, True),
        ({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}, True),
        ({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}}, False),
        ({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "0%"}}, False),
        ({"type": "Recreate"}, False),
        ({}, True),
    ],
)
def test_surges(strategy: dict, surge: bool) -> None:
    assert plan.surges(deployment(2, strategy=strategy)) is surge


def test_a_first_deploy_always_needs_room() -> None:
    assert plan.surges(None)


def test_rolls_only_when_the_template_changes() -> None:
    assert plan.rolls(None, deployment())
    assert not plan.rolls(deployment(2), deployment(4))
    assert plan.rolls(deployment(), deployment(template={"spec": {"x": 1}}))


def test_pod_of_carries_the_template_s_labels() -> None:
    source = deployment(template={"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}})
    found = plan.pod_of(source)
    assert found["metadata"] == {"labels": {"a": "b"}, "generateName": "inference-api-", "namespace": "ns"}
    assert found["spec"] == {"containers": []}


def test_drift_names_field_values_and_manager() -> None:
    was = deployment(2, template={"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}]}]}})
    now = copy.deepcopy(was)
    now["spec"]["replicas"] = 3
    now["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "2"
    env = {"f:env": {'k:{"name":"A"}': {"f:value": {}}}}
    now["metadata"]["managedFields"] = [
        {
            "manager": "kubectl-set",
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"c"}': env}}}}},
        },
        {"manager": "kubectl", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": plan.MANAGER, "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}}},
    ]
    found = {entry["field"]: entry for entry in plan.drift([was], {"Deployment/inference-api": now})}
    assert found["spec.replicas"]["manager"] == "kubectl"
    changed = found["spec.template.spec.containers.[name=c].env.[name=A].value"]
    assert (changed["recorded"], changed["live"], changed["manager"]) == ("1", "2", "kubectl-set")
    assert len(found) == 2


def test_an_autoscaler_s_count_is_no_drift() -> None:
    was = [deployment(2), scaler()]
    live = {"Deployment/inference-api": deployment(4), "HorizontalPodAutoscaler/inference-api": scaler()}
    assert not plan.drift(was, live)


def test_a_missing_object_is_drift() -> None:
    found = plan.drift([deployment()], {"Deployment/inference-api": None})
    assert found[0]["live"] == "absent"


def test_a_secret_s_drift_shows_no_value() -> None:
    was = thing("Secret", "s", data={"token": "AAAA"})
    found = plan.drift([was], {"Secret/s": thing("Secret", "s", data={"token": "BBBB"})})
    assert found
    assert "AAAA" not in str(found)
    assert "BBBB" not in str(found)
