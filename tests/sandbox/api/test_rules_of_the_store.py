"""The pure parts: quantities, field sets, strategic patches, tables' ages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.api import fields, ownership, patches, quantity, rules, schema, tables
from sandbox.api.errors import ApiStatus
from sandbox.api.kinds import BY_KIND

Obj = dict[str, Any]
DEPLOYMENT = BY_KIND["Deployment"]
NODE = schema.of(DEPLOYMENT)
NOW = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.5", "500m"), ("1000m", "1"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("2000", "2k"), ("0", "0"),
        ("1e3", "1k"),
        ("100m", "100m"), ("128Mi", "128Mi"), ("0.0001", "100u"), ("1023", "1023"), ("500Ki", "500Ki"),
    ],
)  # fmt: skip
def test_quantities_are_written_one_way(text: str, canonical: str) -> None:
    assert quantity.canonical(text) == canonical


@pytest.mark.parametrize("text", ["", "lots", "1Xi", "1 Gi", "Mi", "--1"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (190, "3m10s"), (3600, "60m"), (10800, "3h"), (11100, "3h5m"),
     (172800, "2d"), (700000, "8d"), (180000, "2d2h"), (-5, "0s")],
)  # fmt: skip
def test_ages_as_kubectl_writes_them(seconds: int, text: str) -> None:
    then = 1_767_225_600  # 2026-01-01T00:00:00Z
    assert tables.age(NOW, then + seconds) == text


def live_after(obj: Obj) -> Obj:
    """The applied object as it is stored: with defaults, and without nulls."""
    found: Obj = schema.Decoder().decode(NODE, {"kind": "Deployment", **obj})
    rules.default("Deployment", found)
    return found


names = st.sampled_from(["a", "b", "c", "d"])
envs = st.lists(st.fixed_dictionaries({"name": names, "value": st.sampled_from(["1", "2"])}), max_size=4,
                unique_by=lambda env: env["name"])  # fmt: skip


@st.composite
def configs(draw: st.DrawFn) -> Obj:
    container: Obj = {"name": "api", "image": "x:1", "env": draw(envs)}
    spec: Obj = {"selector": {"matchLabels": {"l": "v"}}, "template": {"spec": {"containers": [container]}}}
    if draw(st.booleans()):
        spec["replicas"] = draw(st.integers(0, 3))
    return {"metadata": {"labels": draw(st.dictionaries(names, names, max_size=3))}, "spec": spec}


def applied(live: Obj | None, config: Obj, manager: str, *, force: bool = False) -> Obj:
    who = ownership.Who(manager, "Apply")
    return live_after(ownership.apply(DEPLOYMENT, live, fields.copy(config), who, NOW, force=force))


def env_of(obj: Obj) -> list[str]:
    return [env["name"] for env in obj["spec"]["template"]["spec"]["containers"][0].get("env", [])]


@given(configs())
def test_applying_again_changes_nothing(config: Obj) -> None:
    once = applied(None, config, "us")
    assert applied(once, config, "us") == once


@given(configs(), configs())
def test_an_only_owner_gets_just_what_it_applied_last(first: Obj, second: Obj) -> None:
    switched = applied(applied(None, first, "us"), second, "us")
    fresh = applied(None, second, "us")
    assert switched == fresh


@given(configs(), configs())
def test_what_another_manager_applied_survives_or_conflicts(ours: Obj, theirs: Obj) -> None:
    live = applied(None, ours, "us")
    try:
        both = applied(live, theirs, "them")
    except ApiStatus as refused:
        assert refused.reason == "Conflict"
        both = applied(live, theirs, "them", force=True)
    assert set(env_of(both)) == set(env_of(ours)) | set(env_of(theirs))
    owners = {who.manager: entry.fields for who, entry in ownership.read(both).items()}
    assert owners["them"] >= fields.owned(NODE, ownership.bare(theirs))
    # Whoever leaves takes along only what nobody else owns.
    left = applied(both, {"metadata": {}, "spec": {"selector": {"matchLabels": {"l": "v"}}}}, "us")
    assert set(env_of(left)) == set(env_of(theirs))


@given(configs())
def test_field_sets_survive_being_written(config: Obj) -> None:
    found = fields.owned(NODE, ownership.bare(config))
    assert fields.from_v1(fields.to_v1(found)) == found


@pytest.mark.parametrize(
    ("live", "patch", "order", "merged"),
    [
        ("AB", "N", None, "NAB"),
        ("AB", "B", None, "AB"),
        ("AB", "NB", None, "NAB"),
        ("AB", "N", "ABN", "ABN"),
        ("AB", "", "BA", "BA"),
        ("ABC", "", "CA", "BCA"),
    ],
)
def test_a_strategic_merge_orders_its_list(live: str, patch: str, order: str | None, merged: str) -> None:
    def spec(letters: str) -> Obj:
        return {"template": {"spec": {"containers": [{"name": letter} for letter in letters]}}}

    change = spec(patch)
    if order is not None:
        pod = change["template"]["spec"]
        pod["$setElementOrder/containers"] = [{"name": letter} for letter in order]
        if not patch:
            del pod["containers"]
    out = patches.strategic(NODE, {"spec": spec(live)}, {"spec": change})
    assert "".join(c["name"] for c in out["spec"]["template"]["spec"]["containers"]) == merged


def test_a_strategic_patch_keeps_only_the_keys_that_it_retains() -> None:
    live = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert patches.strategic(NODE, live, patch) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_a_field_path_is_spelled_with_its_keys() -> None:
    path = ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:port")
    assert fields.spell(path) == '.spec.ports[port=80,protocol="TCP"].port'
    assert fields.spell(("f:metadata", "f:finalizers", 'v:"x/y"')) == '.metadata.finalizers[="x/y"]'
