# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with a request, and the status that says so."""

from __future__ import annotations

from typing import Any


class RequestError(Exception):
    """A request that is refused: a status of 4xx or 503 and what is wrong, field by field."""

    def __init__(
        self, status: int, kind: str, loc: list[str | int], msg: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(msg)
        self.status = status
        self.detail: list[dict[str, Any]] = [{"type": kind, "loc": loc, "msg": msg}]
        self.retry_after = retry_after

    @classmethod
    def of(cls, status: int, detail: list[dict[str, Any]]) -> RequestError:
        """The same from problems that are already listed."""
        error = cls(status, "", [], "")
        error.detail = detail
        return error

    def __str__(self) -> str:
        return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" if p["loc"] else p["msg"] for p in self.detail)


class NoAnswer(Exception):
    """The model's answer isn't finite."""


class ModelError(Exception):
    """A model that is not served: one line that names what was found and what was expected."""
