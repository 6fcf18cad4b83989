"""The sandbox's configuration: one YAML file over the built-in one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT = Path(__file__).with_name("default.yml")


class ConfigError(Exception):
    """What is wrong with the file, in one line."""


@dataclass(frozen=True)
class Image:
    """What stands for an image; texts may hold {python}, {pod_ip} and {checkout}."""

    command: list[str]
    args: list[str] = field(default_factory=list)
    workdir: str = "{checkout}"
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """Names and units as in default.yml."""

    images: list[dict[str, Any]]
    nodes: list[dict[str, str]]
    metrics_seconds: float
    autoscaler_seconds: float
    sync_seconds: float
    idle_seconds: float
    lifetime_seconds: float

    def image(self, reference: str) -> Image | None:
        """What stands for the image, or None when the registry does not have it."""
        for entry in self.images:
            patterns = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
            if any(fnmatchcase(reference, pattern) for pattern in patterns):
                return Image(**{key: value for key, value in entry.items() if key != "image"})
        return None


def expand(text: str, pod_ip: str) -> str:
    """The text with its placeholders filled in; any other brace stays as it is."""
    values = {"{python}": sys.executable, "{pod_ip}": pod_ip, "{checkout}": str(CHECKOUT)}
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def load(path: Path | None) -> Config:
    """The configuration; ConfigError names the file and the key."""
    values: dict[str, Any] = yaml.safe_load(DEFAULT.read_text())
    if path is not None:
        try:
            given = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
        known = [item.name for item in fields(Config)]
        if not isinstance(given, dict) or (wrong := sorted(set(given) - set(known))):
            what = f"unknown key {', '.join(wrong)}" if isinstance(given, dict) else "not a mapping"
            raise ConfigError(f"{path}: {what}; known are {', '.join(known)}")
        values |= given
    config = Config(**values)
    for entry in config.images:
        if not isinstance(entry, dict) or not entry.get("image") or not isinstance(entry.get("command"), list):
            raise ConfigError(f"{path or DEFAULT}: images: each needs `image` and a list `command`: {entry!r}")
        if unknown := sorted(set(entry) - {"image", *(item.name for item in fields(Image))}):
            raise ConfigError(f"{path or DEFAULT}: images: unknown key {', '.join(unknown)} beside {entry['image']!r}")
    return config
