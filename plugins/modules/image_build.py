#!/usr/bin/python
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Builds the image, pushes it, and tells the digest to pin
version_added: 0.1.0
author: deepmlhub (@deepmlhub)
description:
  - Builds a Dockerfile with docker, podman or buildah, whichever works, and pushes the image.
  - Tags it with the short hash of the git commit. A tree that holds more than the commit gets C(-dirty) behind it.
  - An image of a clean commit that the registry has already is not built again.
options:
  image:
    description: The image with its registry, without a tag.
    type: str
    required: true
  context:
    description: Folder to build from.
    type: path
    required: true
  dockerfile:
    description: The Dockerfile. By default the one in O(context).
    type: path
  tag:
    description: Tag to use instead of the git revision.
    type: str
  build_args:
    description: Build arguments. They are visible in the image's history, so none may be a secret.
    type: dict
  builder:
    description: The program to build with. V(auto) is the first one that works.
    type: str
    choices: [auto, docker, podman, buildah]
    default: auto
  build_timeout:
    description: Seconds that the build may take, and again the push.
    type: float
    default: 1800.0
  auth:
    description:
      - How to log in to the registry. V(auto) is V(google) for hosts of Artifact Registry and V(anonymous) for all
        others; V(anonymous) leaves the login to the builder's own configuration.
    type: str
    choices: [auto, google, anonymous]
    default: auto
  registry_url:
    description: Base address of the registry for look-ups, where it is not C(https://) and the image's host.
    type: str
notes:
  - The login needs C(roles/artifactregistry.writer) on the repository.
extends_documentation_fragment:
  - deepmlhub.inference.google
attributes:
  check_mode:
    description: Looks for the image and for a builder, and builds nothing.
    support: full
  diff_mode:
    description: An image is nothing to show.
    support: none
  idempotent:
    description: A clean commit is built and pushed once.
    support: full
  action_group:
    description: Not part of an action group, since it does not speak to a cluster.
    support: none
"""

EXAMPLES = r"""
- name: Build the image of this commit, if nobody has
  deepmlhub.inference.image_build:
    image: registry.example/my-project/ml/inference-api
    context: "{{ playbook_dir }}/.."
  register: image

- name: Show what to pin
  ansible.builtin.debug:
    msg: "inference_workload_image: {{ image.pinned }}"
"""

RETURN = r"""
image:
  description: The image with its tag.
  returned: success
  type: str
  sample: registry.example/my-project/ml/inference-api:3f5a9c0e7c1b
digest:
  description: The digest of what was pushed, or was there already; empty in check mode before a build.
  returned: success
  type: str
  sample: sha256:3f5a9c0e7c1b7e4f2b8f6f0d0a1c2b3d4e5f60718293a4b5c6d7e8f901234567
pinned:
  description: The image by its digest, as an inventory pins it.
  returned: success
  type: str
  sample: registry.example/ml/inference-api@sha256:3f5a9c0e7c1b7e4f2b8f6f0d0a1c2b3d4e5f60718293a4b5c6d7e8f901234567
builder:
  description: The program that has built it; null where the registry had it already.
  returned: success
  type: str
  sample: buildah
output:
  description: The last lines of the builder.
  returned: when the builder fails
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.google import (
    LOGIN_ARG_SPEC,
    LOGIN_EXCLUSIVE,
    login_with,
)
from ansible_collections.deepmlhub.inference.plugins.module_utils.image import make

OPTIONS = {
    **LOGIN_ARG_SPEC,
    "image": {"type": "str", "required": True},
    "context": {"type": "path", "required": True},
    "dockerfile": {"type": "path"},
    "tag": {"type": "str"},
    "build_args": {"type": "dict"},
    "builder": {"type": "str", "choices": ["auto", "docker", "podman", "buildah"], "default": "auto"},
    "build_timeout": {"type": "float", "default": 1800.0},
    "auth": {"type": "str", "choices": ["auto", "google", "anonymous"], "default": "auto"},
    "registry_url": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, mutually_exclusive=LOGIN_EXCLUSIVE, supports_check_mode=True)
    try:
        result = make(
            module.params, os.environ, lambda: login_with(module.params, os.environ), check_mode=module.check_mode
        )
    except InferenceError as error:
        module.fail_json(msg=str(error), **error.fields)
    if result["image"].endswith("-dirty"):
        module.warn("The checkout holds changes that are in no commit, and so does the image")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
