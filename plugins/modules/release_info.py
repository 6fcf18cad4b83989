#!/usr/bin/python
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: History, health and drift of a release
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Lists the recorded revisions of a release.
  - Compares live objects with the newest healthy record, and names the field manager behind each difference.
options:
  name:
    description: Name of the release.
    type: str
    required: true
  namespace:
    description: Namespace of the release.
    type: str
    required: true
  request_timeout:
    description: Seconds that one HTTP request may take.
    type: float
    default: 10.0
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
attributes:
  check_mode:
    description: Reads only, in any mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
  action_group:
    description: Part of the action group C(deepmlhub.inference.k8s).
    support: full
  action:
    description: With a local connection it runs within Ansible itself, without a process of its own.
    support: full
"""

EXAMPLES = r"""
- name: Look for drift
  deepmlhub.inference.release_info:
    name: inference-api
    namespace: ml-inference
  register: found
"""

RETURN = r"""
revisions:
  description: Every record, newest first.
  returned: always
  type: list
  elements: dict
revision:
  description: The revision that should be running.
  returned: always
  type: int
healthy:
  description: Whether its Deployment is complete and available.
  returned: always
  type: bool
verdict:
  description: What the rollout watcher says.
  returned: always
  type: str
progress:
  description: The state in one line.
  returned: always
  type: str
drift:
  description: Differences between the record and the cluster, each with object, field, recorded, live and manager.
  returned: always
  type: list
  elements: dict
locked_by:
  description: The run that holds the release's lock.
  returned: always
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import AUTH_ARG_SPEC, connect
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.inspection import inspect
from ansible_collections.deepmlhub.inference.plugins.module_utils.survey import Wish

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        **AUTH_ARG_SPEC,
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "request_timeout": {"type": "float", "default": 10.0},
    },
    "supports_check_mode": True,
}


def run(module: Any, _tell: Callable[[str], None]) -> None:
    """The module's work."""
    try:
        result = inspect(connect(module), Wish(name=module.params["name"], namespace=module.params["namespace"]))
    except InferenceError as error:
        module.fail_json(msg=str(error), **error.fields)
    module.exit_json(**result)


def main() -> None:
    run(AnsibleModule(**ARGUMENTS), lambda _text: None)


if __name__ == "__main__":
    main()
