"""`otlp-relay serve`: the daemon, until SIGTERM or Ctrl-C."""

import os
import sys

import click

from relay import logs
from relay.cli.options import config_option, report
from relay.errors import BufferDiskError, BufferError_, ConfigError

EXIT_CONFIG = 2  # not to be restarted: the unit has RestartPreventExitStatus=2
EXIT_DISK = 70  # as when a part dies: tried again by systemd, until the disk works


@click.command()
@config_option
@click.option(
    "--log-level",
    type=click.Choice(list(logs.LEVELS)),
    default="info",
    show_default=True,
    help="What is logged; debug adds a line for each request and delivery.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    help="auto: text on a terminal, JSON lines otherwise.",
)
def serve(config_path: str | None, log_level: str, log_format: str) -> None:
    """Run the daemon in the foreground.

    Ends with 0 when it was stopped, 2 when the configuration cannot be used, 70 when a part died
    or the disk does not work.
    """
    from relay import daemon

    logs.set_up(level=log_level, json={"auto": None, "text": False, "json": True}[log_format])
    try:
        code = daemon.serve(config_path, os.environ)
    except ConfigError as error:
        report(error)
        code = EXIT_CONFIG
    except BufferDiskError as error:
        click.echo(f"otlp-relay: {error}", err=True)
        code = EXIT_DISK
    except BufferError_ as error:
        click.echo(f"otlp-relay: {error}", err=True)
        code = EXIT_CONFIG
    sys.exit(code)
