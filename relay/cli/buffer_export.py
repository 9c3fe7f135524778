"""`otlp-relay buffer export`: what is kept, as OTLP JSON, a line for each row."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click
import msgspec

from relay.buffer.owed_ranges import row_range, subtract
from relay.buffer.sqlite.partial_rows import spans_of
from relay.buffer.sqlite.types import DamagedRow
from relay.cli.buffer import errors_exit
from relay.cli.options import config_option, load_or_exit
from relay.model.errors import ConfigError, RelayError
from relay.model.records import Encoding, StoredRow
from relay.model.units import parse_duration
from relay.offline.file import Kept, KeptDestination, kept
from relay.otlp import transcode
from relay.otlp.ids import trace_ids_of
from relay.otlp.split import slice_spans
from relay.traces.spans import resource_spans_of_trace


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
    with errors_exit(), kept(config.state_dir) as file, opened(output) as target:
        owner = owner_of(file, destination) if destination else None
        for read in rows(file, owner, oldest_ns, trace_id):
            if isinstance(read, DamagedRow):
                click.echo(f"otlp-relay: row {read.row} left out: {read.words}", err=True)
                damaged += 1
                continue
            line = text_of(read, trace_id)
            if line:
                target.write(line + b"\n")
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


def owner_of(file: Kept, name: str) -> KeptDestination:
    """That destination. Raises RelayError with the names that there are."""
    owners = file.destinations()
    found = next((each for each in owners if each.name == name), None)
    if found is None:
        names = ", ".join(each.name for each in owners) or "none"
        raise RelayError(f"nothing is owed to {name!r}", hint=f"known here: {names}")
    return found


def rows(
    file: Kept, owner: KeptDestination | None, oldest_ns: int, trace_id: bytes
) -> Iterator[StoredRow | DamagedRow]:
    """What was asked for, a row at a time: what `owner` is owed of each, if it is given."""
    for columns, read in file.rows_of_trace(trace_id) if trace_id else file.rows():
        if owner is not None and not owner.owes(columns.id):
            continue
        if read.received_ns < oldest_ns and isinstance(read, StoredRow):
            continue
        if owner is None or owner.ranges is None or isinstance(read, DamagedRow):
            yield read
            continue
        item = row_range(columns.id)
        for part in subtract((item,), subtract((item,), owner.ranges)):
            first, stop = spans_of(part, columns.id, read.spans)
            yield cut(read, first, stop)


def cut(row: StoredRow, first: int, stop: int) -> StoredRow:
    """Those spans of the row. Raises TranscodeError."""
    if first <= 0 and stop >= row.spans:
        return row
    body = slice_spans(row.body, row.encoding, first, stop - first)
    return StoredRow(
        row.row, row.received_ns, row.encoding, row.flags, stop - first, body, first_span=first
    )


def text_of(row: StoredRow, trace_id: bytes) -> bytes:
    """The line of a row, or of a trace's spans in it; empty when there are none."""
    if trace_id:
        ids = trace_ids_of(row.body, row.encoding)
        if trace_id not in (ids[at : at + 16] for at in range(0, len(ids), 16)):
            return b""
        return msgspec.json.encode({"resourceSpans": resource_spans_of_trace(row, trace_id)})
    fragment = row.body if row.encoding is Encoding.JSON else transcode.to_json(row.body)
    return b'{"resourceSpans":[%b]}' % fragment
