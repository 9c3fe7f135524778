"""Requests in, lines of OTLP JSON out, and the way back: files that the Collector reads, too.

A line is one request in OTLP's JSON, as the Collector's file exporter writes them and its
`otlpjsonfile` receiver reads them. Which signal it is of, its one key says.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from google.protobuf.json_format import MessageToDict

from mockcollector.decoding import decode, read_message
from mockcollector.received import ReceivedRequest
from mockcollector.rules import Encoding, Refused, Rules
from mockcollector.signals import Request, Signal

_SIGNAL_OF_KEY = {
    "resourceSpans": Signal.TRACES,
    "resourceLogs": Signal.LOGS,
    "resourceMetrics": Signal.METRICS,
}
_IDS = {"traceId", "spanId", "parentSpanId"}


class LinesError(ValueError):
    """A file is not what was recorded; the message names the line."""


def to_document(message: Request) -> dict[str, Any]:
    """A request as OTLP's JSON has it: ids in hexadecimal, enums as numbers."""
    document: dict[str, Any] = _with_hex_ids(MessageToDict(message, use_integers_for_enums=True))
    return document


def _with_hex_ids(value: Any) -> Any:
    # Attributes are lists of {"key": …}: no key of a sender can be taken for a field's name.
    match value:
        case dict():
            return {
                key: _hex(item) if key in _IDS else _with_hex_ids(item)
                for key, item in value.items()
            }
        case list():
            return [_with_hex_ids(item) for item in value]
        case _:
            return value


def _hex(text: str) -> str:
    return base64.b64decode(text).hex()


def to_line(message: Request) -> str:
    """The same as one line, without its end."""
    return json.dumps(to_document(message), ensure_ascii=False, separators=(",", ":"))


def lines_of(requests: Iterable[ReceivedRequest]) -> Iterator[str]:
    """What was accepted of these requests, a line each; what was refused is left out.

    Of a partial success it is the whole request: that is what the sender sent.
    """
    for request in requests:
        if request.message is not None and request.accepted_count:
            yield to_line(request.message)


class Recorder:
    """Appends what was accepted to a file, a line each, as it comes."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __call__(self, request: ReceivedRequest) -> None:
        """Take note of a request whose answer is known."""
        for line in lines_of([request]):
            self._file.write(line + "\n")
            self._file.flush()


def read_lines(lines: Iterable[str]) -> Iterator[tuple[Signal, dict[str, Any]]]:
    """Each line's signal and its request as JSON; empty lines are left out. Raises LinesError."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            raise LinesError(f"line {number} is not JSON") from None
        keys = set(_SIGNAL_OF_KEY) & set(document) if isinstance(document, dict) else set()
        if len(keys) != 1:
            raise LinesError(f"line {number} has none of {', '.join(_SIGNAL_OF_KEY)}")
        yield _SIGNAL_OF_KEY[keys.pop()], document


def to_message(signal: Signal, document: dict[str, Any]) -> Request:
    """The request that a line holds. Raises LinesError where it is not OTLP."""
    body = json.dumps(document).encode()
    try:
        is_plain = decode(body, Encoding.JSON, signal, Rules()).is_plain
    except Refused as refusal:
        raise LinesError(refusal.message) from None
    return read_message(body, Encoding.JSON, signal, is_plain=is_plain)
