"""The server does what its OpenAPI document says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import MISSION, Process

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def test_the_document_knows_the_model(server: Process) -> None:
    request = server.client.get("/openapi.json").json()["components"]["schemas"]["PredictRequest"]
    assert request["properties"]["features"]["items"]["minItems"] == 13
    assert request["properties"]["features"]["maxItems"] == 1000
    assert request["examples"] == [{"features": [MISSION]}]


@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis is absent")
@pytest.mark.parametrize(
    "scope",
    # only a prose rule ties a tensor's shape to its data: there a schema-valid request may be refused
    [["--include-path", "/predict"], ["--exclude-path", "/predict", "--exclude-checks", "positive_data_acceptance"]],
    ids=["predict", "the rest"],
)
def test_no_answer_but_the_documented(server: Process, scope: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"{server.url}/openapi.json", "--seed", "1", "--no-color", *scope),
            *("--max-examples", os.environ.get("FUZZ_EXAMPLES", "30"), "--generation-database", "none"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Tested: " in done.stdout
    assert not [line for line in server.lines() if line["level"] == "error"]
