"""What a dead letter of the way in is sent again as, by signal and encoding."""

from typing import Final

import pytest

from relay.buffer.values import StoredDeadLetter
from relay.dead_letters.requests import Wish, request_of
from relay.model.records import DeadLetter, Encoding, Request, Signal
from relay.otlp.protobuf_writer import delimited
from relay.otlp.signals import LOGS, METRICS, TRACES, SignalWire
from relay.process.prepare import Prepare, PrepareSettings

WISH: Final = Wish(to="", derives=False, known={}, settings=PrepareSettings())


def stored(wire: SignalWire, encoding: Encoding, body: bytes, reason: str) -> StoredDeadLetter:
    letter = DeadLetter(
        "", reason, "", items=1, encoding=encoding, body=body, signal=wire.signal, received_ns=7
    )
    return StoredDeadLetter(1, 1, letter)


@pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])
def test_log_record_is_sent_again_as_one(encoding: Encoding) -> None:
    made = LOGS.request()
    made.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=5)  # type: ignore[attr-defined]
    body = made.SerializeToString()
    if encoding is Encoding.JSON:
        body = b'{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5"}]}]}'
    request = request_of(stored(LOGS, encoding, body, "corrected"), WISH)

    assert isinstance(request, Request)
    (piece,) = request.pieces
    assert (piece.signal, piece.items, piece.body) == (Signal.LOGS, 1, body)


def test_what_could_not_be_read_of_protobuf_is_not_sent_as_what_is_left_of_it() -> None:
    good = b"\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8
    span = delimited(b"\x12", good + b"\x0a\x7fshort")
    body = delimited(b"\x0a", delimited(b"\x12", span + delimited(b"\x12", good)))
    (rejected,) = Prepare(PrepareSettings()).check(body, Encoding.PROTOBUF).rejected
    letter = stored(TRACES, Encoding.PROTOBUF, rejected.body, rejected.reason)

    assert request_of(letter, WISH) == (
        "a member that cannot be read: export it, correct it and post it again"
    )
    assert rejected.trace_id == (b"t" * 16).hex()


def test_data_point_without_a_value_cannot_be_sent_and_no_id_is_spoken_of() -> None:
    made = METRICS.request()
    metric = made.resource_metrics.add().scope_metrics.add().metrics.add(name="m")  # type: ignore[attr-defined]
    metric.gauge.data_points.add(time_unix_nano=5)
    letter = stored(METRICS, Encoding.PROTOBUF, made.SerializeToString(), "value_missing")

    why = request_of(letter, WISH)
    assert why == (
        "no value, and not marked as without one: export it, correct it and post it again"
    )
