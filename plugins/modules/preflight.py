#!/usr/bin/python
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Finds everything that would stop a release, before anything is written
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Asks the cluster about every permission that a release of the manifests uses, about its version and its APIs, the
    metrics API where there is an autoscaler, the room in the quota for the rollout, the namespace, and the clock.
  - Compares kubectl's version, where kubectl is on the E(PATH), and looks for the image in its registry where wanted.
  - Returns all findings at once as a table, and fails when one of them would stop the release. What is missing without
    stopping it is a warning that says what goes without it.
  - Writes nothing. Access reviews are the only requests that are not reads, and they leave nothing behind.
options:
  namespace:
    description: Namespace of the release.
    type: str
    default: ml-inference
  manage_namespace:
    description: Whether the run creates the Namespace and sets its labels.
    type: bool
    default: true
  manifests:
    description: The manifests that will be applied, and those of the namespace's quota and limits.
    type: list
    elements: dict
    required: true
  gke:
    description: What M(deepmlhub.inference.gke_credentials) returned, where the cluster was found that way.
    type: dict
  image:
    description: The image to look for in its registry. By default it is not looked for.
    type: str
  registry_url:
    description: Base address of the registry, where it is not C(https://) and the image's host.
    type: str
  google:
    description:
      - The login for an image in Artifact Registry. By default Application Default Credentials.
    type: dict
    suboptions:
      credentials_file:
        description: The JSON file of a service-account key or a workload identity configuration.
        type: path
      access_token:
        description: An OAuth access token.
        type: str
      impersonate_service_account:
        description: E-mail address of a service account to act as.
        type: str
      use_metadata_server:
        description: Use the service account of the machine or pod that this runs on.
        type: bool
        default: false
      iamcredentials_api_url:
        description: Base address of the API that gives tokens for other accounts.
        type: str
        default: https://iamcredentials.googleapis.com
      wait_timeout:
        description: Seconds within which Google and the registry must have answered.
        type: float
        default: 8.0
  request_timeout:
    description: Seconds that one HTTP request may take.
    type: float
    default: 10.0
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
attributes:
  check_mode:
    description: Changes nothing in any mode.
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
- name: Find everything that would stop the release
  deepmlhub.inference.preflight:
    namespace: ml-inference
    manifests: "{{ namespace_config_manifests + inference_workload_manifests }}"
    image: registry.example/my-project/ml/inference-api:1.4.0
  register: preflight

- name: Show the table
  ansible.builtin.debug:
    msg: "{{ preflight.table }}"
"""

RETURN = r"""
ok:
  description: Whether nothing stands in the way.
  returned: always
  type: bool
msg:
  description: The outcome in one line, with everything that stands in the way and what to do about it.
  returned: always
  type: str
  sample: Nothing stands in the way of a release
table:
  description: One line for each finding, for a person.
  returned: when the cluster answered
  type: list
  elements: str
  sample:
    - "ok    cluster version  v1.36.2-gke.1000000"
    - "FAIL  may use leases.coordination.k8s.io  may not create in namespace ml-inference"
findings:
  description: The same as data.
  returned: when the cluster answered
  type: list
  elements: dict
  contains:
    check:
      description: What was looked at.
      type: str
    ok:
      description: Whether it is as it should be; null where that is not known.
      type: bool
    required:
      description: Whether a release needs it.
      type: bool
    detail:
      description: What was found.
      type: str
    hint:
      description: What to do about it.
      type: str
"""

import os
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deepmlhub.inference.plugins.module_utils import objects, preflight, registry
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import AUTH_ARG_SPEC, connect
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.google import LOGIN_ARG_SPEC, login_with

OPTIONS = {
    "namespace": {"type": "str", "default": "ml-inference"},
    "manage_namespace": {"type": "bool", "default": True},
    "manifests": {"type": "list", "elements": "dict", "required": True},
    "gke": {"type": "dict"},
    "image": {"type": "str"},
    "registry_url": {"type": "str"},
    "google": {"type": "dict", "options": LOGIN_ARG_SPEC},
    "request_timeout": {"type": "float", "default": 10.0},
}

ARGUMENTS: dict[str, Any] = {"argument_spec": {**AUTH_ARG_SPEC, **OPTIONS}, "supports_check_mode": True}


def run(module: Any, _tell: Callable[[str], None]) -> None:
    """The module's work."""
    params = module.params
    login = params["google"] or {name: option.get("default") for name, option in LOGIN_ARG_SPEC.items()}
    look_up = {**login, "image": params["image"], "registry_url": params["registry_url"], "auth": "auto"}

    def image() -> preflight.Finding | None:
        if not params["image"]:
            return None
        return preflight.image_finding(
            params["image"], lambda: registry.image_info(look_up, lambda: login_with(login, os.environ))
        )

    wrong = objects.problems([m for m in params["manifests"] if m.get("kind") != "Namespace"], params["namespace"])
    if wrong:
        module.fail_json(ok=False, msg="; ".join(wrong))
    try:
        result = preflight.examine(
            connect(module),
            params["namespace"],
            params["manifests"],
            manage_namespace=params["manage_namespace"],
            gke=params["gke"],
            image=image,
        )
    except InferenceError as error:
        module.fail_json(ok=False, msg=str(error), **error.fields)
    for finding in result["findings"]:
        if finding["ok"] is False and not finding["required"]:
            module.warn(f"{finding['check']}: {finding['detail']}")
    if result["ok"]:
        module.exit_json(changed=False, **result)
    module.fail_json(**result)


def main() -> None:
    run(AnsibleModule(**ARGUMENTS), lambda _text: None)


if __name__ == "__main__":
    main()
