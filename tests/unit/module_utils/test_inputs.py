from __future__ import annotations

from ansible_collections.deepmlhub.inference.plugins.module_utils import inputs

GROUPS = {"all": ["a"], "ungrouped": [], "inference": ["a"], "other": ["b"]}


def test_reached_targets_are_no_problem() -> None:
    assert inputs.target_problem("inference", ["a"], ["a"], GROUPS) is None


def test_an_empty_group_names_the_groups_that_exist() -> None:
    said = inputs.target_problem("inference", [], [], {"all": [], "web": ["w"]})
    assert said is not None
    assert "no host in group inference; groups that exist: web" in said


def test_a_limit_that_leaves_none_names_hosts_and_groups() -> None:
    said = inputs.target_problem("inference", ["a"], [], GROUPS)
    assert said is not None
    assert "leaves no host of group inference (a); groups that exist: inference, other" in said


def test_missing_lists_all_at_once() -> None:
    assert inputs.missing({"inference_workload_image": ""}, ["inference_workload_image"]) == [
        "inference_workload_image",
        "gcloud_credentials_project",
        "gcloud_credentials_location",
        "gcloud_credentials_cluster",
    ]


def test_a_kubeconfig_says_which_cluster_is_meant() -> None:
    assert inputs.missing({"gcloud_credentials_kubeconfig": "x"}, ["image"]) == ["image"]
    assert not inputs.missing({"gcloud_credentials_context": "x", "image": "y:1"}, ["image"])


def test_an_unknown_variable_names_the_nearest_one() -> None:
    known = {"inference_workload_replicas", "verification_golden"}
    found = inputs.unknown(
        ["inference_workload_replica", "verification_golden", "somebody_elses"], known, ["inference_workload"]
    )
    assert found == [
        "inference_workload_replica is not a variable of this collection; did you mean inference_workload_replicas?"
    ]
