# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The application: routes, and what every answer carries."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from . import parse, schemas
from .errors import RequestError
from .gate import Gate
from .logs import log, trace_fields
from .metrics import CONTENT_TYPE_LATEST, Metrics
from .protocols import Infer, Predict, Protocol, check_name, describe
from .settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

STATIC = Path(__file__).parent / "static"


class App(FastAPI):
    """A FastAPI application whose answers all name the model and the pod, and whose hot path passes FastAPI by.

    What a route costs in FastAPI is more than what a small model costs: predictions are answered by a plain ASGI
    callable, and the routes of the same paths only describe them.
    """

    gate: Gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["method"] == "POST" and (protocol := self._protocol(scope["path"])):
            await self._predict(protocol, scope, receive, send)
        else:
            await self._route(scope, receive, send)

    def _protocol(self, path: str) -> Protocol | None:
        if path == Predict.path:
            return Predict
        return Infer if path.startswith("/v2/") and Infer.pattern.fullmatch(path) else None

    async def _predict(self, protocol: Protocol, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one prediction request, whatever its body."""
        started = perf_counter()
        gate = self.gate
        settings = gate.settings
        headers = dict(scope["headers"])
        answer_headers = [(b"content-type", b"application/json")]
        error: Exception | None = None
        gate.metrics.in_flight += 1
        try:
            parse.check_headers(headers, settings.max_body_bytes)
            body = await parse.read_body(receive, settings.max_body_bytes)
            model, batcher = gate.require()
            asked = protocol.decode(body, model, settings.max_rows, scope["path"])
            content = protocol.encode(await batcher.submit(asked.table), asked, model)
            status = 200
        except RequestError as refused:
            status, content, error = refused.status, protocol.refuse(refused), refused
            if refused.retry_after is not None:
                answer_headers.append((b"retry-after", b"%d" % refused.retry_after))
        except parse.Disconnected:
            return
        except Exception as failed:
            internal = RequestError(500, "internal", [], "the server failed; its log says why")
            status, content, error = 500, protocol.refuse(internal), failed
        finally:
            gate.metrics.in_flight -= 1
        answer_headers.append((b"content-length", b"%d" % len(content)))
        answer_headers += gate.headers
        self._closed(scope, headers, status, started, answer_headers, protocol.path, error)
        await send({"type": "http.response.start", "status": status, "headers": answer_headers})
        await send({"type": "http.response.body", "body": content})

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let FastAPI answer, and add what every answer carries."""
        started = perf_counter()

        async def named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *self.gate.headers]
                route = scope.get("route")
                path = getattr(route, "path", "other")
                self._closed(scope, dict(scope["headers"]), message["status"], started, headers, path, None)
                message["headers"] = headers
            await send(message)

        await super().__call__(scope, receive, named)

    def _closed(
        self,
        scope: Scope,
        headers: dict[bytes, bytes],
        status: int,
        started: float,
        answer_headers: list[tuple[bytes, bytes]],
        path: str,
        error: Exception | None,
    ) -> None:
        """Count an answered request, echo its id, and log it: failures always, the rest at debug."""
        seconds = perf_counter() - started
        self.gate.metrics.request(path, status, seconds)
        request_id = headers.get(b"x-request-id")
        if status < 400 and not self._debug:
            if request_id is not None:
                answer_headers.append((b"x-request-id", request_id))
            return
        if request_id is None:
            request_id = b"%s-%d" % (self._id_prefix, next(self._id_count))
        answer_headers.append((b"x-request-id", request_id))
        fields = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "milliseconds": round(seconds * 1000, 3),
            "request_id": request_id.decode("latin-1"),
            **trace_fields(headers.get(b"traceparent", b"")),
        }
        if status >= 500 and error is not None and not isinstance(error, RequestError):
            log.error("a request failed", exc_info=error, extra={"fields": fields})
        elif error is not None:
            log.info("a request was refused: %s", error, extra={"fields": fields})
        else:
            log.debug("a request was answered", extra={"fields": fields})

    def prepare(self, settings: Settings) -> None:
        """State that requests share."""
        self.gate = Gate(settings, Metrics())
        self._debug = settings.log_level == "DEBUG"
        self._id_prefix = secrets.token_hex(4).encode()
        self._id_count = count(1)


def create_app(settings: Settings) -> App:
    """The application; the model is loaded when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert isinstance(app, App)
        loading = asyncio.create_task(app.gate.load())
        yield
        loading.cancel()
        if app.gate.batcher:
            app.gate.batcher.close()

    app = App(
        title="Inference",
        version="1",
        description="Predictions of one model, over a plain shape or the Open Inference Protocol.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load their scripts from the internet
        redoc_url=None,
    )
    app.prepare(settings)
    _add_routes(app)
    return app


def _add_routes(app: App) -> None:
    gate = app.gate
    refusals: dict[int | str, dict[str, Any]] = {code: {"model": schemas.Refusal} for code in (413, 415, 422, 503)}
    v2_refusals: dict[int | str, dict[str, Any]] = {
        code: {"model": schemas.InferError} for code in (404, 413, 415, 422, 503)
    }
    not_ready: dict[int | str, dict[str, Any]] = {503: {"model": schemas.State}}

    @app.post(Predict.path, response_model=schemas.PredictResponse, responses=refusals, tags=["predict"])
    async def predict(_: schemas.PredictRequest) -> None:
        """Predict the class or the value of each row."""
        raise AssertionError("answered before routing")

    @app.get("/health", response_model=schemas.State, response_model_exclude_none=True, tags=["state"])
    async def health() -> Response:
        """The process lives."""
        return JSONResponse({"status": "ok"})

    @app.get(
        "/ready",
        response_model=schemas.State,
        response_model_exclude_none=True,
        responses=not_ready,
        tags=["state"],
    )
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

    @app.get("/model", response_model=schemas.ModelDescription, responses={503: refusals[503]}, tags=["state"])
    async def model() -> Response:
        """The model that is served: its features with the ranges that it has seen, its classes."""
        served, _ = gate.require()
        description = {name: getattr(served, name) for name in ("name", "version", "sha256", "estimator", "features")}
        return JSONResponse({**description, "backend": served.backend.name, "class_names": served.class_names})

    @app.get("/v2", response_model=schemas.InferServer, tags=["Open Inference Protocol"])
    async def v2_server() -> dict[str, Any]:
        """The server."""
        return {"name": "inference_app", "version": app.version, "extensions": []}

    @app.get("/v2/health/live", response_model=schemas.Live, tags=["Open Inference Protocol"])
    async def v2_live() -> dict[str, bool]:
        """The process lives."""
        return {"live": True}

    @app.get(
        "/v2/health/ready",
        response_model=schemas.Ready,
        responses={503: {"model": schemas.Ready}},
        tags=["Open Inference Protocol"],
    )
    async def v2_ready() -> Response:
        """Predictions are answered."""
        is_ready = gate.not_ready is None
        return JSONResponse({"ready": is_ready}, status_code=200 if is_ready else 503)

    for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):

        @app.get(
            prefix,
            response_model=schemas.InferModel,
            responses={code: v2_refusals[code] for code in (404, 503)},
            tags=["Open Inference Protocol"],
        )
        async def v2_model(name: str, version: str | None = None) -> Any:
            """The model's tensors."""
            served, _ = gate.require()
            check_name(served, name, version)
            return describe(served)

        @app.get(
            f"{prefix}/ready",
            response_model=schemas.Ready,
            responses={code: v2_refusals[code] for code in (404, 503)},
            tags=["Open Inference Protocol"],
        )
        async def v2_model_ready(name: str, version: str | None = None) -> Any:
            """The model's predictions are answered."""
            check_name(gate.require()[0], name, version)
            return await v2_ready()

        @app.post(
            f"{prefix}/infer",
            response_model=schemas.InferResponse,
            responses=v2_refusals,
            tags=["Open Inference Protocol"],
        )
        async def v2_infer(_: schemas.InferRequest, name: str, version: str = "") -> None:  # noqa: ARG001
            """Predict: one tensor of rows in, the predictions out."""
            raise AssertionError("answered before routing")

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        body = Infer.refuse(error) if request.url.path.startswith("/v2") else Predict.refuse(error)
        headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
        return Response(body, error.status, headers, media_type="application/json")

    for path, file in (("/", "index.html"), ("/docs", "docs.html")):

        @app.get(path, include_in_schema=False)
        async def page(file: str = file) -> Response:
            return Response(
                (STATIC / file).read_bytes(),
                media_type="text/html; charset=utf-8",
                headers={
                    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
                    "x-content-type-options": "nosniff",
                },
            )

    app.mount("/static", StaticFiles(directory=STATIC))
