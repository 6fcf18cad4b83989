# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Watching a Deployment's rollout until its verdict: the rim of C(verdict)."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import Any

from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import ApiError, Cluster, Unreachable
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.observation import RESOURCES, Observation
from ansible_collections.deepmlhub.inference.plugins.module_utils.verdict import judge

# Seconds after which a watch is asked for anew, so that one that the network has silently cut is noticed.
WATCH_SECONDS = 10.0
LOG_LINES = 20
# A word after "token: " may be prose ("failed to fetch oauth token: unexpected status"), one with a digit is not.
_SECRET = re.compile(
    r"""((?:passw(?:or)?d|secret|api[_-]?key)\w*["']?\s*[=:]\s*["']?"""
    r"""|(?:token|credential|authorization)\w*["']?\s*(?:=\s*["']?|:\s*(?:["']|bearer\s+|basic\s+|(?=[^\s"',;&]*\d))))"""
    r"""[^\s"',;&]+""",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(://[^\s/:@]*:)[^\s/@]+@")


def look(
    cluster: Cluster,
    namespace: str,
    name: str,
    *,
    unschedulable_timeout: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """The verdict of this moment, with the keys of C(wait). Raises InferenceError when the API does not tell."""
    started = clock()
    seen = Observation(name)
    notes: list[str] = []
    for resource in RESOURCES:
        try:
            answer = cluster.request("GET", _path(namespace, resource), query=_query(resource, name))
        except ApiError as error:
            notes.append(_unseen(resource, error))
            continue
        _take_list(seen, clock(), resource, answer.headers, answer.body)
    verdict = judge(seen, clock(), unschedulable_timeout=unschedulable_timeout)
    return _result(cluster, namespace, name, verdict, clock() - started, notes)


def wait(
    cluster: Cluster,
    namespace: str,
    name: str,
    *,
    wait_timeout: float,
    wait_sleep: float,
    request_timeout: float,
    unschedulable_timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    on_progress: Callable[[str], None] = lambda _text: None,
    generation: int = 0,
    since: str | None = None,
) -> dict[str, Any]:
    """Watches until the rollout is done or has failed, for at most C(wait_timeout) seconds.

    While the API is away nothing is judged. Away at the deadline it raises Unreachable: that is no failed rollout.

    :param wait_sleep: seconds between two looks at the clock while nothing changes, and between attempts to connect.
    :param generation: the least C(metadata.generation) of the Deployment that counts, from the answer to its change.
    :param since: RFC 3339, the server's time of the change; facts from before it do not count.
    :returns: what C(judge) returns, where C(cause) may also be C(Timeout); C(name), C(namespace), C(elapsed) (seconds)
        and C(notes). The evidence of a failed container also has C(log) and C(previous_log), lists of lines.
    """
    started = clock()
    seen = Observation(name, generation=generation, since=since)
    feed = _Feed(
        cluster, namespace, name, wait_sleep=wait_sleep, request_timeout=request_timeout, clock=clock, sleep=sleep
    )
    told = ""
    try:
        while True:
            left = started + wait_timeout - clock()
            feed.take(seen, min(wait_sleep, max(0.0, left)))
            if feed.trouble is None:
                verdict = judge(seen, clock(), unschedulable_timeout=unschedulable_timeout)
                progress = verdict["progress"]
                if verdict["verdict"] != "progressing":
                    break
            else:
                progress = "waiting for the API server to answer"
            if progress != told and not feed.starting:
                on_progress(progress)
                told = progress
            if clock() >= started + wait_timeout:
                if feed.trouble is not None:
                    raise feed.trouble
                verdict = _timeout(verdict, wait_timeout)
                break
    finally:
        feed.stop()
    return _result(cluster, namespace, name, verdict, clock() - started, feed.notes)


class _Feed:
    """Lists and watches every resource in a thread of its own, and hands on what they tell in one queue."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        *,
        wait_sleep: float,
        request_timeout: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.notes: list[str] = []
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._pause = wait_sleep
        self._request_timeout = request_timeout
        self._clock = clock
        self._sleep = sleep
        self._over = threading.Event()
        self._lines: SimpleQueue[tuple[float, str, str, Any]] = SimpleQueue()
        self._unheard = Unreachable(f"The API server has not listed the Deployment {namespace}/{name} in time")
        self._unlisted = set(RESOURCES)
        self._trouble: dict[str, InferenceError] = {}
        for resource in RESOURCES:
            threading.Thread(target=self._follow, args=(resource,), name=f"watch-{resource}", daemon=True).start()

    @property
    def trouble(self) -> InferenceError | None:
        """Why what has been seen may be out of date, if so."""
        return next(iter(self._trouble.values()), self._unheard if self._unlisted else None)

    @property
    def starting(self) -> bool:
        """Whether a first answer is still awaited, and nothing is amiss."""
        return bool(self._unlisted and not self._trouble)

    def stop(self) -> None:
        """Lets the threads end with what they are reading, which takes them WATCH_SECONDS at most."""
        self._over.set()

    def take(self, seen: Observation, seconds: float) -> None:
        """Feeds what has come into the observation; waits up to C(seconds) for the first of it."""
        try:
            line = self._lines.get(timeout=seconds)
            while True:
                self._take_one(seen, *line)
                line = self._lines.get_nowait()
        except Empty:
            return

    def _take_one(self, seen: Observation, t: float, resource: str, change: str, what: Any) -> None:
        if change in ("LIST", "FORBIDDEN"):
            self._unlisted.discard(resource)
            self._trouble.pop(resource, None)
        if change == "LIST":
            _take_list(seen, t, resource, *what)
        elif change == "TROUBLE":
            self._trouble[resource] = what
        elif change == "FORBIDDEN":
            self.notes.append(_unseen(resource, what))
        elif change == "END":
            raise what
        else:
            seen.observe(t, resource, change, what)

    def _put(self, resource: str, change: str, what: Any) -> None:
        self._lines.put((self._clock(), resource, change, what))

    def _follow(self, resource: str) -> None:
        """Lists, then watches from there; begins anew whenever the stream breaks or has expired."""
        while not self._over.is_set():
            try:
                self._list_and_watch(resource)
            except ApiError as error:
                if error.status == 410:
                    continue
                if error.status < 500 and error.status != 429:
                    forbidden = error.status == 403 and resource != "deployments"
                    self._put(resource, "FORBIDDEN" if forbidden else "END", error)
                    return
                self._put(resource, "TROUBLE", error)
                self._sleep(_retry_after(error.headers, self._pause))
            except Unreachable as error:
                self._put(resource, "TROUBLE", error)
                self._sleep(self._pause)
            except Exception as error:
                # A thread that died unheard would leave a picture that never changes, which looks like a failure.
                self._put(resource, "END", error)
                return

    def _list_and_watch(self, resource: str) -> None:
        path, query = _path(self._namespace, resource), _query(resource, self._name)
        answer = self._cluster.request("GET", path, query=query, timeout=self._request_timeout, patience=0.0)
        self._put(resource, "LIST", (answer.headers, answer.body))
        version = answer.body["metadata"]["resourceVersion"]
        while not self._over.is_set():
            opened = self._clock()
            following = {**query, "resourceVersion": version, "allowWatchBookmarks": "true"}
            for event in self._cluster.watch(path, query=following, timeout=WATCH_SECONDS):
                if self._over.is_set():
                    return
                if event["type"] == "ERROR":
                    status = event["object"].get("code", 500)
                    raise ApiError(status, event["object"], method="WATCH", path=path)
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._put(resource, event["type"], event["object"])
            if self._clock() - opened < self._pause:
                self._sleep(self._pause)


def _take_list(seen: Observation, t: float, resource: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> None:
    with contextlib.suppress(ValueError):  # without a Date the youngest object tells how late it is
        seen.server_time(t, parsedate_to_datetime(headers.get("Date", "")).timestamp())
    seen.replace(t, resource, body.get("items") or [])


def _path(namespace: str, resource: str) -> str:
    group = "/api/v1" if resource in ("pods", "events") else "/apis/apps/v1"
    return f"{group}/namespaces/{namespace}/{resource}"


def _query(resource: str, name: str) -> dict[str, str]:
    return {"fieldSelector": f"metadata.name={name}"} if resource == "deployments" else {}


def _unseen(resource: str, error: ApiError) -> str:
    """What a run without a permission must do without; the Deployment itself must be seen."""
    if error.status != 403 or resource == "deployments":
        raise error
    return f"Without permission to list {resource} a failure may be named late, or only as a time-out: {error.message}"


def _retry_after(headers: Mapping[str, str], otherwise: float) -> float:
    try:
        return float(headers.get("Retry-After", otherwise))
    except ValueError:
        return otherwise


def _timeout(verdict: dict[str, Any], wait_timeout: float) -> dict[str, Any]:
    return {
        **verdict,
        "verdict": "failed",
        "cause": "Timeout",
        "summary": f"not done within {wait_timeout:g} s (wait_timeout), and nothing is proven to be wrong",
        "hint": "See the pod's log and events; raise wait_timeout if it only needs longer to become ready",
    }


def _result(
    cluster: Cluster, namespace: str, name: str, verdict: dict[str, Any], elapsed: float, notes: list[str]
) -> dict[str, Any]:
    evidence = verdict["evidence"]
    if verdict["verdict"] == "failed" and evidence.get("pod") and evidence.get("container"):
        pod, container = evidence["pod"], evidence["container"]
        evidence["log"] = _log(cluster, namespace, pod, container)
        evidence["previous_log"] = (
            _log(cluster, namespace, pod, container, previous="true") if evidence["restarts"] else []
        )
    return {
        **verdict,
        "name": name,
        "namespace": namespace,
        "elapsed": round(elapsed, 3),
        "notes": notes,
    }


def _log(cluster: Cluster, namespace: str, pod: str, container: str, **more: str) -> list[str]:
    """The last lines of a log; none where the container never ran, or the log may not be read."""
    query = {"container": container, "tailLines": str(LOG_LINES), **more}
    try:
        body = cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query=query, patience=0.0).body
    except InferenceError:
        return []
    text = body if isinstance(body, str) else json.dumps(body)  # one line of JSON comes decoded
    return [_mask(line)[:500] for line in text.splitlines()[-LOG_LINES:]]


def _mask(text: str) -> str:
    """Text without what looks like a password or a token: logs are quoted where Secrets must not be."""
    return _USERINFO.sub(r"\1***@", _SECRET.sub(r"\1***", text))


def no_verdict(namespace: str, name: str, error: InferenceError) -> dict[str, Any]:
    """What C(wait) would return, where the API gave no verdict."""
    words = {"summary": error.what, "hint": error.hint, "progress": ""}
    where = {"name": name, "namespace": namespace}
    return {"verdict": None, "cause": None, **words, "evidence": {}, **where, "elapsed": None, "notes": []}


def report(result: Mapping[str, Any]) -> list[str]:
    """At most 15 lines for a person: what failed, where, why, what the log and the events say, what to do next."""
    where = f"Deployment {result['namespace']}/{result['name']}"
    if result["verdict"] != "failed":
        return [f"{where}: {result['verdict']}, {result['progress']}"]
    evidence = result["evidence"]
    lines = [f"{where} failed: {result['cause']}: {result['summary']}"]
    if evidence.get("pod"):
        parts = [f"pod {evidence['pod']}"]
        parts += [f"container {evidence['container']}"] if evidence["container"] else []
        parts += [f"node {evidence['node']}"] if evidence["node"] else []
        parts += [f"{evidence['restarts']} restarts"] if evidence["restarts"] else []
        lines.append("  where: " + ", ".join(parts))
    if evidence:
        code = "" if evidence["exit_code"] is None else f" (exit code {evidence['exit_code']})"
        lines.append(f"  reason: {evidence['reason']}{code}{': ' if evidence['message'] else ''}{evidence['message']}")
    log = evidence.get("log") or evidence.get("previous_log") or []
    lines += [f"  {'log: ' if not place else '     '}{line}" for place, line in enumerate(log[-5:])]
    events = [one for one in evidence.get("events", []) if not one["message"].endswith(evidence["message"] or "\0")]
    for place, one in enumerate(events[-3:]):
        times = f" ({one['count']} times)" if one["count"] > 1 else ""
        lines.append(f"  {'events: ' if not place else '        '}{one['reason']}{times}: {one['message']}")
    lines.append(f"  state: {result['progress']}, after {result['elapsed']:.0f} s")
    lines += [f"  note: {note}" for note in result["notes"][:1]]
    lines.append(f"  next: {result['hint']}")
    return [_mask(line)[:400] for line in lines]
