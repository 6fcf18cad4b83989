"""A pod's volumes as directories, and what its containers read from ConfigMaps, Secrets and the pod itself."""

from __future__ import annotations

import base64
import math
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from sandbox.api.machinery import Api
from sandbox.api.quantity import parse
from sandbox.controller import Obj


class ConfigError(Exception):
    """Why a container cannot be configured, in kubelet's words."""


class MountError(Exception):
    """Why a volume cannot be set up, in kubelet's words."""


def data_of(api: Api, kind: str, name: str, namespace: str) -> dict[str, bytes] | None:
    """The contents of a ConfigMap or Secret; None when there is no such object."""
    found = api.find(kind, name, namespace)
    if found is None:
        return None
    if kind == "ConfigMap":
        plain = {key: text.encode() for key, text in (found.get("data") or {}).items()}
        return plain | {key: base64.b64decode(text) for key, text in (found.get("binaryData") or {}).items()}
    return {key: base64.b64decode(text) for key, text in (found.get("data") or {}).items()}


def field(pod: Obj, path: str, pod_ip: str, host_ip: str) -> str:
    """What a fieldRef stands for."""
    meta, spec = pod["metadata"], pod["spec"]
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((meta.get(match[1]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = (meta.get(path.partition(".")[2]) or {}).items()
        return "\n".join(f'{key}="{value}"' for key, value in sorted(pairs))
    values = {
        "metadata.name": meta["name"], "metadata.namespace": meta["namespace"], "metadata.uid": meta["uid"],
        "spec.nodeName": spec.get("nodeName", ""), "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": pod_ip, "status.podIPs": pod_ip, "status.hostIP": host_ip, "status.hostIPs": host_ip,
    }  # fmt: skip
    return str(values.get(path, ""))


def resource_field(pod: Obj, ref: Obj, container: str, node: Mapping[str, str]) -> str:
    """What a resourceFieldRef stands for; a limit that is not set is the node's capacity."""
    part, _, name = ref["resource"].partition(".")
    wanted = ref.get("containerName") or container
    spec = next(c for c in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]] if c["name"] == wanted)
    resources = spec.get("resources", {})
    value = resources.get(part, {}).get(name) or (node.get(name, "0") if part == "limits" else "0")
    divisor = parse(ref.get("divisor") or "1") or parse("1")
    return str(math.ceil(parse(value) / divisor))


def environment(
    api: Api, pod: Obj, container: Obj, base: Mapping[str, str], pod_ip: str, host_ip: str, node: Mapping[str, str]
) -> dict[str, str]:
    """The container's variables over those of its image; ConfigError when something that it needs is missing."""
    env, namespace = dict(base), pod["metadata"]["namespace"]
    for source in container.get("envFrom") or []:
        kind = "ConfigMap" if "configMapRef" in source else "Secret"
        ref = source["configMapRef" if kind == "ConfigMap" else "secretRef"]
        data = data_of(api, kind, ref["name"], namespace)
        if data is None and not ref.get("optional"):
            raise ConfigError(f'{kind.lower()} "{ref["name"]}" not found')
        env |= {f"{source.get('prefix', '')}{key}": value.decode() for key, value in (data or {}).items()}
    for item in container.get("env") or []:
        source = item.get("valueFrom")
        if not source:
            env[item["name"]] = substitute(item.get("value") or "", env)
        elif "fieldRef" in source:
            env[item["name"]] = field(pod, source["fieldRef"]["fieldPath"], pod_ip, host_ip)
        elif "resourceFieldRef" in source:
            env[item["name"]] = resource_field(pod, source["resourceFieldRef"], container["name"], node)
        else:
            kind = "ConfigMap" if "configMapKeyRef" in source else "Secret"
            ref = source["configMapKeyRef" if kind == "ConfigMap" else "secretKeyRef"]
            data = data_of(api, kind, ref["name"], namespace)
            if data is not None and ref["key"] in data:
                env[item["name"]] = data[ref["key"]].decode()
            elif not ref.get("optional"):
                if data is None:
                    raise ConfigError(f'{kind.lower()} "{ref["name"]}" not found')
                raise ConfigError(f"couldn't find key {ref['key']} in {kind} {namespace}/{ref['name']}")
    return env


def substitute(text: str, env: Mapping[str, str]) -> str:
    """$(NAME) becomes the variable's value, $$(NAME) the text $(NAME); what is unknown stays."""

    def one(match: re.Match[str]) -> str:
        return match[0][1:] if match[0].startswith("$$") else env.get(match[1], match[0])

    return re.sub(r"\$?\$\(([^()]+)\)", one, text)


def _write(directory: Path, path: str, data: bytes) -> None:
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _keys(api: Api, kind: str, source: Obj, name: str, namespace: str, volume: str, directory: Path) -> None:
    data = data_of(api, kind, name, namespace)
    if data is None:
        if source.get("optional"):
            return
        raise MountError(f'MountVolume.SetUp failed for volume "{volume}" : {kind.lower()} "{name}" not found')
    for item in source.get("items") or [{"key": key, "path": key} for key in data]:
        if item["key"] in data:
            _write(directory, item["path"], data[item["key"]])
        elif not source.get("optional"):
            noun = (
                "configmap references non-existent config" if kind == "ConfigMap" else "references non-existent secret"
            )
            raise MountError(f'MountVolume.SetUp failed for volume "{volume}" : {noun} key: {item["key"]}')


def mount(api: Api, pod: Obj, directory: Path, pod_ip: str, host_ip: str) -> dict[str, Path]:
    """Set up every volume under `directory`; where each is. MountError when something is missing."""
    namespace, places = pod["metadata"]["namespace"], {}
    for volume in pod["spec"].get("volumes") or []:
        name = volume["name"]
        place = places[name] = Path(volume["hostPath"]["path"]) if "hostPath" in volume else directory / name
        place.mkdir(parents=True, exist_ok=True)
        if "projected" in volume:
            sources = volume["projected"].get("sources") or []
        else:
            sources = [{kind: volume[kind]} for kind in ("configMap", "secret", "downwardAPI") if kind in volume]
        for source in sources:
            (kind, given), *_ = source.items()
            if kind in ("configMap", "secret"):
                wanted = given.get("name") or given.get("secretName")
                _keys(api, "ConfigMap" if kind == "configMap" else "Secret", given, wanted, namespace, name, place)
            elif kind == "serviceAccountToken":  # nothing here accepts it: give API access by the kubeconfig
                _write(place, given["path"], secrets.token_urlsafe(32).encode())
            elif kind == "downwardAPI":
                for item in given.get("items") or []:
                    if "fieldRef" in item:
                        text = field(pod, item["fieldRef"]["fieldPath"], pod_ip, host_ip)
                    else:
                        text = resource_field(pod, item["resourceFieldRef"], "", {})
                    _write(place, item["path"], text.encode())
    return places


class Paths:
    """A container's mount paths and the directories that stand for them."""

    def __init__(self, container: Obj, places: Mapping[str, Path]) -> None:
        mounts = {
            mount["mountPath"].rstrip("/"): str(places[mount["name"]] / mount.get("subPath", ""))
            for mount in container.get("volumeMounts") or []
            if mount["name"] in places
        }
        self._mounts = sorted(mounts.items(), key=lambda pair: -len(pair[0]))

    def real(self, text: str) -> str:
        """A text that is a path at or below a mount path, moved to where the volume really is; else the text."""
        for path, place in self._mounts:
            if text == path or text.startswith(f"{path}/"):
                return place.rstrip("/") + text[len(path) :]
        return text
