"""What all `dead-letter` commands share: flags that choose letters, steps, progress, words."""

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import click

from relay.buffer.values import DeadLetterFilter
from relay.cli.moments import DURATION
from relay.cli.options import signal_option
from relay.cli.output import is_watched, progress_bar, say
from relay.cli.source import NEWEST
from relay.model.nouns import counted
from relay.model.records import Signal
from relay.traces.ids import legible_id

LetterId = click.IntRange(min=1, max=NEWEST)
ids_argument = click.argument("ids", nargs=-1, type=LetterId, metavar="[ID]...")
all_option = click.option("--all", "takes_all", is_flag=True, help="Every dead letter.")

# A step takes milliseconds, but waits for its turn; erasing may take a minute.
STEP_SECONDS = 90.0
_IDS_A_REQUEST = 200
_MOST_IDS_NAMED = 20

Ask = Callable[[DeadLetterFilter], dict[str, Any]]


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--destination`, `--signal`, `--reason`, `--since` and `--trace`, and ids where the command
    has them: given as `wanted: DeadLetterFilter`. Nothing chosen is all of them.
    """

    @click.option(
        "--destination",
        default="",
        metavar="NAME",
        help='Those of this destination; "ingest": what was refused on the way in.',
    )
    @signal_option("Those of this signal.")
    @click.option(
        "--reason",
        default="",
        metavar="CODE",
        help="Those with this reason, such as upstream_refused.",
    )
    @click.option(
        "--since",
        "since_seconds",
        type=DURATION,
        metavar="DURATION",
        help="Those that became dead letters within this time, such as 1h.",
    )
    @click.option(
        "--trace",
        default="",
        metavar="ID",
        help="Those of this trace; of spans refused on the way in also by an invalid id.",
    )
    @functools.wraps(command)
    def chosen(
        *,
        destination: str,
        reason: str,
        since_seconds: float | None,
        trace: str,
        signal: Signal | None,
        ids: tuple[int, ...] = (),
        **more: Any,
    ) -> None:
        since_ns = 0 if since_seconds is None else time.time_ns() - int(since_seconds * 1e9)
        unique = tuple(dict.fromkeys(ids))
        trace = legible_id(trace)
        wanted = DeadLetterFilter(destination, reason, since_ns, trace, unique, signal=signal)
        command(wanted=wanted, **more)

    return chosen


def must_choose(wanted: DeadLetterFilter, *, takes_all: bool) -> None:
    """Raise click.UsageError unless letters, or all of them, are named."""
    is_empty = wanted == DeadLetterFilter()
    if takes_all and not is_empty:
        raise click.UsageError("--all cannot be combined with a choice of dead letters")
    if is_empty and not takes_all:
        raise click.UsageError(
            "say which dead letters: ids, --destination, --signal, --reason, --since, "
            "--trace, or --all"
        )


def passes_of(wanted: DeadLetterFilter) -> list[DeadLetterFilter]:
    """The same letters in several passes: a request takes so many ids."""
    if not wanted.ids:
        return [wanted]
    return [
        replace(wanted, ids=wanted.ids[at : at + _IDS_A_REQUEST])
        for at in range(0, len(wanted.ids), _IDS_A_REQUEST)
    ]


def count(groups: Ask, wanted: DeadLetterFilter) -> tuple[int, Counter[str]]:
    """How many letters are meant, and items by signal. Raises what `groups` raises."""
    letters, items = 0, Counter[str]()
    for found in map(groups, passes_of(wanted)):
        letters += found["letters"]
        items.update(found["by_signal"])
    return letters, items


def steps(
    title: str,
    wanted: DeadLetterFilter,
    groups: Ask,
    step: Callable[[DeadLetterFilter, int], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """What each step finds, until all that are meant were looked at; with a bar on a terminal.

    `step` takes the letters of a pass and the id after which to go on; when it raises, the steps
    before are done. `groups` counts them for the bar.
    """
    total = count(groups, wanted)[0] if is_watched() else 0
    done = 0
    with progress_bar(title, total) as show:
        for each in passes_of(wanted):
            bounded, after = each, 0
            while after is not None:
                found = step(bounded, after)
                yield found
                after, bounded = found["next"], replace(each, until=found["until"])
                done += found["seen"] if "seen" in found else found["letters"]
                show(done, total)


def merge(into: list[dict[str, Any]], stayed: list[dict[str, Any]]) -> None:
    """Add a step's letters that were left out to those of the steps before, by why."""
    known = {each["why"]: each for each in into}
    for each in stayed:
        same = known.setdefault(each["why"], {"why": each["why"], "letters": 0, "ids": []})
        same["letters"] += each["letters"]
        same["ids"] = (same["ids"] + each["ids"])[:_MOST_IDS_NAMED]
    into[:] = [known[why] for why in sorted(known)]


def tell_stayed(stayed: list[dict[str, Any]], verb: str) -> None:
    """A line on standard error for each reason."""
    for each in stayed:
        named = ", ".join(map(str, each["ids"]))
        more = ", …" if each["letters"] > len(each["ids"]) else ""
        say(f"{verb} {letters_text(each['letters'])} ({named}{more}): {each['why']}", err=True)


def letters_text(times: int) -> str:
    """So many letters."""
    return counted(times, "dead letter")


unredacted_option = click.option(
    "--unredacted", "is_whole", is_flag=True, help="As it was kept, whatever `redact` says."
)
