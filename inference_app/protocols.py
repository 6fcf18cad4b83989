# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a prediction is asked for and answered: our own shape, and the Open Inference Protocol's."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import orjson

from . import parse
from .errors import RequestError
from .model import Model
from .schemas import InferInput, InferModel, InferRequest, TensorDescription


class Asked(NamedTuple):
    """A request's rows, and what its answer needs to know of it."""

    table: parse.Table
    request: InferRequest | None = None


class Predict:
    """C(POST /predict)."""

    path = "/predict"

    @staticmethod
    def decode(body: bytes, model: Model, max_rows: int, path: str) -> Asked:  # noqa: ARG004
        """Rows from a body."""
        return Asked(parse.table(body, model.width, max_rows))

    @staticmethod
    def encode(answer: dict[str, Any], asked: Asked, model: Model) -> bytes:  # noqa: ARG004
        """A body from an answer."""
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)

    @staticmethod
    def refuse(error: RequestError) -> bytes:
        """A body from a refusal."""
        return orjson.dumps({"detail": error.detail})


class Infer:
    """C(POST /v2/models/NAME/infer)."""

    path = "/v2/models/{name}/infer"
    pattern = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")

    @staticmethod
    def decode(body: bytes, model: Model, max_rows: int, path: str) -> Asked:
        """Rows from a body."""
        match = Infer.pattern.fullmatch(path)
        assert match
        check_name(model, *match.groups())
        request = parse.validate(InferRequest, parse.load(body, InferRequest))
        tensor = request.inputs[0]
        rows, width = tensor.shape
        if width != model.width:
            raise _wrong("shape", f"{width} numbers a row, the model takes {model.width}")
        if rows > max_rows:
            msg = f"{rows} rows, at most {max_rows} are answered at once (MAX_ROWS)"
            raise RequestError(422, "too_many_rows", ["body", "inputs", 0, "shape"], msg)
        known = {output.name for output in outputs(model)}
        for number, wanted in enumerate(request.outputs or []):
            if wanted.name not in known:
                msg = f"the model has no output {wanted.name!r}, it has {', '.join(sorted(known))}"
                raise RequestError(422, "output", ["body", "outputs", number, "name"], msg)
        return Asked(_rows(tensor), request)

    @staticmethod
    def encode(answer: dict[str, Any], asked: Asked, model: Model) -> bytes:
        """A body from an answer."""
        assert asked.request is not None
        wanted = {output.name for output in asked.request.outputs or outputs(model)}
        tensors = []
        for output in outputs(model):
            if output.name in wanted:
                data = answer[output.name]
                shape = [len(data), *output.shape[1:]]
                if len(shape) == 2:
                    data = data.ravel()
                tensors.append({"name": output.name, "shape": shape, "datatype": output.datatype, "data": data})
        body = {"model_name": model.name, "model_version": model.version, "outputs": tensors}
        if asked.request.id is not None:
            body["id"] = asked.request.id
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)

    @staticmethod
    def refuse(error: RequestError) -> bytes:
        """A body from a refusal."""
        return orjson.dumps({"error": str(error)})


Protocol = type[Predict] | type[Infer]


def outputs(model: Model) -> list[TensorDescription]:
    """The tensors of an answer."""
    if model.classes is None:
        return [TensorDescription(name="predictions", datatype="FP64", shape=[-1])]
    tensors = [
        TensorDescription(name="predictions", datatype="INT64", shape=[-1]),
        TensorDescription(name="class_names", datatype="BYTES", shape=[-1]),
    ]
    if model.probabilities:
        tensors.append(TensorDescription(name="probabilities", datatype="FP64", shape=[-1, len(model.classes)]))
    return tensors


def describe(model: Model) -> InferModel:
    """The model in the protocol's words."""
    return InferModel(
        name=model.name,
        versions=[model.version],
        platform=f"inference_app-{model.backend.name}",
        inputs=[TensorDescription(name="features", datatype="FP64", shape=[-1, model.width])],
        outputs=outputs(model),
    )


def check_name(model: Model, name: str, version: str | None = None) -> None:
    """RequestError 404 unless it is the model that is served."""
    if name != model.name or version not in (None, model.version):
        asked = name if version is None else f"{name} {version}"
        raise RequestError(404, "model", [], f"no model {asked}, {model.name} {model.version} is served")


def _rows(tensor: InferInput) -> parse.Table:
    rows, width = tensor.shape
    flat: list[Any] = tensor.data
    if isinstance(flat[0], list):
        if any(len(row) != width for row in flat):
            raise _wrong("data", f"a nested row doesn't have the {width} numbers of the shape")
        flat = [number for row in flat for number in row]
    if len(flat) != rows * width:
        raise _wrong("data", f"{len(flat)} numbers, the shape {tensor.shape} takes {rows * width}")
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def _wrong(field: str, msg: str) -> RequestError:
    return RequestError(422, "tensor", ["body", "inputs", 0, field], msg)
