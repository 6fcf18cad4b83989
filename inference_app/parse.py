# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A request's bytes into rows of numbers, or a refusal that names the field."""

from __future__ import annotations

import contextlib
import json
import reprlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from .errors import RequestError
from .schemas import PredictRequest

Table = list[list[float]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_OF_NUMBERS = b"0123456789+-.eE, \t\r\n"  # and what may stand between them
_SHOWN_PROBLEMS = 20
_Schema = TypeVar("_Schema", bound=BaseModel)


class Disconnected(Exception):
    """The client left before its request was whole."""


def check_headers(headers: dict[bytes, bytes], max_body_bytes: int) -> None:
    """Refuse what needn't be read: a body that says it is too long, or that it isn't JSON."""
    if int(headers.get(b"content-length", 0)) > max_body_bytes:
        raise _too_long(max_body_bytes)
    content_type = headers.get(b"content-type")
    if content_type is not None and content_type != b"application/json":
        kind = content_type.split(b";", 1)[0].strip().lower()
        if kind != b"application/json" and not kind.endswith(b"+json"):
            msg = f"{kind.decode('latin-1')!r} is not application/json"
            raise RequestError(415, "content_type", ["header", "content-type"], msg)


async def read_body(receive: Receive, max_body_bytes: int) -> bytes:
    """The whole body; RequestError 413 as soon as it is longer than allowed, Disconnected if it never gets whole."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message["type"] == "http.disconnect" or message.get("more_body"):
        if message["type"] == "http.disconnect":
            raise Disconnected
        if len(body) > max_body_bytes:
            break
        message = await receive()
        body += message.get("body", b"")
    if len(body) > max_body_bytes:
        raise _too_long(max_body_bytes)
    return body


def table(body: bytes, width: int, max_rows: int) -> Table:
    """Rows of width numbers; RequestError otherwise.

    That they are finite and fit a float32 is left to check_numbers, which the whole batch passes at once.
    """
    document = load(body, PredictRequest)
    rows = plain(body, document)
    if rows is None:
        rows = validate(PredictRequest, document).features
    if {*map(len, rows)} != {width}:
        number, row = next((number, row) for number, row in enumerate(rows) if len(row) != width)
        msg = f"the row has {len(row)} numbers, the model takes {width}"
        raise RequestError(422, "row_length", ["body", "features", number], msg)
    if len(rows) > max_rows:
        msg = f"{len(rows)} rows, at most {max_rows} are answered at once (MAX_ROWS)"
        raise RequestError(422, "too_many_rows", ["body", "features"], msg)
    return rows


def plain(body: bytes, document: Any) -> Table | None:
    """The rows if the document plainly has the right shape; None if it needs the schema's closer look.

    Looking at the type of each number costs more than reading it. But this is JSON already: if nothing is left of it
    without the characters of numbers but the one key and a pair of brackets a row, then it holds rows of numbers.
    """
    try:
        rows: Table = document["features"]
        count = len(rows)
    except (TypeError, KeyError, IndexError):
        return None
    if count == 0 or body.translate(None, _OF_NUMBERS) != b'{"faturs":[%s]}' % (b"[]" * count):
        return None
    return rows


def check_numbers(rows: Table) -> None:
    """RequestError that names the number that isn't finite or is too large."""
    validate(PredictRequest, {"features": rows})


def validate(schema: type[_Schema], document: Any) -> _Schema:
    """The document by way of a schema; RequestError 422 with the fields that are wrong."""
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)[:_SHOWN_PROBLEMS]
        raise RequestError.of(
            422,
            [
                {
                    "type": problem["type"],
                    "loc": ["body", *(part if isinstance(part, int) else _short(part) for part in problem["loc"])],
                    "msg": problem["msg"],
                    "input": _short(problem["input"]),
                }
                for problem in problems
            ],
        ) from None


def load(body: bytes, schema: type[BaseModel]) -> Any:
    """The JSON document; RequestError 422 if it is none.

    What only Python's own parser reads is refused all the same, but by the schema, which can name the field of a NaN.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        problem = {"type": "json_invalid", "loc": ["body", error.pos], "msg": f"not JSON: {error.msg}"}
    with contextlib.suppress(ValueError, RecursionError):
        validate(schema, json.loads(body))
    raise RequestError.of(422, [problem])


def _too_long(max_body_bytes: int) -> RequestError:
    return RequestError(413, "too_long", ["body"], f"the body is longer than {max_body_bytes} bytes (MAX_BODY_BYTES)")


def _short(value: Any) -> str:
    """As much of what a client sent as helps to find it; no depth or length of it can hurt."""
    text = value if isinstance(value, str) else reprlib.repr(value)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= 80 else text[:77] + "..."
