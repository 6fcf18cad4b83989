"""A container as a local process group: how it is started, and what is known of it.

Processes share the host's files. So an environment value, command or argument that is a path at or below one of the
container's mount paths is moved to the volume's real directory, and a volume at /tmp becomes TMPDIR. CPU limits,
users, capabilities and read-only file systems are not enforced; memory limits are, by resident size.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import processes
from sandbox.controller import Obj
from sandbox.logs import Log

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_BACKOFF_FIRST, _BACKOFF_MOST = 10.0, 300.0
START_FAILED = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed:"
    " unable to start container process: exec: "
)


class StartError(Exception):
    """Why the command cannot be run, in containerd's words."""


class BackOff:
    """Kubelet's restarts: at once, then 10 s, doubled up to 5 min, forgotten after 10 quiet minutes."""

    def __init__(self) -> None:
        self._delay, self._since = 0.0, 0.0

    def delay(self, now: float) -> float:
        """Seconds that the next start has to wait after an end at `now`."""
        if now - self._since > 2 * _BACKOFF_MOST:
            self._delay = 0.0
        return self._delay

    def started(self, now: float) -> None:
        """A start that had to be counted: the next one waits longer."""
        self._delay = min(max(self.delay(now) * 2, _BACKOFF_FIRST), _BACKOFF_MOST)
        self._since = now


@dataclass
class Container:
    """One container of a pod, over all its runs. `state` and `last` are the API's state and lastState."""

    spec: Obj
    state: Obj
    is_init: bool = False
    last: Obj = field(default_factory=dict)
    ready: bool = False
    started: bool = False
    restarts: int = 0
    id: str = ""
    address: str = ""
    log: Log | None = None
    previous_log: Log | None = None
    process: asyncio.subprocess.Process | None = None
    ended: asyncio.Task[int] | None = None
    is_oom: bool = False
    stopping: bool = False
    backoff: BackOff = field(default_factory=BackOff)
    pull_backoff: float = 0.0
    recheck: float = 1.0  # seconds until what could not be configured is looked at again
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    startup_passed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    def new_id(self) -> None:
        self.id = f"containerd://{secrets.token_hex(32)}"

    async def start(self, argv: list[str], env: dict[str, str], workdir: str, log: Log) -> None:
        """Run the command; StartError when it cannot be run. `ended` is done when all of its processes are gone."""
        self.env, self.workdir, self.is_oom, self.stopping = env, workdir, False, False
        self.previous_log, self.log = self.log, log
        if self.previous_log:
            for path in self.previous_log.path.parent.glob("*.log"):
                if path not in (self.previous_log.path, log.path):
                    path.unlink(missing_ok=True)
        program = find(argv[0], env, workdir)
        self.process = await asyncio.create_subprocess_exec(
            program, *argv[1:], env=env, cwd=workdir, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
            preexec_fn=_before_exec,
        )  # fmt: skip
        self.ended = asyncio.create_task(self._end(self.process, log))

    async def _end(self, process: asyncio.subprocess.Process, log: Log) -> int:
        assert process.stdout is not None
        filling = asyncio.create_task(log.fill(process.stdout))
        code = await process.wait()
        for pid in processes.session(process.pid):
            processes.kill(pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(filling, 1)
        return 128 - code if code < 0 else code

    def signal(self, number: int) -> None:
        """To the container's first process, as a runtime does; SIGKILL to all of them."""
        if self.process and self.process.returncode is None:
            processes.kill(self.process.pid, number)
            if number == signal.SIGKILL:
                for pid in processes.session(self.process.pid):
                    processes.kill(pid, number)


def _before_exec() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # the first process of a container does not die of a signal that it has no handler for
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def find(command: str, env: dict[str, str], workdir: str) -> str:
    """The program to run: this Python for `python`, others from PATH; StartError when there is none."""
    if command in ("python", "python3"):
        return sys.executable
    if "/" not in command:
        found = shutil.which(command, path=env.get("PATH"))
        if not found:
            raise StartError(f'{START_FAILED}"{command}": executable file not found in $PATH')
        return found
    path = Path(workdir, command)
    if not path.exists():
        raise StartError(f'{START_FAILED}"{command}": stat {command}: no such file or directory')
    if not os.access(path, os.X_OK) or path.is_dir():
        raise StartError(f'{START_FAILED}"{command}": permission denied')
    return str(path)
