# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a model bundle into a directory, whole and checked or not at all: C(python -m inference_app.fetch [URI DIR]).

It is meant for an init container, so that the server itself needs neither credentials nor a way out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson

from . import bundle
from .errors import ModelError
from .sources import Interrupted, NotFound, Source, retried, shown, source

MAX_BYTES = 1 << 30
_CHUNK = 1 << 20
_SMALL = 1 << 22  # metadata and golden predictions


def fetch(
    uri: str,
    directory: Path,
    place: Source,
    *,
    sha256: str = "",
    max_bytes: int = MAX_BYTES,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Publish the bundle at uri as directory; a line that says what was done. Raises ModelError.

    What an interrupted run left is continued, not begun anew. The directory appears, or is replaced, by a rename.
    """
    part = directory.parent / f".{directory.name}.part"
    try:
        part.mkdir(parents=True, exist_ok=True)
        text = whole(place, bundle.METADATA, sleep, _SMALL)
    except NotFound:
        raise _not_a_bundle(uri, place, sleep) from None
    except OSError as error:
        raise ModelError(f"{part}: {error.strerror}; the model's directory must be inside a writable volume") from None
    digest = bundle.sha256(text)
    if sha256 and digest != sha256:
        raise ModelError(f"{shown(uri)}: the model's sha256 is {digest}, MODEL_SHA256 expects {sha256}")
    try:
        metadata = orjson.loads(text)
        title = f"{metadata['name']} {metadata['version']}, sha256 {digest}"
        files = {str(name): (int(entry["size"]), str(entry["sha256"])) for name, entry in metadata["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{shown(uri)}: {bundle.METADATA} is not a bundle's ({error!r}); export the model") from None
    if _is_current(directory, digest):
        return f"{directory} is current: {title}"
    size = sum(size for size, _ in files.values())
    if size > max_bytes:
        raise ModelError(f"{shown(uri)}: the model has {size} bytes, at most {max_bytes} are fetched (MODEL_MAX_BYTES)")
    for stray in part.iterdir():
        if stray.name not in files:
            stray.unlink()
    for name, (length, expected) in files.items():
        if Path(name).name != name:
            raise ModelError(f"{shown(uri)}: {name!r} is not a plain file name")
        retried(partial(_file, place, name, part / name, length, expected), sleep)
    (part / bundle.GOLDEN).write_bytes(whole(place, bundle.GOLDEN, sleep, _SMALL))
    (part / bundle.METADATA).write_bytes(text)
    try:
        bundle.read(part, digest)
        _publish(part, directory)
    except ModelError:
        shutil.rmtree(part)
        raise
    return f"fetched {title}, from {shown(uri)} to {directory}"


def _file(place: Source, name: str, target: Path, size: int, sha256: str) -> None:
    """Fetch one file, from where an earlier try broke off."""
    have = target.stat().st_size if target.exists() else 0
    if have < size or size == 0:
        with place.open(name, have) as stream, target.open("r+b" if have else "wb") as out:
            out.truncate(stream.offset)
            out.seek(stream.offset)
            left = size - stream.offset
            while left and (chunk := stream.content.read(min(_CHUNK, left))):
                out.write(chunk)
                left -= len(chunk)
            if left:
                raise Interrupted(f"{name}: {left} of {size} bytes are missing")
            if stream.content.read(1):
                out.truncate(0)
                raise ModelError(f"{name}: is longer than the {size} bytes in {bundle.METADATA}")
    found = bundle.sha256(target.read_bytes())
    if found != sha256:
        target.unlink()  # nothing of it can be continued
        if have:
            raise Interrupted(f"{name}: what was left of an earlier try doesn't fit")
        raise ModelError(f"{name}: sha256 is {found}, {bundle.METADATA} expects {sha256}")


def whole(place: Source, name: str, sleep: Callable[[float], None] = time.sleep, limit: int = MAX_BYTES) -> bytes:
    """A file's bytes; ModelError if there are more than the limit."""

    def once() -> bytes:
        with place.open(name) as stream:
            return stream.content.read(limit + 1)

    data: bytes = retried(once, sleep)
    if len(data) > limit:
        raise ModelError(f"{name}: is longer than {limit} bytes")
    return data


def _is_current(directory: Path, digest: str) -> bool:
    try:
        bundle.read(directory, digest)
    except ModelError:
        return False
    return True


def _publish(part: Path, directory: Path) -> None:
    old = directory.parent / f".{directory.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    try:
        if directory.exists():
            directory.rename(old)
        part.rename(directory)
    except OSError as error:
        raise ModelError(
            f"{directory}: cannot be replaced: {error.strerror}; "
            "it must be a directory inside the volume, not its mount point"
        ) from None
    shutil.rmtree(old, ignore_errors=True)


def pickled(place: Source, sleep: Callable[[float], None] = time.sleep) -> str | None:
    """The file of an MLflow scikit-learn model that holds the estimator; None if it isn't one."""
    try:
        description = whole(place, "MLmodel", sleep, _SMALL).decode("utf-8", "replace")
    except NotFound:
        return None
    match = re.search(r"^\s+pickled_model:\s*(\S+)\s*$", description, re.MULTILINE)
    return Path(match[1]).name if match else None


def _not_a_bundle(uri: str, place: Source, sleep: Callable[[float], None]) -> ModelError:
    """Why there is no bundle; for an MLflow model, with the command that makes one of it."""
    name = pickled(place, sleep)
    if name is None:
        return ModelError(f"{shown(uri)}: holds no {bundle.METADATA}, so it isn't a model bundle or isn't there")
    data = whole(place, name, sleep)
    return ModelError(f"{shown(uri)}: {name}: {bundle.pickle_refusal(uri, bundle.sha256(data))}")


def main() -> int:
    """Exit status 1, with one line, when there is no model that may be served."""
    parser = argparse.ArgumentParser(prog="python -m inference_app.fetch", description="fetch a model bundle")
    parser.add_argument("uri", nargs="?", default=os.environ.get("MODEL_URI", ""), help="default: MODEL_URI")
    parser.add_argument("directory", nargs="?", default=os.environ.get("MODEL_PATH", ""), help="default: MODEL_PATH")
    a = parser.parse_args()
    sha256 = os.environ.get("MODEL_SHA256", "").strip().lower()
    limit = os.environ.get("MODEL_MAX_BYTES", "").strip() or str(MAX_BYTES)
    try:
        if not a.uri or not a.directory:
            raise ModelError("no URI or no directory: give both, or set MODEL_URI and MODEL_PATH")
        if not limit.isdigit():
            raise ModelError(f"MODEL_MAX_BYTES={limit!r} is not a number of bytes")
        print(fetch(a.uri, Path(a.directory), source(a.uri), sha256=sha256, max_bytes=int(limit)))  # noqa: T201
    except ModelError as error:
        print(f"fetch: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
