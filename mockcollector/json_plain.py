"""The text of a plain OTLP/JSON body in; that it is right, its ids and numbers out. Or it declines.

Senders write JSON one way: no blanks, no key twice, numbers as they are. Such a body is judged here
at the speed of C, and its message is only made when a test asks for it. Everything else is declined
and judged by `otlp_json` alone, so each rule stands there, and here only what surely keeps it.

The argument: msgspec reads the body into structs that know no other keys, and refuses what is not
JSON or of another type. Then it writes them again. It never writes more than it read: blanks, the
first of two same keys and longer escapes are gone, and floats are kept as they were written. So
where the length is the same, nothing of that was there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from google.protobuf.descriptor import Descriptor
from msgspec import UNSET, Meta, Raw, UnsetType
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from mockcollector.json_plain_message import build_message
from mockcollector.signals import Request, Signal

_MAX_DEPTH = 20
_SHOWN_NAMES = 3
_ZERO_TRACE, _ZERO_SPAN = bytes(16), bytes(8)
_SAFE_DIGITS = 18  # so many fit 64 bits with a sign
_SHORT_FLOAT, _SAFE_FLOAT = 30, 1e300


@dataclass(frozen=True, slots=True)
class Plain:
    """A body that breaks no rule, has no unknown key and no flaw.

    `services` are its service names with the number of their items; None where one is no text.
    """

    count: int
    span_ids: bytes
    services: list[tuple[str, int]] | None
    names: list[str] | None


class _DeclinedError(Exception):
    """Not as plain as that."""


def _struct(title: str, descriptor: Descriptor, /, **types: Any) -> type[msgspec.Struct]:
    """A struct of these fields, all optional; without those that the official classes lack."""
    known = {field.json_name for field in descriptor.fields}
    fields = [(key, kind | UnsetType, UNSET) for key, kind in types.items() if key in known]
    return msgspec.defstruct(title, fields, forbid_unknown_fields=True, gc=False)


def _number(low: int, high: int) -> Any:
    return Annotated[int, Meta(ge=low, le=high)]


_uint32, _enum = _number(0, 2**32 - 1), _number(0, 2**31 - 1)
_uint64 = int | str
_value = dict[str, Any]

_KeyValue = _struct("_KeyValue", KeyValue.DESCRIPTOR, key=str, value=_value)
_attributes = list[_KeyValue]  # type: ignore[valid-type]
_Resource = _struct(
    "_Resource",
    Resource.DESCRIPTOR,
    attributes=_attributes,
    droppedAttributesCount=_uint32,
)
_Scope = _struct(
    "_Scope",
    InstrumentationScope.DESCRIPTOR,
    name=str,
    version=str,
    attributes=_attributes,
    droppedAttributesCount=_uint32,
)
_Event = _struct(
    "_Event",
    Span.Event.DESCRIPTOR,
    timeUnixNano=_uint64,
    name=str,
    attributes=_attributes,
    droppedAttributesCount=_uint32,
)
_Link = _struct(
    "_Link",
    Span.Link.DESCRIPTOR,
    traceId=str,
    spanId=str,
    traceState=str,
    attributes=_attributes,
    droppedAttributesCount=_uint32,
    flags=_uint32,
)
_Status = _struct("_Status", Status.DESCRIPTOR, message=str, code=_enum)
_Span = _struct(
    "_Span",
    Span.DESCRIPTOR,
    traceId=str,
    spanId=str,
    traceState=str,
    parentSpanId=str,
    flags=_uint32,
    name=str,
    kind=_enum,
    startTimeUnixNano=_uint64,
    endTimeUnixNano=_uint64,
    attributes=_attributes,
    droppedAttributesCount=_uint32,
    events=list[_Event],  # type: ignore[valid-type]
    droppedEventsCount=_uint32,
    links=list[_Link],  # type: ignore[valid-type]
    droppedLinksCount=_uint32,
    status=_Status,
)
_LogRecord = _struct(
    "_LogRecord",
    LogRecord.DESCRIPTOR,
    timeUnixNano=_uint64,
    observedTimeUnixNano=_uint64,
    severityNumber=_number(0, 24),
    severityText=str,
    body=_value,
    attributes=_attributes,
    droppedAttributesCount=_uint32,
    flags=_uint32,
    traceId=str,
    spanId=str,
    eventName=str,
)


def _request(signal: str, resource: Any, scope: Any, request: Any, items: str, item: Any) -> Any:
    inner = {"scope": _Scope, items: list[item], "schemaUrl": str}
    scoped = _struct(f"_Scope{signal}", scope.DESCRIPTOR, **inner)
    outer = {"resource": _Resource, f"scope{signal}": list[scoped], "schemaUrl": str}  # type: ignore[valid-type]
    whole = _struct(f"_Resource{signal}", resource.DESCRIPTOR, **outer)
    return _struct(f"_{signal}", request.DESCRIPTOR, **{f"resource{signal}": list[whole]})  # type: ignore[valid-type]


def _keep_as_written(text: str) -> Raw:
    return Raw(text.encode())


_decode_spans = msgspec.json.Decoder(
    _request("Spans", ResourceSpans, ScopeSpans, ExportTraceServiceRequest, "spans", _Span),
    float_hook=_keep_as_written,
).decode
_decode_logs = msgspec.json.Decoder(
    _request("Logs", ResourceLogs, ScopeLogs, ExportLogsServiceRequest, "logRecords", _LogRecord),
    float_hook=_keep_as_written,
).decode
_encode = msgspec.json.Encoder().encode


def plain_message(body: bytes, signal: Signal) -> Request:
    """The message of a body that `read_plain` has read before."""
    read = _decode_spans if signal is Signal.TRACES else _decode_logs
    return build_message(read(body), signal)


def read_plain(body: bytes, signal: Signal) -> Plain | None:
    """What is in the body, or None: then it is for `otlp_json` to read."""
    if signal is Signal.METRICS:
        return None
    try:
        read = _decode_spans if signal is Signal.TRACES else _decode_logs
        request: Any = read(body)
        if len(_encode(request)) != len(body):
            return None
        if signal is Signal.TRACES:
            return _read_spans(request)
        return _read_logs(request)
    except (_DeclinedError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _read_spans(request: Any) -> Plain:
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
    return Plain(len(ids) // 2, b"".join(ids), services, names)


def _read_logs(request: Any) -> Plain:
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
                _check_optional_ids(record)
                _check_times(record.timeUnixNano, record.observedTimeUnixNano)
                if record.attributes:
                    _check_attributes(record.attributes)
                if record.body is not UNSET:
                    _check_value(record.body, 0)
                if names is not None and len(names) < _SHOWN_NAMES:
                    name = _log_name(record)
                    names = None if name is None else [*names, name]
        services = _counted(services, service, count - before)
    return Plain(count, b"", services, names)


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
            _check_attributes((attribute,))
            if attribute.key == "service.name":
                service = (attribute.value or {}).get("stringValue")
    return service


def _check_scope(holder: Any) -> None:
    if holder.scope is not UNSET and getattr(holder.scope, "attributes", None):
        _check_attributes(holder.scope.attributes)


def _check_span(span: Any, ids: list[bytes]) -> None:
    """Its ids are appended."""
    trace_id, span_id = bytes.fromhex(span.traceId or ""), bytes.fromhex(span.spanId or "")
    # The length of the text, too: `fromhex` takes blanks.
    if len(trace_id) != 16 or trace_id == _ZERO_TRACE or len(span.traceId) != 32:
        raise _DeclinedError
    if len(span_id) != 8 or span_id == _ZERO_SPAN or len(span.spanId) != 16:
        raise _DeclinedError
    ids.append(trace_id)
    ids.append(span_id)
    parent = span.parentSpanId
    if parent:
        parent_id = bytes.fromhex(parent)
        if len(parent) != 16 or len(parent_id) != 8 or parent_id == _ZERO_SPAN:
            raise _DeclinedError
    _check_times(span.startTimeUnixNano, span.endTimeUnixNano)
    if span.attributes:
        _check_attributes(span.attributes)
    if span.events:
        for event in span.events:
            _check_times(event.timeUnixNano)
            if event.attributes:
                _check_attributes(event.attributes)
    if span.links:
        for link in span.links:
            _check_optional_ids(link)
            if link.attributes:
                _check_attributes(link.attributes)


def _check_optional_ids(holder: Any) -> None:
    for text, digits in ((holder.traceId, 32), (holder.spanId, 16)):
        if text and (len(text) != digits or 2 * len(bytes.fromhex(text)) != digits):
            raise _DeclinedError


def _check_times(*times: Any) -> None:
    for time in times:
        if type(time) is str:
            # 19 digits are today's nanoseconds; below 2**64 for sure.
            if not (len(time) == 19 and time.isdecimal() and time.isascii() and time[0] == "1"):
                _check_integer(time, least=0)
        elif time is not UNSET and not 0 <= time < 2**64:
            raise _DeclinedError


def _check_integer(text: str, least: int) -> None:
    if (
        len(text) > _SAFE_DIGITS
        or not text.isascii()
        or str(int(text)) != text
        or int(text) < least
    ):
        raise _DeclinedError


def _check_attributes(attributes: Iterable[Any], depth: int = 0) -> None:
    for attribute in attributes:
        value = attribute.value
        if value is UNSET or (len(value) == 1 and type(value.get("stringValue")) is str):
            continue  # as nearly all are
        _check_value(value, depth)


def _check_value(value: Any, depth: int) -> None:
    """One AnyValue, read without its type."""
    if depth > _MAX_DEPTH or type(value) is not dict or len(value) > 1:
        raise _DeclinedError
    for member, content in value.items():
        if member == "arrayValue":
            for item in _listed(content):
                _check_value(item, depth + 1)
        elif member == "kvlistValue":
            for item in _listed(content):
                _check_entry(item, depth + 1)
        elif not _is_scalar(member, content):
            raise _DeclinedError


def _is_scalar(member: str, content: Any) -> bool:
    kind = type(content)
    if member == "stringValue":
        return kind is str
    if member == "boolValue":
        return kind is bool
    if member == "intValue":
        if kind is str:
            _check_integer(content, least=-(2**63))
            return True
        return kind is int and -(2**63) <= content < 2**63
    if member == "doubleValue" and kind is Raw:
        # A float as it was written; very long ones and texts are for `otlp_json`.
        written = bytes(content)
        return len(written) < _SHORT_FLOAT and abs(float(written)) < _SAFE_FLOAT
    return False


def _listed(content: Any) -> list[Any]:
    if type(content) is not dict or not content.keys() <= {"values"}:
        raise _DeclinedError
    values = content.get("values", [])
    if type(values) is not list:
        raise _DeclinedError
    return values


def _check_entry(item: Any, depth: int) -> None:
    if type(item) is not dict or not item.keys() <= {"key", "value"}:
        raise _DeclinedError
    if type(item.get("key", "")) is not str:
        raise _DeclinedError
    _check_value(item.get("value", {}), depth)
