"""The command line: one command a file; each parses, prints and sets the exit code.

Exit codes: 0 done, 1 not done, 2 wrong usage. `serve` has its own: 0 stopped, 2 configuration,
70 a part of the daemon died.
"""

import importlib
from typing import cast

import click

from relay.version import __version__

COMMANDS = {
    "serve": "relay.cli.serve:serve",
    "check-config": "relay.cli.check_config:check_config",
    "status": "relay.cli.status:status",
    "send-test-trace": "relay.cli.send_test_trace:send_test_trace",
}


class _Commands(click.Group):
    """Imports a command's module only when it is used: `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), attribute))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="otlp-relay")
def main() -> None:
    """Relay OpenTelemetry spans: kept on disk before the 200, delivered to every destination."""
