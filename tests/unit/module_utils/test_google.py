"""What Google's answers mean: pure tables, and requests over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.deepmlhub.inference.plugins.module_utils import google as g
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.gke_exec import Login

from sandbox.google import Fault, State
from tests.google_standin import DEPLOYER, stand_in

CLUSTER: dict[str, Any] = {
    "name": "c",
    "endpoint": "192.0.2.1",
    "masterAuth": {"clusterCaCertificate": "Q0E="},
    "status": "RUNNING",
}
IP = {"ipEndpointsConfig": {"enabled": True, "enablePublicEndpoint": True, "publicEndpoint": "192.0.2.1"}}
DNS = {"dnsEndpointConfig": {"endpoint": "x.gke.goog", "allowExternalTraffic": True}}
DNS_OFF = {"dnsEndpointConfig": {"endpoint": "x.gke.goog", "allowExternalTraffic": False}}
IP_OFF = {"ipEndpointsConfig": {"enabled": False, "publicEndpoint": "192.0.2.1"}}
PRIVATE = {"ipEndpointsConfig": {"enabled": True, "enablePublicEndpoint": False, "privateEndpoint": "10.0.0.2"}}


def cluster(*control: dict[str, Any], **fields: Any) -> dict[str, Any]:
    merged = {key: value for part in control for key, value in part.items()}
    return {**CLUSTER, **({"controlPlaneEndpointsConfig": merged} if merged else {}), **fields}


@pytest.mark.parametrize(
    ("found", "kind", "server", "ca"),
    [
        (cluster(), "default", "https://192.0.2.1", "Q0E="),
        (cluster(IP, DNS), "default", "https://192.0.2.1", "Q0E="),
        (cluster(IP_OFF, DNS), "default", "https://x.gke.goog", ""),
        (cluster(PRIVATE, DNS), "default", "https://x.gke.goog", ""),
        (cluster(endpoint="2001:db8::1"), "default", "https://[2001:db8::1]", "Q0E="),
        (cluster(endpoint="127.0.0.1:6443"), "default", "https://127.0.0.1:6443", "Q0E="),
        (cluster(PRIVATE), "internal", "https://10.0.0.2", "Q0E="),
        (cluster(privateClusterConfig={"privateEndpoint": "10.0.0.3"}), "internal", "https://10.0.0.3", "Q0E="),
        (cluster(IP, DNS), "dns", "https://x.gke.goog", ""),
        (
            cluster(fleet={"membership": "//gkehub.googleapis.com/projects/12/locations/global/memberships/m"}),
            "connect_gateway",
            "https://connectgateway.googleapis.com/v1/projects/12/locations/global/gkeMemberships/m",
            "",
        ),
        (
            cluster(fleet={"membership": "//gkehub.googleapis.com/projects/12/locations/europe-west4/memberships/m"}),
            "connect_gateway",
            "https://europe-west4-connectgateway.googleapis.com/v1/projects/12/locations/europe-west4/gkeMemberships/m",
            "",
        ),
    ],
)
def test_the_endpoint_and_its_authority(found: dict[str, Any], kind: str, server: str, ca: str) -> None:
    assert g.endpoint(found, kind)[1:] == (server, ca)
    assert g.endpoint(found, kind).kind == ("dns" if server.endswith("gke.goog") else kind)


@pytest.mark.parametrize(
    ("found", "kind", "words"),
    [
        (cluster(PRIVATE), "default", "no public address. Set gcloud_credentials_endpoint to internal"),
        (cluster(IP_OFF, DNS_OFF), "default", "no public address. Set gcloud_credentials_endpoint to what"),
        (cluster(IP, DNS), "internal", "no internal address. Set gcloud_credentials_endpoint to default or dns"),
        (cluster(IP, DNS_OFF), "dns", "--enable-dns-access"),
        (cluster(IP), "dns", "lets no traffic from outside in by its DNS name"),
        (cluster(IP), "connect_gateway", "in no fleet"),
        (cluster(IP, masterAuth={}), "default", "names no certificate authority"),
    ],
)
def test_an_endpoint_that_is_not_there_is_told_with_those_that_are(
    found: dict[str, Any], kind: str, words: str
) -> None:
    with pytest.raises(InferenceError) as caught:
        g.endpoint(found, kind)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("status", "warning", "error"),
    [
        ("RUNNING", "", ""),
        ("RECONCILING", "", ""),
        ("DEGRADED", "DEGRADED: nodes ail", ""),
        ("PROVISIONING", "", "PROVISIONING: nodes ail. Wait"),
        ("STOPPING", "", "STOPPING: nodes ail. Repair"),
        ("ERROR", "", "ERROR: nodes ail. Repair"),
    ],
)
def test_the_status_decides_whether_a_cluster_can_be_used(status: str, warning: str, error: str) -> None:
    found = {**CLUSTER, "status": status, "conditions": [{"code": "X", "message": "nodes ail"}]}
    if error:
        with pytest.raises(InferenceError, match=error):
            g.usable(found)
    else:
        assert warning in g.usable(found)
        assert bool(warning) == bool(g.usable(found))


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"clusters": [{"name": "c", "location": "x1"}, {"name": "d", "location": "y1"}]}, "it is in x1. Set"),
        ({"clusters": [{"name": "e", "location": "z1"}, {"name": "d", "location": "y1"}]}, "there are d (y1), e (z1)"),
        ({}, "the project has no cluster. Check gcloud_credentials_project"),
        ({"missingZones": ["a"]}, "(silent: a)"),
    ],
)
def test_a_wrong_name_or_place_is_answered_with_the_clusters_that_exist(listed: dict[str, Any], words: str) -> None:
    assert words in str(g.not_found("p", "l", "c", listed))


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (
            403,
            '{"error": {"message": "Required \\"container.clusters.get\\" permission(s) for \\"p\\"."}}',
            "clusterViewer",
        ),
        (403, '{"error": {"message": "no"}}', "lacks the permission iam.serviceAccounts.setIamPolicy"),
        (403, "<html>", "lacks the permission"),
        (404, '{"error": {"message": "gone", "status": "NOT_FOUND"}}', "404 NOT_FOUND: gone"),
        (400, "", "status 400"),
        (401, "{}", "refused the token of me"),
    ],
)
def test_an_error_answer_of_any_shape_is_explained(status: int, text: str, words: str) -> None:
    error = g.explain(status, text, "https://iam.googleapis.com/v1", "me", "p", "iam.serviceAccounts.setIamPolicy")
    assert words in str(error)
    assert error.status == status


@pytest.fixture(scope="module")
def shared() -> Iterator[State]:
    with stand_in() as state:
        yield state


@pytest.fixture
def google(shared: State) -> Iterator[State]:
    yield shared
    shared.faults.clear()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def fetch(google: State, clock: Clock, **where: str) -> dict[str, Any]:
    api = g.Google(google.grant(DEPLOYER)[0], DEPLOYER, clock=clock, sleep=clock.sleep)
    wanted = {"project": google.project, "location": google.location, "name": google.cluster, **where}
    return g.fetch_cluster(api, f"{google.url}/container", **wanted)


def test_busy_is_asked_again_after_what_retry_after_says(google: State) -> None:
    google.faults += [Fault("container", "busy", times=1, retry_after=3), Fault("container", "unavailable", times=1)]
    clock = Clock()
    assert fetch(google, clock)["status"] == "RUNNING"
    assert clock.slept == [3, 1]


@pytest.mark.parametrize(("kind", "words"), [("busy", "429 RESOURCE_EXHAUSTED"), ("unavailable", "503 UNAVAILABLE")])
def test_what_stays_busy_is_given_up_in_time(kind: str, words: str, google: State) -> None:
    google.faults.append(Fault("container", kind, retry_after=2))
    clock = Clock()
    with pytest.raises(InferenceError, match=words):
        fetch(google, clock)
    assert clock.now < 8


def test_a_wait_that_is_longer_than_the_patience_is_not_begun(google: State) -> None:
    google.faults.append(Fault("container", "busy", retry_after=60))
    clock = Clock()
    with pytest.raises(InferenceError, match="try again later"):
        fetch(google, clock)
    assert clock.slept == []


def test_a_list_that_is_forbidden_still_names_the_mistake(google: State) -> None:
    google.faults += [Fault("container", "missing", times=1), Fault("container", "permission", times=1)]
    with pytest.raises(InferenceError, match=r"no cluster inference in .*cannot be listed.*lacks the permission"):
        fetch(google, Clock())


def test_an_address_where_nobody_answers_is_named() -> None:
    api = g.Google("token", "me")
    with pytest.raises(InferenceError, match=r"http://127.0.0.1:9/v1/.* gave no answer"):
        g.fetch_cluster(api, "http://127.0.0.1:9", "p", "l", "c")


def test_google_s_plugin_gets_the_login_that_it_can_use() -> None:
    assert g.google_plugin_entry(Login(impersonate="a@b"), "/p") is None
    assert g.google_plugin_entry(Login(token_file="/t"), "/p") is None
    found = g.google_plugin_entry(Login(file="/k"), "/p")
    assert found is not None
    assert found["exec"]["env"] == [{"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/k"}]


@pytest.mark.parametrize(
    ("code", "out", "err", "words"),
    [
        (1, "", "gke_exec: no key\n", "gives no token: no key."),
        (0, "", "", "it ended with 0 and printed no credential"),
        (0, '{"status": {}}', "", "printed no credential"),
        (0, "[]", "", "printed no credential"),
        (1, "", "bad ya29.secret", "bad (hidden)"),
    ],
)
def test_a_credential_program_that_fails_is_quoted(code: int, out: str, err: str, words: str) -> None:
    with pytest.raises(InferenceError) as caught:
        g.check_exec_answer(["/bin/x"], code, out, err)
    assert words in str(caught.value)
