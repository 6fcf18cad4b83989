"""The Deployment controller: revisions, rolling updates, recreation, and the conditions that tell how it goes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable

from sandbox.api.rules import matches
from sandbox.controller import Controller, Key, Obj, condition, controller_ref, key_of, owner_of, seconds, stamp
from sandbox.replicasets import FINISHED, owned_pods

_PREFIX = "deployment.kubernetes.io/"
_REVISION, _HISTORY = f"{_PREFIX}revision", f"{_PREFIX}revision-history"
_DESIRED, _MAX = f"{_PREFIX}desired-replicas", f"{_PREFIX}max-replicas"
_NOT_COPIED = (
    "kubectl.kubernetes.io/last-applied-configuration", _REVISION, _HISTORY, _DESIRED, _MAX,
    "deprecated.deployment.rollback.to",
)  # fmt: skip
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_HASH = "pod-template-hash"


def bounds(deployment: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers of pods: a surge rounds up, the other down; never both zero."""
    rolling = deployment["spec"]["strategy"].get("rollingUpdate")
    if not rolling:
        return 0, 0
    replicas: int = deployment["spec"]["replicas"]

    def count(value: int | str, up: bool) -> int:
        if isinstance(value, int):
            return value
        share = int(value.rstrip("%")) * replicas / 100
        return math.ceil(share) if up else math.floor(share)

    surge, unavailable = count(rolling["maxSurge"], True), count(rolling["maxUnavailable"], False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas) if replicas else unavailable


def template_hash(template: Obj) -> str:
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:10])


def _same_template(left: Obj, right: Obj) -> bool:
    def bare(template: Obj) -> Obj:
        labels = {key: value for key, value in (template["metadata"].get("labels") or {}).items() if key != _HASH}
        meta = {key: value for key, value in template["metadata"].items() if key != "creationTimestamp"}
        return {**template, "metadata": {**meta, "labels": labels}}

    return bare(left) == bare(right)


def _revision(obj: Obj) -> int:
    return int((obj["metadata"].get("annotations") or {}).get(_REVISION, 0))


def _count(sets: Iterable[Obj], key: str = "replicas") -> int:
    return sum(rs.get("status", {}).get(key, 0) for rs in sets)


def _wanted(sets: Iterable[Obj]) -> int:
    return sum(rs["spec"]["replicas"] for rs in sets)


def _created(rs: Obj) -> tuple[str, str]:
    return rs["metadata"]["creationTimestamp"], rs["metadata"]["name"]


class Deployments(Controller):
    kinds = ("Deployment", "ReplicaSet", "Pod")
    component = "deployment-controller"

    def keys(self, kind: str, obj: Obj) -> Iterable[Key]:
        if kind == "Deployment":
            return [key_of(obj)]
        owner = owner_of(obj)
        if owner and kind == "Pod":  # only the end of a pod matters, to a Recreate
            rs = self.api.find("ReplicaSet", owner["name"], obj["metadata"]["namespace"])
            owner = owner_of(rs) if rs and self.api.find("Pod", *reversed(key_of(obj))) is None else None
        return [(obj["metadata"]["namespace"], owner["name"])] if owner and owner["kind"] == "Deployment" else []

    def sync(self, namespace: str, name: str) -> float | None:
        if not self.api.find("Deployment", name, namespace):
            return None
        d = self.api.get("Deployment", name, namespace)
        uid = d["metadata"]["uid"]
        self._take_orphans(d)
        sets = [rs for rs in self.api.list("ReplicaSet", namespace) if (owner_of(rs) or {}).get("uid") == uid]
        sets = [rs for rs in sets if "deletionTimestamp" not in rs["metadata"]]
        if "deletionTimestamp" in d["metadata"]:
            return self._write_status(d, sets, self._newest(d, sets), rollout=False)
        self._tell_pause(d)
        if d["spec"].get("paused"):
            new = self._adopt(d, sets, create=False)
            self._scale(d, new, sets)
            self._clean_up(d, sets, new)
            return self._write_status(d, sets, new, rollout=False)
        desired = (None, str(d["spec"]["replicas"]))
        if any(self._annotation(rs, _DESIRED) not in desired for rs in sets if rs["spec"]["replicas"]):
            new = self._adopt(d, sets, create=False)
            self._scale(d, new, sets)
            return self._write_status(d, sets, new, rollout=False)
        recreate = d["spec"]["strategy"]["type"] == "Recreate"
        return self._recreate(d, sets) if recreate else self._roll(d, sets)

    def _take_orphans(self, d: Obj) -> None:
        """A ReplicaSet that the selector selects and nobody controls becomes this Deployment's."""
        if "deletionTimestamp" in d["metadata"]:
            return
        for rs in self.api.list("ReplicaSet", d["metadata"]["namespace"]):
            meta = rs["metadata"]
            if not owner_of(rs) and matches(d["spec"]["selector"], meta.get("labels")):
                owners = [*(meta.get("ownerReferences") or []), controller_ref(d)]
                patch = {"metadata": {"ownerReferences": owners}}
                self.api.patch("ReplicaSet", meta["name"], meta["namespace"], patch)

    # --- strategies ---------------------------------------------------------------------------------------------------

    def _roll(self, d: Obj, sets: list[Obj]) -> float | None:
        new = self._adopt(d, sets, create=True)
        assert new is not None
        wanted = self._new_size(d, sets, new)
        if wanted == new["spec"]["replicas"]:
            self._shrink_old(d, sets, new)
        else:
            self._resize(d, new, wanted)
        return self._write_status(d, sets, new, rollout=True)

    def _recreate(self, d: Obj, sets: list[Obj]) -> float | None:
        new = self._adopt(d, sets, create=False)
        old = [rs for rs in sets if rs is not new]
        if active := [rs for rs in old if rs["spec"]["replicas"]]:
            for rs in active:
                self._resize(d, rs, 0)
            return self._write_status(d, sets, new, rollout=True)
        if any(pod["status"].get("phase") not in FINISHED for rs in old for pod in owned_pods(self.api, rs)):
            return self._write_status(d, sets, new, rollout=True)
        new = self._adopt(d, sets, create=True)
        assert new is not None
        self._resize(d, new, d["spec"]["replicas"])
        return self._write_status(d, sets, new, rollout=True)

    def _new_size(self, d: Obj, sets: list[Obj], new: Obj) -> int:
        """How large the new ReplicaSet may be now."""
        replicas, have = d["spec"]["replicas"], new["spec"]["replicas"]
        if d["spec"]["strategy"]["type"] == "Recreate" or have >= replicas:
            return int(replicas)
        room = replicas + bounds(d)[0] - _wanted(sets)
        return int(have + max(0, min(room, replicas - have)))

    def _shrink_old(self, d: Obj, sets: list[Obj], new: Obj) -> None:
        """First what is not healthy anyway, then as many as availability allows."""
        old = sorted((rs for rs in sets if rs is not new and rs["spec"]["replicas"]), key=_created)
        if not old:
            return
        least = d["spec"]["replicas"] - bounds(d)[1]
        not_ready_yet = new["spec"]["replicas"] - _count([new], "availableReplicas")
        room = _wanted(sets) - least - not_ready_yet
        if room <= 0:
            return
        for rs in old:
            unhealthy = rs["spec"]["replicas"] - _count([rs], "availableReplicas")
            if room > 0 and unhealthy > 0:
                cut = min(room, unhealthy)
                self._resize(d, rs, rs["spec"]["replicas"] - cut)
                room -= cut
        spare = _count(sets, "availableReplicas") - least
        for rs in old:
            cut = min(spare, rs["spec"]["replicas"])
            if cut > 0:
                self._resize(d, rs, rs["spec"]["replicas"] - cut)
                spare -= cut

    def _scale(self, d: Obj, new: Obj | None, sets: list[Obj]) -> None:
        """Follow a change of `replicas`: the newest alone, or, in mid-rollout, all in proportion."""
        replicas = d["spec"]["replicas"]
        active = [rs for rs in sets if rs["spec"]["replicas"]]
        if len(active) <= 1:
            target = active[0] if active else self._newest(d, sets)
            if target:
                self._resize(d, target, replicas)
            return
        if new and _count([new], "availableReplicas") == replicas == new["spec"]["replicas"]:
            for rs in active:
                if rs is not new:
                    self._resize(d, rs, 0)
            return
        if d["spec"]["strategy"]["type"] != "RollingUpdate":
            return
        allowed = replicas + bounds(d)[0] if replicas else 0
        total = _wanted(active)
        to_add = allowed - total
        # the largest first; of equals the newer when growing, the older when shrinking
        active.sort(key=_created, reverse=to_add > 0)
        active.sort(key=lambda rs: -rs["spec"]["replicas"])
        sizes = {}
        left = to_add
        for rs in active:
            have = rs["spec"]["replicas"]
            before = int(self._annotation(rs, _MAX) or d.get("status", {}).get("replicas") or total)
            share = round(have * allowed / before) - have if before else 0
            share = min(max(share, 0), left) if to_add > 0 else max(min(share, 0), left)
            sizes[rs["metadata"]["name"]] = have + share
            left -= share
        sizes[active[0]["metadata"]["name"]] = max(0, sizes[active[0]["metadata"]["name"]] + left)
        for rs in active:
            self._resize(d, rs, sizes[rs["metadata"]["name"]])

    # --- ReplicaSets --------------------------------------------------------------------------------------------------

    def _annotation(self, rs: Obj, name: str) -> str | None:
        value: str | None = (rs["metadata"].get("annotations") or {}).get(name)
        return value

    def _newest(self, d: Obj, sets: list[Obj]) -> Obj | None:
        """The ReplicaSet of the current template, else the last made."""
        return self._current(d, sets) or max(sets, key=_created, default=None)

    def _current(self, d: Obj, sets: list[Obj]) -> Obj | None:
        template = d["spec"]["template"]
        return next((rs for rs in sorted(sets, key=_created) if _same_template(rs["spec"]["template"], template)), None)

    def _adopt(self, d: Obj, sets: list[Obj], *, create: bool) -> Obj | None:
        """The ReplicaSet of the current template with its annotations set right, made when there is none."""
        new = self._current(d, sets)
        number = max([_revision(rs) for rs in sets if rs is not new], default=0) + 1
        if new is None and not create:
            return None
        annotations = {k: v for k, v in (d["metadata"].get("annotations") or {}).items() if k not in _NOT_COPIED}
        if new is None:
            new = self._make(d, sets, number, annotations)
            return new
        changed = dict(new["metadata"].get("annotations") or {}) | annotations
        was = _revision(new)
        if was < number:
            changed[_REVISION] = str(number)
            if was:
                changed[_HISTORY] = ",".join(filter(None, [changed.get(_HISTORY), str(was)]))
        min_ready = d["spec"].get("minReadySeconds", 0)
        if changed != new["metadata"].get("annotations") or new["spec"].get("minReadySeconds", 0) != min_ready:
            new["metadata"]["annotations"] = changed
            new["spec"]["minReadySeconds"] = min_ready
            self._save(new)
        self._set_revision(d, changed.get(_REVISION, str(number)))
        if "progressDeadlineSeconds" in d["spec"] and not condition(d.get("status", {}), "Progressing"):
            self._tell(d, "FoundNewReplicaSet", f'Found new replica set "{new["metadata"]["name"]}"')
        return new

    def _make(self, d: Obj, sets: list[Obj], number: int, annotations: Obj) -> Obj:
        meta, spec = d["metadata"], d["spec"]
        digest = template_hash(spec["template"])
        labels = {**(spec["template"]["metadata"].get("labels") or {}), _HASH: digest}
        selector = {**spec["selector"], "matchLabels": {**(spec["selector"].get("matchLabels") or {}), _HASH: digest}}
        surge, _ = bounds(d)
        body: Obj = {
            "metadata": {
                "name": f"{meta['name']}-{digest}", "labels": labels, "ownerReferences": [controller_ref(d)],
                "annotations": {**annotations, _REVISION: str(number), _DESIRED: str(spec["replicas"]),
                                _MAX: str(spec["replicas"] + surge)},
            },
            "spec": {"replicas": 0, "selector": selector, "template": {
                **spec["template"], "metadata": {**spec["template"]["metadata"], "labels": labels}}},
        }  # fmt: skip
        if spec.get("minReadySeconds"):
            body["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        body["spec"]["replicas"] = self._new_size(d, [*sets, body], body)
        new = self.api.create("ReplicaSet", body, meta["namespace"])
        sets.append(new)
        if size := new["spec"]["replicas"]:
            self._tell_scaling(d, new, 0, size)
        self._set_revision(d, str(number))
        if "progressDeadlineSeconds" in spec:
            self._tell(d, "NewReplicaSetCreated", f'Created new replica set "{new["metadata"]["name"]}"')
        return new

    def _resize(self, d: Obj, rs: Obj, size: int) -> None:
        have = rs["spec"]["replicas"]
        replicas = d["spec"]["replicas"]
        marks = {_DESIRED: str(replicas), _MAX: str(replicas + bounds(d)[0])}
        annotations = rs["metadata"].get("annotations") or {}
        if have == size and marks.items() <= annotations.items():
            return
        rs["spec"]["replicas"] = size
        rs["metadata"]["annotations"] = annotations | marks
        self._save(rs)
        if have != size:
            self._tell_scaling(d, rs, have, size)

    def _save(self, rs: Obj) -> None:
        saved = self.api.update("ReplicaSet", rs)
        rs["metadata"] = saved["metadata"]

    def _tell_scaling(self, d: Obj, rs: Obj, have: int, size: int) -> None:
        way = "up" if size > have else "down"
        text = f"Scaled {way} replica set {rs['metadata']['name']} from {have} to {size}"
        self.recorder.event(d, "Normal", "ScalingReplicaSet", text)

    def _clean_up(self, d: Obj, sets: list[Obj], new: Obj | None) -> None:
        limit = d["spec"].get("revisionHistoryLimit")
        if limit is None:
            return
        old = [
            rs for rs in sorted(sets, key=_revision)
            if rs is not new and not rs["spec"]["replicas"] and not _count([rs])
            and rs["status"].get("observedGeneration", 0) >= rs["metadata"]["generation"]
        ]  # fmt: skip
        for rs in old[: max(0, len(old) - limit)]:
            self.api.delete("ReplicaSet", rs["metadata"]["name"], rs["metadata"]["namespace"])

    def _set_revision(self, d: Obj, number: str) -> None:
        """Goes to the server with the next status, whose writes may change annotations too."""
        d["metadata"].setdefault("annotations", {})[_REVISION] = number

    # --- status -------------------------------------------------------------------------------------------------------

    def _put(self, d: Obj, type_: str, status: str, reason: str, message: str) -> None:
        """Set a condition of the copy in hand; the time of change moves only with the status."""
        now = stamp(self.api.clock())
        conditions = d.setdefault("status", {}).setdefault("conditions", [])
        old = condition(d["status"], type_)
        if (old.get("status"), old.get("reason")) == (status, reason) and type_ != "Progressing":
            return
        if {"status": status, "reason": reason, "message": message}.items() <= old.items():
            return
        since = old["lastTransitionTime"] if old.get("status") == status else now
        conditions[:] = [c for c in conditions if c["type"] != type_] + [
            {"type": type_, "status": status, "lastUpdateTime": now, "lastTransitionTime": since, "reason": reason,
             "message": message}
        ]  # fmt: skip

    def _tell(self, d: Obj, reason: str, message: str, status: str = "True") -> None:
        """Write a Progressing condition at once."""
        self._put(d, "Progressing", status, reason, message)
        self._store_status(d)

    def _live(self, d: Obj) -> Obj:
        return self.api.find("Deployment", d["metadata"]["name"], d["metadata"]["namespace"]) or d

    def _store_status(self, d: Obj) -> None:
        d["metadata"] = self.api.update("Deployment", d, subresource="status")["metadata"]

    def _tell_pause(self, d: Obj) -> None:
        if "progressDeadlineSeconds" not in d["spec"]:
            return
        reason = condition(d.get("status", {}), "Progressing").get("reason")
        if reason == "ProgressDeadlineExceeded":
            return
        if d["spec"].get("paused") and reason != "DeploymentPaused":
            self._tell(d, "DeploymentPaused", "Deployment is paused", "Unknown")
        elif not d["spec"].get("paused") and reason == "DeploymentPaused":
            self._tell(d, "DeploymentResumed", "Deployment is resumed", "Unknown")

    def _write_status(self, d: Obj, sets: list[Obj], new: Obj | None, *, rollout: bool) -> float | None:
        """Counts and conditions; returns the seconds until the progress deadline where it matters."""
        before = json.loads(json.dumps(d.get("status") or {}))
        replicas, wanted = d["spec"]["replicas"], _wanted(sets)
        available = _count(sets, "availableReplicas")
        counts = {
            "observedGeneration": d["metadata"]["generation"],
            "replicas": _count(sets),
            "updatedReplicas": _count([new]) if new else 0,
            "readyReplicas": _count(sets, "readyReplicas"),
            "availableReplicas": available,
            "unavailableReplicas": max(0, wanted - available),
        }
        status = {key: value for key, value in counts.items() if value}
        status["terminatingReplicas"] = _count(sets, "terminatingReplicas")
        status["conditions"] = (d.get("status") or {}).get("conditions") or []
        d["status"] = status
        if available >= replicas - bounds(d)[1]:
            self._put(d, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        else:
            text = "Deployment does not have minimum availability."
            self._put(d, "Available", "False", "MinimumReplicasUnavailable", text)
        again = self._judge_progress(d, before, counts, new) if rollout else None
        failures = [condition(rs.get("status", {}), "ReplicaFailure") for rs in ([new] if new else []) + sets]
        if failed := next((failure for failure in failures if failure), None):
            self._put(d, "ReplicaFailure", failed["status"], failed["reason"], failed["message"])
        elif rollout:
            status["conditions"] = [c for c in status["conditions"] if c["type"] != "ReplicaFailure"]
        complete = self._is_complete(d, counts)
        if rollout and complete:
            self._clean_up(d, sets, new)
        if status != before or self._annotation(d, _REVISION) != self._annotation(self._live(d), _REVISION):
            self._store_status(d)
        return again

    def _is_complete(self, d: Obj, counts: Obj) -> bool:
        replicas = d["spec"]["replicas"]
        return bool(counts["updatedReplicas"] == counts["replicas"] == counts["availableReplicas"] == replicas)

    def _judge_progress(self, d: Obj, before: Obj, counts: Obj, new: Obj | None) -> float | None:
        deadline = d["spec"].get("progressDeadlineSeconds")
        if deadline is None:
            return None
        current = condition(d["status"], "Progressing")
        name = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{d["metadata"]["name"]}"'
        if counts["replicas"] == counts["updatedReplicas"] and current.get("reason") == "NewReplicaSetAvailable":
            return None
        if self._is_complete(d, counts):
            self._put(d, "Progressing", "True", "NewReplicaSetAvailable", f"{name} has successfully progressed.")
            return None
        moved = (
            counts["updatedReplicas"] > before.get("updatedReplicas", 0)
            or counts["replicas"] - counts["updatedReplicas"]
            < before.get("replicas", 0) - before.get("updatedReplicas", 0)
            or counts["readyReplicas"] > before.get("readyReplicas", 0)
            or counts["availableReplicas"] > before.get("availableReplicas", 0)
        )
        now = self.api.clock()
        if moved:
            text = f"{name} is progressing."
            conditions = d["status"]["conditions"]
            since = current["lastTransitionTime"] if current.get("status") == "True" else stamp(now)
            conditions[:] = [c for c in conditions if c["type"] != "Progressing"] + [
                {"type": "Progressing", "status": "True", "lastUpdateTime": stamp(now), "lastTransitionTime": since,
                 "reason": "ReplicaSetUpdated", "message": text}
            ]  # fmt: skip
            return float(deadline)
        if not current or current["reason"] == "NewReplicaSetAvailable":
            return None
        if current["reason"] == "ProgressDeadlineExceeded":
            return None
        left: float = seconds(current["lastUpdateTime"]) + deadline - now
        if left > 0:
            return left + 1
        self._put(d, "Progressing", "False", "ProgressDeadlineExceeded", f"{name} has timed out progressing.")
        return None
