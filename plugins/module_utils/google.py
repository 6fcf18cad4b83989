# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Google's APIs: the request, what their errors mean, and where a GKE cluster is reached."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.deepmlhub.inference.plugins.module_utils import gke_exec
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

try:
    import requests
except ImportError:
    requests = None  # type: ignore[assignment]

CONTAINER_URL = "https://container.googleapis.com"
IAM_URL = "https://iam.googleapis.com"
ENDPOINTS = ("default", "internal", "dns", "connect_gateway")
LOGIN_ARG_SPEC: dict[str, dict[str, Any]] = {
    "credentials_file": {"type": "path"},
    "access_token": {"type": "str", "no_log": True},
    "impersonate_service_account": {"type": "str"},
    "use_metadata_server": {"type": "bool", "default": False},
    "iamcredentials_api_url": {"type": "str", "default": gke_exec.IAM_CREDENTIALS_URL},
    "wait_timeout": {"type": "float", "default": gke_exec.BUDGET},
}
LOGIN_EXCLUSIVE = [("credentials_file", "access_token")]

# The least role of Google's that carries a permission we use.
ROLES = {
    "container.clusters.get": "roles/container.clusterViewer",
    "container.clusters.list": "roles/container.clusterViewer",
    "iam.serviceAccounts.getIamPolicy": "roles/iam.serviceAccountAdmin",
    "iam.serviceAccounts.setIamPolicy": "roles/iam.serviceAccountAdmin",
    "artifactregistry.repositories.downloadArtifacts": "roles/artifactregistry.reader",
    "artifactregistry.repositories.uploadArtifacts": "roles/artifactregistry.writer",
}
_BUSY = frozenset({429, 500, 502, 503, 504})


class GoogleError(InferenceError):
    """An answer of 400 or above, or none (status 0)."""

    def __init__(self, status: int, what: str, hint: str, **fields: Any) -> None:
        self.status = status
        super().__init__(gke_exec.redact(what), hint=hint, status=status, **fields)


class Endpoint(NamedTuple):
    """Where a cluster is reached; C(ca) is base64 PEM, or nothing where a public authority signs."""

    kind: str
    server: str
    ca: str


def login_of(params: Mapping[str, Any], environ: Mapping[str, str], token_file: str = "") -> gke_exec.Login:
    """The login that a module's options name; C(token_file) holds the access token, where one is given."""
    if params.get("access_token"):
        login = gke_exec.Login(token_file=token_file)
    elif params.get("credentials_file"):
        login = gke_exec.Login(file=os.path.abspath(params["credentials_file"]))  # noqa: PTH100 - keeps symbolic links
    elif params.get("use_metadata_server"):
        login = gke_exec.Login()
    else:
        login = gke_exec.application_default(environ)
    return login._replace(
        impersonate=params.get("impersonate_service_account") or "",
        iam_url=params.get("iamcredentials_api_url") or gke_exec.IAM_CREDENTIALS_URL,
    )


def fetch_token(login: gke_exec.Login, budget: float) -> gke_exec.Token:
    """A new token. Raises InferenceError with the reason why there is none."""
    try:
        return gke_exec.fetch(login, budget=budget)
    except gke_exec.CredentialError as error:
        raise InferenceError(error.what, hint=error.hint) from error


def login_with(params: Mapping[str, Any], environ: Mapping[str, str]) -> gke_exec.Token:
    """A token for the login that a module's options name; no file stays behind."""
    with given_token(params) as file:
        return fetch_token(login_of(params, environ, file), params["wait_timeout"])


@contextlib.contextmanager
def given_token(params: Mapping[str, Any]) -> Iterator[str]:
    """A file with the given access token, or no name where none was given; it goes with the block."""
    if not params.get("access_token"):
        yield ""
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "token"
        gke_exec.write_private(file, params["access_token"])
        yield str(file)


class Google:
    """Requests with one access token, all answered or explained within C(budget) seconds from now."""

    def __init__(
        self,
        token: str,
        account: str,
        *,
        budget: float = 8.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.account = account or "the given identity"
        self._token = token
        self._clock = clock
        self._deadline = clock() + budget
        self._sleep = sleep

    def call(self, method: str, url: str, body: Any = None, *, project: str, permission: str) -> dict[str, Any]:
        """The answer's JSON. Raises GoogleError; what is busy is asked again while the budget lasts.

        :param project: named in the hint, where a permission or an API is missing.
        :param permission: the IAM permission that the method needs.
        """
        pause = 0.5
        while True:
            try:
                answer = requests.request(
                    method,
                    url,
                    json=body,
                    headers={"Authorization": f"Bearer {self._token}"},
                    timeout=max(0.5, self._deadline - self._clock()),
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                raise GoogleError(
                    0,
                    f"{url} gave no answer ({type(error).__name__})",
                    "Check this machine's network, proxy and DNS, and the API's address",
                ) from error
            if answer.status_code < 400:
                try:
                    return dict(answer.json())
                except ValueError as error:
                    raise GoogleError(
                        answer.status_code, f"{url} answered something that is not JSON", "Check the API's address"
                    ) from error
            failure = explain(answer.status_code, answer.text, url, self.account, project, permission)
            wait = _retry_after(answer.headers.get("Retry-After"), pause)
            if answer.status_code not in _BUSY or self._clock() + wait >= self._deadline:
                raise failure
            self._sleep(wait)
            pause *= 2


def explain(status: int, text: str, url: str, account: str, project: str, permission: str) -> GoogleError:
    """What an error answer of a Google API means, and what to do about it."""
    code, words, details = gke_exec.error_parts(text)
    words = words or f"status {status}"
    if status == 401:
        return GoogleError(
            status, f"Google refused the token of {account} ({words})", "It has expired or is no access token: renew it"
        )
    if details.get("reason") == "SERVICE_DISABLED" or "has not been used in project" in words:
        service = details.get("service") or re.sub(r"^https?://([^/]+).*", r"\1", url)
        return GoogleError(
            status,
            f"The API {service} is disabled in project {project}",
            f"Enable it: gcloud services enable {service} --project {project}",
            api=service,
        )
    if status == 403:
        quoted = re.search(r"\b[a-z]+(?:\.[a-zA-Z]+){2}\b", words.split("permission")[0])
        missing = str(details.get("permission") or (quoted.group(0) if quoted else permission))
        role = ROLES.get(missing, f"a role with {missing}")
        return GoogleError(
            status,
            f"{account} lacks the permission {missing} in project {project} (403 {words})",
            f"Grant it {role}, and check that the project's id is right",
            permission=missing,
            role=role,
        )
    if status in _BUSY:
        return GoogleError(
            status, f"{url} answered {status} {code} until the time was up: {words}", "It is busy: try again later"
        )
    return GoogleError(status, f"{url} answered {status} {code}: {words}", "")


def fetch_cluster(google: Google, base: str, project: str, location: str, name: str) -> dict[str, Any]:
    """The cluster as the container API describes it. Raises InferenceError that names the clusters there are."""
    home = f"{base.rstrip('/')}/v1/projects/{project}/locations"
    permission = "container.clusters.get"
    try:
        return google.call("GET", f"{home}/{location}/clusters/{name}", project=project, permission=permission)
    except GoogleError as error:
        if error.status not in (400, 404):  # a location that does not exist is either
            raise
    try:
        listed = google.call("GET", f"{home}/-/clusters", project=project, permission="container.clusters.list")
    except GoogleError as error:
        raise InferenceError(
            f"There is no cluster {name} in {location} of project {project}, "
            f"and the clusters that exist cannot be listed ({error.what})",
            hint="Check gcloud_credentials_cluster and gcloud_credentials_location",
        ) from error
    raise not_found(project, location, name, listed)


def not_found(project: str, location: str, name: str, listed: Mapping[str, Any]) -> InferenceError:
    """The answer to a wrong name or location: the cluster meant, or all that exist."""
    there = [(str(found.get("name")), str(found.get("location"))) for found in listed.get("clusters") or []]
    elsewhere = sorted(place for found, place in there if found == name)
    what = f"There is no cluster {name} in {location} of project {project}"
    if elsewhere:
        return InferenceError(
            f"{what}: it is in {', '.join(elsewhere)}",
            hint=f"Set gcloud_credentials_location to {elsewhere[0]}",
            clusters=sorted(there),
        )
    if there:
        names = ", ".join(f"{found} ({place})" for found, place in sorted(there))
        return InferenceError(
            f"{what}: there are {names}",
            hint="Set gcloud_credentials_cluster and gcloud_credentials_location to one of them",
            clusters=sorted(there),
        )
    missing = ", ".join(listed.get("missingZones") or [])
    return InferenceError(
        f"{what}: the project has no cluster" + (f" in a zone that answers (silent: {missing})" if missing else ""),
        hint="Check gcloud_credentials_project, or create the cluster",
        clusters=[],
    )


def usable(cluster: Mapping[str, Any]) -> str:
    """A warning about a cluster that can still be used, or nothing. Raises InferenceError for one that cannot."""
    status = str(cluster.get("status") or "STATUS_UNSPECIFIED")
    conditions = cluster.get("conditions") or []
    why = "; ".join(str(found.get("message") or found.get("code")) for found in conditions)
    said = f"The cluster {cluster.get('name')} is {status}{f': {why}' if why else ''}"
    if status in ("RUNNING", "RECONCILING"):
        return ""
    if status == "DEGRADED":
        return said
    hint = "Wait until it is RUNNING" if status == "PROVISIONING" else "Repair the cluster, or name another"
    raise InferenceError(said, hint=hint, cluster_status=status)


def endpoint(cluster: Mapping[str, Any], kind: str, gateway_url: str = "") -> Endpoint:
    """The cluster's address of a kind, one of ENDPOINTS. Raises InferenceError where the cluster has none.

    The default is the public address, or the DNS name where the cluster has no public one.
    """
    control = cluster.get("controlPlaneEndpointsConfig") or {}
    name = cluster.get("name")
    if kind == "connect_gateway":
        return _gateway(cluster, gateway_url)
    if kind == "dns" or (kind == "default" and not _public(cluster, control) and _dns(control)):
        if not _dns(control):
            raise InferenceError(
                f"The cluster {name} lets no traffic from outside in by its DNS name",
                hint=f"Allow it: gcloud container clusters update {name} --enable-dns-access, or use another endpoint",
            )
        return Endpoint("dns", f"https://{_dns(control)}", "")
    if kind == "internal":
        address = (control.get("ipEndpointsConfig") or {}).get("privateEndpoint")
        address = address or (cluster.get("privateClusterConfig") or {}).get("privateEndpoint")
    else:
        address = _public(cluster, control)
    if not address:
        raise InferenceError(
            f"The cluster {name} has no {'internal' if kind == 'internal' else 'public'} address",
            hint=f"Set gcloud_credentials_endpoint to {_others(cluster, control)}",
        )
    ca = (cluster.get("masterAuth") or {}).get("clusterCaCertificate")
    if not ca:
        raise InferenceError(
            f"Google names no certificate authority for the cluster {name}",
            hint="Look at the cluster in the console, or set gcloud_credentials_endpoint to dns",
        )
    return Endpoint(kind, f"https://{_bracketed(str(address))}", str(ca))


def _public(cluster: Mapping[str, Any], control: Mapping[str, Any]) -> str:
    config = control.get("ipEndpointsConfig") or {}
    if config.get("enabled") is False or config.get("enablePublicEndpoint") is False:
        return ""
    return str(config.get("publicEndpoint") or cluster.get("endpoint") or "")


def _dns(control: Mapping[str, Any]) -> str:
    config = control.get("dnsEndpointConfig") or {}
    return str(config.get("endpoint") or "") if config.get("allowExternalTraffic") else ""


def _others(cluster: Mapping[str, Any], control: Mapping[str, Any]) -> str:
    there = ["default"] if _public(cluster, control) else []
    there += ["dns"] if _dns(control) else []
    there += ["internal"] if (control.get("ipEndpointsConfig") or {}).get("privateEndpoint") else []
    there += ["connect_gateway"] if (cluster.get("fleet") or {}).get("membership") else []
    return " or ".join(there) or "what the cluster will offer, once one is enabled"


def _gateway(cluster: Mapping[str, Any], base: str) -> Endpoint:
    membership = str((cluster.get("fleet") or {}).get("membership") or "")
    found = re.fullmatch(r"//[^/]+/projects/([^/]+)/locations/([^/]+)/memberships/([^/]+)", membership)
    if not found:
        raise InferenceError(
            f"The cluster {cluster.get('name')} is in no fleet, and the Connect gateway serves fleets",
            hint="Register it: gcloud container clusters update --enable-fleet, or use another endpoint",
        )
    number, location, name = found.groups()
    prefix = "" if location == "global" else f"{location}-"
    base = base.rstrip("/") or f"https://{prefix}connectgateway.googleapis.com"
    path = f"projects/{number}/locations/{location}/gkeMemberships/{name}"
    return Endpoint("connect_gateway", f"{base}/v1/{path}", "")


def _bracketed(address: str) -> str:
    try:
        return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    except ValueError:
        return address  # a name, or an address with a port


def _retry_after(given: str | None, otherwise: float) -> float:
    try:
        return max(0.0, float(given)) if given else otherwise
    except ValueError:
        return otherwise


def exec_entry(login: gke_exec.Login, python: str, program: str, cache: str) -> dict[str, Any]:
    """The user entry that runs the collection's own program."""
    return {
        "exec": {
            "apiVersion": gke_exec.API_VERSIONS[0],
            "command": python,
            # -P: the program's folder holds other files, and none of them shall stand in for a library.
            "args": ["-P", program, *login.arguments(), "--cache", cache],
            "interactiveMode": "Never",
            "provideClusterInfo": False,
            "installHint": "Run the Ansible role gcloud_credentials again: it writes this program and its Python",
        }
    }


def google_plugin_entry(login: gke_exec.Login, plugin: str) -> dict[str, Any] | None:
    """The user entry that runs Google's plugin, or None where the plugin cannot use the login."""
    if login.impersonate or login.token_file:
        return None
    found: dict[str, Any] = {
        "apiVersion": gke_exec.API_VERSIONS[1],  # it answers no other
        "command": plugin,
        "args": ["--use_application_default_credentials"],
        "interactiveMode": "Never",
        "provideClusterInfo": True,
        "installHint": "Install gke-gcloud-auth-plugin, or let the role gcloud_credentials use its own program",
    }
    if login.file:
        found["env"] = [{"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": login.file}]
    return {"exec": found}


def check_exec_answer(command: list[str], code: int, out: str, err: str) -> None:
    """Raises InferenceError, in the words of the exec program, unless it printed a credential."""
    try:
        token = json.loads(out)["status"]["token"] if code == 0 else ""
    except (ValueError, KeyError, TypeError):
        token = ""
    if not token:
        words = gke_exec.redact(err).removeprefix("gke_exec: ") or f"it ended with {code} and printed no credential"
        raise InferenceError(
            f"The credential program {command[0]} gives no token: {words}",
            hint="kubectl would fail in the same way: run the kubeconfig's exec command by hand to see",
        )
