"""The command `mockcollector`: options in, a running collector and a line a request out."""

import importlib.metadata
import json
import os
import signal
import ssl
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import click

from mockcollector import profiles as known_profiles
from mockcollector.check_command import check
from mockcollector.command import run_command, unmet
from mockcollector.ledger import Limits
from mockcollector.lines import (
    end_line,
    end_record,
    request_line,
    request_record,
    start_line,
    start_record,
    stranger_event,
    stranger_line,
)
from mockcollector.neutral import printable
from mockcollector.otlp_lines import Recorder
from mockcollector.profiles import ProfileError
from mockcollector.received import ReceivedRequest
from mockcollector.replay_command import replay
from mockcollector.script import Script
from mockcollector.script_text import parse_bytes
from mockcollector.script_values import ScriptError, is_token
from mockcollector.server import MockCollector
from mockcollector.signals import Signal

T = TypeVar("T")


@click.group()
@click.version_option(
    version=importlib.metadata.version("mockcollector"), prog_name="mockcollector"
)
def main() -> None:
    """A strict OTLP/HTTP receiver for tests and trials."""


def _read_address(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 127.0.0.1:4319")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _read_control(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[str, int | None]:
    return ("127.0.0.1", None) if value is None else _read_address(ctx, param, value)


def _read_profile_options(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str | bool]:
    options: dict[str, str | bool] = {}
    for value in values:
        name, sign, text = value.partition("=")
        if not sign:
            raise click.BadParameter("an option of a profile is written NAME=VALUE")
        options[name.strip()] = {"true": True, "false": False}.get(text, text)
    return options


def _read_script(_ctx: click.Context, _param: click.Parameter, value: str) -> Script:
    try:
        return Script(value)
    except ScriptError as error:
        raise click.BadParameter(str(error)) from None


def _read_headers(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str | None]:
    headers: dict[str, str | None] = {}
    for value in values:
        name, sign, expected = value.partition("=")
        if not is_token(name.strip()):
            # The text is left out of the message: it may be a token with its name forgotten, or
            # a header as curl has it, with a colon.
            raise click.BadParameter("a header is written NAME=VALUE, or NAME for any value")
        headers[name.strip()] = expected if sign else None
    return headers


def _read_bytes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        size = parse_bytes(value)
    except ScriptError as error:
        raise click.BadParameter(str(error)) from None
    if size < 1:
        raise click.BadParameter("it is 1 byte or more")
    return size


def _read_path(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.startswith("/"):
        raise click.BadParameter(f"{value!r} does not start with a slash")
    return value


_FILE = click.Path(exists=True, dir_okay=False, readable=True)
_Command = TypeVar("_Command", bound=Callable[..., None])

# What a collector is to be, for whichever command runs it.
_COLLECTOR_OPTIONS = [
    click.option(
        "--profile",
        metavar="NAME",
        help="Behave as a vendor does: axiom, honeycomb, … (`mockcollector profiles` lists them).",
    ),
    click.option(
        "--token",
        envvar="MOCKCOLLECTOR_TOKEN",
        help="The token that the profile takes, instead of its default.",
    ),
    click.option(
        "--profile-option",
        "profile_options",
        callback=_read_profile_options,
        metavar="NAME=VALUE",
        multiple=True,
        help="A further option of the profile, such as multitenancy=true.",
    ),
    click.option(
        "--require-header",
        "required_headers",
        callback=_read_headers,
        metavar="NAME[=VALUE]",
        multiple=True,
        help="Refuse requests without it: 401 when missing, 403 when wrong. May be repeated.",
    ),
    click.option(
        "--script",
        callback=_read_script,
        metavar="SCRIPT",
        default="",
        envvar="MOCKCOLLECTOR_SCRIPT",
        help="What to answer, in order, then 200: 503*3,ok · 429:retry-after=2 · partial=3:words · "
        "delay=0.5 · hang · cut · cut-answer · reset · endless · dribble=3 · idle-close=0.5 · "
        "slow-read=1KiB · size=6MiB · coding=gzip · chaos=0.2:seed=7 · 503:for=10 (seconds) · "
        "401* (for ever).",
    ),
    click.option(
        "--max-body",
        "max_body_bytes",
        callback=_read_bytes,
        metavar="BYTES",
        help="Largest body, before and after decompression, such as 65536 or 4MiB; above it 413.  "
        "[default: the profile's, else 64MiB]",
    ),
    click.option(
        "--path", callback=_read_path, metavar="PATH", help="Take traces there, not at /v1/traces."
    ),
    click.option(
        "--cert-file", metavar="FILE", type=_FILE, help="Speak TLS with this certificate."
    ),
    click.option("--key-file", metavar="FILE", type=_FILE, help="The certificate's key."),
    click.option(
        "--client-ca-file",
        metavar="FILE",
        type=_FILE,
        help="Demand a client certificate of this authority.",
    ),
    click.option(
        "--max-kept",
        "max_kept_bytes",
        callback=_read_bytes,
        metavar="BYTES",
        help="Forget the oldest contents above so many bytes; counts and ids stay.  "
        "[default: 256MiB]",
    ),
    click.option(
        "--record",
        type=click.File("a", encoding="utf-8", lazy=False),
        metavar="FILE",
        help="Append what is accepted there, a line of OTLP JSON a request, for `replay`.",
    ),
    click.option("--json", "is_json", is_flag=True, help="One JSON object a line."),
    click.option("--quiet", "is_quiet", is_flag=True, help="Print nothing."),
]


def _collector_options(command: _Command) -> _Command:
    for option in reversed(_COLLECTOR_OPTIONS):
        command = option(command)
    return command


@main.command()
@click.option(
    "--listen",
    callback=_read_address,
    metavar="HOST:PORT",
    default="127.0.0.1:4319",
    show_default=True,
    envvar="MOCKCOLLECTOR_LISTEN",
    help="Where to listen; port 0 takes a free one.",
)
@click.option(
    "--control",
    callback=_read_control,
    metavar="HOST:PORT",
    envvar="MOCKCOLLECTOR_CONTROL",
    help="Serve the control API there (no authentication: loopback). Without it there is none.",
)
@_collector_options
@click.option(
    "--keep",
    type=click.Choice(["spans", "counts"]),
    default="spans",
    show_default=True,
    help="counts: for load tests. Only numbers are kept, and of a body only its syntax and the ids "
    "of spans are checked: it takes what `spans` refuses.",
)
def serve(
    *,
    listen: tuple[str, int],
    control: tuple[str, int | None],
    keep: Any,
    record: TextIO | None,
    is_json: bool,
    is_quiet: bool,
    **options: Any,
) -> None:
    """Receive traces, logs and metrics until Ctrl-C; print a line for each request."""
    if record is not None and keep == "counts":
        raise click.UsageError("--record needs what --keep counts throws away")
    show = _Printer(is_json=is_json, is_quiet=is_quiet)
    collector = _build_collector(
        options,
        host=listen[0],
        port=listen[1],
        control_host=control[0],
        control_port=control[1],
        keep=keep,
        on_request=_observer(show, record),
        on_stranger=lambda stranger: show(stranger_line, stranger_event, stranger),
    )
    show.on_closed_output = collector.ask_to_stop
    try:
        collector.start()
    except OSError as error:
        where = f"{listen[0]}:{listen[1]}"
        if control[1] is not None:
            where += f" and {control[0]}:{control[1]}"
        raise click.ClickException(f"cannot listen on {where}: {error}") from None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: collector.ask_to_stop())
    show(start_line, start_record, collector)
    collector.wait_until_ended()
    collector.stop()
    show(end_line, end_record, collector)


@main.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--expect-spans", "spans", type=click.IntRange(min=0), help="So many distinct spans must come."
)
@click.option(
    "--expect-logs", "logs", type=click.IntRange(min=0), help="So many log records must come."
)
@click.option(
    "--expect-points", "points", type=click.IntRange(min=0), help="So many data points must come."
)
@_collector_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def run(
    *,
    spans: int | None,
    logs: int | None,
    points: int | None,
    record: TextIO | None,
    is_json: bool,
    is_quiet: bool,
    command: tuple[str, ...],
    **options: Any,
) -> None:
    """Run COMMAND with its OpenTelemetry exporters sent to a collector, to its end.

    The environment of COMMAND gets OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL and their like for each
    signal. Lines about requests go to stderr. The exit code is 0 if COMMAND's was and what was
    expected came, neither more nor less; 1 if not.
    """
    show = _Printer(is_json=is_json, is_quiet=is_quiet, is_stderr=True)
    collector = _build_collector(
        options,
        on_request=_observer(show, record),
        on_stranger=lambda stranger: show(stranger_line, stranger_event, stranger),
    )
    with collector:
        show(start_line, start_record, collector)
        try:
            code = run_command(collector, command)
        except OSError as error:
            raise click.UsageError(f"cannot run {command[0]!r}: {error.strerror}") from None
    show(end_line, end_record, collector)
    expected = {Signal.TRACES: spans, Signal.LOGS: logs, Signal.METRICS: points}
    faults = list(unmet(collector.journal, expected))
    if code:
        faults.insert(0, f"{printable(command[0])} ended with {code}")
    if faults:
        raise click.ClickException("; ".join(faults))


def _build_collector(options: dict[str, Any], **more: Any) -> MockCollector:
    """A collector of the options that every command with one has."""
    profile = _build_profile(
        options.pop("profile"), options.pop("token"), options.pop("profile_options")
    )
    kept = options.pop("max_kept_bytes")
    limits = Limits() if kept is None else Limits(max_body_bytes=kept)
    if options["cert_file"] is None and (options["key_file"] or options["client_ca_file"]):
        raise click.UsageError("--key-file and --client-ca-file need --cert-file")
    try:
        return MockCollector(profile=profile, limits=limits, **options, **more)
    except ssl.SSLError as error:
        raise click.UsageError(f"the certificate or key cannot be used: {error.reason}") from None


def _observer(show: "_Printer", record: TextIO | None) -> Callable[[ReceivedRequest], None]:
    """What is done with each answered request: it is recorded where that is wanted, and shown."""
    keep = Recorder(record) if record is not None else lambda _request: None

    def observe(request: ReceivedRequest) -> None:
        keep(request)
        show(request_line, request_record, request)

    return observe


def _build_profile(
    name: str | None, token: str | None, options: dict[str, str | bool]
) -> known_profiles.Profile | None:
    if name is None:
        if options or token is not None:
            option = "--profile-option" if options else "--token"
            raise click.UsageError(f"{option} needs --profile")
        return None
    try:
        return known_profiles.build(name, token, **options)
    except ProfileError as error:
        raise click.BadParameter(str(error), param_hint="--profile") from None


main.add_command(check)
main.add_command(replay)


@main.command()
@click.option("--json", "is_json", is_flag=True, help="One JSON array.")
def profiles(is_json: bool) -> None:
    """List the vendors that `serve --profile` can be, and what of them is not confirmed."""
    records = [_profile_record(name) for name in known_profiles.PROFILES]
    if is_json:
        print(json.dumps(records, indent=2))
        return
    for record in records:
        print(f"{record['name']}  {record['path']}")
        print(f"  {record['summary']}")
        if others := [path for path in record["paths"].values() if path != record["path"]]:
            print(f"  also {', '.join(others)}")
        for name, value in record["headers"].items():
            print(f"  header {name}: {value}")
        for signal_name, headers in record["other_headers"].items():
            for name, value in headers.items():
                print(f"  header of {signal_name} {name}: {value}")
        if record["options"]:
            print(f"  options {', '.join(record['options'])}")
        for words in record["unconfirmed"]:
            print(f"  unconfirmed: {words}")


def _profile_record(name: str) -> dict[str, Any]:
    built = known_profiles.build(name)
    return {
        "name": name,
        "path": next(iter(built.rules.values())).path,
        "paths": {name: rules.path for name, rules in built.rules.items() if rules.closed is None},
        "summary": built.summary,
        "headers": dict(built.headers),  # of the default token: no secret
        "other_headers": {name: dict(headers) for name, headers in built.other_headers.items()},
        "options": list(known_profiles.options_of(name)),
        "unconfirmed": list(built.unconfirmed),
    }


class _Printer:
    """Prints what it is given as a line or as a record, until nobody reads any more."""

    def __init__(self, *, is_json: bool, is_quiet: bool, is_stderr: bool = False) -> None:
        self._is_json = is_json
        self._is_quiet = is_quiet
        self._is_stderr = is_stderr
        self.on_closed_output: Callable[[], None] = lambda: None

    def __call__(
        self, as_line: Callable[[T], str], as_record: Callable[[T], dict[str, Any]], subject: T
    ) -> None:
        if self._is_quiet:
            return
        try:
            text = json.dumps(as_record(subject)) if self._is_json else as_line(subject)
            print(text, file=sys.stderr if self._is_stderr else sys.stdout, flush=True)
        except BrokenPipeError:
            # An end like any other, and no fault of the request at hand.
            self._is_quiet = True
            nowhere = os.open(os.devnull, os.O_WRONLY)  # for what is buffered
            os.dup2(nowhere, 2 if self._is_stderr else 1)
            self.on_closed_output()
