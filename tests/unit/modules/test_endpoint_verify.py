"""The module as Ansible runs it: a kubeconfig and arguments in, JSON and an exit code out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.deepmlhub.inference.plugins.module_utils.gate import GATE_ARG_SPEC
from ansible_collections.deepmlhub.inference.plugins.modules import endpoint_verify

from tests.unit.endpoint_world import GOLDEN, World, app

RETURNS = set(yaml.safe_load(endpoint_verify.RETURN))


@pytest.fixture
def world() -> Iterator[World]:
    found = World()
    yield found
    found.close()


@pytest.fixture
def run(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "clusters": [{"name": "test", "cluster": {"server": world.api.url}}],
                "users": [{"name": "test", "user": {"token": "hush-hush"}}],
            }
        )
    )

    def run_module(**args: Any) -> tuple[int, dict[str, Any]]:
        full = {"kubeconfig": str(kubeconfig), "golden": GOLDEN, "wait_timeout": 20, **args}
        with patch_module_args(full), pytest.raises(SystemExit) as ended:
            endpoint_verify.main()
        said = capsys.readouterr().out
        assert "hush-hush" not in said
        return int(ended.value.code or 0), json.loads(said)

    return run_module


def test_a_right_endpoint_is_no_change(run: Any) -> None:
    code, result = run()
    assert (code, result["changed"], result["ok"]) == (0, False, True)
    assert set(result) >= RETURNS


def test_a_wrong_prediction_fails_with_the_same_keys(run: Any, world: World) -> None:
    world.apps["a"] = world.apps["b"] = app("a", wrong=True)
    code, result = run()
    assert (code, result["failed"], result["ok"]) == (1, True, False)
    assert "expected 0, received 2" in result["msg"] and set(result) >= RETURNS


def test_what_does_not_exist_yet_is_not_checked_in_check_mode(run: Any, world: World) -> None:
    world.service = None
    code, result = run(_ansible_check_mode=True)
    assert (code, result["changed"], result["checked"]) == (0, False, False)
    assert "not checked in check mode" in result["msg"].lower() and set(result) >= RETURNS


def test_check_mode_asks_what_exists(run: Any, world: World) -> None:
    world.apps["a"] = world.apps["b"] = app("a", wrong=True)
    assert run(_ansible_check_mode=True)[0] == 1


def test_a_golden_file_that_is_missing_is_named_with_the_same_keys(run: Any, tmp_path: Path, world: World) -> None:
    code, result = run(golden=str(tmp_path / "absent.json"))
    assert code == 1 and set(result) >= RETURNS and world.requests == []
    assert str(tmp_path / "absent.json") in result["msg"] and "python -m inference_app.train" in result["msg"]


def test_a_golden_file_is_read(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    path.write_text(json.dumps(GOLDEN))
    assert run(golden=str(path))[0] == 0


def test_an_unusable_kubeconfig_is_one_line(run: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("{")
    code, result = run(kubeconfig=str(broken))
    assert code == 1 and set(result) >= RETURNS and "\n" not in result["msg"] and "is not YAML" in result["msg"]


def test_the_autoscalers_warning_reaches_the_person(run: Any, world: World) -> None:
    world.add_hpa(measured=None, reason="FailedGetResourceMetric", message="no metrics returned")
    code, result = run()
    # Ansible keeps warnings for the whole process and says each once, so the result itself is asked.
    assert code == 0 and "no metrics returned" in json.dumps(result["notes"])


def documented(options: dict[str, Any]) -> dict[str, Any]:
    """What documentation and argument spec must agree on."""
    return {
        name: {
            "type": option.get("type", "str"),
            "default": option.get("default"),
            "required": option.get("required", False),
            "choices": option.get("choices"),
            "options": documented(option.get("suboptions") or option.get("options") or {}),
        }
        for name, option in options.items()
    }


def test_the_documentation_says_what_the_arguments_are() -> None:
    written = documented(yaml.safe_load(endpoint_verify.DOCUMENTATION)["options"])
    assert written == documented({**GATE_ARG_SPEC, "namespace": endpoint_verify.OPTIONS["namespace"]})
