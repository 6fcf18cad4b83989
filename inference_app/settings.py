# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The settings, read once from environment variables (in a cluster: the ConfigMap's keys)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
BACKENDS = ("auto", "onnx", "sklearn")


class SettingsError(Exception):
    """Every setting that is wrong, in one line."""


@dataclass(frozen=True)
class Settings:
    """What the server runs with. Sizes are bytes, times are seconds."""

    host: str = "0.0.0.0"  # noqa: S104 - a container must answer on its pod address
    port: int = 8080
    workers: int = 1  # threads of one prediction; more processes are more pods
    log_level: str = "INFO"
    model_path: Path = Path("models/default")
    model_sha256: str = ""
    model_backend: str = "auto"
    pod_name: str = field(default_factory=socket.gethostname)
    max_body_bytes: int = 1 << 20
    max_rows: int = 1000
    max_queue: int = 256
    read_seconds: int = 15  # for a request's headers, and again for its body
    keep_alive_seconds: int = 650  # longer than a load balancer keeps an idle connection (600 s)
    drain_seconds: float = 1.0
    shutdown_seconds: int = 20


def from_env(env: Mapping[str, str]) -> Settings:
    """Settings from variables named like the fields in upper case; an empty value is the default.

    Raises SettingsError that lists all that is wrong at once.
    """
    default = Settings()
    wrong: list[str] = []

    def number(name: str, fallback: int, low: int, high: int) -> int:
        text = env.get(name, "").strip()
        if not text:
            return fallback
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            wrong.append(f"{name}={text!r} is not a whole number from {low} to {high}")
        return value

    level = (env.get("LOG_LEVEL", "").strip() or default.log_level).upper()
    if level not in LOG_LEVELS:
        wrong.append(f"LOG_LEVEL={level!r} is not one of {', '.join(LOG_LEVELS).lower()}")
    sha256 = env.get("MODEL_SHA256", "").strip().lower()
    if sha256 and (len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef")):
        wrong.append(f"MODEL_SHA256={sha256!r} is not 64 hexadecimal digits")
    backend = (env.get("MODEL_BACKEND", "").strip() or default.model_backend).lower()
    if backend not in BACKENDS:
        wrong.append(f"MODEL_BACKEND={backend!r} is not one of {', '.join(BACKENDS)}")
    settings = Settings(
        host=env.get("HOST", "").strip() or default.host,
        port=number("PORT", default.port, 1, 65535),
        workers=number("WORKERS", default.workers, 1, 64),
        log_level=level,
        model_path=Path(env.get("MODEL_PATH", "").strip() or default.model_path),
        model_sha256=sha256,
        model_backend=backend,
        pod_name=env.get("POD_NAME", "").strip() or default.pod_name,
        max_body_bytes=number("MAX_BODY_BYTES", default.max_body_bytes, 1024, 1 << 30),
        max_rows=number("MAX_ROWS", default.max_rows, 1, 1_000_000),
        max_queue=number("MAX_QUEUE", default.max_queue, 1, 1_000_000),
        read_seconds=number("READ_SECONDS", default.read_seconds, 1, 3600),
        keep_alive_seconds=number("KEEP_ALIVE_SECONDS", default.keep_alive_seconds, 1, 86400),
        drain_seconds=float(number("DRAIN_SECONDS", int(default.drain_seconds), 0, 3600)),
        shutdown_seconds=number("SHUTDOWN_SECONDS", default.shutdown_seconds, 1, 3600),
    )
    if wrong:
        raise SettingsError("; ".join(wrong))
    return settings
