"""Fragment in one encoding in, the same spans as a fragment in the other encoding out.

    to_protobuf   JSON text ─msgspec─▶ structs ─protobuf_writer─▶ bytes
    to_json       bytes ─official classes─▶ messages ─▶ structs ─msgspec─▶ JSON text

Both are lossless for every field of the schema, for which messages and members of a oneof are
set, and for empty values. What cannot be kept: unknown fields of protobuf have no form in JSON,
NaN loses its sign and payload there, and JSON deeper than 30 levels is folded (decision D5).
"""

from binascii import b2a_base64
from collections.abc import Callable, Iterable
from math import isfinite, isnan
from typing import ClassVar

import msgspec
from google.protobuf.message import DecodeError
from msgspec import UNSET, Raw, UnsetType
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from relay.model.errors import RelayError
from relay.otlp import messages
from relay.otlp.folding import fold_for_protobuf
from relay.otlp.protobuf_writer import UNSET_RESOURCE, write_entries

decode_entries = msgspec.json.Decoder(list[messages.ResourceSpans]).decode


class TranscodeError(RelayError, ValueError):
    """A kept fragment cannot be read as what it is said to be."""

    code: ClassVar[str] = "transcode_error"


def to_protobuf(fragment: bytes) -> bytes:
    """Turn comma-joined `resourceSpans` entries in normal form into encoded `resource_spans`.

    What would lie deeper than 30 levels becomes a string of its JSON text (decision D5). Raises
    TranscodeError, and nothing else, when the fragment is not what this relay writes.
    """
    try:
        try:
            return write_entries(decode_entries(b"[%b]" % fragment))
        except RecursionError:
            return write_entries(decode_entries(b"[%b]" % fold_for_protobuf(fragment)))
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise TranscodeError(describe_error("JSON", error)) from None


def to_json(fragment: bytes) -> bytes:
    """Turn encoded `resource_spans` fields into comma-joined `resourceSpans` entries, in normal
    form: lower-case hexadecimal ids of whatever length, 64-bit numbers as strings, defaults left
    out. Raises TranscodeError, and nothing else, when the fragment is not readable protobuf.
    """
    try:
        request = ExportTraceServiceRequest.FromString(fragment)
    except DecodeError as error:
        raise TranscodeError(describe_error("protobuf", error)) from None
    return messages.encode([_read_resource_spans(entry) for entry in request.resource_spans])[1:-1]


def describe_error(encoding: str, error: Exception) -> str:
    """Say what could not be read, by the kind of error and its path: never a value."""
    path = str(error).rpartition(" - at ")[2] if isinstance(error, msgspec.MsgspecError) else ""
    where = f" at {path}" if path.startswith("`$") else ""
    return f"the kept {encoding} cannot be read{where} ({type(error).__name__})"


_NO_TIME = str(messages.Event().timeUnixNano)


def _time(number: int) -> str:
    # The default is left out of the text only if it is the very same object.
    return str(number) if number else _NO_TIME


def _read_resource_spans(entry: trace_pb2.ResourceSpans) -> messages.ResourceSpans:
    return messages.ResourceSpans(
        resource=_read_resource(entry.resource) if entry.HasField("resource") else UNSET_RESOURCE,
        scopeSpans=[_read_scope_spans(scope) for scope in entry.scope_spans],
        schemaUrl=entry.schema_url,
    )


def _read_resource(resource: resource_pb2.Resource) -> Raw:
    return Raw(
        messages.encode(
            messages.Resource(
                attributes=_read_attributes(resource.attributes),
                droppedAttributesCount=resource.dropped_attributes_count,
                entityRefs=[
                    messages.EntityRef(
                        schemaUrl=ref.schema_url,
                        type=ref.type,
                        idKeys=list(ref.id_keys),
                        descriptionKeys=list(ref.description_keys),
                    )
                    for ref in resource.entity_refs
                ],
            )
        )
    )


def _read_scope_spans(scope_spans: trace_pb2.ScopeSpans) -> messages.ScopeSpans:
    scope: messages.InstrumentationScope | UnsetType = UNSET
    if scope_spans.HasField("scope"):
        found = scope_spans.scope
        scope = messages.InstrumentationScope(
            name=found.name,
            version=found.version,
            attributes=_read_attributes(found.attributes),
            droppedAttributesCount=found.dropped_attributes_count,
        )
    return messages.ScopeSpans(
        scope=scope,
        spans=list(map(_read_span, scope_spans.spans)),
        schemaUrl=scope_spans.schema_url,
    )


def _read_span(span: trace_pb2.Span) -> messages.Span:
    status: messages.Status | UnsetType = UNSET
    if span.HasField("status"):
        found = span.status
        status = messages.Status(found.message, found.code)
    return messages.Span(
        traceId=span.trace_id.hex(),
        spanId=span.span_id.hex(),
        traceState=span.trace_state,
        parentSpanId=span.parent_span_id.hex(),
        flags=span.flags,
        name=span.name,
        kind=span.kind,
        startTimeUnixNano=_time(span.start_time_unix_nano),
        endTimeUnixNano=_time(span.end_time_unix_nano),
        attributes=_read_attributes(span.attributes),
        droppedAttributesCount=span.dropped_attributes_count,
        events=list(map(_read_event, span.events)),
        droppedEventsCount=span.dropped_events_count,
        links=list(map(_read_link, span.links)),
        droppedLinksCount=span.dropped_links_count,
        status=status,
    )


def _read_event(event: trace_pb2.Span.Event) -> messages.Event:
    return messages.Event(
        timeUnixNano=_time(event.time_unix_nano),
        name=event.name,
        attributes=_read_attributes(event.attributes),
        droppedAttributesCount=event.dropped_attributes_count,
    )


def _read_link(link: trace_pb2.Span.Link) -> messages.Link:
    return messages.Link(
        traceId=link.trace_id.hex(),
        spanId=link.span_id.hex(),
        traceState=link.trace_state,
        attributes=_read_attributes(link.attributes),
        droppedAttributesCount=link.dropped_attributes_count,
        flags=link.flags,
    )


def _read_attributes(items: Iterable[common_pb2.KeyValue]) -> list[messages.KeyValue]:
    out: list[messages.KeyValue] = []
    for item in items:
        source = item.value
        value: messages.AnyValue | UnsetType = UNSET
        # A member that is not at its default tells at once which one is set; asking takes longer.
        if text := source.string_value:
            value = messages.AnyValue(stringValue=text)
        elif number := source.int_value:
            value = messages.AnyValue(intValue=str(number))
        elif item.HasField("value"):
            value = _read_value(source)
        out.append(messages.KeyValue(item.key, value, item.key_strindex))
    return out


def _read_value(value: common_pb2.AnyValue) -> messages.AnyValue:
    member = value.WhichOneof("value")
    return messages.AnyValue() if member is None else _READERS[member](value)


def _read_array(value: common_pb2.AnyValue) -> messages.AnyValue:
    values = [_read_value(item) for item in value.array_value.values]
    return messages.AnyValue(arrayValue=messages.ArrayValue(values))


def _read_kvlist(value: common_pb2.AnyValue) -> messages.AnyValue:
    values = _read_attributes(value.kvlist_value.values)
    return messages.AnyValue(kvlistValue=messages.KeyValueList(values))


def _read_bytes(value: common_pb2.AnyValue) -> messages.AnyValue:
    return messages.AnyValue(bytesValue=b2a_base64(value.bytes_value, newline=False).decode())


_READERS: dict[str, Callable[[common_pb2.AnyValue], messages.AnyValue]] = {
    "string_value": lambda value: messages.AnyValue(stringValue=value.string_value),
    "bool_value": lambda value: messages.AnyValue(boolValue=value.bool_value),
    "int_value": lambda value: messages.AnyValue(intValue=str(value.int_value)),
    "double_value": lambda value: messages.AnyValue(doubleValue=name_special(value.double_value)),
    "array_value": _read_array,
    "kvlist_value": _read_kvlist,
    "bytes_value": _read_bytes,
    "string_value_strindex": lambda value: messages.AnyValue(
        stringValueStrindex=value.string_value_strindex
    ),
}


def name_special(value: float) -> float | str:
    """NaN and the infinities by the names that JSON has for them; the encoder writes null."""
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
