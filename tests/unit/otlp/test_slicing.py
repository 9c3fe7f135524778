"""Stretches of spans out of kept fragments, held against whole decoding."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.model.records import Encoding, Signal
from relay.otlp.ids import stretches_of_trace, trace_ids_of
from relay.otlp.signals import METRICS, WIRE, SignalWire
from relay.otlp.split import slice_items
from relay.otlp.transcode import TranscodeError, to_json, to_protobuf
from tests.support.builders import protobuf_twin, request, requests, span, to_body
from tests.support.otlp_messages import messages_of

JSON, PROTOBUF = Encoding.JSON, Encoding.PROTOBUF
# Field 100 of any message, length-delimited: unknown to every schema here.
UNKNOWN = b"\xa2\x06\x03new"


def fragment_of(made: Any) -> bytes:
    return to_body(made["resourceSpans"])[1:-1]


def flat_json(fragment: bytes) -> list[str]:
    """Each span with all that stands around it, as text."""
    return [
        json.dumps([entry.get("resource"), entry.get("schemaUrl"), scope.get("scope"),
                    scope.get("schemaUrl"), one], sort_keys=True)
        for entry in json.loads(b"[%b]" % fragment)
        for scope in entry.get("scopeSpans", [])
        for one in scope.get("spans", [])
    ]  # fmt: skip


def flat_protobuf(fragment: bytes) -> list[tuple[bytes, ...]]:
    parsed = ExportTraceServiceRequest.FromString(fragment)
    return [
        (
            entry.resource.SerializeToString(deterministic=True),
            entry.schema_url.encode(),
            scope.scope.SerializeToString(deterministic=True),
            scope.schema_url.encode(),
            one.SerializeToString(deterministic=True),
        )
        for entry in parsed.resource_spans
        for scope in entry.scope_spans
        for one in scope.spans
    ]


@given(requests, st.integers(0, 12), st.integers(0, 12))
def test_stretch_of_json_is_those_spans_with_all_around_them(
    made: Any, first: int, count: int
) -> None:
    fragment = fragment_of(made)

    cut = slice_items(fragment, JSON, first, count, Signal.TRACES)

    assert flat_json(cut) == flat_json(fragment)[first : first + count]


@given(requests, st.integers(0, 12), st.integers(0, 12))
def test_stretch_of_protobuf_is_those_spans_with_all_around_them(
    made: Any, first: int, count: int
) -> None:
    fragment = protobuf_twin(made).SerializeToString()

    cut = slice_items(fragment, PROTOBUF, first, count, Signal.TRACES)

    assert flat_protobuf(cut) == flat_protobuf(fragment)[first : first + count]


@given(requests, st.integers(0, 12), st.sampled_from([JSON, PROTOBUF]))
def test_two_stretches_together_are_the_whole(made: Any, border: int, encoding: Encoding) -> None:
    if encoding is JSON:
        fragment, flat = fragment_of(made), flat_json
        left, right = (
            slice_items(fragment, JSON, 0, border, Signal.TRACES),
            slice_items(fragment, JSON, border, 99, Signal.TRACES),
        )
        assert flat(left) + flat(right) == flat(fragment)
    else:
        fragment = protobuf_twin(made).SerializeToString()
        left = slice_items(fragment, PROTOBUF, 0, border, Signal.TRACES)
        right = slice_items(fragment, PROTOBUF, border, 99, Signal.TRACES)
        assert flat_protobuf(left + right) == flat_protobuf(fragment)


def test_stretch_leaves_out_what_holds_no_span_of_it() -> None:
    one, two = request(span(name="a")), request(span(name="b"), service="other")
    both = {"resourceSpans": one["resourceSpans"] + two["resourceSpans"]}

    assert slice_items(fragment_of(both), JSON, 1, 1, Signal.TRACES) == fragment_of(two)
    twin = protobuf_twin(both).SerializeToString()
    assert (
        slice_items(twin, PROTOBUF, 1, 1, Signal.TRACES) == protobuf_twin(two).SerializeToString()
    )


def test_envelopes_of_nothing_are_left_out_wherever_they_stand() -> None:
    empty = b'{"resource":{},"schemaUrl":"u"}'
    for fragment in (empty, empty + b"," + around(to_body(span())), around(to_body(span()))):
        wanted = around(to_body(span())) if b"spans" in fragment else b""
        assert slice_items(fragment, JSON, 0, 9, Signal.TRACES) == wanted


def test_stretch_of_protobuf_keeps_unknown_fields_at_every_level() -> None:
    def field(tag: bytes, payload: bytes) -> bytes:
        return tag + bytes([len(payload)]) + payload

    def made(name: bytes) -> bytes:
        return field(b"\x12", field(b"\x2a", name) + UNKNOWN)

    scope = field(b"\x12", made(b"a") + made(b"b") + UNKNOWN)
    fragment = field(b"\x0a", scope + UNKNOWN)

    cut = slice_items(fragment, PROTOBUF, 1, 1, Signal.TRACES)

    assert cut.count(UNKNOWN) == 3
    assert (b"a" + UNKNOWN in cut, b"b" + UNKNOWN in cut) == (False, True)


def deep_span(levels: int) -> bytes:
    """A span with a value of that many levels, written as text: encoders recurse, too."""
    value = b'{"kvlistValue":{"values":[{"key":"k","value":' * levels
    value += b'{"stringValue":"{}"}' + b"}]}}" * levels
    return b'{"traceId":"%b","attributes":[{"key":"k","value":%b}]}' % (b"cd" * 16, value)


def around(*spans: bytes) -> bytes:
    return b'{"scopeSpans":[{"spans":[%b]}]}' % b",".join(spans)


@pytest.mark.parametrize("levels", [30, 31, 200, 400])
def test_stretch_of_deep_json_is_the_same_text(levels: int) -> None:
    """Deeper than a decoder goes: 200 levels are let in, four brackets each."""
    first, deep, last = to_body(span()), deep_span(levels), to_body(span(name="last"))
    fragment = around(first, deep, last)

    assert slice_items(fragment, JSON, 1, 1, Signal.TRACES) == around(deep)
    assert slice_items(fragment, JSON, 1, 2, Signal.TRACES) == around(deep, last)
    assert slice_items(fragment, JSON, 0, 1, Signal.TRACES) == around(first)


@pytest.mark.parametrize(
    ("fragment", "encoding"),
    [(b'{"nonsense":1}', JSON), (b"{", JSON), (b"\xff", JSON), (b"\xff\xff", PROTOBUF)],
)
def test_stretch_of_what_is_not_ours_is_a_transcode_error(
    fragment: bytes, encoding: Encoding
) -> None:
    with pytest.raises(TranscodeError):
        slice_items(fragment, encoding, 0, 1, Signal.TRACES)
    assert trace_ids_of(fragment, encoding, Signal.TRACES) == b""


def test_trace_ids_are_distinct_and_in_the_order_they_come() -> None:
    ids = ["ab" * 16, "01" * 16, "ab" * 16]
    made = request(*(span(traceId=one) for one in ids))
    wanted = bytes.fromhex(ids[0] + ids[1])

    assert trace_ids_of(fragment_of(made), JSON, Signal.TRACES) == wanted
    assert trace_ids_of(protobuf_twin(made).SerializeToString(), PROTOBUF, Signal.TRACES) == wanted


def test_trace_ids_of_another_length_are_left_out_and_depth_is_no_obstacle() -> None:
    odd = [to_body(span(traceId=one)) for one in ("abc", "z" * 32)]

    assert trace_ids_of(around(*odd, deep_span(400)), JSON, Signal.TRACES) == b"\xcd" * 16


def items_of(request: Any, wire: SignalWire) -> list[tuple[bytes, ...]]:
    """Each item with the envelopes around it, as an independent reader finds them."""
    lists = wire.lists[PROTOBUF]
    found: list[tuple[bytes, ...]] = []
    for entry in getattr(request, lists.entries):
        for scope in getattr(entry, lists.scopes):
            for record in getattr(scope, lists.records):
                around = (emptied(entry, lists.scopes), emptied(scope, lists.records))
                if wire is not METRICS:
                    found.append((*around, packed(record)))
                elif kind := record.WhichOneof("data"):
                    bare = type(record).FromString(packed(record))
                    getattr(bare, kind).ClearField("data_points")
                    found += [
                        (*around, packed(bare), packed(point))
                        for point in getattr(record, kind).data_points
                    ]
    return found


def packed(message: Any) -> bytes:
    made: bytes = message.SerializeToString(deterministic=True)
    return made


def emptied(message: Any, name: str) -> bytes:
    copy = type(message).FromString(message.SerializeToString())
    copy.ClearField(name)
    return packed(copy)


@pytest.mark.parametrize("encoding", [JSON, PROTOBUF])
@pytest.mark.parametrize("wire", WIRE.values(), ids=lambda wire: wire.path)
@given(data=st.data(), first=st.integers(0, 6), count=st.integers(0, 6))
def test_stretch_of_any_signal_is_those_items_with_all_around_them(
    data: st.DataObject, wire: SignalWire, encoding: Encoding, first: int, count: int
) -> None:
    request = data.draw(messages_of(wire.request.DESCRIPTOR))
    whole = slice_items(request.SerializeToString(), PROTOBUF, 0, 99, wire.signal)
    fragment = whole if encoding is PROTOBUF else to_json(whole, wire.signal)

    cut = slice_items(fragment, encoding, first, count, wire.signal)

    as_protobuf = cut if encoding is PROTOBUF else to_protobuf(cut, wire.signal)
    stretch = items_of(wire.request.FromString(as_protobuf), wire)
    assert stretch == items_of(request, wire)[first : first + count]
    assert not as_protobuf or stretch  # nothing is left around no item


def test_trace_ids_of_logs_are_those_of_their_records() -> None:
    records = [{"traceId": "ab" * 16}, {"body": {"stringValue": "x"}}, {"traceId": "cd" * 16}]
    fragment = to_body({"scopeLogs": [{"logRecords": records}]})
    wanted = b"\xab" * 16 + b"\xcd" * 16

    assert trace_ids_of(fragment, JSON, Signal.LOGS) == wanted
    assert trace_ids_of(to_protobuf(fragment, Signal.LOGS), PROTOBUF, Signal.LOGS) == wanted
    assert stretches_of_trace(fragment, JSON, Signal.LOGS, b"\xcd" * 16) == [(2, 3)]


@pytest.mark.parametrize("encoding", [JSON, PROTOBUF])
@given(ids=st.lists(st.sampled_from(["ab", "cd"]), max_size=8))
def test_stretches_of_a_trace_are_its_runs_of_items(encoding: Encoding, ids: list[str]) -> None:
    records = [{"traceId": each * 16} for each in ids]
    fragment = to_body({"scopeLogs": [{"logRecords": records}]})
    if encoding is PROTOBUF:
        fragment = to_protobuf(fragment, Signal.LOGS)

    found = stretches_of_trace(fragment, encoding, Signal.LOGS, b"\xab" * 16)

    own = [number for first, end in found for number in range(first, end)]
    assert own == [number for number, each in enumerate(ids) if each == "ab"]
    assert all(end < first for (_, end), (first, _) in itertools.pairwise(found))


def test_metrics_belong_to_no_trace() -> None:
    point = {"asInt": "1", "exemplars": [{"traceId": "ab" * 16, "asInt": "1"}]}
    metric = {"name": "m", "gauge": {"dataPoints": [point]}}
    fragment = to_body({"scopeMetrics": [{"metrics": [metric]}]})

    assert trace_ids_of(fragment, JSON, Signal.METRICS) == b""
    assert stretches_of_trace(fragment, JSON, Signal.METRICS, b"\xab" * 16) == []
