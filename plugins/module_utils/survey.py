# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Before any write: what is there, what the server's dry run says would be there, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.deepmlhub.inference.plugins.module_utils import history, plan
from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import ApiError, Cluster
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.lock import LEASES, peek
from ansible_collections.deepmlhub.inference.plugins.module_utils.objects import (
    KINDS,
    Object,
    collection_path,
    key,
    path,
    problems,
)

APPLY = "application/apply-patch+yaml"
AT_ONCE = 8


@dataclass
class Wish:
    """What one run of the module asks for; times in seconds."""

    name: str
    namespace: str
    manifests: list[Object] = field(default_factory=list)
    gate: dict[str, Any] | None = None
    force_conflicts: bool = True
    rollback_on_failure: bool = True
    keep_first_failure: bool = False
    revision: int | None = None
    history_limit: int = 10
    lock_timeout: float = 60.0
    lock_ttl: int = 30
    wait_timeout: float = 300.0
    wait_sleep: float = 1.0
    request_timeout: float = 10.0
    unschedulable_timeout: float = 10.0


@dataclass
class Seen:
    """One object before the apply: what is there, what the server says would be there, and who loses fields to us."""

    manifest: Object
    live: Object | None
    predicted: Object
    conflicts: list[dict[str, str]] = field(default_factory=list)
    checked: bool = True  # False: there is no namespace yet, so no server has spoken

    @property
    def changes(self) -> bool:
        return plan.differs(self.live, self.predicted)


class Survey(NamedTuple):
    """Everything that is known before a write; C(notes) are for the person."""

    records: list[history.Record]
    lease: Object | None
    seen: list[Seen]
    notes: list[str]

    def unfinished(self, wish: Wish) -> bool:
        """Whether there is anything to do: an object, an owner, the record or a lock is not as it should be."""
        if self.lease is not None and (self.lease.get("spec") or {}).get("holderIdentity"):
            return True
        if any(item.changes or plan.to_migrate(item.live) or must_hand_over(wish, item) for item in self.seen):
            return True
        return not history.stands(history.newest(self.records), wish.manifests, wish.gate)


def survey(cluster: Cluster, wish: Wish, *, check_mode: bool) -> Survey:
    """Reads and dry-runs everything at once. Raises InferenceError with all that the server refuses."""
    found = problems(wish.manifests, wish.namespace)
    if found:
        raise InferenceError("; ".join(found), hint="Mend the manifests of the release")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        records = pool.submit(records_of, cluster, wish)
        lease = pool.submit(peek, cluster, lease_path(wish))
        looks = [pool.submit(_look, cluster, wish, obj, check_mode) for obj in wish.manifests]
    errors = [error for look in looks if (error := look.exception()) is not None]
    refusals = [error for error in errors if isinstance(error, ApiError)]
    for error in errors:
        if not isinstance(error, ApiError):
            raise error
    if refusals:
        raise _refusal(wish, refusals)
    seen = [look.result() for look in looks]
    notes: list[str] = []
    refused = _pod_refusal(cluster, wish, seen, notes)
    if refused:
        raise _refusal(wish, [refused])
    if not all(item.checked for item in seen):
        notes.append(f"namespace {wish.namespace} does not exist yet: compared with nothing, and no server checked it")
    return Survey(records.result(), lease.result(), seen, notes)


def lease_path(wish: Wish) -> str:
    """Where the lock of a release lives."""
    return f"{LEASES.format(namespace=wish.namespace)}/{wish.name}"


def records_of(cluster: Cluster, wish: Wish) -> list[history.Record]:
    """All records of the release, oldest first."""
    query = {"labelSelector": f"{history.RELEASE_LABEL}={wish.name}"}
    listed = cluster.request("GET", collection_path(KINDS["Secret"], wish.namespace), query=query).body
    return history.ordered(listed.get("items") or [])


def live_of(cluster: Cluster, objects: Iterable[Object]) -> dict[str, Object | None]:
    """C(Kind/name) to today's object, or None."""
    objects = list(objects)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(map(key, objects), pool.map(lambda obj: _get(cluster, obj), objects), strict=True))


def apply(
    cluster: Cluster, body: Object, *, dry_run: bool = False, force: bool = True, manager: str = plan.MANAGER
) -> Object:
    """One server-side apply; the object as the server has it now (or would have it)."""
    query = {"fieldManager": manager, "fieldValidation": "Strict"}
    if force:
        query["force"] = "true"
    if dry_run:
        query["dryRun"] = "All"
    applied: Object = cluster.request("PATCH", path(body), query=query, body=body, content_type=APPLY).body
    return applied


def scaler_of(wish: Wish, manifest: Object) -> Object | None:
    """The autoscaler that drives this manifest's Deployment, if the release holds one."""
    return plan.autoscaled(wish.manifests, manifest["metadata"]["name"]) if manifest["kind"] == "Deployment" else None


def must_hand_over(wish: Wish, item: Seen) -> bool:
    """Whether we own the replicas of a Deployment that an autoscaler is to drive."""
    ours = {plan.MANAGER, *plan.CLIENT_SIDE_MANAGERS}
    return scaler_of(wish, item.manifest) is not None and plan.owns_replicas(item.live, ours)


def _get(cluster: Cluster, obj: Object) -> Object | None:
    try:
        found: Object = cluster.request("GET", path(obj)).body
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    return found


def _look(cluster: Cluster, wish: Wish, manifest: Object, check_mode: bool) -> Seen:
    live = _get(cluster, manifest)
    body = _asked(wish, manifest, live)
    try:
        return Seen(manifest, live, apply(cluster, body, dry_run=True, force=False))
    except ApiError as error:
        taken = plan.conflicts(error.body) if error.status == 409 else []
        if taken and wish.force_conflicts:
            return Seen(manifest, live, apply(cluster, body, dry_run=True), taken)
        if check_mode and _namespace_missing(error):
            return Seen(manifest, None, manifest, checked=False)
        raise


def _asked(wish: Wish, manifest: Object, live: Object | None) -> Object:
    """What the dry run is asked: the manifest, with replicas wherever leaving them out would not say the truth."""
    scaler = scaler_of(wish, manifest)
    if scaler is None:
        return manifest
    if live is None:
        return plan.with_replicas(manifest, plan.first_replicas(manifest, scaler))
    if must_hand_over(wish, Seen(manifest, live, manifest)):
        return plan.with_replicas(manifest, live["spec"].get("replicas", 1))
    return plan.without_replicas(manifest)


def _pod_refusal(cluster: Cluster, wish: Wish, seen: list[Seen], notes: list[str]) -> ApiError | None:
    """What admission says of one Pod of a changed template; only a Pod shows it."""
    unborn = {
        item.manifest["metadata"]["name"]
        for item in seen
        if item.manifest["kind"] == "ServiceAccount" and not item.live
    }
    for item in seen:
        if item.manifest["kind"] != "Deployment" or not item.checked or not plan.rolls(item.live, item.predicted):
            continue
        pod = plan.pod_of(item.predicted)
        if pod["spec"].get("serviceAccountName") in unborn:
            # The dry run did not create it, and admission would miss it.
            for name in ("serviceAccountName", "serviceAccount"):
                pod["spec"].pop(name, None)
        try:
            cluster.request("POST", f"/api/v1/namespaces/{wish.namespace}/pods", query={"dryRun": "All"}, body=pod)
        except ApiError as error:
            if 'cannot create resource "pods"' in error.message:
                notes.append("no permission to create pods: what admission says of the new pods was not asked")
            elif "error looking up service account" in error.message:
                notes.append("the namespace has no service account yet: what admission says of the pods was not asked")
            elif "exceeded quota" in error.message and not plan.surges(item.live):
                notes.append("the quota has no room for one more pod; this update makes room first")
            else:
                return error
    return None


def _namespace_missing(error: ApiError) -> bool:
    details = error.body.get("details") or {}
    return error.status == 404 and details.get("kind") == "namespaces"


def _refusal(wish: Wish, errors: list[ApiError]) -> InferenceError:
    first = errors[0]
    said = "; ".join(dict.fromkeys(error.message for error in errors))
    taken = [entry for error in errors for entry in plan.conflicts(error.body)]
    hints = {
        "is being terminated": f"Namespace {wish.namespace} is being deleted: wait until it is gone, or name another",
        "field is immutable": "The server cannot change this field in place: keep the live value, or delete the object "
        "by hand and run again",
        "exceeded quota": "Raise namespace_config_quota or lower inference_workload_resources; an update needs room "
        "for one pod more than it has",
        "violates PodSecurity": "Mend the pod's securityContext, or lower namespace_config_pod_security",
    }
    hint = next((text for words, text in hints.items() if words in said), first.hint)
    if _namespace_missing(first):
        hint = f"Run the role namespace_config first, or create namespace {wish.namespace}"
    elif taken:
        hint = "Take the fields over with force_conflicts, or let their managers drop them"
    return InferenceError(
        f"The server refuses release {wish.name} in namespace {wish.namespace}, and nothing was written: {said}",
        hint=hint or "Correct the variable behind the field that the message names",
        status=first.status,
        reason=first.reason,
        refusals=[error.message for error in errors],
        conflicts=taken,
    )
