"""`otlp-relay replay`: sends what is kept to one destination again, and to no other."""

import sys
import time
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import click

from relay.cli.client import DaemonClient, admin_client, destination_path
from relay.cli.moments import MOMENT
from relay.cli.options import config_option, json_option, load_or_exit, signal_option
from relay.cli.output import progress_bar, say, say_json
from relay.model.nouns import counted, counted_items, listed_items
from relay.model.records import Signal
from relay.model.units import about_bytes, about_duration

# It looks at every row that is kept before it responds.
RESPONSE_SECONDS = 120.0
POLL_SECONDS = 0.2


@click.command()
@config_option
@click.option("--to", "name", required=True, metavar="NAME", help="The destination.")
@click.option(
    "--since",
    "since_ns",
    type=MOMENT,
    help="What was received since: a duration ago (1h) or a time (2026-11-26T03:00).",
)
@click.option("--trace", "trace_id", metavar="ID", help="What is of one trace, and nothing else.")
@signal_option("What is of this signal; by default all that NAME gets.")
@click.option("--dry-run", is_flag=True, help="Only show what would be sent again.")
@click.option("--force", is_flag=True, help="Also delta points, which count twice where they were.")
@click.option("--wait", is_flag=True, help="Follow it until nothing waits for NAME any more.")
@json_option
def replay(
    *,
    config_path: str | None,
    name: str,
    since_ns: int | None,
    trace_id: str | None,
    signal: Signal | None,
    dry_run: bool,
    force: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Send what is kept to one destination again, whether it had it or never was owed it.

    Kept is what was delivered within `keep_delivered`, and what still waits for somebody. Metrics
    that come twice are the same for cumulative points and gauges; delta points count twice, so they
    need --force. Exits 0 when something is sent again (or would be), or all of it waits already; 1
    when nothing is kept of what was asked for.
    """
    if (since_ns is None) == (trace_id is None):
        raise click.UsageError("say either --since or --trace")
    if trace_id is not None and not trace_id.strip():
        raise click.UsageError("--trace needs an id")
    client = admin_client(load_or_exit(config_path), RESPONSE_SECONDS)
    query = {"dry_run": "true" if dry_run else "false", "force": "true" if force else "false"}
    query |= {"trace": trace_id} if trace_id is not None else {"since": str(since_ns)}
    if signal:
        query["signal"] = signal.word
    found = client.ask("POST", f"{destination_path(name)}/replay?{urlencode(query)}")
    if not as_json:
        say(*lines_of(found))
    if wait and found["spans"] and not dry_run:
        follow(client, name, found["spans"])
    if as_json:
        say_json(found)
    sys.exit(0 if found["found_rows"] else 1)


def lines_of(found: dict[str, Any]) -> list[str]:
    """What is sent again, how far back what is kept reaches, and where to see how it goes."""
    name, spans = found["destination"], found["spans"]
    what = f"of trace {found['trace_id']}" if found["trace_id"] else f"since {found['since']}"
    would = "would be sent" if found["is_dry_run"] else "will be sent"
    if spans:
        size = f"{counted(found['rows'], 'row')}, {about_bytes(found['bytes'])} before compression"
        lines = [f"{listed_items(found['by_signal'])} {what} {would} to {name} again: {size}"]
    elif found["found_rows"]:
        lines = [f"nothing to do: what is kept {what} is already waiting for {name}"]
    else:
        lines = [f"nothing is kept {what}"]
    if found["has_deltas"]:
        lines.append(
            f"delta points are among them: --force sends those too, and what {name} had already "
            "counts twice there"
        )
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
        gone = counted_items(found["gone_spans"], *found["by_signal"])
        within = f"{gone} in " if found["gone_spans"] else ""
        rows = counted(found["gone_rows"], "row")
        verb = "is" if found["gone_rows"] == 1 else "are"
        lines.append(
            f"{within}{rows} of it {verb} gone already: delivered longer ago than "
            "keep_delivered, or evicted"
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
    with progress_bar(f"waiting for {name}", spans) as show:
        while waiting := int(client.ask("GET", destination_path(name))["waiting_spans"]):
            show(max(spans - waiting, 0), max(spans, waiting))
            time.sleep(POLL_SECONDS)
