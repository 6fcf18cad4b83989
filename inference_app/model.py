# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A served model: numbers in, predictions out, whichever library computes them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import bundle
from .errors import ModelError, NoAnswer
from .settings import Settings

Matrix = NDArray[np.float64]


class Backend(Protocol):
    """Rows in; for a classifier scores (rows, classes), the highest of which wins; for a regressor values (rows,)."""

    name: str

    def __call__(self, rows: Matrix) -> NDArray[Any]: ...


class Model:
    """A bundle and the backend that serves it."""

    def __init__(self, source: bundle.Bundle, backend: Backend) -> None:
        meta = source.metadata
        self.sha256 = source.sha256
        self.name: str = meta["name"]
        self.version: str = meta["version"]
        self.estimator: str = meta["estimator"]
        self.features: list[dict[str, Any]] = meta["features"]
        self.width = len(self.features)
        self.classes: list[int] | None = meta.get("classes")
        self.class_names: list[str] = meta.get("class_names", [])
        self.probabilities: bool = meta.get("probabilities", False)
        self._labels = np.array(self.classes or [], dtype=np.int64)
        self._names = np.array(self.class_names, dtype=object)
        self.backend = backend
        self.pairs = source.pairs

    def answers(self, rows: Matrix, counts: list[int]) -> list[dict[str, Any]]:
        """The bodies that answer requests of so many rows each, predicted at once; the numbers in them are arrays.

        NoAnswer if any of them isn't finite.
        """
        out = self.backend(rows)
        if not np.isfinite(out).all():
            raise NoAnswer
        bodies: list[dict[str, Any]] = []
        if self.classes is None:
            predictions, names = out.ravel(), []
        else:
            best = out.argmax(axis=1)
            predictions, names = self._labels[best], self._names[best].tolist()
        start = 0
        for count in counts:
            end = start + count
            body: dict[str, Any] = {"predictions": predictions[start:end]}
            if names:
                body["class_names"] = names[start:end]
            if self.probabilities:
                body["probabilities"] = out[start:end]
            body["model_version"] = self.version
            bodies.append(body)
            start = end
        return bodies

    def warm_up(self) -> None:
        """Answer every golden request; ModelError at the first answer that differs."""
        for number, pair in enumerate(self.pairs):
            table = np.array(pair["request"]["features"], dtype=np.float64)
            answer = self.answers(table, [len(table)])[0]
            for key, expected in pair["response"].items():
                found = answer.get(key)
                found = found.tolist() if isinstance(found, np.ndarray) else found
                if not close(found, expected, bundle.TOLERANCE):
                    raise ModelError(
                        f"golden prediction {number}: {key} is {found}, {bundle.GOLDEN} expects {expected}"
                    )


def close(found: Any, expected: Any, tolerance: float) -> bool:
    """Equal, numbers within the tolerance, which grows with values above 1."""
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(close(f, e, tolerance) for f, e in zip(found, expected, strict=True))
        )
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return abs(found - expected) <= tolerance * max(1.0, abs(expected))
    return bool(found == expected)


def load(settings: Settings) -> Model:
    """A model that is ready to serve: checked, loaded, its golden predictions matched. Raises ModelError."""
    source = bundle.read(settings.model_path, settings.model_sha256)
    has_onnx = bundle.ONNX in source.files
    backend: Backend
    if settings.model_backend == "onnx" and not has_onnx:
        why = source.metadata.get("onnx", {}).get("why", "it was exported without")
        raise ModelError(f"{source.path}: MODEL_BACKEND is onnx, the bundle has no {bundle.ONNX}: {why}")
    # imported here: the ONNX road must not pay for scikit-learn and SciPy, in time or memory
    if has_onnx and settings.model_backend != "sklearn":
        from .backend_onnx import OnnxBackend

        backend = OnnxBackend(source.files[bundle.ONNX], str(source.path / bundle.ONNX), settings.workers)
    else:
        from .backend_sklearn import SklearnBackend

        backend = SklearnBackend(source)
    model = Model(source, backend)
    model.warm_up()
    return model
