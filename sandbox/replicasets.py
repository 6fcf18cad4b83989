"""The ReplicaSet controller: as many pods as asked for, and why not when a policy refuses them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandbox.api.errors import ApiStatus
from sandbox.api.machinery import Api
from sandbox.api.rules import matches
from sandbox.controller import (
    Controller,
    Key,
    Obj,
    condition,
    controller_ref,
    is_pod_ready,
    key_of,
    owner_of,
    seconds,
    stamp,
)

FINISHED = ("Succeeded", "Failed")
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def is_active(pod: Obj) -> bool:
    return pod.get("status", {}).get("phase") not in FINISHED and "deletionTimestamp" not in pod["metadata"]


def available_in(pod: Obj, min_ready: int, now: float) -> float | None:
    """Seconds until the pod counts as available (0 when it does), or None while it is not ready."""
    ready = condition(pod.get("status", {}), "Ready")
    if ready.get("status") != "True":
        return None
    return max(0.0, seconds(ready["lastTransitionTime"]) + min_ready - now) if min_ready else 0.0


def _victim_order(pod: Obj) -> tuple[Any, ...]:
    """What comes first is deleted first: unassigned, pending, not ready, cheap, lately ready, often restarted, new."""
    status = pod.get("status", {})
    ready = condition(status, "Ready")
    cost = int((pod["metadata"].get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", 0))
    restarts = sum(c["restartCount"] for c in status.get("containerStatuses") or [])
    since = seconds(ready["lastTransitionTime"]) if ready.get("status") == "True" else 0.0
    created = seconds(pod["metadata"]["creationTimestamp"])
    assigned = bool(pod["spec"].get("nodeName"))
    return (assigned, _PHASES.get(status.get("phase", ""), 0), is_pod_ready(pod), cost, -since, -restarts, -created)


def owned_pods(api: Api, rs: Obj) -> list[Obj]:
    uid = rs["metadata"]["uid"]
    pods = api.all("Pod", rs["metadata"]["namespace"])
    return [pod for pod in pods if (owner_of(pod) or {}).get("uid") == uid]


class ReplicaSets(Controller):
    kinds = ("ReplicaSet", "Pod")
    component = "replicaset-controller"

    def keys(self, kind: str, obj: Obj) -> Iterable[Key]:
        if kind == "ReplicaSet":
            return [key_of(obj)]
        owner = owner_of(obj)
        return [(obj["metadata"]["namespace"], owner["name"])] if owner and owner["kind"] == "ReplicaSet" else []

    def sync(self, namespace: str, name: str) -> float | None:
        found = self.api.find("ReplicaSet", name, namespace)
        if not found:
            return None
        rs = self.api.get("ReplicaSet", name, namespace)
        failure: tuple[str, ApiStatus] | None = None
        owned = owned_pods(self.api, rs)
        if "deletionTimestamp" not in rs["metadata"]:
            pods = [pod for pod in owned if is_active(pod)]
            missing = rs["spec"].get("replicas", 1) - len(pods)
            if missing > 0:
                if refusal := self._create(rs, missing):
                    failure = ("FailedCreate", refusal)
            elif missing < 0:
                for pod in sorted(pods, key=_victim_order)[:-missing]:
                    self.api.delete("Pod", pod["metadata"]["name"], namespace)
                    text = f"Deleted pod: {pod['metadata']['name']}"
                    self.recorder.event(rs, "Normal", "SuccessfulDelete", text)
        # of the pods as they were before: what has just been made or deleted shows in the next look
        again = self._write_status(rs, owned, failure)
        if failure:
            raise failure[1]  # try again, later with every failure
        return again

    def _create(self, rs: Obj, missing: int) -> ApiStatus | None:
        """Create pods in batches that double as they succeed; the first refusal ends it."""
        template, namespace = rs["spec"]["template"], rs["metadata"]["namespace"]
        meta = {
            **{key: template["metadata"][key] for key in ("labels", "annotations") if template["metadata"].get(key)},
            "generateName": f"{rs['metadata']['name']}-",
            "ownerReferences": [controller_ref(rs)],
        }
        batch, refusal = 1, None
        while missing > 0 and refusal is None:
            for _ in range(min(batch, missing)):
                try:
                    pod = self.api.create("Pod", {"metadata": meta, "spec": template["spec"]}, namespace)
                except ApiStatus as error:
                    causes = (error.details or {}).get("causes") or [{}]
                    if causes[0].get("reason") == "NamespaceTerminating":
                        return None
                    refusal = refusal or error
                    self.recorder.event(rs, "Warning", "FailedCreate", f"Error creating: {error.message}")
                else:
                    text = f"Created pod: {pod['metadata']['name']}"
                    self.recorder.event(rs, "Normal", "SuccessfulCreate", text)
            missing -= batch
            batch *= 2
        return refusal

    def _write_status(self, rs: Obj, pods: list[Obj], failure: tuple[str, ApiStatus] | None) -> float | None:
        now = self.api.clock()
        min_ready = rs["spec"].get("minReadySeconds", 0)
        labels = rs["spec"]["template"]["metadata"].get("labels")
        active = [pod for pod in pods if is_active(pod)]
        waits = [wait for pod in active if (wait := available_in(pod, min_ready, now)) is not None]
        status: Obj = {"replicas": len(active)}
        counts = {
            "fullyLabeledReplicas": sum(matches({"matchLabels": labels}, p["metadata"].get("labels")) for p in active),
            "readyReplicas": len(waits),
            "availableReplicas": sum(wait == 0 for wait in waits),
        }
        status |= {key: count for key, count in counts.items() if count}
        status["terminatingReplicas"] = sum(
            "deletionTimestamp" in p["metadata"] and p.get("status", {}).get("phase") not in FINISHED for p in pods
        )
        status["observedGeneration"] = rs["metadata"]["generation"]
        if failure:
            before = condition(rs.get("status", {}), "ReplicaFailure")
            status["conditions"] = [
                before
                or {"type": "ReplicaFailure", "status": "True", "lastTransitionTime": stamp(now), "reason": failure[0],
                    "message": failure[1].message}
            ]  # fmt: skip
        if status != rs.get("status"):
            self.api.update("ReplicaSet", {**rs, "status": status}, subresource="status")
        return min((wait for wait in waits if wait > 0), default=None)
