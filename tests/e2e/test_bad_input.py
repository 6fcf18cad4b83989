"""Whatever cannot be meant is refused in one line that names it and the way out, before anything is written."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from .conftest import Sandbox

BAD = [
    ({"inference_workload_replicas": "many"}, "inference_workload_replicas", "int"),
    ({"inference_workload_replicas": 0}, "inference_workload_replicas is 0", "set it to 1 or more"),
    ({"inference_workload_replica": 3}, "inference_workload_replica is not a variable", "did you mean"),
    ({"inference_workload_resources": {"request": {}}}, "inference_workload_resources", "requests"),
    ({"inference_workload_resources": "big"}, "inference_workload_resources", "dict"),
    (
        {"inference_workload_resources": {"limits": {"memory": "128Mi"}}},
        "inference_workload_resources.limits.memory is 128Mi",
        "raise it or lower the request",
    ),
    ({"inference_workload_image": "registry.example/inference-api"}, "neither a tag nor a digest", "add one"),
    ({"inference_workload_image": ""}, "must be set: inference_workload_image", "group_vars/inference.yml"),
    ({"inference_workload_service_type": "Loadbalancer"}, "inference_workload_service_type", "LoadBalancer"),
    ({"inference_workload_autoscaling": {"max_replicas": 1}}, "max_replicas is 1, below min_replicas 2", "raise it"),
    ({"namespace_config_namespace": "ML_inference"}, 'namespace_config_namespace is "ML_inference"', "lower-case"),
    ({"namespace_config_data": {"PORT": "80"}}, "namespace_config_data.PORT", "from 1024 on"),
    ({"verification_golden": "nowhere.json"}, "nowhere.json, which is no file", "python -m inference_app.train"),
    ({"gcloud_credentials_kubeconfig": "/nowhere/config"}, "/nowhere/config", "gcloud_credentials_kubeconfig"),
]


@pytest.mark.parametrize(
    ("variables", "named", "remedy"), BAD, ids=[next(iter(case[0])) + str(n) for n, case in enumerate(BAD)]
)
def test_refused_before_any_write(sandbox: Sandbox, variables: dict[str, Any], named: str, remedy: str) -> None:
    run = sandbox.deploy(**variables)
    assert run.code == 2, run.out
    assert named in run.words
    assert remedy in run.words
    assert "Traceback" not in run.out
    assert sandbox.writes() == []


@pytest.mark.parametrize(
    ("text", "said"), [("a: [b", "is not YAML (line 1)"), ("kind: Config\n", "gives no usable connection")]
)
def test_a_file_that_is_no_kubeconfig(sandbox: Sandbox, text: str, said: str) -> None:
    path = sandbox.folder / "broken"
    path.write_text(text)
    run = sandbox.deploy(gcloud_credentials_kubeconfig=str(path))
    assert run.code == 2, run.out
    assert f"{path} {said}" in run.words


def test_a_refused_login_says_so_without_the_token(sandbox: Sandbox) -> None:
    path = sandbox.folder / "refused"
    config = yaml.safe_load(sandbox.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "wrong-token"}
    path.write_text(yaml.safe_dump(config))
    run = sandbox.deploy("-vvv", gcloud_credentials_kubeconfig=str(path))
    assert run.code == 2, run.out
    assert "The login was refused" in run.words
    assert "wrong-token" not in run.out


def test_a_limit_without_a_target_is_no_green_run(sandbox: Sandbox) -> None:
    run = sandbox.deploy("--limit", "localhost")
    assert run.code != 0, run.out
    run = sandbox.play("deploy.yml", "local", "--limit", "nosuch")
    assert run.code != 0, run.out


def test_an_inventory_without_targets_names_the_groups_that_exist(sandbox: Sandbox) -> None:
    path = sandbox.folder / "hosts.yml"
    path.write_text("web:\n  hosts:\n    a:\n")
    run = sandbox.play("deploy.yml", "local", "-i", str(path), "--limit", "web")
    assert run.code == 2, run.out
    assert "leaves no host of group inference (sandbox); groups that exist: inference, web" in run.words


def test_a_namespace_that_is_being_deleted(sandbox: Sandbox) -> None:
    namespaces = "/api/v1/namespaces"
    sandbox.request("POST", namespaces, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml-inference"}})
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    sandbox.request("POST", f"{namespaces}/ml-inference/configmaps", held)
    sandbox.request("DELETE", f"{namespaces}/ml-inference")
    before = len(sandbox.writes())
    run = sandbox.deploy()
    assert run.code == 2, run.out
    assert "Namespace ml-inference is being deleted" in run.words
    assert "Wait until it is gone" in run.words
    assert len(sandbox.writes()) == before
