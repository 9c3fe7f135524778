"""The options that several commands share, as decorators: one wording, one meaning."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from relay.cli.output import say
from relay.config import Config
from relay.config.load import find, load
from relay.config.running import running
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
        "$XDG_CONFIG_HOME/otlp-relay/relay.toml or /etc/otlp-relay/relay.toml. Where none of these "
        "is there, commands other than serve and check-config use that of your running relay.",
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

    Senders' tokens may be set for the daemon alone: a command does without them. Where no file is
    named and none is in its place, it is that of the one relay which this user has running.
    """
    try:
        if find(config_path, os.environ) is None:
            config_path = _running_config()
        return load(config_path, os.environ, forgiven=SecretUnset)
    except ConfigError as error:
        report(error)
        sys.exit(1)


def _running_config() -> str | None:
    found = running(os.environ)
    if len(found) > 1:
        raise ConfigError(
            f"{len(found)} relays are running: {', '.join(map(str, found))}",
            hint="say which one you mean with --config",
        )
    if not found:
        return None
    say(f"with {found[0]}, of the relay that is running", err=True)
    return str(found[0])


def report(error: ConfigError) -> None:
    """A line on standard error for each problem, with what would be right."""
    for problem in problems_of(error):
        say(f"otlp-relay: {one_line(problem)}", err=True)


def file_of_own(config: Config) -> Path:
    """The folder of the buffer's file. Raises NoBuffer where a fleet keeps everything elsewhere."""
    if config.fleet is not None and not (config.state_dir / "relay.db").exists():
        from relay.offline.file import NoBuffer

        brokers = ", ".join(config.fleet.brokers)
        raise NoBuffer(
            "there is no buffer on this host: the log of a fleet is on Kafka",
            hint=f"look at its topics with Kafka's own tools, at {brokers}",
        )
    return config.state_dir
