"""What is told of single items, and those picked by it, held against the official classes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model.records import Encoding, Signal
from relay.otlp.item_facts import temporalities_of, times_of
from relay.otlp.signals import WIRE
from relay.otlp.split import pick_items
from relay.otlp.transcode import TranscodeError, to_json
from tests.support.builders import to_body
from tests.support.otlp_messages import messages_of

JSON, PROTOBUF = Encoding.JSON, Encoding.PROTOBUF
metrics = messages_of(WIRE[Signal.METRICS].request.DESCRIPTOR)
logs = messages_of(WIRE[Signal.LOGS].request.DESCRIPTOR)


def told(request: Any) -> list[tuple[Any, Any]]:
    """Each point with the metric that it is of."""
    return [
        (metric, point)
        for entry in request.resource_metrics
        for scope in entry.scope_metrics
        for metric in scope.metrics
        if metric.WhichOneof("data")
        for point in getattr(metric, metric.WhichOneof("data")).data_points
    ]


def fragments(request: Any, signal: Signal) -> list[tuple[bytes, Encoding]]:
    body = request.SerializeToString()
    return [(body, PROTOBUF), (to_json(body, signal), JSON)]


@given(metrics)
def test_temporality_and_time_of_each_point_are_those_of_the_message(request: Any) -> None:
    points = told(request)
    temporalities = [
        getattr(getattr(metric, metric.WhichOneof("data")), "aggregation_temporality", None)
        for metric, _ in points
    ]
    times = [point.time_unix_nano for _, point in points]

    for fragment, encoding in fragments(request, Signal.METRICS):
        assert temporalities_of(fragment, encoding) == temporalities
        found = times_of(fragment, encoding, Signal.METRICS)
        assert [each.time_ns for each in found] == times


@given(logs)
def test_time_of_a_log_record_is_its_own_else_that_of_its_observation(request: Any) -> None:
    times = [
        record.time_unix_nano or record.observed_time_unix_nano
        for entry in request.resource_logs
        for scope in entry.scope_logs
        for record in scope.log_records
    ]

    for fragment, encoding in fragments(request, Signal.LOGS):
        found = times_of(fragment, encoding, Signal.LOGS)
        assert [each.time_ns for each in found] == times


@given(metrics, st.data())
def test_picked_points_and_the_others_are_the_whole_and_keep_their_metric(
    request: Any, data: st.DataObject
) -> None:
    count = len(told(request))
    marks = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))

    for fragment, encoding in fragments(request, Signal.METRICS):
        picked = pick_items(fragment, encoding, marks, Signal.METRICS)
        others = pick_items(fragment, encoding, [not mark for mark in marks], Signal.METRICS)
        whole = temporalities_of(fragment, encoding)
        for part, wanted in ((picked, True), (others, False)):
            kept = [each for each, mark in zip(whole, marks, strict=True) if mark is wanted]
            assert temporalities_of(part, encoding) == kept
        if encoding is PROTOBUF:
            parsed = told(WIRE[Signal.METRICS].request.FromString(picked))
            expected = [it for it, mark in zip(told(request), marks, strict=True) if mark]
            assert [point for _, point in parsed] == [point for _, point in expected]
            assert [each.name for each, _ in parsed] == [each.name for each, _ in expected]


def test_series_is_told_by_resource_name_and_attributes() -> None:
    def point(series: str, time: int) -> dict[str, Any]:
        attribute = {"key": "s", "value": {"stringValue": series}}
        return {"attributes": [attribute], "timeUnixNano": str(time)}

    entry = {
        "scopeMetrics": [
            {
                "metrics": [
                    {"name": "a", "gauge": {"dataPoints": [point("x", 1), point("y", 1)]}},
                    {"name": "a", "gauge": {"dataPoints": [point("x", 2)]}},
                    {"name": "b", "gauge": {"dataPoints": [point("x", 2)]}},
                ]
            }
        ]
    }
    found = times_of(to_body(entry), JSON, Signal.METRICS)

    assert found[0].series == found[2].series
    assert len({each.series for each in found}) == 3


def test_values_of_any_depth_are_passed_over() -> None:
    entry = to_body({"scopeLogs": [{"logRecords": [{"timeUnixNano": "7", "body": 0}]}]})
    deep = entry.replace(b'"body":0', b'"body":' + nested_body(5000))
    assert [each.time_ns for each in times_of(deep, JSON, Signal.LOGS)] == [7]


def nested_body(levels: int) -> bytes:
    return b'{"arrayValue":{"values":[' * levels + b'{"intValue":"1"}' + b"]}}" * levels


@pytest.mark.parametrize(
    ("fragment", "encoding"), [(b'{"scopeMetrics":5}', JSON), (b"\x0a\x7f", PROTOBUF)]
)
def test_what_is_no_fragment_is_an_error_of_transcoding(
    fragment: bytes, encoding: Encoding
) -> None:
    with pytest.raises(TranscodeError):
        temporalities_of(fragment, encoding)
