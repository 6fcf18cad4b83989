"""Shapes of objects, read from the OpenAPI definitions that kubernetes-validate ships."""

from __future__ import annotations

import importlib.util
import json
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.api.kinds import Kind

Node = dict[str, Any]
Json = Any

_META = "io.k8s.apimachinery.pkg."
_QUANTITY = f"{_META}api.resource.Quantity"
_INT_OR_STRING = f"{_META}util.intstr.IntOrString"
_BASE64 = r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
QUANTITY_FORM = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
# Go leaves these out when they are false or 0: they are plain bool and int fields with omitempty, not pointers.
_DROPPED_WHEN_ZERO = frozenset(
    (
        "hostIPC", "hostNetwork", "hostPID", "hostPort", "initialDelaySeconds", "minReadySeconds", "nodePort",
        "observedGeneration", "paused", "publishNotReadyAddresses", "readOnly", "stdin", "stdinOnce", "tty",
        "unschedulable",
    )
)  # fmt: skip
# The schemas hold no defaults; this one is part of a list-map key.
KEY_DEFAULTS = {"protocol": "TCP"}


@cache
def _definitions() -> dict[str, Node]:
    # The package's folder alone is needed; importing it would import jsonschema.
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        raise RuntimeError("kubernetes-validate is not installed: run `make setup`")
    folders = (Path(spec.origin).parent / "kubernetes-json-schema").glob("v*-local")
    newest = max(folders, key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.name)])
    definitions: dict[str, Node] = json.loads((newest / "_definitions.json").read_text())["$defs"]
    return definitions


def definition(name: str) -> Node:
    """The definition of that name, or an empty one, which takes anything."""
    return _definitions().get(name, {})


def names() -> Iterator[str]:
    return iter(_definitions())


def of(kind: Kind) -> Node:
    return definition(kind.definition)


def ref(node: Node) -> str:
    target: str = node.get("$ref", "")
    return target.rpartition("/")[2]


@cache
def _merged(name: str, key: str) -> Node:
    """What `definitions[name].properties[key]` refers to, with the property's own list and map marks."""
    prop: Node = _definitions()[name]["properties"][key]
    return _resolved(prop)


def _resolved(prop: Node) -> Node:
    target = ref(prop)
    if not target:
        return prop
    marks = {key: value for key, value in prop.items() if key.startswith("x-kubernetes-")}
    return {**definition(target), **marks, "$name": target}


_cache: dict[int, dict[str, Node]] = {}


def child(node: Node, key: str) -> Node | None:
    """The schema of a field or of a map's value; None where the schema has no such field."""
    props = node.get("properties")
    if props:
        if key not in props:
            return None
        found = _cache.setdefault(id(props), {})
        if key not in found:
            found[key] = _resolved(props[key])
        return found[key]
    more = node.get("additionalProperties")
    return _resolved(more) if isinstance(more, dict) else {}


def items(node: Node) -> Node:
    return _resolved(node.get("items", {}))


def is_struct(node: Node) -> bool:
    return bool(node.get("properties"))


def is_map(node: Node) -> bool:
    return "additionalProperties" in node and not is_struct(node)


def is_atomic(node: Node) -> bool:
    """Whether server-side apply owns the whole value: scalars, atomic lists and maps, unknown shapes."""
    if is_struct(node) or is_map(node):
        return bool(node.get("x-kubernetes-map-type") == "atomic")
    return not (list_keys(node) or is_set(node))


def list_keys(node: Node) -> list[str]:
    if node.get("x-kubernetes-list-type") == "map":
        keys: list[str] = node["x-kubernetes-list-map-keys"]
        return keys
    return []


def is_set(node: Node) -> bool:
    return bool(node.get("x-kubernetes-list-type") == "set")


def merge_key(node: Node) -> str:
    """The key by which a strategic merge patch merges this list; '' where it replaces the list."""
    return node.get("x-kubernetes-patch-merge-key", "") if "merge" in strategy(node) else ""


def strategy(node: Node) -> str:
    found: str = node.get("x-kubernetes-patch-strategy", "")
    return found


_TIMES = {
    # definition: (digits of a second that the server writes, Go's name of the form)
    f"{_META}apis.meta.v1.Time": (0, "2006-01-02T15:04:05Z07:00"),
    f"{_META}apis.meta.v1.MicroTime": (6, "2006-01-02T15:04:05.000000Z07:00"),
}


def _time(value: Json, digits: int, form: str) -> str:
    """A time as the server writes it back: UTC, whole seconds or microseconds."""
    try:
        then = datetime.fromisoformat(value)
        if "T" not in value or then.tzinfo is None:
            raise ValueError(value)
    except (ValueError, TypeError):
        raise WrongType(f'parsing time "{value}" as "{form}": cannot parse "{value}" as "2006"') from None
    if digits and not re.search(r":\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$", value):  # Go wants exactly these digits
        raise WrongType(f'parsing time "{value}" as "{form}": cannot parse "{value[19:]}" as ".000000"')
    return then.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S" + (".%f" if digits else "") + "Z")


class WrongType(Exception):
    """A value that Go's JSON decoder refuses; the text is the decoder's."""


def _go_type(node: Node) -> str:
    kind = json_type(node)
    if kind == "integer":
        return str(node.get("format") or "int32")
    if kind == "array":
        return f"[]{_go_type(items(node))}"
    if is_map(node):
        return f"map[string]{_go_type(child(node, '') or {})}"
    return {"boolean": "bool", "number": "float64"}.get(kind) or _short(node) or "string"


def _short(node: Node) -> str:
    name = str(node.get("$name", ""))
    return ".".join(name.split(".")[-2:]) if name else ""


def json_type(node: Node) -> str:
    """The node's own type, beside null."""
    found = node.get("type", "")
    return found if isinstance(found, str) else next(t for t in found if t != "null")


def _json_noun(value: Json) -> str:
    for kind, noun in ((bool, "bool"), (str, "string"), (int, "number"), (float, "number"), (list, "array")):
        if isinstance(value, kind):
            return noun
    return "object"


class Decoder:
    """Reads a JSON value as the server's Go types would: refuses wrong types, drops and lists unknown fields."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def decode(self, node: Node, value: Json, path: str = "", struct: str = "") -> Json:
        name = node.get("$name")
        if name == _QUANTITY:
            if not isinstance(value, str | int | float) or not re.match(QUANTITY_FORM, str(value)):
                raise WrongType(f"quantities must match the regular expression '{QUANTITY_FORM}'")
            return str(value)
        if name == _INT_OR_STRING or not node.get("type"):
            return value
        if name in _TIMES:
            return _time(value, *_TIMES[name])
        wanted = json_type(node)
        if wanted == "object":
            return self._object(node, value, path, struct)
        if wanted == "array":
            if not isinstance(value, list):
                self._refuse(node, value, path, struct)
            inner = items(node)
            return [self.decode(inner, item, f"{path}[{i}]", struct) for i, item in enumerate(value)]
        right: dict[str, tuple[type, ...]] = {"string": (str,), "boolean": (bool,), "integer": (int,)}
        if not isinstance(value, right.get(wanted, (int, float))) or (wanted != "boolean" and isinstance(value, bool)):
            self._refuse(node, value, path, struct)
        if node.get("format") == "byte" and not re.fullmatch(_BASE64, re.sub(r"[\r\n]", "", value)):
            wrong = re.search(r"[^A-Za-z0-9+/\r\n]", value)
            raise WrongType(f"illegal base64 data at input byte {wrong.start() if wrong else len(value)}")
        return value

    def _object(self, node: Node, value: Json, path: str, struct: str) -> Json:
        if not isinstance(value, dict):
            self._refuse(node, value, path, struct)
        known = is_struct(node)
        name = str(node.get("$name", struct)).rpartition(".")[2] if known else struct
        out = {}
        for key, field in value.items():
            where = f"{path}.{key}" if path else key
            inner = child(node, key)
            if inner is None:
                self.unknown.append(where)
            elif field is not None:
                decoded = self.decode(inner, field, where, name)
                if not (known and _left_out(inner, key, decoded)):
                    out[key] = decoded
        return out

    def _refuse(self, node: Node, value: Json, path: str, struct: str) -> None:
        field = re.sub(r"\[\d+\]", "", path)
        # Go names a map's field without the key that holds the wrong value.
        if struct and not is_struct(node) and field.count(".") and struct == "ConfigMap":
            field = field.split(".")[0]
        where = f"Go struct field {struct}.{field}" if struct else "Go value"
        raise WrongType(f"json: cannot unmarshal {_json_noun(value)} into {where} of type {_go_type(node)}")


def _left_out(node: Node, key: str, value: Json) -> bool:
    """Whether Go's omitempty keeps this zero value out of the object."""
    if value == "":
        return json_type(node) == "string" if node.get("type") else False
    if value is False or (value == 0 and isinstance(value, int)):
        return key in _DROPPED_WHEN_ZERO
    if value == []:
        return True
    return value == {} and is_map(node)
