# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether requests may come in, and the queue that they wait in."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from time import perf_counter
from typing import Any

import numpy as np

from .errors import ModelError, NoAnswer, RequestError
from .logs import log
from .metrics import Metrics
from .model import Model, load
from .parse import Table, check_numbers
from .schemas import FLOAT32_MAX
from .settings import Settings

INLINE_SECONDS = 0.002  # a prediction shorter than this costs less on the event loop than a thread's hand-over
MAX_BATCH_ROWS = 1024

Body = dict[str, Any]


class Batcher:
    """Adaptive batching without a timer: what waits while one prediction runs goes into the next.

    Requests that arrive in the same turn of the event loop share a prediction; so do those that wait for a long one,
    which runs in a thread. Nothing waits for company.
    """

    def __init__(self, model: Model, max_queue: int, metrics: Metrics) -> None:
        self._model = model
        self._max_queue = max_queue
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._waiting: list[tuple[Table, asyncio.Future[Body]]] = []
        self._busy = False
        started = perf_counter()
        rows = 0
        for pair in model.pairs:
            table = pair["request"]["features"]
            self._predict([table])
            rows += len(table)
        self._row_seconds = (perf_counter() - started) / rows

    def submit(self, table: Table) -> asyncio.Future[Body]:
        """The answer to come for rows of the right length; RequestError 503 when too many wait already."""
        if len(self._waiting) >= self._max_queue:
            msg = f"{self._max_queue} requests wait already (MAX_QUEUE)"
            raise RequestError(503, "too_busy", [], msg, retry_after=1)
        answer = self._loop.create_future()
        self._waiting.append((table, answer))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._next)
        return answer

    def _next(self) -> None:
        count, rows = 0, 0
        for table, _ in self._waiting:
            if count and rows + len(table) > MAX_BATCH_ROWS:
                break
            count, rows = count + 1, rows + len(table)
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        tables = [table for table, _ in batch]
        self._metrics.batch(rows)
        started = perf_counter()

        def done(results: list[Body | Exception]) -> None:
            self._row_seconds += 0.2 * ((perf_counter() - started) / rows - self._row_seconds)
            for (_, answer), result in zip(batch, results, strict=True):
                if answer.done():  # its request is gone
                    continue
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)
            if self._waiting:
                self._loop.call_soon(self._next)
            else:
                self._busy = False

        if self._row_seconds * rows < INLINE_SECONDS:
            done(self._predict(tables))
        else:
            work = self._loop.run_in_executor(self._thread, self._predict, tables)
            work.add_done_callback(lambda finished: done(finished.result()))

    def _predict(self, tables: list[Table]) -> list[Body | Exception]:
        """One answer or error a table; a table that fails doesn't fail its neighbours. Never raises."""
        try:
            counts = [len(table) for table in tables]
            numbers = chain.from_iterable(chain.from_iterable(tables))
            width = self._model.width
            matrix = np.fromiter(numbers, np.float64, sum(counts) * width).reshape(-1, width)
            if not np.abs(matrix).max() <= FLOAT32_MAX:
                raise NoAnswer
            return list(self._model.answers(matrix, counts))
        except Exception as error:
            if len(tables) > 1:
                return [result for table in tables for result in self._predict([table])]
            try:
                check_numbers(tables[0])
            except RequestError as refused:
                return [refused]
            if isinstance(error, NoAnswer | ValueError):
                msg = "the model has no finite answer for these numbers"
                return [RequestError(422, "no_answer", ["body", "features"], msg)]
            return [error]

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False)


class Gate:
    """The model, or why there is none; whether we are leaving; what every answer carries."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.model: Model | None = None
        self.batcher: Batcher | None = None
        self.reason: str | None = "the model is being loaded"
        self.draining = False
        self.headers: list[tuple[bytes, bytes]] = []
        self._name_answers()

    async def load(self) -> None:
        """Load the model beside the event loop; a failure becomes the reason, and the process lives to tell it."""
        try:
            model = await asyncio.to_thread(load, self.settings)
            self.batcher = Batcher(model, self.settings.max_queue, self.metrics)
        except ModelError as error:
            self.reason = " ".join(str(error).split())
        except Exception as error:
            self.reason = f"{self.settings.model_path}: cannot be loaded: {' '.join(repr(error).split())}"
        else:
            self.model, self.reason = model, None
            gc.collect()
            gc.freeze()  # what is loaded stays: no collection need look at it again
            self.metrics.model(model)
            fields = {"sha256": model.sha256, "backend": model.backend.name}
            log.info("serving %s %s", model.name, model.version, extra={"fields": fields})
        if self.reason:
            log.error("not ready: %s", self.reason)
        self._name_answers()

    def drain(self) -> None:
        """Not ready from now on; connections close after their next answer."""
        self.draining = True
        self._name_answers()

    @property
    def not_ready(self) -> str | None:
        """Why no traffic should come, or None."""
        return "the server is stopping" if self.draining else self.reason

    def require(self) -> tuple[Model, Batcher]:
        """What predicts; RequestError 503 while there is nothing."""
        if self.model is None or self.batcher is None:
            raise RequestError(503, "not_ready", [], self.reason or "not ready", retry_after=1)
        return self.model, self.batcher

    def _name_answers(self) -> None:
        sha256 = self.model.sha256 if self.model else "none"
        self.headers = [(b"x-model-sha256", sha256.encode()), (b"x-pod-name", self.settings.pod_name.encode())]
        if self.draining:
            self.headers.append((b"connection", b"close"))
