#!/usr/bin/python
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: gke_credentials
short_description: Writes the kubeconfig entry of a GKE cluster, without gcloud
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Looks the cluster up in Google's container API and merges a cluster, a user and a context into a kubeconfig, as
    C(gcloud container clusters get-credentials) does. Neither gcloud nor kubectl is needed.
  - All other entries of the file stay, and so do comments. A file that is no kubeconfig is refused and left as it is.
    The file is replaced at once and has mode 0600.
  - The user entry runs a small program of this collection, of which a copy is put beside the kubeconfig as
    C(deepmlhub-gke-exec.py). kubectl and the Kubernetes clients run it for a token whenever they need one, also hours
    later. It keeps tokens in C(cache/deepmlhub-gke) beside the kubeconfig, mode 0600, and renews them early.
  - The program is run once, so that a login that does not work is told here and not as a refusal by the cluster.
  - A failure is one line that names what is missing - the permission and its role, the API to enable, or the clusters
    that do exist.
options:
  project:
    description: Id of the Google Cloud project.
    type: str
    required: true
  location:
    description: Region or zone of the cluster.
    type: str
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
    aliases: [name]
  endpoint:
    description:
      - The address by which to reach the cluster. V(default) is the public address, or the DNS name of a cluster that
        has no public address.
      - With V(dns) and V(connect_gateway) the entry carries no certificate authority, since a public one signs them.
    type: str
    choices: [default, internal, dns, connect_gateway]
    default: default
  kubeconfig:
    description:
      - File to write. By default the first one in E(KUBECONFIG), else C(~/.kube/config).
    type: path
  context:
    description: Name of context, cluster and user. By default as gcloud names them, C(gke_PROJECT_LOCATION_CLUSTER).
    type: str
  namespace:
    description: Namespace of the context. By default what the context has already.
    type: str
  set_current_context:
    description: Whether to make it the current context. A file that has none gets it in any case.
    type: bool
    default: false
  prefer_google_plugin:
    description:
      - Whether the user entry shall run C(gke-gcloud-auth-plugin), where that is on the E(PATH) and can use the login.
        It cannot with O(access_token) and O(impersonate_service_account).
    type: bool
    default: false
  container_api_url:
    description: Base address of the container API.
    type: str
    default: https://container.googleapis.com
  connect_gateway_url:
    description: Base address of the Connect gateway. By default the one of the fleet membership's location.
    type: str
notes:
  - The login needs C(roles/container.clusterViewer) in the project, C(container.clusters.connect) for a DNS name, and
    C(roles/gkehub.gatewayEditor) for the Connect gateway. What it may do in the cluster, the cluster's roles say.
  - No token is ever returned, shown in a diff, or written into the kubeconfig.
extends_documentation_fragment:
  - deepmlhub.inference.google
attributes:
  check_mode:
    description: Asks Google as usual and writes nothing.
    support: full
  diff_mode:
    description: Shows the entry, with certificates as hashes and without any secret.
    support: full
  idempotent:
    description: Reports no change when the files are as they should be. A token in the cache is no change.
    support: full
  action_group:
    description: Not part of an action group, since it does not speak to a cluster.
    support: none
"""

EXAMPLES = r"""
- name: Let this machine reach the cluster as its own service account
  deepmlhub.inference.gke_credentials:
    project: my-project
    location: europe-west4
    cluster: inference

- name: Let a CI job reach it by workload identity federation, by the cluster's DNS name
  deepmlhub.inference.gke_credentials:
    project: my-project
    location: europe-west4
    cluster: inference
    credentials_file: "{{ lookup('ansible.builtin.env', 'GOOGLE_APPLICATION_CREDENTIALS') }}"
    impersonate_service_account: deployer@my-project.iam.gserviceaccount.com
    endpoint: dns
    kubeconfig: "{{ playbook_dir }}/build/kubeconfig"
  register: gke
"""

RETURN = r"""
kubeconfig:
  description: The file that holds the entry.
  returned: success
  type: str
  sample: /home/me/.kube/config
context:
  description: Name of the context.
  returned: success
  type: str
  sample: gke_my-project_europe-west4_inference
endpoint:
  description: The kind of address that was found; V(dns) also where there was no public one.
  returned: success
  type: str
  sample: default
server:
  description: The address of the cluster's API.
  returned: success
  type: str
  sample: https://203.0.113.10
account:
  description: The e-mail address that the cluster's role bindings must name; empty where only Google knows it.
  returned: success
  type: str
  sample: deployer@my-project.iam.gserviceaccount.com
cluster_version:
  description: Version of the control plane.
  returned: success
  type: str
  sample: 1.36.2-gke.1000000
cluster_status:
  description: What the container API says of the cluster.
  returned: success
  type: str
  sample: RUNNING
autopilot:
  description: Whether it is an Autopilot cluster.
  returned: success
  type: bool
workload_pool:
  description: The workload identity pool; empty where the cluster has none.
  returned: success
  type: str
  sample: my-project.svc.id.goog
credential_program:
  description: The program that the user entry runs for a token.
  returned: success
  type: str
  sample: /home/me/.kube/deepmlhub-gke-exec.py
"""

import os
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.gke import write_credentials
from ansible_collections.deepmlhub.inference.plugins.module_utils.google import (
    CONTAINER_URL,
    ENDPOINTS,
    LOGIN_ARG_SPEC,
    LOGIN_EXCLUSIVE,
)

OPTIONS = {
    **LOGIN_ARG_SPEC,
    "project": {"type": "str", "required": True},
    "location": {"type": "str", "required": True},
    "cluster": {"type": "str", "required": True, "aliases": ["name"]},
    "endpoint": {"type": "str", "choices": list(ENDPOINTS), "default": "default"},
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "namespace": {"type": "str"},
    "set_current_context": {"type": "bool", "default": False},
    "prefer_google_plugin": {"type": "bool", "default": False},
    "container_api_url": {"type": "str", "default": CONTAINER_URL},
    "connect_gateway_url": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, mutually_exclusive=LOGIN_EXCLUSIVE, supports_check_mode=True)
    try:
        result = write_credentials(module.params, os.environ, sys.executable, check_mode=module.check_mode)
    except InferenceError as error:
        module.fail_json(msg=str(error), **error.fields)
    if warning := result.pop("warning"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
