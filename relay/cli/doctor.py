"""`otlp-relay doctor`: is this relay in order, and does each destination take its signals?"""

import os
import socket
import sys
from typing import Any, Final

import click

from relay.buffer.backlog_name import BacklogName
from relay.buffer.sqlite.directory import holder_of
from relay.buffer.sqlite.private_files import exposures
from relay.cli.client import (
    DaemonRefused,
    DaemonUnreachable,
    NoDaemon,
    admin_client,
    destination_path,
)
from relay.cli.connection import (
    MARKS,
    run_each,
    run_test,
    tell_step,
    tell_verdict,
)
from relay.cli.destination_add import read_or_refuse
from relay.cli.destination_ask import preset_of
from relay.cli.destination_flags import destination_options, table_of
from relay.cli.destination_names import configured
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import say, say_json
from relay.config import Config, DestinationConfig
from relay.config.fleet import FleetConfig
from relay.config.tables import one_line
from relay.doctor.findings import Finding
from relay.doctor.report import Report, Step, as_document
from relay.model.errors import ConfigError
from relay.model.run_as_hint import hint_for

NAME_OF_FLAGS: Final = "doctor"
PORT_SECONDS: Final = 2.0
# Name, TCP and TLS may take ten seconds each, and each of some requests its timeout.
TEST_SECONDS: Final = 180.0


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
    The first that fails says what is wrong and what to do. A running daemon says first what it sees
    itself, and makes the tests, with its own environment. Changes nothing. Exits 0 when all is
    well, 1 when anything is wrong: no daemon runs, something is refused, blocked, paused or waits.
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
    """Test the destination of that name, or all of them in turn; what was found, by name.

    By the daemon where one runs that knows it, since its environment is what counts.
    """
    reports = {}
    client = admin_client(config, TEST_SECONDS)
    chosen = config.destinations if name is None else (configured(name, config),)
    for destination in chosen:
        views = destination.views
        if is_shown:
            endpoint = f": {destination.shown_endpoint}" if len(views) == 1 else ""
            say("", f"{destination.name}{endpoint}")
        try:
            span = "?span=true" if with_span else ""
            found = client.ask("POST", f"{destination_path(destination.name)}/test{span}")
        except (DaemonUnreachable, DaemonRefused):
            found = as_document(
                run_each(views, config, send_span=with_span, is_shown=is_shown, tell=tell_verdict)
            )
        else:
            if is_shown:
                tell_found(found, destination)
        reports[destination.name] = found
    return reports


def tell_found(found: dict[str, Any], destination: DestinationConfig) -> None:
    """The daemon's own test, as `run_each` tells one that is made here."""
    endpoints = {view.signal.word: view.shown_endpoint for view in destination.views}
    for word, report in found.get("signals", {"": found}).items():
        if word:
            say(f"{word}: {endpoints.get(word, '')}")
        for step in report["steps"]:
            tell_step(Step(**step))
        told = {key: report[key] for key in ("passed", "wrong", "remedy", "encoding")}
        tell_verdict(Report((), **told))
    if not found.get("is_taken_up", True):  # a daemon of before an upgrade does not say
        say("the running daemon has not taken this up yet: send it SIGHUP")


def look_at_relay(config: Config) -> list[Finding]:
    """The daemon's own view, then the configuration, the state directory and the ingest port."""
    seen, is_running = look_at_daemon(config)
    source = str(config.source) if config.source else "none, defaults apply"
    return [
        *seen,
        Finding("config", "ok", source),
        *(Finding("config", "warning", warning) for warning in config.warnings),
        look_at_state(config),
        *(
            Finding("state", "failed", f"{each.words}: {each.hint}")
            if each.hint
            else Finding("state", "warning", each.words)
            for each in exposures(config.state_dir)
        ),
        look_at_ingest(config, is_running=is_running),
        *(look_at_fleet(config, config.fleet) if config.fleet else ()),
    ]


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


def look_at_fleet(config: Config, fleet: FleetConfig) -> list[Finding]:
    """What the brokers of a fleet promise, and what this account may do there."""
    from relay.buffer.kafka.client import import_client

    try:
        import_client()
        from relay.buffer.kafka.access import BrokersAway
        from relay.buffer.kafka.own_certificate import look_at_own
        from relay.buffer.kafka.settings import KafkaSettings
        from relay.buffer.kafka.topics import Topics

        settings = KafkaSettings(fleet, "doctor")
        views = (view for destination in config.destinations for view in destination.views)
        groups = [settings.group(BacklogName(view.name, view.signal)) for view in views]
        try:
            promise, warning = Topics(settings, groups).examine(), look_at_own(fleet).warning
        except BrokersAway as error:
            return [Finding("fleet", "failed", str(error))]
    except ConfigError as error:
        return [Finding("fleet", "failed", one_line(error))]
    is_refused = {"broken": True, "weak": not fleet.allow_weak, "note": False}
    return [
        Finding("fleet", "ok", f"what is acknowledged is {promise.words}"),
        *(
            Finding("fleet", "failed" if is_refused[each.level] else "warning", each.words)
            for each in promise.remarks
        ),
        *([Finding("fleet", "warning", warning)] if warning else []),
    ]


def look_at_daemon(config: Config) -> tuple[list[Finding], bool]:
    """What the daemon of this configuration finds of itself; and whether one runs."""
    try:
        found = admin_client(config).ask("GET", "/api/doctor")
    except NoDaemon:
        words = "none is running, so nothing is accepted: `otlp-relay serve` starts one"
        return [Finding("daemon", "failed", words)], False
    except (DaemonUnreachable, DaemonRefused) as error:
        words = f"{error.message}: {error.hint}" if error.hint else error.message
        return [Finding("daemon", "failed", words)], bool(holder_of(config.state_dir))
    return [Finding(**each) for each in found["findings"]], True


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
