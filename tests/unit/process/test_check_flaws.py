"""Flaws of one item, bodies of another signal, and clocks: what each costs, and what is told."""

import json
from typing import Final

import pytest

from relay.model.errors import Refusal, TooHeavy
from relay.model.records import Encoding, Sender, Signal
from relay.otlp import transcode
from relay.otlp.protobuf_writer import delimited
from relay.otlp.signals import LOGS, METRICS, TRACES, WIRE, SignalWire
from relay.process.check.rejections import AllItemsRejected
from relay.process.prepare import Checked, Prepare, PrepareSettings
from tests.support import builders

PROTOBUF: Final = Encoding.PROTOBUF
NOW: Final = int(builders.END)
BOTH = pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])
EVERY_SIGNAL = pytest.mark.parametrize("wire", WIRE.values(), ids=[signal.name for signal in WIRE])
TORN: Final = b"\x0a\x7fshort"


def check(
    body: bytes, wire: SignalWire, encoding: Encoding = PROTOBUF, *, is_bounded: bool = False
) -> Checked:
    prepare = Prepare(PrepareSettings(), clock_ns=lambda: NOW)
    return prepare.check(body, encoding, signal=wire.signal, is_bounded=is_bounded)


def record(time_ns: int = NOW) -> dict[Signal, builders.Json]:
    """A record of each signal, of that time."""
    time = str(time_ns)
    return {
        Signal.TRACES: builders.span(startTimeUnixNano=time, endTimeUnixNano=time),
        Signal.LOGS: {"timeUnixNano": time, "body": {"stringValue": "a line of a log"}},
        Signal.METRICS: {
            "name": "m",
            "unit": "s",
            "gauge": {"dataPoints": [{"timeUnixNano": time, "asInt": "1"}]},
        },
    }


def made(wire: SignalWire, *records: builders.Json) -> builders.Json:
    entries, scopes, name = wire.lists[Encoding.JSON]
    return {entries: [{scopes: [{"scope": {"name": "lib"}, name: list(records)}]}]}


def encoded(wire: SignalWire, encoding: Encoding, *records: builders.Json) -> bytes:
    if encoding is Encoding.JSON:
        return builders.to_body(made(wire, *records))
    body: bytes = builders.protobuf_twin(made(wire, *records), wire.request).SerializeToString()
    return body


def with_broken_item(wire: SignalWire, *, good: int) -> bytes:
    """So many good records, and one whose only item is torn."""
    kept = [record()[wire.signal]] * good
    body = encoded(wire, PROTOBUF, *kept)
    item = TORN
    if wire is METRICS:
        item = delimited(b"\x0a", b"m") + delimited(b"\x2a", delimited(b"\x0a", TORN))
    odd = delimited(b"\x12", delimited(b"\x12", item))  # in a scope of its own
    return body + delimited(b"\x0a", odd)


@EVERY_SIGNAL
def test_broken_item_is_rejected_alone(wire: SignalWire) -> None:
    checked = check(with_broken_item(wire, good=3), wire)
    (rejected,) = checked.rejected
    entries, scopes, records = wire.lists[Encoding.JSON]
    point = ".gauge.dataPoints[0]" if wire is METRICS else ""

    assert checked.items == 3
    assert sum(piece.items for piece in checked.request.pieces(2**40)) == 3
    assert rejected.reason == "value_malformed"
    assert rejected.path == f"{entries}[1].{scopes}[0].{records}[0]{point}"
    words = f"1 of 4 {wire.items} rejected: a member that cannot be read in 1 ({rejected.path})"
    assert checked.message() == words
    # It is kept as what can be read, with what came as bytes.
    tree = json.loads(wire.json_request % transcode.to_json(rejected.body, wire.signal))
    assert "relay.original_bytes" in json.dumps(tree)


@EVERY_SIGNAL
def test_request_with_nothing_but_broken_items_is_refused_with_them(wire: SignalWire) -> None:
    with pytest.raises(AllItemsRejected, match="all 1 ") as refusal:
        check(with_broken_item(wire, good=0), wire)
    assert refusal.value.counts == {"value_malformed": 1}
    assert len(refusal.value.rejected) == 1


@EVERY_SIGNAL
def test_body_that_may_have_to_be_read_field_by_field_is_too_heavy_for_the_loop(
    wire: SignalWire,
) -> None:
    with pytest.raises(TooHeavy):
        check(with_broken_item(wire, good=1), wire, is_bounded=True)


def test_ids_and_broken_spans_are_told_by_the_senders_places() -> None:
    spans = [builders.span(), builders.span(traceId="00"), builders.span()]
    (entry,) = builders.protobuf_twin(made(TRACES, *spans)).resource_spans
    scope = entry.scope_spans[0].SerializeToString()
    scope += delimited(b"\x12", TORN) + delimited(b"\x12", b"\x0a\x01z")
    checked = check(delimited(b"\x0a", delimited(b"\x12", scope)), TRACES)

    assert checked.items == 2
    assert [(each.reason, each.path.rpartition("spans")[2]) for each in checked.rejected] == [
        ("trace_id_malformed", "[1].traceId"),
        ("span_id_missing", "[4].spanId"),
        ("value_malformed", "[3]"),
    ]


# --- a body at the wrong endpoint ----------------------------------------------------------------

ELSEWHERE = [
    pytest.param(sent, at, id=f"{sent.signal.name}-at-{at.signal.name}")
    for sent in WIRE.values()
    for at in WIRE.values()
    if sent is not at
]


@pytest.mark.parametrize(("sent", "at"), ELSEWHERE)
def test_protobuf_at_the_wrong_endpoint_is_refused_and_told_where_it_belongs(
    sent: SignalWire, at: SignalWire
) -> None:
    body = encoded(sent, PROTOBUF, *[record()[sent.signal]] * 3)

    with pytest.raises(Refusal) as refusal:
        check(body, at)
    assert refusal.value.status == 400
    name = sent.signal.name.lower()
    assert refusal.value.message.endswith(f"this looks like a {name} body; send it to {sent.path}")
    assert "a line of a log" not in refusal.value.message


def test_metrics_that_decode_as_log_records_are_refused_only_if_all_have_the_mark() -> None:
    metrics = encoded(METRICS, PROTOBUF, record()[Signal.METRICS])
    logs = encoded(LOGS, PROTOBUF, record()[Signal.LOGS])

    with pytest.raises(Refusal, match="looks like a metrics body; send it to /v1/metrics"):
        check(metrics, LOGS)
    assert check(metrics + logs, LOGS).items == 2


def test_logs_that_decode_as_metrics_without_points_are_not_dropped_in_silence() -> None:
    logs = encoded(LOGS, PROTOBUF, {"timeUnixNano": "5", "body": {"intValue": "3"}})
    METRICS.request.FromString(logs)

    with pytest.raises(Refusal, match="looks like a logs body; send it to /v1/logs"):
        check(logs, METRICS)


# --- clocks --------------------------------------------------------------------------------------

DAY: Final = 24 * 3600 * 10**9
HOUR: Final = 3600 * 10**9
CLOCKS = [
    (NOW, {}),
    (NOW - 7 * DAY, {}),
    (NOW - 7 * DAY - 1, {"time_old": 1}),
    (NOW + HOUR, {}),
    (NOW + HOUR + 1, {"time_ahead": 1}),
    (2**64 - 1, {"time_ahead": 1}),
    (946_684_800 * 10**9, {"time_old": 1}),
    (946_684_800 * 10**9 - 1, {"time_before_2000": 1}),
    (1, {"time_before_2000": 1}),
    (NOW // 10**3, {"time_in_microseconds": 1}),
    (NOW // 10**6, {"time_in_milliseconds": 1}),
    (NOW // 10**9, {"time_in_seconds": 1}),
]


@EVERY_SIGNAL
@BOTH
@pytest.mark.parametrize(("time_ns", "warnings"), CLOCKS, ids=range(len(CLOCKS)))
def test_item_of_a_time_that_no_clock_shows_is_kept_and_told(
    wire: SignalWire, encoding: Encoding, time_ns: int, warnings: dict[str, int]
) -> None:
    good, odd = record()[wire.signal], record(time_ns)[wire.signal]
    checked = check(encoded(wire, encoding, good, odd), wire, encoding)

    assert (checked.items, checked.warnings) == (2, warnings)
    assert bool(checked.message()) is bool(warnings)


@BOTH
def test_span_without_a_start_is_told_of_that_alone(encoding: Encoding) -> None:
    odd = builders.span(startTimeUnixNano="0")
    checked = check(encoded(TRACES, encoding, builders.span(), odd), TRACES, encoding)

    assert checked.warnings == {"start_time_missing": 1}


@BOTH
def test_log_record_is_as_old_as_what_it_has_of_times(encoding: Encoding) -> None:
    def warnings(**times: str) -> dict[str, int]:
        return dict(check(encoded(LOGS, encoding, times), LOGS, encoding).warnings)

    assert warnings(observedTimeUnixNano="5") == {"time_before_2000": 1}
    assert warnings(timeUnixNano=str(NOW), observedTimeUnixNano="5") == {}
    assert warnings() == {}


def test_seconds_are_named() -> None:
    odd = record(NOW // 10**9)[Signal.LOGS]
    message = check(encoded(LOGS, PROTOBUF, odd), LOGS).message()

    assert message == "times that seem to be in seconds (1): OTLP wants nanoseconds since 1970"


def test_text_that_is_not_utf8_is_kept_and_told() -> None:
    body = encoded(TRACES, PROTOBUF, builders.span(name="NAME")).replace(b"NAME", b"N\xffME")
    checked = check(body, TRACES)
    (piece,) = checked.request.pieces(2**40)

    assert checked.warnings == {"utf8_broken": 1}
    assert "N\ufffdME" in transcode.to_json(piece.body, Signal.TRACES).decode()


# --- what the schema does not know ----------------------------------------------------------------

FORMER: Final = b"\xc2\x3e"  # the tag of field 1000


def former(wire: SignalWire, *records: builders.Json) -> bytes:
    """A body whose scopes stand under the number that they had until OTLP 0.15."""
    body = encoded(wire, PROTOBUF, *records)
    (entry,) = getattr(wire.request.FromString(body), wire.lists[PROTOBUF].entries)
    (scope,) = getattr(entry, wire.lists[PROTOBUF].scopes)
    return delimited(b"\x0a", delimited(FORMER, scope.SerializeToString()) + b"\x38\x07")


@EVERY_SIGNAL
def test_scopes_under_their_former_number_are_read(wire: SignalWire) -> None:
    records = [record()[wire.signal]] * 2
    checked = check(former(wire, *records) + encoded(wire, PROTOBUF, *records), wire)
    (piece,) = checked.request.pieces(2**40)

    assert (checked.items, piece.items, checked.message()) == (4, 4, "")
    first, second = getattr(wire.request.FromString(piece.body), wire.lists[PROTOBUF].entries)
    # The unknown field 7 beside them stays.
    assert first.SerializeToString() == second.SerializeToString() + b"\x38\x07"


def test_scopes_under_their_former_number_are_too_heavy_for_the_loop() -> None:
    with pytest.raises(TooHeavy):
        check(former(TRACES, builders.span()), TRACES, is_bounded=True)


@EVERY_SIGNAL
def test_field_1000_that_is_no_scope_stays_what_it_is(wire: SignalWire) -> None:
    odd = FORMER + b"\x03new"
    body = encoded(wire, PROTOBUF, record()[wire.signal])
    (entry,) = getattr(wire.request.FromString(body), wire.lists[PROTOBUF].entries)
    sent = delimited(b"\x0a", entry.SerializeToString() + odd)
    checked = check(sent, wire)
    (piece,) = checked.request.pieces(2**40)

    assert (piece.body, checked.message()) == (sent, "")


@EVERY_SIGNAL
def test_unknown_fields_of_a_body_without_items_are_told(wire: SignalWire) -> None:
    entries, scopes, _ = wire.lists[Encoding.JSON]
    scope = delimited(b"\x12", b"\x50\x01")
    body = delimited(b"\x0a", scope + b"\x38\x07") + b"\x30\x01"
    checked = check(body, wire)

    assert (checked.items, checked.warnings) == (0, {"unknown_key": 3})
    assert checked.message().startswith(
        f"no {wire.item} was found in it; keys at the top: {entries}, field 6; 3 keys that OTLP"
        f" does not know were ignored with all they hold (field 10 of {entries}[0].{scopes}[0],"
        f" field 7 of {entries}[0], field 6 of the request)"
    )


@EVERY_SIGNAL
def test_unknown_fields_of_an_envelope_that_is_left_out_are_told(wire: SignalWire) -> None:
    body = encoded(wire, PROTOBUF, record()[wire.signal]) + delimited(b"\x0a", b"\x38\x07")
    prepared = Prepare(PrepareSettings(), clock_ns=lambda: NOW)(
        body, PROTOBUF, Sender("::1"), signal=wire.signal
    )

    assert (prepared.items, prepared.warnings) == (1, {"unknown_key": 1})
    assert f"field 7 of {wire.lists[Encoding.JSON].entries}[1]" in prepared.message


@pytest.mark.parametrize(("bytes_", "told"), [(2048, "field 7 of"), (2049, "many fields of")])
def test_unknown_fields_of_much_that_is_left_out_are_told_as_many(bytes_: int, told: str) -> None:
    entry = delimited(b"\x3a", bytes(bytes_ - 3))
    assert len(entry) == bytes_
    checked = check(delimited(b"\x0a", entry), TRACES)

    assert checked.warnings == {"unknown_key": 1}
    assert f"({told} resourceSpans[0])" in checked.message()


@EVERY_SIGNAL
def test_unknown_field_of_the_request_itself_survives_a_cut(wire: SignalWire) -> None:
    body = encoded(wire, PROTOBUF, *[record()[wire.signal]] * 5) + b"\x30\x01"
    pieces = check(body, wire).request.pieces(60)

    assert len(pieces) > 1
    assert [piece.body.endswith(b"\x30\x01") for piece in pieces] == [True] + [False] * (
        len(pieces) - 1
    )


@EVERY_SIGNAL
@pytest.mark.parametrize("body", [b"", b"\x0a\x00", b"\x0a\x02\x12\x00"])
def test_empty_envelopes_are_no_reason_for_a_word(wire: SignalWire, body: bytes) -> None:
    checked = check(body, wire)

    assert (checked.items, checked.message()) == (0, "")
