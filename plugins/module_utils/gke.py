# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From a Google login to a kubeconfig that works, or to the line that says what is missing."""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.deepmlhub.inference.plugins.module_utils import gke_exec, google, kubeconfig
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

GOOGLE_PLUGIN = "gke-gcloud-auth-plugin"


def write_credentials(
    params: Mapping[str, Any],
    environ: Mapping[str, str],
    python: str,
    *,
    check_mode: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Do what the options of gke_credentials ask for; its return values, and C(warning). Raises InferenceError."""
    path = Path(os.path.realpath(_kubeconfig_path(params.get("kubeconfig"), environ)))  # the target of a link is edited
    context = params.get("context") or "gke_{project}_{location}_{cluster}".format(**params)
    cache = path.parent / "cache" / "deepmlhub-gke"
    before, mode = _read(path)
    kubeconfig.parse(before, str(path))

    started = clock()
    token_file = cache / f"{context}.token"
    token = google.login_with(params, environ)
    left = max(2.0, params["wait_timeout"] - (clock() - started))
    api = google.Google(token.value, token.account, budget=left, clock=clock, sleep=sleep)
    cluster = google.fetch_cluster(
        api, params["container_api_url"], params["project"], params["location"], params["cluster"]
    )
    warning = google.usable(cluster)
    where = google.endpoint(cluster, params["endpoint"], params.get("connect_gateway_url") or "")

    login = google.login_of(params, environ, str(token_file))
    program = path.parent / "deepmlhub-gke-exec.py"
    user = _google_plugin(params, login, environ) or google.exec_entry(login, python, str(program), str(cache))
    ours = user["exec"]["command"] == python
    server = {"server": where.server, **({"certificate-authority-data": where.ca} if where.ca else {})}
    entry = kubeconfig.Entry(context, server, user, params.get("namespace") or "")
    source = inspect.getsource(gke_exec)

    def merged(text: str) -> str:
        return kubeconfig.merge(text, entry, str(path), make_current=params["set_current_context"])

    after = merged(before)
    stale = ours and _read(program)[0] != source
    changed = after != before or mode not in (None, 0o600) or stale
    if not check_mode:
        with _locked(path.parent):
            if stale:
                gke_exec.write_private(program, source)
            if params.get("access_token"):
                cache.mkdir(mode=0o700, parents=True, exist_ok=True)
                gke_exec.write_private(token_file, params["access_token"])
            # Other hosts of the same play write the same file: what is there now counts, not what was there before.
            now, mode = _read(path)
            after = merged(now)
            if after != now or mode != 0o600:
                gke_exec.write_private(path, after)
        _run(user["exec"], environ)
    return {
        "changed": changed,
        "diff": {
            "before_header": str(path),
            "after_header": str(path),
            "before": kubeconfig.visible(before, context, str(path)),
            "after": kubeconfig.visible(after, context, str(path)),
        },
        "warning": warning,
        "kubeconfig": str(path),
        "context": context,
        "endpoint": where.kind,
        "server": where.server,
        "account": token.account,
        "cluster_version": str(cluster.get("currentMasterVersion") or ""),
        "cluster_status": str(cluster.get("status") or ""),
        "autopilot": bool((cluster.get("autopilot") or {}).get("enabled")),
        "workload_pool": str((cluster.get("workloadIdentityConfig") or {}).get("workloadPool") or ""),
        "credential_program": str(program) if ours else user["exec"]["command"],
    }


def _kubeconfig_path(given: str | None, environ: Mapping[str, str]) -> Path:
    first = next(filter(None, environ.get("KUBECONFIG", "").split(os.pathsep)), "")
    return Path(given or first or "~/.kube/config").expanduser()


def _read(path: Path) -> tuple[str, int | None]:
    """Text and mode of a file; nothing and None where there is no file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except FileNotFoundError:
        return "", None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise InferenceError(
            f"{path} cannot be read: {reason}. It was left as it is", hint="Name a kubeconfig that this user may write"
        ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other runs of this code out of the folder. Raises InferenceError when it cannot be written."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
    except OSError as error:
        raise InferenceError(
            f"The kubeconfig in {folder} cannot be written: {error.strerror}",
            hint="Name a kubeconfig in a folder that this user may write",
        ) from error


def _google_plugin(
    params: Mapping[str, Any], login: gke_exec.Login, environ: Mapping[str, str]
) -> dict[str, Any] | None:
    plugin = shutil.which(GOOGLE_PLUGIN, path=environ.get("PATH")) if params["prefer_google_plugin"] else None
    return google.google_plugin_entry(login, plugin) if plugin else None


def _run(program: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Run the credential program once: the Python client would swallow its failure and go on without a login."""
    command = [program["command"], *program["args"]]
    info = {"apiVersion": program["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": False}}
    added = {item["name"]: item["value"] for item in program.get("env") or []}
    env = {**environ, **added, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        google.check_exec_answer(command, 1, "", f"{type(error).__name__}: {getattr(error, 'strerror', 'no end')}")
    else:
        google.check_exec_answer(command, done.returncode, done.stdout, done.stderr)
