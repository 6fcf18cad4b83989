"""The processes of a sandbox, as /proc shows them. Every container's environment carries the sandbox's mark.

Run as a script, this is the watchdog: it waits until the server's end of its standard input closes, however the
server ended, and then kills what the server started.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "KUBERNETES_SANDBOX_ID"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Usage:
    """What the processes of one session use: CPU seconds since they started, resident bytes now."""

    cpu: float = 0.0
    memory: int = 0


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third (state) on; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return text[text.rindex(")") + 2 :].split()


def started(pid: int) -> str | None:
    """When the process started, in ticks since boot: with the pid it names one process. None for a dead one."""
    stat = _stat(pid)
    return stat[19] if stat and stat[0] != "Z" else None


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def usage() -> dict[int, Usage]:
    """What each session uses, by session id (a container leads a session of its own)."""
    found: dict[int, Usage] = {}
    for pid in _pids():
        if stat := _stat(pid):
            one = found.setdefault(int(stat[3]), Usage())
            one.cpu += sum(map(int, stat[11:15])) / TICKS
            one.memory += int(stat[21]) * PAGE
    return found


def session(leader: int) -> list[int]:
    """The processes of a session that still live, its leader apart."""
    stats = ((pid, _stat(pid)) for pid in _pids() if pid != leader)
    return [pid for pid, stat in stats if stat and int(stat[3]) == leader and stat[0] != "Z"]


def kill(pid: int, signal_number: int) -> None:
    try:
        os.kill(pid, signal_number)
    except (ProcessLookupError, PermissionError):
        return


def reap(mark: str) -> int:
    """Kill every process that carries the mark, whatever session it moved to; returns how many there were."""
    wanted, killed = f"{MARK}={mark}".encode(), 0
    for _ in range(20):  # until a whole pass finds none: a process may fork while it is looked for
        found = False
        for pid in _pids():
            try:
                if wanted not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    continue
                handle = os.pidfd_open(pid)  # the pid may be another's by now: look again through the handle
            except OSError:
                continue
            try:
                if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    found, killed = True, killed + 1
            except OSError:
                pass
            finally:
                os.close(handle)
        if not found:
            break
        time.sleep(0.02)
    return killed


if __name__ == "__main__":
    while sys.stdin.buffer.read(4096):
        pass
    reap(sys.argv[1])
