"""Objects of a rollout as an API server shows them, made by hand for what no recording holds."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.deepmlhub.inference.plugins.module_utils.observation import Observation
from ansible_collections.deepmlhub.inference.plugins.module_utils.verdict import judge

START = datetime(2026, 11, 23, 6, 0, 0, tzinfo=UTC)
IMAGE = "registry.example/demo/api:v1"


def stamp(t: float) -> str:
    """The server's time stamp of a moment; moment 0 is the time of the change."""
    return (START + timedelta(seconds=t)).strftime("%Y-%m-%dT%H:%M:%SZ")


class World:
    """A Deployment of two replicas, its ReplicaSets, Pods and Events, told to an Observation as they are made."""

    def __init__(self, **options: Any) -> None:
        self.seen = Observation("inference-api", **options)
        self._versions = itertools.count(100)
        self.tell(-60, "events", self._object("clock", -60))  # an old object, so that the server's clock is known
        self.deployment_object: dict[str, Any] = {}

    def tell(self, t: float, resource: str, found: dict[str, Any], change: str = "MODIFIED") -> dict[str, Any]:
        found["metadata"]["resourceVersion"] = str(next(self._versions))
        self.seen.observe(t, resource, change, found)
        return found

    def judge(self, t: float, unschedulable_timeout: float = 10.0) -> dict[str, Any]:
        return judge(self.seen, t, unschedulable_timeout=unschedulable_timeout)

    def deployment(self, t: float = 0, *, version: str = "2", uid: str = "d", **more: Any) -> dict[str, Any]:
        spec = {"replicas": 2, "template": template(version), **more.pop("spec", {})}
        status = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, **more.pop("status", {})}
        found = self._object("inference-api", 0, uid=uid, generation=1, annotations={REVISION: version})
        found["metadata"].update(more.pop("metadata", {}))
        assert not more
        return self.tell(t, "deployments", {**found, "spec": spec, "status": status})

    def replica_set(self, t: float = 0, *, version: str = "2", **more: Any) -> dict[str, Any]:
        own = template(version)
        own["metadata"]["labels"]["pod-template-hash"] = f"hash{version}"
        name = f"inference-api-hash{version}"
        found = self._object(
            name, more.pop("created", 0), uid=f"rs{version}", owner="d", annotations={REVISION: version}
        )
        spec = {"replicas": 2, "template": own, **more.pop("spec", {})}
        status = {"replicas": 2, **more.pop("status", {})}
        assert not more
        return self.tell(t, "replicasets", {**found, "spec": spec, "status": status})

    def pod(
        self, t: float, *containers: dict[str, Any], name: str = "a", version: str = "2", **more: Any
    ) -> dict[str, Any]:
        found = self._object(f"inference-api-{name}", more.pop("created", 0), uid=f"pod-{name}", owner=f"rs{version}")
        found["metadata"].update(more.pop("metadata", {}))
        spec = {
            "nodeName": "node1",
            "containers": [{"name": "api", "image": IMAGE, "resources": {"limits": {"memory": "512Mi"}}}],
            **more.pop("spec", {}),
        }
        status = {"phase": "Pending", "containerStatuses": list(containers), **more.pop("status", {})}
        assert not more
        return self.tell(t, "pods", {**found, "spec": spec, "status": status})

    def event(
        self,
        t: float,
        about: str,
        reason: str,
        message: str = "",
        *,
        container: str = "",
        count: int = 1,
        first: float | None = None,
        last: float | None = None,
        kind: str = "Warning",
        uid: str = "",
        init: bool = False,
    ) -> dict[str, Any]:
        found = self._object(f"{about}.{reason}", t, uid=uid or f"event-{about}-{reason}-{message[:20]}")
        where = "spec.initContainers" if init else "spec.containers"
        return self.tell(
            t,
            "events",
            {
                **found,
                "involvedObject": {"uid": about, **({"fieldPath": f"{where}{{{container}}}"} if container else {})},
                "reason": reason,
                "message": message,
                "count": count,
                "firstTimestamp": stamp(t if first is None else first),
                "lastTimestamp": stamp(t if last is None else last),
                "type": kind,
            },
        )

    def running(self, *containers: dict[str, Any], t: float = 0, **more: Any) -> World:
        """A rollout under way, with one pod in this state."""
        self.deployment(t)
        self.replica_set(t)
        self.pod(t, *containers, **more)
        self._noise(t)
        return self

    def _noise(self, t: float) -> None:
        """What concerns nobody, with names before and after all others."""
        for name in ("AAA", "aaa", "zzz"):
            for about in ("pod-a", "rs2"):
                self.event(t, about, name, "Killing: a probe", container="api", count=50, kind="Normal")
            self.event(t, "pod-a", "Failed", f"Failed to pull image {name}", container=name, count=50, kind="Normal")
        timeless = self.event(t, "aaa", "aaa")
        del timeless["metadata"]["creationTimestamp"]
        self.tell(t, "events", timeless)

    def _object(
        self, name: str, created: float, *, uid: str = "", owner: str = "", generation: int = 1, **more: Any
    ) -> dict[str, Any]:
        metadata = {
            "name": name,
            "uid": uid or name,
            "creationTimestamp": stamp(created),
            "generation": generation,
            **more,
        }
        if owner:
            metadata["ownerReferences"] = [{"kind": "Owner", "uid": owner, "controller": True}]
        return {"metadata": metadata}


REVISION = "deployment.kubernetes.io/revision"


def template(version: str) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "inference-api", "version": version}},
        "spec": {"containers": [{"name": "api", "image": IMAGE, "resources": {}}]},
    }


def waiting(
    reason: str, message: str = "", *, restarts: int = 0, last: dict[str, Any] | None = None, name: str = "api"
) -> dict:
    return {
        "name": name,
        "ready": False,
        "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": message}},
        "lastState": {"terminated": last} if last else {},
    }


def ended(
    code: int = 1, reason: str = "Error", *, restarts: int = 0, message: str = "", name: str = "api"
) -> dict[str, Any]:
    state = {"exitCode": code, "reason": reason, "message": message}
    return {"name": name, "ready": False, "restartCount": restarts, "state": {"terminated": state}, "lastState": {}}


def running(
    *, restarts: int = 0, ready: bool = False, started: float = 0, name: str = "api", last: dict | None = None
) -> dict:
    return {
        "name": name,
        "ready": ready,
        "restartCount": restarts,
        "state": {"running": {"startedAt": stamp(started)}},
        "lastState": {"terminated": last} if last else {},
    }


def condition(kind: str, value: str, reason: str = "", message: str = "", t: float = 0) -> dict[str, Any]:
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastTransitionTime": stamp(t),
        "lastUpdateTime": stamp(t),
    }
