# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Builds an image with whatever builder is there, pushes it, and tells the digest to pin."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.deepmlhub.inference.plugins.module_utils import gke_exec, registry
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError


class Builder(NamedTuple):
    """How a program is asked whether it works, and how it builds."""

    name: str
    probe: Sequence[str]
    build: str


BUILDERS = (
    Builder("docker", ("version", "--format", "{{.Server.Version}}"), "build"),
    Builder("podman", ("info", "--format", "{{.Version.Version}}"), "build"),
    Builder("buildah", ("version",), "build"),
)


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


# (command, environment, seconds) -> Done
Run = Callable[[Sequence[str], Mapping[str, str], float], Done]


def make(
    params: Mapping[str, Any],
    environ: Mapping[str, str],
    login: Callable[[], gke_exec.Token],
    *,
    check_mode: bool,
    run: Run | None = None,
) -> dict[str, Any]:
    """What the options of image_build ask for; its return values. Raises InferenceError."""
    run = run or run_command
    context = Path(params["context"])
    dockerfile = Path(params["dockerfile"] or context / "Dockerfile")
    if not dockerfile.is_file():
        raise InferenceError(f"There is no file {dockerfile}", hint="Name the folder that holds the Dockerfile")
    tag, dirty = (params["tag"], False) if params["tag"] else _revision(context, environ, run)
    reference = registry.parse(f"{params['image']}:{tag}")
    if reference.tag != tag:
        raise InferenceError(f"{params['image']} has a tag or digest of its own", hint="Name the image without one")
    name = f"{reference.host}/{reference.name}:{tag}"
    look_up = {**params, "image": name}
    token: list[gke_exec.Token] = []

    def once() -> gke_exec.Token:
        if not token:
            token.append(login())
        return token[0]

    found = _existing(look_up, once)
    result: dict[str, Any] = {"changed": False, "image": name, "builder": None, "digest": "", "pinned": ""}
    if found and not dirty:
        return {**result, **found}
    builder = choose(params["builder"], environ, run)
    result.update(changed=True, builder=builder.name)
    if check_mode:
        return result
    with tempfile.TemporaryDirectory() as folder:
        build_env = {**environ, **(_auth(Path(folder), reference.host, token[0].value) if token else {})}
        command = [builder.name, builder.build, "-t", name, "-f", str(dockerfile)]
        for argument, value in sorted((params["build_args"] or {}).items()):
            command += ["--build-arg", f"{argument}={value}"]
        _demand(
            run([*command, str(context)], build_env, params["build_timeout"]), f"{builder.name} cannot build {name}"
        )
        push = [builder.name, "push"]
        if builder.name != "docker" and registry.base_url(reference.host).startswith("http:"):
            push.append("--tls-verify=false")
        _demand(run([*push, name], build_env, params["build_timeout"]), f"{builder.name} cannot push {name}")
    return {**result, **registry.image_info(look_up, once)}


def choose(wanted: str, environ: Mapping[str, str], run: Run) -> Builder:
    """The first builder that works. Raises InferenceError with what is wrong with each."""
    reasons = []
    for builder in BUILDERS:
        if wanted not in ("auto", builder.name):
            continue
        if shutil.which(builder.name, path=environ.get("PATH")) is None:
            reasons.append(f"{builder.name} is not installed")
            continue
        done = run([builder.name, *builder.probe], environ, 20)
        if done.code == 0:
            return builder
        reasons.append(f"{builder.name} does not work ({_last_line(done)})")
    raise InferenceError(
        f"No image can be built here: {'; '.join(reasons)}",
        hint="Install docker, podman or buildah, or build where one is and pin its digest in the inventory",
    )


def _revision(context: Path, environ: Mapping[str, str], run: Run) -> tuple[str, bool]:
    """The commit's short hash as a tag, and whether the tree holds more than the commit."""
    done = run(["git", "-C", str(context), "rev-parse", "--short=12", "HEAD"], environ, 20)
    if done.code != 0:
        raise InferenceError(
            f"{context} has no git revision to name the image after ({_last_line(done)})", hint="Set a tag"
        )
    changes = run(["git", "-C", str(context), "status", "--porcelain"], environ, 60)
    dirty = bool(changes.out.strip()) or changes.code != 0
    return done.out.strip() + ("-dirty" if dirty else ""), dirty


def _existing(look_up: Mapping[str, Any], login: Callable[[], gke_exec.Token]) -> dict[str, Any] | None:
    try:
        return registry.image_info(look_up, login)
    except InferenceError as error:
        if error.fields.get("status") == 404:
            return None
        raise


def _auth(folder: Path, host: str, token: str) -> dict[str, str]:
    """Environment by which each builder finds the login, in a file that goes after the push."""
    basic = base64.b64encode(f"oauth2accesstoken:{token}".encode()).decode()
    file = folder / "config.json"
    gke_exec.write_private(file, json.dumps({"auths": {host: {"auth": basic}}}))
    return {"DOCKER_CONFIG": str(folder), "REGISTRY_AUTH_FILE": str(file)}


def _demand(done: Done, what: str) -> None:
    if done.code != 0:
        lines = gke_exec.redact_lines(done.err or done.out)[-20:]
        raise InferenceError(f"{what}: {_last_line(done)}", hint="The field output has its last lines", output=lines)


def _last_line(done: Done) -> str:
    lines = gke_exec.redact_lines(done.err.strip() or done.out)
    return lines[-1] if lines else f"it ended with {done.code}"


def run_command(command: Sequence[str], environ: Mapping[str, str], seconds: float) -> Done:
    """Run a program; one that cannot be run or does not end counts as failed."""
    try:
        done = subprocess.run(  # noqa: S603 - the commands are ours
            list(command), env=dict(environ), capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Done(-1, "", f"no end after {seconds:g} s")
    except OSError as error:
        return Done(-1, "", f"{command[0]}: {error.strerror}")
    return Done(done.returncode, done.stdout, done.stderr)
