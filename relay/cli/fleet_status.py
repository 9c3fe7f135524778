"""`otlp-relay fleet status`: members, partitions and what waits, as the brokers have it."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import fail, print_table, say, say_json
from relay.config import Config
from relay.model.errors import ConfigError, RelayError
from relay.model.nouns import counted

if TYPE_CHECKING:
    from relay.buffer.kafka.overview import Overview
    from relay.buffer.kafka.settings import KafkaSettings

COLUMNS = {
    "DESTINATION": lambda it: it.name,
    "SIGNAL": lambda it: it.signal,
    "WAITING": lambda it: f"{it.waiting_rows:,}",
    "RELAYS": lambda it: ", ".join(it.relays) or "none",
    "UNSERVED": lambda it: f"{sum(not each.relay for each in it.partitions):,}",
    "GROUP": lambda it: it.state,
}


@click.command()
@config_option
@json_option
def status(config_path: str | None, as_json: bool) -> None:
    """Show the relays of the fleet, and what waits for each destination on the brokers.

    Asks the brokers, not a relay: it works wherever the configuration and the brokers are. WAITING
    counts rows (a row is a request, or a piece of a large one); UNSERVED the partitions that no
    relay delivers now, which is normal for the seconds in which relays come and go. Exits 1 when
    the brokers do not answer.
    """
    try:
        settings = fleet_settings(load_or_exit(config_path))
        from relay.buffer.kafka.overview import overview

        found = overview(settings)
    except RelayError as error:
        fail(error)
    if as_json:
        say_json(asdict(found))
    else:
        tell(found)


def fleet_settings(config: Config) -> "KafkaSettings":
    """What a client of the fleet is told. Raises ConfigError where there is none."""
    if config.fleet is None:
        raise ConfigError(
            "there is no [fleet] in the configuration",
            hint="`otlp-relay status` shows a single relay; docs/fleet.md tells of fleets",
        )
    from relay.buffer.kafka.client import import_client
    from relay.buffer.kafka.settings import KafkaSettings

    import_client()
    return KafkaSettings.of(config.fleet, config.state_dir)


def tell(found: "Overview") -> None:
    """In words."""
    say(f"fleet {found.name}: {counted(len(found.relays), 'relay')} on {', '.join(found.brokers)}")
    for each in found.relays:
        say(f"  {each.relay}  {each.host}  {counted(each.partitions, 'partition')}")
    if found.destinations:
        say("")
        print_table(COLUMNS, found.destinations)
    else:
        say("no destination was ever delivered to from this fleet")
