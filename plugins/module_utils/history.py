# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The numbered record of what each run applied, as Secrets in the release's namespace. Pure.

A record is a plain dict::

    {"name", "revision": int, "status": "deployed" | "failed" | "found", "created": RFC 3339, "who": str,
     "verdict", "cause", "image", "image_digest", "model_sha256", "config_sha256", "restored_from": int | None,
     "gate": the gate that it passed, with its golden predictions, or None,
     "manifests": [as asked for], "objects": [as the server kept them, server fields aside]}

C(found) is what was in the namespace before the first release of that name.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.objects import ANNOTATION_PREFIX, Object, fingerprint

RELEASE_LABEL = f"{ANNOTATION_PREFIX}release"
SECRET_TYPE = f"{ANNOTATION_PREFIX}release.v1"
# The API server refuses Secrets above 1 MiB.
LARGEST = 1024 * 1024 - 4096
SUMMARY = (
    "revision",
    "status",
    "created",
    "who",
    "verdict",
    "cause",
    "image",
    "image_digest",
    "model_sha256",
    "config_sha256",
    "restored_from",
)

Record = dict[str, Any]


def secret_name(record: Record) -> str:
    """The Secret that keeps a record."""
    return f"{record['name']}.release.{record['revision']}"


def encode(record: Record, namespace: str) -> Object:
    """The Secret that keeps a record. Raises InferenceError when it is too large for one."""
    packed = gzip.compress(json.dumps(record, sort_keys=True, separators=(",", ":")).encode(), mtime=0)
    if len(packed) > LARGEST:
        raise InferenceError(
            f"The record of release {record['name']} would take {len(packed)} bytes, a Secret holds {LARGEST}",
            hint="Move large data out of the release's ConfigMaps and golden predictions",
        )
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": SECRET_TYPE,
        "metadata": {
            "name": secret_name(record),
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "deepmlhub.inference", RELEASE_LABEL: record["name"]},
        },
        "data": {"record": base64.b64encode(packed).decode()},
    }


def decode(secret: Mapping[str, Any]) -> Record:
    """The record in a Secret. Raises InferenceError when it is none, naming the Secret."""
    try:
        record: Record = json.loads(gzip.decompress(base64.b64decode(secret["data"]["record"])))
        record["revision"] = int(record["revision"])
    except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
        name = (secret.get("metadata") or {}).get("name")
        raise InferenceError(
            f"Secret {name} is labelled as a release record but cannot be read as one: {type(error).__name__}",
            hint="Restore it from a backup, or delete it to forget that revision",
        ) from error
    return record


def ordered(secrets: Iterable[Mapping[str, Any]]) -> list[Record]:
    """All records of a release, oldest first."""
    return sorted((decode(secret) for secret in secrets), key=lambda record: int(record["revision"]))


def newest(records: list[Record], *statuses: str) -> Record | None:
    """The last record with one of the statuses; without any, the last at all."""
    return next((record for record in reversed(records) if not statuses or record["status"] in statuses), None)


def identity(manifests: Iterable[Object], gate: Mapping[str, Any] | None) -> str:
    """What makes two releases the same: their manifests, and the predictions that they had to give."""
    gate = gate or {}
    wanted = {name: gate.get(name) for name in ("golden", "tolerance", "model_sha256", "max_p95_ms")}
    return fingerprint([sorted(manifests, key=lambda obj: (obj["kind"], obj["metadata"]["name"])), wanted])


def stands(record: Record | None, manifests: list[Object], gate: Mapping[str, Any] | None) -> bool:
    """Whether the newest record says that just these manifests were healthy and passed just this gate."""
    if record is None or record["status"] != "deployed":
        return False
    return identity(record["manifests"], record["gate"]) == identity(manifests, gate)


def to_forget(records: list[Record], limit: int) -> list[Record]:
    """The records beyond the limit, oldest first; the newest healthy one is always kept."""
    keep = newest(records, "deployed")
    return [record for record in records[: max(0, len(records) - limit)] if record is not keep]


def to_restore(records: list[Record], revision: int | None) -> Record:
    """The record to go back to. Raises InferenceError that lists the revisions there are.

    :param revision: the one asked for; None means the last healthy one that differs from today's.
    """
    healthy = [record for record in records if record["status"] in ("deployed", "found")]
    if revision is not None:
        found = next((record for record in healthy if record["revision"] == revision), None)
    else:
        today = healthy[-1] if healthy else None
        found = next((r for r in reversed(healthy) if today and _content(r) != _content(today)), None)
    if found is None:
        known = ", ".join(str(record["revision"]) for record in healthy) or "none"
        asked = f"revision {revision}" if revision is not None else "earlier release"
        raise InferenceError(
            f"There is no {asked} to go back to; healthy revisions: {known}",
            hint="Set revision to one of them (playbook status.yml lists them)",
        )
    return found


def _content(record: Record) -> str:
    return fingerprint(record["objects"])


def summary(record: Record) -> dict[str, Any]:
    """What may be shown of a record: no manifest, no Secret."""
    return {name: record.get(name) for name in SUMMARY}
