"""Log records and data points: what is taken and refused, and what the journal knows of them."""

import json
from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from mockcollector import MockCollector, partial
from tests.support.fixtures import Fixture, fixtures_of
from tests.unit.mockcollector.exchange import (
    JSON,
    PROTOBUF,
    Reply,
    attribute_json,
    logs_json,
    metrics_json,
    point_json,
    record_json,
    request_json,
    send,
    sum_json,
    twin,
)

# Names of enums: a relay may read them, OTLP has them not.
WITH_NAMES = {"46_log_severities", "56_metric_temporality"}
FIXTURES = [(signal, each) for signal in ("logs", "metrics") for each in fixtures_of(signal)]
BOTH = pytest.mark.parametrize("is_json", [True, False], ids=["json", "protobuf"])


def post(collector: MockCollector, signal: str, made: Any, *, is_json: bool = True) -> Reply:
    path = f"/v1/{signal}"
    return send(collector, made if is_json else twin(made, signal), path=path)


def accepted(collector: MockCollector) -> tuple[int, int]:
    counts = collector.journal.counts
    return counts.log_records_accepted, counts.data_points_accepted


@pytest.mark.parametrize(("signal", "fixture"), FIXTURES, ids=str)
def test_fixture_is_answered_as_the_specification_says(
    collector: MockCollector, signal: str, fixture: Fixture
) -> None:
    reply = send(collector, fixture.body, path=f"/v1/{signal}", headers=JSON)
    journal = collector.journal

    if fixture.name in WITH_NAMES:
        assert reply.status == 400
        assert "not an enum name" in reply.json()["message"]
        return
    assert reply.status == fixture.expected["status"], reply.body
    count = fixture.expected["accepted"]
    assert accepted(collector) == ((count, 0) if signal == "logs" else (0, count))
    assert len(journal.log_records()) + len(journal.data_points()) == count
    assert journal.spans() == []


@pytest.mark.parametrize(
    ("signal", "fixture"), [each for each in FIXTURES if each[1].name not in WITH_NAMES], ids=str
)
def test_protobuf_twin_of_a_fixture_is_answered_alike(
    collector: MockCollector, signal: str, fixture: Fixture
) -> None:
    message = twin(json.loads(fixture.body), signal)
    reply = send(collector, message, path=f"/v1/{signal}")

    assert reply.status == fixture.expected["status"], reply.body
    assert sum(accepted(collector)) == fixture.expected["accepted"]
    if reply.status == 200:
        assert collector.journal.requests()[0].message == message
        assert reply.body == b""


@pytest.mark.parametrize(
    ("signal", "key", "response"),
    [
        ("logs", "rejectedLogRecords", ExportLogsServiceResponse()),
        ("metrics", "rejectedDataPoints", ExportMetricsServiceResponse()),
    ],
)
def test_partial_success_counts_the_items_of_its_signal(
    signal: str, key: str, response: Message
) -> None:
    made = logs_json(record_json(), record_json())
    if signal == "metrics":
        made = metrics_json(sum_json(point_json(1), point_json(2)))
    script = [partial(1, "one is bad"), partial(1, "one is bad")]
    with MockCollector(script=script) as collector:
        as_json = post(collector, signal, made)
        as_protobuf = post(collector, signal, made, is_json=False)
        counts = collector.journal.counts

    assert as_json.json() == {"partialSuccess": {key: "1", "errorMessage": "one is bad"}}
    response.ParseFromString(as_protobuf.body)
    document = response.partial_success  # type: ignore[attr-defined]
    assert document.error_message == "one is bad"
    assert document.ListFields()[0][1] == 1
    assert (counts.accepted[signal], counts.refused[signal]) == (2, 2)  # type: ignore[index]


INVALID_RECORDS = [
    ({"traceId": "0af7"}, "traceId: must be 32 hexadecimal digits"),
    ({"spanId": "xyz"}, "spanId: must be 16 hexadecimal digits"),
    ({"severityNumber": "INFO"}, "not an enum name"),
    ({"timeUnixNano": "-1"}, "must be between 0"),
]
INVALID_METRICS = [
    (sum_json({"timeUnixNano": "1"}), "dataPoints[0] must have asDouble or asInt"),
    (sum_json({"asInt": "1"}), "sum.dataPoints[0].timeUnixNano must be there"),
    (sum_json({"asInt": "1", "timeUnixNano": "0"}), "timeUnixNano must be there, and not 0"),
    (sum_json(point_json(), name=""), "metrics[1].name must not be empty"),
    (sum_json(point_json(exemplars=[{"timeUnixNano": "1"}])), "exemplars[0] must have asDouble"),
    (sum_json(point_json(exemplars=[{"asInt": "1", "spanId": "ab"}])), "16 hexadecimal digits"),
    (sum_json(point_json(asDouble=1.5)), "second member of the oneof"),
    (
        {"name": "h", "histogram": {"dataPoints": [{"timeUnixNano": "1", "count": "-1"}]}},
        "must be between 0",
    ),
]


@pytest.mark.parametrize(("fields", "words"), INVALID_RECORDS)
def test_invalid_log_record_refuses_the_whole_request(
    collector: MockCollector, fields: dict[str, Any], words: str
) -> None:
    reply = post(collector, "logs", logs_json(record_json(), record_json(**fields)))

    assert reply.status == 400
    assert words in reply.json()["message"]
    assert accepted(collector) == (0, 0)


@pytest.mark.parametrize(("metric", "words"), INVALID_METRICS)
def test_invalid_data_point_refuses_the_whole_request(
    collector: MockCollector, metric: dict[str, Any], words: str
) -> None:
    reply = post(collector, "metrics", metrics_json(sum_json(point_json(), name="good"), metric))

    assert reply.status == 400
    assert words in reply.json()["message"]
    assert accepted(collector) == (0, 0)


def test_ids_of_another_length_are_refused_in_protobuf(collector: MockCollector) -> None:
    logs: Any = twin(logs_json(), "logs")
    logs.resource_logs[0].scope_logs[0].log_records[0].trace_id = b"short"
    metrics: Any = twin(metrics_json(), "metrics")
    point = metrics.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0]
    point.exemplars.add(as_int=1, span_id=b"short")

    for signal, message in (("logs", logs), ("metrics", metrics)):
        reply = send(collector, message, path=f"/v1/{signal}")
        assert reply.status == 400
        assert b"must be empty or" in reply.body


@BOTH
def test_ids_of_log_records_are_optional_each_by_itself(
    collector: MockCollector, is_json: bool
) -> None:
    made = logs_json(
        record_json(), record_json(traceId="0" * 32), record_json(spanId="b7ad6b7169203331")
    )

    assert post(collector, "logs", made, is_json=is_json).status == 200
    records = collector.journal.log_records()
    assert [record.trace_id for record in records] == ["", "", ""]
    assert [record.span_id for record in records] == ["", "", "b7ad6b7169203331"]


@BOTH
def test_marked_point_needs_no_value(collector: MockCollector, is_json: bool) -> None:
    made = metrics_json(sum_json({"timeUnixNano": "7", "flags": 1}))

    assert post(collector, "metrics", made, is_json=is_json).status == 200
    assert collector.journal.assert_data_point(flags=1).value is None


def test_metrics_in_protobuf_at_logs_are_refused_and_sent_to_their_path(
    collector: MockCollector,
) -> None:
    # With a usual time its bytes are no text, and no body of a log record.
    point = {"timeUnixNano": "7", "asInt": "1"}
    gauge = metrics_json({"name": "g", "unit": "1", "gauge": {"dataPoints": [point]}})
    reply = send(collector, twin(gauge, "metrics"), path="/v1/logs")

    assert reply.status == 400
    assert b"send it to /v1/metrics" in reply.body


def test_spans_in_json_at_logs_are_an_unknown_key(collector: MockCollector) -> None:
    assert send(collector, request_json(), path="/v1/logs").status == 200
    (request,) = collector.journal.requests(signal="logs")
    assert request.unknown_keys == ("resourceSpans",)
    assert (request.item_count, request.span_count) == (0, 0)


FLAWED = [
    (sum_json(point_json(), aggregationTemporality=0), "neither delta (1) nor cumulative (2)"),
    ({"name": "none"}, "has no kind of data"),
    (
        {
            "name": "h",
            "histogram": {
                "aggregationTemporality": 2,
                "dataPoints": [
                    {
                        "timeUnixNano": "1",
                        "count": "5",
                        "bucketCounts": ["1", "2"],
                        "explicitBounds": [2, 1],
                    }
                ],
            },
        },
        "explicitBounds: must rise",
    ),
    (
        {
            "name": "e",
            "exponentialHistogram": {
                "aggregationTemporality": 1,
                "dataPoints": [{"timeUnixNano": "1", "count": "5", "zeroCount": "1"}],
            },
        },
        "exponentialHistogram.dataPoints[0].count: is not the sum",
    ),
]


@pytest.mark.parametrize(("metric", "words"), FLAWED)
def test_what_no_sender_may_do_is_taken_and_noted(
    collector: MockCollector, metric: dict[str, Any], words: str
) -> None:
    assert post(collector, "metrics", metrics_json(metric)).status == 200
    assert any(words in flaw for flaw in collector.journal.requests()[0].flaws)


def test_right_request_has_no_flaws(collector: MockCollector) -> None:
    for signal, name in (("metrics", "50_metric_full"), ("logs", "41_log_full")):
        (body,) = (each.body for each in fixtures_of(signal) if each.name == name)
        assert send(collector, body, path=f"/v1/{signal}", headers=JSON).status == 200

    assert [request.flaws for request in collector.journal.requests()] == [(), ()]


def test_severity_that_is_none_is_noted(collector: MockCollector) -> None:
    post(collector, "logs", logs_json(record_json(severityNumber=25)))

    (flaw,) = collector.journal.requests()[0].flaws
    assert flaw == "resourceLogs[0].scopeLogs[0].logRecords[0].severityNumber: is none of 0 to 24"


def test_log_records_are_asked_for_in_the_order_they_came(collector: MockCollector) -> None:
    order = [attribute_json("order", intValue="7")]
    first = logs_json(record_json(body={"stringValue": "b"}, attributes=order), record_json())
    post(collector, "logs", first)
    second = record_json(body={"stringValue": "a"}, attributes=order, eventName="order.paid")
    post(collector, "logs", logs_json(second, service="bank"), is_json=False)
    journal = collector.journal

    assert [r.body for r in journal.log_records(attributes={"order": 7})] == ["b", "a"]
    found = journal.assert_log_record(event_name="order.paid", resource={"service.name": "bank"})
    assert (found.severity_number, found.scope.name, found.request_number) == (9, "lib", 2)
    assert found.time_unix_nano == 1767225600000000000
    journal.assert_no_log_record(severity_text="WARN")
    with pytest.raises(AssertionError, match="1 log records have what none should"):
        journal.assert_no_log_record(event_name="order.paid")
    with pytest.raises(AssertionError, match=r"the nearest of 3 has 1 of 2: <log record 'b'"):
        journal.assert_log_record(body="b", severity_number=17)
    with pytest.raises(TypeError, match="'name' cannot be asked of a log record"):
        journal.log_records(name="x")  # type: ignore[call-arg]


def test_data_points_are_asked_for_by_name_attributes_and_values(collector: MockCollector) -> None:
    eu = {"attributes": [attribute_json("region", stringValue="eu")]}
    histogram = {
        "name": "took",
        "unit": "s",
        "histogram": {
            "aggregationTemporality": 1,
            "dataPoints": [
                {
                    "timeUnixNano": "9",
                    "count": "3",
                    "sum": 0,
                    "bucketCounts": ["1", "2"],
                    "explicitBounds": [0.5],
                }
            ],
        },
    }
    made = metrics_json(sum_json(point_json(2, **eu), point_json(1), point_json(2.0)), histogram)
    post(collector, "metrics", made, is_json=False)
    journal = collector.journal

    assert [point.value for point in journal.data_points(name="orders")] == [2, 1, 2.0]
    assert journal.assert_data_point(value=2, attributes={"region": "eu"}).is_monotonic is True
    assert len(journal.data_points(value=2)) == 1  # 2.0 is another value
    took = journal.assert_data_point(kind="histogram", unit="s", temporality=1, count=3)
    assert (took.sum, took.min, took.value) == (0.0, None, None)
    assert (took.bucket_counts, took.explicit_bounds) == ([1, 2], [0.5])
    with pytest.raises(AssertionError, match="no data point has"):
        journal.assert_data_point(name="orders", value=3)


def test_waits_for_records_and_points_count_each_one(collector: MockCollector) -> None:
    for _ in range(2):
        post(collector, "logs", logs_json())
        post(collector, "metrics", metrics_json())

    assert len(collector.journal.wait_for_log_records(2, timeout=5)) == 2
    assert len(collector.journal.wait_for_data_points(2, timeout=5)) == 2
    assert collector.journal.wait_for_log_record(timeout=5, body="paid").severity_number == 9
    assert collector.journal.wait_for_data_point(timeout=5, name="orders").value == 1
    with pytest.raises(AssertionError, match="2 of 3 log records were accepted within 0 s"):
        collector.journal.wait_for_log_records(3, timeout=0)


@BOTH
def test_counts_mode_counts_items_of_all_signals(is_json: bool) -> None:
    with MockCollector(keep="counts") as collector:
        post(collector, "logs", logs_json(record_json(), record_json()), is_json=is_json)
        made = metrics_json(sum_json(point_json(1), point_json(2)), {"name": "none"})
        post(collector, "metrics", made, is_json=is_json)
        refused = send(collector, b"[", path="/v1/logs", headers=JSON if is_json else PROTOBUF)

        assert accepted(collector) == (2, 2)
        assert collector.journal.counts.spans_accepted == 0
        assert refused.status == 400
        assert collector.journal.wait_for_log_records(2, timeout=5) == []


def test_hostile_names_move_nothing_in_what_an_assertion_prints(collector: MockCollector) -> None:
    evil = "a\x1b[2J\u202e"
    made = record_json(body={"stringValue": evil}, attributes=[attribute_json(evil, intValue="1")])
    post(collector, "logs", logs_json(made))
    with pytest.raises(AssertionError) as caught:
        collector.journal.assert_log_record(body=evil, attributes={"b": 2})
    told = str(caught.value) + repr(collector.journal.requests())

    assert all(char.isprintable() or char == "\n" for char in told)
    assert "\\x1b[2J" in told
