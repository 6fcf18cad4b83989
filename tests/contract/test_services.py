"""What stands behind a Service, and how the API server reaches it."""

from __future__ import annotations

import time
from typing import Any

import pytest
import urllib3

from tests.contract.bodies import SERVE, container, deployment, is_true, pod, service, status_of
from tests.contract.client import Obj, until
from tests.contract.conftest import REAL
from tests.contract.space import Space

_NAME = "kubernetes.io/service-name"
_PORTS = [{"name": "http", "containerPort": 8080}]
_READY = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
_NEVER = {"tcpSocket": {"port": 9}, "periodSeconds": 1}


def _server(name: str = "p", *, labels: Obj | None = None, **fields: Any) -> Obj:
    fields = {"ports": _PORTS, "readinessProbe": _READY, **fields}
    return pod(name, container(SERVE, **fields), labels=labels)


def _endpoints(ns: Space, name: str = "web") -> list[Obj]:
    return [end for part in ns.list("endpointslices", f"{_NAME}={name}") for end in part.get("endpoints") or []]


def _conditions(ns: Space) -> list[tuple[bool, bool, bool]]:
    """(ready, serving, terminating) of each endpoint."""
    found = [end["conditions"] for end in _endpoints(ns)]
    return sorted((c.get("ready"), c.get("serving"), c.get("terminating")) for c in found)


def test_a_ready_pod_is_an_endpoint(podns: Space) -> None:
    podns.make("services", service())
    podns.make("pods", _server())
    until("it is in service", lambda: _conditions(podns) == [(True, True, False)])
    found = podns.get("pods", "p")
    (part,) = [s for s in podns.list("endpointslices", f"{_NAME}=web") if s.get("endpoints")]
    assert part["addressType"] == "IPv4"
    assert part["metadata"]["generateName"] == "web-"
    assert part["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io"
    assert part["metadata"]["ownerReferences"][0]["kind"] == "Service"
    assert [(p["name"], p["port"], p["protocol"]) for p in part["ports"]] == [("http", 8080, "TCP")]
    (end,) = part["endpoints"]
    assert end["addresses"] == [found["status"]["podIP"]]
    assert end["nodeName"] == found["spec"]["nodeName"]
    assert (end["targetRef"]["kind"], end["targetRef"]["name"]) == ("Pod", "p")
    assert end["targetRef"]["uid"] == found["metadata"]["uid"]


def test_a_port_by_name_is_looked_up_in_the_pod(podns: Space) -> None:
    podns.make("services", service(ports=[{"port": 80, "targetPort": "http"}]))
    podns.make("pods", _server())
    until("it is in service", lambda: _conditions(podns) == [(True, True, False)])
    ports = [p["port"] for part in podns.list("endpointslices", f"{_NAME}=web") for p in part.get("ports") or []]
    assert ports == [8080]


def test_a_pod_that_is_not_ready_is_no_ready_endpoint(podns: Space) -> None:
    podns.make("services", service())
    podns.make("pods", _server(readinessProbe=_NEVER))
    until("it is known", lambda: _conditions(podns) == [(False, False, False)])


def test_a_service_can_want_those_that_are_not_ready(podns: Space) -> None:
    podns.make("services", service(publishNotReadyAddresses=True))
    podns.make("pods", _server(readinessProbe=_NEVER))
    until("it is in service", lambda: [c[0] for c in _conditions(podns)] == [True])


def test_a_pod_that_ends_is_terminating_and_not_ready(podns: Space) -> None:
    podns.make("services", service())
    code = SERVE.replace("lambda *_: os._exit(0)", "lambda *_: (time.sleep(4), os._exit(0))")
    podns.make("pods", pod("p", container(code, ports=_PORTS, readinessProbe=_READY), terminationGracePeriodSeconds=30))
    until("it is in service", lambda: _conditions(podns) == [(True, True, False)])
    podns.delete("pods", "p").ok(200)
    until("it is terminating", lambda: [(c[0], c[2]) for c in _conditions(podns)] == [(False, True)])
    until("it is gone", lambda: _conditions(podns) == [])


def test_other_labels_are_not_selected(podns: Space) -> None:
    podns.make("services", service())
    podns.make("pods", _server("in"))
    podns.make("pods", _server("out", labels={"app": "other"}))
    podns.pod_when("out", "is ready", lambda p: is_true(p, "Ready"))
    until("one is in service", lambda: [e["targetRef"]["name"] for e in _endpoints(podns)] == ["in"])
    podns.patch("pods", "in", {"metadata": {"labels": {"app": "none"}}}).ok(200)
    podns.patch("services", "web", {"spec": {"selector": {"app": "other"}}}).ok(200)
    until("the other is in service", lambda: [e["targetRef"]["name"] for e in _endpoints(podns)] == ["out"])


def test_a_service_without_a_selector_has_no_slices(ns: Space) -> None:
    ns.make("services", service(selector=None))
    ns.make("services", service("other"))
    until("the other has one", lambda: ns.list("endpointslices", f"{_NAME}=other"))
    assert ns.list("endpointslices", f"{_NAME}=web") == []


def test_a_service_without_pods_has_an_empty_slice(ns: Space) -> None:
    ns.make("services", service())
    (found,) = until("there is one", lambda: ns.list("endpointslices", f"{_NAME}=web"))
    assert not found.get("endpoints")


def test_slices_go_with_their_service(podns: Space) -> None:
    podns.make("services", service())
    until("there is one", lambda: podns.list("endpointslices", f"{_NAME}=web"))
    podns.delete("services", "web").ok(200)
    until("it is gone", lambda: not podns.list("endpointslices", f"{_NAME}=web"))


def test_a_headless_service_has_endpoints_too(podns: Space) -> None:
    podns.make("services", service(clusterIP="None"))
    podns.make("pods", _server())
    until("it is in service", lambda: _conditions(podns) == [(True, True, False)])
    (part,) = [s for s in podns.list("endpointslices", f"{_NAME}=web") if s.get("endpoints")]
    assert "service.kubernetes.io/headless" in part["metadata"]["labels"]


# --- through the API server -------------------------------------------------------------------------------------------


def _serving(ns: Space) -> None:
    ns.make("pods", _server())
    ns.pod_when("p", "is ready", lambda p: is_true(p, "Ready"))


def test_a_pod_is_asked_through_its_proxy(podns: Space) -> None:
    _serving(podns)
    path = podns.path("pods", "p:8080", "proxy")
    assert podns.api.get(f"{path}/some/where").ok(200) == "p GET /some/where"
    assert podns.api.get(f"{path}/some/where", x="1 2").ok(200) == "p GET /some/where?x=1+2"
    assert podns.api.get(f"{path}/").ok(200) == "p GET /"


def test_a_proxy_passes_bodies_statuses_and_headers(podns: Space) -> None:
    _serving(podns)
    path = podns.path("pods", "p:8080", "proxy")
    answer = podns.api.post(f"{path}/predict", {"a": 1})
    assert answer.ok(200) == 'p POST /predict {"a": 1}'
    assert answer.headers["X-Contract"] == ""
    for status in (404, 422, 503):
        assert podns.api.get(f"{path}/status/{status}").status == status
        assert podns.api.get(f"{path}/status/{status}").body == f"p GET /status/{status}"


@pytest.mark.parametrize("name", ["web:http", "http:web:80", "http:web:http"])
def test_a_service_is_asked_through_its_proxy(podns: Space, name: str) -> None:
    podns.make("services", service())
    _serving(podns)
    until("it is in service", lambda: _conditions(podns) == [(True, True, False)])
    look = lambda: podns.api.get(podns.path("services", name, "proxy") + "/x")  # noqa: E731
    until("it answers", lambda: look().status == 200)
    assert look().body == "p GET /x"


def test_a_service_with_nothing_behind_it_cannot_be_asked(ns: Space) -> None:
    ns.make("services", service())
    until("it is known", lambda: ns.list("endpointslices", f"{_NAME}=web"))
    answer = ns.api.get(ns.path("services", "web:http", "proxy") + "/")
    answer.refused(503, "ServiceUnavailable", 'no endpoints available for service "web')


def test_a_port_that_a_service_does_not_have_cannot_be_asked(podns: Space) -> None:
    podns.make("services", service())
    answer = podns.api.get(podns.path("services", "web:absent", "proxy") + "/")
    answer.refused(503, "ServiceUnavailable")


def test_a_pod_where_nobody_listens_cannot_be_asked(podns: Space) -> None:
    _serving(podns)
    answer = podns.api.get(podns.path("pods", "p:9", "proxy") + "/")
    answer.refused(503, "ServiceUnavailable", "error trying to reach service")


# --- from outside -----------------------------------------------------------------------------------------------------


def test_a_load_balancer_has_a_node_port_and_waits_for_its_address(ns: Space) -> None:
    made = ns.make("services", service(type="LoadBalancer", ports=[{"port": 18080, "targetPort": 8080}]))
    assert made["spec"]["ports"][0]["nodePort"] >= 1024
    assert made["status"] == {"loadBalancer": {}}


def test_a_service_can_change_its_type_and_back(ns: Space) -> None:
    made = ns.make("services", service())
    done = ns.patch("services", "web", {"spec": {"type": "NodePort"}}).ok(200)
    assert done["spec"]["ports"][0]["nodePort"]
    assert done["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    done = ns.patch("services", "web", {"spec": {"type": "ClusterIP"}}).ok(200)
    assert "nodePort" not in done["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in done["spec"]


def test_a_node_port_belongs_to_one(ns: Space) -> None:
    port = ns.make("services", service(type="NodePort"))["spec"]["ports"][0]["nodePort"]
    other = service("other", type="NodePort", ports=[{"port": 80, "nodePort": port}])
    ns.post("services", other).refused(422, "Invalid", "provided port is already allocated")


def _ingress(ns: Space) -> Obj | None:
    found = ns.get("services", "web")["status"]["loadBalancer"].get("ingress") or []
    return found[0] if found else None


def _address(ns: Space) -> str:
    """The load balancer's address; the case is skipped where nobody gives one."""
    end = time.monotonic() + (60 if REAL else 20)
    while not (found := _ingress(ns)):
        if time.monotonic() > end:
            assert REAL, "the sandbox gives addresses"
            pytest.skip("this cluster has no controller for load balancers")
        time.sleep(0.2)
    return str(found.get("ip") or found["hostname"])


def _free_port(ns: Space) -> int:
    """Not the same in two cases at once, where they share an address."""
    return 20000 + int(ns.name[-4:], 16) % 10000


@pytest.mark.slow
def test_a_load_balancer_answers_at_its_address(podns: Space) -> None:
    port = _free_port(podns)
    podns.make("services", service(type="LoadBalancer", ports=[{"name": "http", "port": port, "targetPort": 8080}]))
    podns.make("deployments", deployment("web", container(SERVE, ports=_PORTS, readinessProbe=_READY), replicas=2))
    address = _address(podns)
    until("both are in service", lambda: len([c for c in _conditions(podns) if c[0]]) == 2)
    pool = urllib3.PoolManager(retries=False, timeout=3)

    def ask() -> str:
        try:
            return (
                pool.request("GET", f"http://{address}:{port}/", headers={"Connection": "close"})
                .data.decode()
                .split()[0]
            )
        except urllib3.exceptions.HTTPError:
            return ""

    try:
        until("it answers", ask, 120)
    except AssertionError:
        if not REAL:
            raise
        pytest.skip(f"nothing on the way from here to {address}")
    names = {p["metadata"]["name"] for p in podns.list("pods")}
    seen: set[str] = set()
    until("both have answered", lambda: seen.add(ask()) or names <= seen)
    pool.clear()


@pytest.mark.slow
def test_a_load_balancer_gives_its_address_back(ns: Space) -> None:
    ns.make("services", service(type="LoadBalancer", ports=[{"port": _free_port(ns), "targetPort": 8080}]))
    _address(ns)
    ns.patch("services", "web", {"spec": {"type": "ClusterIP"}}).ok(200)
    until("the address is gone", lambda: ns.get("services", "web")["status"] == {"loadBalancer": {}})


def test_a_container_without_a_probe_is_in_service_when_it_runs(podns: Space) -> None:
    podns.make("services", service())
    podns.make("pods", pod("p", container(SERVE, ports=_PORTS)))
    found = podns.pod_when("p", "is ready", lambda p: is_true(p, "Ready"))
    assert status_of(found)["ready"]
    until("it is in service", lambda: _conditions(podns) == [(True, True, False)])
