"""The module as Ansible runs it: a kubeconfig and arguments in, JSON and an exit code out."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.deepmlhub.inference.plugins.modules import rollout_info

from tests.unit.module_utils import rollouts
from tests.unit.module_utils.apiserver import ApiServer, status

RETURNS = set(yaml.safe_load(rollout_info.RETURN))


@pytest.fixture
def server():
    with ApiServer() as running:
        yield running


@pytest.fixture
def run(server, tmp_path, capsys):
    kubeconfig = tmp_path / "kubeconfig"
    here = {"name": "here", "context": {"cluster": "here", "user": "here"}}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "here",
                "contexts": [here],
                "clusters": [{"name": "here", "cluster": {"server": server.url}}],
                "users": [{"name": "here", "user": {"token": "hush-hush"}}],
            }
        )
    )

    def run_module(**args):
        target = {"name": "inference-api", "namespace": "ml-inference", "wait_sleep": 0.01}
        full = {"kubeconfig": str(kubeconfig), **target, **args}
        with patch_module_args(full), pytest.raises(SystemExit) as ended:
            rollout_info.main()
        said = capsys.readouterr().out
        assert "hush-hush" not in said
        return int(ended.value.code or 0), json.loads(said)

    return run_module


def play(server, name):
    recording = rollouts.load(name)
    for line in recording.lines:
        if line.resource in ("deployments", "replicasets", "pods", "events"):
            server.put(line.resource, line.change, line.object)
    server.logs.update(recording.logs)


@pytest.mark.parametrize("wait", [True, False])
def test_a_rollout_that_is_done(run, server, wait):
    play(server, "first-deploy")
    code, result = run(wait=wait)
    assert (code, result["changed"], result["verdict"]) == (0, False, "done")
    assert set(result) >= RETURNS


def test_a_failure_ends_the_wait_with_the_report(run, server):
    play(server, "crash-at-start")
    code, result = run(wait=True)
    assert (code, result["failed"], result["verdict"], result["cause"]) == (1, True, "failed", "CrashLoopBackOff")
    assert set(result) >= RETURNS
    assert "ModelError: sha256 mismatch" in result["msg"]
    assert len(result["msg"].splitlines()) <= 15


@pytest.mark.parametrize("args", [{}, {"wait": True, "_ansible_check_mode": True}])
def test_a_failure_is_told_without_failing_where_nothing_is_waited_for(run, server, args):
    play(server, "crash-at-start")
    code, result = run(**args)
    assert (code, result["verdict"], result["cause"]) == (0, "failed", "CrashLoopBackOff")
    assert not [one for one in server.requests if one.startswith("WATCH")]


@pytest.mark.parametrize("wait", [True, False])
def test_a_refusal_is_one_line_with_the_same_keys(run, server, wait):
    server.interfere = lambda _resource, _query: status(403, "Forbidden", "deployments.apps is forbidden")
    code, result = run(wait=wait)
    assert (code, result["verdict"]) == (1, None)
    assert set(result) >= RETURNS
    assert "deployments.apps is forbidden" in result["msg"]
    assert "\n" not in result["msg"]


def test_a_missing_permission_is_a_warning(run, server):
    play(server, "first-deploy")
    server.interfere = lambda resource, _query: status(403, "Forbidden", "no") if resource == "events" else None
    code, result = run()
    assert (code, result["verdict"]) == (0, "done")
    assert "list events" in result["notes"][0]
