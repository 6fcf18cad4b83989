"""The fast path and the schema accept the same bodies, and neither ever fails otherwise than by refusing."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inference_app import parse
from inference_app.errors import RequestError
from inference_app.protocols import Infer
from inference_app.schemas import FLOAT32_MAX, PredictRequest

WIDTH, MAX_ROWS = 3, 4
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1000"))

numbers = st.one_of(
    st.floats(),
    st.integers(-10, 10),
    st.integers(),
    st.sampled_from(
        [FLOAT32_MAX, -FLOAT32_MAX, 3.4028234663852889e38, 1e308, 10**40, 10**400, 2**63, 2**64, -0.0, 5e-324]
    ),
)
texts = st.text(st.characters(), max_size=3)  # lone surrogates too
oddities = st.one_of(st.none(), st.booleans(), texts, st.just([]), st.just({}), st.just([1]))
rows = st.one_of(
    st.lists(numbers, min_size=WIDTH, max_size=WIDTH),
    st.lists(st.one_of(numbers, oddities), max_size=WIDTH + 1),
    oddities,
    numbers,
)
tables = st.one_of(st.lists(rows, min_size=1, max_size=2), st.lists(rows, max_size=MAX_ROWS + 2), oddities)
documents = st.one_of(
    tables.map(lambda table: {"features": table}),
    st.tuples(tables, texts, oddities).map(lambda three: {"features": three[0], three[1]: three[2]}),
    st.recursive(oddities, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner)),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON, or JSON that was cut, doubled, spliced or spelled in another encoding."""
    document = draw(documents)
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    body = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig"])), "surrogatepass")
    match draw(st.integers(0, 7)):
        case 0:
            return body[: draw(st.integers(0, len(body)))]
        case 1:
            place = draw(st.integers(0, len(body)))
            return body[:place] + draw(st.binary(max_size=4)) + body[place:]
        case 2:
            return draw(st.sampled_from([b"", b" ", b"["])) * draw(st.integers(0, 2000)) + body
    return body


def fast(body: bytes) -> list[list[float]] | None:
    """What the server does with a body: the shape by hand, the numbers by the whole batch."""
    try:
        table = parse.table(body, WIDTH, MAX_ROWS)
        with np.errstate(all="ignore"):
            try:
                flat = np.fromiter((number for row in table for number in row), np.float64)
                fits = bool(np.abs(flat).max() <= FLOAT32_MAX)
            except OverflowError:
                fits = False
        if not fits:
            parse.check_numbers(table)
            raise AssertionError("the schema lets through what the batch refuses")
    except RequestError as refused:
        assert 400 <= refused.status < 500
        assert all(problem["msg"] and problem["loc"][0] == "body" for problem in refused.detail)
        orjson.dumps(refused.detail)
        return None
    return [[float(number) for number in row] for row in table]


def slow(body: bytes) -> list[list[float]] | None:
    """What the schema alone makes of it."""
    try:
        table = PredictRequest.model_validate(orjson.loads(body)).features
    except (orjson.JSONDecodeError, ValidationError):
        return None
    return table if len(table) <= MAX_ROWS and all(len(row) == WIDTH for row in table) else None


@settings(max_examples=EXAMPLES, deadline=None)
@given(bodies())
def test_fast_and_slow_accept_the_same(body: bytes) -> None:
    assert fast(body) == slow(body)


def test_both_ways_are_taken() -> None:
    good = b'{"features": [[1, 2.5, -3]]}'
    assert fast(good) == slow(good) == [[1.0, 2.5, -3.0]]
    assert fast(b'{"features": [[1, 2.5, "3"]]}') is None


class ThreeFeatures:
    """As much of a model as the protocol looks at."""

    name, version, width, classes, probabilities = "m", "1", WIDTH, (0, 1), True


tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["features", "other"]),
        "shape": st.one_of(
            st.just([1, WIDTH]), st.lists(st.integers(-1, 4) | oddities, max_size=3), st.just([2**70, WIDTH]), oddities
        ),
        "datatype": st.sampled_from(["FP64", "INT8", "BYTES", ""]) | oddities,
        "data": st.one_of(st.lists(numbers, min_size=WIDTH, max_size=WIDTH), tables),
    },
    optional={"parameters": oddities, "more": oddities},
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.one_of(
        st.fixed_dictionaries(
            {"inputs": st.lists(tensors, max_size=2)}, optional={"id": oddities, "outputs": oddities}
        ),
        documents,
    )
)
def test_a_tensor_is_refused_or_becomes_rows(document: Any) -> None:
    model: Any = ThreeFeatures()
    try:
        asked = Infer.decode(
            json.dumps(document).encode("utf-8", "surrogatepass"), model, MAX_ROWS, "/v2/models/m/infer"
        )
    except RequestError as refused:
        assert 400 <= refused.status < 500 and str(refused)
        return
    assert 1 <= len(asked.table) <= MAX_ROWS
    assert all(len(row) == WIDTH and max(map(abs, row)) <= FLOAT32_MAX for row in asked.table)


@pytest.mark.parametrize("depth", [1_000, 1_000_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    assert fast(b'{"features": ' + b"[" * depth + b"]" * depth + b"}") is None
