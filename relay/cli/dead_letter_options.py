"""What all `dead-letter` commands share: flags that choose letters, steps, progress, words."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import click

from relay.buffer.values import DeadLetterFilter
from relay.cli.options import printable
from relay.cli.send_test_trace import Duration
from relay.cli.source import NEWEST

Command = TypeVar("Command", bound=Callable[..., Any])
LetterId = click.IntRange(min=1, max=NEWEST)

# A step takes milliseconds, but waits for its turn; erasing may take a minute.
STEP_SECONDS = 90.0
_IDS_A_REQUEST = 200


def filter_options(command: Command) -> Command:
    """`--destination`, `--reason`, `--since` and `--trace`."""
    for option in reversed(
        (
            click.option(
                "--destination",
                metavar="NAME",
                help='Those of this destination; "ingest": spans refused on the way in.',
            ),
            click.option(
                "--reason", metavar="CODE", help="Those with this reason, such as upstream_refused."
            ),
            click.option(
                "--since",
                "since_seconds",
                type=Duration(),
                metavar="DURATION",
                help="Those that became dead letters within this time, such as 1h.",
            ),
            click.option(
                "--trace",
                metavar="ID",
                help="Those of this trace; of spans refused on the way in also by an invalid id.",
            ),
        )
    ):
        command = option(command)
    return command


def selection_of(
    ids: tuple[int, ...] = (),
    *,
    destination: str | None,
    reason: str | None,
    since_seconds: float | None,
    trace: str | None,
) -> DeadLetterFilter:
    """The flags as they came from click; nothing chosen is all of them."""
    since_ns = 0 if since_seconds is None else time.time_ns() - int(since_seconds * 1e9)
    unique = tuple(dict.fromkeys(ids))
    return DeadLetterFilter(destination or "", reason or "", since_ns, trace or "", unique)


def must_choose(wanted: DeadLetterFilter, *, takes_all: bool) -> None:
    """Raise click.UsageError unless letters, or all of them, are named."""
    is_empty = wanted == DeadLetterFilter()
    if takes_all and not is_empty:
        raise click.UsageError("--all cannot be combined with a choice of dead letters")
    if is_empty and not takes_all:
        raise click.UsageError(
            "say which dead letters: ids, --destination, --reason, --since, --trace, or --all"
        )


def passes_of(wanted: DeadLetterFilter) -> list[DeadLetterFilter]:
    """The same letters in several passes: a request takes so many ids."""
    if not wanted.ids:
        return [wanted]
    return [
        replace(wanted, ids=wanted.ids[at : at + _IDS_A_REQUEST])
        for at in range(0, len(wanted.ids), _IDS_A_REQUEST)
    ]


def count(
    groups: Callable[[DeadLetterFilter], dict[str, Any]], wanted: DeadLetterFilter
) -> tuple[int, int]:
    """How many letters and spans are meant; raises what `groups` raises."""
    letters = spans = 0
    for each in passes_of(wanted):
        found = groups(each)
        letters, spans = letters + found["letters"], spans + found["spans"]
    return letters, spans


def steps(
    step: Callable[[DeadLetterFilter, int], dict[str, Any]], wanted: DeadLetterFilter
) -> Iterator[dict[str, Any]]:
    """What each step finds, until all that are meant were looked at.

    `step` takes the letters of a pass and the id after which to go on; when it raises, the steps
    before are done.
    """
    for each in passes_of(wanted):
        bounded, after = each, 0
        while after is not None:
            found = step(bounded, after)
            yield found
            after, bounded = found["next"], replace(each, until=found["until"])


def merge(into: dict[str, tuple[int, list[int]]], stayed: list[dict[str, Any]]) -> None:
    """Add a step's letters that were left out, by why."""
    for each in stayed:
        times, ids = into.get(each["why"], (0, []))
        into[each["why"]] = (times + each["letters"], (ids + each["ids"])[:20])


def stayed_documents(stayed: dict[str, tuple[int, list[int]]]) -> list[dict[str, Any]]:
    """The merged ones as JSON says it."""
    return [
        {"why": why, "letters": times, "ids": ids} for why, (times, ids) in sorted(stayed.items())
    ]


def tell_stayed(stayed: dict[str, tuple[int, list[int]]], verb: str) -> None:
    """A line on standard error for each reason."""
    for why, (times, ids) in sorted(stayed.items()):
        named = ", ".join(map(str, ids)) + (", …" if times > len(ids) else "")
        click.echo(printable(f"{verb} {letters_text(times)} ({named}): {why}"), err=True)


def letters_text(times: int) -> str:
    """So many letters."""
    return f"{times:,} dead letter{'' if times == 1 else 's'}"


def spans_text(times: int) -> str:
    """So many spans."""
    return f"{times:,} span{'' if times == 1 else 's'}"


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives what to call with how many more are done: a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda more: bar.advance(task, more)
