"""NaN and the infinities, as text or dropped, in both encodings and at every place."""

import json
import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.model.records import Encoding, Signal
from relay.otlp.doubles import rewrite_special_doubles
from relay.otlp.transcode import TranscodeError, to_json, to_protobuf

NAMES = ["NaN", "Infinity", "-Infinity"]
Mode = Literal["string", "drop"]


def attribute(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def entry_with(attributes: list[Any], count: int = 0) -> dict[str, Any]:
    """The attributes at each of the five places that hold some."""
    holder: dict[str, Any] = {"attributes": attributes} if attributes else {}
    if count:
        holder["droppedAttributesCount"] = count
    # Members stand in the order in which the structs have them.
    span = {**holder, "events": [holder], "links": [holder]}
    return {"resource": holder, "scopeSpans": [{"scope": holder, "spans": [span]}]}


def rewrite(entry: dict[str, Any], encoding: Encoding, mode: Mode) -> Any:
    text = json.dumps(entry, separators=(",", ":")).encode()
    if encoding is Encoding.JSON:
        return json.loads(rewrite_special_doubles(text, encoding, mode, Signal.TRACES))
    return json.loads(
        to_json(
            rewrite_special_doubles(
                to_protobuf(text, Signal.TRACES), encoding, mode, Signal.TRACES
            ),
            Signal.TRACES,
        )
    )


ENCODINGS = pytest.mark.parametrize("encoding", list(Encoding))


@ENCODINGS
@pytest.mark.parametrize("name", NAMES)
def test_string_mode_writes_the_name_everywhere(encoding: Encoding, name: str) -> None:
    special = {"doubleValue": name}
    pair = [attribute("inner", special), attribute("whole", {"doubleValue": 1.5})]
    given_values = [
        special,
        {"arrayValue": {"values": [special]}},
        {"kvlistValue": {"values": pair}},
    ]
    before = entry_with([attribute("key", value) for value in given_values])
    text = json.dumps(before).replace(f'"doubleValue": "{name}"', f'"stringValue": "{name}"')

    assert rewrite(before, encoding, "string") == json.loads(text)


@ENCODINGS
@pytest.mark.parametrize("name", NAMES)
def test_drop_mode_removes_the_attribute_and_counts_it(encoding: Encoding, name: str) -> None:
    special = attribute("bad", {"doubleValue": name})
    good = attribute("good", {"doubleValue": 0.5})

    assert rewrite(entry_with([special, good, special]), encoding, "drop") == entry_with([good], 2)
    assert rewrite(entry_with([special], 5), encoding, "drop") == entry_with([], 6)


@ENCODINGS
def test_drop_mode_stops_counting_at_the_largest_count(encoding: Encoding) -> None:
    special = attribute("bad", {"doubleValue": "NaN"})

    full = entry_with([], 2**32 - 1)
    assert rewrite(entry_with([special, special], 2**32 - 2), encoding, "drop") == full


@ENCODINGS
def test_drop_mode_leaves_an_empty_value_inside_lists(encoding: Encoding) -> None:
    """Neither arrays nor lists of pairs have a count; positions and keys stay."""
    special = {"doubleValue": "NaN"}
    one = {"intValue": "1"}
    inner = {"kvlistValue": {"values": [attribute("a", special), attribute("b", one)]}}
    before = entry_with([attribute("list", {"arrayValue": {"values": [special, one, inner]}})])
    after_inner = {"kvlistValue": {"values": [attribute("a", {}), attribute("b", one)]}}
    after = entry_with([attribute("list", {"arrayValue": {"values": [{}, one, after_inner]}})])

    assert rewrite(before, encoding, "drop") == after


@ENCODINGS
@pytest.mark.parametrize("mode", ["string", "drop"])
def test_rewriting_leaves_text_that_looks_like_it_alone(encoding: Encoding, mode: Mode) -> None:
    looks = [
        '"doubleValue":"NaN"',
        '{"doubleValue":"NaN"}',
        "NaN",
        '{"arrayValue":{},"stringValue":"0"}',
    ]
    items = [attribute(text, {"stringValue": text}) for text in looks]
    items += [
        attribute("inner", {"arrayValue": {"values": [{"stringValue": text} for text in looks]}}),
        attribute("ordinary", {"doubleValue": 1e300}),
        attribute("unset", {}),
        {"key": "no value"},
    ]
    before = {**entry_with(items), "schemaUrl": looks[0]}

    assert rewrite(before, encoding, mode) == before


@pytest.mark.parametrize("mode", ["string", "drop"])
def test_rewriting_json_reaches_any_depth(mode: Mode) -> None:
    """200 levels are accepted (decision D5), more than a decoder can be sure to manage."""
    value = '{"arrayValue":{"values":[' * 2000 + '{"doubleValue":"NaN"}' + "]}}" * 2000
    text = f'{{"scopeSpans":[{{"spans":[{{"attributes":[{{"key":"k","value":{value}}}]}}]}}]}}'
    wanted = '{"stringValue":"NaN"}' if mode == "string" else "{}"
    found = rewrite_special_doubles(text.encode(), Encoding.JSON, mode, Signal.TRACES)

    assert found.decode() == text.replace('{"doubleValue":"NaN"}', wanted)


@pytest.mark.parametrize("mode", ["string", "drop"])
def test_rewriting_protobuf_keeps_unknown_fields(mode: Mode) -> None:
    packed = to_protobuf(
        json.dumps(entry_with([attribute("k", {"doubleValue": "NaN"})])).encode(), Signal.TRACES
    )
    unknown = b"\x9a\x06\x01?"

    assert rewrite_special_doubles(
        packed + unknown, Encoding.PROTOBUF, mode, Signal.TRACES
    ).endswith(unknown)


def test_rewriting_protobuf_adds_no_message_that_was_not_set() -> None:
    packed = to_protobuf(
        b'{"scopeSpans":[{"spans":[{"attributes":[{"key":"k"}]}]}]}', Signal.TRACES
    )

    for mode in ("string", "drop"):
        assert rewrite_special_doubles(packed, Encoding.PROTOBUF, mode, Signal.TRACES) == packed


@given(st.lists(st.floats(), max_size=6), st.sampled_from(["string", "drop"]))
def test_both_encodings_come_to_the_same(numbers: list[float], mode: Mode) -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    for number in numbers:
        span.attributes.add(key="top").value.double_value = number
        inside = span.attributes.add(key="array").value.array_value
        inside.values.add().double_value = number
    packed = request.SerializeToString()

    by_json = rewrite_special_doubles(
        to_json(packed, Signal.TRACES), Encoding.JSON, mode, Signal.TRACES
    )
    by_protobuf = rewrite_special_doubles(packed, Encoding.PROTOBUF, mode, Signal.TRACES)
    assert to_protobuf(by_json, Signal.TRACES) == by_protobuf
    dropped = sum(not math.isfinite(number) for number in numbers) if mode == "drop" else 0
    found = ExportTraceServiceRequest.FromString(by_protobuf).resource_spans[0].scope_spans[0]
    assert found.spans[0].dropped_attributes_count == dropped


@ENCODINGS
@pytest.mark.parametrize("fragment", [b"{", b"\x0a\x05", b"}"])
def test_drop_mode_raises_transcode_error_for_what_is_not_ours(
    encoding: Encoding, fragment: bytes
) -> None:
    with pytest.raises(TranscodeError):
        rewrite_special_doubles(fragment, encoding, "drop", Signal.TRACES)


def _changed(fragment: bytes, mode: Mode, signal: Signal) -> tuple[bytes, bytes]:
    """As JSON and as protobuf turned into JSON again."""
    by_json = rewrite_special_doubles(fragment, Encoding.JSON, mode, signal)
    packed = to_protobuf(fragment, signal)
    by_protobuf = rewrite_special_doubles(packed, Encoding.PROTOBUF, mode, signal)
    return by_json, to_json(by_protobuf, signal)


NAN = {"doubleValue": "NaN"}


def test_what_a_metric_measured_is_never_rewritten() -> None:
    exemplar = {"filteredAttributes": [attribute("e", NAN)], "asDouble": "NaN"}
    gauge = {"attributes": [attribute("k", NAN)], "asDouble": "-Infinity", "exemplars": [exemplar]}
    histogram = {"sum": "Infinity", "explicitBounds": ["NaN"], "min": "NaN", "max": "NaN"}
    entry = {
        "scopeMetrics": [
            {
                "metrics": [
                    {"gauge": {"dataPoints": [gauge]}, "metadata": [attribute("m", NAN)]},
                    {"histogram": {"dataPoints": [histogram]}},
                ]
            }
        ]
    }
    fragment = json.dumps(entry, separators=(",", ":")).encode()

    for text in _changed(fragment, "drop", Signal.METRICS):
        first, second = json.loads(text)["scopeMetrics"][0]["metrics"]
        (point,) = first["gauge"]["dataPoints"]
        assert "attributes" not in point
        assert "metadata" not in first
        assert point["asDouble"] == "-Infinity"
        assert point["exemplars"] == [{"asDouble": "NaN"}]
        assert second["histogram"]["dataPoints"] == [histogram]
    for text in _changed(fragment, "string", Signal.METRICS):
        point = json.loads(text)["scopeMetrics"][0]["metrics"][0]["gauge"]["dataPoints"][0]
        assert point["attributes"] == [attribute("k", {"stringValue": "NaN"})]
        assert point["exemplars"][0]["asDouble"] == "NaN"


def test_body_of_a_log_record_is_a_value_like_any_other() -> None:
    record = {"body": NAN, "attributes": [attribute("k", NAN)]}
    entry = {"scopeLogs": [{"logRecords": [record]}]}
    fragment = json.dumps(entry, separators=(",", ":")).encode()

    for text in _changed(fragment, "drop", Signal.LOGS):
        (left,) = json.loads(text)["scopeLogs"][0]["logRecords"]
        assert left == {"body": {}, "droppedAttributesCount": 1}
    for text in _changed(fragment, "string", Signal.LOGS):
        (left,) = json.loads(text)["scopeLogs"][0]["logRecords"]
        assert left["body"] == {"stringValue": "NaN"}
