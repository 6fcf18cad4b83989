# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an OCI registry has under an image reference."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from ansible_collections.deepmlhub.inference.plugins.module_utils import gke_exec
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
GOOGLE_REGISTRY = ".pkg.dev"  # Artifact Registry's hosts; a Google token goes nowhere else by itself
_BUSY = frozenset({429, 500, 502, 503, 504})


class Answer(NamedTuple):
    """An HTTP answer, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# (url, headers) -> Answer; raises InferenceError when there is none
Get = Callable[[str, Mapping[str, str]], Answer]


class Reference(NamedTuple):
    """An image reference taken apart; one of tag and digest is set, or both."""

    host: str
    name: str
    tag: str
    digest: str

    @property
    def target(self) -> str:
        """What the registry is asked for: the digest where there is one."""
        return self.digest or self.tag


def parse(reference: str) -> Reference:
    """The parts of C(host/name:tag@digest); the tag is latest by default. Raises InferenceError for anything else."""
    found = re.fullmatch(
        r"(?P<host>[\w.-]+(?::\d+)?|\[[0-9a-fA-F:]+\](?::\d+)?)/"
        r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
        r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
        reference,
    )
    # Without a dot, a port or localhost the first part is a folder of some default registry, and there is no default.
    if not found or not re.search(r"[.:]|^localhost$", found["host"]):
        raise InferenceError(
            f"{reference!r} is not an image reference with a registry",
            hint="Write it as registry.example/repository/image:tag, in lower case",
        )
    digest = found["digest"] or ""
    return Reference(found["host"], found["name"], found["tag"] or ("" if digest else "latest"), digest)


def base_url(host: str) -> str:
    """Where the registry answers: with TLS, except on this machine itself."""
    plain = re.fullmatch(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", host)
    return f"{'http' if plain else 'https'}://{host}"


def image_info(params: Mapping[str, Any], login: Callable[[], gke_exec.Token]) -> dict[str, Any]:
    """What the options of image_info ask for; C(login) is called only where a Google token is wanted."""
    reference = parse(params["image"])
    google = params["auth"] == "google" or (params["auth"] == "auto" and reference.host.endswith(GOOGLE_REGISTRY))
    token = login() if google else gke_exec.Token("", 0, None, "")
    budget = params["wait_timeout"]
    base = params.get("registry_url") or base_url(reference.host)
    return look_up(reference, http_get(budget / 2), base=base, token=token.value, account=token.account, budget=budget)


def look_up(
    reference: Reference,
    get: Get,
    *,
    base: str,
    token: str = "",
    account: str = "",
    budget: float = 8.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Digest, media type and size of what the reference names. Raises InferenceError that says what is missing.

    :param token: an access token for the registry; without one, an anonymous token is fetched where it asks for one.
    :param account: whose token it is, for the error.
    """
    deadline = clock() + budget
    pause = 0.5
    url = f"{base.rstrip('/')}/v2/{reference.name}/manifests/{reference.target}"
    headers = {"Accept": ACCEPT, **({"Authorization": f"Bearer {token}"} if token else {})}
    while True:
        answer = get(url, headers)
        if answer.status == 401 and not token and "Authorization" not in headers:
            anonymous = _anonymous(answer.headers.get("www-authenticate", ""), reference, get)
            if anonymous:
                headers["Authorization"] = f"Bearer {anonymous}"
                continue
        wait = _seconds(answer.headers.get("retry-after"), pause)
        if answer.status not in _BUSY or clock() + wait >= deadline:
            break
        sleep(wait)
        pause *= 2
    if answer.status != 200:
        tags = _tags(reference, get, base, headers) if answer.status == 404 else []
        raise explain(reference, answer, account, tags)
    return _described(reference, answer)


def explain(reference: Reference, answer: Answer, account: str, tags: list[str]) -> InferenceError:
    """What an error answer of a registry means, and what to do about it."""
    code, words = _error(answer.body)
    image = f"{reference.host}/{reference.name}"
    said = gke_exec.redact(words or code or "no reason given")[:200]
    if (answer.status == 404 and code == "NAME_UNKNOWN") or (answer.status == 404 and not tags):
        return InferenceError(
            f"The registry has no image {image} ({said})",
            hint="Push the image, or check the project, repository and image in the reference",
            status=404,
        )
    if answer.status == 404:
        return InferenceError(
            f"The image {image} has no {'digest' if reference.digest else 'tag'} {reference.target}: "
            f"there are {', '.join(tags[-5:])}{' and others' if len(tags) > 5 else ''}",
            hint="Push it, or name one that exists",
            status=404,
            tags=tags,
        )
    if answer.status in (401, 403):
        who = account or ("the Google login" if reference.host.endswith(GOOGLE_REGISTRY) else "an anonymous user")
        role = "roles/artifactregistry.reader on the repository"
        return InferenceError(
            f"{who} may not read {image} ({answer.status} {said})",
            hint=f"Grant it {role}, or check that the repository exists" if account else "Log in to the registry",
            status=answer.status,
        )
    if answer.status in _BUSY:
        return InferenceError(
            f"The registry {reference.host} answered {answer.status} until the time was up", hint="Try again later"
        )
    return InferenceError(
        f"The registry {reference.host} answered {answer.status} for {image} ({said})",
        hint="Check that the reference names a registry",
        status=answer.status,
    )


def _described(reference: Reference, answer: Answer) -> dict[str, Any]:
    computed = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
    said = answer.headers.get("docker-content-digest", computed)
    if said != computed or (reference.digest and reference.digest != computed):
        raise InferenceError(
            f"The registry {reference.host} sent another manifest than the digest {reference.digest or said} says",
            hint="Something between here and the registry changes its answers: do not deploy this image",
        )
    try:
        manifest = json.loads(answer.body)
        media_type = str(manifest.get("mediaType") or answer.headers.get("content-type", "").split(";")[0])
        layers = [manifest["config"], *manifest["layers"]] if "config" in manifest else []
        size = sum(int(layer["size"]) for layer in layers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InferenceError(
            f"What {reference.host} has under {reference.name} is no image manifest", hint="Check the reference"
        ) from error
    return {
        "digest": computed,
        "media_type": media_type,
        "size": size if layers else None,
        "pinned": f"{reference.host}/{reference.name}@{computed}",
    }


def _anonymous(challenge: str, reference: Reference, get: Get) -> str:
    """An anonymous token from where the challenge points, or nothing."""
    values = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not challenge.lower().startswith("bearer ") or not values.get("realm", "").startswith("http"):
        return ""
    query = {"scope": f"repository:{reference.name}:pull"}
    if values.get("service"):
        query["service"] = values["service"]
    answer = get(f"{values['realm']}?{urlencode(query)}", {})
    try:
        data = json.loads(answer.body)
        return str(data.get("token") or data.get("access_token") or "")
    except (ValueError, AttributeError):
        return ""


def _tags(reference: Reference, get: Get, base: str, headers: Mapping[str, str]) -> list[str]:
    try:
        answer = get(f"{base.rstrip('/')}/v2/{reference.name}/tags/list?n=50", headers)
        return [str(tag) for tag in json.loads(answer.body)["tags"]] if answer.status == 200 else []
    except (InferenceError, ValueError, KeyError, TypeError):
        return []


def _error(body: bytes) -> tuple[str, str]:
    try:
        first = json.loads(body)["errors"][0]
        return str(first.get("code") or ""), str(first.get("message") or "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "", ""


def _seconds(given: str | None, otherwise: float) -> float:
    try:
        return max(0.0, float(given)) if given else otherwise
    except ValueError:
        return otherwise


def http_get(timeout: float) -> Get:
    """The real transport: one GET, redirects only to where no token goes along."""
    import requests

    def get(url: str, headers: Mapping[str, str]) -> Answer:
        try:
            answer = requests.get(url, headers=dict(headers), timeout=timeout)
        except requests.RequestException as error:
            raise InferenceError(
                f"{url} gave no answer ({type(error).__name__})",
                hint="Check the registry's host in the image reference, and this machine's network",
            ) from error
        return Answer(
            answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content
        )

    return get
