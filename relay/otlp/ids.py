"""A kept fragment in, the trace ids of its spans out."""

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.otlp.folding import MAX_PROTOBUF_LEVELS, replace_below
from relay.records import Encoding

TRACE_ID_BYTES = 16


class _Span(Struct, rename="camel"):
    trace_id: str = ""


class _Scope(Struct):
    spans: list[_Span] = []


class _Entry(Struct, rename="camel"):
    scope_spans: list[_Scope] = []


_decode_entries = msgspec.json.Decoder(list[_Entry]).decode


def trace_ids_of(fragment: bytes, encoding: Encoding) -> bytes:
    """The distinct trace ids in `fragment`, 16 bytes each, packed, in the order they come.

    Ids of another length are left out. Empty for what cannot be read; raises nothing.
    """
    try:
        read = _protobuf_ids if encoding is Encoding.PROTOBUF else _json_ids
        found = read(fragment)
    except (ValueError, RecursionError, DecodeError, msgspec.MsgspecError):
        return b""
    return b"".join(dict.fromkeys(found))


def _protobuf_ids(fragment: bytes) -> list[bytes]:
    request = ExportTraceServiceRequest.FromString(fragment)
    return [
        span.trace_id
        for entry in request.resource_spans
        for scope in entry.scope_spans
        for span in scope.spans
        if len(span.trace_id) == TRACE_ID_BYTES
    ]


def _json_ids(fragment: bytes) -> list[bytes]:
    try:
        entries = _decode_entries(b"[%b]" % fragment)
    except RecursionError:
        flat = replace_below(fragment, MAX_PROTOBUF_LEVELS, lambda _value: b"{}")
        entries = _decode_entries(b"[%b]" % flat)
    found: list[bytes] = []
    for entry in entries:
        for scope in entry.scope_spans:
            for span in scope.spans:
                if len(span.trace_id) == 2 * TRACE_ID_BYTES:
                    try:
                        found.append(bytes.fromhex(span.trace_id))
                    except ValueError:
                        continue
    return found
