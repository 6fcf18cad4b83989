"""The recordings of real rollouts, and how to replay them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.deepmlhub.inference.plugins.module_utils.observation import Observation
from ansible_collections.deepmlhub.inference.plugins.module_utils.verdict import judge

FOLDER = Path(__file__).parents[1] / "data" / "rollouts"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))


class Line(NamedTuple):
    t: float
    resource: str
    change: str
    object: dict[str, Any]


class Recording(NamedTuple):
    header: dict[str, Any]
    before: list[Line]  # what came before the change under test
    lines: list[Line]
    logs: dict[str, str]


def load(name: str) -> Recording:
    header, *rest = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
    *lines, last = rest
    told = [Line(one["t"], one["resource"], one["type"], one["object"]) for one in lines]
    mark = next((place for place, line in enumerate(told) if line.resource == "mark"), -1)
    before, lines = told[: mark + 1], told[mark + 1 :]
    if before:  # time begins again at the mark; what came before it gets negative times
        gap = _start(lines) - _start(before)
        before = [line._replace(t=line.t - gap) for line in before]
    return Recording(header["header"], before, lines, last["logs"])


def _start(lines: list[Line]) -> float:
    """The server's clock when the time of these lines began."""
    stamps = [(line.object.get("metadata", {}).get("creationTimestamp"), line.t) for line in lines]
    return max(datetime.fromisoformat(stamp).timestamp() - t for stamp, t in stamps if stamp)


def start(recording: Recording) -> Observation:
    """An observation as a release begins it: it knows the generation that its apply made."""
    first = next(line.object for line in recording.lines if line.resource == "deployments")
    seen = Observation("inference-api", generation=first["metadata"]["generation"])
    for line in recording.before:
        seen.observe(*line)
    return seen


def verdicts(
    seen: Observation, lines: list[Line], until: float, unschedulable_timeout: float = 10.0
) -> Iterator[tuple[float, dict[str, Any]]]:
    """The verdict after each line and at each full second."""
    tick = lines[0].t if lines else 0.0
    for line in lines:
        while tick < line.t:
            yield tick, judge(seen, tick, unschedulable_timeout=unschedulable_timeout)
            tick += 1.0
        seen.observe(*line)
        yield line.t, judge(seen, line.t, unschedulable_timeout=unschedulable_timeout)
    while tick <= until:
        yield tick, judge(seen, tick, unschedulable_timeout=unschedulable_timeout)
        tick += 1.0
