"""What POST /predict answers, over real HTTP."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from inference_app.model import close

from .conftest import MISSION, Process


def post(server: Process, body: Any, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.client.post("/predict", content=content, headers={"content-type": "application/json", **headers})


def test_the_missions_request_is_answered(server: Process) -> None:
    answer = post(server, {"features": [MISSION]})
    assert answer.status_code == 200
    body = answer.json()
    assert body["class_names"] == ["class_1"] and body["predictions"] == [1]
    assert sum(body["probabilities"][0]) == pytest.approx(1)
    assert body["model_version"] == "1.0.0"


def test_golden_predictions_match_and_every_answer_names_model_and_pod(server: Process, wine: Path) -> None:
    golden = json.loads((wine / "golden.json").read_text())
    assert {"features": [MISSION]} in [pair["request"] for pair in golden["pairs"]]
    for pair in golden["pairs"]:
        answer = post(server, pair["request"])
        for key, expected in pair["response"].items():
            assert close(answer.json()[key], expected, 1e-5)
    for path in ("/predict", "/health", "/ready", "/nowhere"):
        answer = server.client.get(path)
        assert answer.headers["x-model-sha256"] == golden["model"]["sha256"]
        assert answer.headers["x-pod-name"] == "pod-a"


ROW = json.dumps(MISSION)
TWELVE = json.dumps(MISSION[:12])


def table(*rows: str) -> str:
    return '{"features": [' + ", ".join(rows) + "]}"


def first(value: str) -> str:
    """A row that starts with value."""
    return f"[{value}{', 1' * 12}]"


@pytest.mark.parametrize(
    ("body", "status", "loc"),
    [
        (table(TWELVE), 422, ["body", "features", 0]),
        (table(ROW, TWELVE), 422, ["body", "features", 1]),
        (table("[]"), 422, ["body", "features", 0]),
        (table(), 422, ["body", "features"]),
        (table("1, 2"), 422, ["body", "features", 0]),
        ('{"features": null}', 422, ["body", "features"]),
        (table(first("NaN")), 422, ["body", "features", 0, 0]),
        (table(ROW, first("-Infinity")), 422, ["body", "features", 1, 0]),
        (table(first('"1"')), 422, ["body", "features", 0, 0]),
        (table(first("true")), 422, ["body", "features", 0, 0]),
        (table(first("1e39")), 422, ["body", "features", 0, 0]),
        (table(first("1" * 400)), 422, ["body", "features", 0, 0]),
        (table(first("[1]")), 422, ["body", "features", 0, 0]),
        ("{}", 422, ["body", "features"]),
        (table(ROW)[:-1] + ', "feature": 1}', 422, ["body", "feature"]),
        ('"features"', 422, ["body"]),
        ('{"features": [', 422, ["body", 14]),
        ("[" * 100_000, 422, None),
        ("", 422, ["body", 0]),
        (b"\xff\xfe", 422, None),
        (table(*[ROW] * 1001), 422, ["body", "features"]),
        (b" " * 10_000_000, 413, ["body"]),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, str | bytes) else "",
)
def test_a_bad_body_is_refused_with_its_field(
    server: Process, body: str | bytes, status: int, loc: list[Any] | None
) -> None:
    answer = post(server, body if isinstance(body, bytes) else body.encode())
    assert answer.status_code == status
    first = answer.json()["detail"][0]
    assert first["msg"]
    if loc is not None:
        assert first["loc"] == loc
    assert post(server, {"features": [MISSION]}).status_code == 200


def test_another_content_type_is_refused(server: Process) -> None:
    answer = post(server, {"features": [MISSION]}, **{"content-type": "text/plain"})
    assert answer.status_code == 415
    assert answer.json()["detail"][0]["loc"] == ["header", "content-type"]


def raw(server: Process, sent: bytes) -> bytes:
    """All that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(sent)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    return received


def request(body: str, version: str = "1.1", **headers: str) -> bytes:
    lines = [f"POST /predict HTTP/{version}", "host: x", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def test_pipelined_requests_are_answered_in_order(server: Process) -> None:
    good, bad = table(ROW), table(TWELVE)
    received = raw(server, request(good) + request(bad) + request(good) + request(good, connection="close"))
    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"200", b"422", b"200", b"200"]
    assert received.count(b'"class_1"') == 3 and received.count(b"connection: close") == 1


def test_every_way_to_send_a_request_gets_the_same_answer(server: Process) -> None:
    good = table(ROW)
    chunked = request("", connection="close").replace(b"content-length: 0", b"transfer-encoding: chunked")
    chunked += f"{len(good):x}\r\n{good}\r\n0\r\n\r\n".encode()
    padded = request(good + " " * 70_000, connection="close")
    answers = [
        raw(server, sent)
        for sent in (
            request(good, connection="close"),
            request(good, version="1.0"),
            request(good, connection="close", expect="100-continue"),
            chunked,
            padded,
        )
    ]
    for answer in answers:
        head, body = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\nx-pod-name: pod-a" in head and b"\r\ndate: " in head
        assert json.loads(body)["class_names"] == ["class_1"]
