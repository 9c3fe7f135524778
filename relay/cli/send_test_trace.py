"""`otlp-relay send-test-trace`: posts a trace to the relay and follows it to every destination."""

import http.client
import json
import secrets
import sys
import time
from dataclasses import dataclass
from typing import Any

import click

from relay.cli.client import DaemonClient, admin_client
from relay.cli.moments import DURATION
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import is_watched, say, say_json
from relay.cli.traces import SERVICE, make_trace
from relay.config import Config
from relay.model.errors import RelayError
from relay.model.nouns import counted
from relay.model.units import about_duration

POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Posted:
    """The relay's response to the trace."""

    trace_id: str
    url: str
    status: int
    body: str
    milliseconds: float


@click.command("send-test-trace")
@config_option
@json_option
@click.option(
    "--wait",
    "wait_seconds",
    type=DURATION,
    default="10s",
    show_default=True,
    help="How long to follow the trace until every destination has it.",
)
def send_test_trace(config_path: str | None, as_json: bool, wait_seconds: float) -> None:
    """Post a test trace to the running relay and follow it to every destination.

    Exits 0 when every destination that is not paused has it, 1 otherwise.
    """
    config = load_or_exit(config_path)
    wait = about_duration(wait_seconds)
    posted = post(config)
    if posted.status != 200:
        report_refusal(posted, as_json)
        for warning in config.warnings if posted.status in (401, 403) else ():
            say(f"otlp-relay: {warning}", err=True)
        sys.exit(1)
    if is_watched() and not as_json:
        say(f"posted to {posted.url}: {posted.status}; following it for {wait}", err=True)
    found = follow(admin_client(config), posted, wait_seconds)
    if as_json:
        say_json({"posted": posted.url, "trace": found}, indent=None)
    else:
        tell(posted, found)
    sys.exit(0 if has_arrived(found) else 1)


def post(config: Config) -> Posted:
    """Post the trace to the first ingest address; raises RelayError when nobody responds."""
    address = config.ingest.listen[0].reachable
    url = f"http://{address}/v1/traces"
    trace_id = secrets.token_hex(16)
    headers = {"Content-Type": "application/json", "User-Agent": "otlp-relay send-test-trace"}
    if config.ingest.tokens:
        headers["Authorization"] = f"Bearer {config.ingest.tokens[0].reveal()}"
    started = time.perf_counter()
    connection = http.client.HTTPConnection(*address, timeout=15)
    try:
        connection.request("POST", "/v1/traces", json.dumps(make_trace(trace_id)), headers)
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
    except OSError as error:
        raise RelayError(
            f"no relay responds at {url} ({error})",
            hint="start one with `otlp-relay serve`, or give its configuration with --config",
        ) from None
    finally:
        connection.close()
    return Posted(trace_id, url, response.status, body, (time.perf_counter() - started) * 1e3)


def follow(client: DaemonClient, posted: Posted, wait_seconds: float) -> dict[str, Any]:
    """The trace's document, asked for until every destination has it or the time is over."""
    deadline = time.monotonic() + wait_seconds
    while True:
        status, found = client.get(f"/api/traces/{posted.trace_id}")
        if status == 200 and (
            has_arrived(found) or not any(d["is_configured"] for d in found["destinations"])
        ):
            return dict(found)
        if time.monotonic() >= deadline:
            if status != 200:
                raise RelayError(f"the relay accepted the trace but cannot find it: {found}")
            return dict(found)
        time.sleep(POLL_SECONDS)


def has_arrived(found: dict[str, Any]) -> bool:
    """Whether every destination that is configured and not paused has all of the trace that is for
    it.
    """
    waited_for = [
        d
        for d in found["destinations"]
        if d["is_configured"] and d["destination_state"] != "paused"
    ]
    return bool(waited_for) and all(d["state"] in {"delivered", "filtered"} for d in waited_for)


def report_refusal(posted: Posted, as_json: bool) -> None:
    """The relay itself refused: its own words."""
    if as_json:
        document = {"posted": posted.url, "status": posted.status, "answer": posted.body}
        say_json(document, indent=None)
    else:
        say(f"{posted.url} responded with {posted.status}: {posted.body}", err=True)


def tell(posted: Posted, found: dict[str, Any]) -> None:
    """The trace's way, a line a step."""
    say(f"trace {posted.trace_id}")
    say(f"  posted     to {posted.url}: {posted.status} in {posted.milliseconds:.1f} ms")
    for part in found["received"]:
        say(
            f"  received   {part['received_at']} from {part['sender'] or 'unknown'}, "
            f"{part['encoding']}, {counted(part['spans'], 'span')} of {', '.join(part['services'])}"
        )
        say(f"  kept       row {part['row']}, on disk and synced before the 200")
    added = attributes_added(found)
    for number, (key, value) in enumerate(added.items()):
        say(f"  {'' if number else 'added':<10} {key} = {value}")
    for destination in found["destinations"]:
        say(f"  {line_of(destination)}")
    if not found["destinations"]:
        say("  waiting    no destination is configured: the spans are kept")


def attributes_added(found: dict[str, Any]) -> dict[str, str]:
    """Resource attributes that the kept spans have and the posted ones had not."""
    return {
        attribute["key"]: next(iter(attribute["value"].values()), "")
        for entry in found["resourceSpans"]
        for attribute in entry.get("resource", {}).get("attributes", [])
        if attribute["key"] != "service.name" or SERVICE not in attribute["value"].values()
    }


def line_of(destination: dict[str, Any]) -> str:
    """One destination's line: what became of the trace there."""
    name, state = destination["name"], destination["state"]
    if state == "delivered":
        headers = ", ".join(destination["header_names"]) or "none"
        when = destination["at"] or "earlier"
        return (
            f"delivered  to {name} ({destination['endpoint']}): {destination['status'] or 'done'} "
            f"at {when}, as {destination['encoding']}, headers: {headers}"
        )
    if state == "set_aside":
        return f"dead       for {name} at {destination['at']}: {destination['status']}"
    if state == "evicted":
        return f"evicted    undelivered for {name} at {destination['at']}: space was short"
    because = destination.get("filtered_because") or "its steps say it is not for it"
    not_for_it = {
        "filtered": f"filtered   for {name}: {because}",
        "not_owed": f"not owed   to {name}: it was added later",
    }
    if state in not_for_it:
        return not_for_it[state]
    if not destination["is_configured"]:
        return f"waiting    for {name}: it is no longer configured; what it is owed is kept"
    why = destination["reason"] or destination["destination_state"]
    if (seconds := destination.get("held_seconds")) and not destination["failing_since"]:
        why = f"held for the rest of its trace: follow it with --wait {seconds + 5:g}s"
    return f"waiting    for {name} ({destination['endpoint']}): {why}"
