"""One member in one binding of a policy that belongs to others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils import workload_identity as wi
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.google import Google

from sandbox.google import Fault, State
from tests.google_standin import DEPLOYER, TARGET, stand_in

ME = wi.classic_member("p.svc.id.goog", "ml-inference", "inference-api")
CONDITION = {"title": "office hours"}


def test_the_two_names_of_a_service_account() -> None:
    assert ME == "serviceAccount:p.svc.id.goog[ml-inference/inference-api]"
    assert wi.principal("12", "p.svc.id.goog", "ml-inference", "inference-api") == (
        "principal://iam.googleapis.com/projects/12/locations/global/workloadIdentityPools/p.svc.id.goog"
        "/subject/ns/ml-inference/sa/inference-api"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [{"role": wi.ROLE, "members": [ME]}]),
        ([{"role": "x", "members": ["a"]}], [{"role": "x", "members": ["a"]}, {"role": wi.ROLE, "members": [ME]}]),
        ([{"role": wi.ROLE, "members": ["a"]}], [{"role": wi.ROLE, "members": ["a", ME]}]),
        (
            [{"role": wi.ROLE, "members": [ME], "condition": CONDITION}],
            [{"role": wi.ROLE, "members": [ME], "condition": CONDITION}, {"role": wi.ROLE, "members": [ME]}],
        ),
    ],
)
def test_the_member_comes_and_goes_and_all_else_stays(before: list[Any], after: list[Any]) -> None:
    policy = {"version": 3, "etag": "E", "bindings": before}
    bound = wi.with_member(policy, wi.ROLE, ME, present=True)
    assert bound == {"version": 3, "etag": "E", "bindings": after}
    assert policy["bindings"] == before
    assert wi.with_member(bound, wi.ROLE, ME, present=True) == bound
    assert wi.with_member(bound, wi.ROLE, ME, present=False) == policy


def test_an_empty_policy_stays_as_it_is_when_there_is_nothing_to_take_out() -> None:
    assert wi.with_member({"etag": "E"}, wi.ROLE, ME, present=False) == {"etag": "E"}


@pytest.fixture
def google() -> Iterator[State]:
    with stand_in() as state:
        yield state


def bind(google: State, email: str = TARGET, *, present: bool = True, check_mode: bool = False) -> dict[str, Any]:
    api = Google(google.grant(DEPLOYER)[0], DEPLOYER)
    return wi.bind(
        api, f"{google.url}/iam", google.project, email, ME, role=wi.ROLE, present=present, check_mode=check_mode
    )


def test_it_is_written_once_and_predicted_by_check_mode(google: State) -> None:
    assert bind(google, check_mode=True) == {"changed": True, "before": [], "after": [ME]}
    assert google.requests == []
    assert bind(google)["changed"]
    assert not bind(google)["changed"]
    assert google.requests == ["setIamPolicy"]
    assert google.policies[TARGET]["bindings"] == [{"role": wi.ROLE, "members": [ME]}]
    assert bind(google, present=False) == {"changed": True, "before": [ME], "after": []}
    assert not bind(google, present=False)["changed"]


def test_a_change_by_somebody_else_in_between_is_not_lost(google: State, monkeypatch: pytest.MonkeyPatch) -> None:
    once = iter([True])
    honest = wi.with_member

    def slow(policy: Any, *arguments: Any, **more: Any) -> Any:
        if next(once, False):
            google.policies[TARGET] = {"etag": "other", "bindings": [{"role": wi.ROLE, "members": ["somebody"]}]}
        return honest(policy, *arguments, **more)

    monkeypatch.setattr(wi, "with_member", slow)
    assert bind(google)["after"] == sorted(["somebody", ME])
    assert google.policies[TARGET]["bindings"][0]["members"] == ["somebody", ME]


@pytest.mark.parametrize(
    ("email", "fault", "words"),
    [
        (TARGET, "permission", "roles/iam.serviceAccountAdmin"),
        (TARGET, "disabled", "gcloud services enable iam.googleapis.com"),
        ("nobody@demo-project.iam.gserviceaccount.com", None, "Service account nobody@"),
    ],
)
def test_what_is_missing_is_named(email: str, fault: str | None, words: str, google: State) -> None:
    google.faults += [Fault("iam", fault)] if fault else []
    with pytest.raises(InferenceError) as caught:
        bind(google, email)
    assert words in str(caught.value)
