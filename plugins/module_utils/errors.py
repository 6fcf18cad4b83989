# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one exception that a module turns into a failure."""

from __future__ import annotations

from typing import Any


class InferenceError(Exception):
    """What failed, where, and what to do next, in one line; the parts of it in C(fields)."""

    def __init__(self, what: str, *, hint: str = "", **fields: Any) -> None:
        self.what = what.rstrip(". ")
        self.hint = hint
        self.fields = fields
        super().__init__(f"{self.what}. {hint}" if hint else what)
