"""A pod's status from what its containers do: phase, conditions, container statuses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sandbox import images
from sandbox.containers import Container
from sandbox.controller import Obj, condition


def _one(container: Container) -> Obj:
    spec = container.spec
    image = spec["image"] if images.problem(spec["image"]) else images.full(spec["image"])
    status: Obj = {
        "name": spec["name"], "state": container.state, "lastState": container.last, "ready": container.ready,
        "restartCount": container.restarts, "image": image if container.id else spec["image"], "imageID": "",
        "started": container.started,
    }  # fmt: skip
    if container.id:
        status["imageID"] = f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"
        status["containerID"] = container.id
    resources = {key: spec.get("resources", {}).get(key) for key in ("limits", "requests")}
    if "running" in container.state and any(resources.values()):
        if resources["requests"]:
            status["allocatedResources"] = resources["requests"]
        status["resources"] = {key: value for key, value in resources.items() if value}
    if mounts := spec.get("volumeMounts"):
        status["volumeMounts"] = [
            {"name": mount["name"], "mountPath": mount["mountPath"],
             **({"readOnly": True, "recursiveReadOnly": "Disabled"} if mount.get("readOnly") else {})}
            for mount in mounts
        ]  # fmt: skip
    return status


def _phase(policy: str, init: Sequence[Container], main: Sequence[Container]) -> str:
    for container in init:
        ended = container.state.get("terminated")
        if ended and ended["exitCode"] != 0 and policy == "Never":
            return "Failed"
        if not ended or ended["exitCode"] != 0:
            return "Pending"
    running = sum("running" in c.state for c in main)
    ended_all = [c.state.get("terminated") or ("waiting" in c.state and c.last.get("terminated")) for c in main]
    ended = [end for end in ended_all if end]
    if running + len(ended) < len(main):
        return "Pending"
    if running or policy == "Always":
        return "Running"
    good = sum(end["exitCode"] == 0 for end in ended)
    return "Succeeded" if good == len(main) else "Failed" if policy == "Never" else "Running"


def build(
    pod: Obj, init: Sequence[Container], main: Sequence[Container], *, now: str, has_sandbox: bool, host_ip: str,
    pod_ip: str, is_over: bool,
) -> Obj:  # fmt: skip
    """The status to write. `is_over`: the pod was deleted and all of its processes have ended."""
    old = pod.get("status", {})
    policy = pod["spec"].get("restartPolicy", "Always")
    phase = _phase("Never" if is_over else policy, init, main)
    initialized = [c.name for c in init if c.state.get("terminated", {}).get("exitCode") != 0]
    unready = [c.name for c in main if not c.ready]
    conditions: list[Obj] = []

    def put(type_: str, status: bool, reason: str = "", message: str = "") -> None:
        before = condition(old, type_)
        word = "True" if status else "False"
        since = before["lastTransitionTime"] if before.get("status") == word else now
        entry: Obj = {"type": type_, "observedGeneration": pod["metadata"].get("generation", 1), "status": word,
                      "lastProbeTime": None, "lastTransitionTime": since}  # fmt: skip
        conditions.append(entry | ({"reason": reason} if reason else {}) | ({"message": message} if message else {}))

    put("PodReadyToStartContainers", has_sandbox and phase in ("Pending", "Running"))
    if initialized:
        text = f"containers with incomplete status: [{' '.join(initialized)}]"
        put("Initialized", False, "ContainersNotInitialized", text)
    else:
        put("Initialized", True, "PodCompleted" if phase == "Succeeded" else "")
    for type_ in ("Ready", "ContainersReady"):
        if phase == "Succeeded":
            put(type_, False, "PodCompleted")
        elif phase == "Failed":
            put(type_, False, "PodFailed")
        elif unready:
            put(type_, False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
        else:
            put(type_, True)
    put("PodScheduled", True)
    status: Obj = {"observedGeneration": pod["metadata"].get("generation", 1), "phase": phase, "conditions": conditions}
    status |= {"hostIP": host_ip, "hostIPs": [{"ip": host_ip}]}
    if pod_ip:
        status |= {"podIP": pod_ip, "podIPs": [{"ip": pod_ip}]}
    status["startTime"] = old.get("startTime", now)
    if init:
        status["initContainerStatuses"] = [_one(c) for c in init]
    status["containerStatuses"] = [_one(c) for c in main]
    status["qosClass"] = old.get("qosClass", "BestEffort")
    return status
