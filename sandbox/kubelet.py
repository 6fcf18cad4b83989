"""The kubelet: one worker for each pod that is bound to a node, from its first status to its last."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from sandbox import images, logs, podstatus, probes, processes, volumes
from sandbox.addresses import Block
from sandbox.api.errors import ApiStatus, bad_request
from sandbox.api.machinery import Api
from sandbox.config import Config, Image, expand
from sandbox.containers import Container, StartError
from sandbox.controller import Key, Obj, Recorder, key_of
from sandbox.logs import Log
from sandbox.metrics import Meter

_PULL_FIRST, _PULL_MOST = 10.0, 300.0
_RESYNC = 10.0  # how often a kubelet looks again at what it could not start
_PROBES = {"startup": "Startup", "readiness": "Readiness", "liveness": "Liveness"}


class Kubelet:
    """Runs the pods of every node. It is the API server's `Runtime` as well."""

    def __init__(self, api: Api, config: Config, block: Block, directory: Path, mark: str, api_port: int) -> None:
        self.api, self.config, self.block, self.directory = api, config, block, directory
        self.base_env = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api_port), processes.MARK: mark,
        }  # fmt: skip
        self.workers: dict[str, Worker] = {}
        self.meter = Meter(api, config.metrics_seconds, self.running)

    async def run(self) -> None:
        watch = self.api.watch("Pod")
        for pod in self.api.list("Pod"):
            self._see("ADDED", pod)
        try:
            async for type_, _, pod in watch:
                self._see(type_, pod)
        finally:
            watch.close()

    def _see(self, type_: str, pod: Obj) -> None:
        worker = self.workers.get(pod["metadata"]["uid"])
        if worker:
            worker.see(type_, pod)
        elif type_ != "DELETED" and pod["spec"].get("nodeName"):
            self.workers[pod["metadata"]["uid"]] = Worker(self, pod)

    def running(self) -> dict[int, tuple[Key, Container]]:
        """The running containers by the pid of their first process."""
        return {
            container.process.pid: (key_of(worker.pod), container)
            for worker in self.workers.values()
            for container in (*worker.init, *worker.main)
            if container.process and "running" in container.state
        }

    # --- the API server's side ----------------------------------------------------------------------------------------

    def _worker(self, pod: Obj) -> Worker | None:
        return self.workers.get(pod["metadata"]["uid"])

    def pod_address(self, pod: Obj) -> str | None:
        worker = self._worker(pod)
        return worker.address or None if worker else None

    def pod_metrics(self, namespace: str | None) -> list[Obj]:
        return self.meter.pods(namespace)

    def node_metrics(self) -> list[Obj]:
        return self.meter.nodes()

    async def log(
        self, pod: Obj, container: str | None, *, previous: bool, follow: bool, tail: int | None,
        since_seconds: int | None, timestamps: bool, limit_bytes: int | None,
    ) -> AsyncIterator[bytes]:  # fmt: skip
        worker, name = self._worker(pod), pod["metadata"]["name"]
        if not worker:
            raise bad_request(f"pod {name} does not have a host assigned")
        found = [c for c in (*worker.init, *worker.main) if container in (None, c.name)]
        if not found:
            raise bad_request(f"container {container} is not valid for pod {name}")
        one = found[-1]
        log = one.previous_log if previous else one.log
        if log is None and previous:
            raise bad_request(f'previous terminated container "{one.name}" in pod "{name}" not found')
        if log is None:
            reason = one.state.get("waiting", {}).get("reason", "")
            pulls = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
            text = f'container "{one.name}" in pod "{name}" is waiting to start: {pulls.get(reason, reason)}'
            raise bad_request(text)
        since = self.api.clock() - since_seconds if since_seconds else None
        chosen = logs.Choice(follow, tail, since, timestamps, limit_bytes)
        async for chunk in logs.read(log, chosen):
            yield chunk


class Worker:
    """One pod's life."""

    def __init__(self, kubelet: Kubelet, pod: Obj) -> None:
        self.kubelet, self.pod, self.api = kubelet, pod, kubelet.api
        self.recorder = Recorder(kubelet.api, "kubelet", pod["spec"]["nodeName"])
        self.directory = kubelet.directory / pod["metadata"]["uid"]
        self.address = ""
        self.has_sandbox = False
        init = pod["spec"].get("initContainers") or []
        waiting = {"waiting": {"reason": "PodInitializing" if init else "ContainerCreating"}}
        self.init = [Container(spec, waiting, is_init=True) for spec in init]
        self.main = [Container(spec, waiting) for spec in pod["spec"]["containers"]]
        self.places: dict[str, Path] = {}
        self.deleted = asyncio.Event()
        self.gone = False
        self.task = asyncio.create_task(self._run())

    # --- what the API says --------------------------------------------------------------------------------------------

    def see(self, type_: str, pod: Obj) -> None:
        self.pod = pod
        self.gone = self.gone or type_ == "DELETED"
        if self.gone or "deletionTimestamp" in pod["metadata"]:
            self.deleted.set()

    def write(self, *, is_over: bool = False) -> None:
        """Tell the API server how the pod is."""
        if self.gone:
            return
        name, namespace = self.pod["metadata"]["name"], self.pod["metadata"]["namespace"]
        try:
            pod = self.api.get("Pod", name, namespace)
            if pod["metadata"]["uid"] != self.pod["metadata"]["uid"]:
                return
            status = podstatus.build(
                pod, self.init, self.main, now=self.api.now(), has_sandbox=self.has_sandbox, pod_ip=self.address,
                host_ip=self.kubelet.block.node, is_over=is_over,
            )  # fmt: skip
            if status != pod.get("status"):
                self.api.update("Pod", {**pod, "status": status}, subresource="status", manager="kubelet")
        except ApiStatus:  # deleted by force meanwhile
            return

    def event(self, container: Container | None, type_: str, reason: str, message: str) -> None:
        field = ""
        if container:
            field = f"spec.{'initContainers' if container.is_init else 'containers'}{{{container.name}}}"
        self.recorder.event(self.pod, type_, reason, message, field)

    # --- the life -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        life = asyncio.create_task(self._guard(self._live))
        try:
            await self.deleted.wait()
            self.write()
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            grace = 0 if self.gone else self.pod["metadata"].get("deletionGracePeriodSeconds") or 0
            running = [c for c in (*self.init, *self.main) if c.ended and "running" in c.state]
            await asyncio.gather(*(self._stop(c, grace, f"Stopping container {c.name}") for c in running))
            for container in running:
                await self._settle(container)
            self.has_sandbox = False
            self.write(is_over=True)
            if not self.gone:
                with contextlib.suppress(ApiStatus):
                    meta = self.pod["metadata"]
                    self.api.delete("Pod", meta["name"], meta["namespace"], grace_seconds=0, uid=meta["uid"])
        finally:
            self.kubelet.workers.pop(self.pod["metadata"]["uid"], None)
            self.kubelet.block.free(self.address)
            shutil.rmtree(self.directory, ignore_errors=True)

    async def _guard(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        try:
            await work(*arguments)
        except Exception:
            traceback.print_exc(file=sys.stderr)

    async def _live(self) -> None:
        self.write()
        await self._mount()
        self.has_sandbox = True
        self.write()
        for container in self.init:
            if not await self._keep(container):
                return
        await asyncio.gather(*(self._keep(container) for container in self.main))

    async def _mount(self) -> None:
        self.address = self.kubelet.block.take("pod")
        delay = 0.5
        while True:
            try:
                place = self.directory / "volumes"
                self.places = volumes.mount(self.api, self.pod, place, self.address, self.kubelet.block.node)
                return
            except volumes.MountError as error:
                self.event(None, "Warning", "FailedMount", str(error))
            await asyncio.sleep(delay)
            delay = min(delay * 2, 122)

    async def _keep(self, container: Container) -> bool:
        """Run a container until its restart policy is satisfied; whether it ended well."""
        policy = self.pod["spec"].get("restartPolicy", "Always")
        if container.is_init and policy == "Always":
            policy = "OnFailure"
        attempt = 0
        while True:
            image = await self._pull(container)
            if not await self._start(container, image, attempt):
                continue
            attempt += 1
            if container.ended:
                code = await asyncio.shield(container.ended)
                if not container.stopping:  # else the kubelet itself ended it, and goes on at once
                    await asyncio.sleep(self.kubelet.config.sync_seconds)
                await self._settle(container)
                if not container.stopping:
                    self.write()
            else:
                code = 128
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                return code == 0
            await self._back_off(container)

    async def _back_off(self, container: Container) -> None:
        """Wait for the next start, in CrashLoopBackOff unless it is due at once."""
        now = self.api.clock()
        delay = container.backoff.delay(now)
        if delay:
            meta = self.pod["metadata"]
            pod = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
            event = f"Back-off restarting failed container {container.name} in pod {pod}"
            self.event(container, "Warning", "BackOff", event)
            await asyncio.sleep(1)
            if "terminated" in container.state:
                container.last = container.state
            text = f"back-off {_go_duration(delay)} restarting failed container={container.name} pod={pod}"
            container.state = {"waiting": {"reason": "CrashLoopBackOff", "message": text}}
            self.event(container, "Warning", "BackOff", event)
            self.write()
            await asyncio.sleep(max(0.0, now + delay - self.api.clock()))
        container.backoff.started(self.api.clock())

    async def _settle(self, container: Container) -> None:
        """Note how the run ended."""
        assert container.ended
        code = await container.ended
        ran = container.state.get("running", {}).get("startedAt") or self.api.now()
        reason = "OOMKilled" if container.is_oom else "Completed" if code == 0 else "Error"
        container.state = {"terminated": {
            "exitCode": code, "reason": reason, "startedAt": ran, "finishedAt": self.api.now(),
            "containerID": container.id,
        }}  # fmt: skip
        container.started = False
        container.ready = container.is_init and code == 0
        container.ended = None

    # --- starting -----------------------------------------------------------------------------------------------------

    async def _wait(self, container: Container, reason: str, message: str, delay: float) -> None:
        if "terminated" in container.state:
            container.last = container.state
        container.state = {"waiting": {"reason": reason, "message": message}}
        self.write()
        await asyncio.sleep(delay)

    async def _pull(self, container: Container) -> Image:
        reference = container.spec["image"]
        attempt = 0
        while True:
            if problem := images.problem(reference):
                quoted = f'"{reference}"'
                text = f"Failed to apply default image tag {quoted}: couldn't parse image name {quoted}: {problem}"
                self.event(container, "Warning", "InspectFailed", text)
                self.event(container, "Warning", "Failed", "Error: InvalidImageName")
                await self._wait(container, "InvalidImageName", text, _RESYNC if attempt else 0.5)
            elif image := self.kubelet.config.image(reference):
                present = f'Container image "{reference}" already present on machine and can be accessed by the pod'
                self.event(container, "Normal", "Pulled", present)
                return image
            elif container.spec.get("imagePullPolicy") == "Never":
                text = f'Container image "{reference}" is not present with pull policy of Never'
                self.event(container, "Warning", "ErrImageNeverPull", text)
                self.event(container, "Warning", "Failed", "Error: ErrImageNeverPull")
                await self._wait(container, "ErrImageNeverPull", text, _RESYNC)
            else:
                await self._fail_to_pull(container, reference)
            attempt += 1

    async def _fail_to_pull(self, container: Container, reference: str) -> None:
        full = images.full(reference)
        text = (
            f'rpc error: code = NotFound desc = failed to pull and unpack image "{full}":'
            f" failed to resolve image: {full}: not found"
        )
        self.event(container, "Normal", "Pulling", f'Pulling image "{reference}"')
        self.event(container, "Warning", "Failed", f'Failed to pull image "{reference}": {text}')
        self.event(container, "Warning", "Failed", "Error: ErrImagePull")
        delay = container.pull_backoff = min(max(container.pull_backoff * 2, _PULL_FIRST), _PULL_MOST)
        await self._wait(container, "ErrImagePull", text, 1)
        back = f'Back-off pulling image "{reference}"'
        self.event(container, "Normal", "BackOff", back)
        self.event(container, "Warning", "Failed", "Error: ImagePullBackOff")
        await self._wait(container, "ImagePullBackOff", f"{back}: ErrImagePull: {text}", delay)

    async def _start(self, container: Container, image: Image, attempt: int) -> bool:
        """Whether the start was tried: what cannot be configured is looked at again later."""
        node = self.api.find("Node", self.pod["spec"]["nodeName"]) or {}
        home = self.directory / "home"
        home.mkdir(parents=True, exist_ok=True)
        paths = volumes.Paths(container.spec, self.places)
        base = {**self.kubelet.base_env, "HOSTNAME": self.pod["metadata"]["name"], "HOME": str(home)}
        base |= {name: expand(str(value), self.address) for name, value in image.env.items()}
        if (temporary := paths.real("/tmp")) != "/tmp":  # noqa: S108 - the container's path
            base["TMPDIR"] = temporary
        try:
            self._check_user(container.spec)
            env = volumes.environment(
                self.api, self.pod, container.spec, base, self.address, self.kubelet.block.node,
                node.get("status", {}).get("allocatable", {}),
            )  # fmt: skip
        except volumes.ConfigError as error:
            self.event(container, "Warning", "Failed", f"Error: {error}")
            delay, container.recheck = container.recheck, _RESYNC  # only the first look again comes soon
            await self._wait(container, "CreateContainerConfigError", str(error), delay)
            return False
        container.recheck = 1.0
        if container.startup_passed.is_set():
            container.startup_passed = asyncio.Event()
        container.restarts = attempt
        container.new_id()
        self.event(container, "Normal", "Created", "Container created")
        given = [volumes.substitute(text, env) for text in container.spec.get("command") or []]
        args = [volumes.substitute(text, env) for text in container.spec.get("args") or []]
        # only what the container says of itself speaks of its mount paths
        argv = [paths.real(text) for text in given] or [expand(text, self.address) for text in image.command]
        if args:
            argv += [paths.real(text) for text in args]
        elif not given:
            argv += [expand(text, self.address) for text in image.args]
        env = {name: value if base.get(name) == value else paths.real(value) for name, value in env.items()}
        workdir = Path(paths.real(container.spec.get("workingDir") or ""))
        if not workdir.is_absolute() or not workdir.is_dir():  # a directory of the image
            workdir = Path(expand(image.workdir, self.address))
        log = Log(self.directory / container.name / f"{attempt}.log")
        previous = container.state
        try:
            await container.start(argv, env, str(workdir), log)
        except (StartError, OSError) as error:
            log.closed = True
            self.event(container, "Warning", "Failed", f"Error: {error}")
            failed = {"terminated": {
                "exitCode": 128, "reason": "StartError", "message": str(error), "startedAt": "1970-01-01T00:00:00Z",
                "finishedAt": self.api.now(), "containerID": container.id,
            }}  # fmt: skip
            if self.pod["spec"].get("restartPolicy") == "Never":  # nothing follows
                container.state = failed
            else:
                container.last = failed
                container.state = {"waiting": {"reason": "RunContainerError", "message": str(error)}}
            self.write()
            await asyncio.sleep(self.kubelet.config.sync_seconds)
            return True
        if "terminated" in previous:
            container.last = previous
        container.state = {"running": {"startedAt": self.api.now()}}
        container.started = "startupProbe" not in container.spec
        container.ready = container.started and "readinessProbe" not in container.spec
        if container.started:
            container.startup_passed.set()
        self.event(container, "Normal", "Started", "Container started")
        self.write()
        for kind in _PROBES:
            if f"{kind}Probe" in container.spec and not container.is_init:
                asyncio.create_task(self._guard(self._probe, container, kind))  # noqa: RUF006 - ends with the container
        if hook := container.spec.get("lifecycle", {}).get("postStart"):
            asyncio.create_task(self._guard(self._hook, container, hook))  # noqa: RUF006
        return True

    def _check_user(self, spec: Obj) -> None:
        context = {**(self.pod["spec"].get("securityContext") or {}), **(spec.get("securityContext") or {})}
        if context.get("runAsNonRoot") and context.get("runAsUser") == 0:
            meta = self.pod["metadata"]
            where = f'pod: "{meta["name"]}_{meta["namespace"]}({meta["uid"]})", container: {spec["name"]}'
            raise volumes.ConfigError(f"container's runAsUser breaks non-root policy ({where})")

    # --- probing and stopping -----------------------------------------------------------------------------------------

    async def _attempt(self, container: Container, action: Obj) -> str | None:
        paths = volumes.Paths(container.spec, self.places)
        argv = [paths.real(text) for text in action.get("exec", {}).get("command") or []]
        if argv and argv[0] in ("python", "python3"):
            argv[0] = sys.executable
        command = probes.Command(container.env, container.workdir)
        return await probes.run(action, container.spec, self.address, argv, command)

    async def _probe(self, container: Container, kind: str) -> None:
        probe, ended = container.spec[f"{kind}Probe"], container.ended
        period, good, bad, first = float(probe.get("periodSeconds", 10)), 0, 0, True
        if kind != "startup":
            await container.startup_passed.wait()
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        while container.ended is ended and ended and not ended.done():
            problem = await self._attempt(container, probe)
            if container.ended is not ended or ended.done() or (kind != "readiness" and self.deleted.is_set()):
                return
            if problem is not None:
                good, bad = 0, bad + 1
                self.event(container, "Warning", "Unhealthy", f"{_PROBES[kind]} probe failed: {problem}")
            else:
                good, bad = good + 1, 0
            if kind == "readiness":
                still = container.ready and bad < probe.get("failureThreshold", 3)
                ready = still or good >= probe.get("successThreshold", 1)
                if ready != container.ready:
                    container.ready = ready
                    self.write()
            elif bad >= probe.get("failureThreshold", 3):
                grace = self.pod["spec"].get("terminationGracePeriodSeconds", 30)
                grace = probe.get("terminationGracePeriodSeconds", grace)
                await self._stop(container, grace, f"Container {container.name} failed {kind} probe, will be restarted")
                return
            elif kind == "startup" and good:
                container.started = True
                container.ready = "readinessProbe" not in container.spec
                container.startup_passed.set()
                self.write()
                return
            # a kubelet looks once more soon after the start for what may become ready, then every period
            soon = first and problem is not None and kind != "liveness"
            await asyncio.sleep(min(period, 1.0) if soon else period)
            first = False

    async def _stop(self, container: Container, grace: float, why: str) -> None:
        """preStop, SIGTERM, and SIGKILL when `grace` seconds are over."""
        ended = container.ended
        if not ended or ended.done() or container.stopping:
            return
        container.stopping = True
        self.event(container, "Normal", "Killing", why)
        until = asyncio.get_running_loop().time() + grace
        hook = container.spec.get("lifecycle", {}).get("preStop")
        if hook and grace:
            waiting = asyncio.create_task(self._hook(container, hook))
            await asyncio.wait({waiting, ended}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        if grace:
            container.signal(signal.SIGTERM)
            # a hook that took all the time leaves the process two seconds
            left = max(until - asyncio.get_running_loop().time(), 2.0 if hook else 0.0)
            await asyncio.wait({ended}, timeout=left)
        container.signal(signal.SIGKILL)
        await asyncio.wait({ended})

    async def _hook(self, container: Container, hook: Obj) -> None:
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
            return
        problem = await self._attempt(container, {**hook, "timeoutSeconds": 3600})
        if problem is not None:
            kind = "PreStop" if container.stopping else "PostStart"
            self.event(container, "Warning", f"Failed{kind}Hook", f"{kind}Hook failed: {problem}")


def _go_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
