"""The scheduler: a node with room for the pod's requests, or an Event that says what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from sandbox.api.machinery import Api
from sandbox.api.quantity import parse
from sandbox.controller import Controller, Key, Obj, key_of, stamp
from sandbox.replicasets import FINISHED

_RETRY = 30.0


def requests(spec: Obj) -> dict[str, Decimal]:
    """What a pod asks for: its containers together, or its largest init container if that is more."""
    total: dict[str, Decimal] = {"pods": Decimal(1)}
    for container in spec["containers"]:
        for name, amount in container.get("resources", {}).get("requests", {}).items():
            total[name] = total.get(name, Decimal(0)) + parse(amount)
    for container in spec.get("initContainers") or []:
        for name, amount in container.get("resources", {}).get("requests", {}).items():
            total[name] = max(total.get(name, Decimal(0)), parse(amount))
    return total


def _tolerates(pod: Obj, taint: Obj) -> bool:
    return any(
        t.get("effect", taint["effect"]) == taint["effect"]
        and (not t.get("key") or t["key"] == taint["key"])
        and (t.get("operator", "Equal") == "Exists" or t.get("value", "") == taint.get("value", ""))
        for t in pod["spec"].get("tolerations") or []
    )


def objections(pod: Obj, node: Obj, pods: Iterable[Obj]) -> tuple[list[str], bool]:
    """Why the node does not take the pod, and whether other pods' leaving could change that."""
    spec = node.get("spec") or {}
    if spec.get("unschedulable"):
        return ["node(s) were unschedulable"], False
    hard = [t for t in spec.get("taints") or [] if t["effect"] != "PreferNoSchedule"]
    if not all(_tolerates(pod, taint) for taint in hard):
        return ["node(s) had untolerated taint(s)"], False
    labels = node["metadata"].get("labels") or {}
    if not (pod["spec"].get("nodeSelector") or {}).items() <= labels.items():
        return ["node(s) didn't match Pod's node affinity/selector"], False
    used: dict[str, Decimal] = {}
    for other in pods:
        for name, amount in requests(other["spec"]).items():
            used[name] = used.get(name, Decimal(0)) + amount
    missing, could_change = [], True
    room = node["status"]["allocatable"]
    for name, amount in sorted(requests(pod["spec"]).items()):
        total = parse(room.get(name, "0"))
        if amount and used.get(name, Decimal(0)) + amount > total:
            missing.append("Too many pods" if name == "pods" else f"Insufficient {name}")
            could_change = could_change and amount <= total
    return missing, could_change


class Scheduler(Controller):
    kinds = ("Pod", "Node")
    component = "default-scheduler"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._waiting: set[Key] = set()

    def keys(self, kind: str, obj: Obj) -> Iterable[Key]:
        if kind == "Pod" and not obj["spec"].get("nodeName"):
            return [key_of(obj)]
        freed = kind == "Node" or "deletionTimestamp" in obj["metadata"] or obj["status"].get("phase") in FINISHED
        return list(self._waiting) if freed else []

    def sync(self, namespace: str, name: str) -> float | None:
        pod = self.api.find("Pod", name, namespace)
        if not pod or pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
            self._waiting.discard((namespace, name))
            return None
        tally: dict[str, int] = {}
        unhelpful, nodes = 0, self.api.all("Node")
        bound = [p for p in self.api.all("Pod") if p["spec"].get("nodeName")]
        bound = [p for p in bound if p["status"].get("phase") not in FINISHED]
        fits: list[tuple[int, str]] = []
        for node in nodes:
            node_name = node["metadata"]["name"]
            there = [p for p in bound if p["spec"]["nodeName"] == node_name]
            why, could_change = objections(pod, node, there)
            if not why:
                fits.append((len(there), node_name))
            for reason in why:
                tally[reason] = tally.get(reason, 0) + 1
            unhelpful += not could_change
        if fits:
            self._bind(pod, min(fits)[1])
            return None
        self._refuse(pod, tally, len(nodes), unhelpful)
        return _RETRY

    def _bind(self, pod: Obj, node: str) -> None:
        namespace, name = key_of(pod)
        self._waiting.discard((namespace, name))
        self._condition(pod, {"status": "True"})
        self.api.patch("Pod", name, namespace, {"spec": {"nodeName": node}}, manager="kube-scheduler")
        text = f"Successfully assigned {namespace}/{name} to {node}"
        self.recorder.action(pod, "Normal", "Scheduled", text, "Binding")

    def _refuse(self, pod: Obj, tally: dict[str, int], total: int, unhelpful: int) -> None:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.items()))
        helps = {
            "No preemption victims found for incoming pod.": total - unhelpful,
            "Preemption is not helpful for scheduling.": unhelpful,
        }
        preemption = ", ".join(f"{count} {text}" for text, count in helps.items() if count)
        text = (
            f"0/{total} nodes are available: {reasons}. no new claims to deallocate,"
            f" preemption: 0/{total} nodes are available: {preemption}"
            if total
            else "no nodes available to schedule pods"
        )
        first = key_of(pod) not in self._waiting
        self._waiting.add(key_of(pod))
        self.recorder.action(pod, "Warning", "FailedScheduling", text, "Scheduling")
        before = [c for c in pod["status"].get("conditions") or [] if c["type"] == "PodScheduled"]
        if first or not before or before[0].get("message") != text:
            self._condition(pod, {"status": "False", "reason": "Unschedulable", "message": text})

    def _condition(self, pod: Obj, values: Obj) -> None:
        entry = {"type": "PodScheduled", "observedGeneration": pod["metadata"].get("generation", 1),
                 "lastProbeTime": None, "lastTransitionTime": stamp(self.api.clock()), **values}  # fmt: skip
        namespace, name = key_of(pod)
        status = {"status": {"conditions": [entry]}}
        self.api.patch("Pod", name, namespace, status, subresource="status", manager="kube-scheduler")
