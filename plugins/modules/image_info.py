#!/usr/bin/python
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_info
short_description: Tells the digest that an image tag stands for now
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Asks an OCI registry for the manifest of an image and returns its digest, by which a release can be pinned.
  - Artifact Registry is asked with a Google token, any other registry with the anonymous token that it offers.
  - Fails in one line for a tag, an image or a permission that is missing. A missing tag is answered with those that
    are there.
options:
  image:
    description:
      - The image with its registry, C(registry.example/repository/image:tag). The tag is C(latest) by default.
      - With a digest it is checked that the registry has it.
    type: str
    required: true
  auth:
    description:
      - How to log in. V(auto) is V(google) for hosts of Artifact Registry and V(anonymous) for all others, so that a
        Google token goes to no other registry by itself.
    type: str
    choices: [auto, google, anonymous]
    default: auto
  registry_url:
    description: Base address of the registry, where it is not C(https://) and the image's host.
    type: str
notes:
  - The login needs C(roles/artifactregistry.reader) on the repository.
extends_documentation_fragment:
  - deepmlhub.inference.google
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
    description: Not part of an action group, since it does not speak to a cluster.
    support: none
"""

EXAMPLES = r"""
- name: Find out which image the tag stands for
  deepmlhub.inference.image_info:
    image: registry.example/my-project/ml/inference-api:1.4.0
  register: image

- name: Show what to pin in the inventory
  ansible.builtin.debug:
    msg: "inference_workload_image: {{ image.pinned }}"
"""

RETURN = r"""
digest:
  description: The manifest's digest.
  returned: success
  type: str
  sample: sha256:3f5a9c0e7c1b7e4f2b8f6f0d0a1c2b3d4e5f60718293a4b5c6d7e8f901234567
media_type:
  description: What the digest names, an image or an index of images for several platforms.
  returned: success
  type: str
  sample: application/vnd.oci.image.manifest.v1+json
size:
  description: Compressed bytes of the image's parts; null for an index.
  returned: success
  type: int
  sample: 184549376
pinned:
  description: The image by its digest, without the tag.
  returned: success
  type: str
  sample: registry.example/ml/inference-api@sha256:3f5a9c0e7c1b7e4f2b8f6f0d0a1c2b3d4e5f60718293a4b5c6d7e8f901234567
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deepmlhub.inference.plugins.module_utils import registry
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.google import (
    LOGIN_ARG_SPEC,
    LOGIN_EXCLUSIVE,
    login_with,
)

OPTIONS = {
    **LOGIN_ARG_SPEC,
    "image": {"type": "str", "required": True},
    "auth": {"type": "str", "choices": ["auto", "google", "anonymous"], "default": "auto"},
    "registry_url": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, mutually_exclusive=LOGIN_EXCLUSIVE, supports_check_mode=True)
    try:
        result = registry.image_info(module.params, lambda: login_with(module.params, os.environ))
    except InferenceError as error:
        module.fail_json(msg=str(error), **error.fields)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
