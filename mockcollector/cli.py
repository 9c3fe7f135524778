"""The command `mockcollector`: options in, a running collector and a line a request out."""

import importlib.metadata
import json
import os
import signal
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mockcollector import profiles as known_profiles
from mockcollector.lines import (
    end_line,
    end_record,
    request_line,
    request_record,
    start_line,
    start_record,
)
from mockcollector.profiles import ProfileError
from mockcollector.script import Script
from mockcollector.script_values import ScriptError
from mockcollector.server import MockCollector

T = TypeVar("T")


@click.group()
@click.version_option(version=importlib.metadata.version("otlp-relay"), prog_name="mockcollector")
def main() -> None:
    """A strict OTLP/HTTP trace receiver for tests and trials."""


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
        if not name.strip():
            # The text is left out of the message: it may be a token with its name forgotten.
            raise click.BadParameter("a header is written NAME=VALUE, or NAME for any value")
        headers[name.strip()] = expected if sign else None
    return headers


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
    "--profile",
    metavar="NAME",
    help="Behave as a vendor does: axiom, honeycomb, … (`mockcollector profiles` lists them).",
)
@click.option(
    "--token",
    envvar="MOCKCOLLECTOR_TOKEN",
    help="The token that the profile takes, instead of its default.",
)
@click.option(
    "--profile-option",
    "profile_options",
    callback=_read_profile_options,
    metavar="NAME=VALUE",
    multiple=True,
    help="A further option of the profile, such as multitenancy=true.",
)
@click.option(
    "--control",
    callback=_read_control,
    metavar="HOST:PORT",
    envvar="MOCKCOLLECTOR_CONTROL",
    help="Serve the control API there (no authentication: loopback). Without it there is none.",
)
@click.option(
    "--require-header",
    "required_headers",
    callback=_read_headers,
    metavar="NAME[=VALUE]",
    multiple=True,
    help="Refuse requests without it: 401 when missing, 403 when wrong. May be repeated.",
)
@click.option(
    "--script",
    callback=_read_script,
    metavar="SCRIPT",
    default="",
    envvar="MOCKCOLLECTOR_SCRIPT",
    help="What to answer, in order, then 200: 503*3,ok · 429:retry-after=2 · partial=3:words · "
    "delay=0.5 · hang · cut · cut-answer · 401* (for ever).",
)
@click.option(
    "--max-body",
    "max_body_bytes",
    type=click.IntRange(min=1),
    help="Bytes of a body, before and after decompression; above it 413.  "
    "[default: the profile's, else 67108864]",
)
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
@click.option("--quiet", "is_quiet", is_flag=True, help="Print nothing.")
@click.option(
    "--keep",
    type=click.Choice(["spans", "counts"]),
    default="spans",
    show_default=True,
    help="counts: decode ids only and keep numbers, for load tests.",
)
def serve(
    *,
    listen: tuple[str, int],
    profile: str | None,
    token: str | None,
    profile_options: dict[str, str | bool],
    control: tuple[str, int | None],
    required_headers: dict[str, str | None],
    script: Script,
    max_body_bytes: int | None,
    is_json: bool,
    is_quiet: bool,
    keep: Any,
) -> None:
    """Receive traces until Ctrl-C and print a line for each request."""
    show = _Printer(is_json=is_json, is_quiet=is_quiet)
    collector = MockCollector(
        host=listen[0],
        port=listen[1],
        profile=_build_profile(profile, token, profile_options),
        control_host=control[0],
        control_port=control[1],
        required_headers=required_headers,
        script=script,
        keep=keep,
        max_body_bytes=max_body_bytes,
        on_request=lambda request: show(request_line, request_record, request),
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
        for name, value in record["headers"].items():
            print(f"  header {name}: {value}")
        if record["options"]:
            print(f"  options {', '.join(record['options'])}")
        for words in record["unconfirmed"]:
            print(f"  unconfirmed: {words}")


def _profile_record(name: str) -> dict[str, Any]:
    built = known_profiles.build(name)
    return {
        "name": name,
        "path": built.rules.path,
        "summary": built.summary,
        "headers": dict(built.headers),  # of the default token: no secret
        "options": list(known_profiles.options_of(name)),
        "unconfirmed": list(built.unconfirmed),
    }


class _Printer:
    """Prints what it is given as a line or as a record, until nobody reads any more."""

    def __init__(self, *, is_json: bool, is_quiet: bool) -> None:
        self._is_json = is_json
        self._is_quiet = is_quiet
        self.on_closed_output: Callable[[], None] = lambda: None

    def __call__(
        self, as_line: Callable[[T], str], as_record: Callable[[T], dict[str, Any]], subject: T
    ) -> None:
        if self._is_quiet:
            return
        try:
            print(json.dumps(as_record(subject)) if self._is_json else as_line(subject), flush=True)
        except BrokenPipeError:
            # An end like any other, and no fault of the request at hand.
            self._is_quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is buffered goes nowhere
            self.on_closed_output()
