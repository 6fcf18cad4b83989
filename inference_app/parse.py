# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A request's bytes into rows of numbers, or a refusal that names the field."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import numpy as np
import orjson
from pydantic import ValidationError

from .errors import RequestError
from .model import Matrix
from .schemas import FLOAT32_MAX, PredictRequest

_NUMBERS = {int, float}


class Disconnected(Exception):
    """The client left before its request was whole."""


def check_headers(headers: Iterable[tuple[bytes, bytes]], max_body_bytes: int) -> None:
    """Refuse what needn't be read: a body that says it is too long, or that it isn't JSON."""
    for name, value in headers:
        if name == b"content-length" and int(value) > max_body_bytes:
            raise _too_long(max_body_bytes)
        if name == b"content-type":
            kind = value.split(b";", 1)[0].strip().lower()
            if kind != b"application/json" and not kind.endswith(b"+json"):
                shown = kind.decode("latin-1")
                raise RequestError(
                    415, "content_type", ["header", "content-type"], f"{shown!r} is not application/json"
                )


async def read_body(receive: Callable[[], Awaitable[MutableMapping[str, Any]]], max_body_bytes: int) -> bytes:
    """The whole body; RequestError 413 as soon as it is longer than allowed."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body") or message["type"] == "http.disconnect":
        if message["type"] == "http.disconnect":
            raise Disconnected
        if len(body) > max_body_bytes:
            break
        message = await receive()
        body += message.get("body", b"")
    if len(body) > max_body_bytes:
        raise _too_long(max_body_bytes)
    return body


def _too_long(max_body_bytes: int) -> RequestError:
    return RequestError(413, "too_long", ["body"], f"the body is longer than {max_body_bytes} bytes (MAX_BODY_BYTES)")


def rows(body: bytes, width: int, max_rows: int) -> Matrix:
    """(rows, width) float64, all finite as float32 too; RequestError otherwise."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _lenient(body, error)
    matrix = _fast(document)
    if matrix is None:
        matrix = _worded(document)
    if matrix is None or matrix.shape[1] != width:
        _refuse_width(document["features"], width)
    assert matrix is not None
    if len(matrix) > max_rows:
        msg = f"{len(matrix)} rows, at most {max_rows} are answered at once (MAX_ROWS)"
        raise RequestError(413, "too_many_rows", ["body", "features"], msg)
    return matrix


def _fast(document: Any) -> Matrix | None:
    """The matrix if the document is plainly right; None if it needs a closer look."""
    if type(document) is not dict or len(document) != 1 or type(table := document.get("features")) is not list:
        return None
    if not table or not all(type(row) is list and _NUMBERS.issuperset(map(type, row)) for row in table):
        return None
    try:
        matrix = np.array(table, dtype=np.float64)
    except (ValueError, OverflowError):
        return None
    if matrix.ndim != 2 or not (np.abs(matrix) <= FLOAT32_MAX).all():
        return None
    return matrix


def _worded(document: Any) -> Matrix | None:
    """The matrix by way of the schema, whose errors name the field; None if the rows differ in length."""
    try:
        table = PredictRequest.model_validate(document).features
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)[:20]
        detail = [
            {**problem, "loc": ["body", *problem["loc"]], "input": _short(problem["input"])} for problem in problems
        ]
        raise RequestError.of(422, detail) from None
    if len({len(row) for row in table}) != 1:
        return None
    return np.array(table, dtype=np.float64)


def _refuse_width(table: list[list[float]], width: int) -> None:
    number, row = next((n, row) for n, row in enumerate(table) if len(row) != width)
    msg = f"the row has {len(row)} numbers, the model takes {width}"
    raise RequestError(422, "row_length", ["body", "features", number], msg)


def _lenient(body: bytes, error: orjson.JSONDecodeError) -> Any:
    """A document that only NaN or Infinity keeps from being JSON, so that the schema can name the field."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        problem = {"type": "json_invalid", "loc": ["body", error.pos], "msg": f"not JSON: {error.msg}"}
        raise RequestError.of(422, [problem]) from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
