"""The HorizontalPodAutoscaler on measured CPU and memory."""

from __future__ import annotations

import asyncio
import math
import sys
import traceback

from sandbox.api.errors import ApiStatus
from sandbox.api.kinds import BY_KIND
from sandbox.api.machinery import Api, Call
from sandbox.api.quantity import parse
from sandbox.api.rules import matches
from sandbox.controller import Obj, Recorder, condition, seconds, stamp
from sandbox.metrics import Meter

_TOLERANCE = 0.1
_MANAGER = "kube-controller-manager"
_DOWN_POLICIES = [{"type": "Percent", "value": 100, "periodSeconds": 15}]
_UP_POLICIES = [*_DOWN_POLICIES, {"type": "Pods", "value": 4, "periodSeconds": 15}]
_SAYS = {  # the message of each condition's reason
    "SucceededGetScale": "the HPA controller was able to get the target's current scale",
    "ScalingDisabled": "scaling is disabled since the replica count of the target is zero",
    "ReadyForNewScale": "recommended size matches current size",
    "ScaleDownStabilized": (
        "recent recommendations were higher than current one, applying the highest recent recommendation"
    ),
    "ScaleUpStabilized": (
        "recent recommendations were lower than current one, applying the lowest recent recommendation"
    ),
    "ScaleUpLimit": "the desired replica count is increasing faster than the maximum scale rate",
    "ScaleDownLimit": "the desired replica count is decreasing faster than the maximum scale rate",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
    "DesiredWithinRange": "the desired count is within the acceptable range",
}


class _Unavailable(Exception):
    """A metric cannot be had: reason and message of the condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def _no_metric(name: str, why: str) -> _Unavailable:
    return _Unavailable("FailedGetResourceMetric", f"failed to get {name} utilization: {why}")


def _says_something(pod: Obj, measured: Obj) -> bool:
    """Whether a pod's CPU was measured while it was ready: its start says nothing of its work."""
    ready = condition(pod["status"], "Ready")
    since = seconds(measured["timestamp"]) - float(measured["window"].removesuffix("s"))
    return ready.get("status") == "True" and since >= seconds(ready["lastTransitionTime"])


class Autoscaler:
    """Looks at every HorizontalPodAutoscaler each `interval` seconds."""

    def __init__(self, api: Api, meter: Meter, interval: float) -> None:
        self._api, self._meter, self._interval = api, meter, interval
        self._recorder = Recorder(api, "horizontal-pod-autoscaler")
        self._advice: dict[str, list[tuple[float, int]]] = {}
        self._changes: dict[str, list[tuple[float, int]]] = {}  # when, by how many

    async def run(self) -> None:
        while True:
            for hpa in self._api.list("HorizontalPodAutoscaler"):
                try:
                    self._sync(hpa)
                except ApiStatus:
                    continue  # changed meanwhile: the next look sees it
                except Exception:
                    traceback.print_exc(file=sys.stderr)
            await asyncio.sleep(self._interval)

    def _sync(self, hpa: Obj) -> None:
        spec, namespace = hpa["spec"], hpa["metadata"]["namespace"]
        before = hpa.get("status") or {}
        status: Obj = {**before, "conditions": [dict(c) for c in before.get("conditions") or []]}
        ref = spec["scaleTargetRef"]
        target = None
        if ref["kind"] in ("Deployment", "ReplicaSet"):
            target = self._api.find(ref["kind"], ref["name"], namespace)
        if target is None:
            text = f'{ref["kind"].lower()}s.apps "{ref["name"]}" not found'
            why = f"the HPA controller was unable to get the target's current scale: {text}"
            self._put(status, "AbleToScale", "False", "FailedGetScale", why)
            self._recorder.event(hpa, "Warning", "FailedGetScale", text)
        else:
            self._put(status, "AbleToScale", "True", "SucceededGetScale")
            status["currentReplicas"] = target.get("status", {}).get("replicas", 0)
            status["desiredReplicas"] = before.get("desiredReplicas", 0)
            self._decide(hpa, target, status)
        if status != before:
            self._api.update("HorizontalPodAutoscaler", {**hpa, "status": status}, subresource="status")

    def _decide(self, hpa: Obj, target: Obj, status: Obj) -> None:
        current, low, high = target["spec"]["replicas"], hpa["spec"].get("minReplicas", 1), hpa["spec"]["maxReplicas"]
        if current == 0 and low != 0:
            self._put(status, "ScalingActive", "False", "ScalingDisabled")
            return
        if not low <= current <= high:
            desired = min(max(current, low), high)
            side = "above Spec.MaxReplicas" if current > high else "below Spec.MinReplicas"
            why = f"Current number of replicas {side}"
        else:
            try:
                advised, why, status["currentMetrics"] = self._advise(hpa, target, current)
            except _Unavailable as problem:
                text = f"the HPA was unable to compute the replica count: {problem.message}"
                self._put(status, "ScalingActive", "False", problem.reason, text)
                self._recorder.event(hpa, "Warning", problem.reason, problem.message)
                text = f"invalid metrics (1 invalid out of 1), first error is: {problem.message}"
                self._recorder.event(hpa, "Warning", "FailedComputeMetricsReplicas", text)
                status.pop("currentMetrics", None)
                return
            source = hpa["spec"]["metrics"][0]["resource"]
            unit = "resource utilization (percentage of request)"
            if "averageUtilization" not in source["target"]:
                unit = "resource"
            text = f"the HPA was able to successfully calculate a replica count from {source['name']} {unit}"
            self._put(status, "ScalingActive", "True", "ValidMetricFound", text)
            desired = self._limit(hpa, status, current, self._stabilize(hpa, status, current, advised))
        if desired != current:
            self._scale(hpa, target, status, current, desired, why)
        status["desiredReplicas"] = desired

    def _scale(self, hpa: Obj, target: Obj, status: Obj, current: int, desired: int, why: str) -> None:
        meta = target["metadata"]
        scale = {"spec": {"replicas": desired}}
        self._api.do_scale(BY_KIND[target["kind"]], meta["name"], meta["namespace"], scale, Call(_MANAGER))
        text = f"the HPA controller was able to update the target scale to {desired}"
        self._put(status, "AbleToScale", "True", "SucceededRescale", text)
        self._recorder.event(hpa, "Normal", "SuccessfulRescale", f"New size: {desired}; reason: {why}")
        now = self._api.clock()
        status["lastScaleTime"] = stamp(now)
        self._changes.setdefault(hpa["metadata"]["uid"], []).append((now, desired - current))

    # --- what the metrics say -----------------------------------------------------------------------------------------

    def _advise(self, hpa: Obj, target: Obj, current: int) -> tuple[int, str, list[Obj]]:
        """The largest of what the metrics ask for, why, and their current values."""
        best, why, shown = 0, "All metrics below target", []
        for metric in hpa["spec"].get("metrics") or []:
            if metric["type"] != "Resource":
                raise _Unavailable("InvalidMetricSourceType", f"unsupported metric source type {metric['type']}")
            name, goal = metric["resource"]["name"], metric["resource"]["target"]
            wanted, value, average = self._from_resource(target, name, goal, current)
            now: Obj = {"averageValue": f"{math.ceil(average * 1000)}m" if name == "cpu" else str(int(average))}
            if "averageUtilization" in goal:
                now["averageUtilization"] = value
            shown.append({"type": "Resource", "resource": {"name": name, "current": now}})
            if wanted > best:
                best = wanted
                suffix = "resource utilization (percentage of request)" if "averageUtilization" in goal else "resource"
                why = f"{name} {suffix} above target" if wanted > current else "All metrics below target"
        return best, why, shown

    def _from_resource(self, target: Obj, name: str, goal: Obj, current: int) -> tuple[int, int, float]:
        """(replicas wanted, utilization in percent, average use of a pod)."""
        namespace = target["metadata"]["namespace"]
        measured = {pod["metadata"]["name"]: pod for pod in self._meter.pods(namespace)}
        pods = [
            pod for pod in self._api.all("Pod", namespace)
            if matches(target["spec"]["selector"], pod["metadata"].get("labels"))
            and "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") not in ("Failed", "Succeeded")
        ]  # fmt: skip
        if not pods:
            raise _no_metric(name, "no pods returned by selector while calculating replica count")
        use: dict[str, float] = {}
        asked: dict[str, float] = {}
        idle: list[str] = []
        missing: list[str] = []
        for pod in pods:
            pod_name = pod["metadata"]["name"]
            asked[pod_name] = 0.0
            for container in pod["spec"]["containers"]:
                request = container.get("resources", {}).get("requests", {}).get(name)
                if request is None and "averageUtilization" in goal:
                    where = f"container {container['name']} of Pod {pod_name}"
                    raise _no_metric(name, f"missing request for {name} in {where}")
                asked[pod_name] += float(parse(request or "0"))
            if pod_name not in measured:
                (idle if pod["status"].get("phase") == "Pending" else missing).append(pod_name)
            elif name == "cpu" and not _says_something(pod, measured[pod_name]):
                idle.append(pod_name)
            else:
                use[pod_name] = sum(float(parse(c["usage"][name])) for c in measured[pod_name]["containers"])
        if not measured:
            what = "no metrics returned from resource metrics API"
            raise _no_metric(name, f"unable to get metrics for resource {name}: {what}")
        if not use:
            raise _no_metric(name, "did not receive metrics for targeted pods (pods might be unready)")

        def ratio() -> float:
            if "averageUtilization" in goal:
                return int(100 * sum(use.values()) / sum(asked[pod] for pod in use)) / float(goal["averageUtilization"])
            return sum(use.values()) / len(use) / float(parse(goal["averageValue"]))

        utilization = int(100 * sum(use.values()) / sum(asked[p] for p in use)) if "averageUtilization" in goal else 0
        average = sum(use.values()) / len(use)
        first, ready = ratio(), len(use)
        wanted = current
        if not missing and not (idle and first > 1):
            wanted = current if abs(1 - first) <= _TOLERANCE else math.ceil(first * ready)
        else:
            # what is not known counts against the change: idle when growing, at the goal when shrinking
            if first < 1:
                full = 1.0 if "averageUtilization" in goal else 0.0
                use |= {pod: asked[pod] * full for pod in missing}
            else:
                use |= dict.fromkeys([*missing, *idle], 0.0)
            second = ratio()
            turned = (first < 1 < second) or (first > 1 > second)
            if abs(1 - second) > _TOLERANCE and not turned:
                wanted = math.ceil(second * len(use))
                if (second < 1 and wanted > current) or (second > 1 and wanted < current):
                    wanted = current
        return wanted, utilization, average

    # --- what may be done ---------------------------------------------------------------------------------------------

    def _stabilize(self, hpa: Obj, status: Obj, current: int, advised: int) -> int:
        """The most careful of the recent advice: the highest when shrinking, the lowest when growing."""
        behavior = hpa["spec"].get("behavior") or {}
        down = (behavior.get("scaleDown") or {}).get("stabilizationWindowSeconds", 300)
        up = (behavior.get("scaleUp") or {}).get("stabilizationWindowSeconds", 0)
        now, uid = self._api.clock(), hpa["metadata"]["uid"]
        history = [(t, n) for t, n in self._advice.get(uid, [(now, current)]) if now - t < max(down, up, 1)]
        highest = max([n for t, n in history if now - t < down], default=advised)
        lowest = min([n for t, n in history if now - t < up], default=advised)
        self._advice[uid] = [*history, (now, advised)]
        result = min(current, max(advised, highest)) if advised < current else max(current, min(advised, lowest))
        if result == advised:
            self._put(status, "AbleToScale", "True", "ReadyForNewScale")
        else:
            self._put(status, "AbleToScale", "True", "ScaleDownStabilized" if result > advised else "ScaleUpStabilized")
        return result

    def _limit(self, hpa: Obj, status: Obj, current: int, wanted: int) -> int:
        """Within the policies' rates and the bounds, with the ScalingLimited condition that says so."""
        spec = hpa["spec"]
        low, high = int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])
        behavior = spec.get("behavior") or {}
        if wanted > current:
            most = self._rate(hpa, behavior.get("scaleUp") or {}, _UP_POLICIES, current, grow=True)
            if wanted > most and most < high:
                self._put(status, "ScalingLimited", "True", "ScaleUpLimit")
                return max(current, most)
        elif wanted < current:
            least = self._rate(hpa, behavior.get("scaleDown") or {}, _DOWN_POLICIES, current, grow=False)
            if wanted < least and least > low:
                self._put(status, "ScalingLimited", "True", "ScaleDownLimit")
                return min(current, least)
        if wanted > high:
            self._put(status, "ScalingLimited", "True", "TooManyReplicas")
        elif wanted < low:
            self._put(status, "ScalingLimited", "True", "TooFewReplicas")
        else:
            self._put(status, "ScalingLimited", "False", "DesiredWithinRange")
        return min(max(wanted, low), high)

    def _rate(self, hpa: Obj, rules: Obj, default: list[Obj], current: int, *, grow: bool) -> int:
        now = self._api.clock()
        choose = rules.get("selectPolicy", "Max")
        if choose == "Disabled":
            return current
        results: list[int] = []
        for policy in rules.get("policies") or default:
            changes = self._changes.get(hpa["metadata"]["uid"], [])
            recent = [by for t, by in changes if now - t < policy["periodSeconds"]]
            start = current - sum(by for by in recent if (by > 0) == grow)
            value = policy["value"] if grow else -policy["value"]
            results.append(start + value if policy["type"] == "Pods" else math.ceil(start * (1 + value / 100)))
        return (max if (choose == "Max") == grow else min)(results)

    # --- status -------------------------------------------------------------------------------------------------------

    def _put(self, status: Obj, type_: str, word: str, reason: str, message: str = "") -> None:
        old = condition(status, type_)
        since = old["lastTransitionTime"] if old.get("status") == word else stamp(self._api.clock())
        entry = {"type": type_, "status": word, "lastTransitionTime": since, "reason": reason}
        entry["message"] = message or _SAYS[reason]
        if old:
            old.update(entry)
        else:
            status["conditions"].append(entry)
