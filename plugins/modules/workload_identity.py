#!/usr/bin/python
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: workload_identity
short_description: Lets a Kubernetes ServiceAccount act as a Google service account
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Puts a Kubernetes ServiceAccount into a binding of a Google service account's IAM policy, or takes it out.
  - Everything else in the policy stays. It is written with the etag that was read, and read again when somebody else
    was faster.
  - The ServiceAccount itself needs the annotation C(iam.gke.io/gcp-service-account) with the e-mail address.
options:
  state:
    description: Whether the ServiceAccount holds the role.
    type: str
    choices: [present, absent]
    default: present
  project:
    description: Id of the project that owns the Google service account.
    type: str
    required: true
  google_service_account:
    description: E-mail address of the Google service account.
    type: str
    required: true
  workload_pool:
    description: The cluster's workload identity pool, C(PROJECT.svc.id.goog).
    type: str
    required: true
  namespace:
    description: Namespace of the Kubernetes ServiceAccount.
    type: str
    default: ml-inference
  service_account:
    description: Name of the Kubernetes ServiceAccount.
    type: str
    default: inference-api
  project_number:
    description:
      - Number of the project that owns the pool. With it the direct principal is bound, instead of the classic member
        C(serviceAccount:POOL[NAMESPACE/NAME]).
    type: str
  role:
    description: The role to hold on the Google service account.
    type: str
    default: roles/iam.workloadIdentityUser
  iam_api_url:
    description: Base address of the IAM API.
    type: str
    default: https://iam.googleapis.com
notes:
  - The login needs C(roles/iam.serviceAccountAdmin) on the Google service account.
  - A change takes minutes to reach every part of Google.
extends_documentation_fragment:
  - deepmlhub.inference.google
attributes:
  check_mode:
    description: Reads the policy and says what would change.
    support: full
  diff_mode:
    description: Shows who holds the role.
    support: full
  idempotent:
    description: Writes nothing when the policy is as wanted.
    support: full
  action_group:
    description: Not part of an action group, since it does not speak to a cluster.
    support: none
"""

EXAMPLES = r"""
- name: Let the inference API read its model's bucket as a Google service account
  deepmlhub.inference.workload_identity:
    project: my-project
    google_service_account: inference@my-project.iam.gserviceaccount.com
    workload_pool: my-project.svc.id.goog
"""

RETURN = r"""
member:
  description: The member that is in the binding, or was taken out of it.
  returned: success
  type: str
  sample: serviceAccount:my-project.svc.id.goog[ml-inference/inference-api]
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deepmlhub.inference.plugins.module_utils import workload_identity as wi
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.google import (
    IAM_URL,
    LOGIN_ARG_SPEC,
    LOGIN_EXCLUSIVE,
    Google,
    login_with,
)

OPTIONS = {
    **LOGIN_ARG_SPEC,
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "project": {"type": "str", "required": True},
    "google_service_account": {"type": "str", "required": True},
    "workload_pool": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "ml-inference"},
    "service_account": {"type": "str", "default": "inference-api"},
    "project_number": {"type": "str"},
    "role": {"type": "str", "default": wi.ROLE},
    "iam_api_url": {"type": "str", "default": IAM_URL},
}


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, mutually_exclusive=LOGIN_EXCLUSIVE, supports_check_mode=True)
    params = module.params
    spot = (params["workload_pool"], params["namespace"], params["service_account"])
    number = params["project_number"]
    member = wi.principal(number, *spot) if number else wi.classic_member(*spot)
    try:
        token = login_with(params, os.environ)
        result = wi.bind(
            Google(token.value, token.account, budget=params["wait_timeout"]),
            params["iam_api_url"],
            params["project"],
            params["google_service_account"],
            member,
            role=params["role"],
            present=params["state"] == "present",
            check_mode=module.check_mode,
        )
    except InferenceError as error:
        module.fail_json(msg=str(error), **error.fields)
    header = f"{params['role']} on {params['google_service_account']}"
    diff = {name: "".join(f"{found}\n" for found in result[name]) for name in ("before", "after")}
    diff.update(before_header=header, after_header=header)
    module.exit_json(changed=result["changed"], member=member, diff=diff)


if __name__ == "__main__":
    main()
