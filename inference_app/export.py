# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Turn a fitted estimator into a model bundle."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import skops.io

from . import bundle
from .backend_sklearn import load_skops


def export(
    estimator: Any,
    directory: Path,
    *,
    name: str,
    version: str,
    rows: Any,
    golden: list[list[list[float]]],
    feature_names: list[str],
    class_names: list[str] | None = None,
) -> str:
    """Write the bundle, the same bytes for the same estimator, and return its sha256.

    C(rows) is the training data, (rows, features); C(golden) are requests' features.
    """
    files = {bundle.SKOPS: reproducible(skops.io.dumps(estimator))}
    load_skops(files[bundle.SKOPS], bundle.SKOPS)  # what the server would refuse is refused here
    rows = np.asarray(rows, dtype=np.float64)
    metadata: dict[str, Any] = {
        "format": 1,
        "name": name,
        "version": version,
        "features": [
            {"name": feature, "min": low, "max": high}
            for feature, low, high in zip(
                feature_names, rows.min(axis=0).tolist(), rows.max(axis=0).tolist(), strict=True
            )
        ],
        "versions": bundle.versions(),
    }
    classifier = hasattr(estimator, "classes_")
    if classifier:
        labels = estimator.classes_.tolist()
        metadata["class_names"] = class_names or [str(label) for label in labels]
        metadata["classes"] = labels if all(isinstance(label, int) for label in labels) else list(range(len(labels)))
    pairs = [
        {"request": {"features": features}, "response": _answer(estimator, metadata, features)} for features in golden
    ]
    return bundle.write(directory, metadata, files, pairs)


def _answer(estimator: Any, metadata: dict[str, Any], features: list[list[float]]) -> dict[str, Any]:
    """What the server must say, by scikit-learn itself."""
    matrix = np.array(features, dtype=np.float64)
    if "classes" not in metadata:
        return {"predictions": estimator.predict(matrix).tolist()}
    probabilities = estimator.predict_proba(matrix)
    best = probabilities.argmax(axis=1).tolist()
    return {
        "predictions": [metadata["classes"][i] for i in best],
        "class_names": [metadata["class_names"][i] for i in best],
        "probabilities": probabilities.tolist(),
    }


def reproducible(data: bytes) -> bytes:
    """A skops file without what differs from run to run: memory addresses as ids and names, and the time of writing."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = {info.filename: source.read(info) for info in source.infolist()}
    schema = members.pop("schema.json").decode()
    number: dict[str, str] = {}
    schema = re.sub(
        r'("__id__": |"file": ")(\d+)', lambda m: m[1] + number.setdefault(m[2], str(len(number) + 1)), schema
    )
    renamed = {re.sub(r"^\d+", lambda m: number[m[0]], member): content for member, content in members.items()}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as out:
        for member, content in [*sorted(renamed.items()), ("schema.json", schema.encode())]:
            out.writestr(zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0)), content)
    return target.getvalue()
