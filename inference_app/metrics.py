# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from .model import Model

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """One registry an application, so that two in one process don't mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.in_flight = 0
        self._requests = Counter(
            "inference_requests", "Requests answered.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "inference_request_duration_seconds",
            "From the request's headers to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._rows = Counter("inference_rows", "Rows predicted.", registry=self._registry)
        self._batches = Histogram(
            "inference_batch_rows", "Rows in one call of the model.", buckets=_ROWS, registry=self._registry
        )
        self._ready = Gauge("inference_ready", "1 while /ready answers 200.", registry=self._registry)
        self._model = Gauge(
            "inference_model_info",
            "The model that is served.",
            ["name", "version", "sha256", "backend"],
            registry=self._registry,
        )
        Gauge(
            "inference_requests_in_flight", "Requests that wait for their answer.", registry=self._registry
        ).set_function(lambda: self.in_flight)
        self._counted: dict[tuple[str, int], Callable[[], None]] = {}
        self._timed: dict[str, Callable[[float], None]] = {}

    def batch(self, rows: int) -> None:
        """The model is called for so many rows."""
        self._batches.observe(rows)
        self._rows.inc(rows)

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered. The path is a route's, so that clients can't make up label values."""
        try:
            self._counted[path, status]()
            self._timed[path](seconds)
        except KeyError:
            self._counted[path, status] = self._requests.labels(path, str(status)).inc
            self._timed[path] = self._seconds.labels(path).observe
            self.request(path, status, seconds)

    def model(self, model: Model) -> None:
        """This model is served from now on."""
        self._model.labels(model.name, model.version, model.sha256, model.backend.name).set(1)

    def text(self, ready: bool) -> bytes:
        """The exposition."""
        self._ready.set(ready)
        return generate_latest(self._registry)
