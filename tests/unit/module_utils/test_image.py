"""Building and pushing: with the real buildah and a real registry where they are, and which builder is taken."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils import image
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.gke_exec import Token
from ansible_collections.deepmlhub.inference.plugins.module_utils.image import Done

from tests.google_standin import DEPLOYER, stand_in

needs_builder = pytest.mark.skipif(
    not (shutil.which("buildah") and shutil.which("docker-registry")), reason="buildah or docker-registry is missing"
)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A git checkout with a Dockerfile on a base image made for the test: nothing at all."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nARG WHO=nobody\nLABEL who=$WHO\nCOPY hello /hello\n")
    (folder / "hello").write_text("hello\n")
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    return folder


@pytest.fixture
def registry_host(tmp_path: Path) -> Iterator[str]:
    """A real registry on a free loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
    config = tmp_path / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    config.write_text(
        json.dumps({"version": 0.1, "log": {"level": "error"}, "storage": storage, "http": {"addr": host}})
    )
    server = subprocess.Popen(["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                httpx.get(f"http://{host}/v2/", timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield host
    finally:
        server.kill()
        server.wait()


def options(context: Path, host: str, **more: Any) -> dict[str, Any]:
    return {
        "image": f"{host}/ml/inference-api",
        "context": str(context),
        "dockerfile": None,
        "tag": None,
        "build_args": None,
        "builder": "auto",
        "build_timeout": 120.0,
        "auth": "auto",
        "registry_url": None,
        "wait_timeout": 8.0,
        **more,
    }


def no_login() -> Token:
    raise AssertionError("no Google token is wanted here")


@pytest.fixture
def rootless(tmp_path: Path) -> dict[str, str]:
    """An environment in which buildah needs no privilege and leaves nothing behind."""
    storage = tmp_path / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
    return {**os.environ, "BUILDAH_ISOLATION": "chroot", "CONTAINERS_STORAGE_CONF": str(storage)}


@needs_builder
def test_the_image_of_a_commit_is_built_and_pushed_once(
    context: Path, registry_host: str, rootless: dict[str, str]
) -> None:
    wanted = options(context, registry_host, builder="buildah", build_args={"WHO": "me"})
    predicted = image.make(wanted, rootless, no_login, check_mode=True)
    made = image.make(wanted, rootless, no_login, check_mode=False)
    assert (predicted["changed"], predicted["image"], predicted["builder"]) == (True, made["image"], "buildah")
    head = subprocess.run(["git", "-C", str(context), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert made["image"] == f"{registry_host}/ml/inference-api:{head.stdout[:12]}"
    manifest = httpx.get(
        f"http://{registry_host}/v2/ml/inference-api/manifests/{made['digest']}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    ).json()
    config = httpx.get(f"http://{registry_host}/v2/ml/inference-api/blobs/{manifest['config']['digest']}").json()
    assert config["config"]["Labels"]["who"] == "me"
    again = image.make(wanted, rootless, no_login, check_mode=False)
    assert (again["changed"], again["digest"], again["builder"]) == (False, made["digest"], None)
    (context / "hello").write_text("changed\n")
    dirty = image.make(wanted, rootless, no_login, check_mode=False)
    assert dirty["image"].endswith("-dirty")
    assert dirty["digest"] != made["digest"]


@needs_builder
def test_a_build_that_fails_is_quoted(context: Path, registry_host: str, rootless: dict[str, str]) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY absent /absent\n")
    with pytest.raises(InferenceError, match=r"buildah cannot build .*absent") as caught:
        image.make(options(context, registry_host, builder="buildah"), rootless, no_login, check_mode=False)
    assert caught.value.fields["output"]


def test_the_first_builder_that_works_is_taken(tmp_path: Path) -> None:
    for name in ("docker", "podman"):
        (tmp_path / name).touch(mode=0o700)

    def run(command: Sequence[str], environ: Mapping[str, str], seconds: float) -> Done:
        return Done(1, "", "x\nno daemon\n") if command[0] == "docker" else Done(0, "5", "")

    environ = {"PATH": str(tmp_path)}
    assert image.choose("auto", environ, run).name == "podman"
    with pytest.raises(InferenceError, match=r"docker does not work \(no daemon\)\. Install"):
        image.choose("docker", environ, run)
    with pytest.raises(InferenceError, match="buildah is not installed"):
        image.choose("buildah", environ, run)


def test_where_no_builder_is_each_is_named(context: Path, tmp_path: Path) -> None:
    with pytest.raises(InferenceError) as caught:
        image.choose("auto", {"PATH": str(tmp_path)}, image.run_command)
    reasons = "docker is not installed; podman is not installed; buildah is not installed"
    assert str(caught.value).startswith(f"No image can be built here: {reasons}. Install")


def test_a_folder_without_a_dockerfile_or_a_revision_is_told(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="There is no file"):
        image.make(options(tmp_path, "127.0.0.1:9"), os.environ, no_login, check_mode=False)
    (tmp_path / "Dockerfile").touch()
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    with pytest.raises(InferenceError, match=r"no git revision .*not a git repository.*Set a tag"):
        image.make(options(tmp_path, "127.0.0.1:9"), environ, no_login, check_mode=False)
    with pytest.raises(InferenceError, match=r"a tag or digest of its own|not an image reference"):
        given = options(tmp_path, "127.0.0.1:9", image="127.0.0.1:9/a:1", tag="2")
        image.make(given, os.environ, no_login, check_mode=False)


def test_the_google_token_reaches_the_builder_in_a_private_file_that_goes(context: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    with stand_in() as google:
        token, _ = google.grant(DEPLOYER)
        name = "demo-project/ml/inference-api"

        def run(command: Sequence[str], environ: Mapping[str, str], seconds: float) -> Done:
            if command[:2] == ["docker", "push"]:
                file = Path(environ["DOCKER_CONFIG"]) / "config.json"
                seen.append((oct(file.stat().st_mode & 0o777), file.read_text()))
                google.put_image(name, command[2].rpartition(":")[2])
            assert token not in " ".join(command)
            return Done(0, "abc", "")

        (tmp_path / "docker").touch(mode=0o700)
        host = "europe-west4-docker" + image.registry.GOOGLE_REGISTRY
        wanted = options(context, host, image=f"{host}/{name}", tag="1", registry_url=google.url)
        login = Token(token, 0, None, DEPLOYER)
        google.put_image(name, "0")
        made = image.make(wanted, {"PATH": str(tmp_path)}, lambda: login, check_mode=False, run=run)
    assert made["pinned"].startswith(f"{host}/{name}@sha256:")
    assert [mode for mode, _ in seen] == ["0o600"]
    assert list(json.loads(seen[0][1])["auths"]) == [host]
