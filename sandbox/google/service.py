"""The stand-in beside a running sandbox: on a port of its own, with the files that a user would have from Google."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
import yaml

from sandbox.google.app import make_asgi
from sandbox.google.state import State

DEPLOYER = "deployer@sandbox-project.iam.gserviceaccount.com"
POD_ACCOUNT = "inference@sandbox-project.iam.gserviceaccount.com"
IMAGE = "sandbox-project/inference/inference-api"


class _Quiet(uvicorn.Server):
    """A server that leaves the signals to the one that has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Google:
    """Google's side of one sandbox, without TLS: so are a metadata server, and a registry on this machine.

    :param kubernetes: the API's server; it takes Google's tokens from now on, and the Connect gateway leads to it.
    :param url: where it answers with TLS, and C(app) below /google.
    """

    def __init__(self, kubernetes: Any, url: str, ca_pem: str, version: str = "0.1.0") -> None:
        self._url = url
        self._socket = socket.create_server(("127.0.0.1", 0))
        address = url.removeprefix("https://")
        self.state = State(
            url=f"http://127.0.0.1:{self._socket.getsockname()[1]}",
            project="sandbox-project",
            location="europe-west1",
            cluster="sandbox",
            endpoint=address,
            internal_endpoint=address,
            dns_endpoint=f"localhost:{address.rpartition(':')[2]}",
            ca=ca_pem.encode(),
            kubernetes=kubernetes,
            machine_account=DEPLOYER,
            cluster_admins={DEPLOYER},
        )
        self.state.put_image(IMAGE, version)
        self.state.policies[POD_ACCOUNT] = {"version": 1, "etag": "ACAB"}
        self._version = version
        self.app = make_asgi(self.state)
        kubernetes.access.outside = self.state.kubernetes_user

    def write(self, folder: Path) -> None:
        """The deployer's key, and the variables that send an inventory here (both 0600)."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        variables = {
            "gcloud_credentials_project": self.state.project,
            "gcloud_credentials_location": self.state.location,
            "gcloud_credentials_cluster": self.state.cluster,
            "gcloud_credentials_file": str(folder / "key.json"),
            "gcloud_credentials_kubeconfig": str(folder / "kubeconfig"),
            "gcloud_credentials_container_api_url": f"{self.state.url}/container",
            "gcloud_credentials_iamcredentials_api_url": f"{self.state.url}/iamcredentials",
            "gcloud_credentials_connect_gateway_url": f"{self._url}/google/gateway",
            "inference_workload_image": f"europe-west1-docker.pkg.dev/{IMAGE}:{self._version}",
            "inference_workload_registry_url": self.state.url,
            "inference_workload_iam_api_url": f"{self.state.url}/iam",
        }
        for name, text in (
            ("key.json", json.dumps(self.state.add_key(DEPLOYER))),
            ("variables.yml", yaml.safe_dump(variables)),
        ):
            file = folder / name
            file.touch(mode=0o600)
            file.write_text(text)

    async def serve(self) -> None:
        """Answer until cancelled."""
        config = uvicorn.Config(
            self.app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        server = _Quiet(config)
        try:
            await server.serve(sockets=[self._socket])
        finally:
            self._socket.close()
