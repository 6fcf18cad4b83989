# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shapes on the wire. They describe the API and word its errors; the hot path parses without them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

FLOAT32_MAX = 3.4028234663852886e38  # beyond this a tree, which compares float32, would see infinity

Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-FLOAT32_MAX, le=FLOAT32_MAX)]


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
    """One prediction a row; names and probabilities only when the model is a classifier."""

    model_config = ConfigDict(protected_namespaces=())
    predictions: list[int] | list[float]
    class_names: list[str] | None = None
    probabilities: list[list[float]] | None = None
    model_version: str


class Problem(BaseModel):
    """One thing that is wrong with a request, and where."""

    type: str
    loc: list[str | int]
    msg: str
    input: Any = None


class ProblemResponse(BaseModel):
    """Why a request was refused."""

    detail: list[Problem]


class ReasonResponse(BaseModel):
    """A state of the server, and why."""

    status: str
    reason: str | None = None
