"""`otlp-relay buffer …`: the group of commands that read the buffer's file."""

import click

from relay.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "check": "relay.cli.buffer_check:check",
        "export": "relay.cli.buffer_export:export",
        "snapshot": "relay.cli.buffer_snapshot:snapshot",
    },
)
def buffer() -> None:
    """Check, export or copy what is kept on disk, with or without a running daemon."""
