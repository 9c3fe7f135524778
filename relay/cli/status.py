"""`otlp-relay status`: what the running daemon keeps, and how each destination fares."""

import contextlib
import json
import sys
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.cli.client import DaemonClient
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.target import admin_client
from relay.model.errors import RelayError
from relay.model.units import about_bytes, about_duration

# In a pipe nothing is folded, so that a line there is a destination and its words can be found.
PIPE_WIDTH = 10_000
WATCH_SECONDS = 1.0
STYLES = {"idle": "green", "delivering": "green", "waiting": "yellow", "blocked": "bold red"}


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

    Exits 0 when the daemon responds, 1 otherwise. WAITING is what a destination is still owed;
    OLDEST how long the oldest of it has waited; REASON the upstream's own words, secrets masked.
    """
    client = admin_client(load_or_exit(config_path))
    if watch:
        keep_watching(client, as_json)
        return
    try:
        found = ask(client)
    except RelayError as error:
        click.echo(f"otlp-relay: {error}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(found)


def ask(client: DaemonClient) -> dict[str, Any]:
    """The document of `/api/status`. Raises RelayError."""
    code, found = client.get("/api/status")
    if code != 200:
        raise RelayError(f"the daemon responded with {code}: {found}")
    return dict(found)


def keep_watching(client: DaemonClient, as_json: bool) -> None:
    """Show it again every second until Ctrl-C; a daemon that is away may come back."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            if sys.stdout.isatty():
                click.clear()
            try:
                found = ask(client)
            except RelayError as error:
                click.echo(f"otlp-relay: {error}", err=True)
            else:
                if as_json:
                    click.echo(json.dumps(found))
                else:
                    show(found)
            time.sleep(WATCH_SECONDS)


def show(found: dict[str, Any]) -> None:
    """The document as text."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(highlight=False, soft_wrap=True, width=width)
    ready = "ready" if found["ready"] else f"NOT READY: {found['not_ready_reason']}"
    up = about_duration(found["uptime_seconds"])
    console.print(f"otlp-relay {found['version']}, up {up}, {ready}")
    ingest, buffer = found["ingest"], found["buffer"]
    rejected = sum(ingest["rejected_spans"].values())
    console.print(
        f"ingest   {', '.join(ingest['listening'])}: {ingest['kept_spans']:,} spans kept, "
        f"{rejected:,} rejected since the start"
    )
    for reason, times in sorted(ingest["rejected_spans"].items()):
        console.print(f"         rejected {times:,}: {reason}")
    if ingest["tested_by_sender_at"]:
        console.print(f"         tested by sender at {ingest['tested_by_sender_at']}")
    dropped = buffer["dead_letters_dropped"]
    given_up = f" ({dropped:,} evicted for space or age)" if dropped else ""
    console.print(
        f"buffer   {buffer['spans']:,} spans in {buffer['rows']:,} rows, "
        f"{about_bytes(buffer['bytes_on_disk'])} of {about_bytes(buffer['max_bytes'])}, "
        f"{buffer['dead_letters']:,} dead letters{given_up}"
    )
    console.print(f"         {space_line(buffer)}", style="bold red" if buffer["is_full"] else "")
    for name, spans in sorted(buffer["evicted_spans"].items()):
        console.print(
            f"         {spans:,} undelivered spans for {name} evicted for space", style="yellow"
        )
    for aside in buffer["set_aside"]:
        console.print(quarantined(aside), style="" if aside["may_be_removed"] else "yellow")
    if not found["destinations"]:
        console.print("no destination is configured: spans are kept until there is one")
        return
    console.print(table_of(found["destinations"]))
    for destination in found["destinations"]:
        for warning in destination["warnings"]:
            console.print(f"{destination['name']}: {warning}", style="yellow")


def space_line(buffer: dict[str, Any]) -> str:
    """What part of the buffer is owed, and when it will be full."""
    if buffer["is_full"]:
        return f"FULL: {buffer['limit']}"
    owed = "nothing in it is owed"
    if buffer["owed_spans"]:
        owed = (
            f"{buffer['owed_spans']:,} spans of it owed, "
            f"about {about_bytes(buffer['owed_bytes_on_disk'])}"
        )
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
        f"         {aside['file']} {aside['state']}: {aside['rows']:,} rows"
        f" ({aside['spans']:,} spans) so far"
    )


def table_of(destinations: list[dict[str, Any]]) -> Table:
    """A line a destination."""
    table = Table(box=None, pad_edge=False)
    for title in ("DESTINATION", "STATE", "WAITING", "OLDEST", "DELIVERED", "REASON"):
        table.add_column(title, overflow="fold")
    for each in destinations:
        oldest = each["oldest_waiting_seconds"]
        table.add_row(
            each["name"],
            Text(each["state"], style=STYLES.get(each["state"], "")),
            f"{each['waiting_spans']:,}",
            about_duration(oldest) if each["waiting_spans"] else "-",
            f"{each['delivered_spans']:,}",
            Text(each["reason"]),
        )
    return table
