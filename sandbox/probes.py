"""One attempt of a probe: HTTP, TCP or a command, with kubelet's words for what went wrong."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import ssl
from typing import NamedTuple

from sandbox.controller import Obj

_ERRORS = {
    errno.ECONNREFUSED: "connect: connection refused", errno.ECONNRESET: "connect: connection reset by peer",
    errno.EHOSTUNREACH: "connect: no route to host", errno.ENETUNREACH: "connect: network is unreachable",
}  # fmt: skip


class Command(NamedTuple):
    """How to run a command in a container."""

    env: dict[str, str]
    workdir: str


def port_number(port: int | str, container: Obj) -> int | None:
    """A port by number or by the container's name for it."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    return next((int(p["containerPort"]) for p in container.get("ports") or [] if p.get("name") == port), None)


async def run(probe: Obj, container: Obj, address: str, argv: list[str], command: Command) -> str | None:
    """None when it succeeds, else why not; never longer than the probe's timeoutSeconds."""
    timeout = float(probe.get("timeoutSeconds", 1))
    if "exec" in probe:
        return await execute(argv, command, timeout)
    if "grpc" in probe:
        action, scheme = {"port": probe["grpc"]["port"]}, ""
    else:
        action = probe.get("httpGet") or probe.get("tcpSocket") or {}
        scheme = action.get("scheme", "HTTP").lower() if "httpGet" in probe else ""
    port = port_number(action.get("port", 0), container)
    if port is None:
        return f'couldn\'t find port: "{action.get("port")}"'
    host = action.get("host") or address
    if not scheme:
        return await _tcp(host, port, timeout)
    return await http_get(action, scheme, host, port, timeout)


async def _tcp(host: str, port: int, timeout: float) -> str | None:
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"dial tcp {host}:{port}: i/o timeout"
    except OSError as error:
        return f"dial tcp {host}:{port}: {_ERRORS.get(error.errno or 0, str(error))}"
    writer.close()
    return None


async def http_get(action: Obj, scheme: str, host: str, port: int, timeout: float) -> str | None:
    path = "/" + (action.get("path") or "").removeprefix("/")
    url = f"{scheme}://{host}:{port}{path}"
    context = None
    if scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a kubelet does not verify either
    headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/1.36", "Accept": "*/*", "Connection": "close"}
    headers |= {header["name"]: header["value"] for header in action.get("httpHeaders") or []}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
            line = await reader.readline()
            while await reader.read(65536):
                pass
    except TimeoutError:
        return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    except ConnectionResetError:
        return f'Get "{url}": read tcp {host}:{port}: read: connection reset by peer'
    except OSError as error:
        return f'Get "{url}": dial tcp {host}:{port}: {_ERRORS.get(error.errno or 0, str(error))}'
    finally:
        if writer:
            writer.close()
    match = re.match(rb"HTTP/1\.[01] (\d{3})", line)
    if not match:
        return f'Get "{url}": EOF' if not line else f'Get "{url}": net/http: HTTP/1.x transport connection broken'
    return None if 200 <= int(match[1]) < 400 else f"HTTP probe failed with statuscode: {match[1].decode()}"


async def execute(argv: list[str], command: Command, timeout: float) -> str | None:
    """Run a command beside the container's process; None when it exits with 0."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, env=command.env, cwd=command.workdir, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError:
        why = f'exec: "{argv[0]}": executable file not found in $PATH'
        return f"OCI runtime exec failed: exec failed: unable to start container process: {why}"
    try:
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate()
    except TimeoutError:
        return f'command timed out: "{" ".join(argv)}" timed out after {timeout:g}s'
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
    return None if process.returncode == 0 else output.decode(errors="replace")[:10240]
