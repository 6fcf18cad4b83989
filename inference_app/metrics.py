# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from .model import Model

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class _Histogram:
    """Counts by bucket and their sum. Only the event loop writes it: it needs no lock, most of the usual cost."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        names = [*(str(bound) for bound in self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class Metrics(Collector):
    """Counted cheaply by requests, put into words by the client library when it is asked."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.ready = False
        self._requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._seconds: defaultdict[str, _Histogram] = defaultdict(lambda: _Histogram(_SECONDS))
        self._batches = _Histogram(_ROWS)
        self._model: Model | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def batch(self, rows: int) -> None:
        """The model is called for so many rows."""
        self._batches.observe(rows)

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered. The path is a route's, so that clients can't make up label values."""
        self._requests[path, status] += 1
        self._seconds[path].observe(seconds)

    def model(self, model: Model) -> None:
        """This model is served from now on."""
        self._model = model

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The numbers of this moment."""
        requests = CounterMetricFamily("inference_requests", "Requests answered.", labels=["path", "status"])
        for (path, status), count in self._requests.items():
            requests.add_metric([path, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "inference_request_duration_seconds", "From a request's headers to its answer.", labels=["path"]
        )
        for path, histogram in self._seconds.items():
            seconds.add_metric([path], histogram.buckets(), histogram.sum)
        yield seconds
        batches = HistogramMetricFamily("inference_batch_rows", "Rows in one call of the model.")
        batches.add_metric([], self._batches.buckets(), self._batches.sum)
        yield batches
        yield CounterMetricFamily("inference_rows", "Rows predicted.", self._batches.sum)
        yield GaugeMetricFamily("inference_requests_in_flight", "Predictions being answered.", self.in_flight)
        yield GaugeMetricFamily("inference_ready", "1 while /ready answers 200.", float(self.ready))
        info = GaugeMetricFamily(
            "inference_model_info", "The model that is served.", labels=["name", "version", "sha256", "backend"]
        )
        if model := self._model:
            info.add_metric([model.name, model.version, model.sha256, model.backend.name], 1)
        yield info
