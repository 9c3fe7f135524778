"""`otlp-relay replay`: what is kept, to one destination again; the others are not touched."""

import json
import sys
import time
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from relay.cli.client import DaemonClient
from relay.cli.moments import Moment
from relay.cli.options import config_option, json_option, load_or_exit, printable
from relay.cli.target import admin_client
from relay.model.errors import RelayError
from relay.model.units import about_bytes, about_duration

# It looks at every row that is kept before it answers.
ANSWER_SECONDS = 120.0
POLL_SECONDS = 0.2


@click.command()
@config_option
@click.option("--to", "name", required=True, metavar="NAME", help="The destination.")
@click.option(
    "--since",
    "since_ns",
    type=Moment(),
    help="What was received since: a duration ago (1h) or a time (2026-11-26T03:00).",
)
@click.option("--trace", "trace_id", metavar="ID", help="The spans of one trace, and no others.")
@click.option("--dry-run", is_flag=True, help="Only show what would be sent again.")
@click.option("--wait", is_flag=True, help="Follow it until nothing waits for NAME any more.")
@json_option
def replay(
    config_path: str | None,
    name: str,
    since_ns: int | None,
    trace_id: str | None,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Send what is kept to one destination again, whether it had it or never was owed it.

    Kept is what was delivered within `keep_delivered`, and what still waits for somebody. Exits 0
    when something is sent again (or would be), or all of it waits already; 1 when nothing is kept
    of what was asked for.
    """
    if (since_ns is None) == (trace_id is None):
        raise click.UsageError("say either --since or --trace")
    if trace_id is not None and not trace_id.strip():
        raise click.UsageError("--trace needs an id")
    config = load_or_exit(config_path)
    query: dict[str, str] = {"dry_run": "true" if dry_run else "false"}
    if since_ns is not None:
        query["since"] = str(since_ns)
    else:
        query["trace"] = str(trace_id)
    client = admin_client(config, ANSWER_SECONDS)
    try:
        path = f"/api/destinations/{quote(name, safe='')}/replay?{urlencode(query)}"
        found = client.ask("POST", path)
        if not as_json:
            for line in lines_of(found):
                click.echo(printable(line))
        if wait and found["spans"] and not dry_run:
            follow(client, name, found["spans"])
    except RelayError as error:
        click.echo(f"otlp-relay: {error}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    sys.exit(0 if found["found_rows"] else 1)


def lines_of(found: dict[str, Any]) -> list[str]:
    """What is sent again, how far back what is kept reaches, and where to see how it goes."""
    name, spans = found["destination"], found["spans"]
    what = f"of trace {found['trace_id']}" if found["trace_id"] else f"since {found['since']}"
    would = "would be sent" if found["is_dry_run"] else "will be sent"
    if spans:
        size = f"{found['rows']:,} row{'' if found['rows'] == 1 else 's'}"
        size += f", {about_bytes(found['bytes'])} before compression"
        count = f"{spans:,} span{'' if spans == 1 else 's'}"
        lines = [f"{count} {what} {would} to {name} again: {size}"]
    elif found["found_rows"]:
        lines = [f"nothing to do: what is kept {what} is already waiting for {name}"]
    else:
        lines = [f"nothing is kept {what}"]
    lines += reach_lines(found)
    if found["destination_state"] == "paused":
        lines.append(f"{name} is paused: `otlp-relay destination resume {name}` sends it")
    elif spans and not found["is_dry_run"]:
        if found["destination_state"] in {"waiting", "blocked"}:
            lines.append(f"{name} accepts nothing now: {found['reason']}")
        lines.append("`otlp-relay status` shows how much of it still waits")
    return lines


def reach_lines(found: dict[str, Any]) -> list[str]:
    """What of it cannot be sent again, and why."""
    lines = []
    since, kept_since = found["since"], found["kept_since"]
    if found["gone_rows"]:
        spans = f"{found['gone_spans']:,} spans in " if found["gone_spans"] else ""
        lines.append(
            f"{spans}{found['gone_rows']:,} rows of it are gone already: they were delivered "
            "longer ago than keep_delivered, or evicted"
        )
    if since and kept_since and moment(since) < moment(kept_since):
        lines.append(
            f"what is kept reaches back to {kept_since}, "
            f"{about_duration(moment(kept_since) - moment(since))} less than you asked for"
        )
    elif not kept_since:
        lines.append("nothing is kept at all now")
    return lines


def moment(iso: str) -> float:
    """Seconds since 1970 of a time of the API."""
    return datetime.fromisoformat(iso).timestamp()


def follow(client: DaemonClient, name: str, spans: int) -> None:
    """Until nothing waits any more; a bar on a terminal, on standard error."""
    console = Console(stderr=True)
    path = f"/api/destinations/{quote(name, safe='')}"
    columns = (
        TextColumn("waiting for {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=spans)
        while True:
            waiting = int(client.ask("GET", path)["waiting_spans"])
            progress.update(task, total=max(spans, waiting), completed=max(spans - waiting, 0))
            if not waiting:
                return
            time.sleep(POLL_SECONDS)
