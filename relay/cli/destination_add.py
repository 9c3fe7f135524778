"""`otlp-relay destination add`: tests the connection, and saves the destination if that passes."""

import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import click

from relay.cli.client import (
    DaemonRefused,
    DaemonUnreachable,
    NoDaemon,
    admin_client,
    destination_path,
)
from relay.cli.connection import run_each, run_test
from relay.cli.destination_ask import fill_gaps, is_terminal, preset_of
from relay.cli.destination_flags import destination_options, read_table_of, table_of
from relay.cli.destination_signals import failed_words, hint_of_others, offer
from relay.cli.moments import START
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import say, say_result
from relay.config import Config, DestinationConfig, saved
from relay.config.destinations import NAME, NAME_RULE
from relay.config.secrets import RESTART
from relay.config.tables import one_line, problems_of
from relay.doctor.adding import complete, free_place, hint_of, notes_of
from relay.doctor.report import as_document
from relay.model.errors import ConfigError, RelayError
from relay.model.nouns import listed_items

# The daemon lets a request in flight end before it responds.
RELOAD_SECONDS: Final = 30.0
EXIT_NOT_DONE: Final = 1
NEXT_START: Final = "no daemon is running: it takes effect at the next start"
LATER: Final = (
    ". It gets what comes from now on: `otlp-relay replay --to {name} --since 1h` sends what is "
    "kept, too, as `--from beginning` would have done"
)


@dataclass(kw_only=True)
class Added:
    """What became of it, as `--json` prints it. `error` is empty when all was done."""

    name: str
    saved: str | None = None
    error: str = ""
    daemon: str = "not told"
    warnings: list[str] = field(default_factory=list)
    hint: str = ""
    test: dict[str, Any] | None = None


@click.command()
@click.argument("name")
@config_option
@destination_options
@click.option("--span", "with_span", is_flag=True, help="Test with a real span.")
@click.option("--save-anyway", is_flag=True, help="Save it even if the test fails.")
@click.option(
    "--from",
    "start",
    type=START,
    help="What of all that is already kept it gets: `beginning` all, `end` or `now` none, a "
    "duration (1h) or a time (2026-11-26T03:00) those received since. By default the first "
    "destination gets all and a later one none. Needs the running daemon.",
)
@click.option("--replace", "may_replace", is_flag=True, help="Replace one that a command saved.")
@json_option
def add(
    name: str,
    config_path: str | None,
    as_json: bool,
    with_span: bool,
    save_anyway: bool,
    start: str | None,
    may_replace: bool,
    **flags: Any,
) -> None:
    """Test the connection to a destination; save it only if the test passes.

    Each signal of --signals must pass; without it the test is of what the preset has by default,
    traces without a preset, and on a terminal of what else may be sent there, which is asked for.

    What the preset still needs is asked for on a terminal. A secret given as ${env:NAME},
    ${file:PATH} or ${credential:NAME} is saved as that reference, never as its value. A running
    daemon takes the destination up at once.
    """
    if NAME.fullmatch(name) is None:
        raise click.UsageError(f"invalid name {name!r}: {NAME_RULE}")
    config = load_or_exit(config_path)
    added = Added(name=name)
    try:
        folder = free_place(name, config, may_replace=may_replace)
        if start:
            refuse_owed(name, config)
        table = table_of(flags)
        preset = preset_of(table)
        fill_gaps(table, preset)
        destination, added.warnings = read_or_refuse(name, table, config)
        test = partial(
            run_each, config=config, send_span=with_span, is_shown=not as_json, run=run_test
        )
        reports = test(destination.views)
        added.error = failed_words(reports)
        is_open = not added.error and "signals" not in table
        if is_open and is_terminal():
            reports |= offer(destination, table, preset, config, test)
        added.test = as_document(reports)
        if not added.error or save_anyway:
            hints = [hint_of(table, preset)]
            if is_open and not is_terminal():
                hints.append(hint_of_others(destination, table, preset, config))
            complete(table, destination, reports, preset)
            notes = notes_of(reports)
            path = saved.save(folder, name, table, notes=notes, may_replace=may_replace)
            added.saved, added.error = str(path), ""
            added.hint = "; ".join(filter(None, hints))
            added.daemon = tell_daemon(name, config, start, may_be_blocked=save_anyway)
            others = [each.name for each in config.destinations]
            if start is None and others and name not in others and added.daemon != NEXT_START:
                added.daemon += LATER.format(name=name)
    except RelayError as error:
        added.error = str(error)
    say_result(added, _tell, as_json=as_json)
    if added.error:
        sys.exit(EXIT_NOT_DONE)


def refuse_owed(name: str, config: Config) -> None:
    """Where to start is for a new destination, and the daemon keeps it.

    Raises ConfigError for one that is owed something already, DaemonUnreachable without a daemon.
    """
    try:
        found = admin_client(config).ask("GET", destination_path(name))
    except DaemonRefused:
        return  # nobody knows it yet
    except DaemonUnreachable as error:
        raise DaemonUnreachable(
            f"--from needs a running daemon: {error.message}", hint=error.hint
        ) from None
    if not (found["is_configured"] or found["waiting_spans"]):
        return  # nothing is left of the one that had the name
    raise ConfigError(
        f"--from is for a new destination, and {name} exists already: "
        f"waiting for it are {listed_items(found['waiting_by_signal'])}"
    )


def read_or_refuse(
    name: str, table: dict[str, Any], config: Config
) -> tuple[DestinationConfig, list[str]]:
    """The destination, and warnings. Raises click.UsageError with all that is wrong."""
    try:
        return read_table_of(name, table, config)
    except ConfigError as error:
        lines = map(one_line, problems_of(error))
        raise click.UsageError("\n".join(lines)) from None


def tell_daemon(
    name: str, config: Config, start: str | None = None, *, may_be_blocked: bool = False
) -> str:
    """Have a running daemon take the files up; what became of that, in a sentence.

    Raises DaemonRefused with its reason, also where it cannot send unless it `may_be_blocked`, and
    DaemonUnreachable when one runs that does not respond.
    """
    query = f"?start={quote(name, safe='')}:{start}" if start else ""
    client = admin_client(config, RELOAD_SECONDS)
    try:
        found = client.ask("POST", f"/api/reload{query}")
    except NoDaemon:
        return NEXT_START
    except DaemonRefused as error:
        raise DaemonRefused(
            f"the running daemon refused it and goes on as before: {error.message}",
            hint="correct that, then send the daemon SIGHUP",
        ) from None
    if name not in found["destinations"]:
        raise DaemonRefused(
            "the running daemon reads another configuration and does not know this file",
            hint="give the daemon's own with --config",
        )
    blocked = found["blocked"].get(name)
    if blocked:
        then = RESTART if "${env:" in blocked else "correct that: it is tried again by itself"
        words = f"the running daemon has loaded it but cannot send yet: {blocked}"
        if may_be_blocked:
            return f"{words}; {then}"
        raise DaemonRefused(words, hint=then)
    return "the running daemon has loaded it"


def _tell(added: Added) -> None:
    for warning in added.warnings:
        say(f"warning: {warning}", err=True)
    reports = added.test.get("signals", {"": added.test}) if added.test else {}
    failed = {word: each for word, each in reports.items() if not each["passed"]}
    for word, report in failed.items():
        said = f"{word}: " if word else ""
        say(f"{said}{report['wrong']}", f"  {report['remedy']}", err=True)
    if added.saved:
        tested = ", though the test did not pass" if failed else ""
        say(f"saved in {added.saved}{tested}")
    if added.error:
        saved_or_not = "" if added.saved else "nothing was saved: "
        say(f"otlp-relay: {saved_or_not}{' '.join(added.error.split())}", err=True)
    else:
        say(added.daemon)
    if added.hint:
        say(f"hint: {added.hint}")
