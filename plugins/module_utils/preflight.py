# Copyright (c) 2026 deepmlhub
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Everything that could stop a release, found before anything is written, and all of it at once."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from ansible_collections.deepmlhub.inference.plugins.module_utils.cluster import ApiError, Cluster
from ansible_collections.deepmlhub.inference.plugins.module_utils.errors import InferenceError
from ansible_collections.deepmlhub.inference.plugins.module_utils.objects import KINDS, Object, collection_path
from ansible_collections.deepmlhub.inference.plugins.module_utils.quantity import number

OLDEST = (1, 30)  # the first where a container's preStop may sleep
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
GCP_ACCOUNT = "iam.gke.io/gcp-service-account"
AT_ONCE = 8


class Finding(NamedTuple):
    """One row of the table. C(ok) None: not known or not wanted; only a required one that is not ok stops a run."""

    check: str
    ok: bool | None
    detail: str
    required: bool = True
    hint: str = ""


class Need(NamedTuple):
    """A permission: C(resource) as in a Role, with its subresource; C(optional) says what goes without it."""

    group: str
    resource: str
    verb: str
    optional: str = ""


def needs(manifests: Sequence[Object], *, manage_namespace: bool) -> list[Need]:
    """Every permission that a release of the manifests uses, once each."""
    kinds = {manifest["kind"] for manifest in manifests}
    found: list[Need] = []

    def add(group: str, resource: str, verbs: str, optional: str = "") -> None:
        found.extend(Need(group, resource, verb, optional) for verb in verbs.split())

    unread = "" if manage_namespace else "its labels are not checked"
    add("", "namespaces", "get", unread)
    if manage_namespace:
        add("", "namespaces", "create patch")
    for kind in sorted(kinds):
        spot = KINDS[kind]
        group = spot.api_version.rpartition("/")[0]
        outlives = kind in ("ResourceQuota", "LimitRange")
        add(group, spot.plural, "get create patch delete" if outlives else "get create update patch delete")
    add("", "secrets", "list create delete")
    add("coordination.k8s.io", "leases", "get create update delete")
    add("apps", "deployments", "list watch")
    late = "a failure is named late, or only as a time-out"
    add("apps", "replicasets", "list watch", late)
    add("", "pods", "list watch", late)
    add("", "events", "list watch", late)
    add("", "pods/log", "get", "a failure is told without the last log lines")
    add("", "pods", "create", "admission is not asked about the new pods before the release")
    add("", "pods/proxy", "create", "pods are proven through the clients' address alone")
    balanced = any(m["kind"] == "Service" and m.get("spec", {}).get("type") == "LoadBalancer" for m in manifests)
    add("", "services/proxy", "get create", "only the load balancer's address is asked" if balanced else "")
    if "HorizontalPodAutoscaler" in kinds:
        add("autoscaling", "horizontalpodautoscalers", "list", "the gate does not look at the autoscaler")
    unasked = "a quota or limits of an earlier run that are no longer wanted stay"
    add("", "resourcequotas", "list", f"the quota's headroom is not checked, and {unasked}")
    add("", "limitranges", "list", unasked)
    return list(dict.fromkeys(found))


def access_findings(asked: Mapping[Need, str | None], namespace: str) -> list[Finding]:
    """A row for each resource; C(asked) has for each need the reason of a refusal, or None where it is allowed."""
    rows: dict[str, list[Need]] = {}
    for need in asked:
        rows.setdefault(f"{need.resource}.{need.group}" if need.group else need.resource, []).append(need)
    found = []
    for resource, wanted in sorted(rows.items()):
        lacking = [need for need in wanted if asked[need] is not None]
        must = [need for need in lacking if not need.optional]
        if not lacking:
            verbs = " ".join(dict.fromkeys(need.verb for need in wanted))
            found.append(Finding(f"may use {resource}", True, verbs))
            continue
        verbs = ", ".join(dict.fromkeys(need.verb for need in must or lacking))
        group = wanted[0].group or '""'
        where = "in the cluster" if resource == "namespaces" else f"in namespace {namespace}"
        without = "; ".join(dict.fromkeys(need.optional for need in lacking if need.optional))
        reason = next((asked[need] for need in must or lacking if asked[need]), "")
        detail = f"may not {verbs} {where}" + (f" ({reason})" if reason else "")
        if not must:
            detail += f": {without}"
        hint = f"Add the verbs {verbs} on {wanted[0].resource} of API group {group} to the user's Role"
        found.append(Finding(f"may use {resource}", False, detail, bool(must), hint))
    return found


def version_findings(server: Mapping[str, Any], kubectl: Mapping[str, Any] | None) -> list[Finding]:
    """The cluster's version, and kubectl's distance from it where there is a kubectl."""
    there = _minor(server)
    said = str(server.get("gitVersion") or "unknown")
    if there is None:
        return [Finding("cluster version", None, f"not understood: {said}", required=False)]
    new_enough = there >= OLDEST
    floor = ".".join(map(str, OLDEST))
    found = [
        Finding(
            "cluster version",
            new_enough,
            said if new_enough else f"{said} is older than {floor}",
            hint="" if new_enough else f"Upgrade the cluster to {floor} or newer",
        )
    ]
    if kubectl is not None:
        here = _minor(kubectl)
        near = here is not None and here[0] == there[0] and abs(here[1] - there[1]) <= 1
        detail = str(kubectl.get("gitVersion") or "unknown")
        detail += "" if near else f" is more than one minor version away from the cluster's {said}"
        hint = "" if near else "Nothing here needs kubectl; install one that fits before using it by hand"
        found.append(Finding("kubectl version", near, detail, required=False, hint=hint))
    return found


def api_findings(served: set[str], manifests: Sequence[Object]) -> list[Finding]:
    """Whether the server serves each API version that the manifests and the lock are written in."""
    wanted = {str(manifest["apiVersion"]) for manifest in manifests} | {"coordination.k8s.io/v1"}
    missing = sorted(wanted - served - {"v1"})
    if missing:
        return [
            Finding("APIs", False, f"not served: {', '.join(missing)}", hint="Enable the API or upgrade the cluster")
        ]
    return [Finding("APIs", True, " ".join(sorted(wanted)))]


def metrics_finding(served: set[str], answered: bool) -> Finding:
    """Whether an autoscaler will find measured values."""
    if "metrics.k8s.io/v1beta1" not in served:
        detail, hint = "the metrics API is not there: the autoscaler would not scale", "Install metrics-server"
        return Finding("metrics API", False, detail, hint=hint)
    if not answered:
        detail = "the metrics API is registered and does not answer: the autoscaler would not scale"
        return Finding("metrics API", False, detail, hint="Look at the pods of metrics-server in kube-system")
    return Finding("metrics API", True, "answers")


def namespace_finding(namespace: str, live: Object | None, *, manage_namespace: bool, readable: bool) -> Finding:
    """Whether the namespace can take a release; C(live) None where it does not exist."""
    if not readable:
        return Finding("namespace", None, f"{namespace}: no permission to read it", required=False)
    if live is None and manage_namespace:
        return Finding("namespace", True, f"{namespace} will be created")
    if live is None:
        hint = "Create it, or set namespace_config_manage_namespace to true"
        return Finding("namespace", False, f"{namespace} does not exist", hint=hint)
    if live["metadata"].get("deletionTimestamp"):
        why = [c["message"] for c in live.get("status", {}).get("conditions") or [] if c.get("status") == "True"]
        detail = f"{namespace} is being deleted since {live['metadata']['deletionTimestamp']}"
        return Finding(
            "namespace",
            False,
            detail + (f": {'; '.join(why)}" if why else ""),
            hint="Wait until it is gone, or remove the finalizers that hold it",
        )
    return Finding("namespace", True, f"{namespace} is {live.get('status', {}).get('phase') or 'there'}")


def clock_finding(date: str | None, now: float) -> Finding:
    """How far this machine's clock is from the server's; C(now) in seconds since the epoch."""
    try:
        skew = now - parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return Finding("clock", None, "the server does not tell the time", required=False)
    detail = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server"
    if abs(skew) <= 30:
        return Finding("clock", True, "within 30 s of the server's")
    hint = "Set this machine's clock: logins fail when it is off by minutes"
    return Finding("clock", False, detail, required=abs(skew) > 300, hint=hint)


def quota_findings(quotas: Sequence[Object], manifests: Sequence[Object], live: Object | None) -> list[Finding]:
    """Whether the pods that a rollout adds for a while fit into each quota of the namespace.

    :param live: the Deployment as it is, None where there is none yet.
    """
    deployment = next((manifest for manifest in manifests if manifest["kind"] == "Deployment"), None)
    if deployment is None:
        return []
    found = []
    extra = _extra_pods(deployment["spec"], live)
    for quota in quotas:
        name = f"quota {quota['metadata']['name']}"
        status = quota.get("status") or {}
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            found.append(Finding(name, None, "has scopes, not checked", required=False))
            continue
        tight = []
        for resource, hard in (status.get("hard") or {}).items():
            each = _per_pod(deployment["spec"]["template"]["spec"], resource)
            used = (status.get("used") or {}).get(resource, "0")
            if each is not None and number(used) + each * extra > number(hard):
                tight.append(f"{resource} {used} of {hard} are used, {_plain(each * extra)} more are needed")
        detail = f"{extra} more pods for the rollout: " + ("; ".join(tight) if tight else "they fit")
        hint = "Raise the quota, or lower replicas, requests or limits"
        found.append(Finding(name, not tight, detail, hint=hint if tight else ""))
    return found


def gke_findings(gke: Mapping[str, Any] | None, manifests: Sequence[Object]) -> list[Finding]:
    """What gke_credentials returned, where it ran: the cluster's status, and the pool for workload identity."""
    if not gke:
        return []
    status = str(gke.get("cluster_status") or "unknown")
    fine = status in ("RUNNING", "RECONCILING")
    found = [Finding("cluster status", fine, f"{status} {gke.get('cluster_version') or ''}".strip(), required=False)]
    bound = [
        str((m["metadata"].get("annotations") or {})[GCP_ACCOUNT])
        for m in manifests
        if m["kind"] == "ServiceAccount" and (m["metadata"].get("annotations") or {}).get(GCP_ACCOUNT)
    ]
    if bound:
        pool = str(gke.get("workload_pool") or "")
        detail = pool or f"the cluster has none, and the pods shall act as {', '.join(bound)}"
        hint = "" if pool else "Enable it: gcloud container clusters update --workload-pool=PROJECT.svc.id.goog"
        found.append(Finding("workload identity pool", bool(pool), detail, hint=hint))
    return found


def table(findings: Sequence[Finding]) -> list[str]:
    """The findings as lines for a person."""
    marks = {True: "ok", None: "-"}
    width = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in findings:
        mark = "FAIL" if finding.ok is False and finding.required else marks.get(finding.ok, "warn")
        hint = f". {finding.hint}" if finding.hint and finding.ok is not True else ""
        lines.append(f"{mark:<4}  {finding.check:<{width}}  {finding.detail}{hint}")
    return lines


def result(findings: Sequence[Finding]) -> dict[str, Any]:
    """The return values of the preflight module."""
    failed = [finding for finding in findings if finding.ok is False and finding.required]
    said = "; ".join(f"{f.check}: {f.detail}" + (f". {f.hint}" if f.hint else "") for f in failed)
    many = f"{len(failed)} things stand" if len(failed) > 1 else "One thing stands"
    return {
        "ok": not failed,
        "msg": f"{many} in the way of a release: {said}" if failed else "Nothing stands in the way of a release",
        "findings": [finding._asdict() for finding in findings],
        "table": table(findings),
    }


def examine(
    cluster: Cluster,
    namespace: str,
    manifests: Sequence[Object],
    *,
    manage_namespace: bool,
    gke: Mapping[str, Any] | None,
    image: Callable[[], Finding | None],
    clock: Callable[[], float] = time.time,
    kubectl: Callable[[], Mapping[str, Any] | None] | None = None,
) -> dict[str, Any]:
    """Ask the cluster everything and write nothing. Raises Unreachable, and ApiError when the login is refused."""
    version = cluster.request("GET", "/version")
    wanted = needs(manifests, manage_namespace=manage_namespace)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen_image = pool.submit(image)
        asked = dict(zip(wanted, pool.map(lambda need: _review(cluster, need, namespace), wanted), strict=True))
        groups = cluster.request("GET", "/apis").body.get("groups") or []
        served = {str(version["groupVersion"]) for group in groups for version in group["versions"]}
        live, readable = _maybe(cluster, f"/api/v1/namespaces/{namespace}")
        quotas, _ = _maybe(cluster, f"/api/v1/namespaces/{namespace}/resourcequotas")
        deployment = next((manifest for manifest in manifests if manifest["kind"] == "Deployment"), None)
        path = collection_path(KINDS["Deployment"], namespace)
        running = _maybe(cluster, f"{path}/{deployment['metadata']['name']}")[0] if deployment else None
        findings = gke_findings(gke, manifests)
        findings += version_findings(version.body, (kubectl or _kubectl)())
        findings += api_findings(served, manifests)
        if any(manifest["kind"] == "HorizontalPodAutoscaler" for manifest in manifests):
            findings.append(metrics_finding(served, _answers(cluster, "/apis/metrics.k8s.io/v1beta1")))
        findings.append(namespace_finding(namespace, live, manage_namespace=manage_namespace, readable=readable))
        findings += access_findings(asked, namespace)
        findings += quota_findings((quotas or {}).get("items") or [], manifests, running)
        if (pictured := seen_image.result()) is not None:
            findings.append(pictured)
        findings.append(clock_finding(version.headers.get("Date"), clock()))
    return result(findings)


def image_finding(image: str, look: Callable[[], Mapping[str, Any]]) -> Finding:
    """Whether the registry has the image; what this machine cannot see, the cluster may see nevertheless."""
    try:
        return Finding("image", True, f"{image} is {look()['digest']}")
    except InferenceError as error:
        gone = error.fields.get("status") == 404
        detail = error.what if gone else f"not checked: {error.what}"
        return Finding("image", False if gone else None, detail, required=gone, hint=error.hint)


def _review(cluster: Cluster, need: Need, namespace: str) -> str | None:
    resource, _, subresource = need.resource.partition("/")
    attributes = {"group": need.group, "resource": resource, "subresource": subresource, "verb": need.verb}
    if need != Need("", "namespaces", "create"):
        # A Namespace counts as being in itself, so that a Role there can let it be read; none can let it be created.
        attributes["namespace"] = namespace
    if resource == "namespaces":
        attributes["name"] = namespace
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    answer = cluster.request("POST", REVIEWS, body={**body, "spec": {"resourceAttributes": attributes}})
    status = answer.body.get("status") or {}
    return None if status.get("allowed") else str(status.get("reason") or "")


def _maybe(cluster: Cluster, path: str) -> tuple[Object | None, bool]:
    """The object or None, and whether this user may read it."""
    try:
        return cluster.request("GET", path).body, True
    except ApiError as error:
        if error.status in (403, 404):
            return None, error.status == 404
        raise


def _answers(cluster: Cluster, path: str) -> bool:
    try:
        cluster.request("GET", path, patience=0.0)
    except ApiError:
        return False
    return True


def _kubectl() -> Mapping[str, Any] | None:
    command = shutil.which("kubectl")
    if command is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - the path comes from which()
            [command, "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=10, check=True
        )
        found: Mapping[str, Any] = json.loads(done.stdout)["clientVersion"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
    return found


def _minor(version: Mapping[str, Any]) -> tuple[int, int] | None:
    found = re.match(r"v?(\d+)\.(\d+)", str(version.get("gitVersion") or ""))
    return (int(found[1]), int(found[2])) if found else None


def _extra_pods(spec: Mapping[str, Any], live: Object | None) -> int:
    """How many more pods there are at the height of a rollout than now."""
    now = int(((live or {}).get("status") or {}).get("replicas") or 0)
    wanted = int(spec.get("replicas") or ((live or {}).get("spec") or {}).get("replicas") or 1)
    if live is None:
        return wanted
    wanted = max(wanted, now)  # an autoscaler's count stays
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    surge = rolling.get("maxSurge", "25%")
    if isinstance(surge, str) and surge.endswith("%"):
        surge = -(-wanted * int(surge[:-1]) // 100)
    if (spec.get("strategy") or {}).get("type") == "Recreate":
        surge = 0
    return max(0, wanted + int(surge) - now)


def _per_pod(pod: Mapping[str, Any], resource: str) -> Decimal | None:
    """What one pod takes of a quota's resource; None for a resource that pods do not use."""
    if resource in ("pods", "count/pods"):
        return Decimal(1)
    bound, _, name = resource.rpartition(".")
    if name not in ("cpu", "memory", "ephemeral-storage") or bound not in ("", "requests", "limits"):
        return None

    def amount(container: Mapping[str, Any]) -> Decimal:
        resources = container.get("resources") or {}
        # A container that names a limit alone requests just that.
        asked = (resources.get(bound or "requests") or {}).get(name) or (resources.get("limits") or {}).get(name)
        return number(asked) if asked else Decimal(0)

    first = max((amount(container) for container in pod.get("initContainers") or []), default=Decimal(0))
    return max(first, sum((amount(container) for container in pod["containers"]), Decimal(0)))


def _plain(amount: Decimal) -> str:
    if amount >= 2**20 and amount % 2**20 == 0:
        return f"{amount // 2**20:f}Mi"
    return f"{amount.normalize():f}"
