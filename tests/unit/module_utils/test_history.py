from __future__ import annotations

import os
from base64 import b64encode

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils import history
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"A": "1"}}
GATE = {"golden": {"pairs": []}, "tolerance": 1e-5}


def record(revision: int, status: str = "deployed", **more: object) -> dict:
    objects = more.pop("objects", [{**CONFIG, "data": {"A": str(revision)}}])
    return {
        "name": "r",
        "revision": revision,
        "status": status,
        "manifests": [CONFIG],
        "objects": objects,
        "gate": GATE,
        **more,
    }


def test_a_record_comes_back_as_it_was() -> None:
    secret = history.encode(record(3), "ns")
    assert secret["metadata"]["name"] == "r.release.3"
    assert secret["metadata"]["labels"][history.RELEASE_LABEL] == "r"
    assert history.decode(secret) == record(3)


def test_the_same_record_makes_the_same_secret() -> None:
    assert history.encode(record(3), "ns") == history.encode(record(3), "ns")


def test_a_record_that_no_secret_holds_is_refused_before_it_is_sent() -> None:
    noise = b64encode(os.urandom(history.LARGEST)).decode()
    with pytest.raises(InferenceError, match=r"would take \d+ bytes, a Secret holds"):
        history.encode(record(1, objects=[{**CONFIG, "data": {"A": noise}}]), "ns")


@pytest.mark.parametrize("data", [{}, {"record": "!"}, {"record": b64encode(b"text").decode()}])
def test_what_is_no_record_is_named(data: dict) -> None:
    with pytest.raises(InferenceError, match="Secret broken is labelled as a release record"):
        history.decode({"metadata": {"name": "broken"}, "data": data})


def test_ordered_by_number_not_by_name() -> None:
    secrets = [history.encode(record(revision), "ns") for revision in (10, 9, 2)]
    assert [found["revision"] for found in history.ordered(secrets)] == [2, 9, 10]


@pytest.mark.parametrize(
    ("newest", "manifests", "gate", "stands"),
    [
        (record(1), [CONFIG], GATE, True),
        (record(1, "failed"), [CONFIG], GATE, False),
        (None, [CONFIG], GATE, False),
        (record(1), [{**CONFIG, "data": {"A": "2"}}], GATE, False),
        (record(1), [CONFIG], {**GATE, "golden": {"pairs": [1]}}, False),
        (record(1), [CONFIG], None, False),
        (record(1), [CONFIG], {**GATE, "service": "other"}, True),
    ],
)
def test_stands(newest: dict | None, manifests: list, gate: dict | None, stands: bool) -> None:
    assert history.stands(newest, manifests, gate) is stands


def test_the_order_of_manifests_does_not_make_another_release() -> None:
    other = {**CONFIG, "metadata": {"name": "d"}}
    assert history.identity([CONFIG, other], None) == history.identity([other, CONFIG], None)


def test_to_forget_keeps_the_limit_and_the_last_healthy_one() -> None:
    records = [record(1), record(2), record(3, "failed"), record(4, "failed"), record(5, "failed")]
    assert [r["revision"] for r in history.to_forget(records, 3)] == [1]
    assert [r["revision"] for r in history.to_forget(records, 10)] == []


def test_back_from_a_failed_release_is_the_newest_healthy_one() -> None:
    records = [record(1, "found"), record(2), record(3, "failed")]
    newest = history.newest(records, "deployed", "found")
    assert newest is not None
    assert newest["revision"] == 2


def test_back_by_default_is_the_last_one_that_differs() -> None:
    same = record(2)["objects"]
    records = [record(1), record(2), record(3, objects=same)]
    assert history.to_restore(records, None)["revision"] == 1


@pytest.mark.parametrize(("revision", "said"), [(7, "no revision 7"), (3, "no revision 3")])
def test_a_revision_that_is_not_there_or_failed_lists_those_that_are(revision: int, said: str) -> None:
    records = [record(1), record(2), record(3, "failed")]
    with pytest.raises(InferenceError, match=said) as caught:
        history.to_restore(records, revision)
    assert "healthy revisions: 1, 2" in str(caught.value)


def test_nothing_to_go_back_to() -> None:
    with pytest.raises(InferenceError, match="no earlier release"):
        history.to_restore([record(1)], None)


def test_a_summary_holds_no_object() -> None:
    assert "A" not in str(history.summary(record(1, who="me")).values())
