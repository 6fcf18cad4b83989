# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Turn a fitted estimator into a model bundle: C(python -m inference_app.export SOURCE --data FILE --output DIR)."""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from . import bundle, convert, fetch, sources
from .backend_sklearn import load_skops
from .errors import ModelError
from .model import close

GOLDEN_ROWS = 10


def export(
    estimator: Any,
    directory: Path,
    *,
    name: str,
    version: str,
    rows: Any,
    feature_names: list[str],
    class_names: list[str] | None = None,
    golden: list[list[list[float]]] | None = None,
) -> str:
    """Write the bundle, the same bytes for the same estimator, and return its sha256.

    C(rows) is the training data, (rows, features): it gives the ranges, and ONNX is proven on it. C(golden) are the
    features of requests whose answers go along (default: rows evenly spread). Raises ModelError for an estimator that
    the server would refuse.
    """
    import skops.io

    rows = np.ascontiguousarray(rows, dtype=np.float64)
    if not hasattr(estimator, "predict"):
        raise ModelError(
            f"a {type(estimator).__name__} doesn't predict: an estimator or a pipeline that ends in one does"
        )
    if (takes := getattr(estimator, "n_features_in_", rows.shape[1])) != rows.shape[1]:
        raise ModelError(
            f"the estimator takes {takes} features, the data has {rows.shape[1]} columns of them (--target)"
        )
    if len(feature_names) != rows.shape[1]:
        raise ModelError(f"{len(feature_names)} feature names for {rows.shape[1]} columns of data")
    metadata: dict[str, Any] = {
        "format": bundle.FORMAT,
        "name": name,
        "version": version,
        "estimator": " ".join(repr(estimator).split()),
        "features": [
            {"name": feature, "min": low, "max": high}
            for feature, low, high in zip(feature_names, rows.min(0).tolist(), rows.max(0).tolist(), strict=True)
        ],
        "versions": bundle.versions(),
        **_classes(estimator, rows, class_names),
    }
    files = {bundle.SKOPS: reproducible(skops.io.dumps(estimator))}
    restored = load_skops(files[bundle.SKOPS], bundle.SKOPS)  # what the server would refuse is refused here
    if not close(restored.predict(rows).tolist(), estimator.predict(rows).tolist(), 0):
        raise ModelError("the skops file doesn't predict what the estimator predicts")
    try:
        if not metadata.get("probabilities", True):
            raise convert.NotEqual("scikit-learn's labels don't follow from probabilities")
        graph = convert.to_onnx(estimator, rows.shape[1])
        proof = convert.prove(estimator, graph, rows)
        files[bundle.ONNX] = graph
        metadata["onnx"] = {"served": True, **vars(proof)}
    except convert.NotEqual as error:
        metadata["onnx"] = {"served": False, "why": str(error)}
    files[bundle.CARD] = _card(metadata, len(rows)).encode()
    if golden is None:
        golden = [[row] for row in rows[:: max(1, len(rows) // GOLDEN_ROWS)][:GOLDEN_ROWS].tolist()]
    pairs = [{"request": {"features": table}, "response": _answer(estimator, metadata, table)} for table in golden]
    return bundle.write(directory, metadata, files, pairs)


def _classes(estimator: Any, rows: Any, class_names: list[str] | None) -> dict[str, Any]:
    """The metadata of a classifier; nothing for a regressor."""
    if not hasattr(estimator, "classes_"):
        if np.ndim(estimator.predict(rows[:2])) != 1:
            raise ModelError("the estimator predicts several values a row: only one is served")
        return {}
    labels = estimator.classes_.tolist()
    if class_names and len(class_names) != len(labels):
        raise ModelError(f"{len(class_names)} class names for {len(labels)} classes")
    probabilities = hasattr(estimator, "predict_proba") and bool(
        (estimator.classes_[estimator.predict_proba(rows).argmax(1)] == estimator.predict(rows)).all()
    )
    return {
        "classes": labels if all(type(label) is int for label in labels) else list(range(len(labels))),
        "class_names": class_names or [str(label) for label in labels],
        "probabilities": probabilities,
    }


def _answer(estimator: Any, metadata: dict[str, Any], table: list[list[float]]) -> dict[str, Any]:
    """What the server must say, by scikit-learn itself."""
    matrix = np.array(table, dtype=np.float64)
    predicted = estimator.predict(matrix)
    if "classes" not in metadata:
        return {"predictions": predicted.tolist()}
    place = np.searchsorted(estimator.classes_, predicted).tolist()
    answer = {
        "predictions": [metadata["classes"][i] for i in place],
        "class_names": [metadata["class_names"][i] for i in place],
    }
    if metadata["probabilities"]:
        answer["probabilities"] = estimator.predict_proba(matrix).tolist()
    return answer


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


def _card(metadata: dict[str, Any], count: int) -> str:
    """The model card: what a person wants to know before using the model."""
    onnx = metadata["onnx"]
    if onnx["served"]:
        trees = f" and on all {onnx['tree_nodes']} nodes of its trees" if onnx["tree_nodes"] else ""
        served = (
            f"ONNX, which agrees with scikit-learn on {onnx['points']} points (training data, decision boundaries, "
            f"thresholds, far outside){trees}; largest difference {onnx['largest_difference']:.1e}"
        )
    else:
        served = f"scikit-learn, because {onnx['why']}"
    lines = [
        f"# {metadata['name']} {metadata['version']}",
        "",
        f"- Estimator: `{metadata['estimator']}`",
        f"- Trained on: {count} rows of {len(metadata['features'])} features",
        f"- Answers: {', '.join(metadata['class_names']) if 'classes' in metadata else 'a number'}",
        f"- Served by: {served}",
        f"- Made with: {', '.join(f'{package} {version}' for package, version in metadata['versions'].items())}",
        "",
        "| feature | from | to |",
        "|---|---|---|",
        *(f"| {feature['name']} | {feature['min']:g} | {feature['max']:g} |" for feature in metadata["features"]),
        "",
        "Values outside these ranges are answered: the ranges only tell what the model has seen.",
    ]
    return "\n".join(lines) + "\n"


def read_source(uri: str, *, allow_pickle: bool, sha256: str) -> Any:
    """The estimator in a skops file, or in a pickle whose loading was allowed twice over. Raises ModelError.

    The URI is a file, or an MLflow model wherever it can be fetched from.
    """
    path = Path(uri)
    if path.is_file():
        data = path.read_bytes()
    else:
        place = sources.source(uri)
        name = fetch.pickled(place)
        if name is None:
            raise ModelError(f"{uri}: no such file, nor an MLflow model of scikit-learn")
        data = fetch.whole(place, name)
    found = bundle.sha256(data)
    if sha256 and found != sha256.lower():
        raise ModelError(f"{uri}: sha256 is {found}, --sha256 expects {sha256.lower()}")
    if zipfile.is_zipfile(io.BytesIO(data)):
        return load_skops(data, uri)
    if not (allow_pickle and sha256):
        raise ModelError(
            f"{uri}: is a pickle, and loading one runs whatever code is in it; if you trust where it is from, "
            f"add --allow-pickle --sha256 {found if not sha256 else sha256.lower()}"
        )
    print(f"warning: running the code in {uri} (sha256 {found}), as --allow-pickle says", file=sys.stderr)  # noqa: T201
    import joblib  # type: ignore[import-untyped]

    return joblib.load(io.BytesIO(data))


def read_data(file: Path, target: list[str]) -> tuple[list[str], Any]:
    """Feature names and rows of a CSV file with a header, the target columns left out. Raises ModelError."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            header, *records = csv.reader(lines)
        missing = [column for column in target if column not in header]
        if missing:
            raise ModelError(f"{file}: has no column {', '.join(missing)}; it has {', '.join(header)}")
        kept = [place for place, column in enumerate(header) if column not in target]
        rows = np.array([[float(record[place]) for place in kept] for record in records if record])
    except (OSError, ValueError, IndexError) as error:
        raise ModelError(f"{file}: not a CSV file of numbers with a header: {error}") from None
    if not rows.size or not np.isfinite(rows).all():
        raise ModelError(f"{file}: every row must hold finite numbers, and there must be one")
    return [header[place] for place in kept], rows


def main() -> int:
    """Exit status 1, with one line, when there is nothing that may be served."""
    parser = argparse.ArgumentParser(prog="python -m inference_app.export", description="make a model bundle")
    parser.add_argument("source", help="a skops file, a pickle, or an MLflow model (a directory or any URI of fetch)")
    parser.add_argument("--data", type=Path, required=True, help="the training data, a CSV file with a header")
    parser.add_argument("--target", action="append", default=[], help="a column that isn't a feature; may be repeated")
    parser.add_argument("--output", type=Path, required=True, help="the bundle's directory")
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--class-names", help="comma-separated, in the order of the estimator's classes")
    parser.add_argument("--allow-pickle", action="store_true", help="run the code in a pickle; needs --sha256")
    parser.add_argument("--sha256", default="", help="what the source file's sha256 must be")
    a = parser.parse_args()
    try:
        estimator = read_source(a.source, allow_pickle=a.allow_pickle, sha256=a.sha256)
        feature_names, rows = read_data(a.data, a.target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an estimator fitted with column names complains of arrays
            digest = export(
                estimator,
                a.output,
                name=a.name,
                version=a.version,
                rows=rows,
                feature_names=feature_names,
                class_names=a.class_names.split(",") if a.class_names else None,
            )
    except ModelError as error:
        print(f"export: {error}", file=sys.stderr)  # noqa: T201
        return 1
    onnx = bundle.read(a.output).metadata["onnx"]
    served = "ONNX" if onnx["served"] else f"scikit-learn ({onnx['why']})"
    print(f"{a.output}: made {a.name} {a.version}, served by {served}, sha256 {digest}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
