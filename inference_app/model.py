# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A served model: numbers in, predictions out, whichever library computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import bundle
from .errors import ModelError

Matrix = NDArray[np.float64]


class Backend(Protocol):
    """Rows in; for a classifier probabilities (rows, classes), for a regressor values (rows,)."""

    name: str

    def __call__(self, rows: Matrix) -> NDArray[Any]: ...


class Model:
    """A bundle and the backend that serves it."""

    def __init__(self, source: bundle.Bundle, backend: Backend) -> None:
        meta = source.metadata
        self.sha256 = source.sha256
        self.name: str = meta["name"]
        self.version: str = meta["version"]
        self.features: list[dict[str, Any]] = meta["features"]
        self.width = len(self.features)
        self.classes: list[int] | None = meta.get("classes")
        self.class_names: list[str] = meta.get("class_names", [])
        self.backend = backend
        self._pairs = source.pairs

    def predict(self, rows: Matrix) -> dict[str, Any]:
        """The answer's body for (rows, features) of finite numbers."""
        out = self.backend(rows)
        if self.classes is None:
            return {"predictions": out, "model_version": self.version}
        best = out.argmax(axis=1).tolist()
        return {
            "predictions": [self.classes[i] for i in best],
            "class_names": [self.class_names[i] for i in best],
            "probabilities": out,
            "model_version": self.version,
        }

    def warm_up(self) -> None:
        """Answer every golden request; ModelError at the first answer that differs."""
        for number, pair in enumerate(self._pairs):
            answer = self.predict(np.array(pair["request"]["features"], dtype=np.float64))
            for key, expected in pair["response"].items():
                found = answer.get(key)
                found = found.tolist() if isinstance(found, np.ndarray) else found
                if not close(found, expected, bundle.TOLERANCE):
                    raise ModelError(f"golden prediction {number}: {key} is {found}, golden.json expects {expected}")


def close(found: Any, expected: Any, tolerance: float) -> bool:
    """Equal, numbers within the tolerance."""
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(close(f, e, tolerance) for f, e in zip(found, expected, strict=True))
        )
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return abs(found - expected) <= tolerance
    return bool(found == expected)


def load(path: Path, expected_sha256: str = "") -> Model:
    """A model that is ready to serve: checked, loaded, its golden predictions matched. Raises ModelError."""
    source = bundle.read(path, expected_sha256)
    from .backend_sklearn import SklearnBackend

    model = Model(source, SklearnBackend(source))
    model.warm_up()
    return model
