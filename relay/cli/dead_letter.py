"""`otlp-relay dead-letter …`: the group of commands; `list` and `show`, the others elsewhere."""

import json
import sys
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.buffer.values import DeadLetterFilter
from relay.cli.dead_letter_options import (
    STEP_SECONDS,
    LetterId,
    filter_options,
    letters_text,
    selection_of,
    spans_text,
)
from relay.cli.destination_names import fail
from relay.cli.lazy import LazyGroup
from relay.cli.options import config_option, json_option, load_or_exit, printable
from relay.cli.source import NEWEST, Sources
from relay.cli.status import PIPE_WIDTH
from relay.model.errors import RelayError
from relay.model.units import about_bytes

# In text; `--json` has them all.
_MOST_SPANS: Final = 20
_MOST_TRACES: Final = 5
_PAGE: Final = 1000


@click.group(
    "dead-letter",
    cls=LazyGroup,
    lazy={
        "replay": "relay.cli.dead_letter_change:replay",
        "discard": "relay.cli.dead_letter_change:discard",
        "export": "relay.cli.dead_letter_export:export",
    },
)
def dead_letter() -> None:
    """Look at what was refused for good and why; replay, export or discard it."""


@dead_letter.command("list")
@config_option
@filter_options
@click.option("--all", "each", is_flag=True, help="One line for each dead letter, newest first.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="At most so many lines.",
)
@json_option
def list_letters(
    *,
    config_path: str | None,
    destination: str | None,
    reason: str | None,
    since_seconds: float | None,
    trace: str | None,
    each: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List dead letters, by default one line for all with the same words.

    Words that differ only in numbers or ids count as the same; the newest are shown verbatim,
    secrets masked. FIRST and LAST tell when the first and the last of them became a dead letter.
    """
    wanted = selection_of(
        destination=destination, reason=reason, since_seconds=since_seconds, trace=trace
    )
    sources = Sources(load_or_exit(config_path), STEP_SECONDS)
    try:
        found = entries(sources, wanted, limit) if each else groups(sources, wanted, limit)
    except RelayError as error:
        fail(error)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    console = Console(
        highlight=False,
        soft_wrap=True,
        width=None if sys.stdout.isatty() else PIPE_WIDTH,
    )
    if each:
        console.print(table_of_letters(found["letters"]) if found["letters"] else "no dead letters")
        if found["has_more"]:
            console.print(f"there are more than {limit:,}: raise --limit to see them")
    else:
        tell_groups(console, found)
    if found["dropped"]:
        dropped = ", ".join(f"{n:,} of {name}" for name, n in sorted(found["dropped"].items()))
        console.print(f"evicted for space or age so far: {dropped}", style="yellow")


def entries(sources: Sources, wanted: DeadLetterFilter, limit: int) -> dict[str, Any]:
    """Up to `limit` letters, the newest first."""
    letters: list[dict[str, Any]] = []
    before = NEWEST
    while True:
        size = min(limit - len(letters), _PAGE)
        found = page_of(sources, wanted, before, size)
        letters += found["letters"]
        if found["next"] is None or len(letters) >= limit:
            return {
                "letters": letters,
                "has_more": found["next"] is not None,
                "dropped": found["dropped"],
            }
        before = found["next"]


def page_of(sources: Sources, wanted: DeadLetterFilter, before: int, limit: int) -> dict[str, Any]:
    """A page of letters, the newest first."""
    return sources.ask(lambda source: source.letters(wanted, before=before, limit=limit))


def groups(sources: Sources, wanted: DeadLetterFilter, limit: int) -> dict[str, Any]:
    """Up to `limit` groups, the one with the newest letter first."""
    found = sources.ask(lambda source: source.letter_groups(wanted))
    return {
        "letters": found["letters"],
        "spans": found["spans"],
        "groups": found["groups"][:limit],
        "has_more": len(found["groups"]) > limit,
        "dropped": found["dropped"],
    }


def tell_groups(console: Console, found: dict[str, Any]) -> None:
    """The groups as a table, with a sum."""
    if not found["groups"]:
        console.print("no dead letters")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("DESTINATION", "REASON", "STATUS", "LETTERS", "SPANS", "FIRST", "LAST", "WORDS"):
        table.add_column(title, overflow="fold")
    for group in found["groups"]:
        table.add_row(
            group["destination"],
            group["reason"],
            str(group["status"] or "-"),
            f"{group['letters']:,}",
            f"{group['spans']:,}",
            group["first_at"] or "-",
            group["last_at"] or "-",
            Text(words_of(group)),
        )
    console.print(table)
    console.print(f"{letters_text(found['letters'])}, {spans_text(found['spans'])}")
    if found["has_more"]:
        console.print("there are more groups: raise --limit to see them")


def table_of_letters(letters: list[dict[str, Any]]) -> Table:
    """A line a letter."""
    table = Table(box=None, pad_edge=False)
    for title in ("ID", "DEAD SINCE", "DESTINATION", "REASON", "STATUS", "SPANS", "TRACE", "WORDS"):
        table.add_column(title, overflow="fold")
    for letter in letters:
        traces = letter["trace_ids"]
        more = f" +{len(traces) - 1}" if len(traces) > 1 else ""
        table.add_row(
            str(letter["id"]),
            letter["set_aside_at"] or "-",
            letter["destination"],
            letter["reason"],
            str(letter["status"] or "-"),
            f"{letter['affected']:,}",
            f"{traces[0]}{more}" if traces else "-",
            Text(words_of(letter)),
        )
    return table


def words_of(found: dict[str, Any]) -> str:
    """What was said; of a span refused on the way in, what stood where."""
    if found["destination"] != "ingest":
        return printable(found["words"])
    return printable(f"trace id {found['words'] or '(none)'} at {found['path']}")


@dead_letter.command()
@click.argument("letter_id", type=LetterId, metavar="ID")
@config_option
@json_option
def show(letter_id: int, config_path: str | None, as_json: bool) -> None:
    """Show everything about a dead letter; with --json its spans as OTLP JSON, too."""
    sources = Sources(load_or_exit(config_path), STEP_SECONDS)
    try:
        found = sources.ask(lambda source: source.letter(letter_id))
    except RelayError as error:
        fail(error)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for line in lines_of(found):
        click.echo(printable(line))


def lines_of(found: dict[str, Any]) -> list[str]:
    """A letter as text."""
    lines = [
        f"dead letter {found['id']} of {found['destination']}: {found['reason']}",
        f"  dead since {found['set_aside_at']}, received {found['received_at']}",
        f"  status     {found['status'] or 'none'}",
        f"  spans      {found['affected']:,} of {found['spans']:,}",
        f"  body       {about_bytes(found['bytes'])} as {found['encoding']}",
    ]
    if found["path"]:
        lines.append(f"  place      {found['path']}")
    for number, trace_id in enumerate(found["trace_ids"][:_MOST_TRACES]):
        lines.append(f"  {'traces' if not number else '':<10} {trace_id}")
    if len(found["trace_ids"]) > _MOST_TRACES:
        lines.append(f"             and {len(found['trace_ids']) - _MOST_TRACES:,} more")
    if found["is_damaged"]:
        lines.append("  damaged    its bytes on disk are not those that were written")
    title = "trace id" if found["destination"] == "ingest" else "words"
    lines.append(f"  {title}:")
    lines += [f"    {line}" for line in found["words"].splitlines() or ["(none)"]]
    if found["resourceSpans"] is None:
        return [*lines, f"  its spans cannot be shown: {found['unreadable']}"]
    spans = [
        span
        for entry in found["resourceSpans"]
        for scope in entry.get("scopeSpans", [])
        for span in scope.get("spans", [])
    ]
    lines.append("  spans:")
    for span in spans[:_MOST_SPANS]:
        ids = f"{span.get('traceId', '-')} {span.get('spanId', '-')}"
        lines.append(f"    {ids} {span.get('name', '')}")
    rest = len(spans) - _MOST_SPANS
    more = f"    and {rest:,} more; " if rest > 0 else "    "
    return [*lines, f"{more}--json shows them in full"]
