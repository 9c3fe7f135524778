"""A click group that imports each of its commands at first use, and tells their errors."""

import errno
import importlib
from collections.abc import Mapping
from typing import Any, cast

import click
from click.exceptions import NoSuchCommand

from relay.cli.output import OutputFailed, fail, failed_output, fit_streams
from relay.model.errors import RelayError
from relay.model.printable import escaped_lines

_WHOLE = 1000


class LazyGroup(click.Group):
    """Finds commands in `lazy`, a name to `module:attribute`, beside those added to it.

    A RelayError that leaves a command is told on standard error, and the exit code is 1. What click
    tells itself may quote a file.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, str], **more: Any) -> None:
        super().__init__(*args, **more)
        self._lazy = lazy

    def main(self, *args: Any, **more: Any) -> Any:
        """Run what was typed, whatever the terminal can show and standard output can take."""
        fit_streams()
        try:
            return super().main(*args, **more)
        except OSError as error:  # of click's own help
            if error.errno not in (errno.ENOSPC, errno.EIO) or error.filename is not None:
                raise
            fail(cast("OutputFailed", failed_output(error)))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order they were given."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, its module imported now."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with the whole first sentence of its help, which click would cut."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, it.get_short_help_str(limit=_WHOLE)) for name, it in found if it]
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with. Where it is none, click says which it may be."""
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:  # click knows only of those that are imported
            there_are = self.list_commands(ctx)
            raise NoSuchCommand(error.command_name, possibilities=there_are, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except RelayError as error:
            fail(error)
        except click.ClickException as error:
            error.message = escaped_lines(error.message)  # type: ignore[misc]
            raise
