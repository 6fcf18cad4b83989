"""Field ownership: the sets in metadata.managedFields and the merge of server-side apply.

A set is a Python set of paths; a path is a tuple of elements in the form that FieldsV1 writes them:
`f:spec`, `k:{"name":"api"}`, `v:"x"`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sandbox.api import schema
from sandbox.api.schema import Json, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str, ...]
Set = set[Path]


def copy(value: Json) -> Json:
    """A deep copy of a JSON value."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy(item) for item in value]
    return value


def dumps(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def element(node: Node, item: Json) -> str:
    """The path element of a list's item; the node is the list's."""
    keys = schema.list_keys(node)
    if not keys:
        return f"v:{dumps(item)}"
    found = {k: item.get(k, schema.KEY_DEFAULTS.get(k)) for k in sorted(keys)} if isinstance(item, dict) else {}
    return f"k:{dumps({k: v for k, v in found.items() if v is not None})}"


def owned(node: Node, value: Json, at: Path = ()) -> Set:
    """The fields that an applied configuration sets."""
    if isinstance(value, dict) and value and not schema.is_atomic(node):
        out: Set = set()
        for key, field in value.items():
            path = (*at, f"f:{key}")
            inner = schema.child(node, key)
            out |= owned({} if inner is None else inner, field, path)
            if field is None or field == {} or not schema.is_struct(node):
                out.add(path)
        return out
    if isinstance(value, list) and value and not schema.is_atomic(node):
        inner = schema.items(node)
        out = set()
        for item in value:
            path = (*at, element(node, item))
            out |= {path} | (owned(inner, item, path) if isinstance(item, dict) else set())
        return out
    return {at} if at else set()


class Difference:
    """The paths that differ between two values: added, modified and removed."""

    def __init__(self, node: Node, old: Json, new: Json) -> None:
        self.added: Set = set()
        self.modified: Set = set()
        self.removed: Set = set()
        self._walk(node, old, new, (), old is not None, new is not None)

    def _walk(self, node: Node, old: Json, new: Json, at: Path, has_old: bool, has_new: bool) -> None:
        if has_old and has_new and old == new:
            return
        value = new if has_new and new is not None else old
        leaf = schema.is_atomic(node) or not isinstance(value, dict | list) or not (old or new)
        if leaf:
            if has_old and has_new:
                self.modified.add(at)
        elif isinstance(value, dict):
            left, right = old or {}, new or {}
            for key in left | right:
                inner = schema.child(node, key)
                self._walk({} if inner is None else inner, left.get(key), right.get(key), (*at, f"f:{key}"),
                           key in left, key in right)  # fmt: skip
        else:
            inner = schema.items(node)
            left = {element(node, item): item for item in old or []}
            right = {element(node, item): item for item in new or []}
            for key in left | right:
                if isinstance(left.get(key, right.get(key)), dict):
                    self._walk(inner, left.get(key), right.get(key), (*at, key), key in left, key in right)
                elif key not in left:
                    self.added.add((*at, key))
                elif key not in right:
                    self.removed.add((*at, key))
        if at and not has_old:
            self.added.add(at)
        elif at and not has_new:
            self.removed.add(at)


def merge(node: Node, live: Json, config: Json) -> Json:
    """Lay a configuration over the live value: maps and keyed lists merge, all else is replaced."""
    if config is None or schema.is_atomic(node):
        return copy(config)
    if isinstance(config, dict):
        out = copy(live) if isinstance(live, dict) else {}
        for key, field in config.items():
            inner = schema.child(node, key)
            out[key] = merge({} if inner is None else inner, out.get(key), field)
        return out
    if isinstance(config, list):
        return _merge_list(node, live or [], config)
    return config


def _merge_list(node: Node, live: list[Json], config: list[Json]) -> list[Json]:
    """The order is the configuration's; live items that it does not hold keep their place between."""
    inner = schema.items(node)
    left = {element(node, item): item for item in live}
    right = {element(node, item): item for item in config}
    lkeys, rkeys = list(left), list(right)
    shared = [key for key in rkeys if key in left]
    out: list[Json] = []
    li = ri = 0
    while li < len(lkeys) or ri < len(rkeys):
        if li < len(lkeys):
            key = lkeys[li]
            if key not in right:
                out.append(copy(left[key]))
                li += 1
                continue
            if ri >= len(rkeys) or (key != rkeys[ri] and (not shared or shared[0] != key)):
                li += 1
                continue
        key = rkeys[ri]
        out.append(merge(inner, left.get(key), right[key]))
        ri += 1
        if shared and shared[0] == key:
            shared.pop(0)
        if li < len(lkeys) and lkeys[li] == key:
            li += 1
    return out


def problems(node: Node, value: Json, at: Path = ()) -> Iterator[str]:
    """What keeps an applied configuration from being read, in the words of the server's merge library."""
    where = spell(at)
    if value is None or not node.get("type"):
        return
    wanted = schema.json_type(node)
    if wanted == "object" and isinstance(value, dict):
        for key, field in value.items():
            inner = schema.child(node, key)
            if inner is None:
                yield f"{where}.{key}: field not declared in schema"
            else:
                yield from problems(inner, field, (*at, f"f:{key}"))
    elif wanted == "array" and isinstance(value, list):
        seen: list[str] = []
        for index, item in enumerate(value):
            part = f"i:{index}" if schema.is_atomic(node) else element(node, item)
            if part in seen:
                yield f"{where}: duplicate entries for key {spell((part,))}"
            seen.append(part)
            yield from problems(schema.items(node), item, (*at, part))
    elif wanted in ("object", "array"):
        yield f"{where}: expected {'map' if wanted == 'object' else 'list'}, got &{{{value}}}"
    elif wanted == "string" and not isinstance(value, str):
        yield f"{where}: expected string, got &value.valueUnstructured{{Value:{dumps(value)}}}"
    elif wanted == "boolean" and not isinstance(value, bool):
        yield f"{where}: expected boolean, got &{{{value}}}"
    elif wanted in ("integer", "number") and (isinstance(value, bool) or not isinstance(value, int | float)):
        noun = {str: "string", bool: "bool", list: "[]interface {}"}.get(type(value), "map[string]interface {}")
        yield f"{where}: expected numeric (int or float), got {noun}"


Tree = dict[str, Any]


def _tree(paths: Set) -> Tree:
    root: Tree = {}
    for path in paths:
        at = root
        for part in path:
            at = at.setdefault(part, {})
        at["."] = {}
    return root


def remove(node: Node, value: Json, paths: Set) -> Json:
    return _remove(node, value, _tree(paths)) if paths else value


def _remove(node: Node, value: Json, tree: Tree) -> Json:
    if isinstance(value, dict):
        out = {}
        for key, field in value.items():
            sub = tree.get(f"f:{key}")
            if sub is None:
                out[key] = field
            elif "." not in sub:
                inner = schema.child(node, key)
                out[key] = _remove({} if inner is None else inner, field, sub)
        return out or None
    if isinstance(value, list):
        inner = schema.items(node)
        kept = []
        for item in value:
            sub = tree.get(element(node, item), {})
            if "." not in sub:
                kept.append(_remove(inner, item, sub) if sub else item)
        return kept or None
    return value


def with_parents(node: Node, paths: Set) -> Set:
    """Add the struct fields that lie on the way to each path, which ownership sets leave out."""
    out = set(paths)
    for path in paths:
        at: Node | None = node
        for depth, part in enumerate(path):
            if at is None:
                break
            prefix = path[: depth + 1]
            if part.startswith("f:"):
                if schema.is_struct(at):
                    out.add(prefix)
                at = schema.child(at, part[2:])
            else:
                at = schema.items(at)
    return out


def prune(node: Node, merged: Json, last: Set, managed: list[Set]) -> Json:
    """Take out what the last configuration had and nobody owns any more."""
    if not last:
        return merged
    pruned = remove(node, merged, with_parents(node, last))
    everything = with_parents(node, owned(node, merged))
    kept = with_parents(node, owned(node, pruned) if pruned else set())
    claimed = with_parents(node, set().union(*managed))
    pruned = remove(node, merged, everything - (kept | claimed))
    # What lies below a removed item but was never ours goes with it; what stands beside it stays.
    kept = with_parents(node, owned(node, pruned) if pruned else set())
    return remove(node, merged, (everything - kept) & with_parents(node, last))


def to_v1(paths: Set) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for path in sorted(paths):
        at = out
        for part in path:
            at = at.setdefault(part, {})
    for path in paths:
        at = out
        for part in path:
            at = at[part]
        if at:
            at["."] = {}
    return _sorted(out)


def _sorted(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: _sorted(tree[key]) for key in sorted(tree)}


def from_v1(tree: dict[str, Any], at: Path = ()) -> Set:
    out: Set = set()
    for part, sub in tree.items():
        if part == ".":
            out.add(at)
        elif sub:
            out |= from_v1(sub, (*at, part))
        else:
            out.add((*at, part))
    return out


def spell(path: Path) -> str:
    """A path as conflict messages write it: `.spec.template.spec.containers[name="api"].image`."""
    text = ""
    for part in path:
        if part.startswith("f:"):
            text += f".{part[2:]}"
        elif part.startswith("k:"):
            pairs = json.loads(part[2:]).items()
            text += "[" + ",".join(f"{key}={dumps(value)}" for key, value in pairs) + "]"
        elif part.startswith("i:"):
            text += f"[{part[2:]}]"
        else:
            text += f"[={part[2:]}]"
    return text
