# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The only door to a Kubernetes API server: plain dicts in, plain dicts out.

kubernetes.core reads the connection options and the kubernetes client builds the connection pool from them; requests go
through that pool directly, because the dynamic client would first discover the whole API and has no time-outs.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

try:
    import kubernetes
    import urllib3
    import yaml
    from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC as CORE_ARG_SPEC
    from ansible_collections.kubernetes.core.plugins.module_utils.k8s import client as core_client

    IMPORT_ERROR: str | None = None
except ImportError as missing:
    CORE_ARG_SPEC = {}
    IMPORT_ERROR = str(missing)

# A path in an error is worth more than hidden; what a kubeconfig given inline keeps secret is hidden by connect.
AUTH_ARG_SPEC: dict[str, dict[str, Any]] = {**CORE_ARG_SPEC, "kubeconfig": {"type": "raw", "no_log": False}}
RETRY_STATUSES = frozenset({429, 502, 503, 504})
WAIT_ARG_SPEC: dict[str, dict[str, Any]] = {
    "wait_timeout": {"type": "float", "default": 300.0},
    "wait_sleep": {"type": "float", "default": 1.0},
    "request_timeout": {"type": "float", "default": 10.0},
}


class Answer(NamedTuple):
    """An HTTP answer below 400; C(body) is a dict where the server sent JSON, else text."""

    status: int
    headers: Mapping[str, str]
    body: Any


class ApiError(InferenceError):
    """The API server answered with 400 or above; C(body) is its Status object, or empty."""

    def __init__(
        self, status: int, body: Any, *, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.body: dict[str, Any] = body if isinstance(body, dict) else {}
        self.reason = str(self.body.get("reason") or "")
        self.message = str(self.body.get("message") or (body if isinstance(body, str) else "") or f"HTTP {status}")
        self.headers = headers or {}
        super().__init__(
            f"{method} {path} was answered with {status} {self.reason or 'error'}: {self.message}",
            hint=_status_hint(status),
            status=status,
            reason=self.reason,
        )


class Unreachable(InferenceError):
    """No answer: the server is away, does not speak TLS as expected, or the credentials cannot be had."""


def _status_hint(status: int) -> str:
    if status == 401:
        return (
            "The login was refused: the token or certificate is wrong or has expired; renew it (for GKE, let the role "
            "gcloud_credentials write the kubeconfig anew) and run again"
        )
    if status == 403:
        return "Give the user that the message names this permission, or run with another context"
    return ""


class Cluster:
    """Requests to one API server, with a time-out on every one and retries where they are safe.

    :param pool: a urllib3 pool manager that trusts the server and holds the client certificate, if any.
    :param authorize: gives the headers of the moment; called for each request, since tokens expire.
    :param request_timeout: seconds for one request.
    :param patience: seconds within which a refused connection, 429 and 502-504 are tried again.
    """

    def __init__(
        self,
        host: str,
        pool: Any,
        authorize: Callable[[], Mapping[str, str]],
        *,
        request_timeout: float = 10.0,
        patience: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.host = host.rstrip("/")
        self.server_time: str | None = None  # RFC 3339, by the server's clock, of its last answer
        self._pool = pool
        self._authorize = authorize
        self._request_timeout = request_timeout
        self._patience = patience
        self._clock = clock
        self._sleep = sleep

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> Answer:
        """One request. Raises ApiError for 400 and above, Unreachable when there is no answer in time."""
        deadline = self._clock() + (self._patience if patience is None else patience)
        pause = 0.25
        while True:
            failure: ApiError | Unreachable
            try:
                return self._once(method, path, query, body, content_type, timeout or self._request_timeout, headers)
            except ApiError as error:
                if error.status not in RETRY_STATUSES or not _may_repeat(method, error):
                    raise
                failure, wait = error, _retry_after(error.headers, pause)
            except Unreachable as error:
                if not _may_repeat(method, error):
                    raise
                failure, wait = error, pause
            if self._clock() + wait >= deadline:
                raise failure
            self._sleep(wait)
            pause = min(pause * 2, 5.0)

    def watch(self, path: str, *, query: Mapping[str, str], timeout: float) -> Iterator[dict[str, Any]]:
        """The events of a watch as they come, until the server ends it. Raises Unreachable when the stream breaks."""
        seconds = max(1, int(timeout))
        target = self._url(path, {**query, "watch": "true", "timeoutSeconds": str(seconds)})
        response = self._send(
            "GET", path, target, None, self._headers(None, {}), seconds + self._request_timeout, stream=True
        )
        try:
            if response.status >= 400:
                raise ApiError(
                    response.status, _decode(response.data), method="GET", path=path, headers=response.headers
                )
            rest = b""
            for chunk in response.stream(65536, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unreachable(f"The watch on {path} broke: {error}") from error
        finally:
            response.close()

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        timeout: float,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        # Server-side apply takes YAML, and JSON is YAML: one encoder serves every content type.
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        sent = self._headers(None if data is None else content_type, headers or {})
        response = self._send(method, path, self._url(path, query), data, sent, timeout)
        decoded = _decode(response.data)
        self.server_time = _server_time(response.headers) or self.server_time
        if response.status >= 400:
            raise ApiError(response.status, decoded, method=method, path=path, headers=response.headers)
        return Answer(response.status, response.headers, decoded)

    def _send(
        self,
        method: str,
        path: str,
        url: str,
        data: bytes | None,
        headers: Mapping[str, str],
        timeout: float,
        stream: bool = False,
    ) -> Any:
        try:
            return self._pool.request(
                method,
                url,
                body=data,
                headers=dict(headers),
                timeout=urllib3.Timeout(connect=min(timeout, self._request_timeout), read=timeout),
                retries=False,
                redirect=False,
                preload_content=not stream,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(self.host, method, path, error) from error

    def _headers(self, content_type: str | None, extra: Mapping[str, str]) -> dict[str, str]:
        found = {"Accept": "application/json", "User-Agent": "deepmlhub.inference", **self._authorize()}
        if content_type:
            found["Content-Type"] = content_type
        return {**found, **extra}

    def _url(self, path: str, query: Mapping[str, str] | None) -> str:
        return f"{self.host}{path}?{urlencode(query)}" if query else f"{self.host}{path}"


def _server_time(headers: Mapping[str, str]) -> str | None:
    try:
        return parsedate_to_datetime(headers["Date"]).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (KeyError, ValueError):
        return None


def _decode(data: bytes) -> Any:
    text = data.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _may_repeat(method: str, failure: ApiError | Unreachable) -> bool:
    """A create that may have arrived must not be sent twice; everything else says the same thing when said again."""
    if method != "POST":
        return True
    return (isinstance(failure, ApiError) and failure.status == 429) or bool(failure.fields.get("never_sent"))


def _retry_after(headers: Mapping[str, str], otherwise: float) -> float:
    try:
        return max(0.0, float(headers.get("Retry-After", otherwise)))
    except ValueError:
        return otherwise


def _unreachable(host: str, method: str, path: str, error: Exception) -> Unreachable:
    text = str(error)
    never_sent = isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)
    if isinstance(error, urllib3.exceptions.SSLError):
        hint = "Check certificate-authority-data in the kubeconfig: it does not vouch for the server's certificate"
    elif "Name or service not known" in text or "Temporary failure in name resolution" in text:
        hint = "The host name does not resolve: check the server address in the kubeconfig, and DNS"
    else:
        hint = "Check the server address in the kubeconfig, that the cluster runs, and that this machine may reach it"
    cause = text.split(": ", 1)[-1] if never_sent else text
    return Unreachable(
        f"The API server {host} did not answer {method} {path}: {cause}", hint=hint, host=host, never_sent=never_sent
    )


def connect(module: Any) -> Cluster:
    """The cluster that a module's connection options name. Raises InferenceError in one line for what they lack."""
    if IMPORT_ERROR:
        raise InferenceError(
            f"A Python package or collection is missing on the controller: {IMPORT_ERROR}",
            hint="Install the packages of requirements.txt and the collections of requirements.yml",
        )
    inline = module.params.get("kubeconfig")
    if isinstance(inline, dict):
        module.no_log_values.update(_texts([user.get("user") for user in inline.get("users") or []]))
    configuration = _configuration(module)
    headers = core_client._create_headers(module)

    def authorize() -> dict[str, str]:
        setting = configuration.auth_settings().get("BearerToken")
        found = {"Authorization": setting["value"]} if setting and setting["value"] else {}
        if not found and configuration.username:
            found = {"Authorization": configuration.get_basic_auth_token()}
        for name, value in headers.items():
            found[name] = ",".join(value) if isinstance(value, list) else value
        return found

    timeout = module.params.get("request_timeout") or 10.0
    pool = kubernetes.client.ApiClient(configuration).rest_client.pool_manager
    return Cluster(configuration.host, pool, authorize, request_timeout=timeout, patience=3 * timeout)


def _texts(value: Any) -> set[str]:
    """Every string within a value; short ones hide nothing and would be cut out of ordinary words."""
    if isinstance(value, dict | list):
        return set().union(*(_texts(item) for item in (value.values() if isinstance(value, dict) else value)))
    return {value} if isinstance(value, str) and len(value) > 7 else set()


def _configuration(module: Any) -> Any:
    auth = core_client._create_auth_spec(module)
    where = auth.get("kubeconfig")
    named = where if isinstance(where, str) else "the kubeconfig"
    words: list[str] = []
    keeper = logging.Handler(logging.ERROR)
    keeper.emit = lambda record: words.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    root.addHandler(keeper)
    try:
        configuration = core_client._create_configuration(auth)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise InferenceError(
            f"{named} is not YAML{line}", hint="Name a kubeconfig that kubectl can read, or write it anew"
        ) from error
    except kubernetes.config.ConfigException as error:
        raise InferenceError(
            f"{named} gives no usable connection: {error}",
            hint="Set gcloud_credentials_kubeconfig and gcloud_credentials_context to what kubectl can use",
        ) from error
    except (OSError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise InferenceError(
            f"{named} cannot be read as a kubeconfig: {error}", hint="Name a kubeconfig that kubectl can read"
        ) from error
    finally:
        root.removeHandler(keeper)
    if words and not configuration.api_key:
        # The kubernetes client logs a failing credential plugin and goes on without a login.
        raise Unreachable(
            f"The credential plugin of {named} failed: {words[-1]}", hint="Run the plugin's command by hand to see why"
        )
    if not urlsplit(str(configuration.host)).hostname:
        raise InferenceError(f"{named} names no server", hint="Set clusters[].cluster.server in it")
    return configuration
