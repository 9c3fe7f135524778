"""Real Kafka brokers for tests: made ready once by Maven, then one or three on loopback ports.

`python -m tests.support.kafka` makes them ready and says where they are; it needs Maven and Java 17
or newer. What came is kept in `~/.cache/otlp-relay`, under a hash of the recipe.
"""

import base64
import fcntl
import hashlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_port
from tests.support.relay_process import eventually

VERSION = "4.4.0"
CACHE = Path.home() / ".cache" / "otlp-relay"
READY_SECONDS = 90.0
_DEPENDENCIES = (
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    ("org.slf4j", "slf4j-simple", "1.7.36"),
)
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)
POM = (
    '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    "<groupId>otlp-relay</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>"
    f"<dependencies>{''.join(_DEPENDENCY.format(*each) for each in _DEPENDENCIES)}</dependencies>"
    "</project>\n"
)
_JAVA = ("java", "-Xms64m", "-Xmx160m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# What a broker of a fleet is told; each line has its reason in docs/fleet.md.
_COMMON = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAIN",
    "auto.create.topics.enable": "false",
    "unclean.leader.election.enable": "false",
    "message.max.bytes": 8388608,
    "replica.fetch.max.bytes": 8388608,
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    "group.initial.rebalance.delay.ms": 0,
    "offsets.topic.num.partitions": 6,
    "transaction.state.log.num.partitions": 1,
    "log.retention.check.interval.ms": 1000,
    "log.initial.task.delay.ms": 1000,
    "log.segment.delete.delay.ms": 1000,
    "log.cleaner.dedupe.buffer.size": 4194304,  # 128 MiB, of a heap of 160
    "log.cleaner.backoff.ms": 1000,
}


def libraries() -> Path:
    """The folder of Kafka's jars, fetched if it is not there. Raises CalledProcessError."""
    digest = hashlib.sha256(POM.encode()).hexdigest()[:12]
    target = CACHE / f"kafka-{VERSION}-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as made:
                pom = Path(made) / "pom.xml"
                pom.write_text(POM)
                command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
                subprocess.run([*command, f"-DoutputDirectory={made}/libs"], check=True)
                (Path(made) / "libs").rename(target)
    return target


class Broker:
    """One node: broker and controller in one process, with a folder of its own."""

    def __init__(self, number: int, folder: Path, listeners: Iterable[str] = ()) -> None:
        self.number = number
        self.folder = folder
        self.ports = {"PLAIN": free_port(), **{name: free_port() for name in listeners}}
        self.port, self.controller_port = self.ports["PLAIN"], free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder.with_suffix(".log")
        self.settings = folder.with_suffix(".properties")

    def write_settings(self, voters: str, settings: dict[str, object]) -> None:
        """Write its server.properties."""
        listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in self.ports.items())
        own = {
            "node.id": self.number,
            "controller.quorum.voters": voters,
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": listeners,
            "log.dirs": self.folder,
        }
        lines = [f"{key}={value}" for key, value in {**_COMMON, **settings, **own}.items()]
        self.settings.write_text("\n".join(lines) + "\n")

    def java(self, *arguments: str) -> list[str]:
        """A command line of one of Kafka's own programs."""
        return [*_JAVA, "-cp", f"{libraries()}/*", *arguments]

    def format(self, cluster_id: str) -> None:
        """Make its empty folder one of that cluster."""
        command = self.java("kafka.tools.StorageTool", "format", "-t", cluster_id)
        subprocess.run([*command, "-c", str(self.settings)], check=True, capture_output=True)

    def start(self) -> None:
        """Start it; `is_started` says when it takes requests."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.java("kafka.Kafka", str(self.settings)), stdout=log, stderr=log
            )

    def is_started(self) -> bool:
        """Whether it takes requests; fails when it has ended."""
        assert self.process is not None
        text = self.log.read_text(errors="replace")
        assert self.process.poll() is None, f"broker {self.number} ended: {text[-3000:]}"
        return "Kafka Server started" in text

    def leader(self) -> int | None:
        """Whom it takes for the leader of the controllers, by the last word of its log."""
        _, _, state = self.log.read_text(errors="replace").rpartition("Completed transition to ")
        if state.startswith("Leader("):
            return self.number
        following = re.match(r"FollowerState\(.*?\bleader=(\d+)", state)
        return int(following[1]) if following else None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)


class Brokers:
    """One broker or three, which tests may kill, freeze, wipe and start again.

    With three of them topics are as a fleet wants them: three replicas, two of which must be in
    sync, synced to disk before the acknowledgement.
    """

    def __init__(
        self,
        folder: Path,
        count: int = 3,
        *,
        listeners: Mapping[str, str] | None = None,
        **settings: object,
    ) -> None:
        """`settings` are more lines of server.properties, with _ for each dot; `listeners` names
        more of them beside PLAIN, each with its protocol.
        """
        assert count in {1, 3}
        more = listeners or {}
        protocols = {"PLAIN": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **more}
        # Not with a dash at its beginning: that would be an option of Kafka's programs.
        self._cluster_id = (
            base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        )
        self._nodes = [Broker(n, folder / f"broker-{n}", more) for n in range(1, count + 1)]
        self._settings: dict[str, object] = {
            "default.replication.factor": count,
            "offsets.topic.replication.factor": count,
            "transaction.state.log.replication.factor": count,
            "min.insync.replicas": min(2, count),
            "log.flush.interval.messages": 1,
            "listener.security.protocol.map": ",".join(map(":".join, protocols.items())),
            **{key.replace("_", "."): value for key, value in settings.items()},
        }

    @property
    def bootstrap(self) -> list[str]:
        """Addresses for `fleet.brokers`."""
        return self.at("PLAIN")

    def at(self, listener: str) -> list[str]:
        """Addresses of one of the listeners."""
        return [f"127.0.0.1:{node.ports[listener]}" for node in self._nodes]

    @property
    def numbers(self) -> list[int]:
        """Node ids, from 1."""
        return [node.number for node in self._nodes]

    def node(self, number: int) -> Broker:
        """One of them."""
        return self._nodes[number - 1]

    def start(self) -> Self:
        """Format and start all, and return when every one takes requests."""
        voters = ",".join(f"{n.number}@127.0.0.1:{n.controller_port}" for n in self._nodes)
        for node in self._nodes:
            node.write_settings(voters, self._settings)
            node.format(self._cluster_id)
        for node in self._nodes:
            node.start()
        try:
            return self.wait()
        except BaseException:
            self.stop()
            raise

    def wait(self, *numbers: int) -> Self:
        """Return when those (all of them, if none is named) take requests."""
        for number in numbers or self.numbers:
            node = self.node(number)
            eventually(node.is_started, seconds=READY_SECONDS, what=f"broker {number}")
        return self

    def wait_in_sync(self, seconds: float = READY_SECONDS) -> Self:
        """Return when every broker has all of its partitions again."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": ",".join(self.bootstrap)})

        def is_whole() -> bool:
            try:
                found = admin.list_topics(timeout=10)
            except KafkaException:  # it asked one that is not back yet
                return False
            topics = found.topics.values()
            partitions = [each for topic in topics for each in topic.partitions.values()]
            return len(found.brokers) == len(self._nodes) and all(
                len(each.isrs) == len(each.replicas) for each in partitions
            )

        eventually(is_whole, seconds=seconds, what="every broker in sync")
        return self

    def kill(self, *numbers: int) -> None:
        """End them at once, without a word to anybody."""
        for number in numbers:
            self.node(number).signal(signal.SIGKILL)
        for number in numbers:
            process = self.node(number).process
            assert process is not None
            process.wait()

    def freeze(self, *numbers: int) -> None:
        """Stop them in the middle of what they do."""
        for number in numbers:
            self.node(number).signal(signal.SIGSTOP)

    def thaw(self, *numbers: int) -> None:
        """Let frozen ones go on."""
        for number in numbers:
            self.node(number).signal(signal.SIGCONT)

    def restart(self, *numbers: int, wait: bool = True) -> None:
        """Start killed ones again, with what they have on disk."""
        for number in numbers:
            self.node(number).start()
        if wait:
            self.wait(*numbers)

    def wipe(self, number: int) -> None:
        """Kill one and take its disk: started again it comes back empty.

        Returns when the others have a leader among them. A controller that comes back empty while
        they still take it for the leader ends itself: it is told that it leads an epoch which it
        knows nothing of.
        """
        node = self.node(number)
        self.kill(number)
        others = [each for each in self._nodes if each.number != number]
        eventually(
            lambda: all(each.leader() not in {None, number} for each in others),
            seconds=READY_SECONDS,
            what=f"a controller other than {number}",
        )
        shutil.rmtree(node.folder)
        node.format(self._cluster_id)

    def stop(self) -> None:
        """End all of them; nothing stays running."""
        for node in self._nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
                node.process.kill()
        for node in self._nodes:
            if node.process is not None:
                node.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


if __name__ == "__main__":
    began = time.monotonic()
    print(f"Kafka {VERSION}: {libraries()}, {time.monotonic() - began:.1f} s")
