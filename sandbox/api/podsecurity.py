"""Pod Security Standards: what `baseline` and `restricted` find wrong with a pod, in the words of the server.

Checks run in the order of their names, baseline's before restricted's; a restricted check replaces its baseline one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.api.rules import containers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Obj = dict[str, Any]
_DEFAULT_CAPABILITIES = frozenset(
    ("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
     "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT")
)  # fmt: skip
_VOLUMES = (
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
)  # fmt: skip
_SYSCTLS = (
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)  # fmt: skip


def _all(spec: Obj) -> list[Obj]:
    return [container for _, _, container in containers(spec)]


def _context(holder: Obj, key: str) -> Any:
    return (holder.get("securityContext") or {}).get(key)


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _these(found: list[Obj], noun: str = "container") -> str:
    return f"{noun}{'s' if len(found) > 1 else ''} {_quoted([item['name'] for item in found])}"


def _privileged(spec: Obj) -> Iterator[str]:
    if bad := [c for c in _all(spec) if _context(c, "privileged")]:
        yield f"privileged ({_these(bad)} must not set securityContext.privileged=true)"


def _baseline_capabilities(spec: Obj) -> Iterator[str]:
    added = {c["name"]: (_context(c, "capabilities") or {}).get("add") or [] for c in _all(spec)}
    bad = [c for c in _all(spec) if set(added[c["name"]]) - _DEFAULT_CAPABILITIES]
    names = sorted({name for c in bad for name in added[c["name"]]} - _DEFAULT_CAPABILITIES)
    if bad:
        text = f"{_these(bad)} must not include {_quoted(names)} in securityContext.capabilities.add"
        yield f"non-default capabilities ({text})"


def _host_namespaces(spec: Obj) -> Iterator[str]:
    if bad := [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]:
        yield f"host namespaces ({', '.join(bad)})"


def _host_paths(spec: Obj) -> Iterator[str]:
    if bad := [volume for volume in spec.get("volumes") or [] if "hostPath" in volume]:
        yield f"hostPath volumes ({_these(bad, 'volume')})"


def _host_ports(spec: Obj) -> Iterator[str]:
    bad = [c for c in _all(spec) if any(port.get("hostPort") for port in c.get("ports") or [])]
    numbers = sorted({port["hostPort"] for c in bad for port in c["ports"] if port.get("hostPort")})
    if bad:
        verb = "use" if len(bad) > 1 else "uses"
        text = ", ".join(str(number) for number in numbers)
        yield f"hostPort ({_these(bad)} {verb} hostPort{'s' if len(numbers) > 1 else ''} {text})"


def _host_probes(spec: Obj) -> Iterator[str]:
    hosts: dict[str, None] = {}
    bad = []
    for container in _all(spec):
        found = [container.get(name) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
        found += list((container.get("lifecycle") or {}).values())
        actions = [a[key] for a in found if isinstance(a, dict) for key in ("httpGet", "tcpSocket") if key in a]
        named = [action["host"] for action in actions if action.get("host")]
        if named:
            bad.append(container)
            hosts.update(dict.fromkeys(named))
    if bad:
        verb, plural = "use" if len(bad) > 1 else "uses", "s" if len(hosts) > 1 else ""
        yield f"probe or lifecycle host ({_these(bad)} {verb} probe or lifecycle host{plural} {_quoted(sorted(hosts))})"


def _proc_mount(spec: Obj) -> Iterator[str]:
    if bad := [c for c in _all(spec) if _context(c, "procMount") not in (None, "Default")]:
        values = _quoted(sorted({_context(c, "procMount") for c in bad}))
        yield f"procMount ({_these(bad)} must not set securityContext.procMount to {values})"


def _profile(holder: Obj) -> str | None:
    found: str | None = (_context(holder, "seccompProfile") or {}).get("type")
    return found


def _unconfined(spec: Obj) -> list[str]:
    said = "must not set securityContext.seccompProfile.type to"
    out = [f'pod {said} "Unconfined"'] if _profile(spec) == "Unconfined" else []
    if bad := [c for c in _all(spec) if _profile(c) == "Unconfined"]:
        out.append(f'{_these(bad)} {said} "Unconfined"')
    return out


def _baseline_seccomp(spec: Obj) -> Iterator[str]:
    if bad := _unconfined(spec):
        yield f"seccompProfile ({'; '.join(bad)})"


def _sysctls(spec: Obj) -> Iterator[str]:
    if bad := [s["name"] for s in _context(spec, "sysctls") or [] if s["name"] not in _SYSCTLS]:
        yield f"forbidden sysctls ({', '.join(bad)})"


def _escalation(spec: Obj) -> Iterator[str]:
    if bad := [c for c in _all(spec) if _context(c, "allowPrivilegeEscalation") is not False]:
        text = f"{_these(bad)} must set securityContext.allowPrivilegeEscalation=false"
        yield f"allowPrivilegeEscalation != false ({text})"


def _restricted_capabilities(spec: Obj) -> Iterator[str]:
    kept, added, names = [], [], set()
    for container in _all(spec):
        found = _context(container, "capabilities") or {}
        if "ALL" not in (found.get("drop") or []):
            kept.append(container)
        if more := set(found.get("add") or []) - {"NET_BIND_SERVICE"}:
            added.append(container)
            names |= more
    texts = [f'{_these(kept)} must set securityContext.capabilities.drop=["ALL"]'] if kept else []
    if added:
        texts.append(f"{_these(added)} must not include {_quoted(sorted(names))} in securityContext.capabilities.add")
    if texts:
        yield f"unrestricted capabilities ({'; '.join(texts)})"


def _restricted_volumes(spec: Obj) -> Iterator[str]:
    types = {v["name"]: next((key for key in v if key != "name"), "") for v in spec.get("volumes") or []}
    if bad := [v for v in spec.get("volumes") or [] if types[v["name"]] not in _VOLUMES]:
        names = sorted({types[v["name"]] for v in bad})
        verb = "use" if len(bad) > 1 else "uses"
        plural = "s" if len(names) > 1 else ""
        text = f"{_these(bad, 'volume')} {verb} restricted volume type{plural} {_quoted(names)}"
        yield f"restricted volume types ({text})"


def _non_root(spec: Obj) -> Iterator[str]:
    texts = ["pod must not set securityContext.runAsNonRoot=false"] if _context(spec, "runAsNonRoot") is False else []
    if bad := [c for c in _all(spec) if _context(c, "runAsNonRoot") is False]:
        texts.append(f"{_these(bad)} must not set securityContext.runAsNonRoot=false")
    lacking = [c for c in _all(spec) if _context(c, "runAsNonRoot") is None]
    if not texts and lacking and not _context(spec, "runAsNonRoot"):
        texts.append(f"pod or {_these(lacking)} must set securityContext.runAsNonRoot=true")
    if texts:
        yield f"runAsNonRoot != true ({'; '.join(texts)})"


def _user(spec: Obj) -> Iterator[str]:
    texts = ["pod must not set runAsUser=0"] if _context(spec, "runAsUser") == 0 else []
    if bad := [c for c in _all(spec) if _context(c, "runAsUser") == 0]:
        texts.append(f"{_these(bad)} must not set runAsUser=0")
    if texts:
        yield f"runAsUser=0 ({'; '.join(texts)})"


def _restricted_seccomp(spec: Obj) -> Iterator[str]:
    texts = _unconfined(spec)
    lacking = [c for c in _all(spec) if _profile(c) is None]
    if not texts and lacking and _profile(spec) is None:
        said = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
        texts = [f"pod or {_these(lacking)} {said}"]
    if texts:
        yield f"seccompProfile ({'; '.join(texts)})"


_BASELINE = (_baseline_capabilities, _host_namespaces, _host_paths, _host_ports, _host_probes, _privileged, _proc_mount,
             _baseline_seccomp, _sysctls)  # fmt: skip
_RESTRICTED = (_escalation, _restricted_capabilities, _restricted_volumes, _non_root, _user, _restricted_seccomp)
_REPLACED = (_baseline_capabilities, _host_paths, _baseline_seccomp)


def violations(spec: Obj, level: str) -> Iterator[str]:
    """What a pod's spec violates at that level; nothing for `privileged`."""
    checks: tuple[Callable[[Obj], Iterator[str]], ...] = ()
    if level == "baseline":
        checks = _BASELINE
    elif level == "restricted":
        checks = (*(check for check in _BASELINE if check not in _REPLACED), *_RESTRICTED)
    for check in checks:
        yield from check(spec)
