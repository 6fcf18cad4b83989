"""JSON, merge and strategic merge patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonpatch

from sandbox.api import fields, schema
from sandbox.api.errors import ApiStatus, bad_request
from sandbox.api.schema import Json, Node

if TYPE_CHECKING:
    from sandbox.api.kinds import Kind

Obj = dict[str, Any]
JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def refused(obj: Json, why: str) -> ApiStatus:
    """The answer to a patch whose result cannot be read."""
    text = f"Invalid value: {fields.dumps(fields.dumps(obj))}: {why}"
    causes = [{"reason": "FieldValueInvalid", "message": text, "field": "patch"}]
    return ApiStatus(422, "Invalid", f' "" is invalid: patch: {text}', {"causes": causes})


def patched(kind: Kind, live: Obj, patch: Json, how: str) -> Obj:
    if how == JSON:
        return _json(live, patch)
    if not isinstance(patch, dict):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        )
    if how == MERGE:
        return merge(live, patch)  # type: ignore[no-any-return]
    try:
        return strategic(schema.of(kind), fields.copy(live), patch)  # type: ignore[no-any-return]
    except (AttributeError, TypeError):
        raise bad_request("invalid patch: a list that merges by a key holds something that has no such key") from None


def _json(live: Obj, patch: Json) -> Obj:
    if not isinstance(patch, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    obj = fields.copy(live)
    rejected = ApiStatus(422, "Invalid", "the server rejected our request due to an error in our request", {})
    try:
        for step in patch:
            if step.get("op") == "replace":
                # The server's library lets a replace create the last key of its path.
                step = {**step, "op": "add"} if not _in_list(obj, step.get("path", "")) else step
            obj = jsonpatch.apply_patch(obj, [step])
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, AttributeError, KeyError, TypeError):
        raise rejected from None
    if not isinstance(obj, dict):
        raise rejected
    return obj


def _in_list(obj: Json, path: str) -> bool:
    at = obj
    for part in path.split("/")[1:-1]:
        at = at[int(part)] if isinstance(at, list) else at[part.replace("~1", "/").replace("~0", "~")]
    return isinstance(at, list)


def merge(live: Json, patch: Json) -> Json:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return fields.copy(patch)
    out = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


def strategic(node: Node, live: Json, patch: Json) -> Json:
    """A patch that merges lists by the key that their schema names, with `$patch` and its relatives."""
    if not isinstance(patch, dict):
        return patch
    patch = dict(patch)
    directive = patch.pop("$patch", "merge")
    if directive == "replace":
        return patch
    if directive == "delete":
        return {}
    retain = patch.pop("$retainKeys", None)
    out = dict(live) if isinstance(live, dict) else {}
    if retain is not None:
        out = {key: value for key, value in out.items() if key in retain}
    orders = {k[len("$setElementOrder/") :]: patch.pop(k) for k in tuple(patch) if k.startswith("$setElementOrder/")}
    for key in tuple(patch):
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            out[name] = [item for item in out.get(name) or [] if item not in patch[key]]
            del patch[key]
    for key in orders:
        patch.setdefault(key, [])
    for key, value in patch.items():
        inner = schema.child(node, key) or {}
        if value is None:
            out.pop(key, None)
        elif isinstance(value, list):
            out[key] = _list(inner, out.get(key) or [], value, orders.get(key))
        else:
            out[key] = strategic(inner, out.get(key), value)
    return out


def _list(node: Node, live: list[Json], patch: list[Json], order: list[Json] | None) -> list[Json]:
    if "merge" not in schema.strategy(node):
        return [_clean(item) for item in patch]
    key = schema.merge_key(node)
    if not key:
        return [*live, *(item for item in patch if item not in live)]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [_clean(item) for item in patch if item.get("$patch") != "replace"]
    inner = schema.items(node)
    gone = {item.get(key) for item in patch if item.get("$patch") == "delete"}
    wanted = [item for item in patch if "$patch" not in item or item["$patch"] == "merge"]
    before = {item.get(key): item for item in live if item.get(key) not in gone}
    touched = {item.get(key): strategic(inner, before.get(item.get(key)), item) for item in wanted}
    names = [name for name in before if name not in touched]
    placed = [item.get(key) if isinstance(item, dict) else item for item in order or []] or list(touched)
    # Items that the patch orders come as it says; the others keep their place before what followed them.
    return [touched.get(name, before.get(name)) for name in _interleave(names, placed, list(before), touched, before)]


def _interleave(left: list[Any], right: list[Any], live: list[Any], touched: Obj, before: Obj) -> list[Any]:
    right = [name for name in right if name in touched or name in before]
    left = [name for name in left if name not in right]
    out: list[Any] = []
    while left or right:
        if left and (not right or (right[0] in live and live.index(left[0]) < live.index(right[0]))):
            out.append(left.pop(0))
        else:
            out.append(right.pop(0))
    return out


def _clean(value: Json) -> Json:
    """Without directives, where there is nothing to merge with."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items() if not key.startswith("$")}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value
