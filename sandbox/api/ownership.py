"""Who owns which field: metadata.managedFields on updates and on server-side apply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.api import fields, rules, schema
from sandbox.api.errors import ApiStatus

if TYPE_CHECKING:
    from sandbox.api.kinds import Kind

Obj = dict[str, Any]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SERVER_FIELDS = (
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion",
    "deletionTimestamp", "deletionGracePeriodSeconds",
)  # fmt: skip
_NEVER_OWNED = {("f:apiVersion",), ("f:kind",), ("f:metadata",)}


class Who(NamedTuple):
    """A line of managedFields: the manager, Apply or Update, and the subresource it came through."""

    manager: str
    operation: str
    subresource: str = ""


@dataclass
class Entry:
    fields: fields.Set
    time: str | None
    api_version: str


def bare(obj: Obj) -> Obj:
    """The object without the fields that only the server sets."""
    meta = {key: value for key, value in (obj.get("metadata") or {}).items() if key not in _SERVER_FIELDS}
    return {**{k: v for k, v in obj.items() if k not in ("apiVersion", "kind")}, "metadata": meta}


def read(obj: Obj) -> dict[Who, Entry]:
    out = {}
    for entry in obj["metadata"].get("managedFields") or []:
        if entry:
            who = Who(entry.get("manager", ""), entry.get("operation", "Update"), entry.get("subresource", ""))
            owned = fields.from_v1(entry.get("fieldsV1", {}))
            out[who] = Entry(owned, entry.get("time"), entry.get("apiVersion", ""))
    return out


def write(obj: Obj, managed: dict[Who, Entry]) -> None:
    lines = []
    order = sorted(managed.items(), key=lambda pair: (pair[0].operation, pair[1].time or "", pair[0]))
    for who, entry in order:
        if entry.fields:
            line = {"manager": who.manager, "operation": who.operation, "apiVersion": entry.api_version}
            if entry.time:
                line["time"] = entry.time
            line |= {"fieldsType": "FieldsV1", "fieldsV1": fields.to_v1(entry.fields)}  # type: ignore[dict-item]
            lines.append(line | ({"subresource": who.subresource} if who.subresource else {}))
    obj["metadata"].pop("managedFields", None)
    if lines:
        obj["metadata"]["managedFields"] = lines


def _countable(paths: fields.Set, kind: Kind, subresource: str) -> fields.Set:
    """Without what this door does not write: the status on the main one, the spec on the status's."""
    skipped: tuple[fields.Path, ...] = ()
    if subresource == "status":
        skipped = (("f:spec",), ("f:metadata", "f:labels"))
    elif kind.has_status:
        skipped = (("f:status",),)
    return {p for p in paths - _NEVER_OWNED if not any(p[: len(skip)] == skip for skip in skipped)}


def update(kind: Kind, live: Obj | None, new: Obj, who: Who, now: str) -> None:
    """Note in `new` who changed what, as every write but an apply does."""
    sent = new["metadata"].get("managedFields")
    # A client may rewrite the list itself, as kubectl does when it takes over from client-side apply.
    source = new if sent and not who.subresource else live
    managed = read(source) if source else {}
    difference = fields.Difference(schema.of(kind), bare(live) if live else rules.zero(kind.kind), bare(new))
    changed = difference.added | difference.modified
    for other, entry in managed.items():
        if other != who:
            entry.fields -= changed | difference.removed
    mine = managed.get(who)
    before = mine.fields if mine else set()
    after = _countable((before - difference.removed) | changed, kind, who.subresource)
    if after != before or not mine:
        managed[who] = Entry(after, now, kind.api_version)
    write(new, managed)


def apply(kind: Kind, live: Obj | None, config: Obj, who: Who, now: str, *, force: bool) -> Obj:
    """The object that applying `config` makes of `live`; ApiStatus 409 where another manager disagrees."""
    node = schema.of(kind)
    old, wanted = bare(live) if live else rules.zero(kind.kind), bare(config)
    managed = read(live) if live else {}
    if live and not managed:
        # what is there was written by nobody known, who keeps it as any other manager would
        past = _countable(fields.owned(node, old), kind, "")
        managed[Who("before-first-apply", "Update")] = Entry(past, now, kind.api_version)
    last = managed[who].fields if who in managed else set()
    merged = fields.merge(node, old, wanted)
    managed[who] = Entry(
        _countable(fields.owned(node, wanted), kind, who.subresource),
        managed[who].time if who in managed else None,
        kind.api_version,
    )
    pruned = fields.prune(node, merged, last, [entry.fields for entry in managed.values()]) or {}
    pruned.setdefault("metadata", {})
    difference = fields.Difference(node, old, pruned)
    changed = difference.added | difference.modified
    conflicts = {
        other: entry.fields & changed for other, entry in managed.items() if other != who and entry.fields & changed
    }
    if conflicts and not force and not _is_clientside_leftover(kind, live, who, conflicts):
        raise _refusal(conflicts, managed)
    for other, entry in managed.items():
        if other != who:
            entry.fields -= conflicts.get(other, set()) | difference.removed
    if changed or difference.removed or live is None:
        managed[who].time = now
    meta = (live or {}).get("metadata", {})
    kept = {key: value for key, value in meta.items() if key in _SERVER_FIELDS}
    pruned["metadata"] = {**kept, **(pruned["metadata"] or {})}
    write(pruned, managed)
    return pruned


def _is_clientside_leftover(kind: Kind, live: Obj | None, who: Who, conflicts: dict[Who, fields.Set]) -> bool:
    """kubectl's own switch from client-side to server-side apply is no conflict with itself."""
    note = ((live or {}).get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    if who.manager != "kubectl" or not note or any(w.manager != "kubectl-client-side-apply" for w in conflicts):
        return False
    node = schema.of(kind)
    config = bare(json.loads(note))
    same = fields.owned(node, config) - fields.Difference(node, config, bare(live or {})).modified
    return set().union(*conflicts.values()) <= same


def _refusal(conflicts: dict[Who, fields.Set], managed: dict[Who, Entry]) -> ApiStatus:
    causes: list[dict[str, str]] = []
    texts: list[str] = []
    total = sum(len(paths) for paths in conflicts.values())
    for who in sorted(conflicts):
        name = f'"{who.manager}"'
        if who.subresource:
            name += f' with subresource "{who.subresource}"'
        if who.operation == "Update":
            name += f" using {managed[who].api_version}"
        spelled = sorted(fields.spell(path) for path in conflicts[who])
        causes += [
            {"reason": "FieldManagerConflict", "message": f"conflict with {name}", "field": path} for path in spelled
        ]
        if total == 1:
            texts.append(f"conflict with {name}: {spelled[0]}")
        else:
            texts.append(f"conflicts with {name}:\n" + "\n".join(f"- {path}" for path in spelled))
    message = f"Apply failed with {total} conflict{'s' if total > 1 else ''}: " + "\n".join(texts)
    return ApiStatus(409, "Conflict", message, {"causes": causes})
