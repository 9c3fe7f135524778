"""The text of a plain OTLP/JSON body in; that it is right, its ids and numbers out. Or it declines.

Senders write JSON in few ways: no key twice, one member of a oneof, integers as digits. Such a body
is judged here at the speed of C, and its message is only made when a test asks for it. Everything
else is declined and judged by `otlp_json` alone, so each rule stands there, and here only what
surely keeps it.

The argument: msgspec reads the body into structs that know no other keys, and refuses what is not
JSON or of another type. Then it writes them again, in as few bytes as can be, floats as they were
written. Where it writes as many bytes as the body has, nothing of that was lost: no first of two
same keys, no integer such as -0. Blanks and escapes that it does not write are counted first.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from mockcollector.json_plain_message import build_message
from mockcollector.json_plain_metrics import read_metric
from mockcollector.json_plain_structs import DECODE
from mockcollector.json_plain_values import (
    DeclinedError,
    check_attributes,
    check_optional_ids,
    check_times,
    check_value,
)
from mockcollector.json_plain_view import PlainView
from mockcollector.signals import TRAITS, Request, Signal

_SHOWN_NAMES = 3
_ZERO_TRACE, _ZERO_SPAN = bytes(16), bytes(8)
_ESCAPE = rb"\\(?:u[0-9a-fA-F]{4}|.)"
_ESCAPES = re.compile(rb"%b(?:%b)*" % (_ESCAPE, _ESCAPE))  # begins with a backslash: found fast
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Plain:
    """A body that breaks no rule, has no unknown key and no flaw.

    `view` reads like its message. `services` are its service names with the number of their items;
    None where one is no text.
    """

    count: int
    span_ids: bytes
    services: list[tuple[str, int]] | None
    names: list[str] | None
    view: PlainView


def plain_message(body: bytes, signal: Signal) -> Request:
    """The message of a body that `read_plain` has read before."""
    return build_message(DECODE[signal](body), signal)


def plain_view(body: bytes, signal: Signal) -> PlainView:
    """The same as what reads like a message; nothing is made of it."""
    return PlainView(DECODE[signal](body), TRAITS[signal].request.DESCRIPTOR)


def read_plain(body: bytes, signal: Signal) -> Plain | None:
    """What is in the body, or None: then it is for `otlp_json` to read."""
    try:
        request: Any = DECODE[signal](body)
        if not _is_all_read(body, request):
            return None
        view = PlainView(request, TRAITS[signal].request.DESCRIPTOR)
        return _READ[signal](request, view)
    except (DeclinedError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _is_all_read(body: bytes, request: Any) -> bool:
    """Whether nothing in the body is missing in the request that was read from it."""
    written_bytes = len(_encode(request))
    if written_bytes == len(body):  # as JSON.stringify writes
        return True
    bare = msgspec.json.format(body, indent=-1)
    return written_bytes == len(bare) - sum(map(_spare_bytes, _ESCAPES.findall(bare)))


@functools.lru_cache(maxsize=4096)
def _spare_bytes(escapes: bytes) -> int:
    """How much shorter `_encode` writes these escapes. Raises MsgspecError for half surrogates."""
    return len(escapes) + 2 - len(_encode(msgspec.json.decode(b'"%b"' % escapes)))


def _read_spans(request: Any, view: PlainView) -> Plain:
    ids: list[bytes] = []
    services: list[tuple[str, int]] | None = []
    names: list[str] = []
    for resource in request.resourceSpans or ():
        before = len(ids)
        service = _check_resource(resource)
        for scope in resource.scopeSpans or ():
            _check_scope(scope)
            for span in scope.spans or ():
                _check_span(span, ids)
                if len(names) < _SHOWN_NAMES:
                    names.append(span.name or "")
        services = _counted(services, service, (len(ids) - before) // 2)
    return Plain(len(ids) // 2, b"".join(ids), services, names, view)


def _read_logs(request: Any, view: PlainView) -> Plain:
    count = 0
    services: list[tuple[str, int]] | None = []
    names: list[str] | None = []
    for resource in request.resourceLogs or ():
        before = count
        service = _check_resource(resource)
        for scope in resource.scopeLogs or ():
            _check_scope(scope)
            for record in scope.logRecords or ():
                count += 1
                check_optional_ids(record)
                check_times(record.timeUnixNano, record.observedTimeUnixNano)
                if record.attributes:
                    check_attributes(record.attributes)
                if record.body is not UNSET:
                    check_value(record.body, 0)
                if names is not None and len(names) < _SHOWN_NAMES:
                    name = _log_name(record)
                    names = None if name is None else [*names, name]
        services = _counted(services, service, count - before)
    return Plain(count, b"", services, names, view)


def _read_metrics(request: Any, view: PlainView) -> Plain:
    count = 0
    services: list[tuple[str, int]] | None = []
    names: list[str] = []
    for resource in request.resourceMetrics or ():
        before = count
        service = _check_resource(resource)
        for scope in resource.scopeMetrics or ():
            _check_scope(scope)
            for metric in scope.metrics or ():
                points = read_metric(metric)
                count += points
                names += [metric.name] * min(points, _SHOWN_NAMES - len(names))
        services = _counted(services, service, count - before)
    return Plain(count, b"", services, names, view)


def _log_name(record: Any) -> str | None:
    """Its event name or its words; None where those are no text."""
    if event_name := getattr(record, "eventName", None) or "":
        return str(event_name)
    if record.body is UNSET:
        return ""
    words = record.body.get("stringValue")
    return words if isinstance(words, str) else None


def _counted(
    services: list[tuple[str, int]] | None, service: str | None, count: int
) -> list[tuple[str, int]] | None:
    if services is None or service is None:
        return None
    return [*services, (service, count)] if count else services


def _check_resource(holder: Any) -> str | None:
    """Its service's name; None where that is no text."""
    service: str | None = "(no service.name)"
    if holder.resource is not UNSET and holder.resource.attributes:
        for attribute in holder.resource.attributes:
            check_attributes((attribute,))
            if attribute.key == "service.name":
                service = (attribute.value or {}).get("stringValue")
    return service


def _check_scope(holder: Any) -> None:
    if holder.scope is not UNSET and getattr(holder.scope, "attributes", None):
        check_attributes(holder.scope.attributes)


def _check_span(span: Any, ids: list[bytes]) -> None:
    """Its ids are appended."""
    trace_id, span_id = bytes.fromhex(span.traceId or ""), bytes.fromhex(span.spanId or "")
    # The length of the text, too: `fromhex` takes blanks.
    if len(trace_id) != 16 or trace_id == _ZERO_TRACE or len(span.traceId) != 32:
        raise DeclinedError
    if len(span_id) != 8 or span_id == _ZERO_SPAN or len(span.spanId) != 16:
        raise DeclinedError
    ids.append(trace_id)
    ids.append(span_id)
    parent = span.parentSpanId
    if parent:
        parent_id = bytes.fromhex(parent)
        if len(parent) != 16 or len(parent_id) != 8 or parent_id == _ZERO_SPAN:
            raise DeclinedError
    check_times(span.startTimeUnixNano, span.endTimeUnixNano)
    if span.attributes:
        check_attributes(span.attributes)
    if span.events:
        for event in span.events:
            check_times(event.timeUnixNano)
            if event.attributes:
                check_attributes(event.attributes)
    if span.links:
        for link in span.links:
            check_optional_ids(link)
            if link.attributes:
                check_attributes(link.attributes)


_READ = {Signal.TRACES: _read_spans, Signal.LOGS: _read_logs, Signal.METRICS: _read_metrics}
