"""Containers and networks that are surely taken away: from an image to one that runs on a port.

testcontainers has a container of its own for the clearing up, which it would have to pull, and
which some daemons do not allow. Here labels do that: what carries this run's label is removed at
its end, and what carries the label of a run that no longer lives is removed by the next.
"""

import contextlib
import fcntl
import http.client
import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from tests.e2e.images import CACHE
from tests.support.ports import free_port
from tests.support.relay_process import eventually

testcontainers_config.ryuk_disabled = True

RUN = uuid.uuid4().hex
RUNS = CACHE / "runs"
LABEL_RUN, LABEL_HOST = "otlp-relay.e2e.run", "otlp-relay.e2e.host"
LABELS = {LABEL_RUN: RUN, LABEL_HOST: socket.gethostname()}
STOP_SECONDS = 10
START_SECONDS = 60.0
PORT_ATTEMPTS = 5
NO_DAEMON = "no Docker daemon answers; scripts/docker starts one or says how to get one"


class Ground:
    """What all containers of a run share: the lock that says it lives, and a network."""

    was_made = False

    def __init__(self) -> None:
        daemon().close()
        Ground.was_made = True
        self.network = Network(docker_network_kw={"labels": LABELS})
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self._lock = hold(RUN)
        sweep(mine=False)
        self.network.create()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sweep(mine=True)
        if self._lock is not None:
            Path(self._lock.name).unlink(missing_ok=True)
            self._lock.close()


def hold(run: str) -> IO[str]:
    """Lock the run's file for as long as this process lives; raises OSError if another has it."""
    RUNS.mkdir(parents=True, exist_ok=True)
    file = (RUNS / run).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def lives(run: str) -> bool:
    """Whether a process holds the lock of that run."""
    if run == RUN:
        return True
    if not (RUNS / run).exists():
        return False
    try:
        hold(run).close()
    except OSError:
        return True
    (RUNS / run).unlink(missing_ok=True)
    return False


def sweep(*, mine: bool) -> None:
    """Remove what this run made (`mine`), or what runs of this host left that live no more."""
    client = daemon()
    try:
        key = LABEL_RUN if mine else LABEL_HOST
        label = f"{key}={LABELS[key]}"
        for container in client.containers.list(
            all=True, filters={"label": label}, ignore_removed=True
        ):
            if mine or not lives(container.labels.get(LABEL_RUN, "")):
                remove(container)
        for network in client.networks.list(filters={"label": label}):
            if mine or not lives(network.attrs["Labels"].get(LABEL_RUN, "")):
                with contextlib.suppress(NotFound):
                    network.remove()
        for volume in client.volumes.list(filters={"label": label}):
            if mine or not lives(volume.attrs["Labels"].get(LABEL_RUN, "")):
                with contextlib.suppress(NotFound):
                    volume.remove()
    finally:
        client.close()


def remove(container: Container) -> None:
    """Take it away with its volumes, whatever it is doing; that it is gone already is fine."""
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        # Another run clearing up at the same time got there first.
        if error.status_code != http.client.CONFLICT:
            raise


def daemon() -> docker.DockerClient:
    """A client of the daemon; raises RuntimeError with what to do when none answers."""
    try:
        return docker.from_env()
    except DockerException as error:
        raise RuntimeError(NO_DAEMON) from error


class Service:
    """One container with a fixed place on this host: it can be stopped and started again there.

    `ports` are the container's, each bound to a port of 127.0.0.1 that stays the same over `stop`
    and `start`. With `host_network` there is no binding: the container has the host's ports.
    """

    def __init__(
        self,
        ground: Ground,
        image: str,
        command: list[str],
        ports: tuple[int, ...],
        *,
        alias: str = "",
        environ: Mapping[str, str] | None = None,
        volumes: Mapping[Path, str] | None = None,
        host_network: bool = False,
    ) -> None:
        self._ground, self._image, self._command = ground, image, command
        self._alias = alias
        self._environ = dict(environ or {})
        self._volumes = dict(volumes or {})
        self._host_network = host_network
        self._container: Container | None = None
        self.ports: dict[int, int] = {port: port for port in ports} if host_network else {}
        self._wanted = ports

    def start(self) -> None:
        """Start it, the first time or again; it may not answer yet."""
        if self._container is not None:
            self._container.start()
            return
        for attempt in range(PORT_ATTEMPTS):
            if not self._host_network:
                self.ports = {port: free_port() for port in self._wanted}
            try:
                self._create()
            except APIError as error:
                # Someone took the port after we looked; the container was made all the same.
                taken = "already allocated" in str(error) or "address already in use" in str(error)
                if not taken or attempt == PORT_ATTEMPTS - 1:
                    raise
            else:
                return

    def _create(self) -> None:
        made = DockerContainer(self._image).with_command(self._command).with_envs(**self._environ)
        for folder, target in self._volumes.items():
            made.with_volume_mapping(str(folder), target, "rw")
        # Our own user, so that what it writes into our folders can be removed by us.
        settings: dict[str, Any] = {"labels": LABELS, "user": f"{os.getuid()}:{os.getgid()}"}
        if self._host_network:
            settings["network"] = "host"
        else:
            made.with_network(self._ground.network)
            if self._alias:
                made.with_network_aliases(self._alias)
            settings["extra_hosts"] = {"host.docker.internal": "host-gateway"}
            # Its own way of binding would open the ports to the network.
            bound = {f"{port}/tcp": ("127.0.0.1", at) for port, at in self.ports.items()}
            cast("Any", made).ports = bound
        made.with_kwargs(**settings)
        try:
            made.start()
        except APIError:
            made.stop()
            raise
        self._container = made.get_wrapped_container()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after ten seconds; its disk stays."""
        assert self._container is not None
        self._container.stop(timeout=STOP_SECONDS)

    def signal(self, name: str) -> None:
        """Send its first process a signal, such as `SIGHUP`."""
        assert self._container is not None
        self._container.kill(signal=name)

    def remove(self) -> None:
        """Take the container away with what it wrote; one that was never made is fine."""
        if self._container is not None:
            remove(self._container)
            self._container = None

    def logs(self) -> str:
        """All that it has written since it was made."""
        assert self._container is not None
        return str(self._container.logs(), errors="replace")

    def wait_until(self, method: str, path: str, port: int, accepted: tuple[int, ...]) -> None:
        """Until a request to one of its ports gets one of these codes; fails if it has ended.

        A connection alone would prove nothing: the daemon's own proxy takes those.
        """

        def answers() -> bool:
            assert self._container is not None
            self._container.reload()
            if self._container.status == "exited":
                raise AssertionError(f"the container ended; its log:\n{self.logs()[-4000:]}")
            return self.ask(method, path, port) in accepted

        eventually(answers, seconds=START_SECONDS, what=f"{self._image} on port {port}")

    def ask(self, method: str, path: str, port: int) -> int:
        """The code of an answer to an empty request; 0 when there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=5)
        try:
            body = b"{}" if method == "POST" else None
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()
