# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The process around the app: the socket, the signals, the way out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import uvicorn

from . import logs
from .app import create_app
from .settings import Settings


class Server(uvicorn.Server):
    """uvicorn that leaves signals to us: it would re-raise SIGTERM at the end, and a drained stop is exit 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """No handlers."""
        yield


def serve(settings: Settings) -> int:
    """Listen, serve, drain; the exit status."""
    logs.configure(settings.log_level)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
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
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        lifespan="on",
    )
    server = Server(config)

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if app.gate.draining:
                server.should_exit = True  # asked twice: now
                return
            logs.log.info("SIGTERM: not ready any more, stopping in %g s", settings.drain_seconds)
            app.gate.drain()
            loop.call_later(settings.drain_seconds, setattr, server, "should_exit", True)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())
    logs.log.info("stopped")
    return 0
