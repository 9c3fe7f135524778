"""`otlp-relay dead-letter export`: writes the spans of dead letters as OTLP JSON lines."""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import click

from relay.buffer.values import DeadLetterFilter
from relay.cli.dead_letter_options import (
    STEP_SECONDS,
    LetterId,
    count,
    filter_options,
    letters_text,
    merge,
    progress,
    selection_of,
    stayed_documents,
    steps,
    tell_stayed,
)
from relay.cli.destination_names import fail
from relay.cli.options import config_option, json_option, load_or_exit, printable
from relay.cli.source import Sources
from relay.model.errors import RelayError


@click.command()
@click.argument("ids", nargs=-1, type=LetterId, metavar="[ID]...")
@config_option
@filter_options
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to this new file (0600) instead of standard output.",
)
@json_option
def export(
    *,
    ids: tuple[int, ...],
    config_path: str | None,
    destination: str | None,
    reason: str | None,
    since_seconds: float | None,
    trace: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write the spans of dead letters as OTLP JSON lines: one ExportTraceServiceRequest a line.

    All of them, or those that the flags choose; they stay. Spans refused on the way in are written
    as they were sent. --json, with --output, prints what was done. Exits 1 when any had to be left
    out; the reason is printed.
    """
    if as_json and output is None:
        raise click.UsageError("--json needs --output: the lines are on standard output")
    wanted = selection_of(
        ids, destination=destination, reason=reason, since_seconds=since_seconds, trace=trace
    )
    sources = Sources(load_or_exit(config_path), STEP_SECONDS)

    def groups(each: DeadLetterFilter) -> dict[str, Any]:
        return sources.ask(lambda source: source.letter_groups(each))

    def step(each: DeadLetterFilter, after: int) -> dict[str, Any]:
        return sources.ask(lambda source: source.exported(each, after=after))

    written = 0
    left_out: dict[str, tuple[int, list[int]]] = {}
    try:
        total = count(groups, wanted)[0] if sys.stderr.isatty() else 0
        with (
            progress("exporting", total) as advance,
            open_output(output) if output else nullcontext(sys.stdout.buffer) as file,
        ):
            for found in steps(step, wanted):
                for line in found["lines"]:
                    file.write(line.encode() + b"\n")
                written += len(found["lines"])
                merge(left_out, found["left_out"])
                advance(found["letters"])
            file.flush()
            if output:
                os.fsync(file.fileno())
    except RelayError as error:
        if written:
            click.echo(f"wrote {letters_text(written)} before this:", err=True)
        fail(error)
    except OSError as error:
        fail(RelayError(f"{output or 'standard output'}: {error.strerror or error}"))
    if as_json:
        document = {"letters": written, "left_out": stayed_documents(left_out)}
        click.echo(json.dumps(document | {"output": str(output)}, indent=2))
    elif output:
        click.echo(printable(f"wrote {letters_text(written)} to {output}"))
    tell_stayed(left_out, "left out:")
    sys.exit(1 if left_out else 0)


def open_output(path: Path) -> BinaryIO:
    """A new file that only this user may read. Raises OSError; one that exists is left alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")
