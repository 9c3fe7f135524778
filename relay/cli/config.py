"""`otlp-relay config example`: every setting with its default, as a file to begin with."""

from pathlib import Path
from typing import Final

import click

from relay.cli.output import say

EXAMPLE: Final = Path(__file__).resolve().parents[1] / "config" / "example.toml"


@click.group()
def config() -> None:
    """Help with the configuration."""


@config.command()
def example() -> None:
    """Print a configuration with every setting, its default and what it means.

    \b
      otlp-relay config example > ~/.config/otlp-relay/relay.toml
    """  # noqa: D301
    say(*EXAMPLE.read_text("utf-8").splitlines())
