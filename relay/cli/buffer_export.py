"""`otlp-relay buffer export`: what is kept, as OTLP JSON, a line for each row."""

import os
import sys
import time
from pathlib import Path
from typing import IO

import click

from relay.buffer.sqlite.types import DamagedRow
from relay.cli.buffer import errors_exit
from relay.cli.options import config_option, load_or_exit
from relay.model.errors import ConfigError, RelayError
from relay.model.units import parse_duration
from relay.offline.export import lines
from relay.offline.file import open_buffer


@click.command()
@config_option
@click.option("--output", metavar="FILE", help="A new file (0600); by default standard output.")
@click.option("--destination", metavar="NAME", help="Only what this destination is still owed.")
@click.option(
    "--since", metavar="DURATION", help="Only what was received within this time, such as 1h."
)
@click.option("--trace", "trace", metavar="ID", help="Only the spans of this trace.")
def export(
    config_path: str | None,
    output: str | None,
    destination: str | None,
    since: str | None,
    trace: str | None,
) -> None:
    """Write what is kept as OTLP JSON: a line for each row, `{"resourceSpans": […]}`.

    Each line is a body that any OTLP/HTTP endpoint takes as `application/json`. Works with or
    without a running daemon. Rows that are damaged are named on standard error and never written.
    Exits 0 when everything asked for was written, 1 when a row was damaged or nothing can be read.
    """
    oldest_ns = time.time_ns() - int(duration(since) * 1e9) if since else 0
    trace_id = trace_bytes(trace) if trace else b""
    config = load_or_exit(config_path)
    damaged = 0
    with errors_exit(), open_buffer(config.state_dir) as file, opened(output) as target:
        for found in lines(file, destination=destination, oldest_ns=oldest_ns, trace_id=trace_id):
            if isinstance(found, DamagedRow):
                click.echo(f"otlp-relay: row {found.row} left out: {found.words}", err=True)
                damaged += 1
            else:
                target.write(found + b"\n")
        target.flush()
    sys.exit(1 if damaged else 0)


def duration(text: str) -> float:
    """Seconds; wrong usage otherwise."""
    try:
        return parse_duration(text)
    except (ConfigError, ValueError) as error:
        raise click.UsageError(f"--since: {error}") from None


def trace_bytes(text: str) -> bytes:
    """The 16 bytes of a trace id; wrong usage otherwise."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 16 or len(text) != 32:
        raise click.UsageError("--trace: a trace id is 32 hex digits")
    return found


def opened(output: str | None) -> IO[bytes]:
    """Standard output, or a new file that nobody else may read. Raises RelayError."""
    if output is None:
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.fdopen(os.open(Path(output), flags, 0o600), "wb")
    except FileExistsError:
        raise RelayError(f"{output} already exists", hint="choose another name") from None
    except OSError as error:
        raise RelayError(f"cannot write {output}: {error.strerror}") from None
