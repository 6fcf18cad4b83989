"""A container's output, kept line by line with its time, as `kubectl logs` asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from sandbox.controller import seconds

_LONGEST_LINE = 16 * 1024
_ROTATE = 10 * 1024 * 1024


class Log:
    """Lines `<time> <text>` in one file; what is older than the last 10 MiB or so goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._changed = asyncio.Event()
        self.closed = False

    async def fill(self, reader: asyncio.StreamReader) -> None:
        """Take the output until it ends."""
        rest = b""
        try:
            while chunk := await reader.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LONGEST_LINE:
                    lines.append(rest)
                    rest = b""
                self._write(lines)
            if rest:
                self._write([rest])
        finally:
            self.closed = True
            self._file.close()
            self._changed.set()

    def _write(self, lines: list[bytes]) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode()
        self._file.write(b"".join(now + b" " + line + b"\n" for line in lines))
        self._file.flush()
        if self._file.tell() > _ROTATE:
            self._file.close()
            self.path.replace(self.path.with_suffix(".old"))
            self._file = self.path.open("ab")
        self._changed.set()

    async def changed(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Choice(NamedTuple):
    """Which lines: from the `tail`-last on, not older than `since` (epoch seconds), up to `limit` bytes."""

    follow: bool
    tail: int | None
    since: float | None
    timestamps: bool
    limit: int | None


async def read(log: Log, choice: Choice) -> AsyncIterator[bytes]:
    follow, tail, since, timestamps, left = choice
    position = 0
    with log.path.open("rb") as file:
        first = True
        while True:
            closed = log.closed
            file.seek(position)
            lines = file.read().splitlines(keepends=True)
            position = file.tell()
            if first and tail is not None:
                lines = lines[-tail:] if tail else []
            first = False
            out = []
            for line in lines:
                time, _, text = line.partition(b" ")
                if since is None or seconds(time.decode()[:19] + "Z") >= since:
                    out.append(line if timestamps else text)
            data = b"".join(out)
            if left is not None:
                data = data[:left]
                left -= len(data)
            if data:
                yield data
            if not follow or closed or left == 0:
                return
            await log.changed()
