#!/usr/bin/python
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: namespace
short_description: A Namespace with its Pod Security labels, quota and limits
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Applies the Namespace that releases live in, and the ResourceQuota and LimitRange objects that bound it.
  - Writes only what the server's dry run says would change.
  - Removes the Namespace only when this collection created it and nothing of others is left in it.
options:
  name:
    description: Name of the Namespace.
    type: str
    required: true
  state:
    description: Whether the Namespace should be there.
    type: str
    choices: [present, absent]
    default: present
  labels:
    description: Labels that the Namespace must carry, such as the Pod Security level.
    type: dict
    default: {}
  policies:
    description: Manifests of ResourceQuota and LimitRange objects.
    type: list
    elements: dict
    default: []
  manage:
    description: V(false) only checks the labels, for someone whose Role may not write a Namespace.
    type: bool
    default: true
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - deepmlhub.inference.wait
attributes:
  check_mode:
    description: Predicts the change by the server's dry run, also when the Namespace does not exist.
    support: full
  diff_mode:
    description: Shows the live object against the server's dry run.
    support: full
  idempotent:
    description: A second run writes nothing.
    support: full
  action_group:
    description: Part of the action group C(deepmlhub.inference.k8s).
    support: full
  action:
    description: With a local connection it runs within Ansible itself, without a process of its own.
    support: full
"""

EXAMPLES = r"""
- name: A namespace that refuses privileged pods
  deepmlhub.inference.namespace:
    name: ml-inference
    labels:
      pod-security.kubernetes.io/enforce: restricted
"""

RETURN = r"""
created:
  description: Whether the Namespace was (or would be) created.
  returned: when O(state=present)
  type: bool
removed:
  description: What was (or would be) removed.
  returned: when O(state=absent)
  type: list
  elements: str
held_by:
  description: What others keep in the Namespace, so that it stays.
  returned: when O(state=absent)
  type: list
  elements: str
notes:
  description: What a person should know, such as a permission that is missing but not needed.
  returned: always
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deepmlhub.inference.plugins.module_utils import namespaces
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import AUTH_ARG_SPEC, WAIT_ARG_SPEC, connect
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        **AUTH_ARG_SPEC,
        **WAIT_ARG_SPEC,
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "labels": {"type": "dict", "default": {}},
        "policies": {"type": "list", "elements": "dict", "default": []},
        "manage": {"type": "bool", "default": True},
    },
    "supports_check_mode": True,
}


def run(module: Any, _tell: Callable[[str], None]) -> None:
    """The module's work."""
    asked = module.params
    try:
        cluster = connect(module)
        if asked["state"] == "present":
            result = namespaces.present(
                cluster,
                asked["name"],
                asked["labels"],
                asked["policies"],
                manage=asked["manage"],
                check_mode=module.check_mode,
            )
        else:
            result = namespaces.absent(
                cluster,
                asked["name"],
                asked["policies"],
                manage=asked["manage"],
                check_mode=module.check_mode,
                wait_timeout=asked["wait_timeout"],
                wait_sleep=asked["wait_sleep"],
            )
    except InferenceError as error:
        module.fail_json(msg=str(error), **error.fields)
    module.exit_json(**result)


def main() -> None:
    run(AnsibleModule(**ARGUMENTS), lambda _text: None)


if __name__ == "__main__":
    main()
