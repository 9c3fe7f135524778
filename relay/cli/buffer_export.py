"""`otlp-relay buffer export`: what is kept, as OTLP JSON, a line for each row."""

import sys
import time
from pathlib import Path

import click

from relay.buffer.sqlite.types import DamagedRow
from relay.cli.moments import DURATION, Typed
from relay.cli.options import config_option, file_of_own, load_or_exit, signal_option
from relay.cli.output import asked_output, is_watched, opened, say
from relay.model.errors import ConfigError
from relay.model.nouns import counted
from relay.model.records import Signal
from relay.offline.export import lines
from relay.offline.file import open_buffer
from relay.traces.ids import readings


def trace_bytes(text: str) -> bytes:
    """The 16 bytes of a trace id, as `where` reads it. Raises ConfigError."""
    found = [each for each in readings(text) if each.how in ("id", "within", "padded")]
    if not found:
        raise ConfigError("a trace id is 32 hex digits")
    return found[0].trace_id


@click.command()
@config_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A new file (0600); by default standard output. `-` is standard output, even where that "
    "is a terminal.",
)
@click.option("--destination", metavar="NAME", help="Only what this destination is still owed.")
@click.option(
    "--since",
    "since_seconds",
    type=DURATION,
    metavar="DURATION",
    help="Only what was received within this time, such as 1h.",
)
@click.option(
    "--trace",
    "trace_id",
    type=Typed("id", trace_bytes),
    metavar="ID",
    help="Only what is of this trace.",
)
@signal_option("Only what is of this signal.")
def export(
    config_path: str | None,
    output: Path | None,
    destination: str | None,
    since_seconds: float | None,
    trace_id: bytes | None,
    signal: Signal | None,
) -> None:
    """Write what is kept as OTLP JSON: a line for each row, such as `{"resourceSpans": […]}`.

    Each line is a body that any OTLP/HTTP endpoint takes as `application/json`: one that begins
    with resourceSpans at /v1/traces, with resourceLogs at /v1/logs, with resourceMetrics at
    /v1/metrics. Works with or without a running daemon. Rows that are damaged are named on standard
    error and never written.
    Exits 0 when everything asked for was written, 1 when a row was damaged or nothing can be read.
    """
    oldest_ns = time.time_ns() - int(since_seconds * 1e9) if since_seconds is not None else 0
    config = load_or_exit(config_path)
    output = asked_output(output)
    damaged = written = 0
    with open_buffer(file_of_own(config)) as file, opened(output) as target:
        for found in lines(
            file,
            destination=destination,
            oldest_ns=oldest_ns,
            trace_id=trace_id or b"",
            signal=signal,
        ):
            if isinstance(found, DamagedRow):
                say(f"otlp-relay: row {found.row} left out: {found.words}", err=True)
                damaged += 1
            else:
                target.write(found + b"\n")
                written += 1
    left = f", {damaged:,} left out" if damaged else ""
    if output or is_watched():
        done = f"wrote {counted(written, 'line')} to {output or 'standard output'}{left}"
        say(done, err=output is None)
    sys.exit(1 if damaged else 0)
