"""The API server's HTTP side: routes, authentication, content types, watches, proxy, faults and the audit log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from sandbox.api import access, discovery, errors, fields, ownership, patches, protobuf, tables
from sandbox.api.access import Ask, User
from sandbox.api.errors import ApiStatus
from sandbox.api.kinds import BY_KIND, BY_PATH, EVENTS, Kind
from sandbox.api.machinery import Api, Call, Change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Obj = dict[str, Any]
_LOG = logging.getLogger(__name__)
_PATCHES = (patches.JSON, patches.MERGE, patches.STRATEGIC, patches.APPLY)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}
_BOOKMARK_SECONDS = 60.0
_MOVED_HEADERS = ("host", "authorization", "connection", "content-length", "transfer-encoding", "accept-encoding")


@dataclass
class Route:
    """A path of the API, taken apart."""

    group: str
    version: str
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""

    @property
    def kind(self) -> Kind | None:
        return BY_PATH.get((self.group, self.version, self.plural))


def route(path: str) -> Route | None:
    """None for a path outside /api and /apis."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 1:
        found, parts = Route("", parts[1]), parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 2:
        found, parts = Route(parts[1], parts[2]), parts[3:]
    else:
        return None
    if parts[:1] == ["namespaces"] and len(parts) > 2 and parts[2] not in ("status", "finalize"):
        found.namespace, parts = parts[1], parts[2:]
    elif parts[:1] == ["namespaces"] and len(parts) > 1:
        found.namespace = parts[1]
    found.plural, found.name, found.subresource = (*parts, "", "", "")[:3]
    found.rest = path.partition(f"/{found.name}/{found.subresource}")[2] if found.subresource else ""
    return found


@dataclass
class Fault:
    """Something that goes wrong on purpose, for `count` requests or until `until`."""

    latency: float = 0.0
    status: int = 0
    retry_after: int | None = None
    refuse: bool = False
    verbs: tuple[str, ...] = ()
    path: str = ""
    count: int | None = None
    until: float | None = None


class Server:
    """The ASGI application."""

    def __init__(self, api: Api, *, admin_token: str, audit_path: Path | None) -> None:
        self.api = api
        self.access = access.Access(api, admin_token)
        self._audit = audit_path
        self._faults: list[Fault] = []
        self._streams: set[asyncio.Queue[Change | None]] = set()
        self._http: Any = None
        access.bootstrap(api)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        audit: Obj = {"user": "", "verb": _VERBS.get(request.method, request.method.lower())}
        started = False

        async def tell(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._write_audit(request, audit, message["status"])
            await send(message)

        try:
            response = await self._answer(request, audit)
        except ApiStatus as status:
            response = JSONResponse(status.body(), status.code, headers=status.headers)
        except ConnectionAbortedError:
            _abort(receive)
            return
        except Exception as error:
            _LOG.exception("%s %s failed", request.method, request.url.path)
            failure = ApiStatus(500, "InternalError", f"Internal error occurred: {error!r}", {})
            response = JSONResponse(failure.body(), failure.code)
        with suppress(ConnectionAbortedError):
            await response(scope, receive, tell)
            return
        _abort(receive)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                if self._http:
                    await self._http.aclose()
                self.drop_watches()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    def _write_audit(self, request: Request, audit: Obj, code: int) -> None:
        if self._audit is None or request.url.path.startswith("/sandbox/"):
            return
        line = {
            "time": self.api.now(), "user": audit["user"], "verb": audit["verb"], "method": request.method,
            "path": request.url.path, "query": dict(request.query_params), "code": code,
            "dryRun": "dryRun" in request.query_params, "userAgent": request.headers.get("user-agent", ""),
        }  # fmt: skip
        with self._audit.open("a") as file:
            file.write(json.dumps(line) + "\n")

    # --- from the request to the verb ---------------------------------------------------------------------------------

    async def _answer(self, request: Request, audit: Obj) -> Response:
        path = request.url.path
        if not path.startswith("/sandbox/"):
            await self._misbehave(request)
        user = self.access.user(request.headers.get("authorization", ""))
        audit["user"] = user.name
        found = route(path)
        if found is None or not found.plural:
            audit["verb"] = request.method.lower()
            if path.startswith("/sandbox/") and not user.is_admin:
                raise access.refusal(user, Ask(request.method.lower(), path=path))
            self.access.check(user, Ask(audit["verb"], path=path))
            return await self._no_resource(request, found)
        audit["verb"] = verb = _verb(request, found)
        resource = f"{found.plural}/{found.subresource}" if found.subresource else found.plural
        self.access.check(user, Ask(verb, found.group, resource, found.namespace, _bare_name(found)))
        kind = found.kind
        if kind is None or (found.subresource and found.subresource not in kind.subresources):
            raise errors.no_resource()
        if request.method == "GET" and kind.group == "metrics.k8s.io":
            return self._metrics(request, found, kind)
        misplaced = request.method == "POST" and found.name
        if (verb not in kind.verbs or misplaced) and not found.subresource:
            text = "the server does not allow this method on the requested resource"
            raise ApiStatus(405, "MethodNotAllowed", text, {})
        if found.subresource and found.subresource not in ("status", "finalize"):
            return await self._subresource(request, found, kind, user)
        return await self._resource(request, found, kind, user, verb)

    async def _no_resource(self, request: Request, found: Route | None) -> Response:
        path = request.url.path.rstrip("/") or "/"
        if path.startswith("/sandbox/"):
            return await self._admin(request)
        if path in ("/healthz", "/livez", "/readyz"):
            return Response("ok", media_type="text/plain")
        if path == "/openapi/v2":
            return Response(discovery.openapi_v2(), media_type="application/json")
        if path.startswith("/openapi/v3/"):
            parts = path.split("/")[3:]
            group, version = ("", parts[1]) if parts[0] == "api" else ("/".join(parts[1:-1]), parts[-1])
            if document := discovery.openapi_v3(group, version):
                return Response(document, media_type="application/json")
        host = request.url.netloc
        known: dict[str, Obj] = {
            "/": {"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/readyz", "/version"]},
            "/version": discovery.VERSION,
            "/api": discovery.versions(host),
            "/apis": discovery.groups(),
            "/openapi/v3": discovery.openapi_v3_index(),
        }
        body = known.get(path)
        if found is not None:
            body = discovery.resources(found.group, found.version)
        elif path.startswith("/apis/"):
            body = discovery.group(path.removeprefix("/apis/"))
        if body is None:
            raise errors.no_resource()
        return JSONResponse(body)

    async def _resource(self, request: Request, found: Route, kind: Kind, user: User, verb: str) -> Response:
        api, namespace, name = self.api, found.namespace if kind.namespaced else None, found.name
        stored = BY_KIND["Event"] if kind is EVENTS else kind
        if verb == "watch":
            return self._watch(request, kind, stored, namespace, name)
        if verb == "list":
            page = api.page(stored, namespace, request.query_params)
            return self._list(request, kind, page)
        if verb == "get":
            return self._one(request, kind, api.get(stored.kind, name, namespace))
        call = _call(request, user)
        if verb == "create":
            body = _typed(await _body(request, kind), kind)
            if "create" in kind.verbs and len(kind.verbs) == 1:
                return self._review(kind, user, api.decode(kind, body, call), call)
            self._guard(user, kind, body, namespace)
            obj = api.do_create(stored, _from_events(kind, body), namespace, call)
            return self._one(request, kind, obj, 201, call)
        if verb == "update":
            body = _typed(await _body(request, kind), kind)
            self._guard(user, kind, body, namespace)
            if found.subresource == "finalize":
                return JSONResponse(api.get(kind.kind, name))
            return self._one(
                request, kind, api.do_update(stored, name, namespace, body, call, found.subresource), 200, call
            )
        if verb == "patch":
            obj, created = await self._patch(request, stored, name, namespace, user, call, found.subresource)
            return self._one(request, kind, obj, 201 if created else 200, call)
        options = await _options(request)
        call = replace(call, dry_run=call.dry_run or bool(options.get("dryRun")))
        if verb == "deletecollection":
            page = api.page(stored, namespace, request.query_params)
            page["items"] = [fields.copy(obj) for obj in page["items"]]
            for obj in page["items"]:
                api.do_delete(stored, obj["metadata"]["name"], obj["metadata"].get("namespace"), options, call)
            return self._list(request, kind, page)
        obj, gone = api.do_delete(stored, name, namespace, options, call)
        if gone and not kind.returned:
            details = {"name": name, "group": kind.group, "kind": kind.plural, "uid": obj["metadata"]["uid"]}
            details = {key: value for key, value in details.items() if value}
            return JSONResponse(
                {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
            )
        return self._one(request, kind, obj)

    async def _patch(
        self, request: Request, kind: Kind, name: str, namespace: str | None, user: User, call: Call, subresource: str
    ) -> tuple[Obj, bool]:
        how = request.headers.get("content-type", "").partition(";")[0].strip()
        if how not in _PATCHES:
            raise ApiStatus(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
        raw = await request.body()
        if how == patches.APPLY:
            config = _yaml(raw)
            if not request.query_params.get("fieldManager"):
                cause = errors.Cause(
                    "fieldManager", "Required value: is required for apply patch", "FieldValueRequired"
                )
                options = Kind("PatchOptions", "meta.k8s.io", "v1", "patchoptions")
                raise errors.invalid(options, "", [cause])
            if not subresource and not self.api.find(kind.kind, name, namespace):
                self.access.check(user, Ask("create", kind.group, kind.plural, namespace or "", name))
            return self.api.do_apply(kind, name, namespace, _typed(config, kind), call, subresource)
        try:
            patch = json.loads(raw)
        except ValueError:
            raise errors.bad_request("error decoding patch: unexpected end of JSON input") from None
        return self.api.do_patch(kind, name, namespace, patch, how, call, subresource), False

    def _guard(self, user: User, kind: Kind, body: Obj, namespace: str | None) -> None:
        """Nobody grants what they do not hold."""
        if kind.kind in ("Role", "ClusterRole") and not user.is_admin:
            role = {**body, "metadata": {**(body.get("metadata") or {}), "namespace": namespace or ""}}
            if self.access.escalates(user, role):
                who = f'user "{user.name}" (groups={json.dumps(list(user.groups))})'
                text = f"{who} is attempting to grant RBAC permissions not currently held"
                raise errors.forbidden(kind, role["metadata"].get("name", ""), text)

    # --- answers ------------------------------------------------------------------------------------------------------

    def _one(self, request: Request, kind: Kind, obj: Obj, code: int = 200, call: Call | None = None) -> Response:
        warnings = [("Warning", f"299 - {fields.dumps(text)}") for text in call.warnings] if call else []
        shown = _to_events(obj) if kind is EVENTS else obj
        if mode := tables.wanted(request.headers.get("accept", "")):
            page = {"metadata": {"resourceVersion": obj["metadata"].get("resourceVersion", "")}, "items": [shown]}
            shown = tables.table(kind, page, mode, request.query_params.get("includeObject", ""), self.api.clock())
        response = JSONResponse(shown, code)
        response.raw_headers += [(name.lower().encode(), value.encode()) for name, value in warnings]
        return response

    def _list(self, request: Request, kind: Kind, page: Obj) -> Response:
        if kind is EVENTS:
            page = {**page, "apiVersion": kind.api_version, "items": [_to_events(obj) for obj in page["items"]]}
        if mode := tables.wanted(request.headers.get("accept", "")):
            shown = tables.table(kind, page, mode, request.query_params.get("includeObject", ""), self.api.clock())
            return JSONResponse(shown)
        # The items of a list do not repeat their kind.
        untyped = [{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")} for obj in page["items"]]
        return JSONResponse({**page, "items": untyped})

    def _review(self, kind: Kind, user: User, obj: Obj, call: Call) -> Response:
        ownership.update(kind, None, obj, ownership.Who(call.manager, "Update"), self.api.now())
        return JSONResponse({**obj, "status": access.review(self.access, user, kind.kind, obj)}, 201)

    def _metrics(self, request: Request, found: Route, kind: Kind) -> Response:
        runtime = self.api.runtime
        nodes = kind.kind == "NodeMetrics"
        items = (
            [] if runtime is None else runtime.node_metrics() if nodes else runtime.pod_metrics(found.namespace or None)
        )
        if found.name:
            for item in items:
                if item["metadata"]["name"] == found.name:
                    return JSONResponse({"kind": kind.kind, "apiVersion": kind.api_version, **item})
            name = f"{found.namespace}/{found.name}" if found.namespace else found.name
            raise ApiStatus(404, "NotFound", f'{kind.kind.lower()}.{kind.group} "{name}" not found',
                            {"name": name, "group": kind.group, "kind": kind.kind.lower()})  # fmt: skip
        test = self.api.test(kind, request.query_params)
        page = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": {}}
        return JSONResponse({**page, "items": [item for item in items if test(item)]})

    # --- watches ------------------------------------------------------------------------------------------------------

    def drop_watches(self) -> None:
        """Cut the connection under every open watch."""
        for queue in self._streams:
            queue.put_nowait(None)

    def _watch(self, request: Request, kind: Kind, stored: Kind, namespace: str | None, name: str) -> Response:
        query = dict(request.query_params)
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        test = self.api.test(stored, query)
        mode = tables.wanted(request.headers.get("accept", ""))

        def shape(obj: Obj) -> Obj:
            shown = _to_events(obj) if kind is EVENTS else obj
            if mode:
                page = {"metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]}, "items": [shown]}
                return tables.table(kind, page, mode, query.get("includeObject", ""), self.api.clock())
            return shown

        lines = self._events(stored, namespace, query, test, shape)
        return StreamingResponse(lines, media_type="application/json")

    async def _events(
        self,
        kind: Kind,
        namespace: str | None,
        query: Mapping[str, str],
        test: Callable[[Mapping[str, Any]], bool],
        shape: Callable[[Obj], Obj],
    ) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[Change | None] = asyncio.Queue()

        def hear(change: Change) -> None:
            if change.kind == kind.kind and (not namespace or change.object["metadata"].get("namespace") == namespace):
                queue.put_nowait(change)

        start = query.get("resourceVersion", "")
        since = int(start) if start.isdigit() else 0
        initial = query.get("sendInitialEvents") == "true" or (since == 0 and query.get("sendInitialEvents") != "false")
        if since and since < self.api.oldest:
            status = errors.expired(f"too old resource version: {since} ({self.api.oldest})")
            yield _line("ERROR", status.body())
            return
        if initial:
            for obj in [obj for obj in self.api.all(kind.kind, namespace) if test(obj)]:
                yield _line("ADDED", shape(obj))
        else:
            for change in self.api.history:
                if change.version > since:
                    hear(change)
        self.api.listeners.append(hear)
        self._streams.add(queue)
        loop = asyncio.get_running_loop()
        end = loop.time() + (_number(query, "timeoutSeconds") or 1800)
        bookmarks = query.get("allowWatchBookmarks") in ("1", "true")
        try:
            if initial and query.get("sendInitialEvents") == "true":
                yield self._bookmark(kind, {"k8s.io/initial-events-end": "true"})
            while (left := end - loop.time()) > 0:
                try:
                    heard = await asyncio.wait_for(queue.get(), min(left, _BOOKMARK_SECONDS))
                except TimeoutError:
                    if bookmarks:
                        yield self._bookmark(kind, {})
                    continue
                if heard is None:
                    raise ConnectionAbortedError
                if type_ := _seen(heard, test):
                    yield _line(type_, shape(heard.object))
        finally:
            self._streams.discard(queue)
            self.api.listeners.remove(hear)

    def _bookmark(self, kind: Kind, annotations: Obj) -> bytes:
        meta: Obj = {"resourceVersion": str(self.api.version)}
        if annotations:
            meta["annotations"] = annotations
        return _line("BOOKMARK", {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta})

    # --- subresources -------------------------------------------------------------------------------------------------

    async def _subresource(self, request: Request, found: Route, kind: Kind, user: User) -> Response:
        api, namespace = self.api, found.namespace
        if found.subresource == "proxy":
            return await self._proxy(request, found, kind)
        if found.subresource == "log":
            return await self._log(request, api.get("Pod", found.name, namespace))
        call = _call(request, user)
        if found.subresource == "scale":
            if request.method == "GET":
                return JSONResponse(api.scale(kind, found.name, namespace))
            scale: Any
            if request.method == "PATCH":
                how = request.headers.get("content-type", "").partition(";")[0].strip()
                patch = _yaml(await request.body())
                scale = patches.patched(
                    kind, api.scale(kind, found.name, namespace), patch, patches.MERGE if how != patches.JSON else how
                )
            else:
                scale = await _body(request, kind)
            return JSONResponse(api.do_scale(kind, found.name, namespace, scale, call))
        body = await _body(request, kind)
        if found.subresource == "binding":
            target = (body.get("target") or {}).get("name", "")
            api.patch("Pod", found.name, namespace, {"spec": {"nodeName": target}}, manager=call.manager)
            return JSONResponse(_success(), 201)
        if found.subresource == "token":
            return JSONResponse(self._token(found, body), 201)
        api.evict(api.get("Pod", found.name, namespace), body.get("deleteOptions") or {}, call)
        return JSONResponse(_success(), 201)

    def _token(self, found: Route, body: Obj) -> Obj:
        seconds = int((body.get("spec") or {}).get("expirationSeconds") or 3600)
        if seconds < 600:
            text = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            request = Kind("TokenRequest", "authentication.k8s.io", "v1", "tokenrequests")
            raise errors.invalid(request, found.name, [errors.Cause("spec.expirationSeconds", text)])
        token = self.access.token(found.namespace, found.name, seconds)
        until = self.api.time_in(seconds)
        spec = {"audiences": ["https://kubernetes.default.svc.cluster.local"], **(body.get("spec") or {})}
        meta = {"name": found.name, "namespace": found.namespace, "creationTimestamp": self.api.now()}
        status = {"token": token, "expirationTimestamp": until}
        return {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": meta,
                "spec": {**spec, "expirationSeconds": seconds}, "status": status}  # fmt: skip

    async def _log(self, request: Request, pod: Obj) -> Response:
        query = request.query_params
        container = _log_container(pod, query.get("container", ""))
        if self.api.runtime is None:
            return Response("", media_type="text/plain")

        chunks = self.api.runtime.log(
            pod, container, previous=query.get("previous") == "true", follow=query.get("follow") == "true",
            tail=_number(query, "tailLines"), since_seconds=_number(query, "sinceSeconds"),
            timestamps=query.get("timestamps") == "true", limit_bytes=_number(query, "limitBytes"),
        )  # fmt: skip
        first = await anext(chunks, b"")

        async def stream() -> AsyncIterator[bytes]:
            yield first
            async for chunk in chunks:
                yield chunk

        response = StreamingResponse(stream())
        response.headers["content-type"] = "text/plain"
        return response

    async def _proxy(self, request: Request, found: Route, kind: Kind) -> Response:
        import httpx  # slow to import, and most servers never proxy

        scheme, host, port = self._target(found, kind)
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=30, verify=False)  # noqa: S501 - as the API server does
        query = request.url.query.encode() or None  # an empty one would still end the path with a question mark
        url = httpx.URL(scheme=scheme, host=host, port=port, path=found.rest or "/", query=query)
        headers = [(name, value) for name, value in request.headers.items() if name not in _MOVED_HEADERS]
        try:
            answer = await self._http.request(request.method, url, headers=headers, content=await request.body())
        except httpx.TimeoutException:
            raise ApiStatus(504, "Timeout", "error trying to reach service: context deadline exceeded", {}) from None
        except httpx.HTTPError as problem:
            text = "connect: connection refused" if isinstance(problem, httpx.ConnectError) else "EOF"
            text = f"error trying to reach service: dial tcp {host}:{port}: {text}"
            raise ApiStatus(503, "ServiceUnavailable", text) from None
        kept = {k: v for k, v in answer.headers.items() if k not in (*_MOVED_HEADERS, "content-encoding")}
        return Response(answer.content, answer.status_code, headers=kept)

    def _target(self, found: Route, kind: Kind) -> tuple[str, str, int]:
        """(scheme, address, port) behind `[scheme:]name[:port]`."""
        scheme, name, port = _proxy_name(found.name)
        if kind.kind == "Pod":
            pod = self.api.get("Pod", name, found.namespace)
            address = self.api.runtime.pod_address(pod) if self.api.runtime else pod.get("status", {}).get("podIP")
            if not address:
                raise ApiStatus(400, "BadRequest", "address not allowed")
            declared = [p for c in pod["spec"]["containers"] for p in c.get("ports") or []]
            number = next((p["containerPort"] for p in declared if port in ("", p.get("name"))), 80)
            return scheme or "http", address, int(port) if port.isdigit() else number
        service = self.api.get("Service", name, found.namespace)
        ports = service["spec"].get("ports") or []
        wanted = [p for p in ports if port in (str(p["port"]), p.get("name", "")) or (not port and len(ports) == 1)]
        if not wanted:
            text = f'no service port "{port}" found for service "{name}"'
            raise ApiStatus(503, "ServiceUnavailable", text)
        for address, number in self.api.endpoints(found.namespace, name, wanted[0].get("name", "")):
            return scheme or "http", address, number
        raise ApiStatus(503, "ServiceUnavailable", f'no endpoints available for service "{name}"')

    # --- faults and the sandbox's own doors ---------------------------------------------------------------------------

    async def _misbehave(self, request: Request) -> None:
        now = self.api.clock()
        self._faults = [f for f in self._faults if (f.until is None or now < f.until) and f.count != 0]
        found = route(request.url.path)
        verb = _verb(request, found) if found and found.plural else ""
        for fault in self._faults:
            if (fault.verbs and verb not in fault.verbs) or not re.search(fault.path, request.url.path):
                continue
            if fault.count is not None:
                fault.count -= 1
            await asyncio.sleep(fault.latency)
            if fault.refuse:
                raise ConnectionAbortedError
            if fault.status:
                headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
                reason, text = {
                    429: ("TooManyRequests", "too many requests, please try again later"),
                    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
                }.get(fault.status, ("InternalError", "Internal error occurred: asked for"))
                details = {} if fault.retry_after is None else {"retryAfterSeconds": fault.retry_after}
                raise ApiStatus(fault.status, reason, text, details, headers)

    async def _admin(self, request: Request) -> Response:
        """/sandbox/health, /sandbox/faults, /sandbox/watches/drop, /sandbox/history/expire."""
        what = (request.method, request.url.path.removeprefix("/sandbox/"))
        if what == ("GET", "health"):
            counts = {kind: len(self.api.all(kind)) for kind in ("Namespace", "Node", "Pod")}
            return JSONResponse({"ok": True, "resourceVersion": str(self.api.version), "objects": counts})
        if what == ("POST", "faults"):
            body = json.loads(await request.body())
            seconds = body.pop("seconds", None)
            try:
                fault = Fault(**{**body, "verbs": tuple(body.get("verbs") or ())})
                re.compile(fault.path)
            except (TypeError, re.error) as wrong:
                raise errors.bad_request(
                    f"a fault has {', '.join(Fault.__annotations__)} and seconds: {wrong}"
                ) from None
            fault.until = self.api.clock() + seconds if seconds is not None else fault.until
            self._faults.append(fault)
            if fault.refuse:
                self.drop_watches()
        elif what == ("DELETE", "faults"):
            self._faults.clear()
        elif what == ("POST", "watches/drop"):
            self.drop_watches()
        elif what == ("POST", "history/expire"):
            self.api.forget_history()
        else:
            raise errors.no_resource()
        return JSONResponse({"ok": True})


def make_asgi(api: Api, *, admin_token: str, audit_path: Path | None) -> ASGIApp:
    """The HTTP side of `api`. Every request but the sandbox's own is appended to `audit_path` as a line of JSON."""
    return Server(api, admin_token=admin_token, audit_path=audit_path)


# --- small readers ----------------------------------------------------------------------------------------------------


def _verb(request: Request, found: Route) -> str:
    verb = _VERBS.get(request.method, request.method.lower())
    if found.name:
        watching = verb == "get" and request.query_params.get("watch") in ("1", "true") and not found.subresource
        return "watch" if watching else verb
    if verb == "get":
        return "watch" if request.query_params.get("watch") in ("1", "true") else "list"
    return "deletecollection" if verb == "delete" else verb


def _bare_name(found: Route) -> str:
    return _proxy_name(found.name)[1] if found.subresource == "proxy" else found.name


def _proxy_name(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    return "", parts[0], parts[1] if len(parts) > 1 else ""


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    try:
        return int(text) if text else None
    except ValueError:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _call(request: Request, user: User) -> Call:
    query = request.query_params
    dry_run = query.getlist("dryRun")
    if dry_run and dry_run != ["All"]:
        cause = errors.Cause("dryRun", f'Unsupported value: {fields.dumps(dry_run)}: supported values: "All"',
                             "FieldValueNotSupported")  # fmt: skip
        raise errors.invalid(Kind("CreateOptions", "meta.k8s.io", "v1", "createoptions"), "", [cause])
    manager = query.get("fieldManager") or request.headers.get("user-agent", "").partition("/")[0] or "unknown"
    return Call(manager, user.name, bool(dry_run), query.get("fieldValidation") or "Warn", query.get("force") == "true")


def _yaml(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        try:
            return yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
        except yaml.YAMLError as wrong:
            raise errors.bad_request(f"error decoding YAML: {wrong}") from None


async def _body(request: Request, kind: Kind) -> Any:
    how = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    raw = await request.body()
    unknown = ApiStatus(415, "UnsupportedMediaType", "the body of the request was in an unknown format", {})
    if how == protobuf.MEDIA_TYPE:
        try:
            return protobuf.decode(raw)
        except (ValueError, IndexError, AttributeError):
            raise unknown from None
    if how not in ("application/json", "application/yaml", ""):
        raise unknown
    try:
        body = _yaml(raw) if how == "application/yaml" else json.loads(raw)
    except ValueError as wrong:
        text = f"the object provided is unrecognized (must be of type {kind.kind}): couldn't get version/kind"
        raise errors.bad_request(f"{text}; json parse error: {wrong}") from None
    if not isinstance(body, dict):
        raise errors.bad_request(f"the object provided is unrecognized (must be of type {kind.kind})")
    return body


async def _options(request: Request) -> Obj:
    raw, query = await request.body(), request.query_params
    options = _yaml(raw) if raw else {}
    if "gracePeriodSeconds" in query:
        options["gracePeriodSeconds"] = _number(query, "gracePeriodSeconds")
    if "propagationPolicy" in query:
        options["propagationPolicy"] = query["propagationPolicy"]
    return options if isinstance(options, dict) else {}


def _typed(body: Any, kind: Kind) -> Obj:
    """The body, if it says the kind that the path says."""
    if not isinstance(body, dict):
        raise errors.bad_request(f"the object provided is unrecognized (must be of type {kind.kind})")
    said, version = body.get("kind", kind.kind), body.get("apiVersion", kind.api_version)
    if not isinstance(said, str) or not isinstance(version, str):
        text = f"the object provided is unrecognized (must be of type {kind.kind}): couldn't get version/kind"
        raise errors.bad_request(text)
    if said != kind.kind:
        short = version.rpartition("/")[2]
        source = version.partition("/")[0] if "/" in version else short
        text = f"converting ({source}.{said}) to ({kind.group or 'core'}.{kind.kind}): unknown conversion"
        raise errors.bad_request(f'{said} in version "{short}" cannot be handled as a {kind.kind}: {text}')
    if version != kind.api_version:
        text = f"the API version in the data ({version}) does not match the expected API version ({kind.api_version})"
        raise errors.bad_request(text)
    return body


def _seen(change: Change, test: Callable[[Mapping[str, Any]], bool]) -> str:
    """The type of a change as a watch with a selector sees it; '' for none."""
    now = change.type != "DELETED" and test(change.object)
    before = change.old is not None and test(change.old)
    if now:
        return change.type if change.type == "ADDED" or before else "ADDED"
    return "DELETED" if before else ""


def _line(type_: str, obj: Obj) -> bytes:
    return (fields.dumps({"type": type_, "object": obj}) + "\n").encode()


def _success() -> Obj:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _log_container(pod: Obj, asked: str) -> str:
    name = pod["metadata"]["name"]
    names = [c["name"] for c in pod["spec"]["containers"]]
    inits = [c["name"] for c in pod["spec"].get("initContainers") or []]
    if asked:
        if asked not in names + inits:
            raise errors.bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(names) > 1:
        text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
        text += f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
        raise errors.bad_request(text)
    return str(names[0])


_NEW_EVENT = {"regarding": "involvedObject", "note": "message", "deprecatedCount": "count",
              "deprecatedFirstTimestamp": "firstTimestamp", "deprecatedLastTimestamp": "lastTimestamp",
              "deprecatedSource": "source", "reportingController": "reportingComponent"}  # fmt: skip


def _to_events(obj: Obj) -> Obj:
    """A stored Event as events.k8s.io shows it."""
    names = {old: new for new, old in _NEW_EVENT.items()}
    return {**{names.get(key, key): value for key, value in obj.items()}, "apiVersion": EVENTS.api_version}


def _from_events(kind: Kind, obj: Obj) -> Obj:
    if kind is not EVENTS:
        return obj
    return {**{_NEW_EVENT.get(key, key): value for key, value in obj.items()}, "apiVersion": "v1"}


def _abort(receive: Receive) -> None:
    """Cut the connection under the client, which HTTP alone has no word for; uvicorn's receive knows the transport."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()
