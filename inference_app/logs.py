# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logs: one JSON object a line on stdout."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

log = logging.getLogger("inference_app")


class JsonFormatter(logging.Formatter):
    """A record as a JSON object; C(extra={"fields": {...}}) adds keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(level: str) -> None:
    """Send everything, the server's own words too, to stdout as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # at debug these would drown our own lines
    for name in ("asyncio", "uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLevelName(level)))


_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


def trace_fields(traceparent: bytes) -> dict[str, str]:
    """The log fields of a W3C traceparent header: its trace and the caller's span; nothing if it isn't one."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if not match or set(match[1]) == {ord("0")}:
        return {}
    return {"trace_id": match[1].decode(), "parent_span_id": match[2].decode()}
