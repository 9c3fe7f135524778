"""Which signal a protobuf body is of, where it is not of the one that it was sent as.

The envelopes of all signals share their numbers, so a body at the wrong endpoint may even decode,
and what it holds would be taken for something else. The first field of a record tells: the time of
a log record takes eight bytes, a span's id and a metric's name say their length.
"""

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError, Message
from google.protobuf.wrappers_pb2 import BytesValue, DoubleValue

from relay.model.errors import Refusal
from relay.model.records import Signal
from relay.otlp.protobuf import all_records, discard_unknown
from relay.otlp.signals import LOGS, METRICS, WIRE, SignalWire

_RECORDS_LOOKED_AT: Final = 10
# Whose records have their first field in the form that is strange here, and what reads that field
# alone: a list of all that a parser does not know may be a million long.
_TAKEN_FOR: Final[dict[Signal, tuple[SignalWire, Any]]] = {
    Signal.LOGS: (METRICS, BytesValue),
    Signal.METRICS: (LOGS, DoubleValue),
}


def guess_signal(body: bytes, wire: SignalWire) -> SignalWire | None:
    """The other signal that a body reads well as; None if there is none. It costs two parses."""
    for other in WIRE.values():
        if other is not wire and _reads_well(body, other):
            return other
    return None


def refuse_another(message: Message, body: bytes, wire: SignalWire) -> None:
    """Raise Refusal if it decoded by chance: the first field of every record is of another signal.

    One look at the first record settles nearly all.
    """
    records = all_records(message, wire)
    other, first_field = _TAKEN_FOR[wire.signal]
    if records and all(first_field.FromString(each.SerializeToString()).value for each in records):
        raise Refusal(describe(guess_signal(body, wire) or other))


def describe(wire: SignalWire) -> str:
    """What to do with a body of this signal."""
    return f"this looks like a {wire.signal.name.lower()} body; send it to {wire.path}"


def _reads_well(body: bytes, wire: SignalWire) -> bool:
    try:
        message = wire.request.FromString(body)
    except DecodeError:
        return False
    records = all_records(message, wire)[:_RECORDS_LOOKED_AT]
    return bool(records) and all(
        not discard_unknown(record) and _LOOKS_RIGHT[wire.signal](record) for record in records
    )


_LOOKS_RIGHT: Final[dict[Signal, Callable[[Any], bool]]] = {
    Signal.TRACES: lambda span: len(span.trace_id) == 16 and len(span.span_id) == 8,
    Signal.LOGS: lambda record: bool(
        record.time_unix_nano or record.observed_time_unix_nano or record.HasField("body")
    ),
    Signal.METRICS: lambda metric: bool(metric.name and metric.WhichOneof("data")),
}
