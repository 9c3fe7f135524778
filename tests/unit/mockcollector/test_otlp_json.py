"""The strict JSON decoder, with the official protobuf classes as the oracle."""

import base64
import contextlib
import json
import math
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from mockcollector.otlp_json import MAX_UNKNOWN_KEYS, MAX_VALUE_DEPTH, decode_request
from mockcollector.rules import Refused
from mockcollector.signals import TRAITS, Signal
from tests.support.examples import examples
from tests.unit.mockcollector.exchange import attribute_json, request_json, span_json

SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: st.text(max_size=8),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats().map(
        lambda number: math.nan if math.isnan(number) else number  # JSON has only one NaN
    ),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(0, 5),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED64: st.integers(0, 2**64 - 1),
}
ID_SIZES = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
HEX_KEYS = {"traceId", "spanId", "parentSpanId"}


def values_of(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        assert field.message_type is not None
        one: st.SearchStrategy[Any] = messages(field.message_type, depth + 1)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        size = ID_SIZES.get(field.name)
        one = (
            st.binary(max_size=8)
            if size is None
            else st.sampled_from([0, size]).flatmap(lambda n: st.binary(min_size=n, max_size=n))
        )
    else:
        one = SCALARS[field.type]
    return st.lists(one, max_size=2) if field.is_repeated else one


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> dict[str, Any]:
    """Any content of a message as a dict by field names, at most one member of a oneof."""
    content: dict[str, Any] = {}
    taken: set[str] = set()
    for field in descriptor.fields:
        is_nested = field.type == FieldDescriptor.TYPE_MESSAGE
        oneof = field.containing_oneof.name if field.containing_oneof else None
        if (is_nested and depth > 8) or oneof in taken or not draw(st.booleans()):
            continue
        if oneof is not None:
            taken.add(oneof)
        content[field.name] = draw(values_of(field, depth))
    return content


def to_otlp_json(value: Any, key: str = "") -> Any:
    """ProtoJSON as OTLP has it: ids in hexadecimal."""
    if isinstance(value, dict):
        return {name: to_otlp_json(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [to_otlp_json(item) for item in value]
    return base64.b64decode(value).hex() if key in HEX_KEYS else value


@pytest.mark.parametrize("signal", Signal)
@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_every_field_reads_as_the_official_classes_write_it(
    signal: Signal, data: st.DataObject
) -> None:
    kind = TRAITS[signal].request
    message = kind(**data.draw(messages(kind.DESCRIPTOR)))
    document = json_format.MessageToDict(message, use_integers_for_enums=True)

    decoded, unknown = decode_request(json.dumps(to_otlp_json(document)).encode(), kind)

    # Compared as bytes: NaN is unequal to itself.
    assert decoded.SerializeToString(deterministic=True) == message.SerializeToString(
        deterministic=True
    )
    assert unknown == ()


@settings(max_examples=examples(300), deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(alphabet='{}[]":,resourcSpan0e1.-\\ud8', max_size=60).map(str.encode),
    )
)
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    with contextlib.suppress(Refused):  # anything else that it raises fails the test
        decode_request(body)


def decode_span(**fields: Any) -> Any:
    message, _ = decode_request(json.dumps(request_json(span_json(**fields))).encode())
    return message.resource_spans[0].scope_spans[0].spans[0]


def decode_value(**value: Any) -> Any:
    return decode_span(attributes=[attribute_json("a", **value)]).attributes[0].value


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ({"startTimeUnixNano": 2**64 - 1}, "start_time_unix_nano", 2**64 - 1),
        ({"startTimeUnixNano": str(2**64 - 1)}, "start_time_unix_nano", 2**64 - 1),
        ({"startTimeUnixNano": "1e3"}, "start_time_unix_nano", 1000),
        ({"startTimeUnixNano": 2.0}, "start_time_unix_nano", 2),
        ({"startTimeUnixNano": "0"}, "start_time_unix_nano", 0),
        ({"endTimeUnixNano": 0}, "end_time_unix_nano", 0),
        ({"flags": "257"}, "flags", 257),
        ({"kind": 99}, "kind", 99),
        ({"kind": -1}, "kind", -1),
        ({"kind": None}, "kind", 0),
        ({"name": None}, "name", ""),
        ({"attributes": None}, "attributes", []),
    ],
)
def test_number_and_null_forms_of_protojson_are_read(
    fields: dict[str, Any], name: str, expected: Any
) -> None:
    assert getattr(decode_span(**fields), name) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"startTimeUnixNano": 2**64},
        {"startTimeUnixNano": -1},
        {"startTimeUnixNano": ""},
        {"startTimeUnixNano": " 1"},
        {"startTimeUnixNano": "1_000"},
        {"startTimeUnixNano": "٣"},
        {"startTimeUnixNano": "0x10"},
        {"startTimeUnixNano": 1.5},
        {"startTimeUnixNano": True},
        {"startTimeUnixNano": "1e999999999"},
        {"flags": 2**32},
        {"flags": -1},
        {"kind": "SPAN_KIND_SERVER"},
        {"kind": "2"},
        {"kind": 2**31},
        {"status": {"code": "STATUS_CODE_OK"}},
        {"name": 1},
        {"name": ["a"]},
        {"name": "\ud83d"},
        {"attributes": {}},
        {"attributes": [None]},
        {"attributes": ["a"]},
        {"status": []},
        {"events": [{"attributes": [attribute_json("a", boolValue="true")]}]},
    ],
    ids=str,
)
def test_value_that_its_field_cannot_hold_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refusal:
        decode_span(**fields)

    (violation,) = refusal.value.violations
    assert violation.path.startswith("resourceSpans[0].scopeSpans[0].spans[0].")


@pytest.mark.parametrize(
    "value",
    [
        {"intValue": str(2**63)},
        {"intValue": -(2**63) - 1},
        {"doubleValue": ""},
        {"doubleValue": "nan"},
        {"doubleValue": "1_0"},
        {"doubleValue": "1e999"},
        {"doubleValue": True},
        {"boolValue": 1},
        {"boolValue": "true"},
        {"bytesValue": "a"},
        {"bytesValue": "a!=="},
        {"bytesValue": "AAE=="},
        {"stringValue": 1},
        {"stringValue": "a", "intValue": 1},
        {"arrayValue": []},
        {"arrayValue": {"values": [None]}},
        {"kvlistValue": {"values": {}}},
    ],
    ids=str,
)
def test_attribute_value_that_is_none_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        decode_value(**value)


@pytest.mark.parametrize("text", ["-_8=", "+/8=", "-_8", "+/8"])
def test_bytes_are_read_in_both_alphabets_with_and_without_padding(text: str) -> None:
    assert decode_value(bytesValue=text).bytes_value == b"\xfb\xff"


def test_empty_members_are_present() -> None:
    assert decode_value().WhichOneof("value") is None
    assert decode_value(stringValue="").WhichOneof("value") == "string_value"
    assert decode_value(arrayValue={}).WhichOneof("value") == "array_value"
    assert decode_value(stringValue=None, intValue=0).WhichOneof("value") == "int_value"
    assert decode_span(status={}).HasField("status")
    assert not decode_span().HasField("status")


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"a"',
        b"",
        b"{} {}",
        b"{}x",
        b'{"a":NaN}',
        b'{"a":1,"a":2}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"resourceSpans":[{]}',
    ],
    ids=repr,
)
def test_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        decode_request(body)


def nested(levels: int) -> bytes:
    value = '{"arrayValue":{"values":[' * levels + '{"stringValue":"e"}' + "]}}" * levels
    document = json.dumps(request_json(span_json(attributes=[{"key": "a", "value": "MARK"}])))
    return document.replace('"MARK"', value).encode()


def test_depth_is_taken_up_to_the_limit_and_refused_beyond() -> None:
    decode_request(nested(MAX_VALUE_DEPTH))

    for levels in (MAX_VALUE_DEPTH + 1, 3000, 100_000):
        with pytest.raises(Refused, match="nested"):
            decode_request(nested(levels))


def test_huge_number_in_an_unknown_key_costs_nothing() -> None:
    _, unknown = decode_request(b'{"a":' + b"9" * 100_000 + b"}")

    assert unknown == ("a",)


def test_unknown_keys_are_bounded() -> None:
    body = json.dumps({f"key{number}": 1 for number in range(300)}).encode()

    assert len(decode_request(body)[1]) == MAX_UNKNOWN_KEYS


def test_refusal_never_quotes_the_body() -> None:
    for fields in ({"name": 1, "kind": "secret"}, {"traceId": "secret"}, {"flags": "secret"}):
        with pytest.raises(Refused) as refusal:
            decode_span(**fields)
        assert "secret" not in f"{refusal.value.message} {refusal.value.violations}"
