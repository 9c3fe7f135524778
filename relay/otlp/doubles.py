"""Rewrites a fragment without NaN and ±Infinity (decision D15).

They are legal OTLP, but some backends accept them and then fail to show the trace. A destination
that asks for it gets them as text, or not at all. Only rows that hold some are given here.

An attribute is dropped from its holder, whose `droppedAttributesCount` grows. Inside an array or
a list of keys and values there is no such count: there an empty value stands in its place, so
that positions and keys stay.
"""

import re
from collections.abc import Iterator
from math import isfinite
from typing import Literal

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2

from relay.model.records import Encoding
from relay.otlp import messages
from relay.otlp.folding import replace_below
from relay.otlp.protobuf import holders
from relay.otlp.protobuf_writer import UNSET_RESOURCE
from relay.otlp.transcode import TranscodeError, decode_entries, describe_error, name_special

DoublesMode = Literal["string", "drop"]

_MAX_COUNT = 2**32 - 1


def rewrite_special_doubles(fragment: bytes, encoding: Encoding, mode: DoublesMode) -> bytes:
    """Give the fragment with every NaN and ±Infinity as a string of its name, or dropped.

    In protobuf unknown fields survive; in JSON values of any depth do. Raises TranscodeError,
    and nothing else, when the fragment is not what this relay writes.
    """
    try:
        if encoding is Encoding.PROTOBUF:
            return _rewrite_protobuf(fragment, mode)
        if mode == "string":
            return _JSON_MEMBER.sub(rb'"stringValue":"\1"', fragment)
        return _drop_from_json(fragment)
    except (ValueError, RecursionError, msgspec.MsgspecError, DecodeError) as error:
        raise TranscodeError(describe_error(encoding.name, error)) from None


# --- JSON: by text, since a value may be nested deeper than a decoder can go ---------------------
# Safe in normal form: a quotation mark inside a string is escaped, so nothing matches there.

_JSON_MEMBER = re.compile(rb'"doubleValue":"(NaN|-?Infinity)"')
_JSON_VALUE = re.compile(rb'\{"doubleValue":"(?:NaN|-?Infinity)"\}')
_NAMES = ("NaN", "Infinity", "-Infinity")
# A value with two members does not exist in normal form: it marks where a nested one was.
_MARK = b'{"arrayValue":{},"stringValue":"%d"}'
_MARKED = re.compile(rb'\{"arrayValue":\{\},"stringValue":"(\d+)"\}')

_JsonHolder = (
    messages.Resource
    | messages.InstrumentationScope
    | messages.Span
    | messages.Event
    | messages.Link
)


def _drop_from_json(fragment: bytes) -> bytes:
    nested: list[bytes] = []

    def set_aside(value: bytes) -> bytes:
        nested.append(_JSON_VALUE.sub(b"{}", value))
        return _MARK % (len(nested) - 1)

    entries = decode_entries(b"[%b]" % replace_below(fragment, 0, set_aside))
    for entry in entries:
        if entry.resource is not UNSET_RESOURCE:
            resource = messages.decode_resource(entry.resource)
            _drop_attributes(resource)
            entry.resource = msgspec.Raw(messages.encode(resource))
        for scope_spans in entry.scopeSpans:
            for holder in _json_holders(scope_spans):
                _drop_attributes(holder)
    return _MARKED.sub(lambda mark: nested[int(mark[1])], messages.encode(entries)[1:-1])


def _json_holders(scope_spans: messages.ScopeSpans) -> Iterator[_JsonHolder]:
    if isinstance(scope_spans.scope, messages.InstrumentationScope):
        yield scope_spans.scope
    for span in scope_spans.spans:
        yield span
        yield from span.events
        yield from span.links


def _drop_attributes(holder: _JsonHolder) -> None:
    kept = [item for item in holder.attributes if not _is_special(item.value)]
    dropped = len(holder.attributes) - len(kept)
    if dropped:
        holder.attributes = kept
        holder.droppedAttributesCount = min(holder.droppedAttributesCount + dropped, _MAX_COUNT)


def _is_special(value: messages.AnyValue | msgspec.UnsetType) -> bool:
    return isinstance(value, messages.AnyValue) and value.doubleValue in _NAMES


# --- protobuf ------------------------------------------------------------------------------------


def _rewrite_protobuf(fragment: bytes, mode: DoublesMode) -> bytes:
    request = ExportTraceServiceRequest.FromString(fragment)
    for holder in holders(request):
        for index in reversed(range(len(holder.attributes))):
            value = holder.attributes[index].value
            if mode == "drop" and not isfinite(value.double_value):
                del holder.attributes[index]
                count = holder.dropped_attributes_count
                holder.dropped_attributes_count = min(count + 1, _MAX_COUNT)
            else:
                _rewrite_value(value, mode)
    return request.SerializeToString()


def _rewrite_value(value: common_pb2.AnyValue, mode: DoublesMode) -> None:
    match value.WhichOneof("value"):
        case "double_value" if not isfinite(value.double_value):
            if mode == "string":
                value.string_value = str(name_special(value.double_value))
            else:
                value.ClearField("double_value")
        case "array_value":
            for item in value.array_value.values:
                _rewrite_value(item, mode)
        case "kvlist_value":
            for pair in value.kvlist_value.values:
                _rewrite_value(pair.value, mode)
        case _:
            pass
