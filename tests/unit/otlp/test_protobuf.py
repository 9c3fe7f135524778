"""Protobuf bodies: what survives, what is marked, what is refused, how a request is cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.model.errors import Refusal
from relay.model.records import BodyFlag, Encoding
from relay.otlp.protobuf import ProtobufTraces, parse, settle
from relay.otlp.resources import ResourceCache
from tests.support import builders
from tests.support.examples import examples

LIMIT = 2**40
# Field 1000 as bytes: nobody knows it.
UNKNOWN = b"\xc2\x3e\x03new"


def decode(body: bytes, cache: ResourceCache) -> ProtobufTraces:
    return settle(parse(body), body, cache)


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
