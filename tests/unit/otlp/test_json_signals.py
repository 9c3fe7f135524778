"""Log records and metrics in OTLP/JSON against the official classes: what is kept, where cut."""

import base64
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.model.records import BodyFlag, Encoding, Piece, Signal
from relay.otlp import messages
from relay.otlp.json import JsonRequest, decode, decode_exact, decode_fast
from relay.otlp.json_tree import write
from relay.otlp.json_values import Unusual
from relay.otlp.resources import ResourceCache
from relay.otlp.signals import LOGS, METRICS, TRACES, WIRE, SignalWire
from tests.support import builders
from tests.support.examples import examples
from tests.support.fixtures import fixtures_of
from tests.support.otlp_messages import messages_of

IDS = {"traceId", "spanId", "parentSpanId"}
INTEGERS = {"intValue", "asInt", "count", "zeroCount", "bucketCounts", "timeUnixNano"}
EACH = pytest.mark.parametrize("wire", [TRACES, LOGS, METRICS], ids=lambda wire: wire.items)


def walk(tree: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """The same tree with every member that is no object changed; of a list each element."""
    if isinstance(tree, dict):
        return {key: walk(item, change, key) for key, item in tree.items()}
    if isinstance(tree, list):
        return [walk(item, change, name) for item in tree]
    return change(name, tree)


def to_json(message: Message) -> Any:
    """The message in JSON as its own library has it, with ids in hex as OTLP wants."""
    made = json_format.MessageToDict(message, use_integers_for_enums=True)
    return walk(made, lambda key, item: base64.b64decode(item).hex() if key in IDS else item)


def to_message(wire: SignalWire, made: Any) -> Any:
    """And back."""
    coded = walk(
        made,
        lambda key, item: base64.b64encode(bytes.fromhex(item)).decode() if key in IDS else item,
    )
    return json_format.ParseDict(coded, wire.request())


def scopes_of(request: JsonRequest) -> bytes:
    """All but the resources, which the fast way leaves as they are."""
    scopes = request.wire.lists[Encoding.JSON].scopes
    return messages.encode([getattr(entry, scopes) for entry in request.entries])


def requests_of(wire: SignalWire) -> st.SearchStrategy[Any]:
    return messages_of(wire.request.DESCRIPTOR)


def relayed(request: JsonRequest) -> Any:
    """What is kept, whatever the ids: only the check makes these valid."""
    return {request.wire.lists[Encoding.JSON].entries: json.loads(messages.encode(request.entries))}


def same(one: Message, other: Message) -> bool:
    """Equal as bytes, where NaN is equal to itself."""
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


@EACH
@settings(max_examples=examples(80), deadline=None)
@given(data=st.data())
def test_whatever_the_official_class_writes_is_kept_by_both_ways(
    wire: SignalWire, data: st.DataObject
) -> None:
    message = data.draw(requests_of(wire))
    body = json.dumps(to_json(message)).encode()
    fast, exact = (way(body, ResourceCache(), wire) for way in (decode_fast, decode_exact))

    assert same(to_message(wire, relayed(fast)), message)
    assert scopes_of(fast) == scopes_of(exact)
    assert fast.findings == exact.findings
    assert [known.normal for known in fast.resources] == [k.normal for k in exact.resources]


def other_forms(rng: random.Random) -> Callable[[str, Any], Any]:
    """Numbers in the other of the two forms that proto3 JSON allows, at random."""

    def change(key: str, item: Any) -> Any:
        if isinstance(item, bool) or key in IDS or rng.random() < 0.5:
            return item
        if isinstance(item, str):
            is_integer = key in INTEGERS or key.endswith("UnixNano")
            return int(item) if is_integer else item
        if isinstance(item, int | float):
            # Floats only where a double is meant: an integer may be quoted, too, but is none then.
            return repr(item)
        return item

    return change


@EACH
@settings(max_examples=examples(80), deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_numbers_are_read_in_both_forms(wire: SignalWire, data: st.DataObject, seed: int) -> None:
    message = data.draw(requests_of(wire))
    odd = walk(to_json(message), other_forms(random.Random(seed)))
    found = decode(json.dumps(odd).encode(), ResourceCache(), wire)

    assert same(to_message(wire, relayed(found)), message)
    assert not found.findings.unreadable


SUMS = ("sum", "min", "max")
DOUBLES = [
    ("gauge", lambda it: {"asDouble": it}),
    ("sum", lambda it: {"asDouble": it}),
    ("gauge", lambda it: {"asInt": "1", "exemplars": [{"asDouble": it}]}),
    *(("histogram", lambda it, name=name: {name: it}) for name in SUMS),
    ("histogram", lambda it: {"explicitBounds": [1.5, it], "bucketCounts": ["1", "2", "3"]}),
    *(("exponentialHistogram", lambda it, name=name: {name: it}) for name in SUMS),
    ("exponentialHistogram", lambda it: {"zeroThreshold": it}),
    ("summary", lambda it: {"sum": it}),
    ("summary", lambda it: {"quantileValues": [{"value": 1.5}, {"quantile": it}]}),
    ("summary", lambda it: {"quantileValues": [{"value": 1.5}, {"value": it}]}),
]


@pytest.mark.parametrize(("kind", "having"), DOUBLES)
def test_double_in_quotes_is_kept_as_the_number_wherever_it_stands(
    kind: str, having: Callable[[Any], Any]
) -> None:
    def kept(value: Any) -> bytes:
        metric = {"name": "m", kind: {"dataPoints": [{"timeUnixNano": "1"} | having(value)]}}
        body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
        found = decode(json.dumps(body).encode(), ResourceCache(), METRICS)
        return messages.encode(found.entries)

    assert b":2.25" in kept(2.25) or b",2.25" in kept(2.25)
    assert kept("2.25") == kept(2.25)
    for special in ("NaN", "Infinity", "-Infinity"):
        assert b'"%b"' % special.encode() in kept(special)


def items_of(wire: SignalWire, made: Any) -> Iterator[Any]:
    """Every item with all that is around it."""
    entries, scopes, records = wire.lists[Encoding.JSON]
    for entry in made.get(entries, []):
        for scope in entry.get(scopes, []):
            envelopes = [entry.get("resource"), entry.get("schemaUrl")]
            around = [*envelopes, scope.get("scope"), scope.get("schemaUrl")]
            for record in scope.get(records, []):
                if wire.signal is not Signal.METRICS:
                    yield around, record
                    continue
                data = next((key for key in record if isinstance(record[key], dict)), None)
                points = record[data].pop("dataPoints", []) if data else []
                for point in points:
                    yield around, record, point


@EACH
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data(), limit=st.integers(1, 3000))
def test_cut_request_has_every_item_once_in_order_with_all_around_it(
    wire: SignalWire, data: st.DataObject, limit: int
) -> None:
    message = data.draw(requests_of(wire))
    made = walk(to_json(message), lambda key, item: "ab" * 16 if key == "traceId" else item)
    found = decode(json.dumps(made).encode(), ResourceCache(), wire)
    whole = found.pieces(2**40)
    pieces = found.pieces(limit)

    def items(fragments: Any) -> list[Any]:
        name = wire.lists[Encoding.JSON].entries
        return [
            item
            for piece in fragments
            for item in items_of(wire, {name: json.loads(b"[%b]" % piece.body)})
        ]

    assert repr(items(pieces)) == repr(items(whole))
    assert [piece.items for piece in whole] == ([found.count_items()] if whole else [])
    for piece in pieces:
        assert piece.items == len(items([piece]))
        assert piece.signal is wire.signal
        assert len(piece.body) <= limit or piece.items == 1 or _around_bytes(piece) > limit // 2
    assert all(piece.trace_ids == b"" for piece in pieces) or wire is not METRICS


def _around_bytes(piece: Piece) -> int:
    """An estimate from above: what is not the smallest item."""
    return len(piece.body) - len(piece.body) // (piece.items + 1)


def metrics(*made: Any) -> Any:
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": list(made)}]}]}


def logs(*made: Any) -> Any:
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": list(made)}]}]}


def read(wire: SignalWire, made: Any) -> JsonRequest:
    body = made if isinstance(made, bytes) else builders.to_body(made)
    return decode(body, ResourceCache(), wire)


POINT = {"timeUnixNano": builders.START, "asDouble": 1.5}


@pytest.mark.parametrize(
    "point",
    [
        {"asInt": "0"},
        {"asDouble": 0.0},
        {"asDouble": "NaN"},
        {"asDouble": "-Infinity"},
        {"asInt": "-9223372036854775808"},
    ],
)
def test_value_that_is_zero_or_special_is_one_and_marks_nothing(point: Any) -> None:
    found = read(METRICS, metrics({"name": "m", "gauge": {"dataPoints": [point]}}))
    (piece,) = found.pieces(2**20)

    kept = json.loads(piece.body)["scopeMetrics"][0]["metrics"][0]["gauge"]["dataPoints"]
    assert kept == [point]
    assert piece.flags == BodyFlag.NONE


def test_fields_with_presence_stay_absent_or_zero() -> None:
    points = [{"count": "0"}, {"sum": 0.0, "min": 0.0, "max": 0.0}]
    found = read(METRICS, metrics({"name": "h", "histogram": {"dataPoints": points}}))
    (piece,) = found.pieces(2**20)

    (metric,) = json.loads(piece.body)["scopeMetrics"][0]["metrics"]
    assert metric["histogram"]["dataPoints"] == [{}, points[1]]


def test_special_double_of_a_points_attribute_marks_the_body() -> None:
    attribute = {"key": "a", "value": {"doubleValue": "NaN"}}
    point = POINT | {"attributes": [attribute]}
    found = read(METRICS, metrics({"name": "m", "gauge": {"dataPoints": [point]}}))

    assert found.pieces(2**20)[0].flags == BodyFlag.SPECIAL_DOUBLES


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b'"gauge":{"dataPoints":[{}]},"sum":{"dataPoints":[{},{}]}', ("sum", 2)),
        (b'"sum":{"dataPoints":[{},{}]},"gauge":{"dataPoints":[{}]}', ("gauge", 1)),
        (b'"sum":{"dataPoints":[{}]},"gauge":null', ("sum", 1)),
    ],
)
def test_last_of_two_kinds_of_a_metric_wins(text: bytes, kept: tuple[str, int]) -> None:
    body = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{%b}]}]}]}' % text
    found = read(METRICS, body)
    (metric,) = json.loads(messages.encode(found.records))

    assert {name: len(data["dataPoints"]) for name, data in metric.items()} == dict([kept])


def test_no_point_is_lost_where_a_list_stands_twice() -> None:
    points = b",".join([builders.to_body(POINT)] * 3)
    body = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[%b]%b}}]}]}]}'
    twice = body % (points, b',"dataPoints":[%b]' % points)

    assert read(METRICS, twice).count_items() == 6


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b'"asInt":"1","asDouble":2.5', {"asDouble": 2.5}),
        (b'"asDouble":2.5,"asInt":"1"', {"asInt": "1"}),
        (b'"asInt":9223372036854775808', {"asDouble": 2.0**63}),
    ],
)
def test_last_of_two_values_of_a_point_wins(text: bytes, kept: Any) -> None:
    body = builders.to_body(metrics({"gauge": {"dataPoints": [{"HERE": 1}]}}))
    found = read(METRICS, body.replace(b'"HERE":1', text))

    assert json.loads(messages.encode(found.records[0].gauge.dataPoints)) == [kept]


@pytest.mark.parametrize(
    ("name", "number"),
    [("TRACE", 1), ("TRACE2", 2), ("DEBUG4", 8), ("INFO", 9), ("WARN3", 15), ("FATAL4", 24)],
)
def test_severity_may_be_named(name: str, number: int) -> None:
    found = read(LOGS, logs({"severityNumber": f"SEVERITY_NUMBER_{name}"}))

    assert found.records[0].severityNumber == number
    assert found.findings.warnings == {"enum_name": 1}


def test_temporality_may_be_named() -> None:
    sum_ = {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "dataPoints": [POINT]}

    assert read(METRICS, metrics({"sum": sum_})).records[0].sum.aggregationTemporality == 2


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        ({"timeUnixNano": "yesterday"}, "timeUnixNano"),
        ({"severityNumber": "LOUD"}, "severityNumber"),
        ({"attributes": {}}, "attributes"),
        ("text", ""),
    ],
)
def test_log_record_that_cannot_be_read_costs_itself_alone(bad: Any, path: str) -> None:
    good = {"body": {"stringValue": "good"}}
    found = read(LOGS, logs(good, bad, good))
    (unreadable,) = found.findings.unreadable

    assert found.count_items() == 2
    assert (unreadable.place, unreadable.items) == ((0, 0, 1), 1)
    place = "resourceLogs[0].scopeLogs[0].logRecords[1]"
    assert unreadable.path == (f"{place}.{path}" if path else place)
    fragment = json.loads(found.fragment_as_sent(unreadable))
    assert fragment == {"scopeLogs": [{"logRecords": [bad]}]}


def test_id_of_a_log_record_that_is_no_text_costs_no_more_than_itself() -> None:
    found = read(LOGS, logs({"traceId": 7, "spanId": {"a": 1}, "severityText": "x"}))

    assert json.loads(messages.encode(found.records)) == [{"traceId": "7", "severityText": "x"}]
    assert found.findings.places["value_unreadable"] == [
        "resourceLogs[0].scopeLogs[0].logRecords[0].spanId"
    ]


def test_body_of_a_log_record_that_cannot_be_read_is_empty() -> None:
    found = read(LOGS, logs({"body": "text"}))

    assert json.loads(messages.encode(found.records)) == [{"body": {}}]
    assert found.findings.places["value_unreadable"] == [
        "resourceLogs[0].scopeLogs[0].logRecords[0].body"
    ]


@pytest.mark.parametrize(
    "bad", [{"timeUnixNano": "now"}, {"asInt": "many"}, {"flags": -1}, 5, {"attributes": 5}]
)
def test_point_that_cannot_be_read_costs_itself_alone(bad: Any) -> None:
    gauge = {"name": "m", "unit": "s", "gauge": {"dataPoints": [POINT, bad, POINT]}}
    found = read(METRICS, metrics({"name": "before", "gauge": {"dataPoints": [POINT]}}, gauge))
    (unreadable,) = found.findings.unreadable

    assert found.count_items() == 3
    assert unreadable.place == (0, 0, 1, 1)
    assert unreadable.path.startswith(
        "resourceMetrics[0].scopeMetrics[0].metrics[1].gauge.dataPoints[1]"
    )
    fragment = json.loads(found.fragment_as_sent(unreadable))
    (metric,) = fragment["scopeMetrics"][0]["metrics"]
    assert metric == {"name": "m", "unit": "s", "gauge": {"dataPoints": [bad]}}


@pytest.mark.parametrize(
    ("bad", "items"),
    [
        ({"gauge": []}, 1),
        ({"gauge": 5}, 1),
        ({"sum": {"dataPoints": {}}}, 1),
        ({"sum": {"isMonotonic": "no", "dataPoints": [POINT, POINT]}}, 2),
        ({"sum": {"isMonotonic": "no", "others": [1, 2, 3], "dataPoints": [POINT, POINT]}}, 2),
        ({"histogram": {"aggregationTemporality": "?", "dataPoints": [5, 6, 7]}}, 3),
        ({"histogram": {"dataPoints": [5, 6], "aggregationTemporality": "?"}}, 2),
    ],
)
def test_metric_that_cannot_be_read_costs_its_points_and_is_kept_as_it_was_sent(
    bad: Any, items: int
) -> None:
    flawed = {"histogram": {"dataPoints": [5]}} | bad
    good = {"name": "m", "gauge": {"dataPoints": [POINT]}}
    found = read(METRICS, metrics(flawed, good))

    assert found.count_items() == 1
    # Its own bad point is a part of it.
    (unreadable,) = found.findings.unreadable
    assert unreadable.place == (0, 0, 0)
    assert unreadable.items == items
    assert json.loads(write(unreadable.tree)) == flawed


def test_element_of_metrics_that_is_no_object_counts_as_one_point() -> None:
    found = read(METRICS, metrics(5, {"name": "m", "gauge": {"dataPoints": [POINT]}}))

    assert found.count_items() == 1
    assert [(each.place, each.items) for each in found.findings.unreadable] == [((0, 0, 0), 1)]


@pytest.mark.parametrize("member", ["description", "unit", "metadata"])
def test_what_a_metric_says_of_itself_costs_none_of_its_points(member: str) -> None:
    metric = {"name": "m", "gauge": {"dataPoints": [POINT]}}
    found = read(METRICS, metrics(metric | {member: 5}))

    assert json.loads(messages.encode(found.records)) == [metric]
    assert found.findings.unreadable == []
    assert found.findings.places == {
        "envelope_unreadable": [f"resourceMetrics[0].scopeMetrics[0].metrics[0].{member}"]
    }


def test_exemplar_that_cannot_be_read_is_left_out_and_told() -> None:
    exemplars = [{"timeUnixNano": "x"}, {"asInt": "1"}, None]
    point = POINT | {"exemplars": exemplars}
    found = read(METRICS, metrics({"gauge": {"dataPoints": [point]}}))

    assert json.loads(messages.encode(found.records[0].gauge.dataPoints[0].exemplars)) == [
        {"asInt": "1"}
    ]
    assert found.findings.warnings == {"exemplar_unreadable": 2}


@pytest.mark.parametrize("value", [-1, "-1", "1.5", 2**64])
@pytest.mark.parametrize("member", ["count", "bucketCounts"])
def test_count_that_is_none_costs_its_point(member: str, value: Any) -> None:
    point = {member: [value] if member == "bucketCounts" else value}
    found = read(METRICS, metrics({"histogram": {"dataPoints": [point, {"count": 5}]}}))

    assert found.count_items() == 1
    assert found.findings.unreadable[0].path.startswith(
        f"resourceMetrics[0].scopeMetrics[0].metrics[0].histogram.dataPoints[0].{member}"
    )


def test_metric_without_points_is_not_kept() -> None:
    made = metrics({"name": "none"}, {"name": "empty", "sum": {}})
    made["resourceMetrics"] += metrics({"name": "m", "gauge": {"dataPoints": [POINT]}})[
        "resourceMetrics"
    ]
    found = read(METRICS, made)
    (piece,) = found.pieces(2**20)

    assert found.count_items() == piece.items == 1
    assert json.loads(piece.body)["scopeMetrics"][0]["metrics"][0]["name"] == "m"
    assert read(METRICS, metrics({"name": "none"})).pieces(2**20) == ()


@pytest.mark.parametrize("signal", ["logs", "metrics"])
def test_fixtures_are_relayed_member_for_member(signal: str) -> None:
    wire = WIRE[Signal[signal.upper()]]
    for fixture in fixtures_of(signal):
        if fixture.name[:2] not in ("40", "41", "45", "50", "52", "59", "70", "71", "73", "75"):
            continue
        made = json.loads(fixture.body)
        found = decode(fixture.body, ResourceCache(), wire)

        assert same(to_message(wire, relayed(found)), to_message(wire, made)), fixture.name


@settings(max_examples=examples(100), deadline=None)
@given(
    counts=st.lists(st.one_of(st.integers(0, 2**64 + 5), st.text("0123456789-. e", max_size=21))),
    double=st.one_of(st.floats(), st.just("NaN"), st.text(max_size=3), st.integers()),
)
def test_exact_way_agrees_with_whatever_the_fast_way_accepts_of_a_point(
    counts: list[Any], double: Any
) -> None:
    if isinstance(double, float) and not math.isfinite(double):
        double = 0.5
    point = {"bucketCounts": counts, "sum": double, "explicitBounds": [double], "count": 3}
    body = builders.to_body(metrics({"histogram": {"dataPoints": [point]}}))
    try:
        fast = decode_fast(body, ResourceCache(), METRICS)
    except (Unusual, ValueError):
        return
    exact = decode_exact(body, ResourceCache(), METRICS)

    assert messages.encode(fast.entries) == messages.encode(exact.entries)
    assert fast.findings == exact.findings


@EACH
def test_body_with_blanks_is_vouched_for_by_the_fast_way(wire: SignalWire) -> None:
    """Longer than it need be, it is looked through for lists that stand twice; none does."""
    fixture = next(each for each in fixtures_of(wire.signal.word) if "full" in each.name)
    made = decode_exact(fixture.body, ResourceCache(), wire)
    entries = wire.lists[Encoding.JSON].entries
    (piece,) = made.pieces(2**40)
    body = json.dumps({entries: json.loads(b"[%b]" % piece.body)}, indent=8).encode()
    found = decode_fast(body, ResourceCache(), wire)

    assert len(body) > found.normal_bytes + 1000
    assert [each.body for each in found.pieces(2**40)] == [piece.body]


@EACH
def test_envelope_that_cannot_be_read_is_kept_as_it_came(wire: SignalWire) -> None:
    entries, scopes, records = wire.lists[Encoding.JSON]
    resource = {"attributes": [builders.text_attribute("k", "v")]}
    torn = {scopes: 5}
    whole = {"resource": resource, scopes: [{records: "none"}], "schemaUrl": "u"}
    found = read(wire, {entries: [torn, whole]})
    (entry, scope) = found.findings.unreadable

    assert (entry.place, scope.place) == ((0,), (1, 0))
    assert (entry.items, scope.items) == (1, 1)  # nobody knows of how many
    assert json.loads(found.fragment_as_sent(entry)) == torn
    assert json.loads(found.fragment_as_sent(scope)) == whole
