"""Who may do what: roles and bindings, refusals and their words, access reviews, tokens."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.contract.bodies import causes, config, deployment
from tests.contract.client import Client, Obj, until
from tests.contract.space import Space

_RBAC = "rbac.authorization.k8s.io"


def _rule(resources: str, verbs: str, group: str = "", **more: Any) -> Obj:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split(), **more}


def _subject(ns: Space) -> Obj:
    return {"kind": "ServiceAccount", "name": "worker", "namespace": ns.name}


def _token(ns: Space, **spec: Any) -> Obj:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    made: Obj = ns.api.post(ns.path("serviceaccounts", "worker", "token"), body).ok(201)
    return made


def _worker(ns: Space, *rules: Obj) -> Space:
    """The same namespace as seen by a new account with these rules."""
    ns.make("serviceaccounts", {"metadata": {"name": "worker"}})
    if rules:
        ns.make("roles", {"metadata": {"name": "worker"}, "rules": list(rules)})
        ref = {"apiGroup": _RBAC, "kind": "Role", "name": "worker"}
        ns.make("rolebindings", {"metadata": {"name": "worker"}, "roleRef": ref, "subjects": [_subject(ns)]})
    return Space(ns.api.acting_as(_token(ns)["status"]["token"]), ns.name)


def _user(ns: Space) -> str:
    return f"system:serviceaccount:{ns.name}:worker"


def _review(api: Client, **attributes: str) -> Obj:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes}}  # fmt: skip
    status: Obj = api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body).ok(201)["status"]
    return status


def _allowed(api: Client, **attributes: str) -> bool:
    return bool(_review(api, **attributes)["allowed"])


def test_a_role_allows_what_it_says_and_no_more(ns: Space) -> None:
    worker = _worker(ns, _rule("configmaps", "get create"))
    until("the role is seen", lambda: worker.post("configmaps", config()).status == 201)
    assert worker.get("configmaps", "config")["data"]
    worker.delete("configmaps", "config").refused(403, "Forbidden")
    worker.api.get(worker.path("configmaps")).refused(403, "Forbidden")


def test_an_account_without_a_role_may_nothing(ns: Space) -> None:
    worker = _worker(ns)
    status = worker.api.get(worker.path("pods")).refused(403, "Forbidden")
    text = f'User "{_user(ns)}" cannot list resource "pods" in API group "" in the namespace "{ns.name}"'
    assert status["message"] == f"pods is forbidden: {text}"
    assert status["details"] == {"kind": "pods"}


def test_a_refusal_names_the_object(ns: Space) -> None:
    status = _worker(ns).patch("configmaps", "config", {"data": {}}).refused(403, "Forbidden")
    text = f'User "{_user(ns)}" cannot patch resource "configmaps" in API group "" in the namespace "{ns.name}"'
    assert status["message"] == f'configmaps "config" is forbidden: {text}'
    assert status["details"] == {"name": "config", "kind": "configmaps"}


def test_a_refusal_names_the_group(ns: Space) -> None:
    worker = _worker(ns)
    status = worker.apply("deployments", deployment()).refused(403, "Forbidden")
    text = f'User "{_user(ns)}" cannot patch resource "deployments" in API group "apps" in the namespace "{ns.name}"'
    assert status["message"] == f'deployments.apps "web" is forbidden: {text}'
    assert status["details"] == {"name": "web", "group": "apps", "kind": "deployments"}


def test_a_refusal_names_the_subresource(ns: Space) -> None:
    worker = _worker(ns, _rule("pods", "get"))
    until("the role is seen", lambda: worker.api.get(worker.path("pods", "absent")).status == 404)
    status = worker.api.get(worker.path("pods", "absent", "log")).refused(403, "Forbidden")
    assert 'cannot get resource "pods/log" in API group ""' in status["message"]


@pytest.mark.parametrize("plural", ["nodes", "namespaces"])
def test_a_refusal_at_the_clusters_scope(ns: Space, plural: str) -> None:
    status = _worker(ns).api.get(f"/api/v1/{plural}").refused(403, "Forbidden")
    text = f'User "{_user(ns)}" cannot list resource "{plural}" in API group "" at the cluster scope'
    assert status["message"] == f"{plural} is forbidden: {text}"


def test_a_role_in_a_namespace_does_not_reach_the_namespace(ns: Space) -> None:
    worker = _worker(ns, _rule("configmaps", "*"))
    until("the role is seen", lambda: worker.api.get(worker.path("configmaps")).status == 200)
    status = worker.api.get(f"/api/v1/namespaces/{ns.name}").refused(403, "Forbidden")
    text = f'User "{_user(ns)}" cannot get resource "namespaces" in API group "" in the namespace "{ns.name}"'
    assert status["message"] == f'namespaces "{ns.name}" is forbidden: {text}'


def test_a_role_ends_at_its_namespace(spaces: Any) -> None:
    here, there = spaces("privileged"), spaces("privileged")
    worker = _worker(here, _rule("configmaps", "list"))
    until("the role is seen", lambda: worker.api.get(here.path("configmaps")).status == 200)
    worker.api.get(there.path("configmaps")).refused(403, "Forbidden", f'in the namespace "{there.name}"')


def test_a_rule_can_name_its_objects(ns: Space) -> None:
    for name in ("a", "b"):
        ns.make("configmaps", config(name))
    worker = _worker(ns, _rule("configmaps", "get", resourceNames=["a"]))
    until("the role is seen", lambda: worker.api.get(worker.path("configmaps", "a")).status == 200)
    worker.api.get(worker.path("configmaps", "b")).refused(403, "Forbidden")


def test_a_star_means_all(ns: Space) -> None:
    worker = _worker(ns, _rule("*", "*", "*"))
    until("the role is seen", lambda: worker.post("configmaps", config()).status == 201)
    worker.post("deployments", deployment()).ok(201)


def test_apply_needs_patch_and_to_create_needs_create(ns: Space) -> None:
    ns.make("configmaps", config("there"))
    worker = _worker(ns, _rule("configmaps", "patch"))
    until("the role is seen", lambda: worker.apply("configmaps", config("there", B="2")).status == 200)
    worker.apply("configmaps", config("new")).refused(403, "Forbidden")


def test_a_right_ends_with_its_binding(ns: Space) -> None:
    worker = _worker(ns, _rule("configmaps", "list"))
    until("the role is seen", lambda: worker.api.get(worker.path("configmaps")).status == 200)
    ns.delete("rolebindings", "worker").ok(200)
    until("the right is gone", lambda: worker.api.get(worker.path("configmaps")).status == 403)


@pytest.fixture
def cluster_role(api: Client) -> Iterator[str]:
    """A ClusterRole that may read ConfigMaps, of a name that nobody else has; bound to nobody."""
    name = f"contract-{secrets.token_hex(5)}"
    path = f"/apis/{_RBAC}/v1/clusterroles"
    body = {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}}
    api.post(path, {**body, "rules": [_rule("configmaps", "get list")]}).ok(201)
    yield name
    api.delete(f"{path}/{name}").ok(200)


def test_a_cluster_role_can_be_bound_in_one_namespace(spaces: Any, cluster_role: str) -> None:
    here, there = spaces("privileged"), spaces("privileged")
    worker = _worker(here)
    ref = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": cluster_role}
    here.make("rolebindings", {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [_subject(here)]})
    until("the binding is seen", lambda: worker.api.get(here.path("configmaps")).status == 200)
    worker.api.get(there.path("configmaps")).refused(403, "Forbidden")


def test_nobody_grants_what_they_do_not_hold(ns: Space) -> None:
    worker = _worker(ns, _rule("roles", "create", _RBAC), _rule("configmaps", "get"))
    held = {"metadata": {"name": "held"}, "rules": [_rule("configmaps", "get")]}
    until("the role is seen", lambda: worker.post("roles", held).status == 201)
    more = {"metadata": {"name": "more"}, "rules": [_rule("secrets", "get")]}
    status = worker.post("roles", more).refused(
        403, "Forbidden", "is attempting to grant RBAC permissions not currently held"
    )
    assert f'user "{_user(ns)}"' in status["message"]


# --- reviews ----------------------------------------------------------------------------------------------------------


def test_an_access_review_tells_what_one_may(ns: Space) -> None:
    worker = _worker(ns, _rule("configmaps", "get"), _rule("deployments/scale", "patch", "apps"))
    where = {"namespace": ns.name}
    until("the role is seen", lambda: _allowed(worker.api, verb="get", resource="configmaps", **where))
    assert not _allowed(worker.api, verb="patch", resource="configmaps", **where)
    assert not _allowed(worker.api, verb="get", resource="configmaps")
    scale = {"verb": "patch", "group": "apps", "resource": "deployments"}
    assert _allowed(worker.api, subresource="scale", **scale, **where)
    assert not _allowed(worker.api, **scale, **where)


def test_an_access_review_repeats_what_was_asked(ns: Space) -> None:
    spec = {"resourceAttributes": {"namespace": ns.name, "verb": "create", "group": "apps", "resource": "deployments"}}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    made = ns.api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body).ok(201)
    assert made["spec"] == spec
    assert made["status"]["allowed"] is True


def test_a_rules_review_lists_the_rules(ns: Space) -> None:
    worker = _worker(ns, _rule("configmaps", "get"))
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": ns.name}}

    def look() -> bool:
        status = worker.api.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body).ok(201)["status"]
        return any(r["resources"] == ["configmaps"] and r["verbs"] == ["get"] for r in status["resourceRules"])

    until("the rule is listed", look)


def test_a_subject_review_tells_who_one_is(ns: Space) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    made = _worker(ns).api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", body).ok(201)
    assert made["status"]["userInfo"]["username"] == _user(ns)
    groups = {"system:serviceaccounts", f"system:serviceaccounts:{ns.name}", "system:authenticated"}
    assert groups <= set(made["status"]["userInfo"]["groups"])


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_request_answers_with_a_token_and_its_end(ns: Space) -> None:
    ns.make("serviceaccounts", {"metadata": {"name": "worker"}})
    before = datetime.now(UTC).timestamp()
    made = _token(ns, expirationSeconds=3600)
    assert made["status"]["token"]
    end = datetime.fromisoformat(made["status"]["expirationTimestamp"]).timestamp()
    assert end > before + 1800
    assert made["spec"]["audiences"]


def test_a_token_request_for_less_than_ten_minutes_is_refused(ns: Space) -> None:
    ns.make("serviceaccounts", {"metadata": {"name": "worker"}})
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 60}}
    status = ns.api.post(ns.path("serviceaccounts", "worker", "token"), body).refused(422, "Invalid")
    assert "may not specify a duration less than 10 minutes" in causes(status)["spec.expirationSeconds"]


def test_a_token_request_for_nobody_is_not_found(ns: Space) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = ns.api.post(ns.path("serviceaccounts", "absent", "token"), body)
    answer.refused(404, "NotFound", 'serviceaccounts "absent" not found')


def test_a_token_that_is_none_is_unauthorized(ns: Space) -> None:
    status = ns.api.acting_as("nonsense").get(ns.path("pods")).refused(401, "Unauthorized")
    assert status["message"] == "Unauthorized"


def test_nobody_may_nothing(ns: Space) -> None:
    """Whether a cluster knows anonymous users is its own choice; none lets them read."""
    assert ns.api.acting_as("").get(ns.path("pods")).status in (401, 403)


@pytest.mark.slow
def test_a_token_ends_with_its_account(ns: Space) -> None:
    worker = _worker(ns)
    assert worker.api.get(worker.path("pods")).status == 403
    ns.delete("serviceaccounts", "worker").ok(200)
    until("the token is refused", lambda: worker.api.get(worker.path("pods")).status == 401)
