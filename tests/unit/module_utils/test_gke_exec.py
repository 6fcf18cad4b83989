"""Tokens by the real google-auth over real HTTP, and the program that hands them to kubectl."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils import gke_exec
from ansible_collections.deepmlhub.inference.plugins.module_utils.gke_exec import CredentialError, Login, Token

from sandbox.google import Fault, State
from tests.google_standin import DEPLOYER, TARGET, Time, stand_in, write

KINDS = ["key", "github", "gitlab", "impersonation", "metadata", "given"]


@pytest.fixture(scope="module")
def shared() -> Iterator[State]:
    with stand_in() as state:
        yield state


@pytest.fixture
def google(shared: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    host = shared.url.removeprefix("http://")
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.setenv(name, host)
    monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", host)
    monkeypatch.setattr(shared, "machine_account", DEPLOYER)
    yield shared
    shared.faults.clear()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def login_for(kind: str, google: State, folder: Path) -> Login:
    iam = f"{google.url}/iamcredentials"
    if kind == "key":
        return Login(file=write(folder / "key.json", google.add_key(DEPLOYER)))
    if kind == "github":
        return Login(file=write(folder / "github.json", google.external_account(google.github_source(), TARGET)))
    if kind == "gitlab":
        source = {"file": write(folder / "oidc", google.oidc_token())}
        return Login(file=write(folder / "gitlab.json", google.external_account(source)))
    if kind == "impersonation":
        key = write(folder / "key.json", google.add_key(DEPLOYER))
        return Login(file=key, impersonate=TARGET, iam_url=iam)
    if kind == "given":
        return Login(token_file=write(folder / "token", google.grant(DEPLOYER)[0]))
    return Login()


@pytest.mark.parametrize(
    ("kind", "user", "account"),
    [
        ("key", DEPLOYER, DEPLOYER),
        ("github", TARGET, TARGET),
        ("gitlab", "principal://", ""),
        ("impersonation", TARGET, TARGET),
        ("metadata", DEPLOYER, DEPLOYER),
        ("given", DEPLOYER, ""),
    ],
)
def test_each_kind_of_credentials_gives_a_token_for_its_identity(
    kind: str, user: str, account: str, google: State, tmp_path: Path
) -> None:
    before = time.time()
    token = gke_exec.fetch(login_for(kind, google, tmp_path))
    assert str(google.user_of(token.value)).startswith(user)
    assert token.account == account
    if kind == "given":
        assert token.expiry is None
    else:
        assert token.expiry is not None
        assert before + 3590 < token.expiry < time.time() + 3601


@pytest.mark.parametrize(
    ("kind", "fault", "words"),
    [
        ("key", Fault("token", "expired-key"), ["Invalid JWT Signature", DEPLOYER, "key.json", "new one"]),
        ("key", Fault("token", "unavailable"), ["answered 503", "try again later"]),
        ("key", Fault("token", "busy"), ["answered 429", "try again later"]),
        ("github", Fault("oidc", "permission"), ["gave no token for the job", "id-token: write"]),
        ("github", Fault("sts", "unauthenticated"), ["refused the job's token", "attribute condition"]),
        ("gitlab", Fault("sts", "permission"), ["refused the job's token"]),
        ("gitlab", Fault("sts", "disabled"), ["sts.googleapis.com is disabled", "services enable sts.googleapis.com"]),
        ("github", Fault("iamcredentials", "permission"), ["roles/iam.workloadIdentityUser", TARGET]),
        ("impersonation", Fault("iamcredentials", "permission"), ["roles/iam.serviceAccountTokenCreator", TARGET]),
        (
            "impersonation",
            Fault("iamcredentials", "disabled"),
            ["iamcredentials.googleapis.com is disabled", "gcloud services enable iamcredentials.googleapis.com"],
        ),
        ("impersonation", Fault("iamcredentials", "missing"), ["no service account", TARGET]),
        ("impersonation", Fault("token", "expired-key"), ["Invalid JWT Signature", DEPLOYER]),
        ("impersonation", Fault("iamcredentials", "unavailable"), ["answered 503"]),
        ("metadata", Fault("metadata", "missing"), ["knows no service account"]),
        ("metadata", Fault("metadata", "unavailable"), ["the metadata server", "answered 503"]),
    ],
    ids=lambda value: f"{value.at}-{value.kind}" if isinstance(value, Fault) else None,
)
def test_a_refusal_is_one_line_that_names_what_is_missing_in_time(
    kind: str, fault: Fault, words: list[str], google: State, tmp_path: Path, clock: Time
) -> None:
    google.faults.append(fault)
    login = login_for(kind, google, tmp_path)
    start = clock.now
    with pytest.raises(CredentialError) as caught:
        gke_exec.fetch(login)
    assert clock.now - start < 8
    said = str(caught.value)
    assert [word for word in words if word not in said] == [], said
    assert "\n" not in said
    for token in google.grants:
        assert token not in said


def test_a_short_outage_is_survived(google: State, tmp_path: Path) -> None:
    google.faults.append(Fault("token", "unavailable", times=1))
    assert google.user_of(gke_exec.fetch(login_for("key", google, tmp_path)).value) == DEPLOYER


def test_nothing_at_all_is_told_with_the_ways_out(google: State, monkeypatch: pytest.MonkeyPatch, clock: Time) -> None:
    monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", "127.0.0.1:9")
    start = clock.now
    with pytest.raises(CredentialError, match=r"no credentials.*not reached.*GOOGLE_APPLICATION_CREDENTIALS"):
        gke_exec.fetch(Login())
    assert clock.now - start < 8


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[]", "has type None"),
        ({"type": "gdch"}, "has type 'gdch'"),
        ({"type": "service_account"}, "cannot be used"),
        ({"type": "external_account"}, "cannot be used"),
        ({"type": "authorized_user"}, "cannot be used"),
    ],
)
def test_a_bad_credentials_file_is_named(content: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    if content is not None:
        write(path, content)
    with pytest.raises(CredentialError) as caught:
        gke_exec.fetch(Login(file=str(path)))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_key_that_is_no_key_is_not_printed(tmp_path: Path, google: State) -> None:
    key = google.add_key(DEPLOYER)
    key["private_key"] = key["private_key"].replace("A", "?")
    with pytest.raises(CredentialError) as caught:
        gke_exec.fetch(Login(file=write(tmp_path / "key.json", key)))
    assert "BEGIN" not in str(caught.value)
    assert key["private_key"][40:80] not in str(caught.value)


def test_a_clock_that_is_off_is_named_as_the_cause(tmp_path: Path) -> None:
    with stand_in(clock=lambda: time.time() + 7200) as google, pytest.raises(CredentialError, match="machine's clock"):
        gke_exec.fetch(login_for("key", google, tmp_path))


def test_application_default_credentials_follow_the_documented_order(tmp_path: Path) -> None:
    folder = {"CLOUDSDK_CONFIG": str(tmp_path)}
    assert gke_exec.application_default(folder) == Login()
    well_known = write(tmp_path / "application_default_credentials.json", {})
    assert gke_exec.application_default(folder) == Login(file=well_known)
    assert gke_exec.application_default({**folder, "GOOGLE_APPLICATION_CREDENTIALS": "/x/key"}) == Login(file="/x/key")


@pytest.mark.parametrize(("life", "early"), [(3600, 225), (900, 225), (800, 200), (20, 5)])
def test_the_next_token_is_asked_for_early_but_not_too_early(life: float, early: float) -> None:
    assert gke_exec.refresh_at(1000, 1000 + life) == 1000 + life - early


def test_the_cache_answers_until_the_token_is_nearly_over_and_no_longer(tmp_path: Path) -> None:
    now = 1000.0
    asked: list[Login] = []

    def fetch(login: Login) -> Token:
        asked.append(login)
        return Token(f"token-{len(asked)}", now, now + 20, "me")

    def value() -> str:
        return gke_exec.cached(Login(), str(tmp_path / "cache"), clock=lambda: now, fetch=fetch).value

    assert [value(), value()] == ["token-1", "token-1"]
    now = 1014.9
    assert value() == "token-1"
    now = 1015
    assert value() == "token-2"
    [kept] = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_another_key_under_the_same_name_is_another_identity(tmp_path: Path) -> None:
    def fetch(login: Login) -> Token:
        return Token(Path(login.file).read_text(), 0, 1000, "")

    login = Login(file=write(tmp_path / "key.json", "one"))
    assert gke_exec.cached(login, str(tmp_path / "cache"), clock=lambda: 0, fetch=fetch).value == "one"
    write(tmp_path / "key.json", "another")
    assert gke_exec.cached(login, str(tmp_path / "cache"), clock=lambda: 0, fetch=fetch).value == "another"


def test_the_cache_is_one_wherever_the_program_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = Login(file=write(tmp_path / "key.json", "one"))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        gke_exec.cached(login, str(tmp_path / "cache"), clock=lambda: 0, fetch=lambda _: Token("t", 0, 1000, ""))
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("damage", ["", "{", '{"value": 1}', "[]"])
def test_a_damaged_cache_is_as_good_as_empty(damage: str, tmp_path: Path) -> None:
    def fetch(login: Login) -> Token:
        return Token("fresh", 0, 1000, "")

    gke_exec.cached(Login(), str(tmp_path), clock=lambda: 0, fetch=fetch)
    [kept] = tmp_path.iterdir()
    kept.write_text(damage)
    assert gke_exec.cached(Login(), str(tmp_path), clock=lambda: 0, fetch=fetch).value == "fresh"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_the_answer_speaks_the_version_that_the_client_asked_for(version: str) -> None:
    info = json.dumps({"apiVersion": f"client.authentication.k8s.io/{version}", "kind": "ExecCredential"})
    answer = gke_exec.exec_credential(Token("t", 0, 3600, ""), info)
    assert answer["apiVersion"] == f"client.authentication.k8s.io/{version}"
    assert answer["status"] == {"token": "t", "expirationTimestamp": "1970-01-01T00:56:15Z"}


@pytest.mark.parametrize("info", ["{", "[]", "{}", '{"apiVersion": "client.authentication.k8s.io/v1alpha1"}'])
def test_a_client_that_cannot_be_answered_is_told_so(info: str) -> None:
    with pytest.raises(CredentialError, match="KUBERNETES_EXEC_INFO"):
        gke_exec.exec_credential(Token("t", 0, 3600, ""), info)


def test_a_surprise_is_one_line_without_its_secret() -> None:
    def fetch(login: Login) -> Token:
        raise RuntimeError("broken\nwith ya29.secret-thing inside")

    out, err = io.StringIO(), io.StringIO()
    assert gke_exec.main([], {}, out, err, fetch=fetch) == 1
    assert out.getvalue() == ""
    assert err.getvalue() == "gke_exec: no token: RuntimeError: broken with (hidden) inside\n"


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_by_its_path_prints_what_a_client_reads(kind: str, google: State, tmp_path: Path) -> None:
    login = login_for(kind, google, tmp_path)
    command = [sys.executable, "-P", gke_exec.__file__, *login.arguments(), "--cache", str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["kind"] == "ExecCredential"
    assert google.user_of(answer["status"]["token"])


def test_the_program_fails_in_one_line(google: State, tmp_path: Path) -> None:
    google.faults.append(Fault("token", "expired-key"))
    command = [sys.executable, "-P", gke_exec.__file__, *login_for("key", google, tmp_path).arguments()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("gke_exec: Google refused deployer@")


@pytest.mark.skipif(shutil.which("gke-gcloud-auth-plugin") is None, reason="Google's plugin is not installed")
def test_the_answer_has_the_shape_of_google_s_plugin(google: State, tmp_path: Path) -> None:
    login = login_for("key", google, tmp_path)
    info = {"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "spec": {}}
    environ = {**os.environ, "HOME": str(tmp_path), "GOOGLE_APPLICATION_CREDENTIALS": login.file}
    environ["KUBERNETES_EXEC_INFO"] = json.dumps(info)

    def answer(*command: str) -> dict[str, Any]:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
        found: dict[str, Any] = json.loads(done.stdout)
        assert google.user_of(found["status"].pop("token")) == DEPLOYER
        datetime.strptime(found["status"].pop("expirationTimestamp"), "%Y-%m-%dT%H:%M:%S%z")
        return found

    theirs = answer("gke-gcloud-auth-plugin", "--use_application_default_credentials")
    assert answer(sys.executable, "-P", gke_exec.__file__, *login.arguments()) == theirs
