"""Relays of a fleet in tests: their configuration, and what the brokers have of what was posted."""

from pathlib import Path
from typing import Any

from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig
from tests.fleet.reading import messages_in
from tests.support.kafka import Brokers
from tests.support.load import ids_in
from tests.support.relay_process import Relay, toml


def fleet_table(brokers: Brokers, /, **changes: Any) -> str:
    """`[fleet]` for these brokers."""
    lone = {"replication": 1, "min_in_sync": 1, "allow_weak": True}
    keys: dict[str, Any] = {
        "engine": "kafka",
        "brokers": brokers.bootstrap,
        "partitions": 3,
        **({} if len(brokers.bootstrap) == 3 else lone),
        **changes,
    }
    return "[fleet]\n" + "\n".join(f"{key} = {toml(value)}" for key, value in keys.items())


def relay_of(
    brokers: Brokers,
    folder: Path,
    destinations: dict[str, Any] | None = None,
    /,
    *,
    more: str = "",
    **changes: Any,
) -> Relay:
    """A relay of a fleet on these brokers, with `more` tables in its configuration; start it."""
    folder.mkdir(exist_ok=True)
    signals = '[ingest]\nsignals = ["traces", "logs", "metrics"]\n'
    relay = Relay(folder, destinations, settings=f"{fleet_table(brokers, **changes)}\n{more}")
    if not destinations:
        text = relay.config.read_text().replace("[ingest]\n", signals)
        relay.config.write_text(text)
    return relay


def logged(brokers: Brokers, **changes: Any) -> set[str]:
    """The ids of all items that the brokers have in the topics of rows."""
    settings = KafkaSettings(FleetConfig(brokers=tuple(brokers.bootstrap), **changes), "oracle")
    return {
        item_id
        for topic in settings.rows_topics
        for message in messages_in(brokers, topic)
        for item_id in ids_in(bytes(message.value() or b""))
    }
