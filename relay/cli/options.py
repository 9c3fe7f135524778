"""The options that several commands share, as decorators: one wording, one meaning."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

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
