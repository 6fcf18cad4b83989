# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Asks an endpoint, and every pod behind it, for the golden predictions. Reads and predicts; changes nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from ansible_collections.deepmlhub.inference.plugins.module_utils import gate
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import Answer, ApiError, Cluster, Unreachable
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError

LATENCY_REQUESTS = 20
LATENCY_ROUNDS = 3
MAX_ANSWER = 16 * 1024 * 1024
_NOT_REACHED = "not reached"
# The checks in their order, and what to do where one is still not passed at the deadline.
_HINTS = {
    "service": "Deploy it first, or set service and namespace to where it is",
    "address": "See kubectl describe service; a cluster without load balancers needs a Service of type ClusterIP",
    "health": "See the pods' logs, and that a firewall or NetworkPolicy lets this machine through",
    "ready": "See the pods' logs for why the model is not loaded",
    "predict": "See the pods' logs, and that no other pods stand behind the Service",
    "pods": "See kubectl rollout status, and kubectl describe pods",
    "autoscaler": "Give it more wait_timeout, or set autoscaler to warn",
    "latency": "Give the pods more CPU or more replicas, or raise max_p95_ms",
}
_T = TypeVar("_T")


class Fetch(Protocol):
    """One request to the clients' address; any status is an answer. Raises Unreachable when there is none."""

    def __call__(self, method: str, url: str, *, body: Any, timeout: float) -> Answer: ...


def fetch(method: str, url: str, *, body: Any = None, timeout: float) -> Answer:
    """One JSON request on a connection of its own, so that a load balancer chooses anew; C(timeout) seconds in all.

    No proxy of the environment and no redirect is followed: the answer must come from the address itself.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    late = threading.Event()
    # A socket's own time-out starts anew with every byte; this one does not.
    watchdog = threading.Timer(timeout, _hang_up, [connection, late])
    watchdog.daemon = True
    watchdog.start()
    data = None if body is None else json.dumps(body).encode()
    headers = {"Accept": "application/json", "Connection": "close", "User-Agent": "deepmlhub.inference"}
    if data:
        headers["Content-Type"] = "application/json"
    try:
        connection.connect()
        if late.is_set():
            raise TimeoutError
        connection.request(method, parts.path or "/", data, headers)
        response = connection.getresponse()
        content = response.read(MAX_ANSWER + 1)
        if response.length and len(content) <= MAX_ANSWER:
            raise http.client.IncompleteRead(content, response.length)
        if late.is_set():
            raise TimeoutError
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        slow = late.is_set() or isinstance(error, TimeoutError)
        cause = f"no answer within {timeout:.3g} s" if slow else getattr(error, "strerror", None) or str(error)
        raise Unreachable(f"{method} {url}: {cause or type(error).__name__}") from error
    finally:
        watchdog.cancel()
        connection.close()
    if len(content) > MAX_ANSWER:
        raise Unreachable(f"{method} {url}: the answer is longer than {MAX_ANSWER} bytes")
    return Answer(
        response.status, cast("Mapping[str, str]", response.headers), _decode(content.decode("utf-8", "replace"))
    )


def _hang_up(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    late.set()
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            # Below TLS, whose own farewell would wait for the other side.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def load_golden(golden: Any) -> Any:
    """The content of a golden file on this machine; a dict or a list is its own content. Raises InferenceError."""
    if not isinstance(golden, str):
        gate.golden_set(golden)
        return golden
    path = Path(golden).expanduser().absolute()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InferenceError(
            f"The golden file {path} cannot be read: {error.strerror}", hint=gate.MAKE_GOLDEN
        ) from error
    except ValueError as error:
        raise InferenceError(f"The golden file {path} is not JSON: {error}", hint=gate.MAKE_GOLDEN) from error
    gate.golden_set(content, f"The golden file {path}")
    return content


def prepare(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A gate's options with the golden file read, checked; what a record can keep. Raises InferenceError."""
    prepared = {**spec, "golden": load_golden(spec.get("golden"))}
    gate.settings(prepared)
    return prepared


def run_gate(
    cluster: Cluster,
    spec: Mapping[str, Any],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    fetch: Fetch = fetch,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Waits until the endpoint answers rightly, or one deadline has passed. Never raises for what it finds.

    :param spec: namespace; the options of gate.GATE_ARG_SPEC (golden as content, see prepare); wait_timeout,
        wait_sleep and request_timeout in seconds.
    :param on_progress: called before every request with attempts, elapsed, last_error; what it raises passes through.
    :param check_mode: a Service or Deployment that does not exist is reported as not checked, and not waited for.
    :returns: always the same keys: ok, checked, address, attempts, elapsed (s), checks [{name, ok, required, detail}],
        latencies {p50, p95 (ms), count}, pods [{name, ok, model_sha256, via}], autoscaler, model_sha256, notes,
        last_error, msg.
    """
    return _Gate(cluster, spec, clock, sleep, fetch, on_progress, check_mode).run()


def not_run(error: InferenceError) -> dict[str, Any]:
    """The result, with all its keys, of a gate that could not begin."""
    return _Gate(cast("Cluster", None), {}, time.monotonic, time.sleep, fetch, None, False).refuse(error)


class _NotYet(Exception):
    """May still turn right before the deadline."""


class _Failed(Exception):
    """Proven wrong: waiting would not help."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


class _NotChecked(Exception):
    """Check mode, and the object does not exist yet."""


class _Denied(Exception):
    """The API server does not let these credentials through its proxy."""


class _Gate:
    def __init__(
        self,
        cluster: Cluster,
        spec: Mapping[str, Any],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        fetch: Fetch,
        on_progress: Callable[[dict[str, Any]], None] | None,
        check_mode: bool,
    ) -> None:
        self.cluster, self.clock, self.sleep, self.fetch = cluster, clock, sleep, fetch
        self.on_progress, self.check_mode = on_progress, check_mode
        self.spec = spec
        self.started = clock()
        self.phase = "service"
        self.address: str | None = None
        self.attempts = 0
        self.last_error = ""
        self._forget_checks()
        self.reached_api = False
        self.proxy_denied = False
        self.crew = gate.Crew([], {}, [])
        # By pod uid: the golden pairs that it answered rightly, whether it was asked directly, the model it serves.
        self.answered: dict[str, set[int]] = {}
        self.asked_directly: set[str] = set()
        self.models: dict[str, str] = {}
        self.model: str | None = None
        self.samples: list[float] = []
        self.rounds = 0
        self.took = 0.0
        self.autoscaler = {**gate.autoscaler([], ""), "reason": "NotChecked", "message": _NOT_REACHED, "remedy": ""}

    def refuse(self, error: InferenceError) -> dict[str, Any]:
        self.last_error = error.what
        return self._result(str(error))

    def run(self) -> dict[str, Any]:
        try:
            self.spec = gate.settings(self.spec)
        except InferenceError as error:
            return self.refuse(error)
        self.namespace, self.pairs, self.model = self.spec["namespace"], self.spec["pairs"], self.spec["model_sha256"]
        self.deadline = self.started + self.spec["wait_timeout"]
        what = f"The endpoint of Service {self.namespace}/{self.spec['service']}"
        while True:
            self.attempts += 1
            self._forget_checks()
            try:
                self._attempt()
                return self._result(f"{what} answers rightly at {self.address}", ok=True)
            except _NotChecked as missing:
                return self._result(f"Not checked in check mode: {missing}", checked=False)
            except _Failed as failure:
                return self._result(f"{what} fails the gate: {failure}. {failure.hint}", error=str(failure))
            except _NotYet as reason:
                self.last_error = str(reason)
            self.checks[self.phase] |= {"ok": False, "detail": self.last_error}
            left = self.deadline - self.clock()
            if left > 0:
                self.sleep(min(left, gate.next_delay(self.attempts, self.spec["wait_sleep"])))
            if self.clock() >= self.deadline:
                waited = (
                    f"{what} did not pass within {self.spec['wait_timeout']:g} s ({_count(self.attempts, 'attempt')})"
                )
                return self._result(f"{waited}: {self.last_error}. {_HINTS[self.phase]}", error=self.last_error)

    def _attempt(self) -> None:
        base, port = self._find_address()
        self._read_crew()
        for name in ("health", "ready"):
            self._begin(name)
            path = self.spec["paths"][name]
            answer = self._ask_clients(base, "GET", path)
            if answer.status != 200:
                raise _NotYet(f"GET {base}{path} answered {_told(answer)}")
            self._passed(f"GET {path} answered 200")
        self._begin("predict")
        for index in range(len(self.pairs)):
            self._ask_address(base, index)
        self._passed(f"{_count(len(self.pairs), 'golden pair')} answered rightly")
        self._cover_pods(base, port)
        self._check_autoscaler()
        self._measure(base)
        self._confirm_crew()

    # What the API server says.

    def _find_address(self) -> tuple[str, gate.Object]:
        """Where clients ask: the load balancer's URL, else the API server's path to the Service; and its port."""
        self._begin("service")
        name, scheme = self.spec["service"], self.spec["scheme"]
        service = self._object("Service", f"/api/v1/namespaces/{self.namespace}/services/{name}", name)
        kind = service["spec"].get("type") or "ClusterIP"
        if kind == "ExternalName":
            raise _Failed(f"Service {name} is of type ExternalName", "Set service to one that has pods behind it")
        port = _or_fail(gate.service_port, service, self.spec["port"])
        self._passed(f"of type {kind}")
        self._begin("address")
        if kind == "LoadBalancer":
            found = gate.addresses(service, port["port"], scheme)
            if not found:
                raise _NotYet(f"Service {name} has no address in status.loadBalancer yet{self._complaint(name)}")
            if self.address not in found or self.last_error:
                # Of several addresses each gets its turn: not every machine has a route to every one.
                self.address = found[(self.attempts - 1) % len(found)]
        else:
            self.address = gate.proxy(self.namespace, "services", name, port.get("name") or port["port"], scheme)
        self._passed(self.address)
        return self.address, port

    def _complaint(self, service: str) -> str:
        """What the load balancer's controller last complained of: it may be why the address never comes."""
        query = {"fieldSelector": f"involvedObject.kind=Service,involvedObject.name={service},type=Warning"}
        try:
            events = self._api(f"/api/v1/namespaces/{self.namespace}/events", query).get("items") or []
        except (ApiError, _Failed, _NotYet):
            return ""
        last = max(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "", default=None)
        return f" ({last.get('reason')}: {_line(last.get('message'))})" if last else ""

    def _read_crew(self) -> None:
        """Learns which pods are of this release now. Raises _NotYet while none is ready, or older ones still serve."""
        self._begin("pods")
        prefix, name = f"/apis/apps/v1/namespaces/{self.namespace}", self.spec["deployment"]
        deployment = self._object("Deployment", f"{prefix}/deployments/{name}", name)
        query = {"labelSelector": gate.selector(deployment)}
        replica_sets = self._list(f"{prefix}/replicasets", query)
        self.crew = gate.crew(deployment, replica_sets, self._list(f"/api/v1/namespaces/{self.namespace}/pods", query))
        if not self.crew.ready:
            raise _NotYet(f"Deployment {name} has no ready pod of its present template ({self._waiting() or 'no pod'})")
        if self.crew.older:
            raise _NotYet(f"pods of an older template of Deployment {name} still serve: {', '.join(self.crew.older)}")

    def _waiting(self) -> str:
        return ", ".join(f"{name}: {reason}" for name, reason in self.crew.waiting.items())

    def _object(self, kind: str, path: str, name: str) -> gate.Object:
        try:
            return self._api(path)
        except ApiError as error:
            if error.status != 404:
                raise _NotYet(error.what) from error
            missing = f"{kind} {name} does not exist in namespace {self.namespace}"
            raise (_NotChecked if self.check_mode else _NotYet)(missing) from error

    def _list(self, path: str, query: Mapping[str, str] | None = None) -> list[gate.Object]:
        try:
            return list(self._api(path, query).get("items") or [])
        except ApiError as error:
            raise _NotYet(error.what) from error

    def _api(self, path: str, query: Mapping[str, str] | None = None) -> gate.Object:
        """A read. A refused login or permission is final, and so is an API server that never answered."""
        timeout = self._timeout()
        # The last try must end before the deadline, too.
        patience = min(timeout, self.deadline - self.clock() - timeout)
        try:
            body = self.cluster.request("GET", path, query=query, timeout=timeout, patience=patience).body
        except ApiError as error:
            self.reached_api = True
            if error.status in (401, 403):
                raise _Failed(error.what, error.hint) from error
            raise
        except Unreachable as error:
            if self.reached_api:
                raise _NotYet(error.what) from error
            raise _Failed(error.what, error.hint) from error
        self.reached_api = True
        if not isinstance(body, dict):
            raise _NotYet(f"GET {path} gave no object: {_line(body)}")
        return body

    # What the endpoint and the pods behind it say.

    def _ask(self, base: str, method: str, path: str, body: Any = None) -> Answer:
        """Any status that the app gave is an answer; the API server's own refusals are not."""
        timeout, begun = self._timeout(), self.clock()
        try:
            if not base.startswith("/"):
                return self.fetch(method, base + path, body=body, timeout=timeout)
            return self.cluster.request(method, base + path, body=body, timeout=timeout, patience=0)
        except ApiError as error:
            if error.body.get("kind") != "Status":
                return Answer(error.status, error.headers, error.body or error.message)
            if error.status in (401, 403):
                raise _Denied(error.what) from error
            raise _NotYet(error.what) from error
        except Unreachable as error:
            raise _NotYet(error.what) from error
        finally:
            self.took = self.clock() - begun

    def _ask_clients(self, base: str, method: str, path: str, body: Any = None) -> Answer:
        try:
            return self._ask(base, method, path, body)
        except _Denied as error:
            raise _Failed(str(error), "Grant get and create on services/proxy to these credentials") from error

    def _ask_address(self, base: str, index: int) -> None:
        """One golden pair at the clients' address; counts for the pod that answered, if it is one of this release."""
        path = self.spec["paths"]["predict"]
        answer = self._ask_clients(base, "POST", path, self.pairs[index]["request"])
        took, name = self.took, answer.headers.get("X-Pod-Name")
        if _is_passing_trouble(answer) or not name:
            unsigned = "" if name else " without the header X-Pod-Name"
            raise _NotYet(f"POST {base}{path} answered {_told(answer)}{unsigned}")
        pod = self._ready_pod(name)
        if pod is None:
            phase = self.phase
            self._read_crew()
            self._begin(phase)
            pod = self._ready_pod(name)
        if pod is None:
            raise _NotYet(f"{base} was answered by {name}, which is not a ready pod of this release")
        self._judge(pod, index, answer)
        self.took = took

    def _ask_pod(self, pod: gate.Object, port: gate.Object) -> None:
        """All golden pairs at one pod, through the API server."""
        name, path = pod["metadata"]["name"], self.spec["paths"]["predict"]
        number = _or_fail(gate.pod_port, port, pod)
        base = gate.proxy(self.namespace, "pods", name, number, self.spec["scheme"])
        for index, pair in enumerate(self.pairs):
            answer = self._ask(base, "POST", path, pair["request"])
            if _is_passing_trouble(answer):
                raise _NotYet(f"pod {name} answered {_told(answer)}")
            self._judge(pod, index, answer)
        self.asked_directly.add(pod["metadata"]["uid"])

    def _judge(self, pod: gate.Object, index: int, answer: Answer) -> None:
        """A wrong answer of a pod that is still of this release is final."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        problem, hint = self._problem(name, index, answer)
        if not problem:
            self.answered.setdefault(uid, set()).add(index)
            return
        phase = self.phase
        self._read_crew()
        self._begin(phase)
        if all(ready["metadata"]["uid"] != uid for ready in self.crew.ready):
            raise _NotYet(f"pod {name} answered wrongly, but is no longer of this release: {problem}")
        raise _Failed(f"pod {name}: {problem}", hint)

    def _problem(self, name: str, index: int, answer: Answer) -> tuple[str, str]:
        """What is wrong with a pod's answer, and the remedy."""
        signed = answer.headers.get("X-Pod-Name")
        if signed != name:
            return f"its answers carry X-Pod-Name: {signed or 'nothing'}", "Set its POD_NAME from metadata.name"
        served = (answer.headers.get("X-Model-Sha256") or "").lower()
        self.models[name] = served
        problems = []
        if answer.status != 200:
            problems.append(f"golden pair {index + 1} was answered with {_told(answer)}")
        else:
            if self.model and served != self.model:
                problems.append(f"it serves model sha256 {served or '(no X-Model-Sha256)'}, expected {self.model}")
            wrong = gate.judge(index + 1, self.pairs[index], answer.body, self.spec["tolerance"])
            problems.extend([wrong] if wrong else [])
        if not problems and not self.model and served:
            # Without a known hash, the first pod's model is what all others must serve.
            self.model = served
        return "; ".join(problems), "Deploy the model together with the golden.json that was made with it"

    def _cover_pods(self, base: str, port: gate.Object) -> None:
        """Every ready pod answers the golden set: directly or, where that is impossible, at the clients' address."""
        self._begin("pods")
        why = "pods/proxy is not allowed to these credentials"
        for pod in self.crew.ready:
            if self.proxy_denied:
                break
            if pod["metadata"]["uid"] in self.asked_directly:
                continue
            try:
                self._ask_pod(pod, port)
            except _Denied:
                self.proxy_denied = True
            except _NotYet as reason:
                if self._ready_pod(pod["metadata"]["name"]):
                    # What keeps the API server from one pod may keep it from all; each try may take a whole time-out.
                    why = str(reason)
                    break
        pairs = range(len(self.pairs))
        for _ in range(4 * len(self.crew.ready) * len(self.pairs)):
            missing = [self.answered.get(pod["metadata"]["uid"], set()) for pod in self._uncovered()]
            if not missing:
                break
            self._ask_address(base, max(pairs, key=lambda index: sum(index not in done for done in missing)))
        if self._uncovered():
            names = ", ".join(pod["metadata"]["name"] for pod in self._uncovered())
            raise _NotYet(f"these pods have not answered the golden set yet: {names} ({why})")
        if any(pod["metadata"]["uid"] not in self.asked_directly for pod in self.crew.ready):
            self.notes["pods"] = f"Not every pod could be asked directly ({why}), so they were awaited at the address"

    def _confirm_crew(self) -> None:
        """The autoscaler may have added pods meanwhile."""
        self._read_crew()
        late = [pod["metadata"]["name"] for pod in self._uncovered()]
        if late:
            raise _NotYet(f"these pods have become ready meanwhile: {', '.join(late)}")
        self._passed(f"{_count(len(self.crew.ready), 'ready pod')} answered the golden set")
        if self.crew.waiting:
            self.notes["waiting"] = f"Not every pod is ready: {self._waiting()}"

    def _uncovered(self) -> list[gate.Object]:
        every = set(range(len(self.pairs)))
        return [
            pod
            for pod in self.crew.ready
            if pod["metadata"]["uid"] not in self.asked_directly and self.answered.get(pod["metadata"]["uid"]) != every
        ]

    def _ready_pod(self, name: str) -> gate.Object | None:
        return next((pod for pod in self.crew.ready if pod["metadata"]["name"] == name), None)

    def _check_autoscaler(self) -> None:
        self._begin("autoscaler")
        mode, deployment = self.spec["autoscaler"], self.spec["deployment"]
        self.checks["autoscaler"]["required"] = mode == "require"
        if mode == "skip":
            self.autoscaler["message"] = "skipped"
            return self._passed("skipped")
        path = f"/apis/autoscaling/v2/namespaces/{self.namespace}/horizontalpodautoscalers"
        try:
            found = self.autoscaler = gate.autoscaler(self._list(path), deployment)
        except (_Failed, _NotYet) as error:
            if mode == "require":
                raise
            return self._warn_autoscaler(f"it cannot be read: {error}")
        if found["ok"]:
            shown = ", ".join(
                f"{metric['name']} {metric['current']} of {metric['target']}" for metric in found["metrics"]
            )
            return self._passed(f"{found['name']} scales on {shown}")
        if found["name"] is None:
            if mode == "require":
                raise _Failed(f"no HorizontalPodAutoscaler targets Deployment {deployment}", found["remedy"])
            return self._passed("none targets the Deployment")
        said = f"{found['name']} does not scale: {found['reason']}: {_line(found['message'])}. {found['remedy']}"
        if mode == "require":
            raise _NotYet(said)
        return self._warn_autoscaler(said)

    def _warn_autoscaler(self, said: str) -> None:
        self.checks["autoscaler"]["detail"] = said
        self.notes["autoscaler"] = f"Autoscaler: {said}"

    def _measure(self, base: str) -> None:
        """Times right answers in a row at the clients' address; a slow first round may be a cold start."""
        self._begin("latency")
        limit = self.spec["max_p95_ms"]
        self.checks["latency"]["required"] = limit is not None
        if not self.rounds or (limit is not None and (gate.percentile(self.samples, 95) or 0) > limit):
            samples = []
            for turn in range(LATENCY_REQUESTS):
                self._ask_address(base, turn % len(self.pairs))
                samples.append(self.took * 1000)
            self.samples = samples
            self.rounds += 1
        p95 = gate.percentile(self.samples, 95) or 0.0
        if limit is not None and p95 > limit:
            slow = f"p95 over {len(self.samples)} requests is {p95:.1f} ms, max_p95_ms is {limit:g} ms"
            if self.rounds < LATENCY_ROUNDS:
                raise _NotYet(slow)
            raise _Failed(f"{slow}, in each of {LATENCY_ROUNDS} rounds", _HINTS["latency"])
        self._passed(f"p95 over {len(self.samples)} requests is {p95:.1f} ms")

    # The ledger.

    def _timeout(self) -> float:
        """Seconds for the next request; also tells whoever holds a lock that the gate is alive."""
        elapsed = self.clock() - self.started
        if self.on_progress:
            self.on_progress({"attempts": self.attempts, "elapsed": elapsed, "last_error": self.last_error})
        left = self.deadline - self.clock()
        if left <= 0:
            before = f" (before that: {self.last_error})" if self.last_error else ""
            raise _NotYet(f"the deadline passed during the check {self.phase}{before}")
        return float(min(self.spec["request_timeout"], left))

    def _forget_checks(self) -> None:
        self.checks: dict[str, dict[str, Any]] = {
            name: {"ok": False, "required": True, "detail": _NOT_REACHED} for name in _HINTS
        }
        self.notes: dict[str, str] = {}

    def _begin(self, phase: str) -> None:
        self.phase = phase

    def _passed(self, detail: str) -> None:
        self.checks[self.phase] |= {"ok": True, "detail": detail}

    def _result(self, msg: str, *, ok: bool = False, checked: bool = True, error: str = "") -> dict[str, Any]:
        self.last_error = error or self.last_error
        if error:
            self.checks[self.phase] |= {"ok": False, "detail": error}
        return {
            "ok": ok,
            "checked": checked,
            "address": self.address,
            "attempts": self.attempts,
            "elapsed": round(self.clock() - self.started, 3),
            "checks": [{"name": name, **check} for name, check in self.checks.items()],
            "latencies": {
                "p50": _rounded(gate.percentile(self.samples, 50)),
                "p95": _rounded(gate.percentile(self.samples, 95)),
                "count": len(self.samples),
            },
            "pods": [self._pod_result(pod) for pod in self.crew.ready],
            "autoscaler": self.autoscaler,
            "model_sha256": self.model,
            "notes": list(self.notes.values()),
            "last_error": self.last_error,
            "msg": msg,
        }

    def _pod_result(self, pod: gate.Object) -> dict[str, Any]:
        name, direct = pod["metadata"]["name"], pod["metadata"]["uid"] in self.asked_directly
        covered = pod not in self._uncovered()
        via = "pod" if direct else "address" if covered else None
        return {"name": name, "ok": covered, "model_sha256": self.models.get(name), "via": via}


def _or_fail(rule: Callable[..., _T], *args: Any) -> _T:
    try:
        return rule(*args)
    except InferenceError as error:
        raise _Failed(error.what, error.hint) from error


def _is_passing_trouble(answer: Answer) -> bool:
    return answer.status >= 500 or answer.status in (408, 429)


def _told(answer: Answer) -> str:
    text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    return f"{answer.status}: {_line(text)}" if text else str(answer.status)


def _line(text: Any) -> str:
    words = " ".join(str(text).split())
    return words if len(words) <= 300 else words[:300] + "…"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
