"""Reads the few objects that kubectl's own create and auth commands send as protobuf; all else comes as JSON.

Field numbers are those of the API's published .proto files.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Obj = dict[str, Any]
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

# message: {field number: name}. `{}` marks a map of strings, `{64}` one of bytes, `{6}` one of quantities, `[]` a list,
# `#` an int, `?` a bool, `:X` a message X, `-` something to pass over.
_MESSAGES: dict[str, dict[int, str]] = {
    "Meta": {1: "name", 2: "generateName", 3: "namespace", 5: "uid", 6: "resourceVersion", 7: "-", 8: "-",
             11: "labels{}", 12: "annotations{}"},
    "ConfigMap": {1: "metadata:Meta", 2: "data{}", 3: "binaryData{64}", 4: "immutable?"},
    "Namespace": {1: "metadata:Meta", 2: "-", 3: "-"},
    "Secret": {1: "metadata:Meta", 2: "data{64}", 3: "type", 4: "stringData{}", 5: "immutable?"},
    "ServiceAccount": {1: "metadata:Meta", 4: "automountServiceAccountToken?"},
    "Rule": {1: "verbs[]", 2: "apiGroups[]", 3: "resources[]", 4: "resourceNames[]", 5: "nonResourceURLs[]"},
    "Role": {1: "metadata:Meta", 2: "rules[]:Rule"},
    "ClusterRole": {1: "metadata:Meta", 2: "rules[]:Rule"},
    "Subject": {1: "kind", 2: "apiGroup", 3: "name", 4: "namespace"},
    "Ref": {1: "apiGroup", 2: "kind", 3: "name"},
    "RoleBinding": {1: "metadata:Meta", 2: "subjects[]:Subject", 3: "roleRef:Ref"},
    "ClusterRoleBinding": {1: "metadata:Meta", 2: "subjects[]:Subject", 3: "roleRef:Ref"},
    "ResourceQuota": {1: "metadata:Meta", 2: "spec:QuotaSpec", 3: "-"},
    "QuotaSpec": {1: "hard{6}"},
    "Deployment": {1: "metadata:Meta", 2: "spec:DeploymentSpec", 3: "-"},
    "DeploymentSpec": {1: "replicas#", 2: "selector:Selector", 3: "template:Template", 4: "-"},
    "Selector": {1: "matchLabels{}"},
    "Template": {1: "metadata:Meta", 2: "spec:PodSpec"},
    "PodSpec": {2: "containers[]:Container"},
    "Container": {1: "name", 2: "image", 3: "command[]", 4: "args[]", 6: "ports[]:Port"},
    "Port": {1: "name", 3: "containerPort#", 4: "protocol"},
    "Eviction": {1: "metadata:Meta", 2: "deleteOptions:DeleteOptions"},
    "DeleteOptions": {1: "gracePeriodSeconds#", 4: "propagationPolicy", 5: "dryRun[]"},
    "TokenRequest": {1: "metadata:Meta", 2: "spec:TokenSpec", 3: "-"},
    "TokenSpec": {1: "audiences[]", 4: "expirationSeconds#"},
    "SelfSubjectReview": {1: "metadata:Meta", 2: "-"},
    "SelfSubjectRulesReview": {1: "metadata:Meta", 2: "spec:RulesSpec", 3: "-"},
    "RulesSpec": {1: "namespace"},
    "SelfSubjectAccessReview": {1: "metadata:Meta", 2: "spec:AccessSpec", 3: "-"},
    "AccessSpec": {1: "resourceAttributes:Attributes", 2: "nonResourceAttributes:Url"},
    "Attributes": {1: "namespace", 2: "verb", 3: "group", 4: "version", 5: "resource", 6: "subresource", 7: "name"},
    "Url": {1: "path", 2: "verb"},
}  # fmt: skip


def decode(raw: bytes) -> Obj:
    """The object in a body; ValueError for what this module does not know."""
    if not raw.startswith(_MAGIC):
        raise ValueError("not a Kubernetes protobuf body")
    envelope: dict[int, Any] = dict(_fields(raw[len(_MAGIC) :]))
    typed = {number: value.decode() for number, value in _fields(envelope.get(1, b""))}
    kind = typed.get(2, "")
    return {"apiVersion": typed.get(1, ""), "kind": kind, **_message(kind, envelope.get(2, b""))}


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(raw):
        number, wire = divmod(varint(), 8)
        if wire == 0:
            yield number, varint()
        elif wire == 2:
            length = varint()
            yield number, raw[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {wire}")


def _message(name: str, raw: bytes) -> Obj:
    known = _MESSAGES.get(name, {})
    out: Obj = {}
    for number, value in _fields(raw):
        if number not in known and not value:
            continue  # Go writes a field's zero value, too
        if number not in known:
            raise ValueError(f"field {number} of {name}")
        form, _, message = known[number].partition(":")
        key = form.rstrip("{}64[]#?")
        if form == "-":
            continue
        if form.endswith("}"):
            pair = dict(_fields(value))
            text = dict(_fields(pair[2]))[1] if "{6}" in form else pair.get(2, b"")
            entry = base64.b64encode(text).decode() if "64" in form else text.decode()
            out.setdefault(key, {})[pair.get(1, b"").decode()] = entry
        elif form.endswith(("#", "?")):
            out[key] = bool(value) if form.endswith("?") else value
        else:
            read: Any = _message(message, value) if message else value.decode()
            if form.endswith("[]"):
                out.setdefault(key, []).append(read)
            elif read != "":
                out[key] = read
    return out
