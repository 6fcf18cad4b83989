"""A load generator of a few microseconds a request: python -m tests.bench.load HOST PORT PATH BODY CONNECTIONS SECONDS.

It keeps its connections, sends the same request again as soon as the last is answered, and prints one JSON object:
requests, seconds, statuses, connections lost, and percentiles of the latency in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any


class Client(asyncio.Protocol):
    def __init__(self, request: bytes, end: float, latencies: list[float], statuses: Counter[str]) -> None:
        self.request, self.end, self.latencies, self.statuses = request, end, latencies, statuses
        self.received = b""
        self.sent = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.send()

    def send(self) -> None:
        self.sent = perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head = self.received.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = self.received[:head].lower()
        start = headers.find(b"content-length:")
        if start < 0:  # chunked
            if not self.received.endswith(b"0\r\n\r\n"):
                return
        else:
            stop = headers.find(b"\r\n", start)
            length = int(headers[start + 15 : stop if stop >= 0 else None])
            if len(self.received) < head + 4 + length:
                return
        now = perf_counter()
        self.latencies.append(now - self.sent)
        self.statuses[self.received[9:12].decode()] += 1
        self.received = b""
        if now < self.end:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(perf_counter() < self.end)


async def load(host: str, port: int, path: str, body: bytes, connections: int, seconds: float) -> dict[str, object]:
    head = f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    started = perf_counter()
    clients = [Client(request, started + seconds, latencies, statuses) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, host, port)  # type: ignore[misc]
    lost = sum(await asyncio.gather(*(client.done for client in clients)))
    took = perf_counter() - started
    ordered = sorted(latencies) or [float("nan")]

    def percentile(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

    return {
        "requests": len(latencies),
        "seconds": took,
        "statuses": dict(statuses),
        "lost": lost,
        "p50": percentile(0.5),
        "p99": percentile(0.99),
    }


if __name__ == "__main__":
    import uvloop

    host, port, path, body, connections, seconds = sys.argv[1:]
    work = load(host, int(port), path, Path(body).read_bytes(), int(connections), float(seconds))
    print(json.dumps(uvloop.run(work)))
