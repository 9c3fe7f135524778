"""The options that several commands share, as decorators: one wording, one meaning."""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from relay.cli.output import say
from relay.config import Config
from relay.config.load import load
from relay.config.tables import one_line, problems_of
from relay.model.errors import ConfigError, SecretUnset
from relay.model.records import Signal

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    """`--config FILE`, given as `config_path: str | None`. `load` says what is absent, not click:
    an absent file is a configuration that cannot be used, no wrong usage.
    """
    return click.option(
        "--config",
        "config_path",
        type=click.Path(),
        metavar="FILE",
        help="Configuration; by default $OTLP_RELAY_CONFIG, "
        "$XDG_CONFIG_HOME/otlp-relay/relay.toml or /etc/otlp-relay/relay.toml.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`, given as `as_json: bool`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document instead of text."
    )(command)


def signal_option(text: str) -> Callable[[Command], Command]:
    """`--signal`, given as `signal: Signal | None`; `text` says what it does."""
    choice = click.Choice(Signal, case_sensitive=False)
    return click.option("--signal", type=choice, help=text)


def load_or_exit(config_path: str | None) -> Config:
    """The configuration; what is wrong with it goes to standard error, and the exit code is 1.

    Senders' tokens may be set for the daemon alone: a command does without them.
    """
    try:
        return load(config_path, os.environ, forgiven=SecretUnset)
    except ConfigError as error:
        report(error)
        sys.exit(1)


def report(error: ConfigError) -> None:
    """A line on standard error for each problem, with what would be right."""
    for problem in problems_of(error):
        say(f"otlp-relay: {one_line(problem)}", err=True)
