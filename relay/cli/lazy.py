"""A click group that imports each of its commands at first use, and tells their errors."""

import importlib
from collections.abc import Mapping
from typing import Any, cast

import click

from relay.cli.output import fail
from relay.model.errors import RelayError
from relay.model.printable import escaped_lines


class LazyGroup(click.Group):
    """Finds commands in `lazy`, a name to `module:attribute`, beside those added to it.

    A RelayError that leaves a command is told on standard error, and the exit code is 1. What click
    tells itself may quote a file.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, str], **more: Any) -> None:
        super().__init__(*args, **more)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order they were given."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, its module imported now."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), attribute))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except RelayError as error:
            fail(error)
        except click.ClickException as error:
            error.message = escaped_lines(error.message)  # type: ignore[misc]
            raise
