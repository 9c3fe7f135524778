"""`otlp-relay dead-letter replay | discard`: sends dead letters again, or deletes them for good."""

import sys
from collections import Counter, defaultdict
from functools import partial
from typing import Any

import click

from relay.buffer.values import DeadLetterFilter
from relay.cli.client import DaemonClient, admin_client
from relay.cli.dead_letter_options import (
    STEP_SECONDS,
    Ask,
    all_option,
    count,
    filter_options,
    ids_argument,
    letters_text,
    merge,
    must_choose,
    steps,
    tell_stayed,
)
from relay.cli.destination_ask import is_terminal
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import say, say_result
from relay.cli.source import LETTERS, path_of
from relay.model.errors import RelayError
from relay.model.nouns import counted, counted_items, listed_items


@click.command()
@ids_argument
@config_option
@filter_options
@all_option
@click.option("--to", metavar="NAME", help="Send them to this destination instead of their own.")
@click.option(
    "--derive-ids",
    is_flag=True,
    help="Derive valid ids from malformed ones (spans that were refused on the way in).",
)
@click.option("--keep", is_flag=True, help="Keep the dead letters, too.")
@json_option
def replay(
    *,
    wanted: DeadLetterFilter,
    config_path: str | None,
    takes_all: bool,
    to: str | None,
    derive_ids: bool,
    keep: bool,
    as_json: bool,
) -> None:
    """Send dead letters again, each to its own destination.

    What was refused on the way in is checked again and goes to every destination that gets its
    signal. A replayed dead letter is removed unless --keep is given; if it is refused again, it
    becomes a new one. Exits 1 when any could not be replayed; the reason is printed.
    """
    must_choose(wanted, takes_all=takes_all)
    client = admin_client(load_or_exit(config_path), STEP_SECONDS)

    def step(each: DeadLetterFilter, after: int) -> dict[str, Any]:
        more = {"after": after, "to": to, "derive_ids": derive_ids, "keep": keep}
        return client.ask("POST", path_of(f"{LETTERS}/replay", each, **more))

    done: dict[str, Any] = {
        "letters": 0,
        "spans": 0,
        "spans_by_destination": Counter(),
        "by_destination": defaultdict(Counter),
        "partial": Counter(letters=0, spans=0, refused=0),
        "stayed": [],
        "error": None,
    }
    try:
        for found in steps("replaying", wanted, groups_of(client), step):
            done["letters"] += found["letters"]
            done["spans"] += found["spans"]
            done["spans_by_destination"].update(found["spans_by_destination"])
            for name, items in found["by_destination"].items():
                done["by_destination"][name].update(items)
            done["partial"].update(found["partial"])
            merge(done["stayed"], found["stayed"])
    except RelayError as error:
        done["error"] = str(error)
    say_result(done, tell_replayed, as_json=as_json)
    sys.exit(1 if done["stayed"] or done["error"] else 0)


def tell_replayed(done: dict[str, Any]) -> None:
    """What was sent again on standard output, what was not on standard error."""
    if done["letters"]:
        to = ", ".join(
            f"{listed_items(items)} to {name}"
            for name, items in sorted(done["by_destination"].items())
        )
        say(f"replayed {letters_text(done['letters'])}: {to}")
    elif not done["stayed"] and not done["error"]:
        say("no dead letter matches")
    unclear = done["partial"]
    if unclear["letters"]:
        signals = {signal for items in done["by_destination"].values() for signal in items}
        say(
            f"for {letters_text(unclear['letters'])} the upstream did not say which "
            f"{unclear['refused']:,} of {counted_items(unclear['spans'], *signals)} it refused: "
            "all are sent again, so it may get some of them twice",
            err=True,
        )
    tell_stayed(done["stayed"], "not sent:")
    if done["error"]:
        left = "; what is reported above is done, the rest stays" if done["letters"] else ""
        say(f"otlp-relay: {' '.join(done['error'].split())}{left}", err=True)


@click.command()
@ids_argument
@config_option
@filter_options
@all_option
@click.option(
    "--erase",
    is_flag=True,
    help="Leave none of their bytes in the buffer's files. On its own: of those discarded before.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def discard(
    *,
    wanted: DeadLetterFilter,
    config_path: str | None,
    takes_all: bool,
    erase: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Discard dead letters for good.

    Asks first; without a terminal, --yes is required. Exits 1 when one that was named does not
    exist, or when --erase could not be finished.
    """
    is_erasing_only = erase and wanted == DeadLetterFilter() and not takes_all
    if not is_erasing_only:
        must_choose(wanted, takes_all=takes_all)
        if not yes and not is_terminal():
            raise click.UsageError("there is no terminal to ask on: confirm with --yes")
    client = admin_client(load_or_exit(config_path), STEP_SECONDS)
    done: dict[str, Any] = {
        "letters": 0,
        "spans": 0,
        "by_signal": Counter(),
        "missing": [],
        "erased": None,
    }
    try:
        if not is_erasing_only and may_go(client, wanted, is_sure=yes):
            drop(client, wanted, done, erase=erase)
        elif not is_erasing_only:
            say("nothing was discarded", err=True)
            sys.exit(1)
        if erase:
            done["erased"] = client.ask("POST", f"{LETTERS}/finish-erasing")
    except RelayError:
        if done["letters"]:
            say(f"discarded {letters_text(done['letters'])} before this:", err=True)
        raise
    tell = partial(tell_discarded, is_erasing_only=is_erasing_only)
    say_result(done, tell, as_json=as_json)
    is_done = not done["missing"] and (not erase or done["erased"]["is_done"])
    sys.exit(0 if is_done else 1)


def may_go(client: DaemonClient, wanted: DeadLetterFilter, *, is_sure: bool) -> bool:
    """Whether they may be dropped: asked, unless that is sure."""
    if is_sure:
        return True
    letters, items = count(groups_of(client), wanted)
    if not letters:
        return True
    question = f"discard {letters_text(letters)} ({listed_items(items)}) for good?"
    return click.confirm(question, err=True)


def drop(
    client: DaemonClient, wanted: DeadLetterFilter, done: dict[str, Any], *, erase: bool
) -> None:
    """Drop them step by step, and count in `done`."""

    def step(each: DeadLetterFilter, after: int) -> dict[str, Any]:
        return client.ask("DELETE", path_of(LETTERS, each, after=after, erase=erase))

    title = "erasing" if erase else "discarding"
    for found in steps(title, wanted, groups_of(client), step):
        for key in ("letters", "spans", "missing"):
            done[key] += found[key]
        done["by_signal"].update(found["by_signal"])


def groups_of(client: DaemonClient) -> Ask:
    """Counts letters, for `steps`. By the daemon alone, since only it can change them."""
    return lambda wanted: client.ask("GET", path_of(f"{LETTERS}/groups", wanted))


def tell_discarded(done: dict[str, Any], *, is_erasing_only: bool) -> None:
    """What was dropped, and what of it may still be somewhere."""
    if not is_erasing_only:
        say(f"discarded {letters_text(done['letters'])}, {listed_items(done['by_signal'])}")
    for letter_id in done["missing"]:
        say(f"there is no dead letter {letter_id}", err=True)
    erased = done["erased"]
    if erased is None:
        return
    if erased["is_done"]:
        say("erased: none of their bytes is left in the buffer's files")
    else:
        say(f"not erased yet: {erased['why']}; `dead-letter discard --erase` retries", err=True)
    if erased["rows_kept"]:
        rows = erased["rows_kept"]
        say(
            f"but {counted(rows, 'row')} of the log hold{'s' if rows == 1 else ''} items of the "
            "same traces: delivered "
            f"ones stay for keep_delivered ({erased['keep_delivered']}), owed ones until they are "
            "delivered",
            err=True,
        )
    if erased["files_set_aside"]:
        names = ", ".join(erased["files_set_aside"])
        say(f"quarantined files may hold copies: {names}", err=True)
