# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.deepmlhub.inference.plugins.module_utils import inputs

ROLES = Path(__file__).resolve().parents[2] / "roles"


class ActionModule(ActionBase):
    """Runs on the controller: what it checks is the run itself, not a host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, asked = self.validate_argument_spec(
            {
                "group": {"type": "str", "default": "inference"},
                "required": {"type": "list", "elements": "str", "default": []},
            }
        )
        seen = task_vars or {}
        members = seen["groups"].get(asked["group"], [])
        reached = [host for host in members if host in seen["ansible_play_hosts_all"]]
        known = _known_variables()
        problems = [inputs.target_problem(asked["group"], members, reached, seen["groups"])]
        for host in reached:
            values = seen["hostvars"][host]
            prefixes = [role.name for role in ROLES.iterdir()]
            problems += [f"{host}: {line}" for line in inputs.unknown(values, known, prefixes)]
            lacking = inputs.missing({name: values.get(name) for name in known}, asked["required"])
            if lacking:
                problems.append(
                    f"{host}: these variables must be set: {', '.join(lacking)}. Set them in the inventory's "
                    f"group_vars/{asked['group']}.yml, or with -e"
                )
        found = [problem for problem in problems if problem]
        if found:
            result.update(failed=True, msg="; ".join(found))
        result["targets"] = reached
        return result


def _known_variables() -> set[str]:
    """Every variable of the roles, from their own argument specs."""
    found = {"namespace_config_manifests", "namespace_config_removed"}
    for spec in ROLES.glob("*/meta/argument_specs.yml"):
        found.update(yaml.safe_load(spec.read_text())["argument_specs"]["main"]["options"])
    return found | {"inference_workload_manifests", "inference_workload_release", "verification_result"}
