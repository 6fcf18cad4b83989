"""What a client reads first: versions, groups, resources, schemas, health, tables."""

from __future__ import annotations

import pytest

from tests.contract.bodies import config, deployment, service
from tests.contract.client import RESOURCES, Client
from tests.contract.space import Space

_ALL = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def test_the_version_names_major_minor_and_git_version(api: Client) -> None:
    found = api.get("/version").ok(200)
    assert found["gitVersion"].startswith(f"v{found['major']}.{found['minor'].rstrip('+')}.")
    assert int(found["minor"].rstrip("+")) >= 30


def test_the_core_group_serves_v1(api: Client) -> None:
    found = api.get("/api").ok(200)
    assert found["kind"] == "APIVersions"
    assert "v1" in found["versions"]


@pytest.mark.parametrize(
    ("group", "version"),
    [
        ("apps", "v1"), ("authentication.k8s.io", "v1"), ("authorization.k8s.io", "v1"), ("autoscaling", "v2"),
        ("coordination.k8s.io", "v1"), ("discovery.k8s.io", "v1"), ("events.k8s.io", "v1"), ("networking.k8s.io", "v1"),
        ("policy", "v1"), ("rbac.authorization.k8s.io", "v1"),
    ],
)  # fmt: skip
def test_a_group_prefers_its_stable_version(api: Client, group: str, version: str) -> None:
    groups = {found["name"]: found for found in api.get("/apis").ok(200)["groups"]}
    assert groups[group]["preferredVersion"] == {"groupVersion": f"{group}/{version}", "version": version}
    alone = api.get(f"/apis/{group}").ok(200)
    assert alone["kind"] == "APIGroup"
    assert {"groupVersion": f"{group}/{version}", "version": version} in alone["versions"]


@pytest.mark.parametrize("plural", sorted(RESOURCES))
def test_a_resource_lists_its_kind_scope_and_verbs(api: Client, plural: str) -> None:
    root, kind = RESOURCES[plural]
    found = api.get(root).ok(200)
    assert found["groupVersion"] == root.split("/", 2)[2]
    resources = {resource["name"]: resource for resource in found["resources"]}
    assert resources[plural]["kind"] == kind
    assert resources[plural]["namespaced"] is True
    assert resources[plural]["singularName"] == kind.lower()
    assert set(resources[plural]["verbs"]) == _ALL


@pytest.mark.parametrize(
    ("root", "name", "kind"),
    [
        ("/api/v1", "pods/status", "Pod"),
        ("/api/v1", "pods/log", "Pod"),
        ("/api/v1", "pods/eviction", "Eviction"),
        ("/api/v1", "pods/proxy", "PodProxyOptions"),
        ("/api/v1", "services/proxy", "ServiceProxyOptions"),
        ("/api/v1", "serviceaccounts/token", "TokenRequest"),
        ("/api/v1", "namespaces/finalize", "Namespace"),
        ("/apis/apps/v1", "deployments/scale", "Scale"),
        ("/apis/apps/v1", "deployments/status", "Deployment"),
        ("/apis/autoscaling/v2", "horizontalpodautoscalers/status", "HorizontalPodAutoscaler"),
        ("/apis/policy/v1", "poddisruptionbudgets/status", "PodDisruptionBudget"),
    ],
)
def test_a_subresource_is_listed(api: Client, root: str, name: str, kind: str) -> None:
    resources = {resource["name"]: resource for resource in api.get(root).ok(200)["resources"]}
    assert resources[name]["kind"] == kind


def test_namespaces_and_nodes_have_no_namespace(api: Client) -> None:
    resources = {resource["name"]: resource for resource in api.get("/api/v1").ok(200)["resources"]}
    assert resources["namespaces"]["namespaced"] is False
    assert "deletecollection" not in resources["namespaces"]["verbs"]
    assert resources["nodes"]["namespaced"] is False


def test_openapi_v3_names_a_document_for_each_group(api: Client) -> None:
    paths = api.get("/openapi/v3").ok(200)["paths"]
    assert {"api/v1", "apis/apps/v1", "apis/autoscaling/v2"} <= set(paths)
    document = api.get(paths["apis/apps/v1"]["serverRelativeURL"]).ok(200)
    assert "io.k8s.api.apps.v1.Deployment" in document["components"]["schemas"]


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_a_healthy_server_says_ok(api: Client, path: str) -> None:
    assert api.get(path).ok(200) == "ok"


@pytest.mark.parametrize("path", ["/apis/nonsense.example.test/v1", "/apis/apps/v7", "/nonsense"])
def test_an_unknown_path_is_not_found(api: Client, path: str) -> None:
    assert api.get(path).status == 404


def test_an_unknown_resource_is_not_found(api: Client, ns: Space) -> None:
    answer = api.get(f"/apis/apps/v1/namespaces/{ns.name}/nonsenses")
    answer.refused(404, "NotFound", "the server could not find the requested resource")


@pytest.mark.parametrize(
    ("plural", "body", "columns", "cells"),
    [
        ("configmaps", config("one"), ["Name", "Data", "Age"], ["one", 1]),
        ("deployments", deployment("one"), ["Name", "Ready", "Up-to-date", "Available", "Age"], ["one", "0/0"]),
        ("services", service("one"), ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"], ["one"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_shows_a_row_for_each_object(ns: Space, plural: str, body: dict, columns: list, cells: list) -> None:
    ns.make(plural, body)
    found = ns.api.get(ns.path(plural), accept=_TABLE, fieldSelector="metadata.name=one").ok(200)
    assert found["kind"] == "Table"
    shown = [column["name"] for column in found["columnDefinitions"] if column["priority"] == 0]
    assert shown == columns
    (row,) = found["rows"]
    assert row["cells"][: len(cells)] == cells
    assert row["object"]["metadata"]["name"] == "one"
