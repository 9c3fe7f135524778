"""Protobuf bodies: what survives, what is marked, what is refused, how a request is cut."""

import math
from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2

from relay.model.errors import Refusal, TooHeavy
from relay.model.records import BodyFlag, Encoding
from relay.otlp.json_values import Findings
from relay.otlp.protobuf import ProtobufRequest, has_special_double, parse, settle
from relay.otlp.resources import ResourceCache
from relay.otlp.signals import METRICS, TRACES, WIRE, SignalWire
from tests.support import builders
from tests.support.examples import examples
from tests.support.otlp_messages import messages_of

LIMIT = 2**40
# Field 1000 as bytes: nobody knows it.
UNKNOWN = b"\xc2\x3e\x03new"


def decode(body: bytes, cache: ResourceCache) -> ProtobufRequest:
    return settle(parse(body, TRACES), body, cache, TRACES, Findings())


def body_of(made: builders.Json) -> bytes:
    return builders.protobuf_twin(made).SerializeToString()


def with_unknown_fields() -> ExportTraceServiceRequest:
    message = builders.protobuf_twin(builders.request(*[builders.span() for _ in range(20)]))
    entry = message.resource_spans[0]
    for inner in (entry.resource, entry.scope_spans[0].scope, *entry.scope_spans[0].spans):
        inner.MergeFromString(UNKNOWN)
    entry.scope_spans[0].MergeFromString(UNKNOWN)
    entry.MergeFromString(UNKNOWN)
    return message


@settings(max_examples=examples(40), deadline=None)
@given(made=builders.requests)
def test_valid_request_is_relayed_as_it_came(made: builders.Json) -> None:
    traces = decode(body_of(made), ResourceCache())
    body = b"".join(piece.body for piece in traces.pieces(LIMIT))

    assert body == (body_of(made) if builders.spans_of(made) else b"")


def test_unknown_fields_survive_whole_and_cut() -> None:
    message = with_unknown_fields()
    traces = decode(message.SerializeToString(), ResourceCache())
    whole, cut = traces.pieces(LIMIT), traces.pieces(300)

    assert ExportTraceServiceRequest.FromString(whole[0].body) == message
    assert whole[0].body.count(UNKNOWN) == 24
    assert len(cut) > 1
    assert all(piece.body.count(UNKNOWN) == piece.items + 4 for piece in cut)


FRAMES = 24  # four tags with their lengths around a span: estimated, never too small


@settings(max_examples=examples(40), deadline=None)
@given(made=builders.requests, limit=st.integers(150, 1000))
def test_pieces_are_within_the_limit_and_lose_nothing(made: builders.Json, limit: int) -> None:
    traces = decode(body_of(made), ResourceCache())
    pieces = traces.pieces(limit)

    sizes = iter([span.ByteSize() for span in traces.records])
    for piece in pieces:
        around = len(piece.body) - sum(next(sizes) for _ in range(piece.items))
        assert len(piece.body) <= max(limit, 2 * (around + FRAMES)) or piece.items == 1
    placed = [
        (entry.resource, entry.schema_url, scope.scope, scope.schema_url, span)
        for piece in pieces
        for entry in ExportTraceServiceRequest.FromString(piece.body).resource_spans
        for scope in entry.scope_spans
        for span in scope.spans
    ]
    expected = [
        (entry.resource, entry.schema_url, scope.scope, scope.schema_url, span)
        for entry in builders.protobuf_twin(made).resource_spans
        for scope in entry.scope_spans
        for span in scope.spans
    ]
    assert [_bytes(place) for place in placed] == [_bytes(place) for place in expected]


def _bytes(place: tuple[object, ...]) -> list[object]:
    """Messages as bytes, in which NaN is equal to itself."""
    return [
        part if isinstance(part, str) else part.SerializeToString()  # type: ignore[attr-defined]
        for part in place
    ]


def test_piece_tells_what_it_holds() -> None:
    other = "11" * 16
    made = builders.request(builders.span(), builders.span(), builders.span(traceId=other))
    made["resourceSpans"] += builders.request(builders.span(), service="cart")["resourceSpans"]
    (piece,) = decode(body_of(made), ResourceCache()).pieces(LIMIT)

    assert piece.encoding is Encoding.PROTOBUF
    assert piece.items == 4
    assert piece.trace_ids == bytes.fromhex(builders.TRACE_ID + other)
    assert piece.services == ("shop", "cart")


@given(value=builders.any_values)
def test_special_doubles_are_marked_at_any_depth_and_only_they(value: builders.Json) -> None:
    made = builders.request(builders.span(events=[{"attributes": [{"key": "k", "value": value}]}]))
    is_special = any(name in str(value) for name in ("'NaN'", "'Infinity'", "'-Infinity'"))
    is_text = "stringValue" in str(value) or "key" in str(value)
    flags = decode(body_of(made), ResourceCache()).findings.flags

    if not (is_special and is_text):  # the name may then stand in a text
        assert (flags == BodyFlag.SPECIAL_DOUBLES) == is_special


def test_search_for_special_doubles_gives_up_beyond_what_it_may_look_at() -> None:
    message = ExportTraceServiceRequest()
    entry = message.resource_spans.add()
    entry.resource.attributes.add(key="r")  # a list, and what it holds: two
    scope = entry.scope_spans.add()
    scope.scope.attributes.add(key="s")  # two
    span = scope.spans.add()
    span.attributes.add(key="a").value.array_value.values.add().int_value = 1  # two, one inside
    inner = span.attributes.add(key="m").value.kvlist_value  # one
    inner.values.add(key="k").value.array_value.values.add().int_value = 1  # two, one inside

    assert not has_special_double(message, TRACES, 11)
    for most_values in range(11):
        with pytest.raises(TooHeavy):
            has_special_double(message, TRACES, most_values)


@pytest.mark.parametrize("place", ["resource", "scope", "link"])
@pytest.mark.parametrize("double", ["NaN", "Infinity", "-Infinity"])
def test_special_double_is_found_wherever_attributes_are(place: str, double: str) -> None:
    attributes = [{"key": "d", "value": {"doubleValue": double}}]
    made = builders.request(builders.span(links=[{"attributes": attributes}][: place == "link"]))
    entry = made["resourceSpans"][0]
    if place == "resource":
        entry["resource"]["attributes"] += attributes
    elif place == "scope":
        entry["scopeSpans"][0]["scope"]["attributes"] = attributes

    assert decode(body_of(made), ResourceCache()).findings.flags == BodyFlag.SPECIAL_DOUBLES


@pytest.mark.parametrize("kind", ["arrayValue", "kvlistValue"])
def test_special_double_is_found_within_lists_and_maps(kind: str) -> None:
    inner: builders.Json = {"doubleValue": "NaN"}
    held = inner if kind == "arrayValue" else {"key": "k", "value": inner}
    made = builders.with_value({kind: {"values": [held]}})

    assert decode(body_of(made), ResourceCache()).findings.flags == BodyFlag.SPECIAL_DOUBLES


def test_bytes_that_only_look_like_a_special_double_are_not_marked() -> None:
    made = builders.with_value({"bytesValue": "IQAAAAAAAPh/"})

    assert decode(body_of(made), ResourceCache()).findings.flags == BodyFlag.NONE


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x0a\xff", "damaged"),
        (b"not protobuf at all", "damaged"),
        (
            body_of(builders.request(builders.span(name="naxe"))).replace(b"naxe", b"na\xffe"),
            "UTF-8",
        ),
    ],
)
def test_body_that_does_not_parse_is_refused_without_its_bytes(body: bytes, words: str) -> None:
    with pytest.raises(Refusal, match=words) as refusal:
        decode(body, ResourceCache())

    assert refusal.value.status == 400
    assert "naxe" not in refusal.value.message


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("String field contains invalid UTF-8", "a string is not UTF-8"),
        ("Exceeded the maximum depth", "it is nested too deeply: at most 100 messages"),
        ("recursion limit reached", "it is nested too deeply: at most 100 messages"),
        ("Wire format was corrupt", "its bytes are damaged, cut short, or another kind of message"),
    ],
)
def test_what_the_parser_says_is_told_in_words_of_ours(words: str, told: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(b"", failing(words))

    assert refusal.value.message == (
        f"the body is not an ExportTraceServiceRequest in protobuf: {told}"
    )


def test_parser_that_has_no_memory_left_says_nothing_of_the_body() -> None:
    """Upb tells it as a body that cannot be decoded, which would be final for the sender."""
    with pytest.raises(MemoryError):
        parse(b"", failing("Arena alloc failed"))


def failing(words: str) -> SignalWire:
    """Traces, whose parser fails with these words."""

    class Failing:
        DESCRIPTOR = TRACES.request.DESCRIPTOR

        @staticmethod
        def FromString(_body: bytes) -> None:  # noqa: N802 - as in protobuf
            raise DecodeError(words)

    return TRACES._replace(request=Failing)  # type: ignore[arg-type]


@pytest.mark.parametrize("levels", [47, 48, 3000])
def test_nesting_is_taken_as_far_as_parsers_go_and_refused_beyond(levels: int) -> None:
    value = b"\x10\x01"
    for _ in range(levels):
        array = b"\x0a" + _length(value) + value
        value = b"\x2a" + _length(array) + array
    pair = b"\x0a\x01k\x12" + _length(value) + value
    body = pair
    for tag in (b"\x4a", b"\x12", b"\x12", b"\x0a"):  # attributes, spans, scope_spans, entries
        body = tag + _length(body) + body
    if levels == 47:
        assert decode(body, ResourceCache()).records[0].attributes[0].key == "k"
        return
    with pytest.raises(Refusal, match="not an ExportTraceServiceRequest"):
        decode(body, ResourceCache())


def _length(content: bytes) -> bytes:
    size, out = len(content), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])


def test_absent_resource_stays_absent_and_an_empty_one_empty() -> None:
    entry: builders.Json = {"scopeSpans": [{"spans": [builders.span()]}]}
    entries: list[builders.Json] = [entry, entry | {"resource": {}}]
    for made in ({"resourceSpans": [one]} for one in entries):
        traces = decode(body_of(made), ResourceCache())
        (piece,) = traces.pieces(LIMIT, [traces.resources[0].normal])

        assert piece.body == body_of(made)


def test_request_is_whole_up_to_the_limit_and_cut_by_one_byte_less() -> None:
    body = body_of(builders.request(builders.span(), builders.span()))
    request = decode(body, ResourceCache())

    assert [piece.items for piece in request.pieces(len(body))] == [2]
    assert [piece.items for piece in request.pieces(len(body) - 1)] == [1, 1]
    assert [piece.items for piece in request.pieces(1)] == [1, 1]
    alone = decode(body_of(builders.request(builders.span())), ResourceCache())
    assert [piece.items for piece in alone.pieces(1)] == [1]


# --- every signal, against the official classes ---------------------------------------------------


def add_unknown(message: Message) -> None:
    """Put a field that nobody knows into a message and all that it holds, attributes aside."""
    message.MergeFromString(UNKNOWN)
    for field, held in message.ListFields():
        if field.message_type is not None and field.message_type.file is message.DESCRIPTOR.file:
            for each in held if field.is_repeated else [held]:
                add_unknown(each)


def bare(message: Any, *lists: str) -> bytes:
    """A message without what it holds."""
    alone = type(message)()
    alone.CopyFrom(message)
    for name in lists:
        alone.ClearField(name)
    whole: bytes = alone.SerializeToString(deterministic=True)
    return whole


def placed_items(message: Any, wire: SignalWire) -> list[tuple[bytes, ...]]:
    """Each item with everything around it, by our own reading of the schema."""
    entries, scopes, records = wire.lists[Encoding.PROTOBUF]
    found: list[tuple[bytes, ...]] = []
    for entry in getattr(message, entries):
        for scope in getattr(entry, scopes):
            around = (bare(entry, scopes), bare(scope, records))
            for record in getattr(scope, records):
                if wire is not METRICS:
                    found.append((*around, bare(record)))
                    continue
                kind = record.WhichOneof("data")
                if kind:
                    data = getattr(record, kind)
                    metric = (bare(record, kind), kind.encode(), bare(data, "data_points"))
                    found += [(*around, *metric, bare(point)) for point in data.data_points]
    return found


@pytest.mark.parametrize("wire", WIRE.values(), ids=lambda wire: wire.signal.name)
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_items_of_every_signal_are_cut_with_all_that_is_around_them(
    wire: SignalWire, data: st.DataObject
) -> None:
    message = data.draw(messages_of(wire.request.DESCRIPTOR))
    if data.draw(st.booleans()):
        add_unknown(message)
    body = message.SerializeToString()
    request = settle(parse(body, wire), body, ResourceCache(), wire, Findings())
    pieces = request.pieces(data.draw(st.integers(1, 2000) | st.just(LIMIT)))

    got = [placed_items(wire.request.FromString(piece.body), wire) for piece in pieces]
    assert [item for held in got for item in held] == placed_items(message, wire)
    assert [len(held) for held in got] == [piece.items for piece in pieces]
    assert all(piece.items for piece in pieces)
    assert {piece.signal for piece in pieces} <= {wire.signal}


def test_point_lies_in_one_message_of_its_kind() -> None:
    """Some parsers take the last of two members of a oneof, where others merge them."""
    metric = metrics_pb2.Metric(name="m")
    metric.sum.aggregation_temporality = metrics_pb2.AGGREGATION_TEMPORALITY_DELTA
    for number in range(9):
        metric.sum.data_points.add(as_int=number, time_unix_nano=5)
    message = ExportMetricsServiceRequest()
    message.resource_metrics.add().scope_metrics.add().metrics.append(metric)
    body = message.SerializeToString()
    pieces = settle(parse(body, METRICS), body, ResourceCache(), METRICS, Findings()).pieces(60)

    assert len(pieces) > 1
    for piece in pieces:
        cut = ExportMetricsServiceRequest.FromString(piece.body)
        # Two of them would be merged when read, and shorter when written.
        assert cut.ByteSize() == len(piece.body)
        (made,) = cut.resource_metrics[0].scope_metrics[0].metrics
        assert made.sum.aggregation_temporality == 1


@pytest.mark.parametrize("wire", WIRE.values(), ids=lambda wire: wire.signal.name)
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_special_doubles_of_attributes_are_marked_in_every_signal(
    wire: SignalWire, data: st.DataObject
) -> None:
    message = data.draw(messages_of(wire.request.DESCRIPTOR))
    body = message.SerializeToString()
    request = settle(parse(body, wire), body, ResourceCache(), wire, Findings())

    assert (request.findings.flags == BodyFlag.SPECIAL_DOUBLES) is is_special(message)


def is_special(message: Message) -> bool:
    if isinstance(message, AnyValue) and message.WhichOneof("value") == "double_value":
        return not math.isfinite(message.double_value)
    return any(
        is_special(each)
        for field, held in message.ListFields()
        if field.message_type is not None
        for each in (held if field.is_repeated else [held])
    )
