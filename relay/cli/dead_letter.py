"""`otlp-relay dead-letter …`: the group of commands; `list` and `show`, the others elsewhere."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from relay.buffer.values import DeadLetterFilter
from relay.cli.dead_letter_options import (
    STEP_SECONDS,
    LetterId,
    filter_options,
    letters_text,
    unredacted_option,
)
from relay.cli.lazy import LazyGroup
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import (
    columns_of,
    print_table,
    say,
    say_result,
    say_styled,
    when,
)
from relay.cli.source import NEWEST, Source
from relay.model.nouns import counted_items, listed_items, noun_of
from relay.model.reasons import Reason
from relay.model.records import Encoding, Signal
from relay.model.units import about_bytes

# In text; `--json` has them all.
_MOST_SHOWN: Final = 20
_MOST_CHARACTERS: Final = 200
_MOST_TRACES: Final = 5
_PAGE: Final = 1000


def words_of(found: dict[str, Any]) -> str:
    """What was said; of what was refused on the way in, where it stood, of a span the id, too."""
    if found["destination"] != "ingest" or found["reason"] == Reason.BODY_UNREADABLE:
        return str(found["words"])
    if found["signal"] != "traces":
        return f"at {found['path']}"
    return f"trace id {found['words'] or '(none)'} at {found['path']}"


def traces_of(letter: dict[str, Any]) -> str:
    """Its first trace, and how many more there are."""
    ids = letter["trace_ids"]
    more = f" +{len(ids) - 1}" if len(ids) > 1 else ""
    return f"{ids[0]}{more}" if ids else "-"


_KIND: Final = {
    "DESTINATION": lambda it: it["destination"],
    "SIGNAL": lambda it: it["signal"],
    "REASON": lambda it: it["reason"],
    "STATUS": lambda it: str(it["status"] or "-"),
}
LETTER_COLUMNS: Final = {
    "ID": lambda it: str(it["id"]),
    "DEAD SINCE": lambda it: when(it["set_aside_at"]),
    **_KIND,
    "ITEMS": lambda it: f"{it['affected']:,}",
    "TRACE": traces_of,
    "WORDS": words_of,
}
GROUP_COLUMNS: Final = {
    **_KIND,
    "LETTERS": lambda it: f"{it['letters']:,}",
    "ITEMS": lambda it: f"{it['spans']:,}",
    "FIRST": lambda it: when(it["first_at"]),
    "LAST": lambda it: when(it["last_at"]),
    "WORDS": words_of,
}


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
    *, wanted: DeadLetterFilter, config_path: str | None, each: bool, limit: int, as_json: bool
) -> None:
    """List dead letters, by default one line for all with the same words.

    Words that differ only in numbers or ids count as the same; the newest are shown verbatim,
    secrets masked. FIRST and LAST tell when the first and the last of them became a dead letter.
    """
    source = Source(load_or_exit(config_path), STEP_SECONDS)
    found = entries(source, wanted, limit) if each else groups(source, wanted, limit)
    say_result(found, tell_letters if each else tell_groups, as_json=as_json)


def entries(source: Source, wanted: DeadLetterFilter, limit: int) -> dict[str, Any]:
    """Up to `limit` letters, the newest first."""
    letters: list[dict[str, Any]] = []
    before = NEWEST
    while True:
        found = source.letters(wanted, before=before, limit=min(limit - len(letters), _PAGE))
        letters += found["letters"]
        before = found["next"]
        if before is None or len(letters) >= limit:
            has_more = before is not None
            return {"letters": letters, "has_more": has_more, "dropped": found["dropped"]}


def groups(source: Source, wanted: DeadLetterFilter, limit: int) -> dict[str, Any]:
    """Up to `limit` groups, the one with the newest letter first."""
    found = source.letter_groups(wanted)
    return {
        "letters": found["letters"],
        "spans": found["spans"],
        "by_signal": found["by_signal"],
        "groups": found["groups"][:limit],
        "has_more": len(found["groups"]) > limit,
        "dropped": found["dropped"],
    }


def tell_letters(found: dict[str, Any]) -> None:
    """The letters as a table."""
    letters = found["letters"]
    if letters:
        print_table(columns_of(LETTER_COLUMNS, (each["signal"] for each in letters)), letters)
    else:
        say("no dead letters")
    if found["has_more"]:
        say(f"there are more than {len(found['letters']):,}: raise --limit to see them")
    tell_dropped(found)


def tell_groups(found: dict[str, Any]) -> None:
    """The groups as a table, with a sum."""
    if found["groups"]:
        print_table(columns_of(GROUP_COLUMNS, found["by_signal"]), found["groups"])
        say(f"{letters_text(found['letters'])}, {listed_items(found['by_signal'])}")
    else:
        say("no dead letters")
    if found["has_more"]:
        say("there are more groups: raise --limit to see them")
    tell_dropped(found)


def tell_dropped(found: dict[str, Any]) -> None:
    """How many were evicted ever, and of whom."""
    if found["dropped"]:
        dropped = ", ".join(f"{n:,} of {name}" for name, n in sorted(found["dropped"].items()))
        say_styled(f"evicted for space or age so far: {dropped}", "yellow")


@dead_letter.command()
@click.argument("letter_id", type=LetterId, metavar="ID")
@config_option
@unredacted_option
@json_option
def show(letter_id: int, *, config_path: str | None, is_whole: bool, as_json: bool) -> None:
    """Show everything about a dead letter; with --json its items as OTLP JSON, too.

    What its destination must not see (`redact`) is redacted here, too, without --unredacted. Of one
    whose destination has left the configuration nothing is shown without it.
    """
    found = Source(load_or_exit(config_path), STEP_SECONDS).letter(letter_id, is_whole=is_whole)
    say_result(found, lambda it: say(*lines_of(it)), as_json=as_json)


def lines_of(found: dict[str, Any]) -> list[str]:
    """A letter as text."""
    signal = found["signal"]
    label = "spans" if signal == "traces" else "items"
    lines = [
        f"dead letter {found['id']} of {found['destination']}: {found['reason']}",
        f"  dead since {found['set_aside_at']}, received {found['received_at']}",
        f"  status     {found['status'] or 'none'}",
        f"  {label:<10} {found['affected']:,} of {counted_items(found['spans'], signal)}",
    ]
    if found["bytes"] is not None:
        lines.append(f"  body       {about_bytes(found['bytes'])} as {found['encoding']}")
    if found["path"]:
        lines.append(f"  place      {found['path']}")
    for number, trace_id in enumerate(found["trace_ids"][:_MOST_TRACES]):
        lines.append(f"  {'traces' if not number else '':<10} {trace_id}")
    if len(found["trace_ids"]) > _MOST_TRACES:
        lines.append(f"             and {len(found['trace_ids']) - _MOST_TRACES:,} more")
    if found["is_damaged"]:
        lines.append("  damaged    its bytes on disk are not those that were written")
    is_body = found["reason"] == Reason.BODY_UNREADABLE
    is_id = found["destination"] == "ingest" and not is_body and signal == "traces"
    title = "trace id" if is_id else "words"
    lines.append(f"  {title}:")
    lines += [f"    {line}" for line in found["words"].splitlines() or ["(none)"]]
    records = records_of(found)
    items = f"{noun_of([signal])}s"
    if records is None:
        in_full = "; --json has its bytes in body_base64" if is_body else ""
        return [*lines, f"  its {items} cannot be shown: {found['unreadable']}{in_full}"]
    lines.append(f"  {'metrics' if signal == 'metrics' else items}:")
    lines += [f"    {_TOLD[signal](each)}" for each in records[:_MOST_SHOWN]]
    rest = len(records) - _MOST_SHOWN
    more = f"    and {rest:,} more; " if rest > 0 else "    "
    return [*lines, f"{more}--json shows them in full"]


def records_of(found: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Its spans, log records or metrics; None where its bytes are none any more."""
    from relay.otlp.signals import WIRE  # with the official classes, which no other command needs

    names = WIRE[Signal.of(found["signal"])].lists[Encoding.JSON]
    if found[names.entries] is None:
        return None
    return [
        record
        for entry in found[names.entries]
        for scope in entry.get(names.scopes, [])
        for record in scope.get(names.records, [])
    ]


def _told_log(record: dict[str, Any]) -> str:
    body = record.get("body") or {}
    text = body.get("stringValue", json.dumps(body, ensure_ascii=False))
    words = (record.get("traceId", "-"), record.get("severityText", ""), text[:_MOST_CHARACTERS])
    return " ".join(filter(None, words))


# A record in one line.
_TOLD: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = {
    "traces": lambda it: f"{it.get('traceId', '-')} {it.get('spanId', '-')} {it.get('name', '')}",
    "logs": _told_log,
    "metrics": lambda it: f"{it.get('name') or '(no name)'} {it.get('unit', '')}".rstrip(),
}
