#!/usr/bin/python
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_info
short_description: The verdict on a Deployment's rollout, at once or when it comes
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Says whether a Deployment's rollout is progressing, done, or failed, and names the cause with pod, container, exit
    code, log lines and events.
  - With O(wait=true) watches until the rollout is done or a failure is proven, which takes seconds, not the whole
    O(wait_timeout). Something that may still pass, such as one crash or a slow pull, is no failure.
  - An API server that goes away is waited for; while it is away nothing is judged.
options:
  name:
    description: Name of the Deployment.
    type: str
    required: true
  namespace:
    description: Namespace of the Deployment.
    type: str
    required: true
  wait:
    description:
      - Whether to wait for the end of the rollout, and to fail when it fails.
      - V(false) tells how it stands and does not fail. So does check mode, since what is not applied never ends.
    type: bool
    default: false
  unschedulable_timeout:
    description: Seconds that a pod may wait for a node; raise it where nodes are added on demand.
    type: float
    default: 10.0
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - deepmlhub.inference.wait
attributes:
  check_mode:
    description: Reads only, so it does the same, but does not wait.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
  idempotent:
    description: Reads only.
    support: full
  action_group:
    description: Part of the action group C(deepmlhub.inference.k8s).
    support: full
  action:
    description: With a local connection it runs within Ansible itself, without a process of its own.
    support: full
notes:
  - Needs permission to list and watch deployments, replicasets, pods and events, and to get pods/log, in the namespace.
    Without the latter ones it says so, and names some failures late.
seealso:
  - module: deepmlhub.inference.release
"""

EXAMPLES = r"""
- name: Wait for a rollout, and say why if it fails
  deepmlhub.inference.rollout_info:
    name: inference-api
    namespace: ml-inference
    wait: true
    wait_timeout: 600

- name: See how a rollout stands
  deepmlhub.inference.rollout_info:
    name: inference-api
    namespace: ml-inference
  register: rollout

- name: Tell it
  ansible.builtin.debug:
    msg: "{{ rollout.verdict }}: {{ rollout.progress }}"
"""

RETURN = r"""
verdict:
  description: V(progressing), V(done) or V(failed); null when the API gave none.
  returned: always
  type: str
  sample: failed
cause:
  description:
    - The proven cause of a failure, null otherwise.
    - One of V(Gone), V(Paused), V(InvalidImageName), V(ErrImageNeverPull), V(ImagePullBackOff),
      V(CreateContainerConfigError), V(CreateContainerError), V(RunContainerError), V(OOMKilled), V(CrashLoopBackOff),
      V(FailedMount), V(FailedCreate), V(Unschedulable), V(ProgressDeadlineExceeded), V(Timeout).
  returned: always
  type: str
  sample: CrashLoopBackOff
summary:
  description: The cause in one line; empty unless failed.
  returned: always
  type: str
  sample: container api keeps ending (exit code 3)
hint:
  description: What to do next; empty unless failed.
  returned: always
  type: str
progress:
  description: How far the rollout has come, and what it waits for.
  returned: always
  type: str
  sample: "1 of 2 ready, waiting for inference-api-58668c74d-2lxcl: Error, exit code 3, 2 times"
evidence:
  description: What the verdict, or the waiting, is about; empty when there is nothing to point at.
  returned: always
  type: dict
  contains:
    pod:
      description: Name of the pod, if it is about one.
      type: str
    container:
      description: Name of the container, if it is about one.
      type: str
    reason:
      description: The reason in Kubernetes' words.
      type: str
    message:
      description: The message in Kubernetes' words.
      type: str
    exit_code:
      description: Exit code of the container's last end.
      type: int
    node:
      description: The node that the pod is on.
      type: str
    image:
      description: The container's image.
      type: str
    restarts:
      description: How often the container was started again.
      type: int
    limit:
      description: The container's memory limit.
      type: str
    events:
      description: The events that matter, the latest last, each with reason, message and count.
      type: list
      elements: dict
    log:
      description: The last lines of the failed container's log; what looks like a password or token is masked.
      type: list
      elements: str
    previous_log:
      description: The last lines of the log of the run before.
      type: list
      elements: str
name:
  description: Name of the Deployment.
  returned: always
  type: str
namespace:
  description: Namespace of the Deployment.
  returned: always
  type: str
elapsed:
  description: Seconds until the verdict; null when the API gave none.
  returned: always
  type: float
notes:
  description: What the verdict had to do without, such as a permission.
  returned: always
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deepmlhub.inference.plugins.module_utils import rollout
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import AUTH_ARG_SPEC, WAIT_ARG_SPEC, connect
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        **AUTH_ARG_SPEC,
        **WAIT_ARG_SPEC,
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "wait": {"type": "bool", "default": False},
        "unschedulable_timeout": {"type": "float", "default": 10.0},
    },
    "supports_check_mode": True,
}


def run(module: Any, tell: Callable[[str], None]) -> None:
    """The module's work; C(tell) is given a line whenever what is waited for changes."""
    asked = module.params
    target = (asked["namespace"], asked["name"])
    waits = asked["wait"] and not module.check_mode
    try:
        if waits:
            limits = {name: asked[name] for name in (*WAIT_ARG_SPEC, "unschedulable_timeout")}
            result = rollout.wait(connect(module), *target, **limits, on_progress=tell)
        else:
            result = rollout.look(connect(module), *target, unschedulable_timeout=asked["unschedulable_timeout"])
    except InferenceError as error:
        module.fail_json(msg=str(error), **rollout.no_verdict(*target, error))
    for note in result["notes"]:
        module.warn(note)
    if waits and result["verdict"] == "failed":
        module.fail_json(msg="\n".join(rollout.report(result)), **result)
    module.exit_json(changed=False, **result)


def main() -> None:
    run(AnsibleModule(**ARGUMENTS), lambda _text: None)


if __name__ == "__main__":
    main()
