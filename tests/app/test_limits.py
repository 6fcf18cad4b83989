"""Limits, metrics, ids and logs of the real process."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .conftest import MISSION, Process

Start = Callable[..., Process]


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, wine: Path) -> Iterator[Process]:
    """A server that waits one second for what a client sends."""
    with contextlib.closing(
        Process(tmp_path_factory.mktemp("hasty") / "log", {"MODEL_PATH": str(wine), "READ_SECONDS": "1"})
    ) as process:
        process.wait()
        yield process


def metrics(server: Process) -> dict[str, float]:
    """Every sample, as name{labels}."""
    text = server.client.get("/metrics").text
    return {
        sample.name + "".join(f" {k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_requests_rows_and_batches(server: Process) -> None:
    before = metrics(server)
    server.client.post("/predict", json={"features": [MISSION] * 3})
    server.client.post("/predict", json={"features": []})
    server.client.get("/made/up/by/a/client")
    after = metrics(server)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("inference_rows_total") == 3
    assert grown("inference_batch_rows_count") == 1
    assert grown("inference_requests_total path=/predict status=200") == 1
    assert grown("inference_requests_total path=/predict status=422") == 1
    assert grown("inference_requests_total path=other status=404") == 1
    assert grown("inference_request_duration_seconds_count path=/predict") == 2
    assert after["inference_ready"] == 1
    assert after["inference_requests_in_flight"] == 0
    info = next(name for name in after if name.startswith("inference_model_info"))
    assert "backend=onnx" in info and "name=wine" in info


def test_a_request_id_is_echoed_and_logged_with_the_trace(server: Process) -> None:
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    answer = server.client.post(
        "/predict",
        json={"features": [[1]]},
        headers={"x-request-id": "from-the-client", "traceparent": f"00-{trace}-{span}-01"},
    )
    assert answer.headers["x-request-id"] == "from-the-client"
    line = next(line for line in server.lines() if line.get("request_id") == "from-the-client")
    assert (line["status"], line["trace_id"], line["parent_span_id"]) == (422, trace, span)
    assert "body.features.0" in line["message"]
    made = server.client.post("/predict", json={"features": []}).headers["x-request-id"]
    assert any(line.get("request_id") == made for line in server.lines())


def test_small_limits_are_kept(start: Start) -> None:
    server = start(MAX_BODY_BYTES="1024", MAX_ROWS="2")
    server.wait()
    answer = server.client.post("/predict", json={"features": [MISSION] * 3})
    assert answer.status_code == 422 and "MAX_ROWS" in answer.json()["detail"][0]["msg"]
    answer = server.client.post("/predict", content=b" " * 1025)
    assert answer.status_code == 413 and "MAX_BODY_BYTES" in answer.json()["detail"][0]["msg"]

    def chunks() -> object:
        for _ in range(100):
            yield b" " * 1000

    answer = server.client.post("/predict", content=chunks())  # type: ignore[arg-type]
    assert answer.status_code == 413


def test_what_waits_beyond_the_bound_is_told_to_come_back(start: Start) -> None:
    server = start(MAX_QUEUE="1", MODEL_BACKEND="sklearn", MAX_ROWS="100000", MAX_BODY_BYTES="100000000")
    server.wait()
    big = json.dumps({"features": [MISSION] * 50_000}).encode()

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{server.url}/predict", content=big, timeout=60)

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(ask, range(16)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1" and "MAX_QUEUE" in refused.json()["detail"][0]["msg"]
    assert server.client.post("/predict", json={"features": [MISSION]}).status_code == 200


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", b""),
        (b"POST /predict HTTP/1.1\r\nhost: x\r\n", b""),
        (b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{", b"HTTP/1.1 408 "),
    ],
    ids=["nothing", "half the headers", "half the body"],
)
def test_a_slow_sender_is_let_go(hasty: Process, sent: bytes, expected: bytes) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as client:
        client.sendall(sent)
        received = until_closed(client)
    assert received.startswith(expected) and bool(received) == bool(expected)
    assert hasty.client.get("/health").status_code == 200


def test_an_idle_connection_is_kept_but_not_in_the_middle_of_a_request(hasty: Process) -> None:
    ask = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as client:
        for _ in range(2):
            client.sendall(ask)
            received = b""
            while not received.endswith(b'{"status":"ok"}'):
                received += client.recv(65536)
            # another connection is let go meanwhile, so this one was idle for longer than READ_SECONDS
            with socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as other:
                assert until_closed(other) == b""
        client.sendall(ask[:10])
        assert until_closed(client) == b""


def until_closed(client: socket.socket) -> bytes:
    """What comes until the server closes; a time-out fails the test."""
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


def test_bytes_that_are_not_http_are_refused_with_our_headers(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"hello\r\n\r\n")
        received = until_closed(client)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"x-pod-name: pod-a" in received and b"x-model-sha256: " in received
