#!/usr/bin/python
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_verify
short_description: Proves that an inference endpoint gives the right predictions
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Waits for the Service's address, then asks C(/health), C(/ready) and, with the golden predictions, C(/predict).
  - Passes only when the clients' address and every ready pod of the Deployment's present template have answered all of
    the golden predictions rightly, with the expected model. An answer counts for the pod that its header
    C(X-Pod-Name) names, so that pods of an older release cannot pass for this one.
  - A wrong prediction ends it at once, with the expected and the received numbers. No answer, or a server's error, is
    taken as not yet until the deadline.
  - Asks the load balancer's address of a Service of type C(LoadBalancer), and the API server's proxy for other types.
    The pods are asked through the API server's proxy; where the permission for that is missing, the clients' address is
    asked until every pod was seen.
  - Afterwards measures the latency of 20 right answers in a row. Each request opens a connection of its own.
options:
  namespace:
    description: Namespace of the Service and the Deployment.
    type: str
    default: ml-inference
  service:
    description: Service that clients use.
    type: str
    default: inference-api
  deployment:
    description: Deployment whose pods have to answer.
    type: str
    default: inference-api
  port:
    description: Name or number of the Service's port; by default the one named C(http), else the first.
    type: str
  scheme:
    description: How the endpoint speaks. With V(https) its certificate must be valid for its address.
    type: str
    choices: [http, https]
    default: http
  paths:
    description: Where the endpoint answers.
    type: dict
    default: {health: /health, ready: /ready, predict: /predict}
    suboptions:
      health:
        description: Answers 200 while the process lives.
        type: str
        default: /health
      ready:
        description: Answers 200 once the model is loaded.
        type: str
        default: /ready
      predict:
        description: Takes the golden requests.
        type: str
        default: /predict
  golden:
    description:
      - The golden predictions, as the path of a JSON file where the module runs, or as the file's content.
      - A dict with C(pairs), each with a C(request) and the C(response) that it must get, and optionally
        C(model.sha256), the hash that every answer's header C(X-Model-Sha256) must then carry; or the list of pairs.
      - Keys of an answer that the golden response lacks are not looked at.
    type: raw
    required: true
  tolerance:
    description: Largest difference between two numbers that are taken as equal.
    type: float
    default: 1.0e-05
  model_sha256:
    description: Hash of the model that must be served; by default the one that O(golden) names.
    type: str
  max_p95_ms:
    description: Highest 95th percentile of the latency in milliseconds; by default any is good enough.
    type: float
  autoscaler:
    description:
      - What to do about a HorizontalPodAutoscaler of the Deployment that does not scale on a measured value.
      - V(warn) reports it, since metrics come about a minute after the first pods. V(require) waits for it until the
        deadline, and fails where there is no autoscaler. V(skip) does not look.
    type: str
    choices: [warn, require, skip]
    default: warn
notes:
  - Runs on the controller; the address must be reachable from there.
  - Needs the permissions to get services and deployments, and to list replicasets, pods and
    horizontalpodautoscalers; get and create on pods/proxy, and on services/proxy where there is no load balancer.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - deepmlhub.inference.wait
attributes:
  check_mode:
    description: Asks as usual; what does not exist yet is reported as not checked.
    support: full
  diff_mode:
    description: There is nothing to show, because nothing is changed.
    support: none
  idempotent:
    description: Changes nothing and never reports a change.
    support: full
  action_group:
    description: Part of the action group C(deepmlhub.inference.k8s).
    support: full
  action:
    description: With a local connection it runs within Ansible itself, without a process of its own.
    support: full
"""

EXAMPLES = r"""
- name: Prove the endpoint with the predictions that came with the model
  deepmlhub.inference.endpoint_verify:
    namespace: ml-inference
    golden: "{{ playbook_dir }}/../models/default/golden.json"

- name: Prove a fast endpoint behind an autoscaler that works
  deepmlhub.inference.endpoint_verify:
    namespace: ml-inference
    golden:
      pairs:
        - request:
            features: [[13.2, 1.8, 2.1, 11.2, 100.0, 2.7, 2.8, 0.3, 1.3, 4.4, 1.1, 3.4, 1050.0]]
          response:
            predictions: [0]
            class_names: [class_0]
    max_p95_ms: 50
    autoscaler: require
    wait_timeout: 180
"""

RETURN = r"""
ok:
  description: Whether every required check has passed.
  returned: always
  type: bool
checked:
  description: False only in check mode, when the Service or the Deployment does not exist yet.
  returned: always
  type: bool
msg:
  description: The outcome in one line; on failure what failed, where, and what to do next.
  returned: always
  type: str
  sample: The endpoint of Service ml-inference/inference-api answers rightly at http://203.0.113.7:80
address:
  description: Where clients ask, as a URL or as a path of the API server; null while there is none.
  returned: always
  type: str
  sample: http://203.0.113.7:80
attempts:
  description: How many times the checks were begun.
  returned: always
  type: int
elapsed:
  description: Seconds that it took.
  returned: always
  type: float
checks:
  description: Each check of the last attempt, in order.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: One of service, address, health, ready, predict, pods, autoscaler, latency.
      type: str
    ok:
      description: Whether it has passed.
      type: bool
    required:
      description: Whether the outcome depends on it.
      type: bool
    detail:
      description: What was found, or what is still missing.
      type: str
latencies:
  description: How long right answers at the clients' address took, connecting included.
  returned: always
  type: dict
  contains:
    p50:
      description: Median in milliseconds; null before anything was measured.
      type: float
    p95:
      description: 95th percentile in milliseconds; null before anything was measured.
      type: float
    count:
      description: Number of measured requests.
      type: int
pods:
  description: The pods of the Deployment's present template that were ready at the last look.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the pod.
      type: str
    ok:
      description: Whether it has answered all of the golden predictions rightly.
      type: bool
    model_sha256:
      description: Hash of the model that it serves; null before it has answered.
      type: str
    via:
      description: C(pod) when it was asked directly, C(address) when its answers came through the clients' address.
      type: str
model_sha256:
  description: Hash of the model that every answer had to come from; the served one where none was given.
  returned: always
  type: str
autoscaler:
  description: What the HorizontalPodAutoscaler does.
  returned: always
  type: dict
  contains:
    name:
      description: Its name; null where there is none.
      type: str
    ok:
      description: Whether it scales on a measured value.
      type: bool
    reason:
      description: Reason of its condition C(ScalingActive).
      type: str
    message:
      description: Message of its condition C(ScalingActive).
      type: str
    remedy:
      description: What is likely to help.
      type: str
    replicas:
      description: Its C(min), C(max), C(current) and C(desired) number of pods.
      type: dict
    metrics:
      description: The C(name), C(current) and C(target) value of each measured metric; utilization is in percent.
      type: list
      elements: dict
notes:
  description: What did not stand in the way but should be known; also given as warnings.
  returned: always
  type: list
  elements: str
last_error:
  description: The last thing that was not right, also when it was right in the end.
  returned: always
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import AUTH_ARG_SPEC, WAIT_ARG_SPEC, connect
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.gate import GATE_ARG_SPEC
from ansible_collections.deepmlhub.inference.plugins.module_utils.probe import not_run, prepare, run_gate

OPTIONS = {**WAIT_ARG_SPEC, **GATE_ARG_SPEC, "namespace": {"type": "str", "default": "ml-inference"}}

ARGUMENTS: dict[str, Any] = {"argument_spec": {**AUTH_ARG_SPEC, **OPTIONS}, "supports_check_mode": True}


def run(module: Any, _tell: Callable[[str], None]) -> None:
    """The module's work."""
    try:
        spec = prepare({name: module.params[name] for name in OPTIONS})
        result = run_gate(connect(module), spec, check_mode=module.check_mode)
    except InferenceError as error:
        result = not_run(error)
    for note in result["notes"]:
        module.warn(note)
    if result["ok"] or not result["checked"]:
        module.exit_json(changed=False, **result)
    module.fail_json(**result)


def main() -> None:
    run(AnsibleModule(**ARGUMENTS), lambda _text: None)


if __name__ == "__main__":
    main()
