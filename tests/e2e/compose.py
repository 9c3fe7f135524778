"""The `compose.yaml` of the checkout, up on free ports with images made here; gone at the end."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e import images
from tests.e2e.containers import LABELS, RUN, daemon
from tests.e2e.jaeger import Queries
from tests.support.ports import free_port
from tests.support.relay_process import eventually

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "token-of-compose"
UP_SECONDS = 120


def command() -> list[str]:
    """Docker's own plugin, else the program that came before it."""
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if asked.returncode == 0:
        return ["docker", "compose"]
    found = shutil.which("docker-compose")
    assert found, "there is no `docker compose`: run scripts/docker (as root on Debian)"
    return [found]


class Project:
    """The services of one file, up; gone at the end with their volumes."""

    def __init__(
        self,
        file: Path,
        name: str,
        folder: Path,
        environ: Mapping[str, str],
        *,
        services: Iterable[str],
        volumes: Iterable[str],
        seconds: float,
    ) -> None:
        """`environ` are variables that the file asks for; a command may take `seconds`."""
        self._file = file
        self._project = f"{name}-{RUN[:12]}"
        self._environ = os.environ | environ
        self._seconds = seconds
        own = {"labels": LABELS}
        labels = {
            "services": dict.fromkeys(services, own),
            "volumes": dict.fromkeys(volumes, own),
            "networks": {"default": own},
        }
        self._labels = folder / "labels.json"  # what the clearing up goes by; JSON is YAML
        self._labels.write_text(json.dumps(labels))

    def run(self, *words: str) -> str:
        """What a command of compose prints; it must end well."""
        files = ["--file", str(self._file), "--file", str(self._labels)]
        done = subprocess.run(
            [*command(), "--project-name", self._project, *files, *words],
            cwd=ROOT, env=self._environ, timeout=self._seconds, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def otlp_relay(self, *words: str, service: str = "relay") -> str:
        """What `docker compose exec SERVICE otlp-relay …` prints."""
        return self.run("exec", "-T", service, "otlp-relay", *words)

    @contextmanager
    def container(self, service: str) -> Iterator[Any]:
        """The container of that service."""
        client = daemon()
        try:
            yield client.containers.get(self.run("ps", "--quiet", service).strip())
        finally:
            client.close()

    def __enter__(self) -> Self:
        try:
            self.run("up", "--detach", "--no-build")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run("down", "--volumes", "--timeout", "10")


class Compose(Project):
    """The three services: relay, jaeger, app."""

    def __init__(self, folder: Path) -> None:
        self.relay_port, self.jaeger_port = free_port(), free_port()
        environ = {
            "RELAY_IMAGE": images.own(),
            "APP_IMAGE": images.own("container/app"),
            "JAEGER_IMAGE": images.ready("jaeger"),
            "RELAY_PORT": str(self.relay_port),
            "JAEGER_PORT": str(self.jaeger_port),
            "RELAY_TOKEN": TOKEN,
        }
        super().__init__(
            ROOT / "compose.yaml",
            "e2e",
            folder,
            environ,
            services=("relay", "jaeger", "app"),
            volumes=("state",),
            seconds=UP_SECONDS,
        )
        self.jaeger = Queries(lambda: self.jaeger_port)

    def state(self, service: str) -> dict[str, Any]:
        """What the daemon says of the service's container."""
        with self.container(service) as found:
            return {**found.attrs["State"], "Restarts": found.attrs["RestartCount"]}

    def kill(self, service: str) -> None:
        """SIGKILL to its first process, as the kernel does when memory is short."""
        os.kill(self.state(service)["Pid"], signal.SIGKILL)

    def wait_until_healthy(self, restarts: int = 0) -> None:
        """Until the relay's health check has passed after that many restarts."""

        def is_healthy() -> bool:
            found = self.state("relay")
            return bool(found["Restarts"] == restarts and found["Health"]["Status"] == "healthy")

        eventually(is_healthy, seconds=60, what="a healthy relay")
