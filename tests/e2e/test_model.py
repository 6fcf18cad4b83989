"""A model from outside: fetched and checked by an init container, refused when it is not the one that was named."""

from __future__ import annotations

import json

from .conftest import CHECKOUT, Sandbox


def test_a_model_from_outside_serves_and_a_wrong_one_is_named(sandbox: Sandbox) -> None:
    # Relative to the image's working directory, where the default model lies.
    golden = CHECKOUT / "models" / "default" / "golden.json"
    sha256 = json.loads(golden.read_text())["model"]["sha256"]
    named = {"inference_workload_model_uri": "models/default"}
    run = sandbox.deploy(inference_workload_model_sha256=sha256, **named)
    assert run.code == 0, run.out
    pod = sandbox.object("deployments")["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["initContainers"]] == ["fetch-model"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in pod["containers"][0]["volumeMounts"]
    assert sandbox.predict()[0] == 200
    run = sandbox.deploy(inference_workload_model_sha256="0" * 64, **named)
    assert run.code == 2, run.out
    assert "CrashLoopBackOff" in run.words
    assert "container fetch-model" in run.words
    assert f"the model's sha256 is {sha256}" in run.words
    assert "was restored, is healthy and passed its gate" in run.words


def test_prod_wants_a_model_from_outside_named_by_its_hash(sandbox: Sandbox) -> None:
    before = len(sandbox.writes())
    run = sandbox.deploy(inference_workload_model_uri="gs://models/wine", inference_workload_model_sha256_required=True)
    assert run.code == 2, run.out
    assert "inference_workload_model_sha256 is not set" in run.words
    assert len(sandbox.writes()) == before
