"""The HTTP side: every service under a path of its own, except those whose clients insist on the root.

/token  /sts/v1/token  /oidc  /iamcredentials/v1/  /iam/v1/  /container/v1/  /gateway/v1/   where clients are sent
/computeMetadata/  /v2/                                                   fixed by their protocols
/admin/faults (GET, POST, DELETE)  /admin/token-life (PUT)  /admin/keys/EMAIL (POST)   for tests
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from sandbox.google.state import Fault, State

SERVICES = {
    "container": ("Kubernetes Engine API", "container.googleapis.com", "container.clusters.get"),
    "iamcredentials": (
        "IAM Service Account Credentials API",
        "iamcredentials.googleapis.com",
        "iam.serviceAccounts.getAccessToken",
    ),
    "iam": ("Identity and Access Management (IAM) API", "iam.googleapis.com", "iam.serviceAccounts.setIamPolicy"),
    "sts": ("Security Token Service API", "sts.googleapis.com", "sts.identityProviders.exchange"),
}
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type
FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}


def make_asgi(state: State) -> Starlette:
    """The application; it reads and changes C(state), which the Kubernetes half may share."""
    google = _Google(state)
    account = "/computeMetadata/v1/instance/service-accounts/{account}"
    return Starlette(
        routes=[
            Route("/token", google.token, methods=["POST"]),
            Route("/sts/v1/token", google.sts, methods=["POST"]),
            Route("/oidc", google.oidc),
            Route("/iamcredentials/v1/projects/-/serviceAccounts/{target}", google.impersonate, methods=["POST"]),
            Route("/iam/v1/projects/{project}/serviceAccounts/{target}", google.policy, methods=["POST"]),
            Route("/container/v1/projects/{project}/locations/{location}/clusters", google.clusters),
            Route("/container/v1/projects/{project}/locations/{location}/clusters/{name}", google.cluster),
            Mount("/gateway/v1/projects/{number}/locations/{location}/gkeMemberships/{name}", google.gateway),
            Route("/", google.metadata_root),
            Route(f"{account}/", google.metadata_account),
            Route(f"{account}/token", google.metadata_token),
            Route("/v2/", google.registry_root),
            Route("/v2/token", google.registry_token),
            Route("/v2/{name:path}/manifests/{reference}", google.manifest, methods=["GET", "HEAD"]),
            Route("/v2/{name:path}/tags/list", google.tags),
            Route("/admin/faults", google.faults, methods=["GET", "POST", "DELETE"]),
            Route("/admin/token-life", google.token_life, methods=["PUT"]),
            Route("/admin/keys/{email}", google.key, methods=["POST"]),
        ]
    )


def error(code: int, status: str, message: str, *details: dict[str, Any], **headers: str) -> JSONResponse:
    """An error as Google's APIs say it; header names with underscores for dashes."""
    body: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details:
        body["details"] = list(details)
    return JSONResponse({"error": body}, code, {name.replace("_", "-"): value for name, value in headers.items()})


def _info(reason: str, **metadata: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": metadata,
    }


class _Google:
    def __init__(self, state: State) -> None:
        self.state = state

    # Tokens

    async def token(self, request: Request) -> Response:
        if fault := self.state.strike("token"):
            return self._oauth_fault(fault, "Invalid JWT Signature.")
        form = await _form(request)
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return _oauth("unsupported_grant_type", "Invalid grant_type")
        email, refused = self.state.check_jwt(form.get("assertion", ""))
        if refused:
            return _oauth("invalid_grant", refused)
        return self._issue(email)

    async def sts(self, request: Request) -> Response:
        if fault := self.state.strike("sts"):
            if fault.kind == "disabled":
                return _disabled("sts", self.state.project)
            return self._oauth_fault(fault, "The given credential is rejected by the attribute condition.")
        form = await _form(request)
        principal, refused = self.state.check_oidc(form.get("subject_token", ""), form.get("audience", ""))
        if refused:
            return _oauth("invalid_grant", refused)
        return self._issue(principal, issued_token_type=ACCESS_TOKEN_TYPE)

    async def oidc(self, request: Request) -> Response:
        if self.state.strike("oidc") or _bearer(request) != self.state.request_token:
            return JSONResponse({"message": "permission denied"}, 403)
        return JSONResponse({"value": self.state.oidc_token()})

    async def impersonate(self, request: Request) -> Response:
        target = request.path_params["target"].removesuffix(":generateAccessToken")
        if refused := self._refused(request, "iamcredentials", f"projects/-/serviceAccounts/{target}"):
            return refused
        if target not in self.state.actors:
            return error(404, "NOT_FOUND", "Not found; Gaia id not found for email " + target)
        if self._caller(request) not in self.state.actors[target]:
            message = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
            info = _info("IAM_PERMISSION_DENIED", permission="iam.serviceAccounts.getAccessToken")
            return error(403, "PERMISSION_DENIED", message, info)
        life = float(str((await request.json()).get("lifetime", "3600s")).rstrip("s"))
        token, expiry = self.state.grant(target, life)
        until = datetime.fromtimestamp(expiry, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return JSONResponse({"accessToken": token, "expireTime": until})

    async def metadata_root(self, _: Request) -> Response:
        return PlainTextResponse("computeMetadata/\n", headers=FLAVOR)

    async def metadata_account(self, request: Request) -> Response:
        if refused := self._metadata_refused(request):
            return refused
        return JSONResponse({"aliases": ["default"], "email": self.state.machine_account, "scopes": []}, headers=FLAVOR)

    async def metadata_token(self, request: Request) -> Response:
        if refused := self._metadata_refused(request):
            return refused
        answer = self._issue(self.state.machine_account)
        answer.headers.update(FLAVOR)
        return answer

    def _metadata_refused(self, request: Request) -> Response | None:
        fault = self.state.strike("metadata")
        if fault and fault.kind in ("busy", "unavailable"):
            return PlainTextResponse("try again", 503, FLAVOR)
        if request.headers.get("Metadata-Flavor") != "Google":
            return PlainTextResponse("Missing required header: Metadata-Flavor", 403, FLAVOR)
        known = ("default", self.state.machine_account)
        if fault or not self.state.machine_account or request.path_params["account"] not in known:
            return PlainTextResponse("not found", 404, FLAVOR)
        return None

    def _issue(self, email: str, **more: str) -> JSONResponse:
        token, expiry = self.state.grant(email)
        life = round(expiry - self.state.clock())
        return JSONResponse({"access_token": token, "expires_in": life, "token_type": "Bearer", **more})

    # Container API and Connect gateway

    async def clusters(self, request: Request) -> Response:
        project, location = request.path_params["project"], request.path_params["location"]
        if refused := self._refused(request, "container", f"projects/{project}", project):
            return refused
        here = project == self.state.project and location in ("-", self.state.location)
        return JSONResponse({"clusters": [self.state.cluster_json()]} if here else {})

    async def cluster(self, request: Request) -> Response:
        project, location, name = (request.path_params[key] for key in ("project", "location", "name"))
        where = f"projects/{project}/locations/{location}/clusters/{name}"
        if refused := self._refused(request, "container", where, project):
            return refused
        if (project, location, name) != (self.state.project, self.state.location, self.state.cluster):
            return error(404, "NOT_FOUND", f"Not found: {where}.")
        return JSONResponse(self.state.cluster_json())

    async def gateway(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.state.kubernetes is None:
            await error(404, "NOT_FOUND", "no such membership")(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope["root_path"])
        inner = {**scope, "root_path": "", "path": path, "raw_path": path.encode()}
        await self.state.kubernetes(inner, receive, send)

    # IAM

    async def policy(self, request: Request) -> Response:
        target, _, verb = request.path_params["target"].partition(":")
        if refused := self._refused(request, "iam", f"projects/{self.state.project}/serviceAccounts/{target}"):
            return refused
        policy = self.state.policies.get(target)
        if policy is None:
            return error(404, "NOT_FOUND", f"Service account {target} does not exist.")
        if verb == "setIamPolicy":
            wanted = (await request.json())["policy"]
            if wanted.get("etag") not in (None, policy.get("etag")):
                message = "There were concurrent policy changes. Please retry the whole read-modify-write."
                return error(409, "ABORTED", message)
            content = repr(wanted.get("bindings"))
            policy = {**wanted, "etag": hashlib.sha256(content.encode()).hexdigest()[:12]}
            self.state.policies[target] = policy
            self.state.requests.append("setIamPolicy")
        return JSONResponse(policy)

    # Registry

    async def registry_root(self, _: Request) -> Response:
        return JSONResponse({})

    async def registry_token(self, _: Request) -> Response:
        return JSONResponse({"token": self.state.grant("anonymous")[0]})

    async def manifest(self, request: Request) -> Response:
        name, reference = request.path_params["name"], request.path_params["reference"]
        if refused := self._registry_refused(request, name):
            return refused
        if not any(repository == name for repository, _ in self.state.manifests):
            return _registry_error(404, "NAME_UNKNOWN", f'Repository "{name}" not found')
        found = self.state.manifests.get((name, reference))
        if found is None:
            return _registry_error(404, "MANIFEST_UNKNOWN", f'Failed to fetch "{reference}"')
        media_type, body = found
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        return Response(body, media_type=media_type, headers={"Docker-Content-Digest": digest})

    async def tags(self, request: Request) -> Response:
        name = request.path_params["name"]
        if refused := self._registry_refused(request, name):
            return refused
        tags = sorted(tag for found, tag in self.state.manifests if found == name and ":" not in tag)
        return JSONResponse({"name": name, "tags": tags}) if tags else _registry_error(404, "NAME_UNKNOWN", "unknown")

    def _registry_refused(self, request: Request, name: str) -> Response | None:
        fault = self.state.strike("registry")
        if fault and fault.kind in ("busy", "unavailable"):
            status = 429 if fault.kind == "busy" else 503
            return Response(status_code=status, headers={"Retry-After": str(fault.retry_after)})
        if (fault and fault.kind == "unauthenticated") or not self._caller(request):
            challenge = f'Bearer realm="{self.state.url}/v2/token",service="stand-in",scope="repository:{name}:pull"'
            return _registry_error(401, "UNAUTHORIZED", "authentication failed", **{"WWW-Authenticate": challenge})
        anonymous = self._caller(request) == "anonymous" and not name.startswith("public/")
        if anonymous or (fault and fault.kind == "permission"):
            project, repository = [*name.split("/"), ""][:2]
            resource = f"projects/{project}/locations/{self.state.location}/repositories/{repository}"
            permission = "artifactregistry.repositories.downloadArtifacts"
            message = f'Permission "{permission}" denied on resource "{resource}" (or it may not exist)'
            return _registry_error(403, "DENIED", message)
        return None

    # Faults

    async def faults(self, request: Request) -> Response:
        if request.method == "POST":
            self.state.faults.append(Fault(**await request.json()))
        elif request.method == "DELETE":
            self.state.faults.clear()
        return JSONResponse([vars(fault) for fault in self.state.faults])

    async def token_life(self, request: Request) -> Response:
        self.state.token_life = float(await request.json())
        return JSONResponse(self.state.token_life)

    async def key(self, request: Request) -> Response:
        return JSONResponse(self.state.add_key(request.path_params["email"]))

    def _caller(self, request: Request) -> str | None:
        return self.state.user_of(_bearer(request))

    def _refused(self, request: Request, service: str, resource: str, project: str | None = None) -> Response | None:
        """What an API says before it looks at the question itself."""
        project = project or self.state.project
        fault = self.state.strike(service)
        if self._caller(request) is None or (fault and fault.kind == "unauthenticated"):
            message = (
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential."
            )
            return error(401, "UNAUTHENTICATED", message, _info("ACCESS_TOKEN_EXPIRED", service=SERVICES[service][1]))
        if fault:
            return self._fault(fault, service, project, resource)
        if project != self.state.project:
            message = f"Permission denied on resource project {project}."
            return error(403, "PERMISSION_DENIED", message, _info("CONSUMER_INVALID", consumer=f"projects/{project}"))
        return None

    def _fault(self, fault: Fault, service: str, project: str, resource: str) -> Response | None:
        permission = SERVICES[service][2]
        if fault.kind == "disabled":
            return _disabled(service, project)
        if fault.kind == "permission":
            message = f'Required "{permission}" permission(s) for "{resource}".'
            return error(403, "PERMISSION_DENIED", message, _info("IAM_PERMISSION_DENIED", permission=permission))
        if fault.kind == "missing":
            return error(404, "NOT_FOUND", f"Not found: {resource}.")
        if fault.kind == "busy":
            message = "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute'."
            return error(429, "RESOURCE_EXHAUSTED", message, Retry_After=f"{fault.retry_after:g}")
        if fault.kind == "unavailable":
            message = "The service is currently unavailable."
            return error(503, "UNAVAILABLE", message, Retry_After=f"{fault.retry_after:g}")
        return None

    def _oauth_fault(self, fault: Fault, words: str) -> Response:
        if fault.kind in ("busy", "unavailable"):
            return JSONResponse({"error": "temporarily_unavailable"}, 429 if fault.kind == "busy" else 503)
        if fault.kind == "unauthenticated":
            return _oauth("invalid_client", "The OAuth client was not found.", 401)
        return _oauth("invalid_grant", words)


def _disabled(service: str, project: str) -> Response:
    title, host, _ = SERVICES[service]
    message = (
        f"{title} has not been used in project {project} before or it is disabled. Enable it by visiting "
        f"https://console.developers.google.com/apis/api/{host}/overview?project={project} then retry."
    )
    info = _info("SERVICE_DISABLED", service=host, consumer=f"projects/{project}")
    return error(403, "PERMISSION_DENIED", message, info)


def _oauth(code: str, words: str, status: int = 400) -> JSONResponse:
    return JSONResponse({"error": code, "error_description": words}, status)


def _registry_error(status: int, code: str, message: str, **headers: str) -> JSONResponse:
    return JSONResponse({"errors": [{"code": code, "message": message}]}, status, headers)


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode()))


def _bearer(request: Request) -> str:
    found = re.fullmatch(r"(?i:bearer) (\S+)", request.headers.get("Authorization", ""))
    return found.group(1) if found else ""
