"""How fast the app is beside its peers, in one run: python -m tests.bench.app [--rounds N] [--seconds S] [--write DIR].

One server on one core, the load on another; rounds of all servers are interleaved, so that a busy machine is unfair to
none of them, and each figure is the median of its rounds. What a peer needs that is absent is named and skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from inference_app.export import export

from .peers.models import fitted

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).parent / "peers"
BENCH_PYTHON = ROOT / ".venv-bench/bin/python"
OURS, NAIVE, FLOOR, MLSERVER, BENTO = "inference_app", "naive FastAPI", "bare ASGI", "MLServer", "BentoML"
SERVER_CPU, LOAD_CPU = (sorted(os.sched_getaffinity(0)) * 2)[:2]
Result = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A server as a process group pinned to one core."""

    name: str
    command: list[str]
    port: int
    env: dict[str, str]
    cwd: Path
    path: str = "/predict"
    ready: str = "/health"
    protocol: str = "predict"
    pin: bool = True
    enter: list[Path] = field(default_factory=list)  # cgroups' process lists

    def start(self) -> float:
        """Start it; seconds until it was ready."""
        mine = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1", **self.env}

        def prepare() -> None:
            if self.pin:
                os.sched_setaffinity(0, {SERVER_CPU})
            for group in self.enter:
                group.write_text(str(os.getpid()))

        self.log = (self.cwd / f"{self.name.replace(' ', '-')}.log").open("wb")
        started = time.perf_counter()
        self.process = subprocess.Popen(
            self.command,
            cwd=self.cwd,
            env=mine,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,
        )
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url + self.ready, timeout=5):
                return time.perf_counter() - started
            if self.process.poll() is not None or time.perf_counter() - started > 120:
                raise RuntimeError(f"{self.name} didn't start: {Path(self.log.name).read_text()[-2000:]}")
            time.sleep(0.01)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()

    def tree(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.tree())

    def memory(self) -> float:
        """MiB that are its own: a page that several processes share counts once."""
        return sum(process.memory_full_info().pss for process in self.tree()) / 2**20


def body_of(protocol: str, rows: list[list[float]]) -> bytes:
    if protocol == "predict":
        return json.dumps({"features": rows}).encode()
    flat = [number for row in rows for number in row]
    tensor = {"name": "features", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": flat}
    return json.dumps({"inputs": [tensor], "outputs": [{"name": "predict_proba"}]}).encode()


def press(server: Server, body: Path, connections: int, seconds: float) -> Result:
    """One round against one server."""
    command = [sys.executable, "-m", "tests.bench.load", "127.0.0.1", str(server.port), server.path, str(body)]
    before = server.cpu()
    done = subprocess.run(
        [*command, str(connections), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + 60,
        preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CPU}),
    )
    result: Result = json.loads(done.stdout)
    result["rate"] = result["requests"] / result["seconds"]
    result["cpu"] = 1e6 * (server.cpu() - before) / max(1, result["requests"])
    result["failed"] = sum(count for status, count in result["statuses"].items() if status != "200") + result["lost"]
    return result


def servers(work: Path, model: str) -> Iterator[Server]:
    """Every server that can be had here, not started."""
    python = sys.executable
    port = free_port()
    settings = {"PORT": str(port), "MODEL_PATH": str(work / model), "DRAIN_SECONDS": "0"}
    yield Server(
        OURS, [python, "-m", "inference_app", "--host", "127.0.0.1"], port, settings | {"PYTHONPATH": str(ROOT)}, work,
        ready="/ready",
    )  # fmt: skip
    for name, module in ((NAIVE, "naive"), (FLOOR, "floor")):
        port = free_port()
        uvicorn = [
            python,
            "-m",
            "uvicorn",
            f"{module}:app",
            "--port",
            str(port),
            "--no-access-log",
            "--app-dir",
            str(PEERS),
        ]
        yield Server(name, uvicorn, port, {"BENCH_MODEL": str(work / f"{model}.joblib")}, work)
    if not BENCH_PYTHON.exists():
        print(f"skipped: {MLSERVER} and {BENTO}: .venv-bench is absent (make setup-bench)", file=sys.stderr)
        return
    port = free_port()
    home = work / f"mlserver-{model}"
    home.mkdir(exist_ok=True)
    shape = {"implementation": "mlserver_sklearn.SKLearnModel", "max_batch_size": 64, "max_batch_time": 0.002}
    uri = str(work / "peers" / f"{model}.joblib")
    (home / "model-settings.json").write_text(json.dumps({"name": model, **shape, "parameters": {"uri": uri}}))
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (home / "settings.json").write_text(
        json.dumps({"host": "127.0.0.1", "parallel_workers": 0, "debug": False, "metrics_endpoint": None, **ports})
    )
    mlserver = [str(BENCH_PYTHON.with_name("mlserver")), "start", str(home)]
    yield Server(
        MLSERVER, mlserver, port, {}, home, path=f"/v2/models/{model}/infer", ready=f"/v2/models/{model}/ready",
        protocol="v2",
    )  # fmt: skip
    port = free_port()
    bento = [str(BENCH_PYTHON.with_name("bentoml")), "serve", "bento:Wine", "--host", "127.0.0.1", "--port", str(port)]
    env = {
        "BENCH_MODEL": uri,
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(work / "bentoml"),
        "PYTHONPATH": str(PEERS),
    }
    yield Server(BENTO, [*bento, "--working-dir", str(PEERS)], port, env, work, ready="/readyz")


SCENARIOS = (("1 row, 16 connections", 1, 16), ("100 rows, 16 connections", 100, 16), ("1 row, 1 connection", 1, 1))


def compare(work: Path, model: str, rounds: int, seconds: float) -> dict[str, dict[str, Result]]:
    """Scenario → server → figures, for one model."""
    from sklearn.datasets import load_wine

    rows = load_wine().data.tolist()
    figures: dict[str, dict[str, list[Result]]] = {name: {} for name, _, _ in SCENARIOS}
    figures["start"] = {}
    with contextlib.ExitStack() as stack:
        running = []
        for server in servers(work, model):
            starts = []
            for _ in range(rounds):
                starts.append({"ready": server.start()})
                if len(starts) < rounds:
                    server.stop()
            stack.callback(server.stop)
            figures["start"][server.name] = starts
            running.append(server)
        for number in range(rounds + 1):
            for scenario, count, connections in SCENARIOS:
                for server in running:
                    body = work / f"{server.protocol}-{count}.json"
                    body.write_bytes(body_of(server.protocol, (rows * 2)[:count]))
                    result = press(server, body, connections, seconds)
                    if number:  # the first round warms everything up
                        figures[scenario].setdefault(server.name, []).append(result)
        for server in running:
            figures["start"][server.name] = [{**s, "memory": server.memory()} for s in figures["start"][server.name]]
    return {
        scenario: {
            name: {
                key: statistics.median(result[key] for result in results)
                for key, value in results[0].items()
                if isinstance(value, int | float)
            }
            for name, results in by_server.items()
        }
        for scenario, by_server in figures.items()
    }


@contextlib.contextmanager
def limited(cpu: float, memory: int) -> Iterator[list[Path]]:
    """Process lists of new cgroups with so many CPUs and bytes; empty where this machine doesn't let us."""
    base = Path("/sys/fs/cgroup")
    name = f"bench-{os.getpid()}"
    made: list[Path] = []
    try:
        if (base / "cgroup.controllers").exists():
            group = base / name
            group.mkdir()
            made.append(group)
            (group / "cpu.max").write_text(f"{int(cpu * 100_000)} 100000")
            (group / "memory.max").write_text(str(memory))
        else:
            for controller, settings in (
                ("cpu", {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": int(cpu * 100_000)}),
                ("memory", {"memory.limit_in_bytes": memory}),
            ):
                group = base / controller / name
                group.mkdir()
                made.append(group)
                for file, value in settings.items():
                    (group / file).write_text(str(value))
        groups = [group / "cgroup.procs" for group in made]
    except OSError as error:
        print(f"skipped: the limits of a pod: {error}", file=sys.stderr)
        groups = []
    try:
        yield groups
    finally:
        for group in made:
            with contextlib.suppress(OSError):
                group.rmdir()


def inside_limits(work: Path, model: str, seconds: float) -> Result | None:
    """Our server inside half a CPU and 256 MiB, with 64 connections."""
    with limited(0.5, 256 << 20) as groups:
        if not groups:
            return None
        server = next(iter(servers(work, model)))
        server.enter, server.pin = groups, False
        body = work / "predict-1.json"
        try:
            ready = server.start()
            result = press(server, body, 64, seconds)
            result |= {"ready": ready, "memory": server.memory(), "killed": server.process.poll() is not None}
        finally:
            server.stop()
    return result


def table(model: str, figures: dict[str, dict[str, Result]]) -> list[str]:
    lines = [f"## {model}", ""]
    for scenario, _, _ in SCENARIOS:
        by_server = figures[scenario]
        ours = by_server[OURS]
        lines += [
            f"### {scenario}",
            "",
            "| server | requests/s | we are | CPU µs/request | p50 ms | p99 ms | failed |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for name, result in sorted(by_server.items(), key=lambda item: -item[1]["rate"]):
            ratio = "" if name == OURS else f"{ours['rate'] / result['rate']:.2f} x"
            lines.append(
                f"| {name} | {result['rate']:,.0f} | {ratio} | {result['cpu']:.0f} | {result['p50']:.2f} "
                f"| {result['p99']:.2f} | {result['failed']:.0f} |"
            )
        lines.append("")
    lines += ["### Start and memory", "", "| server | ready after s | MiB after the load |", "|---|--:|--:|"]
    lines += [f"| {name} | {r['ready']:.2f} | {r['memory']:.0f} |" for name, r in figures["start"].items()]
    return [*lines, ""]


def plot(models: dict[str, dict[str, dict[str, Result]]]) -> str:
    """An SVG of requests per second, one bar a server, on a logarithmic scale."""
    import math

    bars: list[str] = []
    top = 30
    for model, figures in models.items():
        by_server = figures[SCENARIOS[0][0]]
        bars.append(f'<text x="10" y="{top}" font-weight="600">{model}: requests/s, {SCENARIOS[0][0]}</text>')
        for name, result in sorted(by_server.items(), key=lambda item: -item[1]["rate"]):
            top += 26
            width = max(2.0, 120 * (math.log10(result["rate"]) - 1))
            colour = "#6b1f3a" if name == OURS else "#9aa3b5"
            bars.append(f'<text x="120" y="{top}" text-anchor="end">{name}</text>')
            bars.append(f'<rect x="130" y="{top - 13}" width="{width:.0f}" height="17" rx="3" fill="{colour}"/>')
            bars.append(f'<text x="{138 + width:.0f}" y="{top}">{result["rate"]:,.0f}</text>')
        top += 46
    style = 'font-family="system-ui, sans-serif" font-size="13"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 {top - 20}" {style}>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(bars)}</svg>\n'
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.app", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round")
    parser.add_argument("--write", type=Path, help="write bench-app.md and bench-app.svg into this directory")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped on the way out
    lines = [
        "# The app beside its peers",
        "",
        f"One server on one core, the load on another, of {os.cpu_count()} ({platform.machine()}); {arguments.rounds} "
        f"interleaved rounds of {arguments.seconds:g} s each, medians. `python -m tests.bench.app` makes this page.",
        "",
    ]
    models = {}
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        make_models(work)
        for model in ("linear", "forest"):
            models[model] = compare(work, model, arguments.rounds, arguments.seconds)
            lines += table(model, models[model])
            inside = inside_limits(work, model, arguments.seconds)
            if inside:
                lines += [
                    f"Inside 0.5 CPU and 256 MiB, 64 connections: {inside['rate']:,.0f} requests/s, "
                    f"p99 {inside['p99']:.0f} ms, {inside['failed']} failed, ready after {inside['ready']:.1f} s, "
                    f"{inside['memory']:.0f} MiB, "
                    f"{'KILLED' if inside['killed'] else 'not killed'}.",
                    "",
                ]
    busy = os.getloadavg()[1]
    lines.append(f"The machine's load average at the end was {busy:.1f}; the bench itself makes about 1.5 of it.")
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        picture = "![requests per second](bench-app.svg)\n\n"
        (arguments.write / "bench-app.md").write_text(text.replace("## linear", f"{picture}## linear", 1))
        (arguments.write / "bench-app.svg").write_text(plot(models))
    return 0


def make_models(work: Path) -> None:
    """The same two models for everybody, each fitted by the scikit-learn that will read it."""
    from sklearn.datasets import load_wine

    wine = load_wine()
    names = {"feature_names": list(wine.feature_names), "class_names": [str(n) for n in wine.target_names]}
    for name, estimator in fitted().items():
        export(estimator, work / name, name=name, version="1", rows=wine.data, **names)
    for python, where in ((Path(sys.executable), work), (BENCH_PYTHON, work / "peers")):
        if python.exists():
            where.mkdir(exist_ok=True)
            subprocess.run([python, PEERS / "models.py", where], check=True)


if __name__ == "__main__":
    sys.exit(main())
