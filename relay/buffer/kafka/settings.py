"""What a client of the fleet is told, and what the fleet calls its topics and groups."""

import hashlib
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from msgspec import structs

from relay.buffer.backlog_name import BacklogName
from relay.config.fleet import ACCESS, SYSTEM_AUTHORITIES, FleetConfig
from relay.model.records import Encoding, Signal

MACHINE_ID: Final = Path("/etc/machine-id")
ClientSettings = dict[str, str | int | bool]
_ENDINGS = {Encoding.PROTOBUF: "", Encoding.JSON: "_json"}


def topic_of(traces_topic: str, signal: Signal, encoding: Encoding) -> str:
    """The topic of a signal, named after that of spans in the same encoding.

    `otlp_spans` → `otlp_logs`, `otlp_spans_json` → `otlp_logs_json`, `traces` → `traces_logs`.
    """
    if signal is Signal.TRACES:
        return traces_topic
    usual = f"spans{_ENDINGS[encoding]}"
    if traces_topic.endswith(usual):
        return f"{traces_topic.removesuffix(usual)}{signal.word}{_ENDINGS[encoding]}"
    return f"{traces_topic}_{signal.word}"


@dataclass(slots=True)
class KafkaSettings:
    """`[fleet]`, as the engine reads it. `relay_id` is never empty.

    How the brokers are reached may change while the relay runs: `version` then counts up, and who
    has a client makes it anew.
    """

    fleet: FleetConfig
    relay_id: str
    version: int = field(default=0, compare=False)
    files: bytes = field(init=False, repr=False, compare=False)  # a digest, as they were read

    def __post_init__(self) -> None:
        self.files = _digest(self.fleet)

    @classmethod
    def of(cls, fleet: FleetConfig, state_dir: Path) -> "KafkaSettings":
        """Those of the configuration."""
        return cls(fleet, fleet.relay_id or _own_id(state_dir))

    def reached_as(self, fleet: FleetConfig) -> "KafkaSettings":
        """These, but the brokers are reached as `fleet` says."""
        access = {key: getattr(fleet, key) for key in ACCESS}
        return KafkaSettings(structs.replace(self.fleet, **access), self.relay_id)

    def is_reached_alike(self, other: "KafkaSettings") -> bool:
        """Whether the brokers are shown the same by these and by `other`, files included."""
        return self.files == other.files and self.client() == other.client()

    def take_up(self, other: "KafkaSettings") -> None:
        """Reach the brokers as `other` does from now on: who has a client soon makes it anew."""
        self.fleet, self.files = other.fleet, other.files
        self.version += 1

    def rows_topic(self, signal: Signal, encoding: Encoding) -> str:
        """Where rows of that signal and encoding are."""
        json, protobuf = self.fleet.topic_json, self.fleet.topic
        return topic_of(json if encoding is Encoding.JSON else protobuf, signal, encoding)

    @property
    def rows_topics(self) -> dict[str, tuple[Signal, Encoding]]:
        """Every topic of rows, with what is in it."""
        return {
            self.rows_topic(signal, encoding): (signal, encoding)
            for signal in Signal
            for encoding in Encoding
        }

    @property
    def dead_letters_topic(self) -> str:
        """Compacted: one record a dead letter."""
        return f"otlp_relay_{self.fleet.name}_dead_letters"

    @property
    def control_topic(self) -> str:
        """Compacted: what operators ordered."""
        return f"otlp_relay_{self.fleet.name}_control"

    @property
    def history_topic(self) -> str:
        """What was delivered, told by each relay to the others."""
        return f"otlp_relay_{self.fleet.name}_history"

    def group(self, backlog: BacklogName) -> str:
        """The consumer group of a backlog: `otlp-relay.FLEET.DESTINATION`, of logs `….logs`."""
        return f"{self.group_prefix}{backlog.text.replace(':', '.')}"

    @property
    def any_group(self) -> str:
        """Of no destination: who may ask for it may ask for all groups of the fleet."""
        return f"{self.group_prefix}<any>"

    @property
    def group_prefix(self) -> str:
        """What the names of all groups of the fleet begin with."""
        return f"otlp-relay.{self.fleet.name}."

    def client(self) -> ClientSettings:
        """What every client is told: whom to ask, who asks, how it is kept from others."""
        fleet = self.fleet
        told: ClientSettings = {
            "bootstrap.servers": ",".join(fleet.brokers),
            "client.id": f"otlp-relay-{self.relay_id}",
            "log_level": 0,  # what goes wrong comes by `error_cb`, and into our own log
            "socket.keepalive.enable": True,
            # A broker that is back is found within a second.
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1000,
        }
        if fleet.ca_file is not None:
            told["security.protocol"] = "ssl"
            if fleet.ca_file != SYSTEM_AUTHORITIES:
                told["ssl.ca.location"] = str(fleet.ca_file)
        if fleet.client_cert and fleet.client_key:
            told["ssl.certificate.location"] = str(fleet.client_cert)
            told["ssl.key.location"] = str(fleet.client_key)
        if fleet.sasl is not None:
            told["security.protocol"] = "sasl_ssl" if fleet.ca_file else "sasl_plaintext"
            told["sasl.mechanism"] = fleet.sasl.mechanism
            told["sasl.username"] = fleet.sasl.username
            told["sasl.password"] = fleet.sasl.password.reveal()
        return told


def _digest(fleet: FleetConfig) -> bytes:
    """A digest of the files that brokers are reached with: the client reads them but once."""
    digest = hashlib.sha256()
    for file in (fleet.ca_file, fleet.client_cert, fleet.client_key):
        if isinstance(file, Path):
            with suppress(OSError):  # which the client will tell of
                digest.update(file.read_bytes())
        digest.update(b"\0")
    return digest.digest()


def _own_id(state_dir: Path) -> str:
    """The same after a restart, another for another relay: of host, host's name and state folder.

    Containers of one image share a machine-id, two relays on one host share that and its name.
    """
    try:
        machine = MACHINE_ID.read_text().strip()
    except OSError:
        machine = ""
    named = "\0".join((machine, socket.gethostname(), str(state_dir.absolute())))
    return hashlib.sha256(named.encode()).hexdigest()[:12]
