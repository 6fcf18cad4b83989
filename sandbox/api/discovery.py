"""What a client reads first: version, groups, resources, OpenAPI."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from sandbox.api import schema
from sandbox.api.kinds import KINDS, Kind

Obj = dict[str, Any]
VERSION = {
    "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35", "gitVersion": "v1.36.2", "gitCommit": "0" * 40, "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z", "goVersion": "none", "compiler": "none", "platform": "linux/amd64",
}  # fmt: skip
_SCALE = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
# subresource: what it answers with, and its verbs
_SUBRESOURCES: dict[str, tuple[Obj, list[str]]] = {
    "binding": ({"kind": "Binding"}, ["create"]),
    "eviction": ({"group": "policy", "version": "v1", "kind": "Eviction"}, ["create"]),
    "finalize": ({}, ["update"]),
    "log": ({}, ["get"]),
    "proxy": ({}, ["create", "delete", "get", "patch", "update"]),
    "scale": (_SCALE, ["get", "patch", "update"]),
    "status": ({}, ["get", "patch", "update"]),
    "token": ({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}, ["create"]),
}


def versions(address: str) -> Obj:
    where = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": where}


def _group(name: str) -> Obj:
    found = list(dict.fromkeys(kind.version for kind in KINDS if kind.group == name))
    rows = [{"groupVersion": f"{name}/{version}", "version": version} for version in found]
    return {"name": name, "versions": rows, "preferredVersion": rows[0]}


def group_names() -> list[str]:
    return [name for name in dict.fromkeys(kind.group for kind in KINDS) if name]


def groups() -> Obj:
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in group_names()]}


def group(name: str) -> Obj | None:
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name)} if name in group_names() else None


def _rows(kind: Kind) -> list[Obj]:
    row: Obj = {"name": kind.plural, "singularName": kind.kind.lower(), "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": list(kind.verbs)}  # fmt: skip
    if kind.group == "metrics.k8s.io":
        row["singularName"] = ""
    for key, value in (("shortNames", kind.short), ("categories", kind.categories)):
        if value:
            row[key] = list(value)
    out = [row]
    for name in kind.subresources:
        what, verbs = _SUBRESOURCES[name]
        answer: Obj = {"kind": kind.kind, **what}
        if name == "proxy":
            answer["kind"] = f"{kind.kind}ProxyOptions"
        out.append({"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced, **answer,
                    "verbs": verbs})  # fmt: skip
    return out


def resources(group_name: str, version: str) -> Obj | None:
    found = [kind for kind in KINDS if (kind.group, kind.version) == (group_name, version)]
    rows = [row for kind in sorted(found, key=lambda kind: kind.plural) for row in _rows(kind)]
    if not found:
        return None
    name = f"{group_name}/{version}" if group_name else version
    # The legacy group's list has no apiVersion.
    typed = {"kind": "APIResourceList", "apiVersion": "v1"} if group_name else {"kind": "APIResourceList"}
    return {**typed, "groupVersion": name, "resources": rows}


# --- OpenAPI: clients read shapes and merge keys from it, and from a path's parameters what it takes ------------------


def _clean(node: Any) -> Any:
    """A definition as OpenAPI has it: one type each, references into the document."""
    if isinstance(node, list):
        return [_clean(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key == "type" and isinstance(value, list):
            out[key] = next(item for item in value if item != "null")
        elif key == "properties":
            out[key] = {name: _clean(field) for name, field in value.items()}
        elif key != "enum":
            out[key] = _clean(value)
    if "oneOf" in out:
        out = {"type": "string"}
    return out


def _operation(kind: Kind, verb: str) -> Obj:
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    names = ["dryRun", "fieldManager", "fieldValidation"] + (["force"] if verb == "patch" else [])
    return {
        "operationId": f"{verb}{kind.group.title().replace('.', '')}{kind.version.title()}{kind.kind}",
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": gvk,
    }


def _paths(kinds: list[Kind]) -> Obj:
    out: Obj = {}
    for kind in kinds:
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        space = "/namespaces/{namespace}" if kind.namespaced else ""
        out[f"{root}{space}/{kind.plural}"] = {"post": _operation(kind, "post")}
        if "patch" in kind.verbs:
            out[f"{root}{space}/{kind.plural}/{{name}}"] = {v: _operation(kind, v) for v in ("put", "patch")}
    return out


def _closure(kinds: list[Kind]) -> dict[str, Any]:
    """The kinds' definitions and all that they refer to."""
    wanted = [kind.definition for kind in kinds]
    found: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name not in found and (node := schema.definition(name)):
            found[name] = _clean(node)
            wanted += [part.split('"')[0] for part in json.dumps(node).split("#/$defs/")[1:]]
    for kind in kinds:
        if kind.definition in found:
            gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
            found[kind.definition]["x-kubernetes-group-version-kind"] = [gvk]
    return found


def _document(text: Obj, target: str) -> bytes:
    return json.dumps(text, separators=(",", ":")).replace("#/$defs/", target).encode()


_INFO = {"title": "Kubernetes", "version": VERSION["gitVersion"]}


@cache
def openapi_v2() -> bytes:
    kinds = list(KINDS)
    return _document({"swagger": "2.0", "info": _INFO, "paths": _paths(kinds), "definitions": _closure(kinds)},
                     "#/definitions/")  # fmt: skip


def openapi_v3_index() -> Obj:
    pairs = dict.fromkeys((kind.group, kind.version) for kind in KINDS)
    names = [f"apis/{group}/{version}" if group else f"api/{version}" for group, version in pairs]
    return {"paths": {name: {"serverRelativeURL": f"/openapi/v3/{name}"} for name in names}}


@cache
def openapi_v3(group_name: str, version: str) -> bytes | None:
    kinds = [kind for kind in KINDS if (kind.group, kind.version) == (group_name, version)]
    if not kinds:
        return None
    components = {"schemas": _closure(kinds)}
    document = {"openapi": "3.0.0", "info": _INFO, "paths": _paths(kinds), "components": components}
    return _document(document, "#/components/schemas/")
