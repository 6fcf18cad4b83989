# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lets a Kubernetes ServiceAccount act as one of Google's: one member in one binding of an IAM policy."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ansible_collections.deepmlhub.inference.plugins.module_utils.google import Google, GoogleError

Policy = dict[str, Any]
ROLE = "roles/iam.workloadIdentityUser"
TRIES = 4


def classic_member(pool: str, namespace: str, account: str) -> str:
    """How IAM names a Kubernetes ServiceAccount of a workload identity pool."""
    return f"serviceAccount:{pool}[{namespace}/{account}]"


def principal(project_number: str, pool: str, namespace: str, account: str) -> str:
    """The direct principal of the same ServiceAccount, which can hold roles on any resource by itself."""
    home = f"principal://iam.googleapis.com/projects/{project_number}/locations/global/workloadIdentityPools/{pool}"
    return f"{home}/subject/ns/{namespace}/sa/{account}"


def with_member(policy: Mapping[str, Any], role: str, member: str, *, present: bool) -> Policy:
    """The policy with the member in the role's unconditional binding, or without it; all else stays, the etag too."""
    wanted = copy.deepcopy(dict(policy))
    bindings: list[dict[str, Any]] = wanted.get("bindings") or []
    ours = [binding for binding in bindings if binding["role"] == role and not binding.get("condition")]
    if present and not any(member in binding["members"] for binding in ours):
        if ours:
            ours[0]["members"].append(member)
        else:
            bindings.append({"role": role, "members": [member]})
    elif not present:
        for binding in ours:
            binding["members"] = [name for name in binding["members"] if name != member]
        bindings = [binding for binding in bindings if binding["members"]]
    if bindings or "bindings" in wanted:
        wanted["bindings"] = bindings
    return wanted


def members(policy: Mapping[str, Any], role: str) -> list[str]:
    """Who holds the role without a condition."""
    bindings = policy.get("bindings") or []
    return sorted(
        {
            name
            for found in bindings
            if found["role"] == role and not found.get("condition")
            for name in found["members"]
        }
    )


def bind(
    google: Google, base: str, project: str, email: str, member: str, *, role: str, present: bool, check_mode: bool
) -> dict[str, Any]:
    """Make the policy of a Google service account hold the member, or not.

    :returns: C(changed), and C(before) and C(after), the members of the role. Raises GoogleError.
    """
    url = f"{base.rstrip('/')}/v1/projects/{project}/serviceAccounts/{email}"
    for attempt in range(TRIES):
        policy = google.call(
            "POST",
            f"{url}:getIamPolicy?options.requestedPolicyVersion=3",
            {},
            project=project,
            permission="iam.serviceAccounts.getIamPolicy",
        )
        wanted = with_member(policy, role, member, present=present)
        result = {"changed": wanted != policy, "before": members(policy, role), "after": members(wanted, role)}
        if not result["changed"] or check_mode:
            break
        try:
            google.call(
                "POST",
                f"{url}:setIamPolicy",
                {"policy": wanted},
                project=project,
                permission="iam.serviceAccounts.setIamPolicy",
            )
            break
        except GoogleError as error:
            # Somebody changed the policy in between: its etag is another now.
            if error.status != 409 or attempt == TRIES - 1:
                raise
    return result
