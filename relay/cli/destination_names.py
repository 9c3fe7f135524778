"""The name of a destination in; the destination out, or an end that says which there are."""

import difflib
import sys
from typing import NoReturn

import click

from relay.cli.options import printable
from relay.config import Config, DestinationConfig
from relay.model.errors import ConfigError, RelayError


def configured(name: str, config: Config) -> DestinationConfig | None:
    """The destination of that name, if there is one."""
    return next((each for each in config.destinations if each.name == name), None)


def exit_unknown(name: str, config: Config) -> NoReturn:
    """Say which destinations there are; exit code 1."""
    names = [each.name for each in config.destinations]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names) or 'none'}"
    fail(ConfigError(f"there is no destination {name!r}", hint=hint))


def fail(error: RelayError) -> NoReturn:
    """The error on standard error; exit code 1."""
    click.echo(printable(f"otlp-relay: {error}"), err=True)
    sys.exit(1)
