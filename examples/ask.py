"""Asks the inference Service of a cluster for one prediction: python examples/ask.py KUBECONFIG [FEATURE ...]"""

from __future__ import annotations

import json
import sys
import urllib.request

from kubernetes import client, config

FEATURES = [0.1, -0.2, 0.3, 0.4, -0.5, 0.6, -0.7, 0.8, -0.9, 1.0, 0.1, -0.1, 0.2]


def main(kubeconfig: str, *features: str) -> None:
    """Prints the request, the answer and the pod that gave it."""
    config.load_kube_config(kubeconfig)
    service = client.CoreV1Api().read_namespaced_service("inference-api", "ml-inference")
    ingress = (service.status.load_balancer.ingress or [None])[0]
    if ingress is None:
        sys.exit("Service inference-api has no external address (yet): kubectl -n ml-inference get service")
    url = f"http://{ingress.ip or ingress.hostname}:{service.spec.ports[0].port}/predict"
    body = json.dumps({"features": [[float(value) for value in features] or FEATURES]})
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        print(f"POST {url}\n{body}")  # noqa: T201
        print(f"{answer.status} from pod {answer.headers['X-Pod-Name']}\n{answer.read().decode()}")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
