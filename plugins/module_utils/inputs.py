# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a run was asked for something that makes sense, before it reaches any cluster. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

# Any of these says which cluster is meant; without them, the three that find it on GKE must be set.
CLUSTER_KNOWN_BY = ("gcloud_credentials_kubeconfig", "gcloud_credentials_context")
CLUSTER_FOUND_BY = ("gcloud_credentials_project", "gcloud_credentials_location", "gcloud_credentials_cluster")


def target_problem(group: str, members: Collection[str], reached: Collection[str], groups: Iterable[str]) -> str | None:
    """Why a run would do nothing: the group has no host, or a limit leaves none of them."""
    if reached:
        return None
    known = ", ".join(sorted(name for name in groups if name not in ("all", "ungrouped"))) or "none"
    if not members:
        return f"The inventory has no host in group {group}; groups that exist: {known}. Name the inventory with -i"
    return (
        f"The limit leaves no host of group {group} ({', '.join(sorted(members))}); groups that exist: {known}. "
        "Correct --limit"
    )


def missing(values: Mapping[str, Any], required: Iterable[str]) -> list[str]:
    """The variables that somebody must set and nobody has."""
    wanted = list(required)
    if not any(values.get(name) for name in CLUSTER_KNOWN_BY):
        wanted += CLUSTER_FOUND_BY
    return [name for name in wanted if not values.get(name)]


def unknown(names: Iterable[str], known: Collection[str], prefixes: Iterable[str]) -> list[str]:
    """Variables that look like a role's and are none, each with the nearest real one."""
    starts = tuple(f"{prefix}_" for prefix in prefixes)
    found = []
    for name in sorted(set(names)):
        if name.startswith(starts) and name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            found.append(f"{name} is not a variable of this collection{meant}")
    return found
