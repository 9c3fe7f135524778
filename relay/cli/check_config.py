"""`otlp-relay check-config`: what the configuration says, or all that is wrong with it."""

import os
import sys
from typing import Any

import click

from relay.buffer.sqlite.private_files import exposures
from relay.cli.explain import lines_of, steps_of_destination, steps_of_process
from relay.cli.options import config_option, json_option
from relay.cli.output import say, say_json
from relay.config import Config
from relay.config.load import load
from relay.config.tables import one_line, problems_of
from relay.model.errors import ConfigError, NoCredentials
from relay.model.units import format_size

EXIT_NOT_DONE = 1


@click.command("check-config")
@config_option
@click.option("--explain", "explains", is_flag=True, help="Show the steps of each destination.")
@json_option
def check_config(*, config_path: str | None, explains: bool, as_json: bool) -> None:
    """Read the configuration and show what it means. Needs no running daemon, changes nothing.

    Exits 0 when the daemon could start with it, 1 otherwise. A destination that only lacks a
    secret does not keep the daemon from starting: it is shown as blocked. Credentials of systemd
    exist for the daemon alone: one that is missing here is only a warning.
    """
    try:
        config = load(config_path, os.environ, forgiven=NoCredentials)
    except ConfigError as error:
        problems = problems_of(error)
        if as_json:
            say_json({"ok": False, "problems": [_problem(problem) for problem in problems]})
        else:
            say(*map(one_line, problems), err=True)
        sys.exit(EXIT_NOT_DONE)
    found = list(exposures(config.state_dir))
    refused = [
        ConfigError(each.words, key="state_dir", hint=each.hint) for each in found if each.hint
    ]
    warnings = [*config.warnings, *(each.words for each in found if not each.hint)]
    if as_json:
        shown = [_problem(problem) for problem in refused]
        say_json({"ok": not refused, "problems": shown, **_summary(config, warnings)})
    else:
        say(*_lines(config, warnings, explains=explains), *([] if refused else ["ok"]))
        if not config.source:
            say("`otlp-relay serve` starts with this; --config FILE names another")
        say(*map(one_line, refused), err=True)
    if refused:
        sys.exit(EXIT_NOT_DONE)


def _problem(problem: ConfigError) -> dict[str, str | None]:
    return {
        "source": problem.source,
        "key": problem.key,
        "message": problem.message,
        "hint": problem.hint,
    }


def _summary(config: Config, warnings: list[str]) -> dict[str, Any]:
    """What may be shown: names of headers and the number of tokens, never their values."""
    return {
        "source": str(config.source) if config.source else None,
        "state_dir": str(config.state_dir),
        "ingest": {
            "listen": [str(address) for address in config.ingest.listen],
            "tls": config.ingest.tls_cert is not None,
            "tokens": len(config.ingest.tokens),
            "max_body_bytes": config.ingest.max_body_bytes,
            "signals": [signal.word for signal in config.taken_signals],
        },
        "admin": {
            "listen": [str(address) for address in config.admin.listen],
            "health_listen": [str(address) for address in config.admin.health_listen],
        },
        "buffer": {
            "max_size_bytes": config.buffer.max_size_bytes,
            "when_full": config.buffer.when_full,
        },
        "process": steps_of_process(config),
        "destinations": [
            {
                "name": destination.name,
                "endpoint": destination.shown_endpoint,
                "endpoints": {it.signal.word: it.shown_endpoint for it in destination.views},
                "header_names": list(destination.headers),
                "encoding": destination.encoding,
                "compression": destination.compression,
                "steps": steps_of_destination(destination),
                "paused": destination.paused,
                "source": str(destination.source) if destination.source else None,
                "blocked_reason": destination.problem or None,
            }
            for destination in config.destinations
        ],
        "warnings": warnings,
    }


def _lines(config: Config, warnings: list[str], *, explains: bool) -> list[str]:
    ingest, buffer = config.ingest, config.buffer
    scheme = "https" if ingest.tls_cert else "http"
    tokens = f"{len(ingest.tokens)} tokens" if ingest.tokens else "no token required"
    if ingest.tokens_for == "remote":
        tokens += ", of remote senders only"
    paths = ", ".join(f"/v1/{signal.word}" for signal in config.taken_signals)
    lines = [
        f"configuration  {config.source or 'none found, all defaults'}",
        f"state          {config.state_dir}",
        *(f"ingest         {scheme}://{address}{paths}, {tokens}" for address in ingest.listen),
        *(f"admin          http://{address}/" for address in config.admin.listen),
        *(f"health         http://{address}/readyz" for address in config.admin.health_listen),
        f"buffer         at most {format_size(buffer.max_size_bytes)}, then {buffer.when_full}",
    ]
    if explains:
        steps = list(lines_of(steps_of_process(config)))
        lines += [f"process        {line}" for line in steps or ["nothing: all is kept as it is"]]
    if not config.destinations:
        lines.append("destinations   none: what comes is kept until there is one")
    for destination in config.destinations:
        headers = ", ".join(destination.headers) or "none"
        others = [it for it in destination.views if it.signal is not destination.signal]
        lines += [
            f"destination    {destination.name} → {destination.shown_endpoint or '(unknown)'}",
            *(f"                 {it.signal.word}: {it.shown_endpoint}" for it in others),
            f"                 headers: {headers}",
            f"                 from: {destination.source or 'the environment'}",
        ]
        if explains:
            steps = list(lines_of(steps_of_destination(destination)))
            lines += [f"                 {line}" for line in steps or ["no steps: it gets all"]]
        if destination.paused:
            lines.append("                 paused")
        if destination.problem:
            lines.append(f"                 blocked: {destination.problem}")
    return [*lines, *(f"warning: {warning}" for warning in warnings)]
