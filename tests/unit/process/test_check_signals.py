"""Log records and metrics: every fixture's answer, and each rule, in both encodings."""

import json
import re
from typing import Any, Final

import pytest

from relay.model.errors import TooHeavy
from relay.model.records import Encoding, Signal
from relay.otlp import transcode
from relay.otlp.signals import LOGS, METRICS, WIRE, SignalWire
from relay.process.check.ids import MalformedIds
from relay.process.check.metric_rules import MOST_BUCKETS
from relay.process.check.rejections import AllItemsRejected
from relay.process.check.weight import MOST_FLAWED, MOST_MESSAGES
from relay.process.prepare import Checked, Prepare, PrepareSettings
from tests.support import builders
from tests.support.fixtures import NEW_NS, Fixture, fixtures_of

LIMIT = 2**40
NOW: Final = NEW_NS
START: Final = str(NEW_NS)
BOTH = pytest.mark.parametrize("encoding", list(Encoding), ids=["json", "protobuf"])
# Enums by name are read, with a warning, from JSON only.
NAMES = {"SEVERITY_NUMBER_WARN2": 14, "AGGREGATION_TEMPORALITY_DELTA": 1}
WARNED_FOR_A_NAME = {"46_log_severities"}
WITHOUT_TWIN = {"48_spans_at_logs"}

CASES = [
    pytest.param(WIRE[signal], encoding, fixture, id=f"{fixture.name}-{encoding.name}")
    for signal in (Signal.LOGS, Signal.METRICS)
    for fixture in fixtures_of(signal.name.lower())
    for encoding in Encoding
    if encoding is Encoding.JSON or fixture.name not in WITHOUT_TWIN
]


def check(
    made: builders.Json | bytes,
    wire: SignalWire,
    encoding: Encoding,
    mode: MalformedIds = "reject",
    *,
    is_bounded: bool = False,
) -> Checked:
    body = made if isinstance(made, bytes) else encoded(made, wire, encoding)
    prepare = Prepare(PrepareSettings(malformed_ids=mode), clock_ns=lambda: NOW)
    return prepare.check(body, encoding, signal=wire.signal, is_bounded=is_bounded)


def encoded(made: builders.Json, wire: SignalWire, encoding: Encoding) -> bytes:
    if encoding is Encoding.JSON:
        return builders.to_body(made)
    text = json.dumps(made)
    for name, number in NAMES.items():
        text = text.replace(f'"{name}"', str(number))
    body: bytes = builders.protobuf_twin(json.loads(text), wire.request).SerializeToString()
    return body


def relayed(checked: Checked) -> builders.Json:
    """What remains, as OTLP/JSON."""
    request = checked.request
    fragments = [piece.body for piece in request.pieces(LIMIT)]
    if request.encoding is Encoding.PROTOBUF:
        fragments = [transcode.to_json(each, request.wire.signal) for each in fragments]
    tree: builders.Json = json.loads(request.wire.json_request % b",".join(fragments))
    return tree


def at(tree: Any, path: str) -> Any:
    """What stands there; None if nothing does."""
    for step in re.findall(r"\w+", path):
        try:
            tree = tree[int(step)] if step.isdigit() else tree[step]
        except (KeyError, IndexError):
            return None
    return tree


@pytest.mark.parametrize(("wire", "encoding", "fixture"), CASES)
def test_fixture_is_answered_and_relayed_as_expected(
    wire: SignalWire, encoding: Encoding, fixture: Fixture
) -> None:
    expected = fixture.expected
    body = encoded(json.loads(fixture.body), wire, encoding)
    if expected["status"] == 400:
        with pytest.raises(AllItemsRejected) as refusal:
            check(body, wire, encoding)
        assert sum(refusal.value.counts.values()) == expected["rejected"]
        return

    checked = check(body, wire, encoding)
    assert (checked.items, len(checked.rejections)) == (expected["accepted"], expected["rejected"])
    is_named = encoding is Encoding.PROTOBUF and fixture.name in WARNED_FOR_A_NAME
    assert bool(checked.warnings) is (expected.get("warning", False) and not is_named)
    assert bool(checked.message()) is bool(checked.warnings or expected["rejected"])
    tree = relayed(checked)
    for path, value in expected.get("relayed", {}).items():
        assert at(tree, path) == (str(NOW) if value == "arrival" else value), path


# --- log records ---------------------------------------------------------------------------------


def logs(*records: builders.Json, service: str = "shop", scope: str = "lib") -> builders.Json:
    """A request with these log records, each with a time unless it says otherwise."""
    timed = [{"timeUnixNano": START} | record for record in records]
    resource = {"attributes": [builders.text_attribute("service.name", service)]}
    scopes = [{"scope": {"name": scope}, "logRecords": timed}]
    return {"resourceLogs": [{"resource": resource, "scopeLogs": scopes}]}


def log_records(checked: Checked) -> list[builders.Json]:
    found: list[builders.Json] = at(relayed(checked), "resourceLogs[0].scopeLogs[0].logRecords")
    return found


@BOTH
def test_malformed_id_of_a_log_record_becomes_an_attribute(encoding: Encoding) -> None:
    made = logs({"traceId": "app_trace_001", "spanId": "xyz"}, {"traceId": builders.TRACE_ID})
    checked = check(made, LOGS, encoding)
    odd, good = log_records(checked)

    assert ("traceId" in odd, "spanId" in odd) == (False, False)
    assert odd["attributes"] == [
        builders.text_attribute("relay.original_trace_id", "app_trace_001"),
        builders.text_attribute("relay.original_span_id", "xyz"),
    ]
    assert good["traceId"] == builders.TRACE_ID
    assert checked.warnings == {"log_ids_malformed": 2}
    assert checked.request.pieces(LIMIT)[0].trace_ids.hex() == builders.TRACE_ID


@BOTH
@pytest.mark.parametrize("mode", ["derive", "auto"])
def test_log_record_of_a_derived_trace_finds_it(encoding: Encoding, mode: MalformedIds) -> None:
    ids = {"traceId": "app_trace_001", "spanId": "span-1"}
    (record,) = log_records(check(logs(ids, service="openrouter"), LOGS, encoding, mode))
    spans = Prepare(PrepareSettings(malformed_ids=mode)).check(
        builders.to_body(builders.request(builders.span(**ids), service="openrouter")),
        Encoding.JSON,
    )
    (span,) = spans.request.records

    assert (record["traceId"], record["spanId"]) == (span.traceId, span.spanId)
    assert record["attributes"][0]["value"] == {"stringValue": "app_trace_001"}


@BOTH
def test_each_log_record_without_any_time_gets_that_of_its_arrival(encoding: Encoding) -> None:
    none = {"timeUnixNano": "0"}
    observed = none | {"observedTimeUnixNano": START}
    found = log_records(check(logs(none, {}, observed, none), LOGS, encoding))

    times = [(each.get("timeUnixNano"), each.get("observedTimeUnixNano")) for each in found]
    assert times == [(None, str(NOW)), (START, None), (None, START), (None, str(NOW))]


@BOTH
def test_service_and_body_of_log_records_are_told_to_the_courier(encoding: Encoding) -> None:
    made = logs({"body": {"arrayValue": {"values": [{"doubleValue": "NaN"}]}}}, {"traceId": ""})
    (piece,) = check(made, LOGS, encoding).request.pieces(LIMIT)

    assert (piece.signal, piece.items, piece.services) == (Signal.LOGS, 2, ("shop",))
    assert (piece.flags.name, piece.trace_ids) == ("SPECIAL_DOUBLES", b"")


# --- metrics -------------------------------------------------------------------------------------


def point(**members: Any) -> builders.Json:
    """A number point; `members` replace its own, and None takes one away."""
    made = {"timeUnixNano": START, "asInt": "1"} | members
    return {key: item for key, item in made.items() if item is not None}


def gauge(*points: builders.Json, name: str = "g") -> builders.Json:
    return {"name": name, "gauge": {"dataPoints": list(points)}}


def metrics(*made: builders.Json) -> builders.Json:
    resource = {"attributes": [builders.text_attribute("service.name", "shop")]}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [*made]}]}]}


def kept_metrics(checked: Checked) -> list[builders.Json]:
    found: list[builders.Json] = at(relayed(checked), "resourceMetrics[0].scopeMetrics[0].metrics")
    return found


PATH = "resourceMetrics[0].scopeMetrics[0].metrics"


@BOTH
def test_points_are_rejected_one_by_one_and_kept_by_reason(encoding: Encoding) -> None:
    made = metrics(
        gauge(point(), point(asInt=None), point(timeUnixNano=None), point(asInt=None)),
        gauge(point(), point(), name=""),
        gauge(point(asInt="7"), name="last"),
    )
    checked = check(made, METRICS, encoding)

    assert (checked.items, len(checked.rejections)) == (2, 5)
    assert [(each.reason, each.path, each.items) for each in checked.rejected] == [
        ("value_missing", f"{PATH}[0].gauge.dataPoints[1]", 2),
        ("time_missing", f"{PATH}[0].gauge.dataPoints[2].timeUnixNano", 1),
        ("metric_name_empty", f"{PATH}[1].name", 2),
    ]
    assert [metric["name"] for metric in kept_metrics(checked)] == ["g", "last"]
    assert checked.message().startswith("5 of 7 data points rejected: ")
    for each in checked.rejected:
        fragment = each.body
        if encoding is Encoding.PROTOBUF:
            fragment = transcode.to_json(fragment, Signal.METRICS)
        (metric,) = at(json.loads(fragment), "scopeMetrics[0].metrics")
        assert len(metric["gauge"]["dataPoints"]) == each.items
        assert each.signal is Signal.METRICS


@BOTH
@pytest.mark.parametrize("kind", ["gauge", "sum", "histogram", "exponentialHistogram", "summary"])
def test_point_of_every_kind_needs_a_time_and_none_needs_a_value_where_marked(
    encoding: Encoding, kind: str
) -> None:
    points = [{"timeUnixNano": START, "flags": 3}, {"flags": 1}]
    made = metrics({"name": "m", kind: {"dataPoints": points, "aggregationTemporality": 1}})
    if kind in ("gauge", "summary"):
        del made["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0][kind][
            "aggregationTemporality"
        ]
    checked = check(made, METRICS, encoding)

    assert [(each.reason, each.path) for each in checked.rejected] == [
        ("time_missing", f"{PATH}[0].{kind}.dataPoints[1].timeUnixNano")
    ]
    assert at(kept_metrics(checked), f"[0].{kind}.dataPoints") == points[:1]
    assert not checked.warnings


@BOTH
def test_exemplar_ids_are_cleared_and_valueless_exemplars_removed(encoding: Encoding) -> None:
    good = {"traceId": builders.TRACE_ID, "spanId": builders.SPAN_ID, "asInt": "1"}
    zero = {"traceId": "0" * 32, "spanId": "0" * 16, "asDouble": 0.5}
    odd = {"traceId": "abc", "spanId": builders.SPAN_ID, "asInt": "2"}
    without = {"traceId": builders.TRACE_ID, "timeUnixNano": START}
    made = metrics(gauge(point(exemplars=[good, zero, odd, without])))
    checked = check(made, METRICS, encoding)

    assert at(kept_metrics(checked), "[0].gauge.dataPoints[0].exemplars") == [
        good,
        {"asDouble": 0.5},
        {"spanId": builders.SPAN_ID, "asInt": "2"},
    ]
    assert checked.warnings == {"exemplar_ids_malformed": 1, "exemplar_without_value": 1}
    assert (checked.items, len(checked.rejections)) == (1, 0)


def histogram(**members: Any) -> builders.Json:
    made = {"timeUnixNano": START, "count": "3", "bucketCounts": ["1", "2"]}
    points = [made | {"explicitBounds": [1.5]} | members]
    return {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": points}}


def exponential(**members: Any) -> builders.Json:
    made = {"timeUnixNano": START, "count": "6", "zeroCount": "1"}
    sides = {"positive": {"bucketCounts": ["2"]}, "negative": {"bucketCounts": ["1", "2"]}}
    points = [made | sides | members]
    return {
        "name": "e",
        "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": points},
    }


@BOTH
@pytest.mark.parametrize(
    ("metric", "is_odd"),
    [
        (histogram(), False),
        (histogram(bucketCounts=[], explicitBounds=[]), False),
        (histogram(bucketCounts=["3"], explicitBounds=[]), False),
        (histogram(bucketCounts=["1", "1", "1"]), True),
        (histogram(bucketCounts=[]), True),
        (histogram(count="4"), True),
        (histogram(bucketCounts=["1", "1", "1"], explicitBounds=[2, 2]), True),
        (histogram(bucketCounts=["1", "1", "1"], explicitBounds=["NaN", 2]), True),
        (histogram(bucketCounts=["1", "1", "1"], explicitBounds=[2, "Infinity"]), False),
        (histogram(count="4", flags=1), False),
        (exponential(), False),
        (exponential(count="7"), True),
        (exponential(positive={"offset": 3}, count="4"), False),
    ],
)
def test_histogram_whose_buckets_do_not_fit_is_kept_and_told(
    encoding: Encoding, metric: builders.Json, is_odd: bool
) -> None:
    checked = check(metrics(metric), METRICS, encoding)

    assert checked.warnings == ({"histogram_shape": 1} if is_odd else {})
    assert checked.items == 1


@BOTH
def test_buckets_of_one_request_are_looked_at_within_a_bound(encoding: Encoding) -> None:
    bounds = list(range(MOST_BUCKETS - 1))
    many = histogram(
        count=str(MOST_BUCKETS), bucketCounts=["1"] * MOST_BUCKETS, explicitBounds=bounds
    )
    odd = histogram(count="4")

    assert check(metrics(odd, many), METRICS, encoding).warnings == {"histogram_shape": 1}
    assert check(metrics(many, odd), METRICS, encoding).warnings == {}
    assert check(metrics(many, exponential(count="4")), METRICS, encoding).warnings == {}


@BOTH
@pytest.mark.parametrize("more", [0, 1])
def test_as_many_buckets_as_the_bound_are_looked_at_and_no_more(
    encoding: Encoding, more: int
) -> None:
    many = exponential(positive={"bucketCounts": ["1"] * (MOST_BUCKETS + more)}, negative={})

    is_looked_at = not more
    assert check(metrics(many), METRICS, encoding).warnings == (
        {"histogram_shape": 1} if is_looked_at else {}
    )


@BOTH
@pytest.mark.parametrize("member", ["traceId", "spanId"])
def test_exemplar_of_which_only_an_id_is_cleared_is_relayed_without_it(
    encoding: Encoding, member: str
) -> None:
    ids = {"traceId": builders.TRACE_ID, "spanId": builders.SPAN_ID}
    zero = "0" * len(ids[member])
    sent = metrics(gauge(point(exemplars=[{"asInt": "1"} | ids | {member: zero}])))
    (exemplar,) = at(
        kept_metrics(check(sent, METRICS, encoding)), "[0].gauge.dataPoints[0].exemplars"
    )

    del ids[member]
    assert exemplar == {"asInt": "1"} | ids


@BOTH
def test_nothing_but_metrics_without_points_is_an_empty_request(encoding: Encoding) -> None:
    made = metrics(gauge(), {"name": "s", "sum": {"aggregationTemporality": 2}})
    checked = check(made, METRICS, encoding)

    assert (checked.items, checked.request.pieces(LIMIT), checked.message()) == (0, (), "")


@BOTH
def test_rejected_points_are_kept_with_all_that_their_metric_says(encoding: Encoding) -> None:
    said: builders.Json = {"name": "s", "unit": "By", "description": "sent"}
    points = [point(), point(asInt=None, flags=2), point(timeUnixNano=None)]
    kind: builders.Json = {"aggregationTemporality": 2, "isMonotonic": True}
    checked = check(metrics(said | {"sum": kind | {"dataPoints": points}}), METRICS, encoding)

    for rejected, expected in zip(checked.rejected, points[1:], strict=True):
        fragment = rejected.body
        if encoding is Encoding.PROTOBUF:
            fragment = transcode.to_json(fragment, Signal.METRICS)
        (metric,) = at(json.loads(fragment), "scopeMetrics[0].metrics")
        assert metric == said | {"sum": kind | {"dataPoints": [expected]}}


@BOTH
def test_metrics_of_no_known_kind_or_temporality_are_counted(encoding: Encoding) -> None:
    without = {"name": "s", "sum": {"dataPoints": [point()]}}
    made = metrics({"name": "odd"}, without, {"name": "odd"}, gauge(point()), without, without)
    checked = check(made, METRICS, encoding)

    assert checked.warnings == {"metric_kind_unknown": 2, "temporality_unspecified": 3}
    assert checked.items == 4


@BOTH
def test_oddities_of_several_points_are_counted_one_by_one(encoding: Encoding) -> None:
    without = {"timeUnixNano": START}
    odd = {"traceId": "abc", "asInt": "2"}
    made = metrics(
        gauge(point(exemplars=[without, odd, without]), point(exemplars=[odd, without])),
        histogram(count="4"),
        histogram(count="5"),
    )
    checked = check(made, METRICS, encoding)

    assert checked.warnings == {
        "exemplar_ids_malformed": 2,
        "exemplar_without_value": 3,
        "histogram_shape": 2,
    }


@BOTH
@pytest.mark.parametrize(
    ("what", "most"),
    [("points", MOST_MESSAGES), ("exemplars", MOST_FLAWED), ("flawed metrics", MOST_FLAWED)],
)
def test_metrics_are_looked_at_in_the_loop_within_a_bound(
    encoding: Encoding, what: str, most: int
) -> None:
    def made(count: int) -> bytes:
        first = count // 2  # in two metrics, which are counted together
        exemplar = {"asInt": "1"}
        of = {
            "points": lambda: [gauge(*[point()] * n) for n in (first, count - first)],
            "exemplars": lambda: [
                gauge(point(exemplars=[exemplar] * n)) for n in (first, count - first)
            ],
            "flawed metrics": lambda: [gauge(point()), *[gauge(point(asInt=None))] * count],
        }
        return encoded(metrics(*of[what]()), METRICS, encoding)

    check(made(most), METRICS, encoding, is_bounded=True)
    check(made(most + 1), METRICS, encoding)
    with pytest.raises(TooHeavy):
        check(made(most + 1), METRICS, encoding, is_bounded=True)
