"""The kinds that the sandbox serves: one row each."""

from __future__ import annotations

from dataclasses import dataclass

_ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Kind:
    """A resource type. `generation`: whether spec changes are counted in metadata.generation."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    selectable: tuple[str, ...] = ()
    generation: bool = False
    verbs: tuple[str, ...] = _ALL
    returned: bool = False  # a delete answers with the object, not with a Status

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def definition(self) -> str:
        return f"io.k8s.api.{(self.group or 'core').split('.')[0]}.{self.version}.{self.kind}"

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources


_POD_FIELDS = (
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
    "status.phase", "status.podIP", "status.nominatedNodeName",
)  # fmt: skip
_POD_DOORS = ("binding", "eviction", "log", "proxy", "status")
_EVENT_FIELDS = (
    *(f"involvedObject.{key}" for key in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")),
    "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type",
)  # fmt: skip
_SCALED = ("scale", "status")
_REVIEW = ("create",)

KINDS = (
    Kind("ConfigMap", "", "v1", "configmaps", short=("cm",)),
    Kind("Endpoints", "", "v1", "endpoints", short=("ep",)),
    Kind("Event", "", "v1", "events", short=("ev",), selectable=_EVENT_FIELDS),
    Kind("LimitRange", "", "v1", "limitranges", short=("limits",)),
    Kind("Namespace", "", "v1", "namespaces", False, ("ns",), subresources=("finalize", "status"),
         selectable=("status.phase",), verbs=tuple(v for v in _ALL if v != "deletecollection"), returned=True),
    Kind("Node", "", "v1", "nodes", False, ("no",), subresources=("status",), selectable=("spec.unschedulable",)),
    Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims", short=("pvc",), subresources=("status",),
         returned=True),
    Kind("Pod", "", "v1", "pods", short=("po",), categories=("all",), subresources=_POD_DOORS,
         selectable=_POD_FIELDS, generation=True, returned=True),
    Kind("ResourceQuota", "", "v1", "resourcequotas", short=("quota",), subresources=("status",), returned=True),
    Kind("Secret", "", "v1", "secrets", selectable=("type",)),
    Kind("Service", "", "v1", "services", short=("svc",), categories=("all",), subresources=("proxy", "status"),
         selectable=("spec.clusterIP", "spec.type"), returned=True),
    Kind("ServiceAccount", "", "v1", "serviceaccounts", short=("sa",), subresources=("token",), returned=True),
    Kind("Deployment", "apps", "v1", "deployments", short=("deploy",), categories=("all",), subresources=_SCALED,
         generation=True),
    Kind("ReplicaSet", "apps", "v1", "replicasets", short=("rs",), categories=("all",), subresources=_SCALED,
         selectable=("status.replicas",), generation=True),
    Kind("Event", "events.k8s.io", "v1", "events", short=("ev",), selectable=("regarding.name", "reason", "type")),
    Kind("SelfSubjectReview", "authentication.k8s.io", "v1", "selfsubjectreviews", False, verbs=_REVIEW),
    Kind("LocalSubjectAccessReview", "authorization.k8s.io", "v1", "localsubjectaccessreviews", verbs=_REVIEW),
    Kind("SelfSubjectAccessReview", "authorization.k8s.io", "v1", "selfsubjectaccessreviews", False, verbs=_REVIEW),
    Kind("SelfSubjectRulesReview", "authorization.k8s.io", "v1", "selfsubjectrulesreviews", False, verbs=_REVIEW),
    Kind("SubjectAccessReview", "authorization.k8s.io", "v1", "subjectaccessreviews", False, verbs=_REVIEW),
    Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers", short=("hpa",),
         categories=("all",), subresources=("status",)),
    Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies", short=("netpol",), generation=True),
    Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", short=("pdb",), subresources=("status",),
         generation=True),
    Kind("ClusterRole", _RBAC, "v1", "clusterroles", False),
    Kind("ClusterRoleBinding", _RBAC, "v1", "clusterrolebindings", False),
    Kind("Role", _RBAC, "v1", "roles"),
    Kind("RoleBinding", _RBAC, "v1", "rolebindings"),
    Kind("Lease", "coordination.k8s.io", "v1", "leases"),
    Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", generation=True),
    Kind("NodeMetrics", "metrics.k8s.io", "v1beta1", "nodes", False, verbs=("get", "list")),
    Kind("PodMetrics", "metrics.k8s.io", "v1beta1", "pods", verbs=("get", "list")),
)  # fmt: skip

# "Event" names the core kind; events.k8s.io is another view of the same store.
BY_KIND = {kind.kind: kind for kind in reversed(KINDS)}
BY_PATH = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
EVENTS = BY_PATH["events.k8s.io", "v1", "events"]
STORED = tuple(kind for kind in KINDS if "delete" in kind.verbs and kind is not EVENTS)
