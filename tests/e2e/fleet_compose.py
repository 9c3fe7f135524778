"""`docs/fleet-compose.yaml`, up on free ports: three brokers, two relays and a Jaeger.

The brokers' image is the published one where a registry has it; else it is made of Kafka's jars.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import docker

from tests.e2e import compose, images
from tests.e2e.containers import LABELS, RUN, daemon
from tests.e2e.jaeger import Queries
from tests.support import kafka
from tests.support.ports import free_port

FILE = images.ROOT / "docs" / "fleet-compose.yaml"
OWN = images.ROOT / "tests" / "e2e" / "kafka"
PUBLISHED = f"apache/kafka:{kafka.VERSION}"
TOKEN = "token-of-the-fleet"
SECONDS = 180
BROKERS = ("k1", "k2", "k3")
SERVICES = (*BROKERS, "relay-a", "relay-b", "jaeger")
VOLUMES = (*BROKERS, "a", "b")


def kafka_image() -> str:
    """The tag of an image of Kafka, which the daemon has when this returns."""
    built = f"otlp-relay-e2e/kafka:{images.recipe_hash(OWN)}-{kafka.VERSION}"
    client = docker.from_env(timeout=images.BUILD_SECONDS)
    try:
        source = images.choose(
            os.environ.get(images.FORCE, ""),
            has_pulled=lambda: images.has(client, PUBLISHED),
            has_built=lambda: images.has(client, built),
            can_pull=lambda: images.has_registry(PUBLISHED) and images.pull(PUBLISHED),
        )
        if source is images.Source.PULL:
            return PUBLISHED
        if not images.has(client, built):
            with tempfile.TemporaryDirectory() as context:
                shutil.copytree(OWN, context, dirs_exist_ok=True)
                shutil.copytree(kafka.libraries(), Path(context) / "libs")
                client.images.build(
                    path=context, tag=built, buildargs={"BASE": images.ready("base")},
                    network_mode="host", rm=True,
                )  # fmt: skip
        return built
    finally:
        client.close()


class FleetCompose:
    """All of its services, up; gone at the end."""

    def __init__(self, folder: Path) -> None:
        self.ports = {"relay-a": free_port(), "relay-b": free_port()}
        jaeger_port = free_port()
        self._project = f"fleet-{RUN[:12]}"
        self._labels = folder / "labels.json"  # what the clearing up goes by; JSON is YAML
        own = {"labels": LABELS}
        labels = {
            "services": dict.fromkeys(SERVICES, own),
            "volumes": dict.fromkeys(VOLUMES, own),
            "networks": {"default": own},
        }
        self._labels.write_text(json.dumps(labels))
        self._environ = os.environ | {
            "KAFKA_IMAGE": kafka_image(),
            "RELAY_IMAGE": images.own(),
            "RELAY_TOKEN": TOKEN,
            "JAEGER_IMAGE": images.ready("jaeger"),
            "RELAY_A_PORT": str(self.ports["relay-a"]),
            "RELAY_B_PORT": str(self.ports["relay-b"]),
            "JAEGER_PORT": str(jaeger_port),
        }
        self.jaeger = Queries(lambda: jaeger_port)

    def run(self, *words: str) -> str:
        """What a command of compose prints; it must end well."""
        files = ["--file", str(FILE), "--file", str(self._labels)]
        done = subprocess.run(
            [*compose.command(), "--project-name", self._project, *files, *words],
            env=self._environ, timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def otlp_relay(self, service: str, *words: str) -> str:
        """What `docker compose exec SERVICE otlp-relay …` prints."""
        return self.run("exec", "-T", service, "otlp-relay", *words)

    def state(self, service: str) -> dict[str, Any]:
        """What the daemon says of the service's container, with its log if that has ended."""
        client = daemon()
        try:
            container = client.containers.get(self.run("ps", "--quiet", service).strip())
            state = dict(container.attrs["State"])
            assert state["Running"], container.logs().decode()[-4000:]
            return state
        finally:
            client.close()

    def is_healthy(self, service: str) -> bool:
        """Whether the relay of that service takes requests."""
        return bool(self.state(service)["Health"]["Status"] == "healthy")

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


if __name__ == "__main__":
    images.tell(f"kafka: {kafka_image()}")
