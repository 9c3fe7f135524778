"""`otlp-relay dead-letter export`: writes what dead letters hold as OTLP JSON lines."""

import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import click

from relay.buffer.values import DeadLetterFilter
from relay.cli.dead_letter_options import (
    STEP_SECONDS,
    filter_options,
    ids_argument,
    letters_text,
    merge,
    steps,
    tell_stayed,
    unredacted_option,
)
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import asked_output, opened, say, say_json
from relay.cli.source import Source
from relay.model.errors import RelayError


@click.command()
@ids_argument
@config_option
@filter_options
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to this new file (0600) instead of standard output; `-` is standard output, even "
    "where that is a terminal.",
)
@unredacted_option
@json_option
def export(
    *,
    wanted: DeadLetterFilter,
    config_path: str | None,
    output: Path | None,
    is_whole: bool,
    as_json: bool,
) -> None:
    """Write what dead letters hold as OTLP JSON lines: one request a line.

    All of them, or those that the flags choose; they stay. A line that begins with resourceSpans
    is a body for /v1/traces, with resourceLogs for /v1/logs, with resourceMetrics for /v1/metrics;
    --signal writes those of one alone. What was refused on the way in is written as it was sent.
    What a destination must not see (`redact`) is redacted, unless --unredacted is given. They hold
    what apps sent, prompts included: a terminal gets them only with --output -. --json, with
    --output, prints what was done. Exits 1 when any had to be left out; the reason is printed.
    """
    output = asked_output(output)
    if as_json and output is None:
        raise click.UsageError("--json needs --output: the lines are on standard output")
    source = Source(load_or_exit(config_path), STEP_SECONDS)
    exported = partial(source.exported, is_whole=is_whole)
    written = Counter[str]()
    left_out: list[dict[str, Any]] = []
    try:
        with opened(output) as file:
            for found in steps("exporting", wanted, source.letter_groups, exported):
                for line in found["lines"]:
                    file.write(line.encode() + b"\n")
                written.update(found["by_path"])
                merge(left_out, found["left_out"])
    except RelayError:
        if written:
            say(f"wrote {letters_text(written.total())} before this:", err=True)
        raise
    if as_json:
        say_json(
            {
                "letters": written.total(),
                "by_path": written,
                "left_out": left_out,
                "output": str(output),
            }
        )
    elif output:
        paths = ", ".join(f"{number:,} for {path}" for path, number in written.items())
        say(f"wrote {letters_text(written.total())} to {output}{paths and f': {paths}'}")
    tell_stayed(left_out, "left out:")
    sys.exit(1 if left_out else 0)
