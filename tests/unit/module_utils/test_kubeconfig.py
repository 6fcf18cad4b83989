"""Merging one cluster into a kubeconfig: nothing else in the file may change, not even a comment."""

from __future__ import annotations

import difflib
import json
from typing import Any

import pytest
import yaml
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.kubeconfig import Entry, merge, parse, visible
from hypothesis import given
from hypothesis import strategies as st

ENTRY = Entry(
    "gke_p_l_c",
    {"server": "https://192.0.2.1", "certificate-authority-data": "Q0E="},
    {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "/usr/bin/python3",
            "interactiveMode": "Never",
        }
    },
)

OTHERS = """\
# my clusters
apiVersion: v1
clusters:
# the lab
- cluster:
    server: https://lab.example  # behind the VPN
  name: lab

# below the clusters
contexts:
- {context: {cluster: lab, user: lab}, name: lab}
current-context: lab
kind: Config
users:
  - name: lab
    user:
      token: lab-token-not-to-be-shown
# the end
"""


def merged(text: str, entry: Entry = ENTRY, make_current: bool = False) -> str:
    return merge(text, entry, "/kube/config", make_current=make_current)


def named(text: str, section: str, name: str = ENTRY.name) -> Any:
    [found] = [entry for entry in yaml.safe_load(text)[section] if entry["name"] == name]
    return found[section[:-1]]


def assert_holds_the_entry(text: str) -> None:
    assert named(text, "clusters") == ENTRY.cluster
    assert named(text, "users") == ENTRY.user
    assert named(text, "contexts") == {"cluster": ENTRY.name, "user": ENTRY.name}


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "{}", "{}\n"])
def test_an_empty_file_becomes_a_kubeconfig_with_a_current_context(text: str) -> None:
    after = merged(text)
    assert_holds_the_entry(after)
    assert yaml.safe_load(after)["current-context"] == ENTRY.name
    assert "comment" not in text or "# only a comment\n" in after


def test_other_entries_comments_and_the_current_context_survive() -> None:
    after = merged(OTHERS)
    assert_holds_the_entry(after)
    differences = difflib.ndiff(OTHERS.splitlines(), after.splitlines())
    assert [line for line in differences if line.startswith("-")] == []
    assert yaml.safe_load(after)["current-context"] == "lab"


def test_a_second_merge_changes_no_byte() -> None:
    once = merged(OTHERS)
    assert merged(once) == once


def test_only_our_entry_is_replaced_when_the_cluster_has_moved() -> None:
    once = merged(OTHERS).replace("    server: https://192.0.2.1\n", "    server: https://192.0.2.9 # old\n")
    assert named(once, "clusters")["server"] == "https://192.0.2.9"
    assert merged(once) == merged(OTHERS)


def test_the_current_context_changes_when_asked() -> None:
    after = merged(OTHERS, make_current=True)
    assert yaml.safe_load(after)["current-context"] == ENTRY.name
    assert after.replace("current-context: gke_p_l_c\n", "current-context: lab\n") == merged(OTHERS)


def test_what_somebody_added_to_our_entry_is_kept_but_never_a_weaker_trust() -> None:
    data = yaml.safe_load(merged(""))
    data["clusters"][0]["cluster"].update({"proxy-url": "http://proxy", "insecure-skip-tls-verify": True})
    data["contexts"][0]["context"]["namespace"] = "mine"
    after = merged(yaml.safe_dump(data))
    assert named(after, "clusters") == {**ENTRY.cluster, "proxy-url": "http://proxy"}
    assert named(after, "contexts")["namespace"] == "mine"
    assert named(merged(after, ENTRY._replace(namespace="ml-inference")), "contexts")["namespace"] == "ml-inference"


def test_a_dns_endpoint_drops_the_authority_of_the_old_address() -> None:
    entry = ENTRY._replace(cluster={"server": "https://x.gke.goog"})
    assert named(merged(merged(OTHERS), entry), "clusters") == {"server": "https://x.gke.goog"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(yaml.safe_load(OTHERS)),
        json.dumps(yaml.safe_load(OTHERS), indent=2) + "\n",
        json.dumps({"kind": "Config"}),
        "apiVersion: v1\nclusters: null\ncontexts: null\ncurrent-context: ''\nkind: Config\nusers: null\n",
        "apiVersion: v1\nclusters:\ncontexts: []\nkind: Config\nusers:   # none yet\n",
        "kind: Config",
        "---\nclusters:\n    - name: a\n      cluster:\n        server: |\n          x\n    # more\nusers: []\n...\n",
        'kind: Config\nclusters:\n- name: "a"\n  cluster: {server: "b"} # c',
        OTHERS.replace("\n", "\r\n"),
    ],
    ids=["json", "json-lines", "json-short", "kubectl-empty", "nothing-yet", "no-newline", "document", "flow", "crlf"],
)
def test_every_way_to_write_a_kubeconfig_is_edited_in_place(text: str) -> None:
    before = yaml.safe_load(text)
    after = merged(text)
    assert_holds_the_entry(after)
    assert merged(after) == after
    for section in ("clusters", "contexts", "users"):
        kept = [entry for entry in yaml.safe_load(after)[section] if entry["name"] != ENTRY.name]
        assert kept == (before.get(section) or [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not YAML"),
        ("kind: Config\n\tclusters: []", "not YAML (line 2)"),
        ("just words", "not a mapping"),
        ("- a\n", "not a mapping"),
        ("kind: Pod\napiVersion: v1\n", "it is v1 Pod"),
        ("clusters: {}\n", "clusters is not a list"),
        ("users: [1]\n", "users holds something other than a named user"),
        ("contexts: [{context: {}}]\n", "contexts holds something other"),
        ("clusters: [{name: a, cluster: text}]\n", "clusters holds something other"),
        ("kind: Config\n---\nkind: Config\n", "not YAML"),
    ],
)
def test_a_corrupt_file_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(InferenceError) as caught:
        merged(text)
    assert words in str(caught.value)
    assert "/kube/config" in str(caught.value)
    assert "left as it is" in str(caught.value)


def test_what_cannot_be_edited_safely_is_refused() -> None:
    text = "kind: Config\nclusters: &c\n- {name: gke_p_l_c, cluster: {server: a}}\nextensions: *c\n"
    with pytest.raises(InferenceError, match="cannot be edited in place"):
        merged(text)


def test_the_diff_shows_the_entry_and_no_secret() -> None:
    before = merged(OTHERS, ENTRY._replace(user={**ENTRY.user, "token": "old-secret"}))
    shown = visible(before, ENTRY.name, "f")
    assert "https://192.0.2.1" in shown
    assert "python3" in shown
    for secret in ("old-secret", "Q0E=", "lab-token-not-to-be-shown", "lab.example"):
        assert secret not in shown
    assert visible(OTHERS, ENTRY.name, "f") == ""
    assert parse(shown, "f")["current-context"] == "lab"


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)
_ENTRY = st.fixed_dictionaries({"name": _TEXT.filter(bool), "cluster": st.dictionaries(_TEXT, _TEXT, max_size=3)})
_ENTRIES = st.lists(_ENTRY, max_size=3)


@given(clusters=_ENTRIES, flow=st.sampled_from([True, False, None]), indent=st.sampled_from([2, 4]))
def test_any_kubeconfig_keeps_its_other_entries(clusters: list[dict[str, Any]], flow: bool | None, indent: int) -> None:
    data = {"kind": "Config", "clusters": clusters}
    text = yaml.safe_dump(data, default_flow_style=flow, indent=indent, allow_unicode=True)
    after = merged(text)
    assert yaml.safe_load(after)["clusters"] == [*data["clusters"], {"name": ENTRY.name, "cluster": ENTRY.cluster}]
    assert merged(after) == after
