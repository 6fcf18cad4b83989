"""What POST /predict answers, over real HTTP."""

from __future__ import annotations

import json
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
