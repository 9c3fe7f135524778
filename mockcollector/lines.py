"""A collector or a request in; the line or the JSON record that the command prints of it out."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from mockcollector.items import ReceivedDataPoint, ReceivedItem, ReceivedLogRecord, ReceivedSpan
from mockcollector.neutral import printable, shortened
from mockcollector.received import ReceivedRequest
from mockcollector.records import counts_record, item_counts, stranger_record, wire_record
from mockcollector.server import MockCollector
from mockcollector.signals import TRAITS, Signal
from mockcollector.strangers import Stranger

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
    for signal in collector.signals[1:]:
        url = collector.endpoint_of(signal)
        if url != collector.base_url + TRAITS[signal].path:  # the usual ones need no saying
            line += f"\n{signal} on {url}"
    return f"{line}\ncontrol API on {collector.control_url}" if collector.has_control else line


def start_record(collector: MockCollector) -> dict[str, Any]:
    """The same as a record."""
    record: dict[str, Any] = {
        "event": "listening",
        "endpoint": collector.endpoint,
        "endpoints": {signal: collector.endpoint_of(signal) for signal in collector.signals},
    }
    if collector.profile:
        record["profile"] = collector.profile.name
    if collector.has_control:
        record["control"] = collector.control_url
    return record


def request_line(request: ReceivedRequest) -> str:
    """What came and what was answered; header names, never values."""
    parts = [_clock(request.received_unix_nano)]
    if (request.method, request.status) != ("POST", 200):
        parts.append(_shown(f"{request.method} {request.path}"))
    parts.append(request.encoding or "unknown encoding")
    if request.content_encoding != "identity":
        parts.append(request.content_encoding)
    parts.append(TRAITS[request.signal or Signal.TRACES].counted(request.item_count))
    if services := _services(request):
        parts.append("from " + ", ".join(map(_shown, services)))
    if names := _names(request):
        more = request.item_count - len(names)
        shown = ", ".join(map(_shown, names))
        parts.append(f"({shown}{f' and {more} more' if more else ''})")
    parts.append(f"→ {printable(request.answer)}")
    if request.reason:
        parts.append(_shown(request.reason))
    if request.unknown_keys:
        parts.append(f"unknown keys: {_shown(', '.join(request.unknown_keys[:_SHOWN_NAMES]))}")
    if request.flaws:
        parts.append(f"flaws: {_shown('; '.join(request.flaws[:_SHOWN_NAMES]))}")
    if names := _particular_headers(request):
        parts.append(f"[{', '.join(map(_shown, names))}]")
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
        **wire_record(request),
        **item_counts(request),
        "services": _services(request),
        "names": _names(request),
        "unknown_keys": list(request.unknown_keys),
        "flaws": list(request.flaws),
        "header_names": list(request.header_names),
        "status": request.status,
        "answer": request.answer,
        "reason": request.reason,
    }


def stranger_line(stranger: Stranger) -> str:
    """What reached the port and is no request, with what to do."""
    return f"{_clock(stranger.received_unix_nano)} not a request: {stranger.reason}" + (
        f" [from {printable(stranger.peer)}]" if stranger.peer else ""
    )


def stranger_event(stranger: Stranger) -> dict[str, Any]:
    """The same as a record."""
    return {"event": "stranger", **stranger_record(stranger)}


def end_line(collector: MockCollector) -> str:
    """The sums."""
    counts = collector.journal.counts
    answers = (
        ", ".join(f"{word} ({times} times)" for word, times in counts.answers.items()) or "none"
    )
    duplicates = collector.journal.duplicate_spans
    others = "".join(
        f", {counts.accepted[signal]} {TRAITS[signal].items} accepted"
        f", {counts.refused[signal]} refused"
        for signal in (Signal.LOGS, Signal.METRICS)
        if counts.accepted[signal] or counts.refused[signal]
    )
    return (
        f"mockcollector stopped: {counts.requests} requests, {counts.spans_accepted} spans accepted"
        f" ({duplicates} of them again), {counts.spans_refused} refused{others}; answers:"
        f" {printable(answers)}"
    )


def end_record(collector: MockCollector) -> dict[str, Any]:
    """The same as a record."""
    return {"event": "stopped", **counts_record(collector.journal)}


def _clock(unix_nano: int) -> str:
    return datetime.fromtimestamp(unix_nano / 1e9, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _services(request: ReceivedRequest) -> list[str]:
    if request.services is not None:
        known: Counter[str] = Counter()
        for name, count in request.services:
            known[name] += count
        return [name for name, _ in known.most_common(_SHOWN_NAMES)]
    names = Counter(
        str(item.resource.attributes.get("service.name", "(no service.name)"))
        for item in request.items
    )
    return [name for name, _ in names.most_common(_SHOWN_NAMES)]


def _names(request: ReceivedRequest) -> list[str]:
    if request.names is not None:
        return request.names
    return [_name(item) for item in request.items[:_SHOWN_NAMES]]


def _name(item: ReceivedItem) -> str:
    """What an item is called: its name, its metric's, or what a log record says."""
    match item:
        case ReceivedSpan() | ReceivedDataPoint():
            return item.name
        case ReceivedLogRecord():
            return item.event_name or ("" if item.body is None else str(item.body))
    return ""


def _particular_headers(request: ReceivedRequest) -> list[str]:
    return [name for name in request.header_names if name not in _ORDINARY_HEADERS]


def _shown(text: str) -> str:
    return shortened(text, _SHOWN_CHARACTERS)
