"""What must hold of every verdict, whatever comes in which order and whatever is left out."""

from __future__ import annotations

import copy
import random

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils.observation import Observation
from ansible_collections.deepmlhub.inference.plugins.module_utils.verdict import RULES, judge
from hypothesis import given, settings
from hypothesis import strategies as st

from . import rollouts

WATCHED = ("deployments", "replicasets", "pods", "events")
RECORDINGS = {name: rollouts.load(name) for name in rollouts.NAMES}
CAUSES = {None, *(rule.cause for rule in RULES)}
names = st.sampled_from(rollouts.NAMES)


def objects_at(recording, place):
    """Each object as a list would show it once C(place) lines have come, by resource and uid."""
    found = {resource: {} for resource in WATCHED}
    for line in [*recording.before, *recording.lines[:place]]:
        if line.resource in found:
            uid = line.object["metadata"]["uid"]
            found[line.resource][uid] = line.object
            if line.change == "DELETED":
                del found[line.resource][uid]
    return found


def paths(value, path=()):
    """The paths of all parts of an object."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*path, key)
        yield from paths(part, (*path, key))


@given(names, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_in_which_objects_arrive_does_not_matter(name, shuffle):
    recording = RECORDINGS[name]
    place = shuffle.randrange(len(recording.lines) + 1)
    lines = [(resource, one) for resource, found in objects_at(recording, place).items() for one in found.values()]
    verdicts = []
    for order in (lines, shuffle.sample(lines, len(lines))):
        seen = Observation("inference-api")
        for resource, one in order:
            seen.observe(0.0, resource, "ADDED", one)
        verdicts.append([judge(seen, t, unschedulable_timeout=10.0) for t in (0.0, 6.0, 13.0, 1000.0)])
    assert verdicts[0] == verdicts[1]


@given(names, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_final_verdict_does_not_depend_on_how_the_streams_interleave(name, shuffle):
    """Each resource is a watch of its own: its lines keep their order, but which watch is read first is chance."""
    recording = RECORDINGS[name]
    streams = {
        resource: [line for line in [*recording.before, *recording.lines] if line.resource == resource]
        for resource in WATCHED
    }
    verdicts = []
    for keep in (True, False):
        seen = Observation("inference-api")
        left = {resource: list(lines) for resource, lines in streams.items() if lines}
        while left:
            resource = next(iter(left)) if keep else shuffle.choice(sorted(left))
            seen.observe(0.0, *left[resource].pop(0)[1:])
            left = {resource: lines for resource, lines in left.items() if lines}
        verdicts.append(judge(seen, 1000.0, unschedulable_timeout=10.0))
    assert verdicts[0] == verdicts[1]


@given(names, st.randoms(use_true_random=False), st.sampled_from([None, {}, [], "", 0, True, "drop"]))
@settings(max_examples=100, deadline=None)
def test_any_part_may_be_absent_or_odd(name, shuffle, instead):
    recording = RECORDINGS[name]
    place = shuffle.randrange(len(recording.lines) + 1)
    seen = Observation("inference-api")
    for resource, found in objects_at(recording, place).items():
        for one in found.values():
            broken = copy.deepcopy(one)
            *path, last = shuffle.choice([path for path in paths(broken) if path != ("metadata",)])
            holder = broken
            for key in path:
                holder = holder[key]
            if instead == "drop":
                del holder[last]
            else:
                holder[last] = instead
            seen.observe(0.0, resource, "ADDED", broken)
    for t in (0.0, 20.0, 1000.0):
        verdict = judge(seen, t)
        assert verdict["verdict"] in ("progressing", "done", "failed")
        assert verdict["cause"] in CAUSES
        assert (verdict["verdict"] == "failed") == (verdict["cause"] is not None) == bool(verdict["summary"])


@pytest.mark.parametrize("name", rollouts.NAMES)
def test_a_new_process_comes_to_the_same_verdict_whenever_it_starts(name):
    """It lists what is there and watches from then on. It may need as long again as a fact must last, but no longer."""
    recording = RECORDINGS[name]
    expected = (recording.header["expect"]["verdict"], recording.header["expect"]["cause"])
    timeout = 300.0 if name == "node-comes-later" else 10.0
    first = next(place for place, line in enumerate(recording.lines) if line.resource == "deployments")
    generation = recording.lines[first].object["metadata"]["generation"]
    moments = range(first + 1, len(recording.lines) + 1)
    for place in random.Random(name).sample(moments, min(6, len(moments))):
        seen = Observation("inference-api", generation=generation)
        begun = recording.lines[place - 1].t
        for resource, found in objects_at(recording, place).items():
            seen.replace(begun, resource, found.values())
        ends = (
            (t, (verdict["verdict"], verdict["cause"]))
            for t, verdict in [
                (begun, judge(seen, begun, unschedulable_timeout=timeout)),
                *rollouts.verdicts(seen, recording.lines[place:], recording.header["seconds"] + 15, timeout),
            ]
            if verdict["verdict"] != "progressing"
        )
        assert next(ends, (None, None))[1] == expected, f"begun at {begun}"
