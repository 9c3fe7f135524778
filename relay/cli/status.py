"""`otlp-relay status`: what the running daemon keeps, and how each destination fares."""

import contextlib
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from relay.cli.client import admin_client
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import (
    columns_of,
    is_terminal,
    print_table,
    say,
    say_error,
    say_json,
    say_result,
    say_styled,
    seconds_since,
    until,
)
from relay.doctor.findings import (
    FLAWS,
    MOST_REFUSED,
    clock_text,
    refused_text,
    removed_text,
    silence_text,
)
from relay.model.errors import RelayError
from relay.model.nouns import counted, counted_items, listed_items
from relay.model.records import Signal
from relay.model.units import about_bytes, about_duration
from relay.otlp import native

WATCH_SECONDS = 1.0
EVICTING_SECONDS = 60.0
STYLES = {"idle": "green", "delivering": "green", "waiting": "yellow", "blocked": "bold red"}

COLUMNS = {
    "DESTINATION": lambda it: it["name"],
    "SIGNAL": lambda it: it["signal"],
    "STATE": lambda it: it["state"],
    "WAITING": lambda it: f"{it['waiting_spans']:,}",
    "OLDEST": lambda it: (
        about_duration(it["oldest_waiting_seconds"]) if it["oldest_waiting_seconds"] else "-"
    ),
    "DELIVERED": lambda it: f"{it['delivered_spans']:,}",
    "NEXT TRY": lambda it: until(it["next_try_at"]),
    "REASON": lambda it: it["reason"],
}


@click.command()
@config_option
@json_option
@click.option(
    "--watch",
    is_flag=True,
    help="Show it again every second, until Ctrl-C; with --json a document a line.",
)
def status(config_path: str | None, as_json: bool, watch: bool) -> None:
    """Show what is kept, what waits for each destination, and why.

    A destination that gets more than traces has a line for each signal. Exits 0 when the daemon
    responds, 1 otherwise. WAITING is what a destination is still owed; OLDEST how long the oldest
    of it has waited; NEXT TRY when it is sent again; REASON the upstream's own words, secrets
    masked.
    """
    client = admin_client(load_or_exit(config_path))
    if not watch:
        found = client.ask("GET", "/api/status")
        say_result(found, tell, as_json=as_json)
        return
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            if is_terminal():
                click.clear()
            try:
                found = client.ask("GET", "/api/status")
                if as_json:
                    say_json(found, indent=None)
                else:
                    tell(found)
            except RelayError as error:  # a daemon that is away may come back
                say_error(error)
            time.sleep(WATCH_SECONDS)


def tell(found: dict[str, Any]) -> None:
    """The document as text."""
    ready = "ready" if found["ready"] else f"NOT READY: {found['not_ready_reason']}"
    up = about_duration(found["uptime_seconds"])
    say(f"otlp-relay {found['version']}, up {up}, {ready}")
    say(f"native   {native.describe(found['native_pass'])}")
    tell_ingest(found)
    buffer = found["buffer"]
    if buffer.get("promise"):
        tell_fleet(buffer, signals_of(found))
    else:
        tell_buffer(buffer, signals_of(found))
    for each in sorted(buffer["evicted"], key=lambda it: it["destination"]):
        lost = counted(each["items"], f"undelivered {Signal.of(each['signal']).item}")
        say_styled(f"         {lost} for {each['destination']} evicted for space", "yellow")
    for aside in buffer["set_aside"]:
        say_styled(quarantined(aside), "" if aside["may_be_removed"] else "yellow")
    for each in found["removed"]:
        say_styled(removed_text(each), "yellow")
    if not found["destinations"]:
        say("no destination is configured: what comes is kept until there is one")
        return
    destinations = found["destinations"]
    signals = (each["signal"] for each in destinations)
    print_table(columns_of(COLUMNS, signals), destinations, styles=STYLES)
    for each in destinations:
        signal = "" if each["signal"] == "traces" else f" ({each['signal']})"
        if line := left_out_line(each):
            say(f"{each['name']}{signal}: {line}")
        for warning in each["warnings"]:
            say_styled(f"{each['name']}{signal}: {warning}", "yellow")


def left_out_line(each: Mapping[str, Any]) -> str:
    """What a destination is not sent, and what may still turn out to be so."""
    parts = [
        f"{number:,} {'sampled out' if step == 'sample' else f'filtered ({step})'}"
        for step, number in each["filtered_spans"].items()
    ]
    if held := each["held_spans"]:
        items = counted_items(held, each["signal"])
        rest = "the rest of its trace" if held == 1 else "the rest of their traces"
        parts.append(f"{items} held for {rest}")
    return ", ".join(parts)


def tell_ingest(found: dict[str, Any]) -> None:
    """What came in, what was refused, and whether anything comes at all."""
    ingest = found["ingest"]
    rejected = sum(sum(each["rejected"].values()) for each in ingest["signals"].values())
    kept = listed_items({signal: each["kept"] for signal, each in ingest["signals"].items()})
    say(
        f"ingest   {', '.join(ingest['listening'])}: {kept} kept, "
        f"{rejected:,} rejected since the start"
    )
    for signal, items in ingest["signals"].items():
        for reason, times in sorted(items["rejected"].items()):
            say(f"         rejected {counted_items(times, signal)}: {reason}")
        for line in flaw_lines(signal, items["warnings"]):
            say(f"         {line}")
    if ingest["tested_by_sender_at"]:
        say(f"         tested by sender at {ingest['tested_by_sender_at']}")
    if silence := silence_text(found, datetime.now(UTC)):
        say(f"         {silence}")
    for line in refused_lines(ingest):
        say_styled(line, "yellow")


def flaw_lines(signal: str, warnings: Mapping[str, int]) -> list[str]:
    """What was kept in spite of its flaws: those of clocks in words, for they need somebody."""
    clocks = [code for code in FLAWS if code in warnings]
    lines = [f"kept: {clock_text(code, warnings[code], signal)}" for code in clocks]
    others = sorted(warnings.keys() - FLAWS.keys())
    if others:
        listed = ", ".join(f"{warnings[code]:,} {code}" for code in others)
        lines.append(f"kept and told to the senders of {signal}: {listed}")
    return lines


def signals_of(found: dict[str, Any]) -> set[str]:
    """What the buffer may hold items of; it counts them together."""
    kept = {signal for signal, each in found["ingest"]["signals"].items() if each["kept"]}
    return kept | {each["signal"] for each in found["destinations"]}


def refused_lines(ingest: dict[str, Any]) -> list[str]:
    """What was refused in the last hour, the latest first, and whole bodies since the start."""
    refused = ingest["refused_last_hour"]
    lines = [f"         {refused_text(each)}" for each in refused[:MOST_REFUSED]]
    if lines:
        times = sum(each["times"] for each in refused)
        lines.insert(0, f"refused  {counted(times, 'request')} in the last hour, the latest first:")
    if len(refused) > MOST_REFUSED:
        more = counted(len(refused) - MOST_REFUSED, "kind")
        lines.append(f"         {more} more; --json shows them")
    bodies = ingest["refused_bodies"]
    if bodies["times"]:
        lines.append(
            f"         since the start {bodies['times']:,} could not be read at all, the last of "
            f"{bodies['last_sender']} at {bodies['last_at']}: {bodies['last_message']}"
        )
    return lines


def tell_buffer(buffer: dict[str, Any], signals: Collection[str]) -> None:
    """What this host keeps."""
    dropped = buffer["dead_letters_dropped"]
    given_up = f" ({dropped:,} evicted for space or age)" if dropped else ""
    say(
        f"buffer   {counted_items(buffer['spans'], *signals)} in "
        f"{counted(buffer['rows'], 'row')}, "
        f"{about_bytes(buffer['bytes_on_disk'])} of {about_bytes(buffer['max_bytes'])}, "
        f"{counted(buffer['dead_letters'], 'dead letter')}{given_up}"
    )
    say_styled(f"         {space_line(buffer, signals)}", "bold red" if buffer["is_full"] else "")


def tell_fleet(buffer: dict[str, Any], signals: Collection[str]) -> None:
    """What the brokers promise, and what of their log this relay is to deliver."""
    say(f"log      Kafka, {buffer['promise']}; {counted(buffer['dead_letters'], 'dead letter')}")
    owed = "nothing waits for this relay"
    if buffer["owed_spans"]:
        owed = f"{counted_items(buffer['owed_spans'], *signals)} wait for this relay"
    full = f"FULL: {buffer['limit']}" if buffer["is_full"] else owed
    say_styled(f"         {full}", "bold red" if buffer["is_full"] else "")


def space_line(buffer: dict[str, Any], signals: Collection[str]) -> str:
    """What part of the buffer is owed, and when it will be full."""
    if buffer["is_full"]:
        return f"FULL: {buffer['limit']}"
    owed = "nothing in it is owed"
    if buffer["owed_spans"]:
        owed = (
            f"{counted_items(buffer['owed_spans'], *signals)} of it owed, "
            f"about {about_bytes(buffer['owed_bytes_on_disk'])}"
        )
    evicted_at = buffer["last_evicted_at"]
    if evicted_at and seconds_since(evicted_at) < EVICTING_SECONDS:
        return f"{owed}; FULL: what cannot be delivered is evicted for what comes"
    seconds = buffer["full_in_seconds"]
    filling = "not filling" if seconds is None else f"full in {about_duration(seconds)}"
    return f"{owed}; {filling}" + ("" if seconds is None else " at this rate")


def quarantined(aside: dict[str, Any]) -> str:
    """A file that could not be used, and what came of it."""
    if aside["may_be_removed"]:
        return f"         {aside['words']}; the file is kept, and may be removed"
    if aside["words"]:
        return f"         {aside['file']} {aside['words']}"
    return (
        f"         {aside['file']} {aside['state']}: "
        f"{counted(aside['rows'], 'row')} ({counted(aside['spans'], 'item')}) so far"
    )
