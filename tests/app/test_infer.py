"""The Open Inference Protocol, over real HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import MISSION, Process


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "features", "shape": [1, 13], "datatype": "FP64", "data": MISSION, **changes}


def infer(server: Process, *tensors: dict[str, Any], path: str = "/v2/models/wine/infer", **rest: Any) -> Any:
    return server.client.post(path, json={"inputs": list(tensors), **rest})


@pytest.mark.parametrize("data", [MISSION * 2, [MISSION, MISSION]], ids=["flat", "nested"])
@pytest.mark.parametrize("path", ["/v2/models/wine/infer", "/v2/models/wine/versions/1.0.0/infer"])
def test_it_says_what_predict_says(server: Process, data: list[Any], path: str) -> None:
    plain = server.client.post("/predict", json={"features": [MISSION, MISSION]}).json()
    body = infer(server, tensor(shape=[2, 13], data=data), path=path, id="42").json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("42", "wine", "1.0.0")
    outputs = {output["name"]: output for output in body["outputs"]}
    assert outputs["predictions"] == {
        "name": "predictions",
        "shape": [2],
        "datatype": "INT64",
        "data": plain["predictions"],
    }
    assert outputs["class_names"]["data"] == plain["class_names"]
    assert outputs["probabilities"]["shape"] == [2, 3]
    assert outputs["probabilities"]["data"] == [number for row in plain["probabilities"] for number in row]


def test_only_wanted_outputs_come(server: Process) -> None:
    body = infer(server, tensor(), outputs=[{"name": "predictions"}]).json()
    assert [output["name"] for output in body["outputs"]] == ["predictions"]


@pytest.mark.parametrize(
    ("tensors", "rest", "status", "field"),
    [
        ([tensor(shape=[1, 12])], {}, 422, "inputs.0.shape"),
        ([tensor(shape=[2, 13])], {}, 422, "inputs.0.data"),
        ([tensor(data=[MISSION[:12]])], {}, 422, "inputs.0.data"),
        ([tensor(name="x")], {}, 422, "inputs.0.name"),
        ([tensor(datatype="BYTES")], {}, 422, "inputs.0.datatype"),
        ([tensor(data=["a"] * 13)], {}, 422, "inputs.0.data"),
        ([tensor(shape=[1001, 13])], {}, 422, "inputs.0.shape"),
        ([tensor(), tensor()], {}, 422, "inputs"),
        ([], {}, 422, "inputs"),
        ([tensor()], {"outputs": [{"name": "other"}]}, 422, "outputs.0.name"),
    ],
)
def test_a_bad_tensor_is_refused_with_its_field(
    server: Process, tensors: list[Any], rest: dict[str, Any], status: int, field: str
) -> None:
    answer = infer(server, *tensors, **rest)
    assert answer.status_code == status
    assert f"body.{field}" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models/beer", "/v2/models/wine/versions/2", "/v2/models/beer/ready"])
def test_another_model_is_not_found(server: Process, path: str) -> None:
    answer = server.client.get(path)
    assert answer.status_code == 404
    assert "wine 1.0.0 is served" in answer.json()["error"]
    assert infer(server, tensor(), path="/v2/models/beer/infer").status_code == 404


def test_server_and_model_describe_themselves(server: Process) -> None:
    assert server.client.get("/v2/health/live").json() == {"live": True}
    assert server.client.get("/v2/health/ready").json() == {"ready": True}
    assert server.client.get("/v2/models/wine/ready").json() == {"ready": True}
    assert server.client.get("/v2").json()["extensions"] == []
    model = server.client.get("/v2/models/wine").json()
    assert model["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 13]}]
    assert [output["name"] for output in model["outputs"]] == ["predictions", "class_names", "probabilities"]
