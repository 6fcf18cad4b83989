# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs a module's own code on the controller, without a process of its own.

A module's process costs more than the work of most of ours: Ansible packs it, Python starts, and the kubernetes client
takes a second to import. The strategy loads an action plugin once, before it forks a worker for each task, so that what
is imported here is imported once in a run. It is also the only way to say something while the work goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# Not used here: imported for the workers, which are forked from the process that imports this file.
from ansible_collections.deepmlhub.inference.plugins.module_utils import cluster as _cluster  # noqa: F401

display = Display()


class _Ended(Exception):
    """The module's code has said its result."""


class Here:
    """What a module's code needs of AnsibleModule, on the controller."""

    def __init__(self, params: dict[str, Any], check_mode: bool) -> None:
        self.params = params
        self.check_mode = check_mode
        self.no_log_values: set[str] = set()
        self.result: dict[str, Any] = {}

    def warn(self, text: str) -> None:
        display.warning(text)

    def exit_json(self, **result: Any) -> NoReturn:
        self.result = result
        raise _Ended

    def fail_json(self, msg: str, **result: Any) -> NoReturn:
        self.result = {**result, "failed": True, "msg": msg}
        raise _Ended


class ControllerAction(ActionBase):
    """The action of a module that offers C(ARGUMENTS) (for AnsibleModule) and C(run(module, tell))."""

    arguments: dict[str, Any]
    work: Callable[..., None]

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if not self._is_here(task_vars or {}):
            result.update(self._execute_module(task_vars=task_vars))
            return result
        checks = {name: value for name, value in self.arguments.items() if name != "supports_check_mode"}
        _validation, params = self.validate_argument_spec(**checks)
        host = (task_vars or {}).get("inventory_hostname", "")
        last = ""

        def tell(text: str) -> None:
            nonlocal last
            if text != last and not self._task.check_mode:
                display.display(f"  {host}: {text}")
            last = text

        # Ansible's strings carry where they come from, which YAML cannot write; a module's process gets plain ones.
        module = Here(json.loads(json.dumps(params)), bool(self._task.check_mode))
        try:
            type(self).work(module, tell)
        except _Ended:
            result.update(module.result)
        return result

    def _is_here(self, task_vars: dict[str, Any]) -> bool:
        """Whether the task means this machine and this Python, as this user, in this environment."""
        if self._connection.transport != "local" or self._task.become or any(self._task.environment or []):
            return False
        named = self._templar.template(task_vars.get("ansible_python_interpreter") or "auto")
        return bool(named.startswith("auto") or named == sys.executable)
