"""The modules around Google say in their documentation what their arguments are."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.deepmlhub.inference.plugins.doc_fragments.google import ModuleDocFragment
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import AUTH_ARG_SPEC
from ansible_collections.deepmlhub.inference.plugins.modules import (
    gke_credentials,
    image_build,
    image_info,
    preflight,
    workload_identity,
)

FRAGMENT = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
KEYS = ("type", "default", "required", "choices", "elements", "aliases")


def facts(options: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, option in options.items():
        found[name] = {key: option.get(key) for key in KEYS}
        found[name]["required"] = bool(option.get("required"))
        found[name]["options"] = facts(option.get("suboptions") or option.get("options") or {})
    return found


@pytest.mark.parametrize("module", [gke_credentials, image_build, image_info, preflight, workload_identity])
def test_the_documentation_says_what_the_arguments_are(module: Any) -> None:
    written = yaml.safe_load(module.DOCUMENTATION)
    options = dict(written["options"])
    if "deepmlhub.inference.google" in written["extends_documentation_fragment"]:
        options.update(FRAGMENT)
    assert facts(options) == facts(module.OPTIONS)


@pytest.mark.parametrize("module", [gke_credentials, image_build, image_info, preflight, workload_identity])
def test_examples_and_return_values_are_yaml_and_examples_use_known_options(module: Any) -> None:
    known = {*module.OPTIONS, *AUTH_ARG_SPEC}
    name = f"deepmlhub.inference.{module.__name__.rpartition('.')[2]}"
    used = [task[name] for task in yaml.safe_load(module.EXAMPLES) if name in task]
    assert used
    assert [option for task in used for option in task if option not in known] == []
    assert all("description" in value for value in yaml.safe_load(module.RETURN).values())


@pytest.mark.parametrize("module", [gke_credentials, image_build, image_info, workload_identity])
def test_a_token_among_the_arguments_is_never_logged(module: Any) -> None:
    assert module.OPTIONS["access_token"]["no_log"]
    assert preflight.OPTIONS["google"]["options"]["access_token"]["no_log"]
