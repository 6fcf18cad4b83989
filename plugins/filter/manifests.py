# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.deepmlhub.inference.plugins.module_utils.plan import without_replicas
from ansible_collections.deepmlhub.inference.plugins.module_utils.quantity import resource_problems


def _without_replicas(manifest: dict[str, Any]) -> dict[str, Any]:
    return without_replicas(manifest) if manifest["kind"] == "Deployment" else manifest


class FilterModule:
    """Their documentation stands beside this file, one page for each filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"resource_problems": resource_problems, "without_replicas": _without_replicas}
