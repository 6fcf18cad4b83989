# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One release as one transaction: dry run, lock, apply, watch, gate, prune, record; or the way back."""

from __future__ import annotations

import getpass
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ansible_collections.deepmlhub.inference.plugins.module_utils import history, plan
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import ApiError, Cluster
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.lock import Lock, peek
from ansible_collections.deepmlhub.inference.plugins.module_utils.objects import (
    ANNOTATION_PREFIX,
    KINDS,
    Object,
    bare,
    collection_path,
    in_namespace,
    key,
    path,
    stages,
    title,
)
from ansible_collections.deepmlhub.inference.plugins.module_utils.probe import run_gate
from ansible_collections.deepmlhub.inference.plugins.module_utils.rollout import report, wait
from ansible_collections.deepmlhub.inference.plugins.module_utils.survey import (
    AT_ONCE,
    Seen,
    Survey,
    Wish,
    apply,
    lease_path,
    live_of,
    must_hand_over,
    records_of,
    scaler_of,
    survey,
)

ATTEMPTS = 8
CONFIG_HASH = f"{ANNOTATION_PREFIX}config-sha256"


class _Failed(Exception):
    """The rollout or the gate has said no; C(lines) is what a person reads, C(fields) what the module returns."""

    def __init__(self, cause: str, lines: list[str], fields: dict[str, Any]) -> None:
        self.cause = cause
        self.lines = lines
        self.fields = fields
        super().__init__(cause)


class Transaction:
    """The steps of one run against one cluster; what is decided stands in C(plan), what is read in C(survey)."""

    def __init__(
        self,
        cluster: Cluster,
        wish: Wish,
        *,
        check_mode: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        on_progress: Callable[[str], None] = lambda _text: None,
    ) -> None:
        wish.manifests = [in_namespace(obj, wish.namespace) for obj in wish.manifests]
        self._cluster = cluster
        self._wish = wish
        self._check_mode = check_mode
        self._clock = clock
        self._sleep = sleep
        self._on_progress = on_progress
        self._started = clock()
        # Kind/name to the server's time before we changed it, and to its generation since: older facts prove nothing.
        self._changed: dict[str, tuple[str | None, int]] = {}
        self.result: dict[str, Any] = {
            "changed": False,
            "revision": None,
            "diff": [],
            "conflicts": [],
            "verdict": None,
            "cause": None,
            "evidence": {},
            "gate": None,
            "removed": [],
            "rolled_back_to": None,
            "notes": [],
            "elapsed": 0.0,
        }

    def present(self) -> dict[str, Any]:
        """Brings the manifests to the cluster and through the gate. Raises InferenceError with what was restored."""
        found = self._survey()
        if not found.unfinished(self._wish):
            return self._end(revision=found.records[-1]["revision"], verdict="done")
        self._announce(found)
        if self._check_mode:
            return self._end(changed=True)
        with self._locked() as lock:
            found = self._survey()
            if not found._replace(lease=None).unfinished(self._wish):
                # Another run brought the same release while we waited for its lock.
                return self._end(revision=found.records[-1]["revision"], verdict="done", diff=[])
            self._deliver(lock, found)
        return self._end(changed=True)

    def rolled_back(self) -> dict[str, Any]:
        """Brings a recorded revision back, exactly, and through the gate that it once passed."""
        records = records_of(self._cluster, self._wish)
        target = history.to_restore(records, self._wish.revision)
        self.result["rolled_back_to"] = target["revision"]
        self.result["diff"] = self._restore_diff(records, target)
        newest = records[-1]
        if not self.result["diff"] and newest["status"] == "deployed":
            return self._end(revision=newest["revision"], verdict="done")
        if self._check_mode:
            return self._end(changed=True)
        with self._locked() as lock:
            records = records_of(self._cluster, self._wish)
            try:
                revision = self._restore(lock, records, target)
            except _Failed as failed:
                self.result.update(failed.fields, changed=True)
                lines = [*failed.lines, f"Revision {target['revision']} was applied but did not become healthy"]
                raise self._failure(lines) from failed
        return self._end(changed=True, revision=revision, verdict="done")

    def absent(self) -> dict[str, Any]:
        """Removes what the records list, then the records; never a PersistentVolumeClaim nor what others made."""
        records = records_of(self._cluster, self._wish)
        known = _known(records)
        live = live_of(self._cluster, known)
        doomed = [obj for obj in plan.prunable(known, []) if live[key(obj)]]
        self.result["diff"] = [plan.difference(live[key(obj)], {}) for obj in doomed]
        self.result["removed"] = [title(obj) for obj in doomed]
        kept = [title(obj) for obj in known if obj["kind"] in plan.NEVER_PRUNED and live[key(obj)]]
        if kept:
            self.result["notes"].append(f"kept, because it may hold data: {', '.join(kept)}")
        if not records and not peek(self._cluster, lease_path(self._wish)):
            return self._end()
        if self._check_mode:
            return self._end(changed=True)
        with self._locked() as lock:
            lock.check()
            self._remove(doomed)
            self._forget(records)
        return self._end(changed=True)

    # What the run says.

    def _end(self, **values: Any) -> dict[str, Any]:
        self.result.update(values)
        self.result["elapsed"] = round(self._clock() - self._started, 3)
        return self.result

    def _failure(self, lines: list[str]) -> InferenceError:
        return InferenceError("\n".join(lines), **self._end())

    def _survey(self) -> Survey:
        found = survey(self._cluster, self._wish, check_mode=self._check_mode)
        self.result["notes"] = found.notes
        return found

    def _announce(self, found: Survey) -> None:
        for item in found.seen:
            if item.changes:
                taken = ", ".join(f"{entry['field']} taken over from {entry['manager']}" for entry in item.conflicts)
                self.result["diff"].append(plan.difference(item.live, item.predicted, taken))
        gone = self._prunable(found.records)
        live = live_of(self._cluster, gone)
        self.result["diff"] += [plan.difference(live[key(obj)], {}) for obj in gone if live[key(obj)]]
        self.result["conflicts"] = [{"object": title(i.manifest), **entry} for i in found.seen for entry in i.conflicts]

    def _restore_diff(self, records: list[history.Record], target: history.Record) -> list[dict[str, str]]:
        live = live_of(self._cluster, _known(records))
        found = []
        for obj in target["objects"]:
            now = live[key(obj)]
            then = plan.restored(obj, now, keep_replicas=_scaled(target, obj))
            if plan.differs(now, then):
                found.append(plan.difference(now, then))
        gone = plan.prunable(_known(records), target["objects"])
        return found + [plan.difference(live[key(obj)], {}) for obj in gone if live[key(obj)]]

    # What the run does.

    @contextmanager
    def _locked(self) -> Iterator[Lock]:
        holder = f"{_who()} (process {os.getpid()}, {uuid.uuid4().hex[:8]})"
        wish = self._wish
        lock = Lock(
            self._cluster,
            wish.namespace,
            wish.name,
            holder=holder,
            ttl=wish.lock_ttl,
            clock=self._clock,
            sleep=self._sleep,
        )
        lock.acquire(wish.lock_timeout, self._on_progress)
        try:
            yield lock
        finally:
            lock.release()

    def _deliver(self, lock: Lock, found: Survey) -> None:
        records = found.records
        existed = [bare(item.live) for item in found.seen if item.live is not None]
        if not records and existed:
            # What the old runbook left is a release, too: one that can be gone back to.
            records = [self._record(1, "found", objects=existed, manifests=[], gate=None)]
        revision = (records[-1]["revision"] if records else 0) + 1
        self.result["revision"] = revision
        try:
            for stage in stages(item.manifest for item in found.seen):
                lock.check()
                turn = [item for item in found.seen if item.manifest in stage]
                with ThreadPoolExecutor(AT_ONCE) as pool:
                    list(pool.map(self._write, turn))
            self._prove(self._wish.manifests, self._wish.gate)
        except _Failed as failed:
            self._go_back(lock, records, revision, found.seen, failed)
        lock.check()
        doomed = self._prunable(records)
        self._remove(doomed)
        self.result["removed"] = [title(obj) for obj in doomed]
        for item in found.seen:
            self._settle(item.manifest)
        objects = [bare(obj) for obj in live_of(self._cluster, self._wish.manifests).values() if obj]
        record = self._record(
            revision, "deployed", objects=objects, manifests=self._wish.manifests, gate=self._wish.gate
        )
        self._forget(history.to_forget([*records, record], self._wish.history_limit))

    def _write(self, item: Seen) -> None:
        """Brings one object to its manifest, and its ownership to us."""
        manifest, live = item.manifest, item.live
        since = self._cluster.server_time
        handover = must_hand_over(self._wish, item)
        if not (item.changes or plan.to_migrate(live) or handover):
            return
        scaler = scaler_of(self._wish, manifest)
        if scaler is not None:
            if live is None:
                live = apply(self._cluster, plan.with_replicas(manifest, plan.first_replicas(manifest, scaler)))
                handover = True
            if handover:
                # Left out by its only owner, replicas would fall back to 1; so somebody else owns the count first.
                live = apply(self._cluster, plan.replicas_only(live), manager=plan.REPLICAS_MANAGER)
            manifest = plan.without_replicas(manifest)
        elif manifest["kind"] == "Deployment" and plan.owns_replicas(live, {plan.REPLICAS_MANAGER}) and live:
            # The autoscaler goes with this release: until the new pods are proven, no pod fewer than it wanted.
            wanted = max(int(manifest["spec"].get("replicas", 1)), int(live["spec"].get("replicas", 1)))
            manifest = plan.with_replicas(manifest, wanted)
        self._migrate(live)
        written = apply(self._cluster, manifest)
        if item.changes:
            self._note_change(written, since)

    def _note_change(self, written: Object, since: str | None) -> None:
        self._changed[key(written)] = (since, int(written["metadata"].get("generation", 0)))

    def _migrate(self, live: Object | None) -> None:
        """Makes client-side fields ours; whoever writes in between, as a controller does, makes us look again."""
        for _attempt in range(ATTEMPTS):
            patch = plan.migration(live) if live else None
            if not live or not patch:
                return
            try:
                self._cluster.request("PATCH", path(live), body=patch, content_type="application/json-patch+json")
                return
            except ApiError as error:
                if error.status != 409:
                    raise
            live = live_of(self._cluster, [live])[key(live)]
        raise _restless(live)

    def _settle(self, manifest: Object) -> None:
        """Once its autoscaler is gone and the new pods are proven, a Deployment takes the count of its manifest."""
        if manifest["kind"] != "Deployment" or scaler_of(self._wish, manifest):
            return
        live = live_of(self._cluster, [manifest])[key(manifest)]
        if live and plan.owns_replicas(live, {plan.REPLICAS_MANAGER}):
            nothing = {name: manifest[name] for name in ("apiVersion", "kind")}
            named = {name: manifest["metadata"][name] for name in ("name", "namespace")}
            apply(self._cluster, {**nothing, "metadata": named}, manager=plan.REPLICAS_MANAGER)
            apply(self._cluster, manifest)

    def _prove(self, objects: list[Object], gate: dict[str, Any] | None) -> None:
        """Waits until every Deployment is done and the gate has passed, by one deadline; raises _Failed otherwise."""
        wish = self._wish
        deadline = self._clock() + wish.wait_timeout
        for obj in objects:
            if obj["kind"] != "Deployment":
                continue
            since, generation = self._changed.get(key(obj), (None, 0))
            watched = wait(
                self._cluster,
                wish.namespace,
                obj["metadata"]["name"],
                wait_timeout=max(1.0, deadline - self._clock()),
                wait_sleep=wish.wait_sleep,
                request_timeout=wish.request_timeout,
                unschedulable_timeout=wish.unschedulable_timeout,
                clock=self._clock,
                sleep=self._sleep,
                on_progress=self._on_progress,
                since=since,
                generation=generation,
            )
            said = {name: watched.get(name) for name in ("verdict", "cause", "evidence")}
            if watched["verdict"] != "done":
                raise _Failed(str(watched.get("cause") or "Timeout"), report(watched), said)
            self.result.update(said)
        if gate:
            left = max(1.0, deadline - self._clock())
            waits = {"wait_timeout": left, "wait_sleep": wish.wait_sleep, "request_timeout": wish.request_timeout}
            spec = {**gate, **waits, "namespace": wish.namespace}
            answered = run_gate(self._cluster, spec, clock=self._clock, sleep=self._sleep)
            self.result["gate"] = answered
            self.result["notes"] = [*self.result["notes"], *answered["notes"]]
            if not answered["ok"]:
                said = {"verdict": "failed", "cause": "GateFailed", "evidence": {}, "gate": answered}
                raise _Failed("GateFailed", [f"The release is healthy, but its gate failed: {answered['msg']}"], said)

    def _go_back(
        self, lock: Lock, records: list[history.Record], revision: int, seen: list[Seen], failed: _Failed
    ) -> None:
        """Records the failure, brings back what was there, and raises what a person reads."""
        self.result.update(failed.fields, changed=True)
        lock.check()
        objects = [bare(obj) for obj in live_of(self._cluster, self._wish.manifests).values() if obj]
        records = [
            *records,
            self._record(revision, "failed", objects=objects, manifests=self._wish.manifests, gate=self._wish.gate),
        ]
        lines = list(failed.lines)
        earlier = history.newest(records, "deployed", "found")
        if not self._wish.rollback_on_failure:
            lines.append("Nothing was restored (rollback_on_failure is false): the failed release is still there")
        elif earlier:
            lines.append(self._restored_line(lock, records, earlier))
        elif self._wish.keep_first_failure:
            lines.append("This was the first release: it was left in place for inspection")
        else:
            made = [item.manifest for item in seen if item.live is None]
            self._remove(plan.prunable(made, []))
            lines.append("This was the first release: what it had created was removed again")
        raise self._failure(lines)

    def _restored_line(self, lock: Lock, records: list[history.Record], earlier: history.Record) -> str:
        blamed = {name: self.result[name] for name in ("verdict", "cause", "evidence", "gate")}
        try:
            self._restore(lock, records, earlier)
        except _Failed as again:
            said = f"Revision {earlier['revision']} was put back but is not healthy either: {again.lines[0]}"
        except InferenceError as error:
            said = f"Revision {earlier['revision']} could not be put back: {error}"
        else:
            self.result["rolled_back_to"] = earlier["revision"]
            proven = " and passed its gate" if earlier["gate"] else ""
            said = f"Revision {earlier['revision']} was restored, is healthy{proven}"
        self.result.update(blamed)
        return said

    def _restore(self, lock: Lock, records: list[history.Record], target: history.Record) -> int:
        """Puts every object of a record back as it was, removes what came later, proves it, records it."""
        for stage in stages(target["objects"]):
            lock.check()
            for obj in stage:
                self._put_back(obj, keep_replicas=_scaled(target, obj))
        self._remove(plan.prunable(_known(records), target["objects"]))
        self._prove(target["objects"], target["gate"])
        revision = int(records[-1]["revision"]) + 1
        self._record(
            revision,
            "deployed",
            objects=target["objects"],
            manifests=target["manifests"],
            gate=target["gate"],
            restored_from=target["revision"],
        )
        return revision

    def _put_back(self, obj: Object, *, keep_replicas: bool) -> None:
        query = {"fieldManager": plan.MANAGER}
        for _attempt in range(ATTEMPTS):
            live = live_of(self._cluster, [obj])[key(obj)]
            body = plan.restored(obj, live, keep_replicas=keep_replicas)
            if live is not None and not plan.differs(live, body):
                return
            since = self._cluster.server_time
            try:
                if live is None:
                    where = collection_path(KINDS[obj["kind"]], self._wish.namespace)
                    written = self._cluster.request("POST", where, query=query, body=body).body
                else:
                    written = self._cluster.request("PUT", path(obj), query=query, body=body).body
            except ApiError as error:
                if error.status == 409:
                    continue  # somebody wrote in between; look again
                raise
            self._note_change(written, since)
            self._migrate(written)
            return
        raise _restless(obj)

    def _prunable(self, records: list[history.Record]) -> list[Object]:
        """What earlier releases of this name recorded, this one does not hold, and is still there."""
        return plan.prunable(_known([r for r in records if r["status"] != "found"]), self._wish.manifests)

    def _remove(self, objects: list[Object]) -> None:
        """Deletes in the given order and waits until the objects, and the pods behind them, are gone."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        for obj in objects:
            try:
                self._cluster.request("DELETE", path(obj), body=body)
            except ApiError as error:
                if error.status != 404:
                    raise
        deadline = self._clock() + self._wish.wait_timeout
        while left := [title(obj) for obj in live_of(self._cluster, objects).values() if obj]:
            if self._clock() >= deadline:
                raise InferenceError(
                    f"Still there {self._wish.wait_timeout:.0f} s after their deletion: {', '.join(left)}",
                    hint="Look at metadata.finalizers: what they name must remove them",
                )
            self._on_progress(f"waiting for {', '.join(left)} to go")
            self._sleep(self._wish.wait_sleep)

    def _record(
        self,
        revision: int,
        status: str,
        *,
        objects: list[Object],
        manifests: list[Object],
        gate: dict[str, Any] | None,
        restored_from: int | None = None,
    ) -> history.Record:
        deployment = next((obj for obj in objects if obj["kind"] == "Deployment"), None)
        template = ((deployment or {}).get("spec") or {}).get("template") or {}
        containers = (template.get("spec") or {}).get("containers") or [{}]
        answered = self.result["gate"] or {}
        record = {
            "name": self._wish.name,
            "revision": revision,
            "status": status,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "who": _who(),
            "verdict": self.result["verdict"] if status != "found" else None,
            "cause": self.result["cause"] if status != "found" else None,
            "image": containers[0].get("image"),
            "image_digest": str(containers[0].get("image", "")).partition("@")[2] or None,
            "model_sha256": next((pod.get("model_sha256") for pod in answered.get("pods") or []), None),
            "config_sha256": ((template.get("metadata") or {}).get("annotations") or {}).get(CONFIG_HASH),
            "restored_from": restored_from,
            "gate": gate,
            "manifests": manifests,
            "objects": objects,
        }
        secret = history.encode(record, self._wish.namespace)
        where = collection_path(KINDS["Secret"], self._wish.namespace)
        self._cluster.request("POST", where, query={"fieldManager": plan.MANAGER}, body=secret)
        return record

    def _forget(self, records: list[history.Record]) -> None:
        for record in records:
            where = collection_path(KINDS["Secret"], self._wish.namespace)
            try:
                self._cluster.request("DELETE", f"{where}/{history.secret_name(record)}")
            except ApiError as error:
                if error.status != 404:
                    raise


def _restless(obj: Object | None) -> InferenceError:
    return InferenceError(
        f"{title(obj) if obj else 'An object'} changes faster than it can be written",
        hint="Find in metadata.managedFields who writes to it all the time, stop it, and run again",
    )


def _known(records: list[history.Record]) -> list[Object]:
    """Every object that any record lists, each once and as last recorded, in the order of an apply."""
    found: dict[str, Object] = {}
    for record in records:
        found.update({key(obj): obj for obj in record["objects"]})
    return [obj for stage in stages(found.values()) for obj in stage]


def _scaled(record: history.Record, obj: Object) -> bool:
    return obj["kind"] == "Deployment" and plan.autoscaled(record["objects"], obj["metadata"]["name"]) is not None


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
