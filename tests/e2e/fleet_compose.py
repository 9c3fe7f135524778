"""`docs/fleet-compose.yaml`, up on free ports: three brokers, two relays and a Jaeger.

The brokers' image is the published one where a registry has it; else it is made of Kafka's jars.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import docker

from tests.e2e import images
from tests.e2e.compose import Project
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


class FleetCompose(Project):
    """All of its services, up; gone at the end."""

    def __init__(self, folder: Path) -> None:
        self.ports = {"relay-a": free_port(), "relay-b": free_port()}
        jaeger_port = free_port()
        environ = {
            "KAFKA_IMAGE": kafka_image(),
            "RELAY_IMAGE": images.own(),
            "RELAY_TOKEN": TOKEN,
            "JAEGER_IMAGE": images.ready("jaeger"),
            "RELAY_A_PORT": str(self.ports["relay-a"]),
            "RELAY_B_PORT": str(self.ports["relay-b"]),
            "JAEGER_PORT": str(jaeger_port),
        }
        super().__init__(
            FILE, "fleet", folder, environ, services=SERVICES, volumes=VOLUMES, seconds=SECONDS
        )
        self.jaeger = Queries(lambda: jaeger_port)

    def state(self, service: str) -> dict[str, Any]:
        """What the daemon says of the service's container, with its log if that has ended."""
        with self.container(service) as found:
            state = dict(found.attrs["State"])
            assert state["Running"], found.logs().decode()[-4000:]
            return state

    def is_healthy(self, service: str) -> bool:
        """Whether the relay of that service takes requests."""
        return bool(self.state(service)["Health"]["Status"] == "healthy")


if __name__ == "__main__":
    images.tell(f"kafka: {kafka_image()}")
