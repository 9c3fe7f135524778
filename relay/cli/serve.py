"""`otlp-relay serve`: the daemon, until SIGTERM or Ctrl-C."""

import os
import sys

import click
import structlog

from relay import logs
from relay.cli.options import config_option, report
from relay.cli.output import say_error
from relay.config.tables import one_line, problems_of
from relay.model.errors import BufferFailure, BufferLocked, BufferUnusable, ConfigError, RelayError
from relay.systemd import journal

EXIT_CONFIG = 2  # not to be restarted: the unit has RestartPreventExitStatus=2
EXIT_PART_DIED = 70  # the disk may work the next time


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
    help="auto: text on a terminal, fields of the journal under systemd, else JSON lines.",
)
def serve(config_path: str | None, log_level: str, log_format: str) -> None:
    """Run the daemon in the foreground.

    Exits 0 when it was stopped, 2 when the configuration or the state directory cannot be used,
    70 when a part died or the disk does not work.
    """
    from relay import daemon

    is_journal = log_format == "auto" and journal.is_connected(os.environ)
    logs.set_up(
        level=log_level,
        json={"auto": None, "text": False, "json": True}[log_format],
        journal=journal.Journal() if is_journal else None,
    )
    try:
        code = daemon.serve(config_path, os.environ)
    except ConfigError as error:
        tell(error, is_journal=is_journal)
        code = EXIT_CONFIG
    except BufferFailure as error:
        tell(error, is_journal=is_journal)
        is_setting = isinstance(error, BufferLocked | BufferUnusable)
        code = EXIT_CONFIG if is_setting else EXIT_PART_DIED
    sys.exit(code)


def tell(error: RelayError, *, is_journal: bool) -> None:
    """Why it does not start: a line for each problem."""
    if is_journal:
        log = structlog.stdlib.get_logger(__name__)
        problems = problems_of(error) if isinstance(error, ConfigError) else [error]
        for problem in problems:
            log.error("not_started", reason=one_line(problem))
    elif isinstance(error, ConfigError):
        report(error)
    else:
        say_error(error)
