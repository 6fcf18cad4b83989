"""What running containers use: metrics.k8s.io, and the memory limit."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

from sandbox import processes
from sandbox.api.machinery import Api
from sandbox.api.quantity import parse
from sandbox.containers import Container
from sandbox.controller import Key, Obj, stamp

_LOOK = 0.25  # seconds between looks at the memory of what has a limit


class Meter:
    """CPU over the last interval and memory now, of each running container."""

    def __init__(self, api: Api, interval: float, running: Callable[[], dict[int, tuple[Key, Container]]]) -> None:
        self._api, self._interval, self._running = api, interval, running
        self._before: dict[int, tuple[float, float]] = {}
        self._usage: dict[int, tuple[float, int, float, float]] = {}  # pid: cores, bytes, when (epoch), window

    async def run(self) -> None:
        next_measure = 0.0
        while True:
            running = self._running()
            if not running:
                self._before, self._usage = {}, {}
            elif time.monotonic() >= next_measure:
                next_measure = time.monotonic() + self._interval
                self._measure(running)
            for pid, (_, container) in running.items():
                limit = container.spec.get("resources", {}).get("limits", {}).get("memory")
                if limit and not container.is_oom and _memory(pid, self._usage) > parse(limit):
                    container.is_oom = True
                    container.signal(signal.SIGKILL)
            await asyncio.sleep(_LOOK)

    def _measure(self, running: dict[int, tuple[Key, Container]]) -> None:
        found, now = processes.usage(), time.monotonic()
        usage = {}
        for pid in running:
            if pid not in found:
                continue
            cpu, then = self._before.get(pid, (0.0, 0.0))
            if then:
                cores = max(0.0, found[pid].cpu - cpu) / (now - then)
                usage[pid] = (cores, found[pid].memory, self._api.clock(), now - then)
        self._before = {pid: (found[pid].cpu, now) for pid in running if pid in found}
        self._usage = usage

    def pods(self, namespace: str | None) -> list[Obj]:
        """PodMetrics of the pods whose containers have all been measured."""
        by_pod: dict[Key, list[tuple[str, tuple[float, int, float, float]]]] = {}
        for pid, (key, container) in self._running().items():
            if (not namespace or key[0] == namespace) and pid in self._usage:
                by_pod.setdefault(key, []).append((container.name, self._usage[pid]))
        out = []
        for (space, name), rows in sorted(by_pod.items()):
            pod = self._api.find("Pod", name, space)
            meta = {"name": name, "namespace": space, "creationTimestamp": stamp(rows[0][1][2])}
            if pod and pod["metadata"].get("labels"):
                meta["labels"] = pod["metadata"]["labels"]
            containers = [{"name": container, "usage": _amounts(cores, size)} for container, (cores, size, *_) in rows]
            out.append({
                "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": meta,
                "timestamp": stamp(rows[0][1][2]), "window": f"{rows[0][1][3]:.3f}s", "containers": containers,
            })  # fmt: skip
        return out

    def nodes(self) -> list[Obj]:
        out = []
        running = self._running()
        for node in self._api.all("Node"):
            name = node["metadata"]["name"]
            mine = [
                self._usage[pid] for pid, ((space, pod), _) in running.items() if pid in self._usage
                and (self._api.find("Pod", pod, space) or {"spec": {}})["spec"].get("nodeName") == name
            ]  # fmt: skip
            now = stamp(self._api.clock())
            out.append({
                "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {"name": name, "creationTimestamp": now, "labels": node["metadata"].get("labels", {})},
                "timestamp": now, "window": f"{self._interval:.3f}s",
                "usage": _amounts(sum(row[0] for row in mine), sum(row[1] for row in mine)),
            })  # fmt: skip
        return out


def _amounts(cores: float, size: int) -> Obj:
    return {"cpu": f"{int(cores * 1e9)}n" if cores else "0", "memory": f"{size // 1024}Ki"}


def _memory(pid: int, usage: dict[int, tuple[float, int, float, float]]) -> int:
    """Resident bytes: of all its processes as last measured, or of the first one now if that is more."""
    try:
        now = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * processes.PAGE
    except (OSError, IndexError):
        return 0
    return max(now, usage[pid][1] if pid in usage else 0)
