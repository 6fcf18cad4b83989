"""Selectors, paging and watches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.bodies import config, deployment, pod
from tests.contract.client import Obj, until
from tests.contract.space import Space


def _five(ns: Space) -> None:
    """c0 ... c4, all with label `set`, n=0 or 1, c4 with `extra` too."""
    for index in range(5):
        more = {"extra": "yes"} if index == 4 else {}
        ns.make("configmaps", config(f"c{index}", {"set": "five", "n": str(index % 2), **more}))


def _names(items: list[Obj]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        ("set=five", "01234"),
        ("set=five,n=1", "13"),
        ("set==five,n!=1", "024"),
        ("set=five,n in (0,1),n notin (1)", "024"),
        ("extra", "4"),
        ("set,!extra", "0123"),
        ("set=five,extra notin (no)", "01234"),
        ("set=none", ""),
    ],
)
def test_a_label_selector_selects(ns: Space, selector: str, wanted: str) -> None:
    _five(ns)
    assert _names(ns.list("configmaps", selector)) == [f"c{digit}" for digit in wanted]


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [("metadata.name=c3", "3"), ("metadata.name!=c3", "0124"), ("metadata.name=c3,metadata.name=c4", "")],
)
def test_a_field_selector_selects(ns: Space, selector: str, wanted: str) -> None:
    _five(ns)
    assert _names(ns.list("configmaps", "set", fieldSelector=selector)) == [f"c{digit}" for digit in wanted]


def test_a_selector_of_a_pods_fields(podns: Space) -> None:
    podns.make("pods", pod("p", nodeSelector={"example.test/absent": "yes"}))
    assert _names(podns.list("pods", fieldSelector="spec.nodeName=")) == ["p"]
    assert _names(podns.list("pods", fieldSelector="status.phase=Pending")) == ["p"]
    assert _names(podns.list("pods", fieldSelector="status.phase!=Pending")) == []


def test_a_field_that_cannot_be_selected_is_told(ns: Space) -> None:
    answer = ns.api.get(ns.path("configmaps"), fieldSelector="data.x=1")
    answer.refused(
        400, "BadRequest", '"data.x" is not a known field selector: only "metadata.name", "metadata.namespace"'
    )


def test_a_label_selector_that_cannot_be_parsed_is_told(ns: Space) -> None:
    answer = ns.api.get(ns.path("configmaps"), labelSelector="n=1=2")
    answer.refused(400, "BadRequest", "found '=', expected: ',' or 'end of string'")


def test_a_list_has_a_kind_and_a_version_and_bare_items(ns: Space) -> None:
    _five(ns)
    found = ns.api.get(ns.path("configmaps"), labelSelector="set").ok(200)
    assert (found["kind"], found["apiVersion"]) == ("ConfigMapList", "v1")
    assert found["metadata"]["resourceVersion"].isdigit()
    assert all("kind" not in item and "apiVersion" not in item for item in found["items"])


def test_a_list_over_all_namespaces(ns: Space) -> None:
    _five(ns)
    found = ns.api.get("/api/v1/configmaps", labelSelector="set=five").ok(200)["items"]
    assert _names([item for item in found if item["metadata"]["namespace"] == ns.name]) == [f"c{i}" for i in range(5)]


# --- paging -----------------------------------------------------------------------------------------------------------


def test_pages_cover_the_list_once(ns: Space) -> None:
    _five(ns)
    seen: list[str] = []
    token = None
    versions = set()
    for _ in range(3):
        page = ns.api.get(ns.path("configmaps"), labelSelector="set", limit=2, **{"continue": token}).ok(200)
        seen += _names(page["items"])
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue")
    assert seen == [f"c{i}" for i in range(5)]
    assert token is None
    assert len(versions) == 1


def test_pages_show_the_list_as_it_was_when_the_first_was_read(ns: Space) -> None:
    _five(ns)
    first = ns.api.get(ns.path("configmaps"), labelSelector="set", limit=2).ok(200)
    ns.make("configmaps", config("c9", {"set": "five"}))
    rest = ns.api.get(ns.path("configmaps"), labelSelector="set", **{"continue": first["metadata"]["continue"]}).ok(200)
    assert _names(rest["items"]) == ["c2", "c3", "c4"]


def test_a_page_without_a_selector_counts_what_remains(ns: Space) -> None:
    for index in range(3):
        ns.make("secrets", {"metadata": {"name": f"s{index}"}})
    page = ns.api.get(ns.path("secrets"), limit=1).ok(200)
    assert page["metadata"]["remainingItemCount"] == 2


def test_a_continue_token_that_is_none_is_a_bad_request(ns: Space) -> None:
    ns.api.get(ns.path("configmaps"), limit=1, **{"continue": "nonsense!"}).refused(
        400, "BadRequest", "continue key is not valid"
    )


# --- watches ----------------------------------------------------------------------------------------------------------


def _version(ns: Space) -> str:
    found: str = ns.api.get(ns.path("configmaps")).ok(200)["metadata"]["resourceVersion"]
    return found


def _first(events: Iterator[Obj], count: int) -> list[tuple[str, str]]:
    """(type, name) of the next events."""
    out = []
    for event in events:
        out.append((event["type"], event["object"]["metadata"]["name"]))
        if len(out) == count:
            break
    events.close()  # type: ignore[attr-defined]
    return out


def test_a_watch_tells_what_happens_after_its_version(ns: Space) -> None:
    ns.make("configmaps", config("before", {"set": "w"}))
    version = _version(ns)
    ns.make("configmaps", config("a", {"set": "w"}))
    ns.patch("configmaps", "a", {"data": {"A": "2"}}).ok(200)
    ns.delete("configmaps", "a").ok(200)
    events = ns.api.watch(ns.path("configmaps"), labelSelector="set", resourceVersion=version)
    assert _first(events, 3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_a_watch_tells_what_happens_while_it_is_open(ns: Space) -> None:
    events = ns.api.watch(ns.path("configmaps"), labelSelector="set", resourceVersion=_version(ns))
    ns.make("configmaps", config("a", {"set": "w"}))
    event = next(events)
    assert event["type"] == "ADDED"
    assert event["object"] == ns.get("configmaps", "a")
    events.close()  # type: ignore[attr-defined]


def test_a_watch_from_zero_begins_with_what_is_there(ns: Space) -> None:
    _five(ns)
    events = ns.api.watch(ns.path("configmaps"), labelSelector="set", resourceVersion="0")
    assert sorted(_first(events, 5)) == [("ADDED", f"c{i}") for i in range(5)]


def test_a_watch_ends_at_its_time(ns: Space) -> None:
    assert list(ns.api.watch(ns.path("configmaps"), seconds=1, resourceVersion=_version(ns), labelSelector="set")) == []


def test_a_watch_with_a_selector_sees_objects_come_and_go(ns: Space) -> None:
    version = _version(ns)
    ns.make("configmaps", config("a", {"set": "other"}))
    ns.patch("configmaps", "a", {"metadata": {"labels": {"set": "w"}}}).ok(200)
    ns.patch("configmaps", "a", {"metadata": {"labels": {"set": "other"}}}).ok(200)
    events = ns.api.watch(ns.path("configmaps"), labelSelector="set=w", resourceVersion=version)
    assert _first(events, 2) == [("ADDED", "a"), ("DELETED", "a")]


def test_a_watch_of_one_name(ns: Space) -> None:
    version = _version(ns)
    for name in ("a", "b"):
        ns.make("configmaps", config(name))
    events = ns.api.watch(ns.path("configmaps"), fieldSelector="metadata.name=b", resourceVersion=version)
    assert _first(events, 1) == [("ADDED", "b")]


def test_a_watch_shows_the_version_of_a_deletion(ns: Space) -> None:
    made = ns.make("configmaps", config("a", {"set": "w"}))
    ns.delete("configmaps", "a").ok(200)
    version = made["metadata"]["resourceVersion"]
    event = next(ns.api.watch(ns.path("configmaps"), labelSelector="set", resourceVersion=version))
    assert event["type"] == "DELETED"
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)


def test_a_watch_from_too_long_ago_has_expired(ns: Space) -> None:
    (event,) = ns.api.watch(ns.path("configmaps"), resourceVersion="1", seconds=5)
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert "too old resource version" in event["object"]["message"]


def test_a_watch_that_asks_for_the_list_marks_its_end(ns: Space) -> None:
    _five(ns)
    events = ns.api.watch(
        ns.path("configmaps"), labelSelector="set", sendInitialEvents=True, allowWatchBookmarks=True,
        resourceVersionMatch="NotOlderThan",
    )  # fmt: skip
    seen = [next(events) for _ in range(6)]
    events.close()  # type: ignore[attr-defined]
    assert sorted(event["object"]["metadata"]["name"] for event in seen[:5]) == [f"c{i}" for i in range(5)]
    last = seen[5]
    assert (last["type"], last["object"]["kind"]) == ("BOOKMARK", "ConfigMap")
    assert last["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert last["object"]["metadata"]["resourceVersion"].isdigit()


def test_a_watch_that_asks_for_bookmarks_ends_with_one(ns: Space) -> None:
    """Two seconds before its end, though nothing happens; a client then starts anew from there."""
    made = ns.make("configmaps", config("a", {"set": "w"}))
    version = made["metadata"]["resourceVersion"]
    events = ns.api.watch(
        ns.path("configmaps"), labelSelector="set", resourceVersion=version, allowWatchBookmarks=True, seconds=5
    )
    event = next(events)
    events.close()  # type: ignore[attr-defined]
    assert event["type"] == "BOOKMARK"
    assert int(event["object"]["metadata"]["resourceVersion"]) >= int(version)


def test_a_watch_of_deployments_tells_what_the_controller_writes(ns: Space) -> None:
    version = ns.api.get(ns.path("deployments")).ok(200)["metadata"]["resourceVersion"]
    ns.make("deployments", deployment())
    for event in ns.api.watch(ns.path("deployments"), resourceVersion=version):
        if event["object"].get("status", {}).get("observedGeneration") == 1:
            break
    else:
        raise AssertionError("the watch ended before the controller wrote")
    assert event["type"] == "MODIFIED"


def test_versions_grow(ns: Space) -> None:
    made = ns.make("configmaps", config("a"))
    done = ns.patch("configmaps", "a", {"data": {"A": "2"}}).ok(200)
    assert int(done["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


def test_a_list_sees_every_write_before_it(ns: Space) -> None:
    for index in range(5):
        ns.make("configmaps", config(f"x{index}", {"set": "w"}))
        assert len(ns.list("configmaps", "set=w")) == index + 1


def test_a_cached_list_comes_to_the_same(ns: Space) -> None:
    _five(ns)
    until("the cache has it", lambda: len(ns.list("configmaps", "set", resourceVersion="0")) == 5)
