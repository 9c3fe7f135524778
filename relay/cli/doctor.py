"""`otlp-relay doctor`: is this relay in order, and does each destination take its signals?"""

import os
import socket
import sys
from dataclasses import dataclass
from typing import Any, Final

import click

from relay.buffer.sqlite.private_files import exposures
from relay.cli.client import DaemonRefused, DaemonUnreachable, NoDaemon, admin_client
from relay.cli.connection import (
    MARKS,
    run_each,
    run_test,
    tell_verdict,
)
from relay.cli.destination_add import read_or_refuse
from relay.cli.destination_ask import preset_of
from relay.cli.destination_flags import destination_options, table_of
from relay.cli.destination_names import configured
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import say, say_json
from relay.cli.status import MOST_REFUSED, refused_text
from relay.config import Config
from relay.doctor.report import as_document
from relay.model.run_as_hint import hint_for

NAME_OF_FLAGS: Final = "doctor"
PORT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about this relay itself; `state` as of a step of the connection test."""

    name: str
    state: str
    found: str


@click.command()
@click.argument("name", required=False)
@config_option
@destination_options
@click.option("--span", "with_span", is_flag=True, help="Send a real test span, too.")
@json_option
def doctor(
    name: str | None, config_path: str | None, as_json: bool, with_span: bool, **flags: Any
) -> None:
    """Look at this relay and test every destination, one by name, or one given by flags.

    Each step shows its time and what was found: name, TCP, TLS, HTTP, auth, encoding, a request.
    The first that fails says what is wrong and what to do. Needs no running daemon and changes
    nothing. Exits 0 when all pass, 1 when not.
    """
    config = load_or_exit(config_path)
    table = table_of(flags)
    if table and name:
        raise click.UsageError("give a NAME or flags such as --endpoint, not both")
    findings = [] if table or name else look_at_relay(config)
    if not as_json:
        for finding in findings:
            say(f"{MARKS[finding.state]:<7} {finding.name:<10} {finding.found}")
    reports: dict[str, dict[str, Any]] = {}
    if table:
        preset_of(table)  # refuses one that is unknown, by the name of its flag
        destination, _warnings = read_or_refuse(NAME_OF_FLAGS, table, config)
        found = run_each(
            destination.views,
            config,
            send_span=with_span,
            is_shown=not as_json,
            run=run_test,
            tell=tell_verdict,
        )
        reports[destination.endpoint] = as_document(found)
    else:
        reports = test_named(name, config, with_span=with_span, is_shown=not as_json)
    passed = all(r["passed"] for r in reports.values()) and all(
        f.state != "failed" for f in findings
    )
    if as_json:
        say_json({"passed": passed, "relay": findings, "destinations": reports})
    elif not reports:
        say("no destination is configured; `otlp-relay destination add NAME` adds one")
    sys.exit(0 if passed else 1)


def test_named(
    name: str | None, config: Config, *, with_span: bool, is_shown: bool
) -> dict[str, dict[str, Any]]:
    """Test the destination of that name, or all of them in turn; what was found, by name."""
    reports = {}
    chosen = config.destinations if name is None else (configured(name, config),)
    for destination in chosen:
        views = destination.views
        if is_shown:
            endpoint = f": {destination.shown_endpoint}" if len(views) == 1 else ""
            say("", f"{destination.name}{endpoint}")
        found = run_each(views, config, send_span=with_span, is_shown=is_shown, tell=tell_verdict)
        reports[destination.name] = as_document(found)
    return reports


def look_at_relay(config: Config) -> list[Finding]:
    """The configuration, the state directory, the daemon and the ingest port of this host."""
    source = str(config.source) if config.source else "none, defaults apply"
    findings = [Finding("config", "ok", source)]
    findings += [Finding("config", "warning", warning) for warning in config.warnings]
    findings.append(look_at_state(config))
    findings += [
        Finding("state", "failed", f"{each.words}: {each.hint}")
        if each.hint
        else Finding("state", "warning", each.words)
        for each in exposures(config.state_dir)
    ]
    status, runs = look_at_daemon(config)
    findings.append(runs)
    findings += look_at_refused(status)
    findings.append(look_at_ingest(config, is_running=runs.state == "ok"))
    return findings


def look_at_state(config: Config) -> Finding:
    """Whether the state directory is there, or could be made, and written."""
    place = config.state_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        remedy = "run this as the daemon's user, such as `sudo -u otlp-relay otlp-relay doctor`"
        if place == config.state_dir and place.is_dir():
            remedy = hint_for(place)
        return Finding(
            "state",
            "failed",
            f"{config.state_dir} cannot be written by this user: {remedy}, or set state_dir",
        )
    made = "" if place == config.state_dir else ", created at the first start"
    return Finding("state", "ok", f"{config.state_dir}{made}")


def look_at_daemon(config: Config) -> tuple[dict[str, Any] | None, Finding]:
    """Its status, and whether the daemon of this configuration runs and can keep a span."""
    try:
        found: dict[str, Any] = admin_client(config).ask("GET", "/api/status")
    except NoDaemon:
        words = "none is running; `otlp-relay serve` starts one"
        return None, Finding("daemon", "skipped", words)
    except (DaemonUnreachable, DaemonRefused) as error:
        return None, Finding("daemon", "failed", error.message)
    if not found["ready"]:
        words = f"running, but it keeps nothing: {found['not_ready_reason']}"
        return found, Finding("daemon", "failed", words)
    return found, Finding("daemon", "ok", f"running, version {found['version']}")


def look_at_refused(status: dict[str, Any] | None) -> list[Finding]:
    """What the daemon refused in the last hour, the latest first: whose settings are wrong."""
    refused = status["ingest"]["refused_last_hour"] if status else []
    return [Finding("refused", "warning", refused_text(each)) for each in refused[:MOST_REFUSED]]


def look_at_ingest(config: Config, *, is_running: bool) -> Finding:
    """Whether the ingest port is the daemon's, or free for it."""
    where = config.ingest.listen[0].reachable
    try:
        socket.create_connection(where, timeout=PORT_SECONDS).close()
    except OSError as error:
        if is_running:
            return Finding("ingest", "failed", f"{where} does not respond: {error}")
        return Finding("ingest", "ok", f"{where} is free")
    if is_running:
        return Finding("ingest", "ok", f"{where} accepts connections")
    return Finding(
        "ingest",
        "failed",
        f"{where} is in use by another program (`ss -ltnp 'sport = :{where.port}'` names it); "
        "stop that, or listen elsewhere",
    )
