# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where models come from: a path, https, Google Cloud Storage, MLflow. Only the standard library: it runs in a pod."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from .errors import ModelError

TRIES = 5
TIMEOUT = 30.0  # seconds, of each connection and each read
RETRIED = {408, 429, 500, 502, 503, 504}
FORMS = "a path, https://…, gs://bucket/path, models:/name/version, models:/name@alias or runs:/run-id/path"


class NotFound(ModelError):
    """The source answers, but it doesn't have the file."""


class Interrupted(Exception):
    """A transfer that broke off, or a server that asks to come back later: worth another try."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but hand credentials to nobody they weren't meant for, and never leave https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if old.scheme == "https" and new.scheme != "https":
            raise ModelError(f"{shown(req.full_url)}: redirects from https to {new.scheme}")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            request.remove_header("Authorization")
        return request


_OPENER = urllib.request.build_opener(_Redirects)


@dataclass(frozen=True)
class Stream:
    """Bytes of a file from an offset on."""

    content: IO[bytes]
    offset: int


Headers = Callable[[], Mapping[str, str]]


class Source:
    """A place that holds a bundle's files."""

    def open(self, name: str, offset: int = 0) -> contextlib.AbstractContextManager[Stream]:
        """A file's bytes from offset, or from 0 where that can't be had. NotFound, ModelError, Interrupted."""
        raise NotImplementedError


class LocalSource(Source):
    """A directory, such as a mounted volume."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def open(self, name: str, offset: int = 0) -> Iterator[Stream]:
        """See Source."""
        path = self._directory / name
        try:
            content = path.open("rb")
        except FileNotFoundError:
            raise NotFound(f"{path}: no such file") from None
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}") from None
        with content:
            content.seek(offset)
            yield Stream(content, offset)


class HttpSource(Source):
    """Files under a URL."""

    def __init__(self, url_of: Callable[[str], str], headers: Headers = dict) -> None:
        self._url_of = url_of
        self._headers = headers

    @contextlib.contextmanager
    def open(self, name: str, offset: int = 0) -> Iterator[Stream]:
        """See Source."""
        headers = {**self._headers(), **({"Range": f"bytes={offset}-"} if offset else {})}
        with request(self._url_of(name), headers) as answer:
            yield Stream(answer, offset if answer.status == 206 else 0)


@contextlib.contextmanager
def request(url: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """An answer of status 2xx. NotFound, ModelError for what won't change, Interrupted for what may."""
    try:
        # the scheme was checked where the URL was made
        asked = urllib.request.Request(url, headers=dict(headers))  # noqa: S310
        with _OPENER.open(asked, timeout=TIMEOUT) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        with error:
            said = " ".join(error.read(300).decode("utf-8", "replace").split())
            where = f"{shown(url)}: {error.code} {error.reason}"
            if error.code in RETRIED:
                wait = error.headers.get("Retry-After", "")
                raise Interrupted(where, float(wait) if wait.isdigit() else 0.0) from None
            if error.code == 404:
                raise NotFound(f"{where}: {said}") from None
            hint = "; it wants other credentials" if error.code in (401, 403) else ""
            raise ModelError(f"{where}: {said}{hint}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise Interrupted(f"{shown(url)}: {reason or type(error).__name__}") from None


def retried(work: Callable[[], Any], sleep: Callable[[float], None] = time.sleep, tries: int = TRIES) -> Any:
    """What work returns, tried again when it is interrupted, after 1, 2, 4… seconds or as long as the server says."""
    for attempt in range(tries):
        try:
            return work()
        except Interrupted as error:
            if attempt == tries - 1:
                raise ModelError(f"{error}, {tries} times") from None
            sleep(min(60.0, max(error.wait, 2.0**attempt)))
    raise AssertionError("unreachable")


def shown(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def source(uri: str, env: Mapping[str, str] = os.environ, sleep: Callable[[float], None] = time.sleep) -> Source:
    """The place that a URI names. ModelError for a URI that isn't one, or that its server doesn't know."""
    scheme, _, rest = uri.partition(":")
    if "://" not in uri and scheme not in ("models", "runs", "mlflow-artifacts", "file"):
        return LocalSource(Path(uri))
    if scheme == "file":
        return LocalSource(Path(unquote(urlsplit(uri).path)))
    if scheme in ("http", "https"):
        if scheme == "http" and not env.get("MODEL_SHA256"):
            raise ModelError(
                f"{shown(uri)}: plain http needs MODEL_SHA256, for anybody on the way could change the model"
            )
        parts = urlsplit(uri)
        return HttpSource(lambda name: urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}")))
    if scheme == "gs":
        return _gcs(uri, env, sleep)
    if scheme in ("models", "runs", "mlflow-artifacts"):
        return _Mlflow(env, sleep).source(uri)
    raise ModelError(f"{shown(uri) if rest else uri}: a model comes from {FORMS}")


def _metadata_host(env: Mapping[str, str]) -> str:
    return env.get("GCE_METADATA_HOST") or "metadata.google.internal"


def _metadata_server(env: Mapping[str, str], path: str) -> bytes:
    url = f"http://{_metadata_host(env)}/computeMetadata/v1/instance/service-accounts/default/{path}"
    with request(url, {"Metadata-Flavor": "Google"}) as answer:
        content: bytes = answer.read(1 << 16)
        return content


def _gcs(uri: str, env: Mapping[str, str], sleep: Callable[[float], None]) -> Source:
    """A prefix of a bucket: by the pod's own Google account, or anonymous where there is none."""
    parts = urlsplit(uri)
    emulator = env.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    base = emulator or "https://storage.googleapis.com"
    if emulator and "://" not in emulator:
        base = f"http://{emulator}"

    def headers() -> Mapping[str, str]:
        if emulator:
            return {}
        try:
            socket.getaddrinfo(_metadata_host(env).partition(":")[0], 80)
        except OSError:
            return {}
        # it may need some seconds on a new pod
        token = json.loads(retried(lambda: _metadata_server(env, "token"), sleep))["access_token"]
        return {"Authorization": f"Bearer {token}"}

    def url_of(name: str) -> str:
        key = "/".join(part for part in (unquote(parts.path).strip("/"), name) if part)
        return f"{base}/storage/v1/b/{parts.netloc}/o/{quote(key, safe='')}?alt=media"

    return HttpSource(url_of, headers)


class _Mlflow:
    """A tracking server, over its REST interface."""

    def __init__(self, env: Mapping[str, str], sleep: Callable[[float], None]) -> None:
        self._env = env
        self._sleep = sleep
        self._server = env.get("MLFLOW_TRACKING_URI", "").rstrip("/")
        if urlsplit(self._server).scheme not in ("http", "https"):
            raise ModelError(f"MLFLOW_TRACKING_URI={self._server!r} is not the http(s) URL of a tracking server")
        self._identity: str | None = None

    def source(self, uri: str, depth: int = 0) -> Source:
        """The files behind models:/, runs:/ and mlflow-artifacts:/."""
        if depth > 5:
            raise ModelError(f"{uri}: leads in a circle")
        scheme, _, rest = uri.partition(":")
        rest = rest.lstrip("/")
        if scheme == "mlflow-artifacts":
            # mlflow-artifacts://host/path names a server too: the one that we were told of holds it
            path = urlsplit(uri).path.strip("/")
            base = f"{self._server}/api/2.0/mlflow-artifacts/artifacts/{quote(path)}"
            return HttpSource(lambda name: f"{base}/{quote(name)}", self._headers)
        if scheme == "runs":
            run, _, path = rest.partition("/")
            artifacts = self._ask("runs/get", run_id=run)["run"]["info"]["artifact_uri"]
            return self.source(f"{artifacts.rstrip('/')}/{path}", depth + 1)
        if scheme == "models":
            return self.source(self._model(uri, rest), depth + 1)
        return source(uri, self._env, self._sleep)

    def _model(self, uri: str, rest: str) -> str:
        if re.fullmatch(r"m-[0-9a-f]+", rest):
            artifacts: str = self._ask(f"logged-models/{rest}")["model"]["info"]["artifact_uri"]
            return artifacts
        if match := re.fullmatch(r"([^/@]+)@([^/@]+)", rest):
            found = self._ask("registered-models/alias", name=unquote(match[1]), alias=match[2])
            name, version = unquote(match[1]), found["model_version"]["version"]
        elif match := re.fullmatch(r"([^/@]+)/(\d+)", rest):
            name, version = unquote(match[1]), match[2]
        else:
            raise ModelError(f"{uri}: not models:/name/version or models:/name@alias")
        location: str = self._ask("model-versions/get-download-uri", name=name, version=version)["artifact_uri"]
        return location

    def _ask(self, what: str, **query: str) -> Any:
        def once() -> Any:
            with request(f"{self._server}/api/2.0/mlflow/{what}?{urlencode(query)}", self._headers()) as answer:
                return json.load(answer)

        return retried(once, self._sleep)

    def _headers(self) -> Mapping[str, str]:
        """MLflow's own variables; or the pod's Google identity, for a server behind Cloud Run."""
        env = self._env
        if env.get("MLFLOW_GOOGLE_IDENTITY", "").lower() == "true":
            if self._identity is None:
                path = f"identity?{urlencode({'audience': self._server})}"
                self._identity = retried(lambda: _metadata_server(env, path), self._sleep).decode().strip()
            return {"Authorization": f"Bearer {self._identity}"}
        if token := env.get("MLFLOW_TRACKING_TOKEN"):
            return {"Authorization": f"Bearer {token}"}
        if user := env.get("MLFLOW_TRACKING_USERNAME"):
            pair = f"{user}:{env.get('MLFLOW_TRACKING_PASSWORD', '')}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        return {}
