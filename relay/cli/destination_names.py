"""Finds a destination of the configuration by name, or says which there are."""

import difflib
from typing import NoReturn

from relay.cli.output import fail
from relay.config import Config, DestinationConfig
from relay.model.errors import ConfigError


def configured(name: str, config: Config) -> DestinationConfig:
    """The destination of that name; without one, exit code 1."""
    return config.destination(name) or exit_unknown(name, config)


def exit_unknown(name: str, config: Config, hint: str = "") -> NoReturn:
    """Say which destinations there are, or what else to do; exit code 1."""
    names = [each.name for each in config.destinations]
    near = difflib.get_close_matches(name, names, n=1)
    hint = hint or (
        f"did you mean {near[0]}?" if near else f"there are: {', '.join(names) or 'none'}"
    )
    fail(ConfigError(f"there is no destination {name!r}", hint=hint))
