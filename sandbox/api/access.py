"""Who asks, and whether they may: tokens and RBAC."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.api.errors import ApiStatus
from sandbox.api.kinds import BY_KIND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.api.machinery import Api

Obj = dict[str, Any]
_OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
_DISCOVERY = ("/api", "/apis", "/openapi")


class User(NamedTuple):
    name: str
    groups: tuple[str, ...]
    uid: str = ""

    @property
    def is_admin(self) -> bool:
        return "system:masters" in self.groups


ADMIN = User("kubernetes-admin", ("system:masters", "system:authenticated"))
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Ask(NamedTuple):
    """What a request wants; `path` alone for a URL that is no resource."""

    verb: str
    group: str = ""
    resource: str = ""  # with the subresource: pods/log
    namespace: str = ""
    name: str = ""
    path: str = ""


class Access:
    def __init__(self, api: Api, admin_token: str) -> None:
        self._api, self._admin_token = api, admin_token
        self._tokens: dict[str, tuple[User, str, str, float]] = {}
        # Name and groups behind a token that somebody else has issued; None for one that is not theirs.
        self.outside: Callable[[str], tuple[str, tuple[str, ...]] | None] = lambda _: None

    # --- authentication -----------------------------------------------------------------------------------------------

    def user(self, authorization: str) -> User:
        """The user behind an Authorization header; ApiStatus 401 for a token that is not known (any more)."""
        if not authorization:
            return ANONYMOUS
        token = authorization.removeprefix("Bearer ").strip()
        if secrets.compare_digest(token.encode(), self._admin_token.encode()):
            return ADMIN
        if token in self._tokens:
            user, namespace, name, expires = self._tokens[token]
            account = self._api.find("ServiceAccount", name, namespace)
            if account and account["metadata"]["uid"] == user.uid and self._api.clock() < expires:
                return user
        if found := self.outside(token):
            return User(found[0], (*found[1], "system:authenticated"))
        raise ApiStatus(401, "Unauthorized", "Unauthorized")

    def token(self, namespace: str, name: str, seconds: int) -> str:
        """A new token for a ServiceAccount."""
        account = self._api.get("ServiceAccount", name, namespace)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        user = User(f"system:serviceaccount:{namespace}:{name}", groups, account["metadata"]["uid"])
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (user, namespace, name, self._api.clock() + seconds)
        return token

    # --- authorization ------------------------------------------------------------------------------------------------

    def check(self, user: User, ask: Ask) -> None:
        """ApiStatus 403, in the words of the server, unless the user may."""
        if not self.may(user, ask)[0]:
            raise refusal(user, ask)

    def may(self, user: User, ask: Ask) -> tuple[bool, str]:
        """Whether, and by which binding."""
        if user.is_admin:
            return True, ""
        if ask.path:
            open_ = ask.path in _OPEN_PATHS or (
                user != ANONYMOUS and any(ask.path == p or ask.path.startswith(f"{p}/") for p in _DISCOVERY)
            )
            return (True, "") if open_ and ask.verb == "get" else (self._by_url(user, ask), "")
        if user != ANONYMOUS and ask.verb == "create" and ask.resource.startswith("selfsubject"):
            return True, ""
        for why, rule in self.rules(user, ask.namespace):
            if _covers(rule, ask):
                return True, why
        return False, ""

    def _by_url(self, user: User, ask: Ask) -> bool:
        return any(
            _has(rule.get("verbs"), ask.verb)
            and any(url in ("*", ask.path) or (url.endswith("*") and ask.path.startswith(url[:-1]))
                    for url in rule.get("nonResourceURLs") or [])
            for _, rule in self.rules(user, "")
        )  # fmt: skip

    def rules(self, user: User, namespace: str) -> Iterator[tuple[str, Obj]]:
        """(why, rule) of every rule that a binding gives the user here."""
        for kind, space in (("ClusterRoleBinding", None), ("RoleBinding", namespace)):
            for binding in self._api.all(kind, space) if space != "" else []:
                subject = next((s for s in binding.get("subjects") or [] if _is(user, s, namespace)), None)
                role = subject and self._role(binding, namespace)
                if subject and role:
                    where = f"/{namespace}" if space else ""
                    why = f'RBAC: allowed by {kind} "{binding["metadata"]["name"]}{where}" of {role["kind"]}'
                    who = f'"{subject["name"]}' + (f'/{subject["namespace"]}"' if "namespace" in subject else '"')
                    for rule in role.get("rules") or []:
                        yield f'{why} "{role["metadata"]["name"]}" to {subject["kind"]} {who}', rule

    def _role(self, binding: Obj, namespace: str) -> Obj | None:
        ref = binding["roleRef"]
        return self._api.find(ref["kind"], ref["name"], namespace if ref["kind"] == "Role" else None)

    def escalates(self, user: User, role: Obj) -> bool:
        """Whether a role would give what its writer does not hold."""
        space = role["metadata"].get("namespace", "")
        for rule in role.get("rules") or []:
            for verb in rule.get("verbs") or []:
                for group in rule.get("apiGroups") or [""]:
                    for resource in rule.get("resources") or []:
                        for name in rule.get("resourceNames") or [""]:
                            if not self.may(user, Ask(verb, group, resource, space, name))[0]:
                                return True
        return False


def refusal(user: User, ask: Ask) -> ApiStatus:
    if ask.path:
        text = f'forbidden: User "{user.name}" cannot {ask.verb} path "{ask.path}"'
        return ApiStatus(403, "Forbidden", text, {})
    plural = ask.resource.partition("/")[0]
    noun = f"{plural}.{ask.group}" if ask.group else plural
    subject = f'{noun} "{ask.name}"' if ask.name else noun
    where = f'in the namespace "{ask.namespace}"' if ask.namespace else "at the cluster scope"
    text = (
        f'{subject} is forbidden: User "{user.name}" cannot {ask.verb} resource "{ask.resource}"'
        f' in API group "{ask.group}" {where}'
    )
    details = {"name": ask.name, "group": ask.group, "kind": plural}
    return ApiStatus(403, "Forbidden", text, {key: value for key, value in details.items() if value})


def _is(user: User, subject: Obj, namespace: str) -> bool:
    if subject["kind"] == "User":
        return bool(subject["name"] == user.name)
    if subject["kind"] == "Group":
        return subject["name"] in user.groups
    space = subject.get("namespace") or namespace
    return user.name == f"system:serviceaccount:{space}:{subject['name']}"


def _has(values: list[str] | None, wanted: str) -> bool:
    return bool(values) and ("*" in values or wanted in values)  # type: ignore[operator]


def _covers(rule: Obj, ask: Ask) -> bool:
    sub = ask.resource.partition("/")[2]
    resources = rule.get("resources") or []
    names = rule.get("resourceNames")
    return (
        _has(rule.get("verbs"), ask.verb)
        and _has(rule.get("apiGroups"), ask.group)
        and (_has(resources, ask.resource) or bool(sub and f"*/{sub}" in resources))
        and (not names or ask.name in names)
    )


def review(access: Access, user: User, kind: str, obj: Obj) -> Obj:
    """The status of an access review."""
    spec = obj.get("spec") or {}
    if kind == "SelfSubjectReview":
        info: Obj = {"username": user.name, "groups": list(user.groups)}
        return {"userInfo": info | ({"uid": user.uid} if user.uid else {})}
    if kind == "SelfSubjectRulesReview":
        space = spec.get("namespace", "")
        found = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}] if user.is_admin else []
        found += [rule for _, rule in access.rules(user, space)]
        kept = ("verbs", "apiGroups", "resources", "resourceNames")
        rows = [{key: rule[key] for key in kept if key in rule} for rule in found if "resources" in rule]
        urls = [{"verbs": ["get"], "nonResourceURLs": [*_OPEN_PATHS, *(f"{path}/*" for path in _DISCOVERY)]}]
        return {"resourceRules": rows, "nonResourceRules": urls, "incomplete": False}
    if kind != "SelfSubjectAccessReview":
        user = User(spec.get("user", ""), tuple(spec.get("groups") or ()))
    if wanted := spec.get("resourceAttributes"):
        resource = wanted.get("resource", "")
        resource += f"/{wanted['subresource']}" if wanted.get("subresource") else ""
        ask = Ask(wanted.get("verb", ""), wanted.get("group", ""), resource, wanted.get("namespace", ""),
                  wanted.get("name", ""))  # fmt: skip
    else:
        url = spec.get("nonResourceAttributes") or {}
        ask = Ask(url.get("verb", ""), path=url.get("path", "/"))
    allowed, why = access.may(user, ask)
    return {"allowed": allowed} | ({"reason": why} if why else {})


def bootstrap(api: Api) -> None:
    """The cluster role that every cluster has for its owner."""
    meta = {"name": "cluster-admin", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}
    rules = [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]
    api.create("ClusterRole", {"metadata": meta, "rules": rules}, manager="kube-apiserver")
    subject = {"kind": "Group", "name": "system:masters", "apiGroup": BY_KIND["Role"].group}
    role = {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": BY_KIND["Role"].group}
    api.create(
        "ClusterRoleBinding", {"metadata": meta, "roleRef": role, "subjects": [subject]}, manager="kube-apiserver"
    )
