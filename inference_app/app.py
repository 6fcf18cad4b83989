# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The application: routes, and what every answer carries."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from itertools import count
from time import perf_counter
from typing import Any

from fastapi import FastAPI

from . import parse
from .errors import RequestError
from .gate import Gate
from .logs import log, trace_fields
from .metrics import Metrics
from .protocols import Infer, Predict, Protocol
from .routes import add_routes
from .settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


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
        self.finished(scope, headers, status, started, answer_headers, protocol.path, error)
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
                self.finished(scope, dict(scope["headers"]), message["status"], started, headers, path, None)
                message["headers"] = headers
            await send(message)

        await super().__call__(scope, receive, named)

    def finished(
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

    def openapi(self) -> dict[str, Any]:
        """The document; once there is a model, with its number of features and a request that it answers."""
        document = super().openapi()
        if model := self.gate.model:
            shapes = document["components"]["schemas"]
            features = shapes["PredictRequest"]["properties"]["features"]
            features["maxItems"] = self.gate.settings.max_rows
            features["items"] |= {"minItems": model.width, "maxItems": model.width}
            example = model.pairs[0]["request"]
            shapes["PredictRequest"]["examples"] = [example]
            rows = example["features"]
            tensor = {"name": "features", "shape": [len(rows), model.width], "datatype": "FP64", "data": rows}
            shapes["InferRequest"]["examples"] = [{"inputs": [tensor]}]
        return document

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
    add_routes(app, app.gate)
    return app
