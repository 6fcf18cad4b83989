#!/usr/bin/env python3
# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Google access tokens: for the modules, and as a program that kubectl and the Kubernetes clients run.

The file stands alone: M(deepmlhub.inference.gke_credentials) puts a copy beside the kubeconfig, so that the credential
goes on working after the collection has moved. It needs Python 3.11 and google-auth, and no gcloud.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from urllib.parse import parse_qs, urlsplit

SCOPES = ("https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/userinfo.email")
IAM_CREDENTIALS_URL = "https://iamcredentials.googleapis.com"
API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
BUDGET = 8.0  # seconds for a token, or the reason why there is none

_SECRET = re.compile(
    r"ya29\.[\w.~+/=-]+|ey[JK][\w-]{8,}\.[\w-]+(?:\.[\w-]+)?|1//[\w-]{20,}"
    r"|-----BEGIN.*?PRIVATE KEY-----.*?(?:-----END[^-]*-----|$)",
    re.DOTALL,
)


class CredentialError(Exception):
    """No token: what failed, and what to do next, in one line and without a secret."""

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = redact(what)
        self.hint = hint
        super().__init__(f"{self.what}. {hint}" if hint else self.what)


class Login(NamedTuple):
    """Which identity to use: a credentials file, a file that holds a token, or (neither) the metadata server."""

    file: str = ""
    token_file: str = ""
    impersonate: str = ""
    iam_url: str = IAM_CREDENTIALS_URL

    def arguments(self) -> list[str]:
        """The command line by which main() finds the same login again."""
        found = [("--credentials-file", self.file), ("--token-file", self.token_file)]
        found += [("--impersonate", self.impersonate)]
        if self.impersonate and self.iam_url != IAM_CREDENTIALS_URL:
            found += [("--iamcredentials-url", self.iam_url)]
        return [word for pair in found if pair[1] for word in pair]


class Token(NamedTuple):
    """An access token; C(issued) and C(expiry) in seconds since the epoch, expiry None when nobody knows."""

    value: str
    issued: float
    expiry: float | None
    account: str


def redact(text: str) -> str:
    """The text on one line, with everything that looks like a token or a private key taken out."""
    return " ".join(_SECRET.sub("(hidden)", text).split())


def redact_lines(text: str) -> list[str]:
    """The lines of a text that are not empty, each redacted."""
    return [line for line in map(redact, _SECRET.sub("(hidden)", text).splitlines()) if line]


def application_default(environ: Mapping[str, str]) -> Login:
    """Application Default Credentials  in their order: the variable's file, gcloud's file, the metadata server."""
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return Login(file=str(Path(named).absolute()))
    folder = Path(environ["CLOUDSDK_CONFIG"]) if environ.get("CLOUDSDK_CONFIG") else Path.home() / ".config" / "gcloud"
    well_known = folder / "application_default_credentials.json"
    return Login(file=str(well_known)) if well_known.is_file() else Login()


def refresh_at(issued: float, expiry: float) -> float:
    """When to ask for the next token: 225 s before the end, or a quarter of a shorter life."""
    return expiry - min(225.0, (expiry - issued) / 4)


def fetch(login: Login, *, budget: float = BUDGET, clock: Callable[[], float] = time.time) -> Token:
    """A new access token. Raises CredentialError within about C(budget) seconds."""
    if login.token_file and not login.impersonate:
        return Token(_read(login.token_file, "token").strip(), clock(), None, "")
    try:
        from google.auth import exceptions
    except ImportError as missing:
        raise CredentialError(
            f"A Python package is missing for {sys.executable}: {missing}",
            "Install google-auth and requests for that Python",
        ) from missing
    request = _request(budget)
    issued = clock()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            credentials = _credentials(login)
            credentials.refresh(request)
    except _Final:
        raise _explain(request, login) from None
    except (exceptions.GoogleAuthError, OSError, ValueError, KeyError, TypeError) as error:
        if request.failed:
            raise _explain(request, login) from error
        raise CredentialError(
            f"{_named(login)} cannot be used: {error}", "Make the credentials file anew, or name another"
        ) from error
    if not credentials.token:
        raise CredentialError(f"{_named(login)} gave an empty token", "Name other credentials")
    expiry = credentials.expiry.replace(tzinfo=UTC).timestamp() if credentials.expiry else None
    return Token(credentials.token, issued, expiry, _account(credentials, login))


def cached(
    login: Login, folder: str, *, clock: Callable[[], float] = time.time, fetch: Callable[[Login], Token] = fetch
) -> Token:
    """A token from the cache while it is fresh, else a new one, which the cache then holds (mode 0600)."""
    path = Path(folder) / f"{_cache_key(login)}.json"
    try:
        token = Token(**json.loads(path.read_text(encoding="utf-8")))
        if token.value and token.expiry and clock() < refresh_at(token.issued, token.expiry):
            return token
    except (OSError, ValueError, TypeError):
        pass  # absent or unreadable: as good as empty
    token = fetch(login)
    if token.expiry:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, json.dumps(token._asdict()))
        except OSError:
            pass  # a token that cannot be kept still works
    return token


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, mode 0600, keeping the owner that it had."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and os.geteuid() == 0:
            before = path.stat()
            os.chown(temporary, before.st_uid, before.st_gid)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


def exec_credential(token: Token, exec_info: str | None) -> dict[str, Any]:
    """The ExecCredential that answers KUBERNETES_EXEC_INFO: its expiry is early, so that clients ask again in time."""
    try:
        asked = json.loads(exec_info)["apiVersion"] if exec_info else API_VERSIONS[0]
    except (ValueError, KeyError, TypeError):
        asked = "unreadable"
    if asked not in API_VERSIONS:
        raise CredentialError(
            f"The client asks for ExecCredential {asked!r} in KUBERNETES_EXEC_INFO; known: {', '.join(API_VERSIONS)}",
            "Write the kubeconfig anew with gke_credentials",
        )
    status = {"token": token.value}
    if token.expiry:
        early = datetime.fromtimestamp(refresh_at(token.issued, token.expiry), UTC)
        status["expirationTimestamp"] = early.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"kind": "ExecCredential", "apiVersion": asked, "spec": {"interactive": False}, "status": status}


# How to construct what each type of credentials file describes: the loaders of google.auth that take any type also look
# up the project, with requests and a gcloud process that nobody here needs.
_FILE_TYPES = {
    "service_account": ("google.oauth2.service_account", "from_service_account_info"),
    "authorized_user": ("google.oauth2.credentials", "from_authorized_user_info"),
    "external_account": ("google.auth.identity_pool", "from_info"),
    "external_account_authorized_user": ("google.auth.external_account_authorized_user", "from_info"),
    "impersonated_service_account": (
        "google.auth.impersonated_credentials",
        "from_impersonated_service_account_info",
    ),
}


def _credentials(login: Login) -> Any:
    if login.token_file:
        import google.oauth2.credentials

        found = google.oauth2.credentials.Credentials(_read(login.token_file, "token").strip())
    elif login.file:
        found = _from_file(login.file)
    else:
        import google.auth.compute_engine

        found = google.auth.compute_engine.Credentials(scopes=list(SCOPES))
    if login.impersonate:
        import google.auth.impersonated_credentials as impersonated

        url = f"{login.iam_url.rstrip('/')}/v1/projects/-/serviceAccounts/{login.impersonate}:generateAccessToken"
        found = impersonated.Credentials(
            source_credentials=found,
            target_principal=login.impersonate,
            target_scopes=list(SCOPES),
            iam_endpoint_override=url,
        )
    return found


def _from_file(path: str) -> Any:
    import importlib

    info = read_credentials_file(path)
    kind = info["type"]
    module, constructor = _FILE_TYPES[kind]
    if kind == "external_account":
        source = info.get("credential_source") or {}
        if "environment_id" in source:
            module = "google.auth.aws"
        elif "executable" in source:
            module = "google.auth.pluggable"
    make = getattr(importlib.import_module(module).Credentials, constructor)
    return make(info, scopes=list(SCOPES))


def read_credentials_file(path: str) -> dict[str, Any]:
    """The JSON of a credentials file. Raises CredentialError when it is absent, not JSON, or of no known type."""
    text = _read(path, "credentials")
    try:
        info = json.loads(text)
    except ValueError as error:
        raise CredentialError(
            f"The credentials file {path} is not JSON (line {getattr(error, 'lineno', '?')})",
            "Name the JSON file that Google gave: a service account key or a workload identity configuration",
        ) from error
    kind = info.get("type") if isinstance(info, dict) else None
    if kind not in _FILE_TYPES:
        raise CredentialError(
            f"The credentials file {path} has type {kind!r}",
            f"It must be one of {', '.join(sorted(_FILE_TYPES))}",
        )
    return dict(info)


def _read(path: str, what: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise CredentialError(
            f"The {what} file {path} cannot be read: {reason}", f"Name a {what} file that can"
        ) from error


def _account(credentials: Any, login: Login) -> str:
    """The e-mail address by which Kubernetes RBAC knows the identity, or nothing where only Google could tell."""
    email = (
        login.impersonate or getattr(credentials, "service_account_email", "") or getattr(credentials, "account", "")
    )
    return "" if email in (None, "default") else str(email)


def _cache_key(login: Login) -> str:
    # Another key under the same file name is another identity: its tokens must not be mixed up.
    parts: list[Any] = [login, os.environ.get("GCE_METADATA_HOST")]
    for path in filter(None, (login.file, login.token_file)):
        try:
            seen = Path(path).stat()
            parts.append([seen.st_mtime_ns, seen.st_size])
        except OSError:
            parts.append(None)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class _Final(Exception):
    """Ends google-auth's own retries when the budget is used up: it does not catch what it does not know."""


def _request(budget: float) -> Any:
    """google-auth's transport with short time-outs, that remembers the last failed answer and gives up in time."""
    import google.auth.transport.requests
    from google.auth import exceptions

    class Request(google.auth.transport.requests.Request):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.start = time.monotonic()
            self.failed: dict[str, Any] = {}

        def __call__(self, url: str, method: str = "GET", body: Any = None, headers: Any = None, **more: Any) -> Any:
            left = self.start + budget - time.monotonic()
            more["timeout"] = min(left, budget / 2)
            self.failed = {"url": url, "body": body, "status": 0, "text": "no answer in time"}
            if left <= 0:
                raise _Final
            try:
                answer = super().__call__(url, method, body, headers, **more)
            except exceptions.TransportError as error:
                self.failed["text"] = str(error)
                if "/computeMetadata/" in url or time.monotonic() - self.start > budget / 4:
                    raise _Final from error
                raise
            if answer.status < 400:
                self.failed = {}
                return answer
            self.failed.update(status=answer.status, text=answer.data.decode("utf-8", "replace"))
            # Its pauses double: after a quarter of the budget the next would use it up.
            if time.monotonic() - self.start > budget / 4:
                raise _Final
            return answer

    return Request()


def _explain(request: Any, login: Login) -> CredentialError:
    failed = request.failed
    body = failed["body"]
    sent = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    return explain(
        failed["url"], (parse_qs(sent).get("grant_type") or [""])[0], failed["status"], failed["text"], login
    )


def explain(url: str, grant: str, status: int, text: str, login: Login) -> CredentialError:
    """What a failed answer on the way to a token means, and what to do about it.

    :param grant: the grant_type that was sent; empty where none was.
    :param status: the HTTP status; 0 when there was no answer, C(text) then says why.
    """
    host = urlsplit(url).netloc
    code, words, details = error_parts(text)
    said = f"{code}: {words}" if code and words and code not in words else words or code or f"status {status}"
    who = _named(login)
    if "/computeMetadata/" in url:
        if status == 404:
            return CredentialError(
                "The metadata server knows no service account for this machine",
                "Attach one to the machine or the pod, or name credentials with gcloud_credentials_file",
            )
        return CredentialError(
            f"There are no credentials: no file is named, none is in gcloud's place, and the metadata server {host} "
            + (f"answered {status}" if status else "is not reached from here"),
            "Set gcloud_credentials_file or GOOGLE_APPLICATION_CREDENTIALS, "
            "or run gcloud auth application-default login",
        )
    if not status:
        return CredentialError(f"{host} gave no answer: {_short(text)}", "Check this machine's network, proxy and DNS")
    if status in (429, 500, 502, 503, 504):
        return CredentialError(f"{host} answered {status} again and again: {said}", "It is busy: try again later")
    service = str(details.get("service") or f"{host.split('.')[0]}.googleapis.com")
    if details.get("reason") == "SERVICE_DISABLED" or "has not been used in project" in words:
        return CredentialError(
            f"The API {service} is disabled: {_short(words)}",
            f"Enable it: gcloud services enable {service}{_project_flag(details)}",
        )
    if url.endswith(":generateAccessToken"):
        target = url.rsplit("/", 1)[-1].removesuffix(":generateAccessToken")
        if status == 404:
            return CredentialError(f"There is no service account {target}", "Check gcloud_credentials_impersonate")
        role = (
            "roles/iam.workloadIdentityUser" if "workload identity" in who else "roles/iam.serviceAccountTokenCreator"
        )
        return CredentialError(
            f"{who} may not act as {target} ({status} {said})",
            f"Grant it {role} (permission iam.serviceAccounts.getAccessToken) on {target}",
        )
    if "token-exchange" in grant:
        return CredentialError(
            f"The workload identity provider refused the job's token ({said})",
            "Check the provider's issuer, audience and attribute condition, and the audience in the credentials file",
        )
    if grant:
        clock_words = ("reasonable timeframe", "iat and exp", "short-lived")
        if any(word in words for word in clock_words):
            hint = "Set this machine's clock: it is off by more than Google allows"
        elif "refresh_token" in grant:
            hint = "The login has expired or was revoked: run gcloud auth application-default login"
        else:
            hint = (
                "The key has expired, or was deleted or disabled: make a new one, or use workload identity federation"
            )
        return CredentialError(f"Google refused {who} ({said})", hint)
    return CredentialError(
        f"The CI system at {host} gave no token for the job ({status})",
        "GitHub Actions: give the job permissions id-token: write; GitLab CI: declare id_tokens for the job",
    )


def error_parts(text: str) -> tuple[str, str, dict[str, Any]]:
    """Code, message and ErrorInfo of an OAuth error or a Google API error."""
    try:
        data = json.loads(text)
    except ValueError:
        return "", _short(text), {}
    error = data.get("error") if isinstance(data, dict) else None
    if isinstance(error, dict):
        details: dict[str, Any] = {}
        for item in error.get("details") or []:
            if isinstance(item, dict) and item.get("reason"):
                details = {**(item.get("metadata") or {}), "reason": item["reason"]}
                break
        return str(error.get("status") or ""), str(error.get("message") or ""), details
    if isinstance(error, str):
        return error, str(data.get("error_description") or ""), {}
    return "", _short(text), {}


def _project_flag(details: Mapping[str, Any]) -> str:
    project = str(details.get("consumer") or "").removeprefix("projects/")
    return f" --project {project}" if project else ""


def _short(text: str) -> str:
    reason = re.search(r"\] ([^\[\]]+?)['\")]*$", text)  # the system's words at the end of a urllib3 error
    found = redact(reason.group(1) if reason else text)
    return found if len(found) <= 200 else f"{found[:197]}..."


def _named(login: Login) -> str:
    if login.token_file:
        return "the given access token"
    if not login.file:
        return "the machine's service account"
    try:
        info = read_credentials_file(login.file)
    except CredentialError:
        return f"the credentials file {login.file}"
    if info["type"] == "external_account":
        return f"the workload identity of {login.file}"
    return f"{info['client_email']} ({login.file})" if info.get("client_email") else f"the login in {login.file}"


def main(
    argv: Sequence[str],
    environ: Mapping[str, str],
    stdout: TextIO,
    stderr: TextIO,
    *,
    fetch: Callable[[Login], Token] = fetch,
    clock: Callable[[], float] = time.time,
) -> int:
    """Print an ExecCredential, or one line on stderr; the exit code is 1 when there is no token."""
    parser = argparse.ArgumentParser(prog="gke_exec", description="Prints an ExecCredential for a GKE cluster.")
    parser.add_argument("--credentials-file", default="", help="service account key or workload identity configuration")
    parser.add_argument("--token-file", default="", help="file that holds an access token")
    parser.add_argument("--impersonate", default="", help="e-mail address of the service account to act as")
    parser.add_argument("--iamcredentials-url", default=IAM_CREDENTIALS_URL, help="base address of that API")
    parser.add_argument("--cache", default="", help="folder for tokens; none: ask each time")
    options = parser.parse_args(argv)
    login = Login(options.credentials_file, options.token_file, options.impersonate, options.iamcredentials_url)
    try:
        token = cached(login, options.cache, clock=clock, fetch=fetch) if options.cache else fetch(login)
        json.dump(exec_credential(token, environ.get("KUBERNETES_EXEC_INFO")), stdout)
        stdout.write("\n")
    except CredentialError as error:
        stderr.write(f"gke_exec: {error}\n")
        return 1
    except Exception as error:  # a person waits at the other end: never a traceback
        stderr.write(redact(f"gke_exec: no token: {type(error).__name__}: {error}") + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ, sys.stdout, sys.stderr))
