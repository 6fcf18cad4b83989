"""What the recordings do not show, on a real server over loopback HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.sandbox.api.conftest import Cluster

Obj = dict[str, Any]
MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
MAPS = "/api/v1/namespaces/work/configmaps"
PODS = "/api/v1/namespaces/work/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/work/deployments"

pytestmark = pytest.mark.usefixtures("namespace")


def a_pod(name: str = "p", **spec: Any) -> Obj:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "api", "image": "x:1"}], **spec}}


def a_deployment(**spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "api", "image": "x:1"}]}}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def apply(cluster: Cluster, path: str, body: Obj, **query: str) -> httpx.Response:
    return cluster.http.patch(path, content=json.dumps(body), headers=APPLY, params={"fieldManager": "us", **query})


def eventually(check: Any) -> Any:
    """The first truthy answer; the namespace controller acts a moment later, as a real one does."""
    end = time.monotonic() + 10
    while not (found := check()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_a_namespace_goes_with_all_that_is_in_it(cluster: Cluster) -> None:
    cluster.make(MAPS, {"metadata": {"name": "c"}})
    cluster.make(PODS, a_pod())
    assert cluster.http.delete("/api/v1/namespaces/work").json()["status"] == {"phase": "Terminating"}
    eventually(lambda: cluster.http.get("/api/v1/namespaces/work").status_code == 404)
    assert cluster.http.get(f"{MAPS}/c").status_code == 404
    assert cluster.http.get("/api/v1/pods").json()["items"] == []


def test_a_namespace_says_what_holds_it(cluster: Cluster) -> None:
    cluster.make(MAPS, {"metadata": {"name": "held", "finalizers": ["example.test/hold"]}})
    cluster.http.delete("/api/v1/namespaces/work")

    def conditions() -> Obj:
        status = cluster.http.get("/api/v1/namespaces/work").json()["status"]
        return {c["type"]: c["message"] for c in status.get("conditions", [])}

    found = eventually(conditions)
    assert found["NamespaceContentRemaining"] == "Some resources are remaining: configmaps. has 1 resource instances"
    assert "example.test/hold in 1 resource instances" in found["NamespaceFinalizersRemaining"]
    cluster.http.patch(f"{MAPS}/held", json={"metadata": {"finalizers": None}}, headers=MERGE)
    eventually(lambda: cluster.http.get("/api/v1/namespaces/work").status_code == 404)


def owned_by(owner: Obj, name: str) -> Obj:
    ref = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
           "uid": owner["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}  # fmt: skip
    return {"metadata": {"name": name, "ownerReferences": [ref]}}


@pytest.mark.parametrize(("policy", "left"), [("Background", False), ("Foreground", False), ("Orphan", True)])
def test_dependents_follow_their_owner_by_policy(cluster: Cluster, policy: str, left: bool) -> None:
    owner = cluster.make(DEPLOYMENTS, a_deployment())
    cluster.make(MAPS, owned_by(owner, "child"))
    answer = cluster.http.request("DELETE", f"{DEPLOYMENTS}/web", json={"propagationPolicy": policy})
    assert answer.status_code == 200
    assert cluster.http.get(f"{DEPLOYMENTS}/web").status_code == 404
    child = cluster.http.get(f"{MAPS}/child")
    assert (child.status_code == 200) is left
    assert not left or "ownerReferences" not in child.json()["metadata"]


def test_a_foreground_owner_waits_for_its_dependents(cluster: Cluster) -> None:
    owner = cluster.make(DEPLOYMENTS, a_deployment())
    child = owned_by(owner, "child")
    child["metadata"]["finalizers"] = ["example.test/hold"]
    cluster.make(MAPS, child)
    body = cluster.http.request("DELETE", f"{DEPLOYMENTS}/web", json={"propagationPolicy": "Foreground"}).json()
    assert body["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert "deletionTimestamp" in cluster.http.get(f"{MAPS}/child").json()["metadata"]
    cluster.http.patch(f"{MAPS}/child", json={"metadata": {"finalizers": None}}, headers=MERGE)
    assert cluster.http.get(f"{DEPLOYMENTS}/web").status_code == 404


def test_a_child_of_nobody_is_collected(cluster: Cluster) -> None:
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gone", "uid": "gone"}}
    cluster.make(MAPS, owned_by(owner, "child"))
    eventually(lambda: cluster.http.get(f"{MAPS}/child").status_code == 404)


def test_a_bound_pod_waits_for_its_kubelet(cluster: Cluster) -> None:
    cluster.make(PODS, a_pod(terminationGracePeriodSeconds=5))
    cluster.make(f"{PODS}/p/binding", {"target": {"name": "node1"}})
    meta = cluster.http.delete(f"{PODS}/p").json()["metadata"]
    assert (meta["deletionGracePeriodSeconds"], meta["generation"]) == (5, 2)
    assert cluster.http.get(f"{PODS}/p").status_code == 200
    cluster.http.request("DELETE", f"{PODS}/p", json={"gracePeriodSeconds": 0})
    assert cluster.http.get(f"{PODS}/p").status_code == 404


def test_a_delete_keeps_to_its_preconditions(cluster: Cluster) -> None:
    cluster.make(MAPS, {"metadata": {"name": "c"}})
    answer = cluster.http.request("DELETE", f"{MAPS}/c", json={"preconditions": {"uid": "other"}})
    assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
    assert cluster.http.delete(f"{MAPS}/c", params={"dryRun": "All"}).status_code == 200
    assert cluster.http.get(f"{MAPS}/c").status_code == 200


def test_a_collection_is_deleted_by_selector(cluster: Cluster) -> None:
    for name, label in (("a", "x"), ("b", "y")):
        cluster.make(MAPS, {"metadata": {"name": name, "labels": {"l": label}}})
    assert cluster.http.delete(MAPS, params={"labelSelector": "l=x"}).status_code == 200
    names = [item["metadata"]["name"] for item in cluster.http.get(MAPS).json()["items"]]
    assert names == ["b", "kube-root-ca.crt"]


# --- watches ----------------------------------------------------------------------------------------------------------


@contextmanager
def watching(cluster: Cluster, path: str, **query: str) -> Iterator[Iterator[Obj]]:
    with cluster.http.stream("GET", path, params={"watch": "1", "timeoutSeconds": "20", **query}) as answer:
        yield (json.loads(line) for line in answer.iter_lines())


def test_a_watch_resumes_where_it_broke(cluster: Cluster) -> None:
    version = cluster.http.get(MAPS).json()["metadata"]["resourceVersion"]
    cluster.make(MAPS, {"metadata": {"name": "c"}})
    cluster.http.patch(f"{MAPS}/c", json={"data": {"a": "b"}}, headers=MERGE)
    with watching(cluster, MAPS, resourceVersion=version) as events:
        assert [next(events)["type"] for _ in range(2)] == ["ADDED", "MODIFIED"]
        cluster.http.delete(f"{MAPS}/c")
        assert next(events)["type"] == "DELETED"


def test_a_selector_sees_an_object_come_and_go(cluster: Cluster) -> None:
    version = cluster.http.get(MAPS).json()["metadata"]["resourceVersion"]
    with watching(cluster, MAPS, resourceVersion=version, labelSelector="l=x") as events:
        cluster.make(MAPS, {"metadata": {"name": "c"}})
        for label in ("x", "y"):
            cluster.http.patch(f"{MAPS}/c", json={"metadata": {"labels": {"l": label}}}, headers=MERGE)
        assert [next(events)["type"] for _ in range(2)] == ["ADDED", "DELETED"]


def test_a_dropped_watch_breaks_and_an_expired_one_is_told(cluster: Cluster) -> None:
    version = cluster.http.get(MAPS).json()["metadata"]["resourceVersion"]
    with watching(cluster, MAPS) as events:
        assert next(events)["type"] == "ADDED"
        assert cluster.http.post("/sandbox/watches/drop").status_code == 200
        with pytest.raises(httpx.TransportError):
            list(events)
    cluster.make(MAPS, {"metadata": {"name": "c"}})
    assert cluster.http.post("/sandbox/history/expire").status_code == 200
    with watching(cluster, MAPS, resourceVersion=version) as events:
        event = next(events)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_a_watch_of_a_list_ends_its_beginning_with_a_bookmark(cluster: Cluster) -> None:
    query = {"sendInitialEvents": "true", "allowWatchBookmarks": "true", "resourceVersionMatch": "NotOlderThan"}
    with watching(cluster, MAPS, **query) as events:
        assert next(events)["type"] == "ADDED"
        bookmark = next(events)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


# --- writing ----------------------------------------------------------------------------------------------------------


def test_strict_validation_refuses_what_warn_only_names(cluster: Cluster) -> None:
    body = a_deployment(nonsense=1)
    warned = cluster.http.post(DEPLOYMENTS, json=body, params={"dryRun": "All"})
    assert warned.headers["warning"] == '299 - "unknown field \\"spec.nonsense\\""'
    refused = cluster.http.post(DEPLOYMENTS, json=body, params={"fieldValidation": "Strict"})
    assert refused.status_code == 400
    assert refused.json()["message"].endswith('strict decoding error: unknown field "spec.nonsense"')
    assert cluster.http.get(f"{DEPLOYMENTS}/web").status_code == 404


def test_an_apply_names_the_field_that_does_not_exist(cluster: Cluster) -> None:
    body = a_deployment()
    body["spec"]["template"]["spec"]["containers"][0]["imgae"] = "x"
    answer = apply(cluster, f"{DEPLOYMENTS}/web", body)
    assert answer.status_code == 500
    assert answer.json()["message"] == (
        "failed to create typed patch object (work/web; apps/v1, Kind=Deployment): "
        '.spec.template.spec.containers[name="api"].imgae: field not declared in schema'
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"replicas": "2"}, ".spec.replicas: expected numeric (int or float), got string"),
        ({"paused": "yes"}, ".spec.paused: expected boolean, got &{yes}"),
    ],
)
def test_an_apply_of_the_wrong_type_is_refused(cluster: Cluster, spec: Obj, message: str) -> None:
    assert message in apply(cluster, f"{DEPLOYMENTS}/web", a_deployment(**spec)).json()["message"]


def test_a_list_item_that_its_only_owner_drops_goes(cluster: Cluster) -> None:
    body = a_deployment()
    body["spec"]["template"]["spec"]["containers"].append({"name": "two", "image": "y:1"})
    assert apply(cluster, f"{DEPLOYMENTS}/web", body).status_code == 201
    body["spec"]["template"]["spec"]["containers"].pop()
    spec = apply(cluster, f"{DEPLOYMENTS}/web", body).json()["spec"]
    assert [c["name"] for c in spec["template"]["spec"]["containers"]] == ["api"]


def test_kubectl_takes_over_from_its_own_client_side_apply(cluster: Cluster) -> None:
    body = a_deployment(replicas=1)
    note = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(body)}
    made = {**body, "metadata": {"name": "web", "annotations": note}}
    cluster.make(DEPLOYMENTS, made, fieldManager="kubectl-client-side-apply")
    body["spec"]["replicas"] = 2
    assert apply(cluster, f"{DEPLOYMENTS}/web", body).status_code == 409
    assert apply(cluster, f"{DEPLOYMENTS}/web", body, fieldManager="kubectl").status_code == 200


def test_a_strategic_patch_merges_by_key_and_replaces_on_request(cluster: Cluster) -> None:
    body = a_deployment()
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "2"},
    ]
    cluster.make(DEPLOYMENTS, body)

    def patched(env: list[Obj]) -> Any:
        spec = {"template": {"spec": {"containers": [{"name": "api", "env": env}]}}}
        answer = cluster.http.patch(f"{DEPLOYMENTS}/web", json={"spec": spec}, headers=STRATEGIC)
        assert answer.status_code == 200, answer.text
        return answer.json()["spec"]["template"]["spec"]["containers"][0]["env"]

    assert patched([{"name": "B", "value": "3"}]) == [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]
    assert patched([{"$patch": "replace"}, {"name": "C", "value": "4"}]) == [{"name": "C", "value": "4"}]


def test_generation_counts_changes_of_the_spec_alone(cluster: Cluster) -> None:
    cluster.make(DEPLOYMENTS, a_deployment())
    for patch, generation in (({"metadata": {"labels": {"a": "b"}}}, 1), ({"spec": {"replicas": 3}}, 2),
                              ({"spec": {"replicas": 3}}, 2)):  # fmt: skip
        answer = cluster.http.patch(f"{DEPLOYMENTS}/web", json=patch, headers=MERGE)
        assert answer.json()["metadata"]["generation"] == generation


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"minReplicas": 0}, "spec.minReplicas", "Invalid value: 0: must be greater than or equal to 1"),
        ({"minReplicas": 9}, "spec.maxReplicas", "Invalid value: 4: must be greater than or equal to `minReplicas`"),
    ],
)
def test_an_autoscaler_is_checked(cluster: Cluster, spec: Obj, field: str, message: str) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    body = {"metadata": {"name": "web"}, "spec": {"scaleTargetRef": target, "maxReplicas": 4, **spec}}
    path = "/apis/autoscaling/v2/namespaces/work/horizontalpodautoscalers"
    (cause,) = cluster.http.post(path, json=body).json()["details"]["causes"]
    assert (cause["field"], cause["message"]) == (field, message)


def test_times_come_back_as_the_server_writes_them(cluster: Cluster) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/work/leases"
    lease = {"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-01T01:00:00.000000+01:00"}}
    assert cluster.make(path, lease)["spec"]["renewTime"] == "2026-01-01T00:00:00.000000Z"
    lease["spec"]["renewTime"] = "soon"
    assert cluster.http.post(path, json=lease).status_code == 400


def test_a_secret_has_its_limit(cluster: Cluster) -> None:
    body = {"metadata": {"name": "s"}, "stringData": {"a": "x" * (1024 * 1024 + 1)}}
    (cause,) = cluster.http.post("/api/v1/namespaces/work/secrets", json=body).json()["details"]["causes"]
    assert cause["message"] == "Too long: may not be more than 1048576 bytes"


def test_a_service_keeps_its_addresses_through_a_replace(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/work/services"
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": "web"}}
    made = cluster.make(path, {"metadata": {"name": "web"}, "spec": spec})["spec"]
    again = cluster.http.put(f"{path}/web", json={"metadata": {"name": "web"}, "spec": spec}).json()["spec"]
    assert again == made
    inside = cluster.http.patch(f"{path}/web", json={"spec": {"type": "ClusterIP"}}, headers=MERGE).json()["spec"]
    assert inside["clusterIP"] == made["clusterIP"]
    assert "nodePort" not in inside["ports"][0]
    assert "externalTrafficPolicy" not in inside


# --- admission --------------------------------------------------------------------------------------------------------


def test_a_quota_counts_and_frees(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/work/resourcequotas"
    cluster.make(path, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1", "count/deployments.apps": "1"}}})

    def used() -> Obj:
        found: Obj = cluster.http.get(f"{path}/q").json()["status"]["used"]
        return found

    assert used() == {"pods": "0", "count/deployments.apps": "0"}
    cluster.make(PODS, a_pod("one"))
    refused = cluster.http.post(PODS, json=a_pod("two"))
    assert refused.status_code == 403
    assert "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1" in refused.json()["message"]
    assert used()["pods"] == "1"
    cluster.http.patch(f"{PODS}/one/status", json={"status": {"phase": "Succeeded"}}, headers=MERGE)
    assert used()["pods"] == "0"
    cluster.make(PODS, a_pod("two"))


@pytest.mark.parametrize(
    ("spec", "violation"),
    [
        ({"hostPID": True}, "host namespaces (hostPID=true)"),
        ({"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}, 'hostPath volumes (volume "h")'),
        ({"containers": [{"name": "api", "image": "x:1", "securityContext": {"privileged": True}}]},
         'privileged (container "api" must not set securityContext.privileged=true)'),
    ],
)  # fmt: skip
def test_baseline_refuses(cluster: Cluster, spec: Obj, violation: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    cluster.http.patch("/api/v1/namespaces/work", json={"metadata": {"labels": labels}}, headers=MERGE)
    answer = cluster.http.post(PODS, json=a_pod(**spec))
    assert answer.status_code == 403
    assert answer.json()["message"] == f'pods "p" is forbidden: violates PodSecurity "baseline:latest": {violation}'
    cluster.make(PODS, a_pod())


def test_a_pod_needs_its_service_account(cluster: Cluster) -> None:
    answer = cluster.http.post(PODS, json=a_pod(serviceAccountName="absent"))
    assert answer.status_code == 403
    assert answer.json()["message"].endswith('serviceaccount "absent" not found')


# --- access -----------------------------------------------------------------------------------------------------------


def test_a_token_dies_with_its_account_and_grants_no_more_than_its_role(cluster: Cluster) -> None:
    cluster.make("/api/v1/namespaces/work/serviceaccounts", {"metadata": {"name": "bot"}})
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/work"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["mine"]},
             {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"]}]  # fmt: skip
    cluster.make(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "bot", "namespace": "work"}
    role = {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}
    cluster.make(f"{rbac}/rolebindings", {"metadata": {"name": "b"}, "subjects": [subject], "roleRef": role})
    answer = cluster.make("/api/v1/namespaces/work/serviceaccounts/bot/token", {"spec": {}})
    with cluster.client(answer["status"]["token"]) as bot:
        assert bot.get(f"{MAPS}/mine").status_code == 404
        assert bot.get(f"{MAPS}/other").status_code == 403
        more = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
        escalation = bot.post(f"{rbac}/roles", json={"metadata": {"name": "more"}, "rules": more})
        assert "attempting to grant RBAC permissions not currently held" in escalation.json()["message"]
        assert bot.get("/sandbox/health").status_code == 403
        cluster.http.delete("/api/v1/namespaces/work/serviceaccounts/bot")
        assert bot.get(f"{MAPS}/mine").status_code == 401


# --- proxy, eviction, scale -------------------------------------------------------------------------------------------


@contextmanager
def backend() -> Iterator[int]:
    class Echo(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.send_header("X-Pod-Name", "p")
            self.end_headers()
            self.wfile.write(self.path.encode() + b" " + body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def a_service(cluster: Cluster, port: int, *, ready: bool) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    cluster.make("/api/v1/namespaces/work/services", {"metadata": {"name": "web"}, "spec": {"ports": ports}})
    cluster.make("/apis/discovery.k8s.io/v1/namespaces/work/endpointslices", {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
        "ports": [{"name": "http", "port": port}],
    })  # fmt: skip


@pytest.mark.parametrize("name", ["web", "web:80", "web:http", "http:web:http"])
def test_the_service_proxy_reaches_a_ready_endpoint(cluster: Cluster, name: str) -> None:
    with backend() as port:
        a_service(cluster, port, ready=True)
        path = f"/api/v1/namespaces/work/services/{name}/proxy/predict"
        answer = cluster.http.post(path, params={"a": "b"}, content=b"body")
    assert (answer.status_code, answer.text) == (201, "/predict?a=b body")
    assert answer.headers["x-pod-name"] == "p"


def test_the_service_proxy_says_why_it_cannot(cluster: Cluster) -> None:
    with backend() as port:
        a_service(cluster, port, ready=False)
    root = "/api/v1/namespaces/work/services"
    answer = cluster.http.get(f"{root}/web/proxy/")
    assert (answer.status_code, answer.json()["message"]) == (503, 'no endpoints available for service "web"')
    assert cluster.http.get(f"{root}/absent/proxy/").status_code == 404
    slice_ = "/apis/discovery.k8s.io/v1/namespaces/work/endpointslices/web-1"
    endpoints = [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}]
    assert cluster.http.patch(slice_, json={"endpoints": endpoints}, headers=MERGE).status_code == 200
    answer = cluster.http.get(f"{root}/web/proxy/")
    assert answer.status_code == 503
    assert "connect: connection refused" in answer.json()["message"]


def test_an_eviction_uses_up_its_budget(cluster: Cluster) -> None:
    budgets = "/apis/policy/v1/namespaces/work/poddisruptionbudgets"
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    cluster.make(budgets, {"metadata": {"name": "b"}, "spec": spec})
    for name in ("one", "two"):
        body = a_pod(name)
        body["metadata"]["labels"] = {"app": "web"}
        cluster.make(PODS, body)
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        cluster.http.patch(f"{PODS}/{name}/status", json={"status": status}, headers=MERGE)

    def evict(name: str) -> httpx.Response:
        return cluster.http.post(f"{PODS}/{name}/eviction", json={"metadata": {"name": name}})

    early = evict("one")
    assert early.status_code == 429
    assert "still being processed" in early.json()["details"]["causes"][0]["message"]
    status = {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "observedGeneration": 1}
    cluster.http.patch(f"{budgets}/b/status", json={"status": status}, headers=MERGE)
    assert evict("one").status_code == 201
    assert cluster.http.get(f"{PODS}/one").status_code == 404
    assert evict("two").status_code == 429


# --- the sandbox's own doors ------------------------------------------------------------------------------------------


def test_faults_come_and_go(cluster: Cluster) -> None:
    fault = {"status": 429, "retry_after": 2, "count": 1, "path": "configmaps", "verbs": ["list"]}
    assert cluster.http.post("/sandbox/faults", json=fault).status_code == 200
    assert cluster.http.get("/api/v1/namespaces/work").status_code == 200
    refused = cluster.http.get(MAPS)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert cluster.http.get(MAPS).status_code == 200
    cluster.http.post("/sandbox/faults", json={"refuse": True})
    with pytest.raises(httpx.TransportError):
        cluster.http.get(MAPS)
    cluster.http.delete("/sandbox/faults")
    assert cluster.http.get(MAPS).status_code == 200
    assert cluster.http.post("/sandbox/faults", json={"nonsense": 1}).status_code == 400


def test_the_audit_log_tells_writes_from_dry_runs(cluster: Cluster) -> None:
    cluster.audit.write_text("")
    cluster.make(MAPS, {"metadata": {"name": "c"}}, dryRun="All")
    cluster.make(MAPS, {"metadata": {"name": "c"}})
    cluster.http.get(f"{MAPS}/c")
    cluster.http.get("/sandbox/health")
    lines = [json.loads(line) for line in cluster.audit.read_text().splitlines()]
    seen = [(line["verb"], line["dryRun"], line["code"], line["user"]) for line in lines]
    assert seen == [("create", True, 201, "kubernetes-admin"), ("create", False, 201, "kubernetes-admin"),
                    ("get", False, 200, "kubernetes-admin")]  # fmt: skip


def test_openapi_gives_kubectl_shapes_and_merge_keys(cluster: Cluster) -> None:
    index = cluster.http.get("/openapi/v3").json()["paths"]
    document = cluster.http.get(index["apis/apps/v1"]["serverRelativeURL"]).json()
    spec = document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert spec["x-kubernetes-patch-merge-key"] == "name"
    assert "io.k8s.api.apps.v1.Deployment" in cluster.http.get("/openapi/v2").json()["definitions"]
