#!/usr/bin/python
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: One release of an inference workload, applied, proven and recorded as one transaction
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Asks the server's dry run about every object and one Pod of the new template; writes nothing if it refuses any.
  - Takes the release's lock, applies in dependency order, watches the rollout, asks the gate, prunes, records.
  - When the rollout or the gate fails, names the cause and puts the previous release back exactly as it was.
  - Writes nothing at all when every object is as asked for and the newest record says that it was proven.
options:
  name:
    description: Name of the release; its records and its lock are kept under it.
    type: str
    required: true
  namespace:
    description: Namespace of every object of the release; it must exist.
    type: str
    required: true
  state:
    description:
      - V(present) brings O(manifests) to the cluster.
      - V(rolled_back) brings a recorded revision back.
      - V(absent) removes what the records list, and the records.
    type: str
    choices: [present, absent, rolled_back]
    default: present
  manifests:
    description: Every object of the release. Objects that earlier releases recorded and this list lacks are removed.
    type: list
    elements: dict
    default: []
  gate:
    description:
      - What the release has to pass before it is kept, as the options of M(deepmlhub.inference.endpoint_verify).
      - Without it, a healthy rollout is enough.
    type: dict
  revision:
    description: The revision to bring back with O(state=rolled_back); by default the last different one.
    type: int
  force_conflicts:
    description: Whether fields that other managers own are taken over. V(false) refuses, naming field and manager.
    type: bool
    default: true
  rollback_on_failure:
    description: Whether the previous release is put back when this one fails.
    type: bool
    default: true
  keep_first_failure:
    description: Whether the objects of a failed first release are left for inspection instead of being removed.
    type: bool
    default: false
  history_limit:
    description: How many records are kept.
    type: int
    default: 10
  lock_timeout:
    description: Seconds to wait for another run's lock.
    type: float
    default: 60.0
  lock_ttl:
    description: Seconds after which the lock of a run that no longer renews it may be taken over.
    type: int
    default: 30
  unschedulable_timeout:
    description: Seconds that a pod may wait for a node; raise it where nodes are added on demand.
    type: float
    default: 10.0
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - deepmlhub.inference.wait
attributes:
  check_mode:
    description: Predicts the change by the server's dry run, also when the Namespace does not exist.
    support: full
  diff_mode:
    description: Shows the live objects against the server's dry run; never a Secret's values.
    support: full
  idempotent:
    description: A second run sends no write.
    support: full
  action_group:
    description: Part of the action group C(deepmlhub.inference.k8s).
    support: full
  action:
    description: With a local connection it runs within Ansible itself, without a process of its own.
    support: full
"""

EXAMPLES = r"""
- name: Deploy, or put back what was there
  deepmlhub.inference.release:
    name: inference-api
    namespace: ml-inference
    manifests: "{{ manifests }}"
    gate:
      service: inference-api
      deployment: inference-api
      golden: models/default/golden.json

- name: Go back to revision 3
  deepmlhub.inference.release:
    name: inference-api
    namespace: ml-inference
    state: rolled_back
    revision: 3
"""

RETURN = r"""
revision:
  description: The number of the record that holds this release.
  returned: always
  type: int
verdict:
  description: What the rollout came to, V(done) or V(failed).
  returned: always
  type: str
cause:
  description: Why it failed, such as V(ImagePullBackOff) or V(GateFailed).
  returned: always
  type: str
evidence:
  description: Pod, container, reason, exit code, events and log lines behind the cause.
  returned: always
  type: dict
gate:
  description: The gate's answer, with the keys of M(deepmlhub.inference.endpoint_verify).
  returned: always
  type: dict
rolled_back_to:
  description: The revision that was put back.
  returned: always
  type: int
removed:
  description: Objects that were (or would be) removed.
  returned: always
  type: list
  elements: str
conflicts:
  description: Fields that are taken over, with their former managers.
  returned: always
  type: list
  elements: dict
notes:
  description: What a person should know, such as a check that could not be made.
  returned: always
  type: list
  elements: str
elapsed:
  description: Seconds that the run took.
  returned: always
  type: float
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import AUTH_ARG_SPEC, WAIT_ARG_SPEC, connect
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.gate import GATE_ARG_SPEC
from ansible_collections.deepmlhub.inference.plugins.module_utils.probe import prepare
from ansible_collections.deepmlhub.inference.plugins.module_utils.survey import Wish
from ansible_collections.deepmlhub.inference.plugins.module_utils.transaction import Transaction

OPTIONS = {
    **WAIT_ARG_SPEC,
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "manifests": {"type": "list", "elements": "dict", "default": []},
    "gate": {"type": "dict", "options": GATE_ARG_SPEC},
    "revision": {"type": "int"},
    "force_conflicts": {"type": "bool", "default": True},
    "rollback_on_failure": {"type": "bool", "default": True},
    "keep_first_failure": {"type": "bool", "default": False},
    "history_limit": {"type": "int", "default": 10},
    "lock_timeout": {"type": "float", "default": 60.0},
    "lock_ttl": {"type": "int", "default": 30},
    "unschedulable_timeout": {"type": "float", "default": 10.0},
}


ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        **AUTH_ARG_SPEC,
        **OPTIONS,
        "state": {"type": "str", "choices": ["present", "absent", "rolled_back"], "default": "present"},
    },
    "required_if": [("state", "present", ["manifests"])],
    "supports_check_mode": True,
}


def run(module: Any, tell: Callable[[str], None]) -> None:
    """The module's work; C(tell) is given a line whenever what is waited for changes."""
    wish = Wish(**{name: module.params[name] for name in OPTIONS})
    try:
        if wish.gate:
            wish.gate = prepare(wish.gate)
        work = Transaction(connect(module), wish, check_mode=module.check_mode, on_progress=tell)
        states = {"present": work.present, "absent": work.absent, "rolled_back": work.rolled_back}
        result = states[module.params["state"]]()
    except InferenceError as error:
        module.fail_json(msg=str(error), **error.fields)
    for note in result["notes"]:
        module.warn(note)
    module.exit_json(**result)


def main() -> None:
    run(AnsibleModule(**ARGUMENTS), lambda _text: None)


if __name__ == "__main__":
    main()
