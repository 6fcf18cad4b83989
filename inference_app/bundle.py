# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A model bundle: a directory whose every byte hangs on one sha256, the model's.

C(metadata.json) lists the model's files with their sha256, and the sha256 of the golden pairs; its own sha256 is the
model's name to the world (C(X-Model-Sha256), C(MODEL_SHA256)). C(golden.json) holds that sha256 and the pairs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from .errors import ModelError

FORMAT = 1
METADATA, GOLDEN, CARD = "metadata.json", "golden.json", "README.md"
SKOPS, ONNX = "model.skops", "model.onnx"
TOLERANCE = 1e-5


def sha256(data: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    """The one way in which a bundle's JSON is written."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def versions() -> dict[str, str]:
    """What a bundle is made with, without the cost of importing it."""
    return {
        package: importlib.metadata.version(package)
        for package in ("numpy", "onnx", "scikit-learn", "skl2onnx", "skops")
    }


def write(directory: Path, metadata: dict[str, Any], files: dict[str, bytes], pairs: list[dict[str, Any]]) -> str:
    """Write the bundle and return its sha256; metadata.json comes last, so that a torn bundle has none."""
    manifest = {
        **metadata,
        "files": {name: {"sha256": sha256(data), "size": len(data)} for name, data in files.items()},
        "golden_sha256": sha256(canonical(pairs)),
    }
    text = canonical(manifest)
    digest = sha256(text)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / METADATA).unlink(missing_ok=True)
    for name, data in {**files, GOLDEN: golden_text(manifest, digest, pairs), METADATA: text}.items():
        (directory / name).write_bytes(data)
    return digest


def pickle_refusal(source: str, digest: str) -> str:
    """Why a pickle isn't served, and the command that makes a bundle of it."""
    return (
        "a pickle is never served: loading one runs whatever code is in it; if you trust its origin, convert it: "
        f"python -m inference_app.export {source} --allow-pickle --sha256 {digest} "
        "--data TRAINING.csv --output DIR --name NAME --version VERSION"
    )


def golden_text(metadata: dict[str, Any], digest: str, pairs: Any) -> bytes:
    """What golden.json must hold, to the byte."""
    model = {"name": metadata["name"], "version": metadata["version"], "sha256": digest}
    return canonical({"model": model, "pairs": pairs})


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every file was read and agrees with its metadata."""

    path: Path
    sha256: str
    metadata: dict[str, Any]
    pairs: list[dict[str, Any]]
    files: dict[str, bytes]


def read(directory: Path, expected_sha256: str = "") -> Bundle:
    """Read and check a bundle; ModelError names both sides of what differs."""
    for pickle in (*directory.glob("*.pkl"), *directory.glob("*.joblib")):
        raise ModelError(f"{pickle}: {pickle_refusal(pickle.name, sha256(_read(pickle)))}")
    text = _read(directory / METADATA)
    digest = sha256(text)
    if expected_sha256 and digest != expected_sha256:
        raise ModelError(f"{directory}: the model's sha256 is {digest}, MODEL_SHA256 expects {expected_sha256}")
    try:
        metadata = orjson.loads(text)
        entries = {str(name): str(entry["sha256"]) for name, entry in metadata["files"].items()}
        name, version, golden_sha256 = metadata["name"], metadata["version"], metadata["golden_sha256"]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{directory / METADATA}: not a bundle's metadata ({error!r}); export the model again"
        ) from None
    files = {}
    for file, expected in entries.items():
        if Path(file).name != file:
            raise ModelError(f"{directory / METADATA}: {file!r} is not a plain file name")
        data = _read(directory / file)
        if sha256(data) != expected:
            raise ModelError(f"{directory / file}: sha256 is {sha256(data)}, {METADATA} expects {expected}")
        files[file] = data
    golden = _read(directory / GOLDEN)
    try:
        document = orjson.loads(golden)
        pairs, said = document["pairs"], document["model"]["sha256"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"{directory / GOLDEN}: not golden predictions ({error!r}); export the model again") from None
    if said != digest:
        raise ModelError(f"{directory / GOLDEN}: made for the model {said}, the model's sha256 is {digest}")
    if (found := sha256(canonical(pairs))) != golden_sha256:
        raise ModelError(f"{directory / GOLDEN}: sha256 of the pairs is {found}, {METADATA} expects {golden_sha256}")
    if golden != golden_text({"name": name, "version": version}, digest, pairs) or not pairs:
        raise ModelError(f"{directory / GOLDEN}: not as it was exported for {name} {version}; export the model again")
    return Bundle(directory, digest, metadata, pairs, files)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: {error.strerror or error}; make a bundle with python -m inference_app.train"
        ) from None
