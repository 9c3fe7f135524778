"""`[fleet]`: several relays whose log is one Kafka, as a struct; `config.fleet_keys` reads it."""

from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from relay.config.secrets import Secret

SYSTEM_AUTHORITIES: Final = "system"
"""`ca_file` that stands for the authorities of this host."""
MOST_PARTITIONS: Final = 1000  # a row's number tells its partition, and stays below 2**53
LEAST_KEPT_SECONDS: Final = 300.0  # a destination that is new begins a minute in the past
SAFE_REPLICAS, SAFE_IN_SYNC = 3, 2  # fewer of either is weak
ACCESS: Final = ("brokers", "ca_file", "client_cert", "client_key", "sasl")
"""Keys that say how the brokers are reached: a reload takes these up, the others need a restart."""


class SaslConfig(Struct, frozen=True, kw_only=True):
    """`fleet.sasl`: how relays say to brokers who they are."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """Which exchange; PLAIN sends the password as it is."""
    username: str = ""
    """The account."""
    password: Secret = Secret("")
    """Its password."""


class FleetConfig(Struct, frozen=True, kw_only=True):
    """`[fleet]`: absent, the log is SQLite and nothing of this is loaded."""

    engine: Literal["kafka"] = "kafka"
    """The one there is."""
    name: str = "prod"
    """Names consumer groups and the fleet's own topics."""
    brokers: tuple[str, ...] = ()
    """Where the cluster is first asked for, as host:port."""
    topic: str = "otlp_spans"
    """Topic of spans in protobuf; those of logs and metrics are named after it."""
    topic_json: str = "otlp_spans_json"
    """Topic of spans in JSON."""
    own_topics: bool = True
    """Create, check and trim them; false: only read their settings."""
    keep_delivered_seconds: float | None = None
    """How long what every destination has had stays; None: for as long as all else."""
    partitions: int = 12
    """Of each topic that is created."""
    replication: int = 3
    """Brokers that have each partition."""
    min_in_sync: int = 2
    """Of these, how many must have it before the 200."""
    sync: Literal["full", "replicated"] = "full"
    """full: each of them has synced it to its disk; replicated: has it in memory at least."""
    compression: Literal["lz4", "zstd"] = "lz4"
    """Of what relays write: lz4 costs them less CPU, zstd the brokers less disk."""
    retention_seconds: float = 7 * 86_400.0
    """How long the brokers keep records, owed or not."""
    retention_size_bytes: int = 50 * 2**30
    """How much they keep of each topic of rows, over all its partitions."""
    when_engine_away: Literal["refuse", "spool"] = "refuse"
    """Answer 503, or keep on this relay's own disk until they are back."""
    relay_id: str = ""
    """Names this relay among the others; empty: made of the host's machine-id."""
    ca_file: Path | str | None = None
    """Authorities of the brokers' certificates, or "system"; None: no TLS."""
    client_cert: Path | None = None
    """PEM file of the certificate to show."""
    client_key: Path | None = None
    """PEM file of its private key."""
    sasl: SaslConfig | None = None
    """None: who connects is not asked."""
    allow_weak: bool = False
    """Serve although a broker's settings promise less than they should."""

    def needs_restart(self, new: "FleetConfig") -> bool:
        """Whether `new` differs in more than how the brokers are reached."""
        return any(
            getattr(self, key) != getattr(new, key)
            for key in self.__struct_fields__
            if key not in ACCESS
        )

    @property
    def is_weak(self) -> bool:
        """Whether what is asked for can lose what was acknowledged when one broker is lost."""
        return self.replication < SAFE_REPLICAS or self.min_in_sync < SAFE_IN_SYNC
