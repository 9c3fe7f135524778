"""The wire format, against the official classes. The property tests are in test_transcode.py."""

import itertools
import math
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2

from relay.otlp import messages, messages_logs, messages_metrics, protobuf_writer
from relay.otlp.messages import AnyValue, ArrayValue, KeyValue
from relay.otlp.protobuf_writer import delimited, write_entries
from relay.otlp.signals import LOGS, METRICS, TRACES


def entry_with(value: AnyValue) -> messages.ResourceSpans:
    span = messages.Span(attributes=[KeyValue(key="k", value=value)])
    return messages.ResourceSpans(scopeSpans=[messages.ScopeSpans(spans=[span])])


def written(value: AnyValue) -> object:
    request = ExportTraceServiceRequest.FromString(write_entries([entry_with(value)], TRACES))
    attribute = request.resource_spans[0].scope_spans[0].spans[0].attributes[0].value
    member = attribute.WhichOneof("value")
    return getattr(attribute, member) if member else None


@pytest.mark.parametrize("number", [0, 1, -1, 127, 128, 2047, 2048, 2**63 - 1, -(2**63)])
def test_writer_takes_integers_as_text_and_as_numbers(number: int) -> None:
    assert written(AnyValue(intValue=str(number))) == number
    assert written(AnyValue(intValue=number)) == number


@pytest.mark.parametrize("size", [0, 1, 127, 128, 2047, 2048, 16_383, 16_384])
def test_writer_says_the_length_of_what_it_writes(size: int) -> None:
    text = "x" * size
    official = common_pb2.AnyValue(string_value=text).SerializeToString()

    assert delimited(b"\x0a", text.encode()) == official
    assert written(AnyValue(stringValue=text)) == text


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_writer_raises_value_error_for_integers_of_more_than_64_bits(number: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        write_entries([entry_with(AnyValue(intValue=number))], TRACES)


def exponential(**counts: Any) -> messages_metrics.ResourceMetrics:
    point = messages_metrics.ExponentialHistogramDataPoint(
        positive=messages_metrics.Buckets(bucketCounts=list(counts.values()))
    )
    metric = messages_metrics.Metric(
        exponentialHistogram=messages_metrics.ExponentialHistogram(dataPoints=[point])
    )
    return messages_metrics.ResourceMetrics(
        scopeMetrics=[messages_metrics.ScopeMetrics(metrics=[metric])]
    )


def test_writer_takes_counts_up_to_64_bits_and_raises_value_error_for_more() -> None:
    request: Any = METRICS.request.FromString(
        write_entries([exponential(a="0", b=str(2**64 - 1))], METRICS)
    )
    metric = request.resource_metrics[0].scope_metrics[0].metrics[0]
    assert metric.exponential_histogram.data_points[0].positive.bucket_counts == [0, 2**64 - 1]
    for number in (2**64, -1):
        with pytest.raises(ValueError, match="64 bits"):
            write_entries([exponential(a=str(number))], METRICS)


def test_writer_raises_recursion_error_for_the_thirty_first_level() -> None:
    value = AnyValue()
    for _ in range(30):
        value = AnyValue(arrayValue=ArrayValue([value]))
    assert write_entries([entry_with(value)], TRACES)

    with pytest.raises(RecursionError):
        write_entries([entry_with(AnyValue(arrayValue=ArrayValue([value])))], TRACES)


@pytest.mark.parametrize(
    ("value", "member"),
    [
        (AnyValue(boolValue=False), False),
        (AnyValue(stringValue=""), ""),
        (AnyValue(intValue=0), 0),
        (AnyValue(doubleValue=0.0), 0.0),
        (AnyValue(doubleValue="-Infinity"), float("-inf")),
        (AnyValue(doubleValue="1.5"), 1.5),
    ],
)
def test_writer_keeps_values_that_are_false(value: AnyValue, member: object) -> None:
    found = written(value)
    assert (type(found), found) == (type(member), member)


def test_writer_keeps_an_empty_value_apart_from_none() -> None:
    assert written(AnyValue()) is None
    unset = messages.Span(attributes=[KeyValue(key="k")])
    entry = messages.ResourceSpans(scopeSpans=[messages.ScopeSpans(spans=[unset])])

    assert (
        len(write_entries([entry], TRACES))
        == len(write_entries([entry_with(AnyValue())], TRACES)) - 2
    )


@pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 257, 3000])
def test_writer_says_the_length_of_a_field_that_is_a_text(size: int) -> None:
    span = messages.Span(name="n" * size)
    entry = messages.ResourceSpans(scopeSpans=[messages.ScopeSpans(spans=[span])])
    (found,) = ExportTraceServiceRequest.FromString(write_entries([entry], TRACES)).resource_spans

    assert [each.name for each in found.scope_spans[0].spans] == [span.name]


LENGTHS = (0, 1, 2, *range(60, 66), *range(114, 130), *range(240, 260), 2047, 2048)


@pytest.mark.parametrize("index", [0, 1, -1])
def test_attributes_of_any_length_are_those_of_the_official_class(index: int) -> None:
    parts = [("k" * key, "v" * text) for key, text in itertools.product(LENGTHS, repeat=2)]
    official = ExportTraceServiceRequest()
    span = official.resource_spans.add().scope_spans.add().spans.add()
    for key, text in parts:
        span.attributes.add(key=key, key_strindex=index).value.string_value = text
    attributes = [
        KeyValue(key=key, value=AnyValue(stringValue=text), keyStrindex=index)
        for key, text in parts
    ]
    entry = messages.ResourceSpans(
        scopeSpans=[messages.ScopeSpans(spans=[messages.Span(attributes=attributes)])]
    )

    assert write_entries([entry], TRACES) == official.SerializeToString()


@pytest.mark.parametrize("index", [0, 1, -1])
def test_numbers_behind_keys_of_any_length_are_those_of_the_official_class(index: int) -> None:
    official = ExportTraceServiceRequest()
    span = official.resource_spans.add().scope_spans.add().spans.add()
    attributes = []
    for size in (*LENGTHS, *range(100, 114)):
        for number in (0, -1, 2047, 2048, 2**63 - 1):
            span.attributes.add(key="k" * size, key_strindex=index).value.int_value = number
            value = AnyValue(intValue=str(number))
            attributes.append(KeyValue(key="k" * size, value=value, keyStrindex=index))
    entry = messages.ResourceSpans(
        scopeSpans=[messages.ScopeSpans(spans=[messages.Span(attributes=attributes)])]
    )

    assert write_entries([entry], TRACES) == official.SerializeToString()


@pytest.mark.parametrize("value", [{"intValue": 5}, {"stringValueStrindex": 7}])
def test_values_in_a_list_are_written_as_those_of_an_attribute(value: dict[str, Any]) -> None:
    found = written(AnyValue(arrayValue=ArrayValue([AnyValue(**value), AnyValue()])))
    first, second = found.values  # type: ignore[attr-defined]

    assert first.int_value + first.string_value_strindex == next(iter(value.values()))
    assert second.WhichOneof("value") is None


@pytest.mark.parametrize("text", ["AA", "QUJD\n", "_-8="])
def test_writer_raises_value_error_for_base64_that_is_not_in_normal_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)padding|base64|data"):
        write_entries([entry_with(AnyValue(bytesValue=text))], TRACES)


def written_metric(metric: messages_metrics.Metric) -> Any:
    entry = messages_metrics.ResourceMetrics(
        scopeMetrics=[messages_metrics.ScopeMetrics(metrics=[metric])]
    )
    request: Any = METRICS.request.FromString(write_entries([entry], METRICS))
    return request.resource_metrics[0].scope_metrics[0].metrics[0]


def test_writer_keeps_zeros_where_a_field_says_whether_it_is_there() -> None:
    histogram = messages_metrics.Histogram(
        dataPoints=[messages_metrics.HistogramDataPoint(sum=0.0, min=0.0)]
    )
    (point,) = written_metric(messages_metrics.Metric(histogram=histogram)).histogram.data_points
    assert [point.HasField(name) for name in ("sum", "min", "max")] == [True, True, False]

    gauge = messages_metrics.Gauge(dataPoints=[messages_metrics.NumberDataPoint(asInt=0)])
    (number,) = written_metric(messages_metrics.Metric(gauge=gauge)).gauge.data_points
    assert number.WhichOneof("value") == "as_int"


def test_writer_tells_minus_zero_from_none() -> None:
    points = [messages_metrics.SummaryDataPoint(sum=each) for each in (0.0, -0.0, 2.5)]
    summary = messages_metrics.Summary(dataPoints=points)
    found = written_metric(messages_metrics.Metric(summary=summary)).summary.data_points

    assert [math.copysign(1, point.sum) for point in found] == [1, -1, 1]
    assert [len(point.SerializeToString()) for point in found] == [0, 9, 9]


def test_body_of_a_log_record_is_as_deep_as_a_value_of_an_attribute() -> None:
    def entry(levels: int) -> messages_logs.ResourceLogs:
        value = AnyValue()
        for _ in range(levels):
            value = AnyValue(arrayValue=ArrayValue([value]))
        record = messages_logs.LogRecord(body=value)
        return messages_logs.ResourceLogs(scopeLogs=[messages_logs.ScopeLogs(logRecords=[record])])

    assert LOGS.request.FromString(write_entries([entry(30)], LOGS)).ByteSize() > 60
    with pytest.raises(RecursionError):
        write_entries([entry(31)], LOGS)


def test_no_more_keys_are_remembered_than_senders_usually_have() -> None:
    protobuf_writer._KEY_FIELDS.clear()
    keys = [f"key{number}" for number in range(4097)]
    span = messages.Span(attributes=[KeyValue(key=key) for key in keys])
    entry = messages.ResourceSpans(scopeSpans=[messages.ScopeSpans(spans=[span])])
    (found,) = ExportTraceServiceRequest.FromString(write_entries([entry], TRACES)).resource_spans

    assert [each.key for each in found.scope_spans[0].spans[0].attributes] == keys
    assert len(protobuf_writer._KEY_FIELDS) == 1  # which begin anew after 4096
