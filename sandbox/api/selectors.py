"""Label and field selectors as query parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sandbox.api.errors import bad_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.api.kinds import Kind

_TOKENS = re.compile(r"\s*(==|!=|=|!|,|\(|\)|>|<|[^\s=!,()<>]+)")


def _tokens(text: str) -> list[str]:
    return _TOKENS.findall(text)


def labels(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """A test of an object by `labelSelector`; ApiStatus 400 where it cannot be parsed."""
    tokens = _tokens(text)
    tests: list[Callable[[Mapping[str, str]], bool]] = []
    at = 0

    def take() -> str:
        nonlocal at
        at += 1
        return tokens[at - 1] if at <= len(tokens) else ""

    while at < len(tokens):
        token = take()
        if token == "!":  # noqa: S105 - a token of the selector
            tests.append(_absent(take()))
        else:
            tests.append(_requirement(token, take, tokens[at] if at < len(tokens) else ""))
        found = take()
        if found not in ("", ","):
            raise bad_request(f"found '{found}', expected: ',' or 'end of string'")
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def _absent(key: str) -> Callable[[Mapping[str, str]], bool]:
    return lambda have: key not in have


def _requirement(key: str, take: Callable[[], str], following: str) -> Callable[[Mapping[str, str]], bool]:
    if not re.match(r"[A-Za-z0-9]", key):
        raise bad_request(f"unable to parse requirement: found '{key}', expected: '!', identifier, or 'end of string'")
    if following in ("", ","):
        return lambda have: key in have
    operator = take()
    if operator in ("=", "==", "!="):
        value = take()
        if value == ",":
            raise bad_request(f"unable to parse requirement: found '{value}', expected: identifier")
        if operator == "!=":
            return lambda have: have.get(key) != value
        return lambda have: have.get(key) == value
    if operator in ("in", "notin"):
        values = set()
        if (found := take()) != "(":
            raise bad_request(f"unable to parse requirement: found '{found}', expected: '('")
        while (found := take()) not in (")", ""):
            if found != ",":
                values.add(found)
        if operator == "in":
            return lambda have: have.get(key) in values
        return lambda have: have.get(key) not in values
    expected = "in, notin, =, ==, !=, gt, lt"
    raise bad_request(f"unable to parse requirement: found '{operator}', expected: {expected}")


def fields(text: str, kind: Kind) -> Callable[[Mapping[str, Any]], bool]:
    """A test of an object by `fieldSelector`; ApiStatus 400 for a field that cannot be selected by."""
    known = ("metadata.name", "metadata.namespace") if kind.namespaced else ("metadata.name",)
    tests: list[Callable[[Mapping[str, Any]], bool]] = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"\s*([^=!]+?)(==|!=|=)(.*)", term)
        if not match:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        key, operator, value = match.groups()
        if key not in known and key not in kind.selectable:
            if kind.selectable:
                raise bad_request(f"field label not supported: {key}")
            only = ", ".join(f'"{name}"' for name in known)
            raise bad_request(f'"{key}" is not a known field selector: only {only}')
        tests.append(_field_test(key, value, wanted=operator != "!="))
    return lambda obj: all(test(obj) for test in tests)


def _field_test(key: str, value: str, *, wanted: bool) -> Callable[[Mapping[str, Any]], bool]:
    def test(obj: Mapping[str, Any]) -> bool:
        found: Any = obj
        for part in key.split("."):
            found = found.get(part, "") if isinstance(found, dict) else ""
        text = str(found).lower() if isinstance(found, bool) else str(found or "")
        return (text == value) is wanted

    return test
