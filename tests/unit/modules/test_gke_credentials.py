"""Each kind of credentials to each kind of endpoint: over real HTTP, with google-auth and the Kubernetes client."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from ansible_collections.deepmlhub.inference.plugins.module_utils import google as google_util
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.gke import write_credentials
from ansible_collections.deepmlhub.inference.plugins.module_utils.gke_exec import BUDGET

from sandbox.google import Fault, State
from tests.google_standin import DEPLOYER, TARGET, Time, stand_in, write

ROOT = Path(__file__).parents[3]
KINDS = ["adc", "key", "federation", "impersonation", "metadata", "token"]
ENDPOINTS = {
    "default": "https://127.0.0.1:6443",
    "internal": "https://10.0.0.2",
    "dns": "https://gke-0123456789ab-123456789012.europe-west4.gke.goog",
    "connect_gateway": "/gateway/v1/projects/123456789012/locations/europe-west4/gkeMemberships/inference",
}
ERRORS: dict[str, tuple[list[Fault], dict[str, str], list[str]]] = {
    "401": ([Fault("container", "unauthenticated")], {}, ["refused the token", "renew"]),
    "403-permission": (
        [Fault("container", "permission")],
        {},
        ["container.clusters.get", "roles/container.clusterViewer"],
    ),
    "403-disabled": ([Fault("container", "disabled")], {}, ["gcloud services enable container.googleapis.com"]),
    "403-project": ([], {"project": "other"}, ["project other", "check that the project's id is right"]),
    "404-location": ([], {"location": "us-east1"}, ["no cluster inference in us-east1", "it is in europe-west4"]),
    "404-name": ([], {"cluster": "inferense"}, ["no cluster inferense", "there are inference (europe-west4)"]),
    "429": ([Fault("container", "busy", retry_after=60)], {}, ["answered 429", "try again later"]),
    "503": ([Fault("container", "unavailable", retry_after=60)], {}, ["answered 503", "try again later"]),
    "provisioning": ([Fault("container", "provisioning")], {}, ["is PROVISIONING", "Wait until it is RUNNING"]),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[State, dict[str, str]]]:
    with stand_in() as state:
        yield state, state.add_key(DEPLOYER)


@pytest.fixture
def google(shared: tuple[State, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    state = shared[0]
    host = state.url.removeprefix("http://")
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.setenv(name, host)
    monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", host)
    yield state
    state.faults.clear()
    state.token_life = 3600
    state.cluster_fields.clear()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture
def options(google: State, tmp_path: Path) -> dict[str, Any]:
    return {
        **{name: spec.get("default") for name, spec in google_util.LOGIN_ARG_SPEC.items()},
        "iamcredentials_api_url": f"{google.url}/iamcredentials",
        "container_api_url": f"{google.url}/container",
        "connect_gateway_url": f"{google.url}/gateway",
        "project": google.project,
        "location": google.location,
        "cluster": google.cluster,
        "endpoint": "default",
        "kubeconfig": str(tmp_path / "kube" / "config"),
        "context": None,
        "namespace": None,
        "set_current_context": False,
        "prefer_google_plugin": False,
    }


@pytest.fixture
def key(shared: tuple[State, dict[str, str]], tmp_path: Path) -> str:
    return write(tmp_path / "key.json", shared[1])


def login(kind: str, google: State, key: str, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The options and the environment of a kind of credentials."""
    if kind == "adc":
        return {}, {"GOOGLE_APPLICATION_CREDENTIALS": key}
    if kind == "key":
        return {"credentials_file": key}, {}
    if kind == "federation":
        config = google.external_account(google.github_source(), TARGET)
        return {"credentials_file": write(folder / "federation.json", config)}, {}
    if kind == "impersonation":
        return {"credentials_file": key, "impersonate_service_account": TARGET}, {}
    if kind == "metadata":
        return {"use_metadata_server": True}, {}
    return {"access_token": google.grant(DEPLOYER)[0]}, {}


def run(
    options: dict[str, Any],
    environ: dict[str, str] | None = None,
    check_mode: bool = False,
    clock: Time | None = None,
) -> dict[str, Any]:
    base = {name: os.environ[name] for name in ("PATH", "GCE_METADATA_HOST", "GCE_METADATA_IP")}
    times = {"clock": clock.monotonic, "sleep": clock.sleep} if clock else {}
    return write_credentials(options, {**base, **(environ or {})}, sys.executable, check_mode=check_mode, **times)


def entry(result: dict[str, Any], section: str) -> Any:
    data = yaml.safe_load(Path(result["kubeconfig"]).read_text())
    return next(found[section[:-1]] for found in data[section] if found["name"] == result["context"])


def token_from(result: dict[str, Any]) -> str:
    """What the kubeconfig's user entry gives to a client that runs it."""
    program = entry(result, "users")["exec"]
    added = {item["name"]: item["value"] for item in program.get("env") or []}
    command = [program["command"], *program["args"]]
    done = subprocess.run(command, env={**os.environ, **added}, capture_output=True, text=True, check=True, timeout=30)
    return str(json.loads(done.stdout)["status"]["token"])


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("kind", KINDS)
def test_credentials_of_each_kind_reach_each_endpoint(
    kind: str, endpoint: str, google: State, options: dict[str, Any], key: str, tmp_path: Path
) -> None:
    given, environ = login(kind, google, key, tmp_path)
    options.update(given, endpoint=endpoint)
    result = run(options, environ)
    assert result["changed"]
    assert result["server"].removeprefix(google.url) == ENDPOINTS[endpoint]
    assert result["context"] == "gke_demo-project_europe-west4_inference"
    assert result["workload_pool"] == "demo-project.svc.id.goog"
    written = entry(result, "clusters")
    assert ("certificate-authority-data" in written) == (endpoint in ("default", "internal"))
    assert google.user_of(token_from(result)) == (TARGET if kind in ("federation", "impersonation") else DEPLOYER)
    assert not run(options, environ, check_mode=True)["changed"]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for token in google.grants:
        assert token not in Path(result["kubeconfig"]).read_text() + json.dumps(result)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_error_is_one_line_that_says_what_is_missing(
    kind: str,
    endpoint: str,
    error: str,
    google: State,
    options: dict[str, Any],
    key: str,
    tmp_path: Path,
    clock: Time,
) -> None:
    faults, wrong, words = ERRORS[error]
    given, environ = login(kind, google, key, tmp_path)
    options.update(given, endpoint=endpoint, **wrong)
    google.faults += faults
    start = clock.now
    with pytest.raises(InferenceError) as caught:
        run(options, environ, clock=clock)
    assert clock.now - start < BUDGET
    said = str(caught.value)
    assert [word for word in words if word not in said] == [], said
    assert "\n" not in said
    assert not any(token in said + json.dumps(caught.value.fields) for token in google.grants)
    assert not Path(options["kubeconfig"]).exists()


def test_an_expired_key_is_told_as_such(google: State, options: dict[str, Any], key: str) -> None:
    google.faults.append(Fault("token", "expired-key"))
    with pytest.raises(InferenceError, match=r"Invalid JWT Signature.*The key has expired"):
        run({**options, "credentials_file": key})


def test_a_long_failing_login_leaves_time_for_no_more_than_the_budget(
    google: State, options: dict[str, Any], key: str, clock: Time
) -> None:
    google.faults += [Fault("token", "unavailable", times=2), Fault("container", "busy", retry_after=2)]
    start = clock.now
    with pytest.raises(InferenceError, match="answered 429"):
        run({**options, "credentials_file": key}, clock=clock)
    assert 3 < clock.now - start <= BUDGET


def test_check_mode_tells_the_truth_and_writes_nothing(
    google: State, options: dict[str, Any], key: str, tmp_path: Path
) -> None:
    for given in ({"credentials_file": key}, {"access_token": google.grant(DEPLOYER)[0]}):
        before = sorted(tmp_path.rglob("*"))
        predicted = run({**options, **given}, check_mode=True)
        assert sorted(tmp_path.rglob("*")) == before
        assert predicted == run({**options, **given})
        assert not run({**options, **given}, check_mode=True)["changed"]
        options["kubeconfig"] += "2"


def test_the_diff_shows_the_server_and_no_certificate(google: State, options: dict[str, Any], key: str) -> None:
    options["credentials_file"] = key
    first = run(options)["diff"]
    assert (first["before"], "https://127.0.0.1:6443" in first["after"]) == ("", True)
    assert google.cluster_json()["masterAuth"]["clusterCaCertificate"] not in first["after"]
    google.cluster_fields["controlPlaneEndpointsConfig"] = {"ipEndpointsConfig": {"publicEndpoint": "192.0.2.7"}}
    second = run(options)["diff"]
    assert "https://127.0.0.1:6443" in second["before"]
    assert "https://192.0.2.7" in second["after"]


def test_a_corrupt_kubeconfig_is_refused_before_anything_is_asked(google: State, options: dict[str, Any]) -> None:
    path = Path(options["kubeconfig"])
    path.parent.mkdir()
    path.write_text("clusters: [")
    issued = len(google.grants)
    with pytest.raises(InferenceError, match="not YAML"):
        run({**options, "use_metadata_server": True})
    assert path.read_text() == "clusters: ["
    assert len(google.grants) == issued


def test_the_file_behind_a_link_is_edited_and_its_mode_made_private(options: dict[str, Any], tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "config", Path(options["kubeconfig"])
    real.parent.mkdir()
    link.parent.mkdir()
    real.write_text("# mine\nkind: Config\ncurrent-context: other\n")
    real.chmod(0o644)
    link.symlink_to(real)
    result = run({**options, "use_metadata_server": True})
    assert link.is_symlink()
    assert real.read_text().startswith("# mine\n")
    assert yaml.safe_load(real.read_text())["current-context"] == "other"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert result["kubeconfig"] == str(real)
    real.chmod(0o640)
    assert run({**options, "use_metadata_server": True})["changed"]


def test_a_folder_that_cannot_be_made_is_told(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "kube").write_text("a file")
    with pytest.raises(InferenceError, match="cannot be read: Not a directory"):
        run({**options, "use_metadata_server": True})


def test_many_at_once_lose_nothing(google: State, options: dict[str, Any]) -> None:
    contexts = [f"target-{number}" for number in range(4)]

    def one(context: str) -> None:
        run({**options, "use_metadata_server": True, "context": context})

    threads = [threading.Thread(target=one, args=[context]) for context in contexts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = yaml.safe_load(Path(options["kubeconfig"]).read_text())
    assert sorted(found["name"] for found in data["contexts"]) == contexts


def test_the_program_s_own_words_are_reported(
    google: State, options: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.faults.append(Fault("token", "expired-key", times=None))
    monkeypatch.setattr(
        google_util, "fetch_token", lambda *_: google_util.gke_exec.Token(google.grant("x")[0], 0, 1, "")
    )
    with pytest.raises(InferenceError, match=r"credential program .* gives no token: Google refused .*Invalid JWT"):
        run({**options, "credentials_file": key})


def test_google_s_plugin_is_used_where_it_is_there_and_wanted(
    options: dict[str, Any], key: str, tmp_path: Path
) -> None:
    """A program of that name that prints what Google's prints."""
    answer = {
        "kind": "ExecCredential",
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "spec": {"interactive": False},
        "status": {"expirationTimestamp": "2030-01-01T00:00:00Z", "token": "theirs"},
    }
    folder = tmp_path / "bin"
    folder.mkdir()
    plugin = folder / "gke-gcloud-auth-plugin"
    plugin.write_text(f"#!/bin/sh\n[ -n \"$GOOGLE_APPLICATION_CREDENTIALS\" ] && echo '{json.dumps(answer)}'\n")
    plugin.chmod(0o700)
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    options.update(credentials_file=key, prefer_google_plugin=True)
    result = run(options, path)
    assert result["credential_program"] == str(plugin)
    assert token_from(result) == "theirs"
    ours = run({**options, "access_token": None, "impersonate_service_account": TARGET}, path)
    assert ours["credential_program"].endswith("deepmlhub-gke-exec.py")


def test_the_python_client_logs_in_by_the_kubeconfig_and_outlives_a_token(
    google: State, options: dict[str, Any], key: str
) -> None:
    google.token_life = 60
    result = run({**options, "credentials_file": key})
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(result["kubeconfig"], client_configuration=configuration)
    seen = set()
    for _ in range(2):
        value = configuration.auth_settings()["BearerToken"]["value"].removeprefix("Bearer ")
        assert google.user_of(value) == DEPLOYER
        seen.add(value)
        google.grants[value].expiry = 0
        cached = next((Path(result["kubeconfig"]).parent / "cache" / "deepmlhub-gke").iterdir())
        kept = json.loads(cached.read_text())
        cached.write_text(json.dumps({**kept, "expiry": kept["issued"]}))
    assert len(seen) == 2


def ansible(options: dict[str, Any], folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the module as a user would."""
    environ = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "ansible"),
        "ANSIBLE_CACHE_PLUGIN": "jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(folder / "facts"),
    }
    arguments = json.dumps({name: value for name, value in options.items() if value is not None})
    command = [str(Path(sys.executable).parent / "ansible"), "localhost", "-i", "localhost,", "-c", "local"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    command += ["-m", "deepmlhub.inference.gke_credentials", "-a", arguments, *more]
    return subprocess.run(command, env=environ, capture_output=True, text=True, cwd=folder, timeout=120)


def test_as_a_task_nothing_leaks_however_loud(google: State, options: dict[str, Any], tmp_path: Path) -> None:
    secret = google.grant(DEPLOYER)[0]
    options["access_token"] = secret
    good = ansible(options, tmp_path, "--diff", "-vvvv")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "https://127.0.0.1:6443" in good.stdout
    google.faults.append(Fault("container", "permission"))
    bad = ansible(options, tmp_path, "--diff", "-vvvv")
    assert bad.returncode == 2
    assert "roles/container.clusterViewer" in bad.stdout
    for said in (good.stdout, good.stderr, bad.stdout, bad.stderr):
        assert "Traceback" not in said
        assert not any(token in said for token in google.grants)
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_relative_to(tmp_path / "kube" / "cache"):
            assert secret not in path.read_text(), path
