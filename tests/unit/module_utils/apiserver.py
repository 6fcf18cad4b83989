"""A stand-in for an API server on loopback: it lists and watches what a test puts in, and misbehaves on demand."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, dict[str, str], Any]


class ApiServer:
    """Use as a context manager; C(url) is its address, C(requests) the method and path of each request that came."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.objects: dict[str, dict[str, Any]] = defaultdict(dict)
        self.logs: dict[str, str] = {}
        self.date = ""
        self._version = 1000
        self._watchers: dict[str, list[SimpleQueue[Any]]] = defaultdict(list)
        self._lock = threading.Lock()
        # Called with resource and query before each request: an Answer to give instead, "cut" to hang up, or None.
        self.interfere: Callable[[str, dict[str, str]], Answer | str | None] = lambda _resource, _query: None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner._answer(self)

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_args: None  # type: ignore[method-assign]  # a client that hangs up is no error
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ApiServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_args: object) -> None:
        self.end_watches()
        self._server.shutdown()
        self._server.server_close()

    def put(self, resource: str, change: str, found: dict[str, Any]) -> None:
        """Change one object, and tell the watchers."""
        with self._lock:
            self._version += 1
            found = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self._version)}}
            uid = found["metadata"]["uid"]
            if change == "DELETED":
                self.objects[resource].pop(uid, None)
            else:
                self.objects[resource][uid] = found
            for watcher in self._watchers[resource]:
                watcher.put({"type": change, "object": found})

    def say(self, resource: str, line: dict[str, Any]) -> None:
        """Tell the watchers a line that changes nothing, as an ERROR or a BOOKMARK."""
        for watcher in self._watchers[resource]:
            watcher.put(line)

    def end_watches(self, how: str = "end") -> None:
        """End every watch: C(end) in order, C(cut) in the middle of a line."""
        with self._lock:
            for watchers in self._watchers.values():
                for watcher in watchers:
                    watcher.put(how)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        resource = parts.path.rsplit("/", 1)[-1]
        self.requests.append(f"{'WATCH' if 'watch' in query else 'GET'} {resource}")
        instead = self.interfere(resource, query)
        if instead == "cut":
            handler.close_connection = True
        elif instead is not None:
            self._send(handler, *instead)
        elif resource == "log":
            _rest, pod, _log = parts.path.rsplit("/", 2)
            name = f"{pod}/{query['container']}" + ("/previous" if query.get("previous") == "true" else "")
            if name in self.logs:
                self._send(handler, 200, {"Content-Type": "text/plain"}, self.logs[name])
            else:
                self._send(handler, *status(400, "BadRequest", "container is waiting to start"))
        elif "watch" in query:
            self._watch(handler, resource, int(query["resourceVersion"]))
        else:
            with self._lock:
                items = list(self.objects[resource].values())
                metadata = {"resourceVersion": str(self._version)}
            self._send(handler, 200, {}, {"kind": "List", "metadata": metadata, "items": items})

    def _watch(self, handler: BaseHTTPRequestHandler, resource: str, version: int) -> None:
        lines: SimpleQueue[Any] = SimpleQueue()
        with self._lock:
            for found in self.objects[resource].values():
                if int(found["metadata"]["resourceVersion"]) > version:
                    lines.put({"type": "MODIFIED", "object": found})
            self._watchers[resource].append(lines)
        try:
            handler.send_response_only(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            while True:
                try:
                    line = lines.get(timeout=30)
                except Empty:
                    line = "end"
                if line == "end":
                    handler.wfile.write(b"0\r\n\r\n")
                    return
                if line == "cut":
                    handler.wfile.write(b"ff\r\n{")
                    handler.close_connection = True
                    return
                data = json.dumps(line).encode() + b"\n"
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                handler.wfile.flush()
        except OSError:
            handler.close_connection = True
        finally:
            with self._lock:
                self._watchers[resource].remove(lines)

    def _send(self, handler: BaseHTTPRequestHandler, code: int, headers: dict[str, str], body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        handler.send_response_only(code)
        if self.date:
            handler.send_header("Date", self.date)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


def status(code: int, reason: str, message: str, **headers: str) -> Answer:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return code, {name.replace("_", "-"): value for name, value in headers.items()}, body
