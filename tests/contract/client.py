"""A small Kubernetes client: raw paths and plain dicts, so that the suite judges servers and clients alike."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import urllib3
from kubernetes.client import Configuration
from kubernetes.config import load_kube_config

T = TypeVar("T")
Obj = dict[str, Any]

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

# Seconds that anything may take; only a failing case waits so long.
PATIENCE = 120.0 if os.environ.get("KUBECONFIG") else 40.0
_POLL = 0.1

# plural: (where it lives, kind)
RESOURCES = {
    "configmaps": ("/api/v1", "ConfigMap"),
    "endpoints": ("/api/v1", "Endpoints"),
    "events": ("/api/v1", "Event"),
    "limitranges": ("/api/v1", "LimitRange"),
    "pods": ("/api/v1", "Pod"),
    "resourcequotas": ("/api/v1", "ResourceQuota"),
    "secrets": ("/api/v1", "Secret"),
    "serviceaccounts": ("/api/v1", "ServiceAccount"),
    "services": ("/api/v1", "Service"),
    "deployments": ("/apis/apps/v1", "Deployment"),
    "replicasets": ("/apis/apps/v1", "ReplicaSet"),
    "horizontalpodautoscalers": ("/apis/autoscaling/v2", "HorizontalPodAutoscaler"),
    "leases": ("/apis/coordination.k8s.io/v1", "Lease"),
    "endpointslices": ("/apis/discovery.k8s.io/v1", "EndpointSlice"),
    "networkpolicies": ("/apis/networking.k8s.io/v1", "NetworkPolicy"),
    "poddisruptionbudgets": ("/apis/policy/v1", "PodDisruptionBudget"),
    "rolebindings": ("/apis/rbac.authorization.k8s.io/v1", "RoleBinding"),
    "roles": ("/apis/rbac.authorization.k8s.io/v1", "Role"),
}


class Answer(NamedTuple):
    """What the server said; `body` is a dict where it was JSON, else text."""

    status: int
    headers: Mapping[str, str]
    body: Any

    def ok(self, status: int = 0) -> Any:
        """The body of a success, of exactly `status` if one is given."""
        assert self.status == status if status else self.status < 300, f"{self.status}: {self.body}"
        return self.body

    def refused(self, status: int, reason: str = "", *fragments: str) -> Obj:
        """The Status of a refusal whose message holds every fragment."""
        assert self.status == status, f"{self.status}: {self.body}"
        if reason:
            assert self.body["reason"] == reason, self.body
        for fragment in fragments:
            assert fragment in self.body["message"], self.body["message"]
        body: Obj = self.body
        return body


class Client:
    """Requests with the credentials of a kubeconfig, or with a bearer token instead of them ('' for none at all)."""

    def __init__(self, settings: Configuration, token: str | None = None) -> None:
        self._settings, self._token = settings, token
        checked = "CERT_REQUIRED" if settings.verify_ssl else "CERT_NONE"
        tls: Obj = {"ca_certs": settings.ssl_ca_cert, "cert_reqs": checked}
        if token is None and settings.cert_file:
            tls |= {"cert_file": settings.cert_file, "key_file": settings.key_file}
        if settings.tls_server_name:
            tls["server_hostname"] = settings.tls_server_name
        retries = urllib3.Retry(total=3, read=0, status=0, other=0, redirect=0, backoff_factor=0.2)
        common: Obj = {"retries": retries, "maxsize": 4, **tls}
        self._pool = urllib3.ProxyManager(settings.proxy, **common) if settings.proxy else urllib3.PoolManager(**common)

    def acting_as(self, token: str) -> Client:
        return Client(self._settings, token)

    def close(self) -> None:
        self._pool.clear()

    def _send(self, method: str, path: str, body: Any, query: Mapping[str, Any], headers: Obj, **more: Any) -> Any:
        token = f"Bearer {self._token}" if self._token else ""
        if self._token is None:
            token = self._settings.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
        if token:
            headers["Authorization"] = token
        text = body if isinstance(body, str | bytes) else None if body is None else json.dumps(body)
        url = self._settings.host.rstrip("/") + path
        if query:
            url += "?" + urlencode({k: _word(v) for k, v in query.items()})
        return self._pool.request(method, url, body=text, headers=headers, **more)

    def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json",
        accept: str = "application/json", user_agent: str = "contract-tests", timeout: float = 60, **query: Any,
    ) -> Answer:  # fmt: skip
        """A query parameter is a keyword; a bool is written as true or false, None leaves it out."""
        headers = {"Accept": accept, "User-Agent": user_agent}
        if body is not None:
            headers["Content-Type"] = content_type
        query = {key: value for key, value in query.items() if value is not None}
        answer = self._send(method, path, body, query, headers, timeout=timeout)
        text = answer.data.decode(errors="replace")
        try:
            found = json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text
        except ValueError:
            found = text
        return Answer(answer.status, answer.headers, found)

    def get(self, path: str, **more: Any) -> Answer:
        return self.request("GET", path, **more)

    def post(self, path: str, body: Any, **more: Any) -> Answer:
        return self.request("POST", path, body, **more)

    def put(self, path: str, body: Any, **more: Any) -> Answer:
        return self.request("PUT", path, body, **more)

    def patch(self, path: str, body: Any, how: str = MERGE, **more: Any) -> Answer:
        return self.request("PATCH", path, body, content_type=how, **more)

    def delete(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.request("DELETE", path, body, **more)

    def watch(self, path: str, *, seconds: float = 30, accept: str = "application/json", **query: Any) -> Iterator[Obj]:
        """The events of one watch, until the server ends it (after `seconds`) or the caller closes the iterator."""
        query = {"watch": True, "timeoutSeconds": int(seconds), **query}
        headers = {"Accept": accept, "User-Agent": "contract-tests"}
        answer = self._send("GET", path, None, query, headers, preload_content=False, timeout=seconds + 30)
        try:
            if answer.status >= 400:
                raise AssertionError(f"the watch was refused: {answer.status} {answer.data.decode(errors='replace')}")
            rest = b""
            for chunk in answer.stream(65536, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        finally:
            answer.close()


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def connect(kubeconfig: str | None) -> Client:
    """With the kubeconfig at that path (or KUBECONFIG's), its current context."""
    settings = Configuration()
    load_kube_config(config_file=kubeconfig, client_configuration=settings)
    return Client(settings)


def until(what: str, look: Callable[[], T], seconds: float = PATIENCE) -> T:
    """The first true value of `look()`; AssertionError names `what` when it does not come in time."""
    end = time.monotonic() + seconds
    last: Any = None
    while True:
        try:
            last = look()
        except AssertionError as problem:
            last = None
            wrong: Exception | None = problem
        else:
            wrong = None
            if last:
                return last  # type: ignore[no-any-return]
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds:.0f} s still not: {what}") from wrong
        time.sleep(_POLL)
