"""`otlp-relay dead-letter replay | discard`: sends dead letters again, or drops them for good."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click

from relay.buffer.values import DeadLetterFilter
from relay.cli.client import DaemonClient
from relay.cli.dead_letter_options import (
    STEP_SECONDS,
    LetterId,
    count,
    filter_options,
    letters_text,
    merge,
    must_choose,
    progress,
    selection_of,
    spans_text,
    stayed_documents,
    steps,
    tell_stayed,
)
from relay.cli.destination_ask import is_terminal
from relay.cli.destination_names import fail
from relay.cli.options import config_option, json_option, load_or_exit, printable
from relay.cli.source import LETTERS, DaemonSource, path_of, query_of
from relay.cli.target import admin_client
from relay.model.errors import RelayError

ids_argument = click.argument("ids", nargs=-1, type=LetterId, metavar="[ID]...")


@dataclass(slots=True)
class Replayed:
    """What the steps of a replay have done so far."""

    letters: int = 0
    spans: int = 0
    by_destination: Counter[str] = field(default_factory=Counter)
    partial: Counter[str] = field(default_factory=Counter)
    stayed: dict[str, tuple[int, list[int]]] = field(default_factory=dict)
    error: str = ""

    def add(self, step: dict[str, Any]) -> None:
        """One more step."""
        self.letters += step["letters"]
        self.spans += step["spans"]
        self.by_destination.update(step["spans_by_destination"])
        self.partial.update(step["partial"])
        merge(self.stayed, step["stayed"])

    def document(self) -> dict[str, Any]:
        """As JSON says it."""
        return {
            "letters": self.letters,
            "spans": self.spans,
            "spans_by_destination": dict(self.by_destination),
            "partial": {"letters": 0, "spans": 0, "refused": 0} | dict(self.partial),
            "stayed": stayed_documents(self.stayed),
            "error": self.error or None,
        }


@click.command()
@ids_argument
@config_option
@filter_options
@click.option("--all", "takes_all", is_flag=True, help="Every dead letter.")
@click.option("--to", metavar="NAME", help="Send them to this destination instead of their own.")
@click.option(
    "--derive-ids",
    is_flag=True,
    help="Derive valid ids from malformed ones (spans refused on the way in).",
)
@click.option("--keep", is_flag=True, help="Keep the dead letters, too.")
@json_option
def replay(
    *,
    ids: tuple[int, ...],
    config_path: str | None,
    destination: str | None,
    reason: str | None,
    since_seconds: float | None,
    trace: str | None,
    takes_all: bool,
    to: str | None,
    derive_ids: bool,
    keep: bool,
    as_json: bool,
) -> None:
    """Send dead letters again, each to its own destination.

    Spans refused on the way in are checked again and go to every destination. A replayed dead
    letter is removed unless --keep is given; if its spans are refused again, they become a new
    one. Exits 1 when any could not be replayed; the reason is printed.
    """
    wanted = selection_of(
        ids, destination=destination, reason=reason, since_seconds=since_seconds, trace=trace
    )
    must_choose(wanted, takes_all=takes_all)
    client = admin_client(load_or_exit(config_path), STEP_SECONDS)
    more = [("derive_ids", "true")] * derive_ids + [("keep", "true")] * keep
    if to is not None:
        more.append(("to", to))
    done = Replayed()
    try:
        total = count(DaemonSource(client).letter_groups, wanted)[0] if sys.stderr.isatty() else 0
        with progress("replaying", total) as advance:
            for found in steps(changing(client, "POST", f"{LETTERS}/replay", more), wanted):
                done.add(found)
                advance(found["seen"])
    except RelayError as error:
        done.error = str(error)
    if as_json:
        click.echo(json.dumps(done.document(), indent=2))
    else:
        tell_replayed(done)
    sys.exit(1 if done.stayed or done.error else 0)


def tell_replayed(done: Replayed) -> None:
    """What was sent again on standard output, what was not on standard error."""
    if done.letters:
        to = ", ".join(
            f"{spans_text(spans)} to {name}" for name, spans in sorted(done.by_destination.items())
        )
        click.echo(printable(f"replayed {letters_text(done.letters)}: {to}"))
    elif not done.stayed and not done.error:
        click.echo("no dead letter matches")
    if done.partial["letters"]:
        click.echo(
            f"for {letters_text(done.partial['letters'])} the upstream did not say which "
            f"{done.partial['refused']:,} of {spans_text(done.partial['spans'])} it refused: "
            "all are sent again, so it may get some of them twice",
            err=True,
        )
    tell_stayed(done.stayed, "not sent:")
    if done.error:
        left = "; what is reported above is done, the rest stays" if done.letters else ""
        click.echo(printable(f"otlp-relay: {done.error}{left}"), err=True)


@click.command()
@ids_argument
@config_option
@filter_options
@click.option("--all", "takes_all", is_flag=True, help="Every dead letter.")
@click.option(
    "--erase",
    is_flag=True,
    help="Leave none of their bytes in the buffer's files. On its own: of those discarded before.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def discard(
    *,
    ids: tuple[int, ...],
    config_path: str | None,
    destination: str | None,
    reason: str | None,
    since_seconds: float | None,
    trace: str | None,
    takes_all: bool,
    erase: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Discard dead letters for good.

    Asks first; without a terminal, --yes is required. Exits 1 when one that was named does not
    exist, or when --erase could not be finished.
    """
    wanted = selection_of(
        ids, destination=destination, reason=reason, since_seconds=since_seconds, trace=trace
    )
    is_erasing_only = erase and wanted == DeadLetterFilter() and not takes_all
    if not is_erasing_only:
        must_choose(wanted, takes_all=takes_all)
        if not yes and not is_terminal():
            raise click.UsageError("there is no terminal to ask on: confirm with --yes")
    client = admin_client(load_or_exit(config_path), STEP_SECONDS)
    done: dict[str, Any] = {"letters": 0, "spans": 0, "missing": [], "erased": None}
    try:
        if not is_erasing_only and may_go(client, wanted, is_sure=yes):
            drop(client, wanted, done, erase=erase)
        elif not is_erasing_only:
            click.echo("nothing was discarded", err=True)
            sys.exit(1)
        if erase:
            done["erased"] = client.ask("POST", f"{LETTERS}/finish-erasing")
    except RelayError as error:
        if done["letters"]:
            click.echo(f"discarded {letters_text(done['letters'])} before this:", err=True)
        fail(error)
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        tell_discarded(done, is_erasing_only=is_erasing_only)
    is_done = not done["missing"] and (not erase or done["erased"]["is_done"])
    sys.exit(0 if is_done else 1)


def may_go(client: DaemonClient, wanted: DeadLetterFilter, *, is_sure: bool) -> bool:
    """Whether they may be dropped: asked, unless that is sure."""
    if is_sure:
        return True
    letters, spans = count(DaemonSource(client).letter_groups, wanted)
    if not letters:
        return True
    question = f"discard {letters_text(letters)} ({spans_text(spans)}) for good?"
    return click.confirm(question, err=True)


def drop(
    client: DaemonClient, wanted: DeadLetterFilter, done: dict[str, Any], *, erase: bool
) -> None:
    """Drop them step by step, and count in `done`."""
    more = [("erase", "true")] if erase else []
    total = count(DaemonSource(client).letter_groups, wanted)[0] if sys.stderr.isatty() else 0
    with progress("erasing" if erase else "discarding", total) as advance:
        for found in steps(changing(client, "DELETE", LETTERS, more), wanted):
            done["letters"] += found["letters"]
            done["spans"] += found["spans"]
            done["missing"] += found["missing"]
            advance(found["seen"])


def changing(
    client: DaemonClient, method: str, path: str, more: list[tuple[str, str]]
) -> Callable[[DeadLetterFilter, int], dict[str, Any]]:
    """A step of a change, for `steps`."""

    def step(wanted: DeadLetterFilter, after: int) -> dict[str, Any]:
        query = [*query_of(wanted), *more, ("after", str(after))]
        return client.ask(method, path_of(path, query))

    return step


def tell_discarded(done: dict[str, Any], *, is_erasing_only: bool) -> None:
    """What was dropped, and what of it may still be somewhere."""
    if not is_erasing_only:
        click.echo(f"discarded {letters_text(done['letters'])}, {spans_text(done['spans'])}")
    for letter_id in done["missing"]:
        click.echo(f"there is no dead letter {letter_id}", err=True)
    erased = done["erased"]
    if erased is None:
        return
    if erased["is_done"]:
        click.echo("erased: none of their bytes is left in the buffer's files")
    else:
        click.echo(
            f"not erased yet: {erased['why']}; `dead-letter discard --erase` retries", err=True
        )
    if erased["rows_kept"]:
        click.echo(
            f"but {erased['rows_kept']:,} rows of the log hold spans of the same traces: delivered "
            f"ones stay for keep_delivered ({erased['keep_delivered']}), owed ones until they are "
            "delivered",
            err=True,
        )
    if erased["files_set_aside"]:
        names = ", ".join(erased["files_set_aside"])
        click.echo(printable(f"quarantined files may hold copies: {names}"), err=True)
