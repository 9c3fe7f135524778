"""What a condition sees of items, and what is left of a fragment."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config import DestinationConfig
from relay.model.records import Encoding, Signal
from relay.otlp.signals import WIRE
from relay.otlp.split import pick_items
from relay.process.steps.condition import Condition
from relay.process.steps.run import Stepped, Steps, steps_of
from tests.support.examples import examples
from tests.support.otlp_messages import messages_of
from tests.unit.process.steps.items import (
    BOTH,
    encoded,
    entries,
    fragment,
    logs,
    metrics,
    span,
    spans,
    text,
)


def matching(condition: str) -> Steps:
    settings = DestinationConfig(name="d", endpoint="http://h/v1/traces", match=condition)
    steps = steps_of(settings)
    assert steps is not None
    return steps


def run(condition: str, made: bytes, encoding: Encoding, signal: Signal) -> Stepped:
    return matching(condition).run(encoded(made, encoding, signal), encoding, signal)


SPAN = spans(
    span(
        1,
        text("http.route", "/buy"),
        {"key": "n", "value": {"intValue": "-3"}},
        {"key": "d", "value": {"doubleValue": 0.5}},
        {"key": "b", "value": {"boolValue": True}},
        {"key": "l", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {}]}}},
        {"key": "m", "value": {"kvlistValue": {"values": [text("in", "side")]}}},
        {"key": "raw", "value": {"bytesValue": "AAE="}},
        {"key": "none"},
        kind=2,
        status={"code": 2},
    ),
    scope={"name": "lib", "version": "2", "attributes": [text("s", "t")]},
)
RECORD = logs(
    {
        "timeUnixNano": "5",
        "severityNumber": 17,
        "severityText": "ERR",
        "eventName": "boom",
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "body": {"kvlistValue": {"values": [text("msg", "it broke")]}},
    }
)
POINT: dict[str, Any] = {"timeUnixNano": "5", "asInt": "7", "attributes": [text("cpu", "0")]}
METRIC = metrics({"name": "load", "unit": "1", "gauge": {"dataPoints": [POINT]}})
TOTAL = metrics(
    {"name": "h", "histogram": {"dataPoints": [{"timeUnixNano": "5", "count": "1"}]}},
)


@pytest.mark.parametrize("encoding", BOTH)
@pytest.mark.parametrize(
    ("signal", "made", "condition"),
    [
        (Signal.TRACES, SPAN, 'signal == "traces" && name == "GET /" && kind == "SERVER"'),
        (Signal.TRACES, SPAN, 'status == "ERROR" && duration == 3.0'),
        (Signal.TRACES, SPAN, f'trace_id == "{1:032x}"'),
        (Signal.TRACES, SPAN, 'attributes["http.route"] == "/buy" && attributes.n == -3'),
        (Signal.TRACES, SPAN, 'attributes.d == 0.5 && attributes.b && "x" in attributes.l'),
        (Signal.TRACES, SPAN, 'attributes.m["in"] == "side" && attributes.raw == b"\\x00\\x01"'),
        (Signal.TRACES, SPAN, 'attributes.none == null && !("gone" in attributes)'),
        (Signal.TRACES, SPAN, 'scope.name == "lib" && scope.attributes["s"] == "t"'),
        (Signal.TRACES, SPAN, 'resource["service.name"].matches("^sh.p$")'),
        (Signal.TRACES, SPAN, "size(attributes) == 8 && attributes.exists(k, k == 'raw')"),
        (Signal.TRACES, SPAN, 'severity == 0 && body == null && type == "" && value == null'),
        (Signal.LOGS, RECORD, 'severity >= 17 && severity_text == "ERR" && name == "boom"'),
        (Signal.LOGS, RECORD, 'body["msg"].contains("broke") && trace_id.startsWith("abab")'),
        (Signal.LOGS, RECORD, 'status == "" && kind == "" && duration == 0.0'),
        (Signal.METRICS, METRIC, 'name == "load" && type == "gauge" && unit == "1" && value == 7'),
        (Signal.METRICS, METRIC, 'attributes.cpu == "0" && trace_id == ""'),
        (Signal.METRICS, TOTAL, 'type == "histogram" && value == null'),
    ],
)
def test_each_variable_is_seen_alike_in_both_encodings(
    signal: Signal, made: bytes, condition: str, encoding: Encoding
) -> None:
    kept = run(condition, made, encoding, signal)
    filtered = run(f"!({condition})", made, encoding, signal)

    assert (kept.items, kept.fates) == (1, [""])
    assert kept.body == encoded(made, encoding, signal)
    assert (filtered.items, filtered.body, filtered.filtered) == (0, b"", {"match": 1})


@pytest.mark.parametrize("encoding", BOTH)
def test_what_does_not_match_is_left_out_and_envelopes_of_nothing_too(encoding: Encoding) -> None:
    made = fragment(
        {"scopeSpans": [{"scope": {"name": "a"}, "spans": [span(1), span(2, name="no")]}]},
        {"scopeSpans": [{"scope": {"name": "b"}, "spans": [span(3, name="no")]}]},
        {
            "scopeSpans": [
                {"scope": {"name": "c"}, "spans": [span(4, name="no")]},
                {"scope": {"name": "d"}, "spans": [span(5, name="no"), span(6)]},
            ]
        },
    )
    body = encoded(made, encoding)

    stepped = matching('name != "no"').run(body, encoding, Signal.TRACES)

    assert stepped.fates == ["", "match", "match", "match", "match", ""]
    assert stepped.items == 2
    assert [
        [(scope["scope"]["name"], len(scope["spans"])) for scope in entry["scopeSpans"]]
        for entry in entries(stepped.body, encoding)
    ] == [[("a", 1)], [("d", 1)]]
    assert stepped.body == pick_items(
        body, encoding, [not fate for fate in stepped.fates], Signal.TRACES
    )


@pytest.mark.parametrize("encoding", BOTH)
@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ('attributes["gone"] == 1', "there is no gone"),
        ("attributes.n > 1", "the types of its values do not go together"),
        ("int(name) == 1", "it cannot be told"),
        ("name", "its result is neither true nor false but of type str"),
    ],
)
def test_what_cannot_be_told_is_false_and_counted(
    condition: str, why: str, encoding: Encoding
) -> None:
    steps = matching(condition)
    body = encoded(spans(span(1, text("n", "secret")), span(2)), encoding)

    stepped = steps.run(body, encoding, Signal.TRACES)

    assert stepped.filtered == {"match": 2}
    found = steps.conditions["match"]
    assert found.failures == 2
    assert why in found.failure
    assert "secret" not in found.failure


def test_what_is_deep_in_json_stays_and_is_not_seen() -> None:
    value: dict[str, Any] = {"stringValue": "end"}
    for _ in range(200):
        value = {"arrayValue": {"values": [value]}}
    made = spans(span(1, {"key": "deep", "value": value}), span(2, name="no"))

    stepped = matching('name != "no"').run(made, Encoding.JSON, Signal.TRACES)
    (entry,) = entries(stepped.body, Encoding.JSON)

    assert stepped.items == 1
    assert entry["scopeSpans"][0]["spans"][0]["attributes"][0]["value"] == value


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data(), signal=st.sampled_from(Signal), encoding=st.sampled_from(BOTH))
def test_any_fragment_is_split_between_a_condition_and_its_opposite(
    data: st.DataObject, signal: Signal, encoding: Encoding
) -> None:
    request = data.draw(messages_of(WIRE[signal].request.DESCRIPTOR))
    made = request.SerializeToString()
    body = encoded_of(made, encoding, signal)
    condition = 'size(name) > 2 && !attributes.exists(k, k.startsWith("x"))'

    one = matching(condition).run(body, encoding, signal)
    other = matching(f"!({condition})").run(body, encoding, signal)

    assert [not fate for fate in one.fates] == [bool(fate) for fate in other.fates]
    for stepped in (one, other):
        if 0 < stepped.items < len(stepped.fates):
            picked = pick_items(body, encoding, [not fate for fate in stepped.fates], signal)
            assert entries(stepped.body, encoding, signal) == entries(picked, encoding, signal)


def encoded_of(made: bytes, encoding: Encoding, signal: Signal) -> bytes:
    from relay.otlp.transcode import to_json

    return made if encoding is Encoding.PROTOBUF else to_json(made, signal)


HOSTILE = [
    'attributes.l.all(x, x != "q" && !x.contains("zz") && x.size() < 100 && body == null)',
    'attributes.exists(k, k.contains("nothing") || k.matches("(a|b|ab)*c$"))',
    " || ".join(f'attributes.t.contains("{number}z")' for number in range(22)),
    'attributes.t.matches("^(x*)*y$") || attributes.t.matches("([a-q][^u-z]{13}x|x+x+x+y)")',
    'attributes.l.all(x, attributes.t.contains(x + "1"))',
]


@pytest.mark.parametrize("encoding", BOTH)
@pytest.mark.parametrize("condition", HOSTILE)
def test_no_condition_costs_more_than_a_millisecond_a_kilobyte(
    condition: str, encoding: Encoding
) -> None:
    many = {"arrayValue": {"values": [{"stringValue": "ab"}] * 4000}}
    made = spans(span(1, {"key": "l", "value": many}, text("t", "xa" * 50_000)))
    body = encoded(made, encoding)
    opened_steps = matching(condition)

    best = min(timed(opened_steps, body, encoding) for _ in range(3))

    assert best < len(body) / 1024 * 1e-3


def timed(steps: Steps, body: bytes, encoding: Encoding) -> float:
    began = time.process_time()
    steps.run(body, encoding, Signal.TRACES)
    return time.process_time() - began


def test_a_loop_that_would_take_too_long_is_not_begun() -> None:
    condition = Condition('attributes.l.all(x, attributes.t.contains(x + "1"))')
    many = {"arrayValue": {"values": [{"stringValue": "ab"}] * 4000}}
    made = encoded(
        spans(span(1, {"key": "l", "value": many}, text("t", "x" * 100_000))), Encoding.JSON
    )
    steps = matching(condition.text)

    assert steps.run(made, Encoding.JSON, Signal.TRACES).items == 0
    assert "too long" in steps.conditions["match"].failure
