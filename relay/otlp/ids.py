"""The trace ids of a kept fragment: to find a trace's spans and log records in it."""

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Raw, Struct

from relay.model.records import Encoding, Signal
from relay.otlp.folding import decode_without_depths
from relay.otlp.protobuf import all_records
from relay.otlp.signals import WIRE, SignalWire

TRACE_ID_BYTES = 16


class _Record(Struct, rename="camel"):
    trace_id: str = ""


_decode_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_decode_records = msgspec.json.Decoder(list[_Record]).decode


def trace_ids_of(fragment: bytes, encoding: Encoding, signal: Signal) -> bytes:
    """The distinct trace ids in `fragment`, 16 bytes each, packed, in the order they come.

    Ids of another length are left out. Empty for what cannot be read; raises nothing.
    """
    found = _ids(fragment, encoding, signal)
    return b"".join(dict.fromkeys(each for each in found if len(each) == TRACE_ID_BYTES))


def _ids(fragment: bytes, encoding: Encoding, signal: Signal) -> list[bytes]:
    """The trace id of each span or log record, in the order in which they stand.

    One that is none is empty, and so is the list for what cannot be read, or for metrics.
    """
    if signal is Signal.METRICS:
        return []
    read = _protobuf_ids if encoding is Encoding.PROTOBUF else _json_ids
    try:
        return read(fragment, WIRE[signal])
    except (ValueError, RecursionError, DecodeError, msgspec.MsgspecError):
        return []


def _protobuf_ids(fragment: bytes, wire: SignalWire) -> list[bytes]:
    request = wire.request.FromString(fragment)
    return [record.trace_id for record in all_records(request, wire)]


def _json_ids(fragment: bytes, wire: SignalWire) -> list[bytes]:
    lists = wire.lists[Encoding.JSON]
    return [
        _from_hex(record.trace_id)
        for entry in decode_without_depths(_decode_objects, fragment)
        for scope in _decode_objects(entry.get(lists.scopes, b"[]"))
        for record in _decode_records(scope.get(lists.records, b"[]"))
    ]


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text) if len(text) == 2 * TRACE_ID_BYTES else b""
    except ValueError:
        return b""


def stretches_of_trace(
    fragment: bytes, encoding: Encoding, signal: Signal, trace_id: bytes
) -> list[tuple[int, int]]:
    """Where items of the trace stand: first and end of each run, counted as `split` does.

    Empty where there is none, or for what cannot be read; raises nothing.
    """
    runs: list[tuple[int, int]] = []
    for number, each in enumerate(_ids(fragment, encoding, signal)):
        if each != trace_id:
            continue
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs
