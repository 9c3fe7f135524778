"""`otlp-relay where`: what became of a trace, from its arrival to every destination."""

import re
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import click

from relay.cli.client import admin_client
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import ago, say, say_json
from relay.cli.source import Source
from relay.cli.trace_tree import tree_lines, tree_of
from relay.doctor.findings import MOST_REFUSED, refused_text, silence_text
from relay.model.nouns import counted_items, noun_of
from relay.model.units import format_duration

# A million rows take less than one; a disk that is slow and busy may take longer.
RESPONSE_SECONDS = 30.0
HOW = {
    "id": "",
    "padded": "{text} with the leading zeros that were cut off",
    "within": "the trace id in {text}",
    "derived": "the id derived from {text}, which is not a trace id",
    "derived_from_bytes": "the id derived from the bytes {text}, which are not a trace id",
}
UNSAMPLED = re.compile(r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][02468ace]$")
NOT_OWED = "it was added later, or this was replayed for others only"


@click.command()
@click.argument("trace_id")
@config_option
@json_option
@click.option(
    "--tree", "as_tree", is_flag=True, help="Its spans as a tree too, of a running daemon."
)
def where(*, trace_id: str, config_path: str | None, as_json: bool, as_tree: bool) -> None:
    """Tell where a trace is: received, rejected, kept, and what became of it for each destination.

    Its log records are told of as well as its spans. TRACE_ID is 32 hex digits, with or without
    dashes, 0x or leading zeros, a traceparent, a URL that holds it, or the id as the app wrote it
    when that was none (app_trace_001). Exits 0 when something is known of it, 1 when nothing is.
    """
    text = trace_id.strip()
    if not text:
        raise click.UsageError("name a trace id")
    config = load_or_exit(config_path)
    source = Source(config, RESPONSE_SECONDS)
    is_known, found = source.trace(text)
    client = admin_client(config, RESPONSE_SECONDS)
    tree = tree_of(client, found["trace_id"]) if as_tree and is_known else None
    if as_json:
        for key in ("resourceSpans", "resourceLogs"):
            found.pop(key, None)
        say_json({**found, "trace": tree} if as_tree else found)
    elif is_known:
        say(*lines_of(found, text))
        if as_tree:
            say("", *(tree_lines(tree) if tree else ["no span of it is kept any more"]))
    else:
        say(*unknown_lines(found, text, source.status()))
    sys.exit(0 if is_known else 1)


def unknown_lines(
    found: dict[str, Any], text: str, status: dict[str, Any] | None = None
) -> list[str]:
    """What it may mean that nothing is known; by the daemon's `status` if one runs."""
    lines = [f"nothing is known of trace {text}"]
    since = found.get("known_since")
    if since:
        lines.append(f"  what is known reaches back to {since} ({ago(since)} ago). It may be")
        lines.append("  - older than that, and forgotten ([buffer] history says how much is kept)")
    else:
        lines.append("  nothing has been received yet, or nothing is remembered. It may be")
    if UNSAMPLED.search(text):
        lines.append("  - sampled out in the app: its traceparent ends in -00, so it sent nothing")
    else:
        lines.append("  - sampled out in the app, which then sends nothing (OTEL_TRACES_SAMPLER)")
    lines.append("  - never received: an exporter that gave up, or one that sends to another place")
    if status is None:
        return lines
    if silence := silence_text(status, datetime.now(UTC)):
        lines.append(f"    {silence}")
    refused = status["ingest"]["refused_last_hour"]
    lines += [f"  - refused: {refused_text(each)}" for each in refused[:MOST_REFUSED]]
    return lines


def lines_of(found: dict[str, Any], text: str) -> list[str]:
    """The way of a trace, a line a step."""
    lines = [f"trace {found['trace_id']}"]
    for each in found["ids"]:
        note = HOW[each["how"]].format(text=text)
        if note:
            lines.append(f"  id         {each['trace_id']} is {note}")
    lines += [rejected_line(each) for each in found["dead_letters"] if is_rejected(each)]
    pieces = found["received"]
    standings = {(piece["signal"], _standing(piece)) for piece in pieces}
    differ = Counter(signal for signal, _standing in standings)
    for piece in pieces:
        lines.append(received_line(piece))
        if differ[piece["signal"]] > 1:
            lines += [piece_line(each) for each in piece["destinations"]]
    if found.get("is_cut"):
        lines.append("  …          only its oldest thousand rows are shown")
    lines += kept_lines(pieces)
    is_of_several = any(each["signal"] != "traces" for each in (*pieces, *found["dead_letters"]))
    for destination in found["destinations"]:
        name, signal = destination["name"], destination["signal"]
        own = [
            each
            for each in found["dead_letters"]
            if (each["destination"], each["signal"]) == (name, signal)
        ]
        has_pieces = any(piece["signal"] == signal for piece in pieces)
        what = f"{noun_of([signal])}s " if is_of_several else ""
        lines += destination_lines(destination, own, what, has_pieces=has_pieces)
    return lines + unclaimed_lines(found)


def unclaimed_lines(found: dict[str, Any]) -> list[str]:
    """What no destination is there for."""
    claimed = {each["signal"] for each in found["destinations"]}
    lines = []
    for signal in dict.fromkeys(piece["signal"] for piece in found["received"]):
        if signal not in claimed:
            of = "" if signal == "traces" else f" for {signal}"
            lines.append(
                f"  waiting    no destination is configured{of}: the {noun_of([signal])}s are kept"
            )
    return lines


def _standing(piece: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((each["name"], each["state"]) for each in piece["destinations"])


def is_rejected(letter: dict[str, Any]) -> bool:
    """Whether a dead letter was refused on the way in."""
    return bool(letter["destination"] == "ingest")


def rejected_line(letter: dict[str, Any]) -> str:
    """An item that was refused on the way in."""
    return (
        f"  rejected   {letter['received_at']}: {letter['reason']} at {letter['path']}; "
        f"{how_to_see(letter)}"
    )


def how_to_see(letter: dict[str, Any]) -> str:
    """Which dead letter it is, and the command that shows it."""
    return f"dead letter {letter['id']}: `otlp-relay dead-letter show {letter['id']}`"


def received_line(piece: dict[str, Any]) -> str:
    """When, from whom, and how much."""
    services = ", ".join(piece["services"]) or "a service without a name"
    agent = f", User-Agent {piece['user_agent']}" if piece["user_agent"] else ""
    return (
        f"  received   {piece['received_at']} from {services} at {piece['sender'] or 'unknown'}"
        f"{agent}: a request of "
        f"{counted_items(piece['spans'], piece['signal'])}, {piece['encoding']}"
    )


def piece_line(each: dict[str, Any]) -> str:
    """What became of one request for one destination."""
    when = f" at {each['at']}" if each["at"] else ""
    status = f", {each['status']}" if each["status"] else ""
    return f"             {each['name']}: {each['state'].replace('_', ' ')}{when}{status}"


def kept_lines(pieces: list[dict[str, Any]]) -> list[str]:
    """Whether the data is there still."""
    kept = [str(piece["row"]) for piece in pieces if piece["is_kept"]]
    gone = [piece for piece in pieces if not piece["is_kept"]]
    lines = []
    if kept:
        rows = ", ".join(dict.fromkeys(kept))
        lines.append(f"  kept       on disk, in row{'' if len(set(kept)) == 1 else 's'} {rows}")
    if gone:
        which = "the data" if not kept else f"the data of {len(gone)} of {len(pieces)} requests"
        lines.append(f"  gone       {which}; what follows is from the history")
    return lines


def destination_lines(
    destination: dict[str, Any], letters: list[dict[str, Any]], what: str, *, has_pieces: bool
) -> list[str]:
    """What became of a signal of the trace for one destination, and what can be done.

    `what` names the items, with a space behind it, where there are more than spans.
    """
    name, state, at = destination["name"], destination["state"], destination["at"]
    place = f"{name} ({destination['endpoint']})" if destination["endpoint"] else name
    if state == "waiting":
        lines = waiting_lines(destination, f"{what}for {place}")
    elif state == "delivered":
        by = ", ".join(destination.get("changed_by", ()))
        changed = f", changed by {by}" if by else ""
        lines = [f"  delivered  {what}to {place} at {at}: {destination['status']}{changed}"]
    elif state == "set_aside":
        status = f": {destination['status']}" if destination["status"] else ""
        lines = [f"  dead       {what}for {name} at {at}{status}"]
        if not letters:
            lines.append("             its dead letter has been replayed, discarded or evicted")
    elif state == "evicted":
        lines = [f"  evicted    undelivered {what}for {name} at {at}: space was short"]
    elif state == "filtered":
        why = destination.get("filtered_because") or "its steps say it is not for it"
        lines = [f"  filtered   {what}for {name} at {at}: {why}"]
    elif has_pieces:
        lines = [f"  not owed   {what}to {name}: {NOT_OWED}"]
    else:
        return []
    return lines + [line for letter in letters for line in letter_lines(letter)]


def letter_lines(letter: dict[str, Any]) -> list[str]:
    """A dead letter of a destination: why, and what to do."""
    of_all = (
        f", {letter['affected']:,} of {counted_items(letter['spans'], letter['signal'])}"
        if letter["affected"] != letter["spans"]
        else ""
    )
    words = " ".join(letter["words"].split())
    return [
        f"             {letter['reason']}{of_all}: {words}",
        f"             {how_to_see(letter)}",
    ]


def waiting_lines(destination: dict[str, Any], what: str) -> list[str]:
    """Since when it waits, why, and what happens next."""
    line = f"  waiting    {what} since {destination['waiting_since']}"
    if not destination["is_configured"]:
        is_traces = destination["signal"] == "traces"
        of = "" if is_traces else f"--signal {destination['signal']} "
        drop = f"otlp-relay destination remove {destination['name']} {of}--drop-waiting"
        return [
            f"{line}: it is no longer in the configuration",
            f"             put it back, or drop what waits: `{drop}`",
        ]
    state = destination["destination_state"]
    if state == "paused":
        return [f"{line}: {destination['reason'] or 'paused'}"]
    if destination["is_in_flight"] and not destination["failing_since"]:
        return [f"{line}: being sent now"]
    if destination.get("stepped_around"):
        return [f"{line}: {destination['stepped_around']['said']}", parked_line(destination)]
    if not destination["failing_since"]:
        why = destination["reason"]
        if seconds := destination.get("held_seconds"):
            held = f"held for the rest of its trace, {format_duration(seconds)} at most"
            why = f"{held}; {why}" if why else held
        return [f"{line}: {why or 'queued'}"]
    behind = ""
    if destination.get("is_behind") and not destination["is_in_flight"]:
        behind = f"behind an earlier batch, which {destination['name']} does not accept: "
    lines = [f"{line}: {behind}{destination['reason'] or state}"]
    tries, last = destination["tries"], destination["last_status"]
    said = f", the last response was {last}" if last else ", the last had no response"
    count = f"{tries:,} tr{'y' if tries == 1 else 'ies'} failed{said}; " if tries else ""
    following = f"; next try at {destination['next_try_at']}" if destination["next_try_at"] else ""
    lines.append(
        f"             {state} since {destination['failing_since']} "
        f"({count}{about_last_success(destination)}){following}"
    )
    return lines


def parked_line(destination: dict[str, Any]) -> str:
    """What is done about items that the upstream fails at each time."""
    around = destination["stepped_around"]
    parked = counted_items(around["spans"], destination["signal"])
    tries = f" ({around['tries']:,} tr{'y' if around['tries'] == 1 else 'ies'} so far)"
    return (
        f"             {parked} parked so that others pass: retried "
        f"alone{tries if around['tries'] else ''}, next at {around['next_try_at']}; "
        f"at once with `otlp-relay destination resume {destination['name']}`"
    )


def about_last_success(destination: dict[str, Any]) -> str:
    """When it last took something."""
    last = destination["last_success_at"]
    items = f"{noun_of([destination['signal']])}s"
    return f"it last accepted {items} at {last}" if last else "it has accepted none since the start"
