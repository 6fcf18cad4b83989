"""Image references: which can be parsed, and what they are called in full."""

from __future__ import annotations

import re

DEFAULT_REGISTRY = "registry.example"  # what a reference without a host is resolved against
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?"
_TAG, _DIGEST = r":\w[\w.-]{0,127}", r"@[a-z0-9+._-]+:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(rf"(?:{_HOST}/)?{_NAME}(?:/{_NAME})*(?:{_TAG})?(?:{_DIGEST})?")


def _split(reference: str) -> tuple[str, str]:
    """(host or "", the rest)"""
    host, slash, rest = reference.partition("/")
    if slash and (re.search(r"[.:]", host) or host == "localhost" or host.lower() != host):
        return host, rest
    return "", reference


def problem(reference: str) -> str | None:
    """Why a reference cannot be parsed, in the container runtime's words."""
    host, rest = _split(reference)
    name = re.split(r"[:@]", rest, maxsplit=1)[0]
    if name.lower() != name:
        return f"invalid reference format: repository name ({name}) must be lowercase"
    if not _REFERENCE.fullmatch(f"{host}/{rest}" if host else rest):
        return "invalid reference format"
    return None


def full(reference: str) -> str:
    """With its host and tag."""
    host, rest = _split(reference)
    tag = "" if re.search(r"[:@]", rest) else ":latest"
    return f"{host or DEFAULT_REGISTRY}/{rest}{tag}"
