# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The routes that FastAPI answers, and the descriptions of those that it doesn't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from . import schemas
from .errors import RequestError
from .gate import Gate
from .metrics import CONTENT_TYPE_LATEST
from .protocols import Infer, Predict, check_name, describe

STATIC = Path(__file__).parent / "static"
Answers = dict[int | str, dict[str, Any]]


def add_routes(app: FastAPI, gate: Gate) -> None:
    """Give the application its paths."""
    _add_predict(app)
    _add_state(app, gate)
    _add_v2(app, gate)
    _add_pages(app)

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        body = Infer.refuse(error) if request.url.path.startswith("/v2") else Predict.refuse(error)
        headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
        return Response(body, error.status, headers, media_type="application/json")


def _answers(schema: type, *statuses: int) -> Answers:
    return {status: {"model": schema} for status in statuses}


def _add_predict(app: FastAPI) -> None:
    refusals = _answers(schemas.Refusal, 413, 415, 422, 503)

    @app.post(Predict.path, response_model=schemas.PredictResponse, responses=refusals, tags=["predict"])
    async def predict(_: schemas.PredictRequest) -> None:
        """Predict the class or the value of each row."""
        raise AssertionError("answered before routing")


def _add_state(app: FastAPI, gate: Gate) -> None:
    @app.get("/health", response_model=schemas.State, tags=["state"])
    async def health() -> Response:
        """The process lives."""
        return JSONResponse({"status": "ok"})

    @app.get("/ready", response_model=schemas.State, responses=_answers(schemas.State, 503), tags=["state"])
    async def ready() -> Response:
        """The model is loaded and proven, and the server isn't stopping."""
        if reason := gate.not_ready:
            return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", tags=["state"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """What Prometheus reads."""
        gate.metrics.ready = gate.not_ready is None
        return Response(gate.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get(
        "/model", response_model=schemas.ModelDescription, responses=_answers(schemas.Refusal, 503), tags=["state"]
    )
    async def model() -> Response:
        """The model that is served: its features with the ranges that it has seen, its classes."""
        served, _ = gate.require()
        description = {name: getattr(served, name) for name in ("name", "version", "sha256", "estimator", "features")}
        return JSONResponse({**description, "backend": served.backend.name, "class_names": served.class_names})


def _add_v2(app: FastAPI, gate: Gate) -> None:
    tags: list[Any] = ["Open Inference Protocol"]
    missing = _answers(schemas.InferError, 404, 503)
    refusals = _answers(schemas.InferError, 404, 413, 415, 422, 503)
    model, version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"

    @app.get("/v2", response_model=schemas.InferServer, tags=tags)
    async def server() -> dict[str, Any]:
        """The server."""
        return {"name": "inference_app", "version": app.version, "extensions": []}

    @app.get("/v2/health/live", response_model=schemas.Live, tags=tags)
    async def live() -> dict[str, bool]:
        """The process lives."""
        return {"live": True}

    @app.get("/v2/health/ready", response_model=schemas.Ready, responses=_answers(schemas.Ready, 503), tags=tags)
    async def ready() -> Response:
        """Predictions are answered."""
        is_ready = gate.not_ready is None
        return JSONResponse({"ready": is_ready}, status_code=200 if is_ready else 503)

    @app.get(model, response_model=schemas.InferModel, responses=missing, tags=tags)
    async def describe_model(name: str) -> Any:
        """The model's tensors."""
        return await describe_version(name, None)

    @app.get(version, response_model=schemas.InferModel, responses=missing, tags=tags)
    async def describe_version(name: str, version: str | None) -> Any:
        """The tensors of the model in this version."""
        served, _ = gate.require()
        check_name(served, name, version)
        return describe(served)

    @app.get(f"{model}/ready", response_model=schemas.Ready, responses=missing, tags=tags)
    async def ready_model(name: str) -> Any:
        """The model's predictions are answered."""
        return await ready_version(name, None)

    @app.get(f"{version}/ready", response_model=schemas.Ready, responses=missing, tags=tags)
    async def ready_version(name: str, version: str | None) -> Any:
        """The predictions of the model in this version are answered."""
        check_name(gate.require()[0], name, version)
        return await ready()

    @app.post(f"{model}/infer", response_model=schemas.InferResponse, responses=refusals, tags=tags)
    async def infer_model(_: schemas.InferRequest, name: str) -> None:  # noqa: ARG001
        """Predict: one tensor of rows in, the predictions out."""
        raise AssertionError("answered before routing")

    @app.post(f"{version}/infer", response_model=schemas.InferResponse, responses=refusals, tags=tags)
    async def infer_version(_: schemas.InferRequest, name: str, version: str) -> None:  # noqa: ARG001
        """Predict with the model in this version."""
        raise AssertionError("answered before routing")


def _add_pages(app: FastAPI) -> None:
    headers = {
        "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
    }

    @app.get("/", include_in_schema=False)
    async def try_it() -> Response:
        return FileResponse(STATIC / "index.html", headers=headers)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(STATIC / "docs.html", headers=headers)

    app.mount("/static", StaticFiles(directory=STATIC))
