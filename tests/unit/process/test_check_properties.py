"""The check of any items: nothing is lost, and both encodings come to the same."""

import json
from typing import Any, Final

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from relay.model.errors import Refusal, TooHeavy
from relay.model.records import Encoding
from relay.otlp import transcode
from relay.otlp.signals import LOGS, METRICS, WIRE, SignalWire
from relay.process.check.rejections import AllItemsRejected
from relay.process.check.weight import MOST_FLAWED, MOST_MESSAGES
from relay.process.prepare import Checked, Prepare, PrepareSettings
from tests.support.examples import examples
from tests.support.otlp_messages import messages_of

NOW: Final = 1767225605 * 10**9
LIMIT: Final = 2**40
NOT_SPANS = pytest.mark.parametrize("wire", [LOGS, METRICS], ids=["logs", "metrics"])
EVERY_SIGNAL = pytest.mark.parametrize("wire", WIRE.values(), ids=[signal.name for signal in WIRE])
# Attribute keys are looked at in protobuf in the first spans only.
OF_ONE_ENCODING: Final = {"attribute_key_empty", "attribute_key_duplicate", "string_index"}


def check(
    body: bytes, wire: SignalWire, encoding: Encoding = Encoding.PROTOBUF, **more: bool
) -> Checked:
    prepare = Prepare(PrepareSettings(), clock_ns=lambda: NOW)
    return prepare.check(body, encoding, signal=wire.signal, **more)


def outcome(body: bytes, wire: SignalWire, encoding: Encoding) -> dict[str, Any]:
    """Everything that came of a body, as OTLP/JSON."""
    try:
        checked = check(body, wire, encoding)
    except AllItemsRejected as refusal:
        return {"rejected": refusal.counts, "kept": []}
    warnings = {
        code: times for code, times in checked.warnings.items() if code not in OF_ONE_ENCODING
    }
    kept = b",".join(piece.body for piece in checked.request.pieces(LIMIT))
    if encoding is Encoding.PROTOBUF:
        kept = transcode.to_json(kept, wire.signal)
    return {
        "rejected": checked.rejections.counts,
        "kept": json.loads(b"[%b]" % kept),
        "items": checked.items,
        "warnings": warnings,
        "paths": [(each.reason, each.path, each.items) for each in checked.rejected],
    }


def items_of(message: Any, wire: SignalWire) -> int:
    entries, scopes, records = wire.lists[Encoding.PROTOBUF]
    found = [
        record
        for entry in getattr(message, entries)
        for scope in getattr(entry, scopes)
        for record in getattr(scope, records)
    ]
    if wire is not METRICS:
        return len(found)
    kinds = [(metric, metric.WhichOneof("data")) for metric in found]
    return sum(len(getattr(metric, kind).data_points) for metric, kind in kinds if kind)


def clear_what_differs(message: Any) -> None:
    """String indices, which are for profiles, and ids that are no text: in JSON these are hex."""
    for name, size in (("trace_id", 16), ("span_id", 8)):
        if len(getattr(message, name, b"")) not in (0, size):
            message.ClearField(name)
    if isinstance(message, AnyValue) and message.WhichOneof("value") == "string_value_strindex":
        message.Clear()
    for field, held in message.ListFields():
        if field.message_type is not None:
            for each in held if field.is_repeated else [held]:
                clear_what_differs(each)


@NOT_SPANS
@settings(max_examples=examples(80), deadline=None)
@given(data=st.data())
def test_both_encodings_come_to_the_same(wire: SignalWire, data: st.DataObject) -> None:
    message = data.draw(messages_of(wire.request.DESCRIPTOR))
    clear_what_differs(message)
    body = message.SerializeToString()
    as_json = wire.json_request % transcode.to_json(body, wire.signal)

    assert outcome(body, wire, Encoding.PROTOBUF) == outcome(as_json, wire, Encoding.JSON)


@EVERY_SIGNAL
@settings(max_examples=examples(80), deadline=None)
@given(data=st.data())
def test_every_item_is_kept_or_rejected_and_what_is_kept_stays_so(
    wire: SignalWire, data: st.DataObject
) -> None:
    message = data.draw(messages_of(wire.request.DESCRIPTOR))
    body = message.SerializeToString()
    try:
        checked = check(body, wire)
    except AllItemsRejected as refusal:
        counts = refusal.counts
    else:
        counts = {"kept": checked.items, **checked.rejections.counts}
    assert sum(counts.values()) == items_of(message, wire)
    if "kept" not in counts:
        return

    pieces = checked.request.pieces(data.draw(st.integers(50, 3000)))
    again = [check(piece.body, wire) for piece in pieces]
    assert [each.items for each in again] == [piece.items for piece in pieces]
    assert sum(each.items for each in again) == checked.items
    kept = [piece.body for each in again for piece in each.request.pieces(LIMIT)]
    assert [wire.request.FromString(each) for each in kept] == [
        wire.request.FromString(piece.body) for piece in pieces
    ] or any(b"NaN" in transcode.to_json(each, wire.signal) for each in kept)


@EVERY_SIGNAL
@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_damaged_protobuf_is_kept_rejected_or_refused_and_nothing_else(
    wire: SignalWire, data: st.DataObject
) -> None:
    body = data.draw(messages_of(wire.request.DESCRIPTOR)).SerializeToString()
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(body)))
        body = (
            body[:at] + data.draw(st.binary(max_size=4)) + body[at + data.draw(st.integers(0, 4)) :]
        )
    try:
        checked = check(body, wire)
    except Refusal:
        return
    pieces = checked.request.pieces(300)

    assert sum(piece.items for piece in pieces) == checked.items
    for fragment in (*(piece.body for piece in pieces), *(r.body for r in checked.rejected)):
        wire.request.FromString(fragment)
    try:
        whole = wire.request.FromString(body)
    except DecodeError:
        return
    assert checked.items + len(checked.rejections) == items_of(whole, wire)


# --- bounds of what the event loop looks at -------------------------------------------------------


def points(count: int, exemplars: int = 0) -> bytes:
    message: Any = METRICS.request()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    for _ in range(count):
        metric.gauge.data_points.add(time_unix_nano=NOW, as_int=1)
    for _ in range(exemplars):
        metric.gauge.data_points[0].exemplars.add(as_int=1)
    body: bytes = message.SerializeToString()
    return body


def log_records(count: int, **members: Any) -> bytes:
    message: Any = LOGS.request()
    scope = message.resource_logs.add().scope_logs.add()
    for _ in range(count):
        scope.log_records.add(**{"time_unix_nano": NOW} | members)
    body: bytes = message.SerializeToString()
    return body


@pytest.mark.parametrize(
    ("wire", "few", "many"),
    [
        (METRICS, points(MOST_MESSAGES), points(MOST_MESSAGES + 1)),
        (METRICS, points(1, MOST_FLAWED), points(1, MOST_FLAWED + 1)),
        (LOGS, log_records(MOST_MESSAGES), log_records(MOST_MESSAGES + 1)),
        (
            LOGS,
            log_records(MOST_FLAWED, trace_id=b"odd"),
            log_records(MOST_FLAWED + 1, trace_id=b"odd"),
        ),
    ],
    ids=["points", "exemplars", "log records", "log records with odd ids"],
)
def test_many_items_are_too_heavy_only_where_that_is_asked(
    wire: SignalWire, few: bytes, many: bytes
) -> None:
    with pytest.raises(TooHeavy):
        check(many, wire, is_bounded=True)
    assert check(many, wire).items
    assert check(few, wire, is_bounded=True).items
