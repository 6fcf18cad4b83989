"""Refusals, in the words of a Kubernetes API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.api.kinds import Kind


class ApiStatus(Exception):
    """An answer of 400 or above; `body()` is the Status object that a client sees."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        return {**body, "code": self.code}


class Cause(NamedTuple):
    """One field that validation refuses; reason is FieldValueInvalid, FieldValueRequired and so on."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


def _details(kind: Kind, name: str, noun: str) -> dict[str, Any]:
    details = {"name": name, "group": kind.group, "kind": noun}
    return {key: value for key, value in details.items() if value}


def not_found(kind: Kind, name: str) -> ApiStatus:
    return ApiStatus(404, "NotFound", f'{kind.resource} "{name}" not found', _details(kind, name, kind.plural))


def no_resource() -> ApiStatus:
    return ApiStatus(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(kind: Kind, name: str, *, is_going: bool = False) -> ApiStatus:
    message = f'{"object is being deleted: " if is_going else ""}{kind.resource} "{name}" already exists'
    return ApiStatus(409, "AlreadyExists", message, _details(kind, name, kind.plural))


def conflict(kind: Kind, name: str, why: str) -> ApiStatus:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return ApiStatus(409, "Conflict", message, _details(kind, name, kind.plural))


def modified(kind: Kind, name: str) -> ApiStatus:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(kind, name, why)


def forbidden(kind: Kind, name: str, why: str) -> ApiStatus:
    subject = f'{kind.resource} "{name}"' if name else kind.resource
    return ApiStatus(403, "Forbidden", f"{subject} is forbidden: {why}", _details(kind, name, kind.plural))


def bad_request(message: str) -> ApiStatus:
    return ApiStatus(400, "BadRequest", message)


def undecodable(kind: Kind, why: str) -> ApiStatus:
    version = f"{kind.version}"
    return bad_request(f'{kind.kind} in version "{version}" cannot be handled as a {kind.kind}: {why}')


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> ApiStatus:
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    noun = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    details = _details(kind, name, kind.kind) | {
        "causes": [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
    }
    return ApiStatus(422, "Invalid", f'{noun} "{name}" is invalid: {text}', details)


def expired(message: str) -> ApiStatus:
    return ApiStatus(410, "Expired", message)
