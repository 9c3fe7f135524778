"""Which keys `[fleet]` has, how each is read, and the rules between them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relay.config import ListenAddress
from relay.config.fields import (
    Key,
    boolean,
    duration,
    integer,
    list_of,
    one_of,
    read_by,
    readable_file,
    size,
    text,
)
from relay.config.fleet import (
    LEAST_KEPT_SECONDS,
    MOST_PARTITIONS,
    SAFE_IN_SYNC,
    SAFE_REPLICAS,
    SYSTEM_AUTHORITIES,
    FleetConfig,
    SaslConfig,
)
from relay.config.secrets import Resolver, Secret
from relay.config.tables import Reading, read_table
from relay.model.errors import ConfigError
from relay.model.units import format_duration

# A name becomes a part of topics and groups, which may be 249 characters long.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,200}")


def _name(written: str) -> str:
    if written and _NAME.fullmatch(written) is None:
        raise ConfigError("must be up to 100 letters, digits, _ and -")
    return written


def _topic(written: str) -> str:
    if _TOPIC.fullmatch(written) is None:
        raise ConfigError("must be a topic's name: up to 200 letters, digits, ., _ and -")
    return written


def _broker(written: str) -> str:
    """`host:port`, as it was written."""
    address = ListenAddress.parse(written)
    if not address.port:
        raise ConfigError("needs the port of a broker, such as 9092")
    return str(address)


def _authorities(value: object, resolver: Resolver) -> Path | str | None:
    """A PEM file that can be read now, or "system"."""
    return SYSTEM_AUTHORITIES if value == SYSTEM_AUTHORITIES else readable_file(value, resolver)


def _secret(value: object, resolver: Resolver) -> Secret:
    return Secret(text(value, resolver))


_SASL_KEYS = {
    "mechanism": Key("mechanism", one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")),
    "username": Key("username", text),
    "password": Key("password", _secret),
}


def _sasl(value: object, resolver: Resolver) -> SaslConfig | None:
    """A table of mechanism, username and password; an empty one is none."""
    reading = Reading(resolver)
    fields = read_table(value, _SASL_KEYS, "", "", reading)
    if reading.problems:
        raise reading.problems[0]
    if not fields:
        return None
    sasl = SaslConfig(**fields)
    if not sasl.username or not sasl.password.reveal():
        raise ConfigError("needs a username and a password")
    return sasl


FLEET_KEYS = {
    "engine": Key("engine", one_of("kafka")),
    "name": Key("name", read_by(_name)),
    "brokers": Key("brokers", list_of(read_by(_broker), or_one=True)),
    "topic": Key("topic", read_by(_topic)),
    "topic_json": Key("topic_json", read_by(_topic)),
    "own_topics": Key("own_topics", boolean),
    "partitions": Key("partitions", integer(1, MOST_PARTITIONS)),
    "replication": Key("replication", integer(1, 9)),
    "min_in_sync": Key("min_in_sync", integer(1, 9)),
    "sync": Key("sync", one_of("full", "replicated")),
    "compression": Key("compression", one_of("lz4", "zstd")),
    "retention": Key("retention_seconds", duration(may_be_zero=False)),
    "retention_size": Key("retention_size_bytes", size(2**20)),
    "keep_delivered": Key("keep_delivered_seconds", duration(may_be_forever=True)),
    "when_engine_away": Key("when_engine_away", one_of("refuse", "spool")),
    "relay_id": Key("relay_id", read_by(_name)),
    "ca_file": Key("ca_file", _authorities),
    "client_cert": Key("client_cert", readable_file),
    "client_key": Key("client_key", readable_file),
    "sasl": Key("sasl", _sasl),
    "allow_weak": Key("allow_weak", boolean),
}


def read_fleet(raw: object, where: str, reading: Reading) -> FleetConfig | None:
    """The struct of `[fleet]`; None where there is none or it has a problem, which is noted."""
    if raw is None:
        return None
    problems_before = len(reading.problems)
    fields = read_table(raw, FLEET_KEYS, "fleet", where, reading)
    if len(reading.problems) > problems_before:
        return None
    _check(fields, FleetConfig(**fields), where, reading)
    return FleetConfig(**fields) if len(reading.problems) == problems_before else None


def _check(fields: dict[str, Any], fleet: FleetConfig, where: str, reading: Reading) -> None:
    """Rules between keys, each of which is right by itself."""

    def add(message: str, key: str, hint: str | None = None) -> None:
        reading.add(message, f"fleet.{key}", where, hint=hint)

    if "engine" not in fields:
        add("is missing", "engine", 'write engine = "kafka", or leave out [fleet] for one relay')
    if not fleet.name:
        add("must not be empty", "name")
    if not fleet.brokers:
        add("names no broker", "brokers", 'for example brokers = ["k1:9092", "k2:9092", "k3:9092"]')
    if fleet.topic == fleet.topic_json:
        add("must not be that of protobuf: a topic has one encoding", "topic_json")
    if fleet.min_in_sync > fleet.replication:
        add(f"must not be above replication, which is {fleet.replication}", "min_in_sync")
    elif fleet.is_weak and not fleet.allow_weak:
        key = "replication" if fleet.replication < SAFE_REPLICAS else "min_in_sync"
        least = SAFE_REPLICAS if key == "replication" else SAFE_IN_SYNC
        add(
            f"must be at least {least}: with less, the loss of one broker loses what was "
            "acknowledged",
            key,
            "for a trial write allow_weak = true",
        )
    _check_kept(fleet, add)
    if (fleet.client_cert is None) != (fleet.client_key is None):
        missing = "client_key" if fleet.client_key is None else "client_cert"
        add("is missing: client_cert and client_key go together", missing)
    if fleet.client_cert is not None and fleet.ca_file is None:
        add("is missing: without it nothing is TLS", "ca_file", 'a PEM file, or "system"')
    is_near = all(ListenAddress.parse(each).is_loopback for each in fleet.brokers)
    if fleet.sasl and fleet.sasl.mechanism == "PLAIN" and fleet.ca_file is None and not is_near:
        add(
            "sends its password in clear without TLS",
            "sasl",
            'set ca_file (a PEM file, or "system"), or use SCRAM-SHA-512',
        )


def _check_kept(fleet: FleetConfig, add: Callable[[str, str, str | None], None]) -> None:
    """Whether what was delivered may go so soon, and by this relay."""
    seconds = fleet.keep_delivered_seconds
    if seconds is None:
        return
    if seconds < LEAST_KEPT_SECONDS:
        least = format_duration(LEAST_KEPT_SECONDS)
        why = "a destination that is new begins a moment in the past"
        add(f"must be at least {least}: {why}", "keep_delivered", None)
    if not fleet.own_topics:
        words = "deletes from topics that are not the relays' own"
        add(words, "keep_delivered", "leave it out, or set own_topics = true")
