"""Bodies that the official parser refuses: what is wrong costs what it is in, and no more."""

from typing import Any, Final

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2

from relay.model.records import Encoding
from relay.otlp import protobuf_mend
from relay.otlp.json_values import Findings, Unreadable
from relay.otlp.protobuf_mend import MOST_LOOKS, ORIGINAL, Torn, mend, read_former_scopes
from relay.otlp.protobuf_writer import delimited
from relay.otlp.signals import LOGS, METRICS, TRACES, WIRE, SignalWire
from tests.support.examples import examples
from tests.support.otlp_messages import messages_of

NOT_UTF8: Final = b"a\xff\xfeb"
MENDED: Final = "a\ufffd\ufffdb"
EVERY_SIGNAL = pytest.mark.parametrize("wire", WIRE.values(), ids=[signal.name for signal in WIRE])
GAUGE = b"\x2a"


def request_of(*records: bytes, scope: bytes = b"", resource: bytes = b"") -> bytes:
    """A request with these encoded records, and fields of its scope and its resource."""
    scopes = delimited(b"\x0a", scope) + b"".join(delimited(b"\x12", each) for each in records)
    entry = delimited(b"\x0a", resource) + delimited(b"\x12", scopes)
    return delimited(b"\x0a", entry)


def item(wire: SignalWire, content: bytes) -> bytes:
    """A record that is this item, or a metric around it."""
    if wire is METRICS:
        return delimited(b"\x0a", b"m") + delimited(GAUGE, delimited(b"\x0a", content))
    return content


def place(wire: SignalWire, number: int) -> tuple[int, ...]:
    return (0, 0, number, 0) if wire is METRICS else (0, 0, number)


def records_of(message: Any, wire: SignalWire) -> list[Any]:
    entries, scopes, records = wire.lists[Encoding.PROTOBUF]
    (entry,) = getattr(message, entries)
    (scope,) = getattr(entry, scopes)
    found = list(getattr(scope, records))
    if wire is not METRICS:
        return found
    return [point for each in found for point in each.gauge.data_points]


def kept(message: Any, wire: SignalWire) -> list[bytes]:
    return [each.SerializeToString() for each in records_of(message, wire)]


def path(wire: SignalWire, number: int) -> str:
    entries, scopes, records = wire.lists[Encoding.JSON]
    point = ".gauge.dataPoints[0]" if wire is METRICS else ""
    return f"{entries}[0].{scopes}[0].{records}[{number}]{point}"


def item_of(unreadable: Unreadable, wire: SignalWire) -> Any:
    """What is kept of it, as the official class reads it."""
    (item,) = records_of(wire.request.FromString(request_of(unreadable.tree)), wire)
    return item


def deep(levels: int) -> bytes:
    """An AnyValue of so many lists, as bytes."""
    content = b""
    for _ in range(levels):
        content = delimited(b"\x2a", delimited(b"\x0a", content))
    return content


GOOD: Final = {
    TRACES.signal: b"\x2a\x02ok",
    LOGS.signal: b"\x1a\x02ok",
    METRICS.signal: b"\x40\x07",
}
# By number, as each item has them: a list of attributes.
ATTRIBUTES: Final = {TRACES.signal: b"\x4a", LOGS.signal: b"\x32", METRICS.signal: b"\x3a"}
TORN: Final = {
    "length": b"\x0a\x7fshort",
    "no such wire type": b"\x0f",
    "group": b"\x0b",
    "field 0": b"\x02\x00",
    "varint": b"\x08" + b"\xff" * 10,
    "fixed": b"\x0d\x01",
}


@EVERY_SIGNAL
@pytest.mark.parametrize("flaw", [*TORN, "depth"])
def test_item_that_cannot_be_read_is_broken_alone(wire: SignalWire, flaw: str) -> None:
    good, tag = GOOD[wire.signal], ATTRIBUTES[wire.signal]
    value = delimited(b"\x0a", b"k") + delimited(b"\x12", deep(200))
    bad = good + (delimited(tag, value) if flaw == "depth" else TORN[flaw])
    body = request_of(item(wire, good), item(wire, bad), item(wire, good))
    with pytest.raises(DecodeError):
        wire.request.FromString(body + b"\x00")
    findings = Findings()
    message = mend(body, wire, findings)
    (unreadable,) = findings.unreadable

    assert kept(message, wire) == [good, good]
    assert (unreadable.place, unreadable.path) == (place(wire, 1), path(wire, 1))
    # What can be read of it is told, and all of it beside that.
    broken = item_of(unreadable, wire)
    assert broken.attributes[-1].key == ORIGINAL
    assert broken.attributes[-1].value.bytes_value == bad
    broken.ClearField("attributes")
    assert broken.SerializeToString() == good


@EVERY_SIGNAL
def test_text_that_is_not_utf8_is_mended_wherever_it_stands(wire: SignalWire) -> None:
    pair = delimited(b"\x0a", NOT_UTF8) + delimited(b"\x12", delimited(b"\x0a", NOT_UTF8))
    held = item(wire, GOOD[wire.signal] + delimited(ATTRIBUTES[wire.signal], pair))
    resource = delimited(b"\x0a", pair)
    scope = delimited(b"\x0a", NOT_UTF8)
    url = delimited(b"\x1a", NOT_UTF8)
    body = request_of(held, held, scope=scope, resource=resource)
    body = delimited(b"\x0a", body[body.index(b"\x0a", 1) :] + url)
    findings = Findings()
    message: Any = mend(body, wire, findings)

    assert not findings.unreadable
    assert findings.warnings == {"utf8_broken": 8}
    wanted = KeyValue(key=MENDED, value=AnyValue(string_value=MENDED))
    assert [each.attributes[0] for each in records_of(message, wire)] == [wanted] * 2
    (entry,) = getattr(message, wire.lists[Encoding.PROTOBUF].entries)
    assert (entry.resource.attributes[0], entry.schema_url) == (wanted, MENDED)
    assert getattr(entry, wire.lists[Encoding.PROTOBUF].scopes)[0].scope.name == MENDED


@EVERY_SIGNAL
def test_what_cannot_be_read_around_items_is_left_out_and_told(wire: SignalWire) -> None:
    good = GOOD[wire.signal]
    odd = delimited(b"\x0a", delimited(b"\x0a", b"odd") + delimited(b"\x12", deep(200)))
    usual = delimited(b"\x0a", delimited(b"\x0a", b"k"))
    findings = Findings()
    message: Any = mend(request_of(item(wire, good), resource=usual + odd), wire, findings)

    (entry,) = getattr(message, wire.lists[Encoding.PROTOBUF].entries)
    assert [each.key for each in entry.resource.attributes] == ["k", "odd"]
    assert (findings.warnings, findings.unreadable) == ({"envelope_unreadable": 1}, [])
    (told,) = findings.places["envelope_unreadable"]
    assert told == f"{wire.lists[Encoding.JSON].entries}[0].resource"
    assert kept(message, wire) == [good]


def test_metric_whose_points_cannot_be_told_apart_counts_as_one_broken_point() -> None:
    torn = delimited(b"\x0a", b"m") + delimited(GAUGE, b"\x0a\x7fshort")
    good = item(METRICS, GOOD[METRICS.signal])
    findings = Findings()
    message: Any = mend(request_of(good, torn), METRICS, findings)

    (unreadable,) = findings.unreadable
    assert (unreadable.place, unreadable.path) == (
        (0, 0, 1),
        path(METRICS, 1).partition(".gauge")[0],
    )
    assert item_of(unreadable, METRICS).attributes[0].value.bytes_value == torn
    assert kept(message, METRICS) == [GOOD[METRICS.signal]]


def test_list_of_numbers_that_is_torn_breaks_its_point() -> None:
    # A time, and bucket_counts, eight bytes each.
    torn = b"\x19" + (5).to_bytes(8, "little") + delimited(b"\x32", b"1234567")
    histogram = delimited(b"\x4a", delimited(b"\x0a", torn))
    findings = Findings()
    mend(request_of(delimited(b"\x0a", b"name") + histogram), METRICS, findings)

    (unreadable,) = findings.unreadable
    assert unreadable.path.endswith("metrics[0].histogram.dataPoints[0]")
    metric = metrics_pb2.Metric.FromString(unreadable.tree)
    assert metric.name == "name"
    (point,) = metric.histogram.data_points
    assert (point.time_unix_nano, list(point.bucket_counts)) == (5, [])
    assert point.attributes[0].value.bytes_value == torn


@EVERY_SIGNAL
@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"not protobuf",
        b'{"resourceSpans":[]}',
        b"\x0a\x05\x00",
        b"\x0a\x02\x12\x09",
    ],
)
def test_what_has_no_entries_and_scopes_stays_refused(wire: SignalWire, body: bytes) -> None:
    with pytest.raises(Torn):
        mend(body, wire, Findings())


def test_looks_are_counted() -> None:
    """Two bytes a field, in an item that is broken at its end: seconds of work, were it not so."""
    body = request_of(b"\x08\x01" * MOST_LOOKS + b"\x0f")

    with pytest.raises(Torn):
        mend(body, TRACES, Findings())


def test_as_many_looks_as_there_may_be_are_enough_and_one_less_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = request_of(delimited(b"\x2a", NOT_UTF8), delimited(b"\x2a", b"ok"))
    looks = 0

    def count(_walk: Any) -> None:
        nonlocal looks
        looks += 1

    with monkeypatch.context() as counting:
        counting.setattr(protobuf_mend._Walk, "_look", count)
        mend(body, TRACES, Findings())
    assert looks > 5
    monkeypatch.setattr(protobuf_mend, "MOST_LOOKS", looks)
    mend(body, TRACES, Findings())
    monkeypatch.setattr(protobuf_mend, "MOST_LOOKS", looks - 1)
    with pytest.raises(Torn):
        mend(body, TRACES, Findings())


def test_parser_that_has_no_memory_left_says_nothing_of_the_body() -> None:
    class Failing:
        DESCRIPTOR = TRACES.request.DESCRIPTOR

        @staticmethod
        def FromString(_body: bytes) -> None:  # noqa: N802 - as in protobuf
            raise DecodeError("Arena alloc failed")

    with pytest.raises(MemoryError):
        mend(request_of(b""), TRACES._replace(request=Failing), Findings())  # type: ignore[arg-type]


@pytest.mark.parametrize(("levels", "is_whole"), [(47, True), (48, False)])
def test_item_with_a_broken_text_may_be_as_deep_as_any(levels: int, is_whole: bool) -> None:
    value = delimited(b"\x0a", b"k") + delimited(b"\x12", deep(levels))
    span = delimited(b"\x0a", bytes(range(16))) + delimited(b"\x2a", NOT_UTF8)
    findings = Findings()
    message: Any = mend(request_of(span + delimited(b"\x4a", value)), TRACES, findings)

    found = records_of(message, TRACES) or [item_of(findings.unreadable[0], TRACES)]
    assert bool(findings.unreadable) is not is_whole
    assert [each.name for each in found] == [MENDED]
    assert [each.key for each in found[0].attributes] == ["k", ORIGINAL][: 1 if is_whole else 2]
    for each in findings.unreadable:
        assert each.trace_id == bytes(range(16)).hex()


def test_depth_costs_no_stack() -> None:
    levels = 20_000
    value = delimited(b"\x0a", b"k") + delimited(b"\x12", deep(levels))
    findings = Findings()
    mend(request_of(delimited(b"\x4a", value)), TRACES, findings)

    assert [each.place for each in findings.unreadable] == [(0, 0, 0)]


@EVERY_SIGNAL
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_damage_within_one_item_costs_that_item_at_most(
    wire: SignalWire, data: st.DataObject
) -> None:
    """Any bytes in an item's place: its neighbours are what they were."""
    descriptor: Any = metrics_pb2.NumberDataPoint.DESCRIPTOR
    if wire is not METRICS:
        descriptor = wire.request.DESCRIPTOR
        for name in wire.lists[Encoding.PROTOBUF]:
            descriptor = descriptor.fields_by_name[name].message_type
    whole = [data.draw(messages_of(descriptor)).SerializeToString() for _ in range(3)]
    at = data.draw(st.integers(0, len(whole[1])))
    end = at + data.draw(st.integers(0, 3))
    damaged = whole[1][:at] + data.draw(st.binary(max_size=4)) + whole[1][end:]
    body = request_of(*(item(wire, each) for each in (whole[0], damaged, whole[2])))
    findings = Findings()
    first, *others = records_of(mend(body, wire, findings), wire)

    assert [each.place for each in findings.unreadable] == [place(wire, 1)] * (2 - len(others))
    for found, sent in ((first, whole[0]), (others[-1], whole[2])):
        same = type(found).FromString(sent)
        assert found.SerializeToString(deterministic=True) == (
            same.SerializeToString(deterministic=True)
        )


@EVERY_SIGNAL
def test_scopes_under_their_former_number_are_read_where_there_are_no_others(
    wire: SignalWire,
) -> None:
    scope = delimited(b"\x0a", b"") + delimited(b"\x12", item(wire, GOOD[wire.signal]))
    former, usual = delimited(b"\xc2\x3e", scope), delimited(b"\x12", scope)
    pair = delimited(b"\x0a", b"k") + delimited(b"\x12", delimited(b"\x0a", b"v"))
    around = delimited(b"\x0a", delimited(b"\x0a", pair)) + delimited(b"\x1a", b"url")
    odd = b"\xc0\x3e\x07"  # that number, and no message
    message: Any = wire.request.FromString(
        b"".join(delimited(b"\x0a", each) for each in (around + former + odd, usual + former))
    )
    read_former_scopes(message, wire)

    entries, scopes, _records = wire.lists[Encoding.PROTOBUF]
    first, second = getattr(message, entries)
    assert [each.SerializeToString() for each in getattr(first, scopes)] == [scope]
    assert [each.key for each in first.resource.attributes] == ["k"]
    assert (first.schema_url, len(getattr(second, scopes))) == ("url", 1)
    assert first.SerializeToString().endswith(odd)
    assert second.SerializeToString() == usual + former


def test_resource_with_a_field_of_no_number_at_all_is_left_out_and_told() -> None:
    """Its tag takes ten bytes: the official parser reads nothing of what it is in."""
    odd = b"\x80" * 9 + b"\x01\x00"
    usual = delimited(b"\x0a", delimited(b"\x0a", b"k"))
    good = GOOD[TRACES.signal]
    findings = Findings()
    message: Any = mend(request_of(good, resource=usual + odd), TRACES, findings)

    assert not message.resource_spans[0].HasField("resource")
    assert findings.warnings == {"envelope_unreadable": 1}
    assert kept(message, TRACES) == [good]


@pytest.mark.parametrize("levels", [48, 49])
def test_record_is_broken_for_its_depth_just_where_the_official_parser_gives_up(
    levels: int,
) -> None:
    body = delimited(b"\x2a", deep(levels))
    findings = Findings()
    try:
        LOGS.request.FromString(request_of(body))
        is_read = True
    except DecodeError:
        is_read = False
    mend(request_of(delimited(b"\x1a", NOT_UTF8) + body), LOGS, findings)

    assert is_read is (levels == 48)
    assert (not findings.unreadable) is is_read
