from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import (
    ApiError,
    Cluster,
    Unreachable,
    connect,
)
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

from .scripted import Asked, Clock, Reply, Scripted

OK: Reply = (200, {}, {"kind": "Thing"})


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


def cluster(url: str, clock: Clock | None = None) -> Cluster:
    clock = clock or Clock()
    return Cluster(
        url,
        urllib3.PoolManager(),
        lambda: {"Authorization": "Bearer secret-token"},
        request_timeout=2.0,
        clock=clock,
        sleep=clock.sleep,
    )


def test_a_request_carries_login_query_and_body() -> None:
    with Scripted(lambda _asked: OK) as server:
        answer = cluster(server.url).request("PATCH", "/a", query={"x": "y z"}, body={"b": 1}, content_type="c/d")
    assert answer.body == {"kind": "Thing"}
    asked = server.asked[0]
    assert (asked.method, asked.path, asked.body) == ("PATCH", "/a?x=y+z", {"b": 1})
    assert asked.headers["Authorization"] == "Bearer secret-token"
    assert asked.headers["Content-Type"] == "c/d"


def test_an_answer_that_is_no_json_is_text() -> None:
    with Scripted(lambda _asked: (200, {}, "line 1\nline 2")) as server:
        assert cluster(server.url).request("GET", "/log").body == "line 1\nline 2"


@pytest.mark.parametrize(
    ("code", "reason", "hint"),
    [(401, "Unauthorized", "has expired"), (403, "Forbidden", "this permission"), (422, "Invalid", "")],
)
def test_a_refusal_keeps_the_server_s_words_and_says_what_to_do(code: int, reason: str, hint: str) -> None:
    refusal = status(code, reason, "because")
    with Scripted(lambda _asked: (code, {}, refusal)) as server, pytest.raises(ApiError, match="because") as caught:
        cluster(server.url).request("GET", "/a")
    assert (caught.value.status, caught.value.reason, caught.value.message) == (code, reason, "because")
    assert hint in str(caught.value)
    assert "secret-token" not in str(caught.value)
    assert len(server.asked) == 1


def test_too_many_requests_waits_as_long_as_the_server_says() -> None:
    replies = [(429, {"Retry-After": "7"}, status(429, "TooManyRequests", "later")), OK]
    clock = Clock()
    with Scripted(lambda _asked: replies.pop(0)) as server:
        assert cluster(server.url, clock).request("POST", "/a", body={}).status == 200
    assert clock.slept == [7.0]


@pytest.mark.parametrize("code", [502, 503, 504])
def test_a_gateway_s_error_is_tried_again_for_what_may_be_repeated(code: int) -> None:
    replies = [(code, {}, "away"), (code, {}, "away"), OK]
    clock = Clock()
    with Scripted(lambda _asked: replies.pop(0)) as server:
        assert cluster(server.url, clock).request("PATCH", "/a", body={}).status == 200
    assert clock.slept == [0.25, 0.5]


def test_a_create_that_may_have_arrived_is_not_sent_twice() -> None:
    with Scripted(lambda _asked: None) as server, pytest.raises(Unreachable):
        cluster(server.url).request("POST", "/a", body={})
    assert len(server.asked) == 1


def test_a_read_that_got_no_answer_is_asked_again() -> None:
    replies = [None, OK]
    with Scripted(lambda _asked: replies.pop(0)) as server:
        assert cluster(server.url).request("GET", "/a").status == 200


def test_a_server_that_stays_away_is_given_up_within_patience() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        clock = Clock()
        with pytest.raises(Unreachable, match="did not answer GET /a") as caught:
            cluster(url, clock).request("GET", "/a")
    assert clock.now <= 30.0
    assert "Check the server address" in str(caught.value)


def test_the_server_s_own_time_is_kept() -> None:
    with Scripted(lambda _asked: (200, {"Date": "Tue, 24 Nov 2026 04:00:00 GMT"}, {})) as server:
        found = cluster(server.url)
        found.request("GET", "/a")
    assert found.server_time == "2026-11-24T04:00:00Z"


def test_a_watch_gives_every_line_and_ends_with_the_stream() -> None:
    lines = '{"type":"ADDED","object":{"a":1}}\n{"type":"BOOKMARK","object":{}}\n'
    with Scripted(lambda _asked: (200, {}, lines)) as server:
        found = list(cluster(server.url).watch("/a", query={"resourceVersion": "1"}, timeout=5))
    assert [line["type"] for line in found] == ["ADDED", "BOOKMARK"]
    assert "watch=true" in server.asked[0].path
    assert "timeoutSeconds=5" in server.asked[0].path


def test_a_watch_that_breaks_says_so() -> None:
    def cut(_asked: Asked) -> Reply:
        return 200, {"Content-Length": "500", "Connection": "close"}, '{"type":"ADDED","object":{}}\n'

    with Scripted(cut) as server, pytest.raises(Unreachable, match="broke"):
        list(cluster(server.url).watch("/a", query={}, timeout=1))


def module(kubeconfig: Path, **more: Any) -> Any:
    return SimpleNamespace(params={"kubeconfig": str(kubeconfig), "request_timeout": 1.0, **more})


def kubeconfig(folder: Path, user: str, server: str = "https://127.0.0.1:1") -> Path:
    path = folder / "config"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n"
        f"users: [{{name: u, user: {user}}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    return path


def test_connect_uses_the_kubeconfig_s_token(tmp_path: Path) -> None:
    with Scripted(lambda _asked: OK) as server:
        path = kubeconfig(tmp_path, "{token: abc}", server.url)
        connect(module(path)).request("GET", "/version")
    assert server.asked[0].headers[
        "authorization" if "authorization" in server.asked[0].headers else "Authorization"
    ] == ("Bearer abc")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [b", "is not YAML"),
        ("- just\n- a list\n", "cannot be read as a kubeconfig|gives no usable connection"),
        ("apiVersion: v1\nkind: Config\n", "gives no usable connection|cannot be read"),
    ],
)
def test_connect_names_a_file_that_is_no_kubeconfig(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InferenceError, match=said) as caught:
        connect(module(path))
    assert str(path) in str(caught.value)


def test_connect_names_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="absent"):
        connect(module(tmp_path / "absent"))


def test_connect_names_a_context_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="nowhere"):
        connect(module(kubeconfig(tmp_path, "{token: abc}"), context="nowhere"))


def test_connect_reports_a_failing_credential_plugin_in_its_own_words(tmp_path: Path) -> None:
    plugin = (
        "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, "
        "command: sh, args: ['-c', 'echo the key is gone >&2; exit 3']}}"
    )
    with pytest.raises(Unreachable, match="credential plugin") as caught:
        connect(module(kubeconfig(tmp_path, plugin)))
    assert "exit" in str(caught.value) or "the key is gone" in str(caught.value)
