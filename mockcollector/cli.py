"""The command `mockcollector`: options in, a running collector and a line a request out."""

import importlib.metadata
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from mockcollector.received import ReceivedRequest
from mockcollector.script import Script, ScriptError
from mockcollector.server import MockCollector

T = TypeVar("T")
_SHOWN_NAMES = 3
_SHOWN_CHARACTERS = 80
# Every client sends these; a line shows what is particular.
_ORDINARY_HEADERS = {
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
}


@click.group()
@click.version_option(version=importlib.metadata.version("otlp-relay"), prog_name="mockcollector")
def main() -> None:
    """A strict OTLP/HTTP trace receiver for tests and trials."""


def _read_address(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 127.0.0.1:4319")
    return host.removeprefix("[").removesuffix("]"), int(port)


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
    default=64 * 1024 * 1024,
    show_default=True,
    help="Bytes of a body, before and after decompression; above it 413.",
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
    listen: tuple[str, int],
    required_headers: dict[str, str | None],
    script: Script,
    max_body_bytes: int,
    is_json: bool,
    is_quiet: bool,
    keep: Any,
) -> None:
    """Receive traces until Ctrl-C and print a line for each request."""
    show = _Printer(is_json=is_json, is_quiet=is_quiet)
    collector = MockCollector(
        host=listen[0],
        port=listen[1],
        required_headers=required_headers,
        script=script,
        keep=keep,
        max_body_bytes=max_body_bytes,
        on_request=lambda request: show(_request_line, _request_record, request),
    )
    show.on_closed_output = collector.ask_to_stop
    try:
        collector.start()
    except OSError as error:
        raise click.ClickException(f"cannot listen on {listen[0]}:{listen[1]}: {error}") from None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: collector.ask_to_stop())
    show(_start_line, _start_record, collector)
    collector.wait_until_ended()
    collector.stop()
    show(_end_line, _end_record, collector)


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


def _start_line(collector: MockCollector) -> str:
    return f"mockcollector listens on {collector.endpoint}"


def _start_record(collector: MockCollector) -> dict[str, Any]:
    return {"event": "listening", "endpoint": collector.endpoint}


def _request_line(request: ReceivedRequest) -> str:
    arrived = datetime.fromtimestamp(request.received_unix_nano / 1e9, UTC).astimezone()
    parts = [arrived.strftime("%H:%M:%S.%f")[:-3]]
    if (request.method, request.status) != ("POST", 200):
        parts.append(_printable(f"{request.method} {request.path}"))
    parts.append(request.encoding or "unknown encoding")
    if request.content_encoding != "identity":
        parts.append(request.content_encoding)
    parts.append(f"{request.span_count} span{'' if request.span_count == 1 else 's'}")
    if services := _services(request):
        parts.append("from " + ", ".join(map(_printable, services)))
    if names := _names(request):
        more = request.span_count - len(names)
        shown = ", ".join(map(_printable, names))
        parts.append(f"({shown}{f' and {more} more' if more else ''})")
    parts.append(f"→ {request.answer}")
    if request.reason:
        parts.append(_printable(request.reason))
    if request.unknown_keys:
        parts.append(f"unknown keys: {_printable(', '.join(request.unknown_keys[:_SHOWN_NAMES]))}")
    if names := _particular_headers(request):
        parts.append(f"[{', '.join(map(_printable, names))}]")
    return " ".join(parts)


def _request_record(request: ReceivedRequest) -> dict[str, Any]:
    return {
        "event": "request",
        "time_unix_nano": request.received_unix_nano,
        "number": request.number,
        "method": request.method,
        "path": request.path,
        "encoding": request.encoding,
        "content_encoding": request.content_encoding,
        "wire_bytes": request.wire_bytes,
        "decoded_bytes": request.decoded_bytes,
        "spans": request.span_count,
        "accepted_spans": request.accepted_spans,
        "services": _services(request),
        "names": _names(request),
        "unknown_keys": list(request.unknown_keys),
        "header_names": list(request.header_names),
        "status": request.status,
        "answer": request.answer,
        "reason": request.reason,
    }


def _end_line(collector: MockCollector) -> str:
    counts = collector.journal.counts
    answers = (
        ", ".join(f"{word} ({times} times)" for word, times in counts.answers.items()) or "none"
    )
    duplicates = collector.journal.duplicate_spans
    return (
        f"mockcollector stopped: {counts.requests} requests, {counts.spans_accepted} spans accepted"
        f" ({duplicates} of them again), {counts.spans_refused} refused; answers: {answers}"
    )


def _end_record(collector: MockCollector) -> dict[str, Any]:
    counts = collector.journal.counts
    return {
        "event": "stopped",
        "requests": counts.requests,
        "spans_accepted": counts.spans_accepted,
        "duplicate_spans": collector.journal.duplicate_spans,
        "spans_refused": counts.spans_refused,
        "wire_bytes": counts.wire_bytes,
        "decoded_bytes": counts.decoded_bytes,
        "answers": counts.answers,
    }


def _services(request: ReceivedRequest) -> list[str]:
    names = Counter(
        str(span.resource.attributes.get("service.name", "(no service.name)"))
        for span in request.spans
    )
    return [name for name, _ in names.most_common(_SHOWN_NAMES)]


def _names(request: ReceivedRequest) -> list[str]:
    return [span.name for span in request.spans[:_SHOWN_NAMES]]


def _particular_headers(request: ReceivedRequest) -> list[str]:
    return [name for name in request.header_names if name not in _ORDINARY_HEADERS]


def _printable(text: str) -> str:
    """Senders choose names and paths: nothing of theirs may move the cursor of a terminal."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
