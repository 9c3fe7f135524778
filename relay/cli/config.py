"""`otlp-relay config …`: the group of commands; `example` is every setting with its default."""

from pathlib import Path
from typing import Final

import click

from relay.cli.lazy import LazyGroup
from relay.cli.output import say

EXAMPLE: Final = Path(__file__).resolve().parents[1] / "config" / "example.toml"


@click.group(cls=LazyGroup, lazy={"test": "relay.cli.config_test:test"})
def config() -> None:
    """Help with the configuration: an example, and what a destination would get."""


@config.command()
def example() -> None:
    """Print a configuration with every setting, its default and what it means.

    \b
      otlp-relay config example > ~/.config/otlp-relay/relay.toml
    """  # noqa: D301
    say(*EXAMPLE.read_text("utf-8").splitlines())
