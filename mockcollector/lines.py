"""A collector or a request in; the line or the JSON record that the command prints of it out."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from mockcollector.received import ReceivedRequest
from mockcollector.server import MockCollector

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


def start_line(collector: MockCollector) -> str:
    """Where it listens, and as whom."""
    name = f"mockcollector ({collector.profile.name})" if collector.profile else "mockcollector"
    line = f"{name} listens on {collector.endpoint}"
    return f"{line}\ncontrol API on {collector.control_url}" if collector.has_control else line


def start_record(collector: MockCollector) -> dict[str, Any]:
    """The same as a record."""
    record = {"event": "listening", "endpoint": collector.endpoint}
    if collector.profile:
        record["profile"] = collector.profile.name
    if collector.has_control:
        record["control"] = collector.control_url
    return record


def request_line(request: ReceivedRequest) -> str:
    """What came and what was answered; header names, never values."""
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


def request_record(request: ReceivedRequest) -> dict[str, Any]:
    """The same as a record."""
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


def end_line(collector: MockCollector) -> str:
    """The sums."""
    counts = collector.journal.counts
    answers = (
        ", ".join(f"{word} ({times} times)" for word, times in counts.answers.items()) or "none"
    )
    duplicates = collector.journal.duplicate_spans
    return (
        f"mockcollector stopped: {counts.requests} requests, {counts.spans_accepted} spans accepted"
        f" ({duplicates} of them again), {counts.spans_refused} refused; answers: {answers}"
    )


def end_record(collector: MockCollector) -> dict[str, Any]:
    """The same as a record."""
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
