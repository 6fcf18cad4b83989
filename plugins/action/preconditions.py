# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible_collections.deepmlhub.inference.plugins.module_utils import inputs

# What roles hand on to one another as facts; set by nobody else.
HANDED_ON = {
    "gcloud_credentials_gke",
    "inference_workload_cluster",
    "inference_workload_manifests",
    "inference_workload_pinned",
    "inference_workload_release",
    "inference_workload_status",
    "namespace_config_manifests",
    "namespace_config_policies",
    "namespace_config_removed",
    "verification_result",
}
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
        specs = {path.parents[1].name: _options(path) for path in ROLES.glob("*/meta/argument_specs.yml")}
        known = {name for options in specs.values() for name in options}
        problems = [inputs.target_problem(asked["group"], members, reached, seen["groups"])]
        for host in reached:
            values = seen["hostvars"][host]
            said = inputs.unknown(values, known | HANDED_ON, specs)
            for role, options in specs.items():
                given = {name: values[name] for name in options if name in values}
                checked = ArgumentSpecValidator({name: options[name] for name in given}).validate(given)
                said += [f"{message}; roles/{role}/README.md says what it takes" for message in checked.error_messages]
            lacking = inputs.missing({name: values.get(name) for name in known}, asked["required"])
            if lacking:
                said.append(
                    f"these variables must be set: {', '.join(lacking)}. Set them in the inventory's "
                    f"group_vars/{asked['group']}.yml, or with -e"
                )
            problems += [f"{host}: {line}" for line in said]
        found = [problem for problem in problems if problem]
        if found:
            result.update(failed=True, msg="; ".join(found))
        result["targets"] = reached
        return result


def _options(path: Path) -> dict[str, Any]:
    options: dict[str, Any] = yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
    return options
