# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shapes on the wire. They describe the API and word its errors; the hot path parses without them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FLOAT32_MAX = 3.4028234663852886e38  # beyond this a tree, which compares float32, would see infinity

Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Exact = ConfigDict(extra="forbid", protected_namespaces=())


class PredictRequest(BaseModel):
    """Rows of features, each in the order of the model's feature names."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"features": [[0.1, -0.2, 0.3, 0.4, -0.5, 0.6, -0.7, 0.8, -0.9, 1.0, 0.1, -0.1, 0.2]]}]
        },
    )
    features: Annotated[list[list[Number]], Field(min_length=1)]


class PredictResponse(BaseModel):
    """One prediction a row; names only of a classifier, probabilities only if it has some."""

    model_config = Exact
    predictions: list[int] | list[float]
    class_names: list[str] | None = None
    probabilities: list[list[float]] | None = None
    model_version: str


class Problem(BaseModel):
    """One thing that is wrong with a request, and where."""

    type: str
    loc: list[str | int]
    msg: str
    input: str | None = None


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: list[Problem]


class State(BaseModel):
    """A state of the server, and why."""

    status: str
    reason: str | None = None


class Feature(BaseModel):
    """A feature and the range in which the model has seen it."""

    name: str
    min: float
    max: float


class ModelDescription(BaseModel):
    """The model that is served."""

    name: str
    version: str
    sha256: str
    backend: str
    estimator: str
    features: list[Feature]
    class_names: list[str]


DataType = Literal["FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]


class InferInput(BaseModel):
    """An input tensor of the Open Inference Protocol, its data flat or nested."""

    model_config = Exact
    name: Literal["features"]
    shape: Annotated[list[Annotated[int, Field(strict=True, ge=1)]], Field(min_length=2, max_length=2)]
    datatype: DataType
    parameters: dict[str, Any] | None = None
    data: Annotated[list[Number], Field(min_length=1)] | Annotated[list[list[Number]], Field(min_length=1)]


class InferWanted(BaseModel):
    """An output tensor that the client wants."""

    model_config = Exact
    name: Literal["predictions", "class_names", "probabilities"]
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """A request of the Open Inference Protocol: one tensor, C(features)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "inputs": [
                        {
                            "name": "features",
                            "shape": [1, 13],
                            "datatype": "FP64",
                            "data": [0.1, -0.2, 0.3, 0.4, -0.5, 0.6, -0.7, 0.8, -0.9, 1.0, 0.1, -0.1, 0.2],
                        }
                    ]
                }
            ]
        },
    )
    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: Annotated[list[InferInput], Field(min_length=1, max_length=1)]
    outputs: list[InferWanted] | None = None


class InferOutput(BaseModel):
    """An output tensor, its data flat."""

    name: str
    shape: list[int]
    datatype: str
    data: list[int] | list[float] | list[str]


class InferResponse(BaseModel):
    """An answer of the Open Inference Protocol."""

    model_config = Exact
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferOutput]


class InferError(BaseModel):
    """How the Open Inference Protocol refuses."""

    error: str


class TensorDescription(BaseModel):
    """A tensor's name, type and shape; -1 is any number of rows."""

    name: str
    datatype: str
    shape: list[int]


class InferModel(BaseModel):
    """A model as the Open Inference Protocol describes it."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorDescription]
    outputs: list[TensorDescription]


class InferServer(BaseModel):
    """The server as the Open Inference Protocol describes it."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """The process lives."""

    live: bool


class Ready(BaseModel):
    """Whether predictions are answered."""

    ready: bool
