# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: preconditions
short_description: Refuses a run that could do nothing, or not what was meant
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Fails when the inventory or the limit leaves no target, and names the groups that exist.
  - Fails when a variable carries a role's prefix but is none of its variables, and names the nearest one.
  - Fails when variables that have no default are not set, and lists all of them at once.
options:
  group:
    description: The inventory group whose hosts are targets.
    type: str
    default: inference
  required:
    description: Variables that every target must set. What finds the cluster is always required.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Changes nothing in any mode.
    support: none
  idempotent:
    description: Changes nothing in any mode.
    support: full
  action:
    description: Runs on the controller, without a module.
    support: full
"""

EXAMPLES = r"""
- name: Check what the run was asked for
  deepmlhub.inference.preconditions:
    required:
      - inference_workload_image
"""

RETURN = r"""
targets:
  description: The hosts that the run will reach.
  returned: always
  type: list
  elements: str
"""
