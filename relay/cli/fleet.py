"""`otlp-relay fleet …`: the group of commands for several relays on one Kafka."""

import click

from relay.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "import": "relay.cli.fleet_import:move",
        "status": "relay.cli.fleet_status:status",
    },
)
def fleet() -> None:
    """Look at several relays that share one log on Kafka, and move a buffer into it."""
