# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from ansible_collections.deepmlhub.inference.plugins.modules import rollout_info as module
from ansible_collections.deepmlhub.inference.plugins.plugin_utils.controller import ControllerAction


class ActionModule(ControllerAction):
    """The verdict on a Deployment, on the controller."""

    arguments = module.ARGUMENTS
    work = module.run
