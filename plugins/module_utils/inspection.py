# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release is today: its history, its health, and where live objects have left the record."""

from __future__ import annotations

from typing import Any

from ansible_collections.deepmlhub.inference.plugins.module_utils import history, plan
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import Cluster
from ansible_collections.deepmlhub.inference.plugins.module_utils.lock import peek
from ansible_collections.deepmlhub.inference.plugins.module_utils.rollout import look
from ansible_collections.deepmlhub.inference.plugins.module_utils.survey import Wish, lease_path, live_of, records_of


def inspect(cluster: Cluster, wish: Wish) -> dict[str, Any]:
    """Reads only. Raises InferenceError when the API does not tell.

    :returns: C(revisions) (newest first), C(revision) (the one that should run, or None), C(healthy), C(verdict),
        C(progress), C(drift) as C(plan.drift) gives it, C(locked_by) (or None).
    """
    records = records_of(cluster, wish)
    lease = peek(cluster, lease_path(wish))
    result: dict[str, Any] = {
        "revisions": [history.summary(record) for record in reversed(records)],
        "revision": None,
        "healthy": False,
        "verdict": None,
        "progress": f"there is no release {wish.name} in namespace {wish.namespace}",
        "drift": [],
        "locked_by": ((lease or {}).get("spec") or {}).get("holderIdentity"),
    }
    current = history.newest(records, "deployed", "found")
    if current is None:
        return result
    result["revision"] = current["revision"]
    result["drift"] = plan.drift(current["objects"], live_of(cluster, current["objects"]))
    for obj in current["objects"]:
        if obj["kind"] == "Deployment":
            said = look(
                cluster,
                wish.namespace,
                obj["metadata"]["name"],
                unschedulable_timeout=wish.unschedulable_timeout,
            )
            result.update(verdict=said["verdict"], progress=said["progress"], healthy=said["verdict"] == "done")
    return result
