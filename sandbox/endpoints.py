"""EndpointSlices of Services, and the status of PodDisruptionBudgets."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sandbox.api.rules import matches
from sandbox.controller import Controller, Key, Obj, condition, controller_ref, is_pod_ready, key_of, stamp
from sandbox.probes import port_number
from sandbox.replicasets import FINISHED, is_active

NAME_LABEL = "kubernetes.io/service-name"


def slice_of(api_slices: Iterable[Obj], service: str) -> Obj | None:
    return next((s for s in api_slices if (s["metadata"].get("labels") or {}).get(NAME_LABEL) == service), None)


def _endpoint(pod: Obj, publish: bool) -> Obj:
    terminating, ready = "deletionTimestamp" in pod["metadata"], is_pod_ready(pod)
    meta = pod["metadata"]
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": publish or (ready and not terminating),
            "serving": ready,
            "terminating": terminating,
        },
        "targetRef": {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
        "nodeName": pod["spec"]["nodeName"],
    }


class Endpoints(Controller):
    kinds = ("Service", "Pod")
    component = "endpoint-slice-controller"

    def keys(self, kind: str, obj: Obj) -> Iterable[Key]:
        if kind == "Service":
            return [key_of(obj)]
        namespace, labels = obj["metadata"]["namespace"], obj["metadata"].get("labels") or {}
        services = self.api.all("Service", namespace)
        return [key_of(s) for s in services if (s["spec"].get("selector") or {}).items() <= labels.items()]

    def sync(self, namespace: str, name: str) -> float | None:
        service = self.api.find("Service", name, namespace)
        if not service or not service["spec"].get("selector"):
            return None
        pods = [
            pod for pod in self.api.all("Pod", namespace)
            if matches({"matchLabels": service["spec"]["selector"]}, pod["metadata"].get("labels"))
            and pod["status"].get("podIP") and pod["status"].get("phase") not in FINISHED
        ]  # fmt: skip
        publish = bool(service["spec"].get("publishNotReadyAddresses"))
        endpoints = [_endpoint(pod, publish) for pod in pods]
        ports = []
        for port in service["spec"].get("ports") or []:
            target = port.get("targetPort", port["port"])
            numbers = [n for p in pods for c in p["spec"]["containers"] if (n := port_number(target, c))]
            if number := target if isinstance(target, int) else next(iter(numbers), None):
                ports.append({"name": port.get("name", ""), "protocol": port.get("protocol", "TCP"), "port": number})
        labels = {**(service["metadata"].get("labels") or {}), NAME_LABEL: name,
                  "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}  # fmt: skip
        if service["spec"].get("clusterIP") == "None":
            labels["service.kubernetes.io/headless"] = ""
        old = slice_of(self.api.all("EndpointSlice", namespace), name)
        body = {"addressType": "IPv4", "endpoints": endpoints, "ports": ports}
        if old is None:
            meta = {"generateName": f"{name}-", "labels": labels, "ownerReferences": [controller_ref(service)]}
            self.api.create("EndpointSlice", {"metadata": meta, **body}, namespace)
        elif any(old.get(key) != value for key, value in body.items()):
            self.api.update("EndpointSlice", {**old, "metadata": {**old["metadata"], "labels": labels}, **body})
        return None


class Budgets(Controller):
    kinds = ("PodDisruptionBudget", "Pod")
    component = "controllermanager"

    def keys(self, kind: str, obj: Obj) -> Iterable[Key]:
        if kind == "PodDisruptionBudget":
            return [key_of(obj)]
        return [key_of(budget) for budget in self.api.all("PodDisruptionBudget", obj["metadata"]["namespace"])]

    def sync(self, namespace: str, name: str) -> float | None:
        if not self.api.find("PodDisruptionBudget", name, namespace):
            return None
        budget = self.api.get("PodDisruptionBudget", name, namespace)
        spec = budget["spec"]
        pods = [
            pod for pod in self.api.all("Pod", namespace)
            if is_active(pod) and matches(spec.get("selector"), pod["metadata"].get("labels"))
        ]  # fmt: skip
        total, healthy = len(pods), sum(is_pod_ready(pod) for pod in pods)

        def share(value: int | str) -> int:
            return value if isinstance(value, int) else math.ceil(int(value.rstrip("%")) * total / 100)

        needed = max(0, total - share(spec.get("maxUnavailable", 1)))
        if "minAvailable" in spec:
            needed = share(spec["minAvailable"])
        allowed = max(0, healthy - needed) if total else 0
        reason = "SufficientPods" if allowed else "InsufficientPods"
        old = condition(budget.get("status", {}), "DisruptionAllowed")
        generation = budget["metadata"].get("generation", 1)
        word = "True" if allowed else "False"
        since = old["lastTransitionTime"] if old.get("status") == word else stamp(self.api.clock())
        status = {
            "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": needed, "expectedPods": total,
            "observedGeneration": generation,
            "conditions": [{"type": "DisruptionAllowed", "status": word, "reason": reason, "message": "",
                            "observedGeneration": generation, "lastTransitionTime": since}],
        }  # fmt: skip
        if status != budget.get("status"):
            self.api.update("PodDisruptionBudget", {**budget, "status": status}, subresource="status")
        return None
