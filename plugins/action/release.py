# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()


class ActionModule(ActionBase):
    """Shows what a release is waiting for while it waits: a module itself can say nothing before it ends."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            result.update(self._execute_module(task_vars=task_vars))
            return result
        with tempfile.TemporaryDirectory(prefix="inference-release-") as folder:
            path = Path(folder) / "progress"
            path.touch()
            done = threading.Event()
            host = (task_vars or {}).get("inventory_hostname", "")
            teller = threading.Thread(target=_tell, args=(path, done, host), daemon=True)
            teller.start()
            try:
                asked = {**self._task.args, "progress_path": str(path)}
                result.update(self._execute_module(module_args=asked, task_vars=task_vars))
            finally:
                done.set()
                teller.join()
        return result


def _tell(path: Path, done: threading.Event, host: str) -> None:
    """Follows the module's progress file until the module has ended; each line is news."""
    with path.open(encoding="utf-8") as lines:
        while not done.wait(0.2):
            for line in lines:
                display.display(f"  {host}: {line.rstrip()}")
