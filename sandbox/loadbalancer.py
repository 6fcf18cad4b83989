"""Service addresses that answer: a TCP proxy on each ClusterIP and each load balancer's address."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Iterable

from sandbox.addresses import Block
from sandbox.api.machinery import Api
from sandbox.controller import Controller, Key, Obj, key_of
from sandbox.endpoints import NAME_LABEL, slice_of

Listener = tuple[str, int]


class Proxy:
    """One listening port. New connections go to ready endpoints in turn; open ones stay until they end."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.targets: list[tuple[str, int]] = []
        self._turn = 0
        self._open: set[asyncio.Future[tuple[None, None]]] = (
            set()
        )  # asyncio itself holds a connection's task only weakly
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.address, self.port, backlog=1024)

    def close(self) -> None:
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.targets:
            writer.transport.abort()
            return
        self._turn += 1
        try:
            source, sink = await asyncio.open_connection(*self.targets[self._turn % len(self.targets)])
        except OSError:
            writer.transport.abort()
            return
        both = asyncio.gather(_pump(reader, sink), _pump(source, writer))
        self._open.add(both)
        both.add_done_callback(self._open.discard)
        await both
        writer.close()
        sink.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one way until it ends; a half that is closed closes the same half of the other side."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        with contextlib.suppress(OSError):
            writer.transport.abort()


class Services(Controller):
    kinds = ("Service", "EndpointSlice")
    component = "service-controller"

    def __init__(self, api: Api, block: Block) -> None:
        super().__init__(api)
        self._block = block
        self._proxies: dict[Key, dict[Listener, Proxy]] = {}
        self._balancers: dict[Key, str] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def keys(self, kind: str, obj: Obj) -> Iterable[Key]:
        if kind == "Service":
            return [key_of(obj)]
        name = (obj["metadata"].get("labels") or {}).get(NAME_LABEL)
        return [(obj["metadata"]["namespace"], name)] if name else []

    def sync(self, namespace: str, name: str) -> float | None:
        key = (namespace, name)
        service = self.api.find("Service", name, namespace)
        proxies = self._proxies.setdefault(key, {})
        is_balancer = bool(service and service["spec"].get("type") == "LoadBalancer")
        if is_balancer and key not in self._balancers:
            self._balancers[key] = self._block.take("balancer")
            self.recorder.event(service or {}, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
        ports = [p for p in service["spec"].get("ports") or [] if p.get("protocol", "TCP") == "TCP"] if service else []
        addresses = [self._balancers[key]] if is_balancer else []
        if service and service["spec"].get("clusterIP", "None").startswith("127."):
            addresses.append(service["spec"]["clusterIP"])
        wanted = {(address, port["port"]): port for address in addresses for port in ports}
        for listener in [one for one in proxies if one not in wanted]:
            proxies.pop(listener).close()
        if not is_balancer and key in self._balancers:
            self._block.free(self._balancers.pop(key))
            if service and service["status"].get("loadBalancer"):
                self.api.patch("Service", name, namespace, {"status": {"loadBalancer": None}}, subresource="status")
        for listener, port in wanted.items():
            if listener not in proxies:
                proxies[listener] = Proxy(*listener)
                task = asyncio.create_task(self._open(key, proxies[listener], service or {}))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            proxies[listener].targets = self._targets(namespace, name, port.get("name", ""))
        if not service:
            del self._proxies[key]
        return None

    def _targets(self, namespace: str, name: str, port: str) -> list[tuple[str, int]]:
        """Ready endpoints; with none, those that still serve while they end."""
        found = slice_of(self.api.all("EndpointSlice", namespace), name) or {}
        numbers = [p["port"] for p in found.get("ports") or [] if (p.get("name") or "") == port]
        endpoints = found.get("endpoints") or []
        for wanted in ("ready", "serving"):
            if chosen := [e["addresses"][0] for e in endpoints if e["conditions"].get(wanted) and numbers]:
                return [(address, numbers[0]) for address in chosen]
        return []

    async def _open(self, key: Key, proxy: Proxy, service: Obj) -> None:
        is_balancer = proxy.address == self._balancers.get(key)
        try:
            await proxy.open()
        except OSError as error:
            if is_balancer:
                why = (
                    "permission denied" if error.errno in (errno.EACCES, errno.EPERM) else error.strerror or str(error)
                )
                text = (
                    "Error syncing load balancer: failed to ensure load balancer:"
                    f" listen tcp {proxy.address}:{proxy.port}: bind: {why}"
                )
                if proxy.port < 1024:
                    text += "; a port below 1024 needs a privilege: set the Service's port to 8080"
                self.recorder.event(service, "Warning", "SyncLoadBalancerFailed", text)
            return
        if self._proxies.get(key, {}).get((proxy.address, proxy.port)) is not proxy:
            proxy.close()  # the Service has changed meanwhile
        elif is_balancer:
            ingress = {"ip": proxy.address, "ipMode": "VIP"}
            status = {"status": {"loadBalancer": {"ingress": [ingress]}}}
            self.api.patch("Service", key[1], key[0], status, subresource="status", manager="cloud-controller-manager")
            self.recorder.event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
