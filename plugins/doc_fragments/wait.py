# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of everything that waits."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of C(cluster.WAIT_ARG_SPEC)."""

    DOCUMENTATION = r"""
options:
  wait_timeout:
    description: Seconds until the deadline that everything in this task shares.
    type: float
    default: 300.0
  wait_sleep:
    description: Seconds between two looks where nothing announces a change.
    type: float
    default: 1.0
  request_timeout:
    description: Seconds that one HTTP request may take.
    type: float
    default: 10.0
"""
