"""Digests from a registry over real HTTP, and what its refusals mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils import registry
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.gke_exec import Token

from sandbox.google import Fault, State
from tests.google_standin import DEPLOYER, stand_in

NAME = "demo-project/ml/inference-api"
HOST = f"europe-west4-docker{registry.GOOGLE_REGISTRY}"
DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("registry.example/a/b:1", ("registry.example", "a/b", "1", "")),
        ("registry.example/a", ("registry.example", "a", "latest", "")),
        ("127.0.0.1:5000/a:v1.2_3-x", ("127.0.0.1:5000", "a", "v1.2_3-x", "")),
        (f"localhost/a@{DIGEST}", ("localhost", "a", "", DIGEST)),
        (f"[::1]:5000/a/b:t@{DIGEST}", ("[::1]:5000", "a/b", "t", DIGEST)),
    ],
)
def test_a_reference_is_taken_apart(text: str, parts: tuple[str, ...]) -> None:
    assert registry.parse(text) == parts


@pytest.mark.parametrize(
    "text",
    ["", "a", "a:1", "folder/image:1", "registry.example/A:1", "registry.example/", "x.y/a@sha256:12", "x.y/a b"],
)
def test_what_names_no_registry_and_image_is_refused(text: str) -> None:
    with pytest.raises(InferenceError, match="is not an image reference"):
        registry.parse(text)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("registry.example", "https://registry.example"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("localhost", "http://localhost"),
        ("127.0.0.1.example", "https://127.0.0.1.example"),
        ("[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_only_this_machine_is_asked_without_tls(host: str, url: str) -> None:
    assert registry.base_url(host) == url


@pytest.fixture(scope="module")
def shared() -> Iterator[State]:
    with stand_in() as state:
        yield state


@pytest.fixture
def google(shared: State) -> Iterator[State]:
    shared.manifests.clear()
    yield shared
    shared.faults.clear()


def ask(google: State, image: str, *, auth: str = "auto") -> dict[str, Any]:
    params = {"image": image, "auth": auth, "registry_url": google.url, "wait_timeout": 3.0}
    return registry.image_info(params, lambda: Token(google.grant(DEPLOYER)[0], 0, None, DEPLOYER))


def test_a_tag_becomes_the_digest_with_a_google_token(google: State) -> None:
    digest = google.put_image(NAME, "1.0")
    found = ask(google, f"{HOST}/{NAME}:1.0")
    assert found["digest"] == digest
    assert found["pinned"] == f"{HOST}/{NAME}@{digest}"
    assert found["media_type"] == "application/vnd.oci.image.manifest.v1+json"
    assert found["size"] == 2
    assert ask(google, f"{HOST}/{NAME}@{digest}")["digest"] == digest


def test_any_other_registry_gets_the_anonymous_token_that_it_asks_for(google: State) -> None:
    digest = google.put_image("public/image", "1")
    assert ask(google, "registry.example/public/image:1")["digest"] == digest
    assert {grant.email for grant in google.grants.values()} - {DEPLOYER} == {"anonymous"}


@pytest.mark.parametrize(
    ("image", "auth", "fault", "words"),
    [
        (f"{HOST}/{NAME}:2.0", "auto", None, ["has no tag 2.0: there are 1.0, 1.1. Push"]),
        (f"{HOST}/{NAME}@{DIGEST}", "auto", None, [f"has no digest {DIGEST}: there are"]),
        (f"{HOST}/{NAME}-x:1.0", "auto", None, ["has no image", f"{NAME}-x", "check the project"]),
        (f"{HOST}/{NAME}:1.0", "auto", "permission", [DEPLOYER, "may not read", "roles/artifactregistry.reader"]),
        (f"{HOST}/{NAME}:1.0", "auto", "unauthenticated", [DEPLOYER, "401 authentication failed"]),
        (f"registry.example/{NAME}:1.0", "auto", None, ["an anonymous user may not read", "Log in"]),
        (f"{HOST}/{NAME}:1.0", "anonymous", None, ["the Google login may not read"]),
        (f"{HOST}/{NAME}:1.0", "auto", "unavailable", ["answered 503", "Try again later"]),
        (f"{HOST}/{NAME}:1.0", "auto", "busy", ["answered 429"]),
    ],
)
def test_a_refusal_names_what_is_missing(
    image: str, auth: str, fault: str | None, words: list[str], google: State
) -> None:
    google.put_image(NAME, "1.0")
    google.put_image(NAME, "1.1")
    if fault:
        google.faults.append(Fault("registry", fault, retry_after=60))
    with pytest.raises(InferenceError) as caught:
        ask(google, image, auth=auth)
    said = str(caught.value)
    assert [word for word in words if word not in said] == [], said
    assert not any(token in said for token in google.grants)


def look_up(*answers: registry.Answer) -> dict[str, Any]:
    waiting = list(answers)

    def get(url: str, headers: Mapping[str, str]) -> registry.Answer:
        return waiting.pop(0)

    slept: list[float] = []
    reference = registry.parse("registry.example/a:1")
    return registry.look_up(reference, get, base="https://r", clock=lambda: sum(slept), sleep=slept.append)


MANIFEST = json.dumps({"mediaType": "m", "config": {"size": 1}, "layers": [{"size": 10}, {"size": 100}]}).encode()


def test_a_registry_that_is_busy_for_a_moment_is_asked_again() -> None:
    found = look_up(registry.Answer(429, {"retry-after": "2"}, b""), registry.Answer(200, {}, MANIFEST))
    assert found["size"] == 111


def test_an_index_has_no_size_of_its_own() -> None:
    found = look_up(registry.Answer(200, {"content-type": "x/index; v=1"}, b'{"manifests": []}'))
    assert (found["size"], found["media_type"]) == (None, "x/index")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (registry.Answer(200, {"docker-content-digest": DIGEST}, MANIFEST), "sent another manifest"),
        (registry.Answer(200, {}, b"<html>"), "no image manifest"),
        (registry.Answer(200, {}, b"[]"), "no image manifest"),
        (registry.Answer(418, {}, b"tea"), "answered 418"),
        (registry.Answer(401, {"www-authenticate": "Basic realm=x"}, b""), "an anonymous user may not read"),
    ],
)
def test_an_answer_that_cannot_be_trusted_is_refused(answer: registry.Answer, words: str) -> None:
    with pytest.raises(InferenceError, match=words):
        look_up(answer)


def test_a_registry_that_does_not_answer_is_named() -> None:
    params = {"image": "127.0.0.1:9/a:1", "auth": "auto", "registry_url": None, "wait_timeout": 3.0}
    with pytest.raises(InferenceError, match=r"http://127.0.0.1:9/v2/a/manifests/1 gave no answer"):
        registry.image_info(params, lambda: pytest.fail("no Google token here"))
