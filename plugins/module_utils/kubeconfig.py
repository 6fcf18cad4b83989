# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One cluster's entries in a kubeconfig, edited as text so that every other entry and every comment stays as it is."""

from __future__ import annotations

import hashlib
import json
import textwrap
from typing import Any, NamedTuple

import yaml
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

SECTIONS = {"clusters": "cluster", "contexts": "context", "users": "user"}
# What a written cluster entry settles; whatever else somebody put there (a proxy, a server name) is kept.
_SETTLED = ("server", "certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify")


class Entry(NamedTuple):
    """A cluster, a user and the context that joins them, all under one name."""

    name: str
    cluster: dict[str, Any]
    user: dict[str, Any]
    namespace: str = ""


def parse(text: str, path: str) -> dict[str, Any]:
    """The kubeconfig in the text; an empty text is an empty kubeconfig. Raises InferenceError for anything else."""

    def refused(why: str) -> InferenceError:
        return InferenceError(
            f"{path} is not a kubeconfig: {why}. It was left as it is",
            hint="Repair or move it away, or name another file",
            kubeconfig=path,
        )

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise refused(f"not YAML{f' (line {mark.line + 1})' if mark else ''}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise refused("not a mapping")
    if data.get("kind", "Config") != "Config" or data.get("apiVersion", "v1") != "v1":
        raise refused(f"it is {data.get('apiVersion')} {data.get('kind')}")
    for section, key in SECTIONS.items():
        entries = data.get(section)
        if entries is None:
            continue
        if not isinstance(entries, list):
            raise refused(f"{section} is not a list")
        for entry in entries:
            if not isinstance(entry, dict) or not entry.get("name") or not isinstance(entry.get(key) or {}, dict):
                raise refused(f"{section} holds something other than a named {key}")
    return data


def merge(text: str, entry: Entry, path: str, *, make_current: bool) -> str:
    """The text with the entry in it; the very same text when it is there already.

    The current context changes when C(make_current) says so, or when there is none.
    """
    data = parse(text, path)
    if not data:
        fresh = {"apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": entry.name}
        return _blank(text) + _dump({**fresh, **{section: [_wanted({}, entry, section)] for section in SECTIONS}})
    changes: list[tuple[str, Any]] = []
    wanted = dict(data)
    for section in SECTIONS:
        entries = list(data.get(section) or [])
        places = [place for place, found in enumerate(entries) if found["name"] == entry.name]
        new = _wanted(entries[places[0]] if places else {}, entry, section)
        if places and entries[places[0]] == new:
            continue
        if places:
            entries[places[0]] = new
        else:
            entries.append(new)
        wanted[section] = entries
        changes.append((section, new))
    if wanted.get("current-context") != entry.name and (make_current or not wanted.get("current-context")):
        wanted["current-context"] = entry.name
        changes.append(("current-context", entry.name))
    for key, value in changes:
        text = _edit(text, key, value)
    # The marks of the parser are the only guide, so the result is held against what was meant.
    if yaml.safe_load(text) != wanted:
        raise InferenceError(
            f"{path} is written in a way that cannot be edited in place. It was left as it is",
            hint="Have it written anew (kubectl config view --raw), or name another file",
            kubeconfig=path,
        )
    return text


def visible(text: str, name: str, path: str) -> str:
    """The entry as a person may see it in a diff: no token, no key, and certificates by their hash."""
    data = parse(text, path)
    shown: dict[str, Any] = {}
    for section, key in SECTIONS.items():
        for found in data.get(section) or []:
            if found["name"] == name and key not in shown:
                shown[key] = {field: _shown(key, field, value) for field, value in (found.get(key) or {}).items()}
    if shown:
        shown["current-context"] = data.get("current-context")
    return _dump(shown) if shown else ""


def _shown(key: str, field: str, value: Any) -> Any:
    if field == "exec" and isinstance(value, dict):
        env = [{"name": item.get("name"), "value": "(hidden)"} for item in value.get("env") or []]
        return {**value, **({"env": env} if env else {})}
    if key == "user":
        return "(hidden)"
    if field.endswith("-data"):
        return f"(sha256 {hashlib.sha256(str(value).encode()).hexdigest()[:16]})"
    return value


def _wanted(found: dict[str, Any], entry: Entry, section: str) -> dict[str, Any]:
    before = found.get(SECTIONS[section]) or {}
    if section == "users":
        after: dict[str, Any] = entry.user
    elif section == "clusters":
        after = {**{key: value for key, value in before.items() if key not in _SETTLED}, **entry.cluster}
    else:
        after = {**before, "cluster": entry.name, "user": entry.name}
        if entry.namespace:
            after["namespace"] = entry.namespace
    return {**found, "name": entry.name, SECTIONS[section]: after}


def _edit(text: str, key: str, value: Any) -> str:
    """The text with one entry of a section replaced or added, or with one plain key set."""
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    section: Any = next((found for name, found in root.value if name.value == key), None)
    is_list = isinstance(value, dict)
    if section is None:
        whole = [value] if is_list else value
        if root.flow_style:
            return _insert(text, root, f"{json.dumps(key)}: {json.dumps(whole)}", bool(root.value))
        return _append(text, _end(root), _dump({key: whole}))
    if not is_list:
        return _replace(text, section, json.dumps(value) if root.flow_style else value)
    if not isinstance(section, yaml.SequenceNode) or not section.value:  # null, or an empty list
        if root.flow_style:
            return _replace(text, section, json.dumps([value]))
        block = textwrap.indent(_dump([value]), " " * (root.start_mark.column)).rstrip("\n")
        start = text[: section.start_mark.index].rstrip(" ")
        return f"{start}\n{block}{text[section.end_mark.index :]}"
    found = next((item for item in section.value if _name(item) == value["name"]), None)
    if section.flow_style:
        if found is not None:
            return _replace(text, found, json.dumps(value))
        return _insert(text, section, json.dumps(value), True)
    column = section.start_mark.column
    if found is None:
        return _append(text, _end(section), textwrap.indent(_dump([value]), " " * column))
    inner = found.start_mark.column
    body = textwrap.indent(_dump(value), " " * inner)[inner:].rstrip("\n")
    return text[: found.start_mark.index] + body + text[_end(found) :]


def _blank(text: str) -> str:
    """The comments of a file that holds nothing else."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        text = text[: root.start_mark.index] + text[root.end_mark.index :]
    return text if not text or text.endswith("\n") else f"{text}\n"


def _replace(text: str, node: Any, new: str) -> str:
    before = text[: node.start_mark.index]
    return before + ("" if before.endswith((" ", "\n")) else " ") + new + text[node.end_mark.index :]


def _insert(text: str, node: Any, new: str, more: bool) -> str:
    """Add to the end of a list or mapping in brackets."""
    close = node.end_mark.index - 1
    return f"{text[:close].rstrip()}{', ' if more else ''}{new}{text[close:]}"


def _append(text: str, index: int, lines: str) -> str:
    """Add whole lines below the one that holds the index."""
    stop = text.find("\n", index)
    if stop < 0:
        return f"{text}\n{lines}"
    return text[: stop + 1] + lines + text[stop + 1 :]


def _end(node: Any) -> int:
    """Where the node's own text ends: the parser's mark of a block stands behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return max(_end(part) for part in (last if isinstance(last, tuple) else (last,)))
    index: int = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return index - 1
    return index


def _name(item: Any) -> Any:
    return next((value.value for key, value in item.value if key.value == "name"), None)


def _dump(data: Any) -> str:
    return str(yaml.safe_dump(data, sort_keys=True, default_flow_style=False, width=10**6))
