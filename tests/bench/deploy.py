"""Deploy speed beside kubectl and a plain playbook, interleaved on one sandbox: python -m tests.bench.deploy [ROUNDS]

Each way deploys the same objects to an empty cluster until the first answer, then again with nothing to do. What counts
is the ratio within one run. Every way starts from no namespace.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import BIN, CHECKOUT, Sandbox

ORDER = [
    "namespace",
    "resourcequota",
    "limitrange",
    "serviceaccount",
    "configmap",
    "networkpolicy",
    "service",
    "deployment",
    "horizontalpodautoscaler",
    "poddisruptionbudget",
]


def ours(sandbox: Sandbox, _folder: Path) -> None:
    run = sandbox.deploy(verification_autoscaler="skip")
    assert run.code == 0, run.out


def kubectl(sandbox: Sandbox, folder: Path) -> None:
    sandbox.kubectl("apply", "-k", str(folder))
    sandbox.kubectl("rollout", "status", "deployment/inference-api", "--timeout=120s")
    address = sandbox.kubectl(
        "get",
        "service",
        "inference-api",
        "-o",
        "jsonpath={.status.loadBalancer.ingress[0].ip}:{.spec.ports[0].port}",
    )
    body = json.dumps({"features": [[float(n) for n in range(13)]]})
    command = ["curl", "-sf", "-H", "Content-Type: application/json", "-d", body, f"http://{address}/predict"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def plain(sandbox: Sandbox, folder: Path) -> None:
    variables = {"kubeconfig": str(sandbox.kubeconfig), "files": [str(folder / f"{name}.yaml") for name in ORDER]}
    command = [str(BIN / "ansible-playbook"), "tests/bench/plain.yml", "-e", json.dumps(variables)]
    environment = {**os.environ, "HOME": str(sandbox.folder), "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")}
    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, capture_output=True, timeout=300)


WAYS: dict[str, Callable[[Sandbox, Path], None]] = {
    "this collection": ours,
    "kubectl": kubectl,
    "plain playbook": plain,
}


def clean(sandbox: Sandbox) -> None:
    sandbox.kubectl("delete", "namespace", "ml-inference", "--ignore-not-found", "--wait=true")


def main(rounds: int = 3) -> None:
    """Prints seconds (median), ratios, requests and where the seconds go."""
    if not shutil.which("kubectl") or not shutil.which("curl"):
        sys.exit("The deploy bench compares with kubectl and curl, and one of them is not on the PATH")
    took: dict[tuple[str, str], list[float]] = {}
    asked: dict[tuple[str, str], int] = {}
    with tempfile.TemporaryDirectory(prefix="inference-bench-") as name:
        sandbox = Sandbox(Path(name))
        try:
            folder = Path(name) / "rendered"
            rendered = sandbox.play("playbooks/render.yml", render_output=str(folder))
            assert rendered.code == 0, rendered.out
            for _round in range(rounds):
                for way, run in WAYS.items():
                    for phase in ("first", "no-op"):
                        since = len(sandbox.audit())
                        start = time.perf_counter()
                        run(sandbox, folder)
                        took.setdefault((way, phase), []).append(time.perf_counter() - start)
                        asked[way, phase] = len(sandbox.audit()) - since
                    clean(sandbox)
            sandbox.profile = True
            shares = sandbox.deploy(verification_autoscaler="skip").out
        finally:
            sandbox.down()
    print(f"| way | first answer | of kubectl | no-op | of kubectl | requests first / no-op |\n|{'---|' * 6}")
    medians = {key: statistics.median(seconds) for key, seconds in took.items()}
    for way in WAYS:
        cells = []
        for phase in ("first", "no-op"):
            cells += [f"{medians[way, phase]:.1f} s", f"{medians[way, phase] / medians['kubectl', phase]:.2f} x"]
        counts = " / ".join(str(asked[way, phase]) for phase in ("first", "no-op"))
        print(f"| {way} | {' | '.join(cells)} | {counts} |")
    for phase in ("first", "no-op"):
        ratio = medians["plain playbook", phase] / medians["this collection", phase]
        print(f"{phase}: {ratio:.1f} x faster than the plain playbook")
    print("where the seconds of one first deploy go:")
    tail = shares.split("TASKS RECAP")[-1].splitlines()[3:9] if "TASKS RECAP" in shares else []
    print("\n".join(tail))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
