# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The application: routes, and what every answer carries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI

from . import parse
from .errors import ModelError, RequestError
from .logs import log
from .model import Model, load
from .schemas import PredictRequest, PredictResponse, ProblemResponse, ReasonResponse
from .settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_DUMP = orjson.OPT_SERIALIZE_NUMPY


class Gate:
    """Whether requests may come in: the model, or why there is none, and whether we are leaving."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.model: Model | None = None
        self.reason: str | None = "the model is being loaded"
        self.draining = False

    async def load(self) -> None:
        """Load the model beside the event loop; a failure becomes the reason, and the process lives to tell it."""
        try:
            self.model = await asyncio.to_thread(load, self.settings.model_path, self.settings.model_sha256)
        except ModelError as error:
            self.reason = str(error)
        except Exception as error:
            self.reason = f"{self.settings.model_path}: cannot be loaded: {type(error).__name__}: {error}"
        else:
            self.reason = None
            log.info(
                "serving %s %s", self.model.name, self.model.version, extra={"fields": {"sha256": self.model.sha256}}
            )
            return
        log.error("not ready: %s", self.reason)

    @property
    def not_ready(self) -> str | None:
        """Why no traffic should come, or None."""
        return "the server is stopping" if self.draining else self.reason


class App(FastAPI):
    """A FastAPI application whose answers all name the model and the pod, and whose hot path passes FastAPI by."""

    gate: Gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        gate = self.gate

        async def named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                sha256 = gate.model.sha256 if gate.model else "none"
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-model-sha256", sha256.encode()),
                    (b"x-pod-name", gate.settings.pod_name.encode()),
                    *([(b"connection", b"close")] if gate.draining else ()),
                ]
            await send(message)

        if scope["path"] == "/predict" and scope["method"] == "POST":
            await predict(gate, scope, receive, named)
        else:
            await super().__call__(scope, receive, named)


async def predict(gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one prediction request, whatever its body."""
    headers = [(b"content-type", b"application/json")]
    try:
        parse.check_headers(scope["headers"], gate.settings.max_body_bytes)
        body = await parse.read_body(receive, gate.settings.max_body_bytes)
        model = gate.model
        if model is None:
            raise RequestError(503, "not_ready", [], gate.reason or "not ready", retry_after=1)
        rows = parse.rows(body, model.width, gate.settings.max_rows)
        answer = model.predict(rows)
        if not all(np.isfinite(answer[key]).all() for key in ("predictions", "probabilities") if key in answer):
            raise RequestError(422, "not_computable", ["body", "features"], "the model has no finite answer for these")
        status, content = 200, orjson.dumps(answer, option=_DUMP)
    except RequestError as error:
        status, content = error.status, orjson.dumps({"detail": error.detail}, default=str)
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
    except parse.Disconnected:
        return
    except Exception as error:
        log.exception("a prediction failed")
        status, content = 500, orjson.dumps({"detail": [{"type": "internal", "loc": [], "msg": type(error).__name__}]})
    headers.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def create_app(settings: Settings) -> App:
    """The application; the model is loaded when it starts."""
    gate = Gate(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(gate.load())
        yield
        loading.cancel()

    app = App(title="Inference", version="1", lifespan=lifespan)
    app.gate = gate

    @app.post(
        "/predict",
        response_model=PredictResponse,
        response_model_exclude_none=True,
        responses={status: {"model": ProblemResponse} for status in (413, 415, 422, 503)},
    )
    async def describe_predict(_: PredictRequest) -> None:
        """Predict the class or the value of each row."""
        raise AssertionError("App.__call__ answers this path")

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    from fastapi.responses import JSONResponse

    @app.get("/ready", responses={503: {"model": ReasonResponse}})
    async def ready() -> JSONResponse:
        """The model is loaded and proven, and the server isn't stopping."""
        if reason := gate.not_ready:
            return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ready"})

    return app
