"""Pods, Deployments, Services and the autoscaler, as a client of the API sees them."""

from __future__ import annotations

import os
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Client, deployment, pod, wait_for, web

PYTHON = "python:3.11-slim"


def create_pod(client: Client, space: str, spec: dict[str, Any], name: str = "one", **meta: Any) -> None:
    client.create("Pod", space, {"metadata": {"name": name, **meta}, "spec": spec})


def status(client: Client, space: str, name: str = "one") -> dict[str, Any]:
    found = client.get("Pod", space, name)
    return found["status"] if found else {}


def state(client: Client, space: str, name: str = "one") -> dict[str, Any]:
    return (status(client, space, name).get("containerStatuses") or [{"state": {}}])[0]["state"]


def log(client: Client, space: str, name: str = "one", query: str = "") -> str:
    return client.text(f"/api/v1/namespaces/{space}/pods/{name}/log{query}")


def fetch(address: str, timeout: float = 5) -> str:
    with urllib.request.urlopen(f"http://{address}/", timeout=timeout) as answer:
        return answer.read().decode()


def available(client: Client, space: str, name: str, count: int) -> Callable[[], bool]:
    def test() -> bool:
        found = client.get("Deployment", space, name)
        seen = found["status"].get("observedGeneration") == found["metadata"]["generation"]
        counts = [found["status"].get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
        return bool(seen and counts == [count] * 3)

    return test


def balancer(client: Client, space: str, name: str, port: int = 8080) -> str:
    spec = {"type": "LoadBalancer", "selector": {"app": name}, "ports": [{"port": port, "targetPort": "http"}]}
    client.create("Service", space, {"metadata": {"name": name}, "spec": spec})
    ingress = wait_for(lambda: client.get("Service", space, name)["status"]["loadBalancer"].get("ingress"))
    return f"{ingress[0]['ip']}:{port}"


# --- what a container gets --------------------------------------------------------------------------------------------


def test_environment_volumes_and_arguments(sandbox: Client) -> None:
    space = sandbox.namespace("inputs")
    sandbox.create("ConfigMap", space, {"metadata": {"name": "c"}, "data": {"A": "from map", "file.txt": "in a file"}})
    sandbox.create("Secret", space, {"metadata": {"name": "s"}, "stringData": {"B": "from secret"}})
    show = (
        "import os,sys,tempfile,pathlib;print(os.environ['A'],os.environ['X_B'],os.environ['C'],os.environ['CPU'],"
        "os.environ['WHO'],sys.argv[1],pathlib.Path(os.environ['WHERE']).read_text(),sep='|');"
        "print(tempfile.gettempdir()!='/tmp',pathlib.Path(sys.argv[2]).read_text(),sep='|')"
    )
    spec = pod(
        PYTHON,
        args=["-c", show, "$(A)!", "/etc/who/label"],
        envFrom=[{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}, "prefix": "X_"}],
        env=[
            {"name": "C", "value": "$(A) $$(A) $(NONE)"},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "WHERE", "value": "/etc/conf/file.txt"},
        ],
        resources={"limits": {"cpu": "250m"}},
        volumeMounts=[
            {"name": "conf", "mountPath": "/etc/conf"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "who", "mountPath": "/etc/who"},
        ],
    )
    label = {"path": "label", "fieldRef": {"fieldPath": "metadata.labels['team']"}}
    spec |= {
        "restartPolicy": "Never",
        "volumes": [
            {"name": "conf", "configMap": {"name": "c"}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "who", "projected": {"sources": [{"downwardAPI": {"items": [label]}}]}},
        ],
    }
    create_pod(sandbox, space, spec, labels={"team": "ml"})
    wait_for(lambda: status(sandbox, space).get("phase") == "Succeeded")
    lines = log(sandbox, space).splitlines()
    assert lines == ["from map|from secret|from map $(A) $(NONE)|250|one|from map!|in a file", "True|ml"]


@pytest.mark.parametrize(
    ("name", "container", "message"),
    [
        ("no-map", {"envFrom": [{"configMapRef": {"name": "absent"}}]}, 'configmap "absent" not found'),
        (
            "no-key",
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "absent"}}}]},
            "couldn't find key absent in Secret no-key/s",
        ),
    ],
)
def test_what_is_missing_is_named_and_waited_for(
    sandbox: Client, name: str, container: dict[str, Any], message: str
) -> None:
    space = sandbox.namespace(name)
    sandbox.create("Secret", space, {"metadata": {"name": "s"}, "stringData": {"present": "1"}})
    create_pod(sandbox, space, pod(**container))
    waiting = wait_for(lambda: state(sandbox, space).get("waiting", {}).get("message") and state(sandbox, space))
    assert waiting == {"waiting": {"reason": "CreateContainerConfigError", "message": message}}


def test_a_volume_that_is_missing_is_told_and_waited_for(sandbox: Client) -> None:
    space = sandbox.namespace("mounts")
    create_pod(sandbox, space, pod() | {"volumes": [{"name": "v", "configMap": {"name": "late"}}]})
    told = wait_for(lambda: sandbox.events(space, "FailedMount"))
    assert told[0]["message"] == 'MountVolume.SetUp failed for volume "v" : configmap "late" not found'
    assert state(sandbox, space) == {"waiting": {"reason": "ContainerCreating"}}
    sandbox.create("ConfigMap", space, {"metadata": {"name": "late"}, "data": {}})
    wait_for(lambda: "running" in state(sandbox, space))


def test_init_containers_run_in_order_before_the_others(sandbox: Client) -> None:
    space = sandbox.namespace("init")
    step = "import pathlib,sys; p=pathlib.Path(sys.argv[1]); p.open('a').write(sys.argv[2]+'\\n'); print(p.read_text())"
    mount = [{"name": "work", "mountPath": "/work"}]
    steps = [
        {"name": name, "image": PYTHON, "args": ["-c", step, "/work/steps", name], "volumeMounts": mount}
        for name in ("first", "second")
    ]
    spec = pod(PYTHON, args=["-c", step, "/work/steps", "main"], volumeMounts=mount)
    spec |= {"initContainers": steps, "volumes": [{"name": "work", "emptyDir": {}}], "restartPolicy": "Never"}
    create_pod(sandbox, space, spec)
    wait_for(lambda: status(sandbox, space).get("phase") == "Succeeded")
    assert log(sandbox, space).split() == ["first", "second", "main"]
    assert log(sandbox, space, query="?container=first").split() == ["first"]


def test_logs_previous_tail_time_and_limit(sandbox: Client) -> None:
    space = sandbox.namespace("logs")
    talk = "import os,sys,time\nfor n in range(5): print('line', n, flush=True)\ntime.sleep(0.5); sys.exit(7)"
    create_pod(sandbox, space, pod(PYTHON, args=["-c", talk]))
    wait_for(lambda: (status(sandbox, space).get("containerStatuses") or [{}])[0].get("restartCount") == 1)
    assert log(sandbox, space, query="?previous=true").splitlines() == [f"line {n}" for n in range(5)]
    assert log(sandbox, space, query="?previous=true&tailLines=2").splitlines() == ["line 3", "line 4"]
    assert log(sandbox, space, query="?previous=true&limitBytes=8") == "line 0\nl"
    assert log(sandbox, space, query="?previous=true&tailLines=1&timestamps=true").endswith("Z line 4\n")
    last = status(sandbox, space)["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (7, "Error")


def test_following_a_log_ends_with_the_container(sandbox: Client) -> None:
    space = sandbox.namespace("follow")
    talk = "import time\nfor n in range(3): print('line', n, flush=True); time.sleep(0.4)"
    create_pod(sandbox, space, pod(PYTHON, args=["-c", talk]) | {"restartPolicy": "Never"})
    wait_for(lambda: "running" in state(sandbox, space))
    assert log(sandbox, space, query="?follow=true").splitlines() == ["line 0", "line 1", "line 2"]


# --- how a container ends ---------------------------------------------------------------------------------------------


def test_termination_waits_for_the_hook_then_asks_then_kills(sandbox: Client) -> None:
    space = sandbox.namespace("ends")
    stubborn = "import signal,time\nsignal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
    stubborn += "print('up', flush=True)\nwhile True: time.sleep(0.1)"
    hook = {"preStop": {"exec": {"command": ["python", "-c", "import time; time.sleep(0.5)"]}}}
    create_pod(
        sandbox, space, pod(PYTHON, args=["-c", stubborn], lifecycle=hook) | {"terminationGracePeriodSeconds": 3}
    )
    wait_for(lambda: "running" in state(sandbox, space) and "up" in log(sandbox, space))
    begun = time.monotonic()
    sandbox.delete("Pod", space, "one")
    wait_for(lambda: "asked" in log(sandbox, space))
    assert time.monotonic() - begun > 0.5
    wait_for(lambda: sandbox.get("Pod", space, "one") is None)
    assert time.monotonic() - begun > 2.5
    assert [event["message"] for event in sandbox.events(space, "Killing")] == ["Stopping container api"]


def test_a_pod_that_may_not_restart_fails(sandbox: Client) -> None:
    space = sandbox.namespace("never")
    create_pod(sandbox, space, pod(PYTHON, args=["-c", "raise SystemExit(3)"]) | {"restartPolicy": "Never"})
    wait_for(lambda: status(sandbox, space).get("phase") == "Failed")
    assert state(sandbox, space)["terminated"]["exitCode"] == 3


def test_exec_and_tcp_probes(sandbox: Client) -> None:
    space = sandbox.namespace("probes")
    check = {"exec": {"command": ["python", "-c", "import os;raise SystemExit(os.path.exists('/nowhere')-1)"]}}
    create_pod(sandbox, space, pod(readinessProbe=check | {"periodSeconds": 1}), "exec")
    create_pod(sandbox, space, pod(readinessProbe={"tcpSocket": {"port": 9}, "periodSeconds": 1}), "tcp")
    create_pod(sandbox, space, web(startupProbe={"tcpSocket": {"port": "http"}, "periodSeconds": 1}), "web")
    wait_for(lambda: status(sandbox, space, "web")["containerStatuses"][0]["ready"])

    def unhealthy() -> dict[str, str]:
        return {e["involvedObject"]["name"]: e["message"] for e in sandbox.events(space, "Unhealthy")}

    told = wait_for(lambda: {"exec", "tcp"} <= set(unhealthy()) and unhealthy())
    assert told["exec"] == "Readiness probe failed: "
    address = status(sandbox, space, "tcp")["podIP"]
    assert told["tcp"] == f"Readiness probe failed: dial tcp {address}:9: connect: connection refused"
    assert status(sandbox, space, "web")["containerStatuses"][0]["started"]


# --- Deployments and Services -----------------------------------------------------------------------------------------


def test_a_rolling_update_loses_no_request(sandbox: Client) -> None:
    space = sandbox.namespace("rolling")
    rolling = {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}
    sandbox.create("Deployment", space, deployment("web", 2, web(env=[{"name": "VERSION", "value": "1"}]), **rolling))
    address = balancer(sandbox, space, "web")
    wait_for(available(sandbox, space, "web", 2))
    cluster = sandbox.get("Service", space, "web")["spec"]["clusterIP"]
    assert fetch(f"{cluster}:8080").startswith("1 ")
    answers: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(fetch(address).split()[0])
            except OSError as error:
                answers.append(f"failed: {error}")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        change = {"containers": [{**web(env=[{"name": "VERSION", "value": "2"}])["containers"][0]}]}
        sandbox.patch("Deployment", space, "web", {"spec": {"template": {"spec": change}}})
        wait_for(available(sandbox, space, "web", 2))
        # until the old pods are out of the Service
        wait_for(lambda: len(sandbox.pods(space)) == 2)
        time.sleep(0.2)
    finally:
        stop.set()
        asking.join()
    assert set(answers) == {"1", "2"}
    assert answers[-1] == "2"
    sets = {
        rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: rs
        for rs in sandbox.list("ReplicaSet", space)
    }
    assert {number: rs["spec"]["replicas"] for number, rs in sets.items()} == {"1": 0, "2": 2}


def test_endpoints_follow_readiness_and_termination(sandbox: Client) -> None:
    space = sandbox.namespace("endpoints")
    hook = {"preStop": {"sleep": {"seconds": 2}}}
    spec = web(lifecycle=hook) | {"terminationGracePeriodSeconds": 5}
    sandbox.create("Deployment", space, deployment("web", 1, spec))
    address = balancer(sandbox, space, "web")
    wait_for(available(sandbox, space, "web", 1))
    name = sandbox.pods(space)[0]["metadata"]["name"]
    sandbox.patch("Deployment", space, "web", {"spec": {"replicas": 0}})

    def ending() -> Any:
        rows = sandbox.list("EndpointSlice", space)[0].get("endpoints") or []
        return [row["conditions"] for row in rows if row["targetRef"]["name"] == name]

    wait_for(lambda: ending() == [{"ready": False, "serving": True, "terminating": True}])
    assert fetch(address).startswith("1 ")  # the last one serves until it has gone
    wait_for(lambda: ending() == [])
    with pytest.raises(OSError):
        fetch(address)


def test_a_paused_deployment_waits_and_recreate_never_overlaps(sandbox: Client) -> None:
    space = sandbox.namespace("recreate")
    spec = pod() | {"terminationGracePeriodSeconds": 1}
    sandbox.create("Deployment", space, deployment("one", 1, spec, strategy={"type": "Recreate"}))
    wait_for(available(sandbox, space, "one", 1))
    before = sandbox.pods(space)[0]["metadata"]["name"]
    template = {"template": {"metadata": {"annotations": {"v": "2"}}}}
    sandbox.patch("Deployment", space, "one", {"spec": {"paused": True, **template}})

    def progressing() -> str:
        conditions = sandbox.get("Deployment", space, "one")["status"]["conditions"]
        return next(c["reason"] for c in conditions if c["type"] == "Progressing")

    wait_for(lambda: progressing() == "DeploymentPaused")
    assert [p["metadata"]["name"] for p in sandbox.pods(space)] == [before]
    sandbox.patch("Deployment", space, "one", {"spec": {"paused": False}})
    most = 0
    deadline = time.monotonic() + 20
    while not available(sandbox, space, "one", 1)() or before in [p["metadata"]["name"] for p in sandbox.pods(space)]:
        most = max(most, len(sandbox.pods(space)))
        assert time.monotonic() < deadline
    assert most == 1


def test_the_progress_deadline(sandbox: Client) -> None:
    space = sandbox.namespace("deadline")
    spec = pod(readinessProbe={"exec": {"command": ["false"]}})
    sandbox.create("Deployment", space, deployment("one", 1, spec, progressDeadlineSeconds=2))

    def late() -> Any:
        conditions = sandbox.get("Deployment", space, "one")["status"].get("conditions", [])
        return [c for c in conditions if c["reason"] == "ProgressDeadlineExceeded"]

    found = wait_for(late)[0]
    name = sandbox.list("ReplicaSet", space)[0]["metadata"]["name"]
    assert (found["type"], found["status"]) == ("Progressing", "False")
    assert found["message"] == f'ReplicaSet "{name}" has timed out progressing.'


def test_what_does_not_fit_waits_until_it_does(sandbox: Client) -> None:
    space = sandbox.namespace("room")
    create_pod(sandbox, space, pod(resources={"requests": {"cpu": "7"}}), "big")
    wait_for(lambda: "running" in state(sandbox, space, "big"))
    create_pod(sandbox, space, pod(resources={"requests": {"cpu": "6"}}), "next")
    told = wait_for(lambda: sandbox.events(space, "FailedScheduling"))
    assert told[0]["message"] == (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available:"
        " 1 No preemption victims found for incoming pod."
    )
    sandbox.delete("Pod", space, "big")
    wait_for(lambda: "running" in state(sandbox, space, "next"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind any port")
def test_a_port_that_may_not_be_bound_leaves_the_address_pending(sandbox: Client) -> None:
    space = sandbox.namespace("port")
    service = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}
    sandbox.create("Service", space, {"metadata": {"name": "web"}, "spec": service})
    told = wait_for(lambda: sandbox.events(space, "SyncLoadBalancerFailed"))[0]["message"]
    assert "bind: permission denied" in told
    assert "8080" in told
    assert sandbox.get("Service", space, "web")["status"]["loadBalancer"] == {}


def test_an_address_is_free_again_when_its_service_has_gone(sandbox: Client) -> None:
    space = sandbox.namespace("freed")
    host, _, port = balancer(sandbox, space, "web").partition(":")
    sandbox.delete("Service", space, "web")

    def refuses() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) != 0

    wait_for(refuses)


# --- measuring and scaling --------------------------------------------------------------------------------------------


def test_the_autoscaler_follows_measured_cpu(sandbox: Client) -> None:
    space = sandbox.namespace("scaled")
    burn = "import time\nend=time.time()+4\nwhile time.time()<end: pass\ntime.sleep(600)"
    spec = pod(PYTHON, args=["-c", burn], resources={"requests": {"cpu": "100m"}})
    sandbox.create("Deployment", space, deployment("busy", 1, spec))
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"}
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 1}}
    bounds = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2, "metrics": [metric], "behavior": behavior}
    sandbox.create("HorizontalPodAutoscaler", space, {"metadata": {"name": "busy"}, "spec": bounds})

    def replicas() -> int:
        return sandbox.get("Deployment", space, "busy")["spec"]["replicas"]

    wait_for(lambda: replicas() == 2)
    found = sandbox.get("HorizontalPodAutoscaler", space, "busy")["status"]
    reasons = {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]}
    assert reasons["ScalingActive"] == ("True", "ValidMetricFound")
    assert reasons["ScalingLimited"] == ("True", "TooManyReplicas")
    assert found["currentMetrics"][0]["resource"]["current"]["averageUtilization"] > 50
    told = [event["message"] for event in sandbox.events(space, "SuccessfulRescale")]
    assert told == ["New size: 2; reason: cpu resource utilization (percentage of request) above target"]
    owners = sandbox.get("Deployment", space, "busy")["metadata"]["managedFields"]
    assert [o["manager"] for o in owners if o.get("subresource") == "scale"] == ["kube-controller-manager"]
    wait_for(lambda: replicas() == 1, 30)


def test_the_autoscaler_says_that_requests_are_missing(sandbox: Client) -> None:
    space = sandbox.namespace("unrequested")
    sandbox.create("Deployment", space, deployment("plain", 1, pod()))
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "plain"}
    bounds = {"scaleTargetRef": target, "maxReplicas": 2, "metrics": [metric]}
    sandbox.create("HorizontalPodAutoscaler", space, {"metadata": {"name": "plain"}, "spec": bounds})

    def active() -> Any:
        conditions = sandbox.get("HorizontalPodAutoscaler", space, "plain").get("status", {}).get("conditions", [])
        return [c for c in conditions if c["type"] == "ScalingActive" and "missing request" in c["message"]]

    found = wait_for(active)[0]
    name = sandbox.pods(space)[0]["metadata"]["name"]
    assert (found["status"], found["reason"]) == ("False", "FailedGetResourceMetric")
    assert found["message"].endswith(f"missing request for cpu in container api of Pod {name}")


def test_metrics_show_a_pods_use(sandbox: Client) -> None:
    space = sandbox.namespace("metered")
    create_pod(sandbox, space, pod(PYTHON, args=["-c", "x = bytearray(50_000_000)\nwhile True: pass"]))
    found = wait_for(lambda: sandbox.list("PodMetrics", space))[0]
    usage = found["containers"][0]["usage"]
    assert int(usage["cpu"].removesuffix("n")) > 100_000_000
    assert int(usage["memory"].removesuffix("Ki")) > 50_000
    sandbox.delete("Pod", space, "one")


def test_a_disruption_budget_counts_healthy_pods(sandbox: Client) -> None:
    space = sandbox.namespace("budget")
    sandbox.create("Deployment", space, deployment("two", 2, pod()))
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "two"}}}
    sandbox.create("PodDisruptionBudget", space, {"metadata": {"name": "two"}, "spec": spec})

    def counts() -> list[int]:
        found = sandbox.get("PodDisruptionBudget", space, "two")["status"]
        return [found[key] for key in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")]

    wait_for(lambda: counts() == [1, 2, 1, 2])


def test_a_namespace_goes_with_its_pods(sandbox: Client) -> None:
    space = sandbox.namespace("going")
    sandbox.create("Deployment", space, deployment("two", 2, pod()))
    wait_for(available(sandbox, space, "two", 2))
    sandbox.delete("Namespace", "", space)
    wait_for(lambda: sandbox.get("Namespace", "", space) is None)
