# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The process around the app: the socket, the time-outs, the signals, the way out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from functools import partial
from time import perf_counter
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from . import logs, parse
from .app import App, create_app
from .errors import RequestError
from .gate import Gate
from .protocols import Predict
from .settings import Settings


class Connection(HttpToolsProtocol):
    """A client's connection: what it sends must be HTTP, and must come in time."""

    _awaited: tuple[str, object] | None = None
    _since = 0.0
    _held: tuple[RequestResponseCycle, Any] | None = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Hold a plain prediction request until its body is here; start everything else."""
        scope = cycle.scope
        if scope["path"] != Predict.path or scope["method"] != "POST" or cycle.waiting_for_100_continue:
            super()._start_asgi_task(cycle, app)
        elif not cycle.more_body:
            self._predict(cycle, app)
        # above this uvicorn stops reading until somebody asks for the body
        elif int(dict(scope["headers"]).get(b"content-length", HIGH_WATER_LIMIT)) < HIGH_WATER_LIMIT:
            self._held = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        if self._held:
            held, self._held = self._held, None
            self._predict(*held)

    def _predict(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Answer a good request with one write and no task; the ASGI road takes, and words, whatever isn't good.

        The task, the messages and the header checks of that road cost several times what a small model costs.
        """
        started = perf_counter()
        gate: Gate = self.config.app.gate  # type: ignore[union-attr]
        headers = dict(cycle.scope["headers"])
        try:
            if gate.draining or self.flow.write_paused:
                raise RequestError(503, "", [], "")
            parse.check_headers(headers, gate.settings.max_body_bytes)
            model, batcher = gate.require()
            table = parse.table(bytes(cycle.body), model.width, gate.settings.max_rows)
            answer = batcher.submit(table)
        except Exception:
            super()._start_asgi_task(cycle, app)
            return
        gate.metrics.in_flight += 1
        answer.add_done_callback(partial(self._answer, cycle, app, headers, started))

    def _answer(
        self,
        cycle: RequestResponseCycle,
        app: Any,
        headers: dict[bytes, bytes],
        started: float,
        answer: asyncio.Future[dict[str, Any]],
    ) -> None:
        served: App = self.config.app  # type: ignore[assignment]
        served.gate.metrics.in_flight -= 1
        if answer.exception() is not None:
            super()._start_asgi_task(cycle, app)
            return
        if cycle.disconnected:
            return
        content = orjson.dumps(answer.result(), option=orjson.OPT_SERIALIZE_NUMPY)
        answer_headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
            *served.gate.headers,
        ]
        scope: Any = cycle.scope
        served.finished(scope, headers, 200, started, answer_headers, Predict.path, None)
        if not cycle.keep_alive and not served.gate.draining:
            answer_headers.append((b"connection", b"close"))
        head = b"".join([b"%s: %s\r\n" % pair for pair in answer_headers])
        self.transport.write(b"HTTP/1.1 200 OK\r\n%s\r\n%s" % (head, content))
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive or served.gate.draining:
            self.transport.close()
        self.on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that aren't HTTP in the words and with the headers of every other answer."""
        self._refuse(b"400 Bad Request", "http_invalid", msg)

    def close_if_late(self, now: float, seconds: float) -> None:
        """Close if the same request's headers, or body, have been awaited for so long; call now and then."""
        awaited = self._what_is_awaited()
        if awaited is None or awaited != self._awaited:
            self._awaited, self._since = awaited, now
        elif now - self._since >= seconds and not self.transport.is_closing():
            part, _ = awaited
            if part == "body" and not self.cycle.response_started:
                self._refuse(
                    b"408 Request Timeout", "too_slow", f"the body took longer than {seconds} s (READ_SECONDS)"
                )
            self.transport.close()

    def _what_is_awaited(self) -> tuple[str, object] | None:
        if self.cycle is None:
            return "headers", None
        if not self.cycle.response_complete:
            return ("body", self.cycle) if self.cycle.more_body else None
        # between two requests the keep-alive timer runs, until the first byte of the next stops it
        return ("headers", self.cycle) if self.timeout_keep_alive_task is None else None

    def _refuse(self, status: bytes, kind: str, msg: str) -> None:
        body = orjson.dumps({"detail": [{"type": kind, "loc": [], "msg": msg}]})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *(pair for pair in self.config.app.gate.headers if pair[0] != b"connection"),  # type: ignore[union-attr]
            (b"connection", b"close"),
        ]
        head = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        self.transport.write(b"HTTP/1.1 %s\r\n%s\r\n%s" % (status, head, body))
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn that leaves signals to us: it would re-raise SIGTERM at the end, and a drained stop is exit 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """No handlers."""
        yield


def serve(settings: Settings) -> int:
    """Listen, serve, drain; the exit status."""
    logs.configure(settings.log_level)
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        logs.log.error("cannot listen on %s port %s: %s", settings.host, settings.port, error.strerror or error)
        return 1
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_run(Server(config), app, settings, listener))
    logs.log.info("stopped")
    return 0


async def _run(server: Server, app: App, settings: Settings, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if app.gate.draining:  # told twice: now
            server.should_exit = True
            return
        logs.log.info("told to stop: not ready any more, stopping in %g s", settings.drain_seconds)
        app.gate.drain()
        loop.call_later(settings.drain_seconds, setattr, server, "should_exit", True)

    def sweep() -> None:
        connections: set[Any] = server.server_state.connections
        for connection in list(connections):
            connection.close_if_late(loop.time(), settings.read_seconds)
        loop.call_later(1, sweep)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    sweep()
    await server.serve(sockets=[listener])
