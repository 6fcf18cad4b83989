"""Argument specs and defaults say the same, both ways; the generated pages say what their sources say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.deepmlhub.inference.plugins.action.preconditions import HANDED_ON

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.parents[1] for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_specs_and_defaults_agree_both_ways(role: Path) -> None:
    options = load(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = load(role / "defaults/main.yml")
    computed = {name for name, value in defaults.items() if str(value).startswith("{{")}
    assert {name: option["default"] for name, option in options.items() if "default" in option} == {
        name: value for name, value in defaults.items() if name not in computed
    }
    assert set(options) == set(defaults)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_interface_carries_the_role_s_name_and_constants_do_not_pass_for_it(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in load(role / "defaults/main.yml"))
    variables = role / "vars/main.yml"
    shared = {"verification_gate"}  # what deploy.yml hands on to the release
    for name in load(variables) if variables.exists() else {}:
        assert name.startswith(f"__{role.name}_") or name in shared


def test_every_variable_of_an_inventory_is_one_of_a_role() -> None:
    known = {name for role in ROLES for name in load(role / "defaults/main.yml")}
    for path in [*ROOT.glob("inventories/*/group_vars/*.yml"), ROOT / "inventories/on-sandbox.yml"]:
        ours = {name for name in load(path) if name.startswith(tuple(f"{role.name}_" for role in ROLES))}
        assert ours <= known, path
        assert ours, path


def test_what_roles_hand_on_is_not_taken_for_a_misspelt_variable() -> None:
    """A second play of the same run sees the first one's facts and results."""
    handed_on = set[str]()
    for path in (ROOT / "roles").glob("*/tasks/*.yml"):
        for task in load(path):
            handed_on |= set(task.get("ansible.builtin.set_fact", {})) | {task.get("register", "")}
    known = {name for role in ROLES for name in load(role / "defaults/main.yml")}
    handed_on = {name for name in handed_on if not name.startswith("__")} - known - {"cacheable", ""}
    assert handed_on <= HANDED_ON


def test_generated_pages_are_what_their_sources_say() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec and spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = [str(path.relative_to(ROOT)) for path, wanted in generate.pages().items() if path.read_text() != wanted]
    assert stale == [], "run: python docs/generate.py"
