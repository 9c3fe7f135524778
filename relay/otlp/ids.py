"""The trace ids of a kept fragment: to find a trace's spans in it."""

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.model.records import Encoding
from relay.otlp.folding import MAX_PROTOBUF_LEVELS, replace_below
from relay.otlp.protobuf import all_spans

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
    found = _ids(fragment, encoding)
    return b"".join(dict.fromkeys(each for each in found if len(each) == TRACE_ID_BYTES))


def _ids(fragment: bytes, encoding: Encoding) -> list[bytes]:
    """The trace id of each span, in the order in which they stand.

    One that is none is empty, and so is the list for what cannot be read.
    """
    try:
        return _protobuf_ids(fragment) if encoding is Encoding.PROTOBUF else _json_ids(fragment)
    except (ValueError, RecursionError, DecodeError, msgspec.MsgspecError):
        return []


def _protobuf_ids(fragment: bytes) -> list[bytes]:
    return [span.trace_id for span in all_spans(ExportTraceServiceRequest.FromString(fragment))]


def _json_ids(fragment: bytes) -> list[bytes]:
    try:
        entries = _decode_entries(b"[%b]" % fragment)
    except RecursionError:
        flat = replace_below(fragment, MAX_PROTOBUF_LEVELS, lambda _value: b"{}")
        entries = _decode_entries(b"[%b]" % flat)
    return [
        _from_hex(span.trace_id)
        for entry in entries
        for scope in entry.scope_spans
        for span in scope.spans
    ]


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text) if len(text) == 2 * TRACE_ID_BYTES else b""
    except ValueError:
        return b""


def stretches_of_trace(
    fragment: bytes, encoding: Encoding, trace_id: bytes
) -> list[tuple[int, int]]:
    """Where spans of the trace stand: first and end of each run, counted as `split` does.

    Empty where there is none, or for what cannot be read; raises nothing.
    """
    runs: list[tuple[int, int]] = []
    for number, each in enumerate(_ids(fragment, encoding)):
        if each != trace_id:
            continue
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs
