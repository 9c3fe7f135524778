"""Transcoding, held against the official protobuf classes and an independent JSON writer."""

import base64
import json
import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import msgspec
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    KeyValue,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from relay.model.errors import RelayError
from relay.model.records import Encoding, Signal
from relay.otlp import messages, messages_logs, messages_metrics, native, transcode
from relay.otlp.signals import LOGS, METRICS, TRACES, WIRE
from relay.otlp.transcode import TranscodeError, read_entries, to_json, to_protobuf
from tests.support.examples import examples
from tests.support.otlp_messages import messages_of

REQUESTS = {wire.signal: messages_of(wire.request.DESCRIPTOR) for wire in (TRACES, LOGS, METRICS)}
SIGNALS = pytest.mark.parametrize("signal", Signal)


# --- an independent writer: by reflection over the schema, knowing only the rules of OTLP/JSON ---

HEX_FIELDS = {"trace_id", "span_id", "parent_span_id"}
STRING_NUMBERS = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_UINT64,
}


def plain(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        return tree(value)
    if isinstance(value, bytes):
        return value.hex() if field.name in HEX_FIELDS else base64.b64encode(value).decode()
    if field.type in STRING_NUMBERS:
        return str(value)
    if field.type == FieldDescriptor.TYPE_DOUBLE and not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return value


def tree(message: Message) -> dict[str, Any]:
    return {
        field.json_name: [plain(field, item) for item in value]
        if field.is_repeated
        else plain(field, value)
        for field, value in message.ListFields()
    }


def entries_of(fragment: bytes) -> list[Any]:
    loaded = json.loads(b"[%b]" % fragment)
    assert isinstance(loaded, list)
    return loaded


def pack(span: Span) -> bytes:
    entry = ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])
    return ExportTraceServiceRequest(resource_spans=[entry]).SerializeToString()


def same(left: Any, right: Any) -> bool:
    """Equality that tells 0.0 from -0.0, true from 1, and 1 from 1.0."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


# --- the ordinary case --------------------------------------------------------------------------


@SIGNALS
@settings(max_examples=examples(300))
@given(data=st.data())
def test_to_json_writes_what_an_independent_writer_makes_of_the_message(
    data: st.DataObject, signal: Signal
) -> None:
    request = data.draw(REQUESTS[signal])
    expected = tree(request).get(WIRE[signal].lists[Encoding.JSON].entries, [])

    assert same(entries_of(to_json(request.SerializeToString(), signal)), expected)


@SIGNALS
@settings(max_examples=examples(300))
@given(data=st.data())
def test_entries_that_are_read_by_way_of_json_are_the_same(
    data: st.DataObject, signal: Signal
) -> None:
    packed = data.draw(REQUESTS[signal]).SerializeToString()

    expected = messages.encode(transcode._entries_of(packed, signal))
    assert messages.encode(read_entries(packed, signal)) == expected


@SIGNALS
@settings(max_examples=examples(300))
@given(data=st.data())
def test_to_protobuf_restores_the_message_byte_for_byte(
    data: st.DataObject, signal: Signal
) -> None:
    packed = data.draw(REQUESTS[signal]).SerializeToString(deterministic=True)
    restored = to_protobuf(to_json(packed, signal), signal)

    assert restored == packed
    assert to_json(restored, signal) == to_json(packed, signal)


@SIGNALS
@settings(max_examples=examples(200))
@given(data=st.data())
def test_to_json_gives_the_normal_form_of_the_structs(data: st.DataObject, signal: Signal) -> None:
    """What check writes from its structs is the same text: one normal form, not two."""
    wire = WIRE[signal]
    text = to_json(data.draw(REQUESTS[signal]).SerializeToString(), signal)
    decoded = msgspec.json.decode(wire.json_request % text, type=wire.json_request_struct)

    entries = getattr(decoded, wire.lists[Encoding.JSON].entries)
    assert messages.encode(entries)[1:-1] == text


class Native:
    """Stands for the native pass: vouches for what it is given, or for nothing."""

    def __init__(self, made: bytes | None) -> None:
        self._made = made

    def to_protobuf(self, _fragment: bytes, _signal: Signal) -> bytes | None:
        return self._made

    to_json = to_protobuf


def test_what_the_native_pass_made_is_taken_and_what_it_did_not_is_made_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = ResourceSpans(schema_url="one").SerializeToString()
    packed, text = b"\x0a%c%b" % (len(entry), entry), b'{"schemaUrl":"one"}'
    monkeypatch.setattr(native, "MODULE", Native(None))
    assert to_protobuf(text, Signal.TRACES) == packed
    assert to_json(packed, Signal.TRACES) == text
    assert messages.encode(read_entries(packed, Signal.TRACES)) == b"[%b]" % text

    monkeypatch.setattr(native, "MODULE", Native(text.replace(b"one", b"two")))
    assert to_protobuf(text, Signal.TRACES) == b'{"schemaUrl":"two"}'
    assert to_json(packed, Signal.TRACES) == b'{"schemaUrl":"two"}'
    assert messages.encode(read_entries(packed, Signal.TRACES)) == b'[{"schemaUrl":"two"}]'
    monkeypatch.setattr(native, "MODULE", Native(b"what nobody can read"))
    assert messages.encode(read_entries(packed, Signal.TRACES)) == b"[%b]" % text


def test_fragments_concatenate_in_both_encodings() -> None:
    one = ResourceSpans(schema_url="one").SerializeToString()
    two = ResourceSpans(schema_url="two").SerializeToString()
    first, second = (b"\x0a%c%b" % (len(entry), entry) for entry in (one, two))

    assert to_json(first + second, Signal.TRACES) == b",".join(
        [to_json(first, Signal.TRACES), to_json(second, Signal.TRACES)]
    )
    assert to_protobuf(to_json(first + second, Signal.TRACES), Signal.TRACES) == first + second
    assert to_json(b"", Signal.TRACES) == b""
    assert to_protobuf(b"", Signal.TRACES) == b""


def test_to_protobuf_takes_numbers_upper_case_ids_and_defaults_written_out() -> None:
    span = (
        b'{"traceId":"0AF7651916CD43DD8448EB211C80319C","spanId":"","startTimeUnixNano":7,'
        b'"endTimeUnixNano":"0","kind":0,"name":"","attributes":[{"key":"","value":{"intValue":5}},'
        b'{"key":"d","value":{"doubleValue":3}},{"key":"s","value":{"doubleValue":"-1.5"}}]}'
    )
    packed = to_protobuf(b'{"resource":{},"scopeSpans":[{"spans":[%b]}]}' % span, Signal.TRACES)
    found = ExportTraceServiceRequest.FromString(packed).resource_spans[0]

    assert found.HasField("resource")
    assert found.scope_spans[0].spans[0] == Span(
        trace_id=bytes.fromhex("0af7651916cd43dd8448eb211c80319c"),
        start_time_unix_nano=7,
        attributes=[
            KeyValue(value=AnyValue(int_value=5)),
            KeyValue(key="d", value=AnyValue(double_value=3)),
            KeyValue(key="s", value=AnyValue(double_value=-1.5)),
        ],
    )


def test_to_protobuf_remembers_keys_without_mixing_them_up() -> None:
    keys = [f"key.{number}" for number in range(10_000)] + ["k" * 65, "é" * 64]
    items = [KeyValue(key=key, value=AnyValue(string_value=key)) for key in keys * 2]
    packed = pack(Span(attributes=items))

    assert to_protobuf(to_json(packed, Signal.TRACES), Signal.TRACES) == packed


@pytest.mark.parametrize("length", [*range(110, 140), 2046, 2047, 2048, 16383, 16384, 70_000])
def test_to_protobuf_writes_lengths_of_one_two_and_three_bytes(length: int) -> None:
    value = AnyValue(string_value="v" * length)
    array = AnyValue(array_value=ArrayValue(values=[value]))
    items = [KeyValue(key="k", value=value), KeyValue(key="k" * length, value=array)]
    packed = pack(Span(attributes=items, name="n" * length))

    assert to_protobuf(to_json(packed, Signal.TRACES), Signal.TRACES) == packed


def test_to_json_drops_unknown_fields_only() -> None:
    span = Span(name="known").SerializeToString() + b"\x9a\x06\x01?"
    packed = b"\x0a%c\x12%c\x12%c%b" % (len(span) + 4, len(span) + 2, len(span), span)

    assert to_json(packed, Signal.TRACES) == b'{"scopeSpans":[{"spans":[{"name":"known"}]}]}'


# --- limits: depth ------------------------------------------------------------------------------


def nested(levels: int, kind: str, leaf: str = '{"intValue":"1"}') -> str:
    opening = {
        "arrayValue": '{"arrayValue":{"values":[',
        "kvlistValue": '{"kvlistValue":{"values":[{"key":"k","value":',
    }[kind]
    closing = {"arrayValue": "]}}", "kvlistValue": "}]}}"}[kind]
    return opening * levels + leaf + closing * levels


def fragment_with(value: str) -> bytes:
    """The value at every place that takes one."""
    attributes = '"attributes":[{"key":"deep","value":%s}]' % value  # noqa: UP031 - braces abound
    return (
        "{"
        f'"resource":{{{attributes}}},'
        f'"scopeSpans":[{{"scope":{{{attributes}}},'
        f'"spans":[{{{attributes},"events":[{{{attributes}}}],"links":[{{{attributes}}}]}}]}}]'
        "}"
    ).encode()


def unfold(entry: Mapping[str, Any]) -> list[Any]:
    """The five attributes' values of `fragment_with`, as loaded."""
    scope_spans = entry["scopeSpans"][0]
    span = scope_spans["spans"][0]
    holders = [entry["resource"], scope_spans["scope"], span, span["events"][0], span["links"][0]]
    return [holder["attributes"][0]["value"] for holder in holders]


@pytest.mark.parametrize("kind", ["arrayValue", "kvlistValue"])
def test_thirty_levels_pass_unfolded_everywhere(kind: str) -> None:
    fragment = fragment_with(nested(30, kind))

    assert to_json(to_protobuf(fragment, Signal.TRACES), Signal.TRACES) == fragment


@pytest.mark.parametrize("kind", ["arrayValue", "kvlistValue"])
@pytest.mark.parametrize("levels", [31, 32, 60, 200, 5000])
def test_deeper_levels_fold_into_their_json_text(kind: str, levels: int) -> None:
    tricky = '{"stringValue":"\\"arrayValue\\":{ \\\\"}'
    packed = to_protobuf(fragment_with(nested(levels, kind, tricky)), Signal.TRACES)

    inside = json.dumps(nested(levels - 30, kind, tricky))
    expected = fragment_with(nested(30, kind, f'{{"stringValue":{inside}}}'))
    assert to_json(packed, Signal.TRACES) == expected


def test_folding_leaves_what_stands_beside_the_deep_value() -> None:
    siblings = '{"intValue":"1"},%s,{"stringValue":"after"}' % nested(31, "arrayValue")  # noqa: UP031
    value = f'{{"arrayValue":{{"values":[{siblings}]}}}}'
    entry = entries_of(to_json(to_protobuf(fragment_with(value), Signal.TRACES), Signal.TRACES))[0]

    for found in unfold(entry):
        values = found["arrayValue"]["values"]
        assert values[0] == {"intValue": "1"}
        assert values[2] == {"stringValue": "after"}


def test_deepest_protobuf_that_parses_becomes_json() -> None:
    for inner, levels in ((AnyValue(int_value=1), 46), (AnyValue(), 46)):
        value = inner
        for _ in range(levels):
            value = AnyValue(array_value=ArrayValue(values=[value]))
        text = to_json(pack(Span(attributes=[KeyValue(key="k", value=value)])), Signal.TRACES)
        assert text.count(b'"arrayValue"') == levels


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fragment",
    [
        b"{",
        b"null",
        b"{}]",
        b"{},",
        b"\xff",
        b'{"nobody":1}',
        b'{"schemaUrl":"\xff"}',
        b'{"schemaUrl":"\\ud83d"}',
        b'{"resource":[]}',
        b'{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}',
        b'{"scopeSpans":[{"spans":[{"traceId":"abc"}]}]}',
        b'{"scopeSpans":[{"spans":[{"traceId":"\xc3\xa9\xc3\xa9"}]}]}',
        b'{"scopeSpans":[{"spans":[{"startTimeUnixNano":"-1"}]}]}',
        b'{"scopeSpans":[{"spans":[{"startTimeUnixNano":"18446744073709551616"}]}]}',
        b'{"scopeSpans":[{"spans":[{"startTimeUnixNano":"secret"}]}]}',
        b'{"scopeSpans":[{"spans":[{"kind":2147483648}]}]}',
        fragment_with('{"intValue":"9223372036854775808"}'),
        fragment_with('{"intValue":"' + "9" * 5000 + '"}'),
        fragment_with('{"doubleValue":"much"}'),
        fragment_with('{"bytesValue":"a"}'),
        fragment_with('{"bytesValue":"_-=="}'),
        fragment_with(nested(300, "kvlistValue"))[:-3],
        fragment_with(nested(300, "kvlistValue")) + b"}",
        b"[" * 5000,
    ],
)
def test_to_protobuf_raises_transcode_error_for_what_is_not_ours(fragment: bytes) -> None:
    with pytest.raises(TranscodeError) as caught:
        to_protobuf(fragment, Signal.TRACES)

    assert isinstance(caught.value, RelayError)
    assert isinstance(caught.value, ValueError)
    assert "secret" not in str(caught.value)
    # A traceback that shows the cause would show the value with it.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("fragment", [b"\x0a\x05", b"not protobuf", b"\x0a\x03\x1a\x01\xff"])
def test_to_json_raises_transcode_error_for_what_is_no_protobuf(fragment: bytes) -> None:
    with pytest.raises(TranscodeError, match="protobuf"):
        to_json(fragment, Signal.TRACES)


def test_parser_that_has_no_memory_left_says_nothing_of_what_was_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As damaged on the disk it would be given up."""

    class Failing:
        @staticmethod
        def FromString(_body: bytes) -> None:  # noqa: N802 - as in protobuf
            raise DecodeError("Arena alloc failed")

    monkeypatch.setitem(WIRE, Signal.TRACES, TRACES._replace(request=Failing))  # type: ignore[arg-type]
    with pytest.raises(MemoryError):
        transcode.read_request(b"", Signal.TRACES)


def test_transcode_error_names_the_path_where_json_is_wrong() -> None:
    with pytest.raises(TranscodeError, match=r"\[0\]\.scopeSpans\[0\]\.spans\[1\]\.kind"):
        to_protobuf(b'{"scopeSpans":[{"spans":[{},{"kind":"server"}]}]}', Signal.TRACES)


@given(st.binary(max_size=80))
def test_neither_direction_raises_another_error_for_noise(noise: bytes) -> None:
    for convert, signal in product((to_json, to_protobuf), Signal):
        try:
            convert(noise, signal)
        except TranscodeError:
            continue


def test_schema_has_no_field_that_the_structs_do_not_have() -> None:
    """A newer opentelemetry-proto with another field fails here, instead of losing it silently."""
    known: dict[str, type[msgspec.Struct]] = {
        name: struct
        for module in (messages, messages_logs, messages_metrics)
        for name, struct in vars(module).items()
        if isinstance(struct, type) and issubclass(struct, messages.Message)
    }
    seen: set[str] = set()
    waiting = [wire.request.DESCRIPTOR for wire in WIRE.values()]
    while waiting:
        official = waiting.pop()
        if official.name in seen:
            continue
        seen.add(official.name)
        expected = {field.json_name for field in official.fields}
        assert set(known[official.name].__struct_fields__) == expected, official.full_name
        waiting += [field.message_type for field in official.fields if field.message_type]
    assert seen == known.keys() - {"Message"}
