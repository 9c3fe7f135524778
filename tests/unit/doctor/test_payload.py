"""The items that a connection test sends, read by the official classes."""

from typing import Any

import pytest
from google.protobuf import json_format

from relay.config.presets import Temporality
from relay.doctor.payload import ProbeItem, body_of
from relay.model.records import Encoding, Signal
from relay.otlp.signals import WIRE

ITEM = ProbeItem("f" * 32, "f" * 16, 1_700_000_000_000_000_000)


def both(signal: Signal, item: ProbeItem | None, temporality: Temporality = "any") -> list[Any]:
    """The request in JSON and in protobuf."""
    text = body_of(Encoding.JSON, signal, item, temporality)
    in_json, in_protobuf = WIRE[signal].request(), WIRE[signal].request()
    if signal is not Signal.TRACES:  # ids are base64 there, and hex in OTLP
        json_format.Parse(text, in_json)
    in_protobuf.ParseFromString(body_of(Encoding.PROTOBUF, signal, item, temporality))
    return [in_protobuf] if signal is Signal.TRACES else [in_json, in_protobuf]


@pytest.mark.parametrize("signal", Signal)
def test_request_without_an_item_is_empty(signal: Signal) -> None:
    assert body_of(Encoding.PROTOBUF, signal, None) == b""
    assert [request.ByteSize() for request in both(signal, None)] == [0] * (1 + (signal > 1))


def test_test_span_ends_now() -> None:
    (request,) = both(Signal.TRACES, ITEM)
    (span,) = request.resource_spans[0].scope_spans[0].spans

    assert (span.trace_id.hex(), span.span_id.hex()) == (ITEM.trace_id, ITEM.span_id)
    assert span.end_time_unix_nano == ITEM.end_ns > span.start_time_unix_nano


def test_test_log_record_says_what_it_is() -> None:
    for request in both(Signal.LOGS, ITEM):
        (entry,) = request.resource_logs
        (record,) = entry.scope_logs[0].log_records

        assert entry.resource.attributes[0].value.string_value == "otlp-relay-test"
        assert record.body.string_value == "otlp-relay connection test"
        assert record.time_unix_nano == record.observed_time_unix_nano == ITEM.end_ns


@pytest.mark.parametrize("temporality", ["any", "cumulative"])
def test_test_metric_is_a_gauge_of_1(temporality: Temporality) -> None:
    for request in both(Signal.METRICS, ITEM, temporality):
        (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
        (point,) = metric.gauge.data_points

        assert metric.name == "otlp_relay.connection_test"
        assert (point.as_int, point.time_unix_nano) == (1, ITEM.end_ns)


def test_test_metric_is_a_delta_sum_where_only_delta_is_taken() -> None:
    for request in both(Signal.METRICS, ITEM, "delta"):
        (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
        (point,) = metric.sum.data_points

        assert (metric.sum.aggregation_temporality, metric.sum.is_monotonic) == (1, True)
        assert point.start_time_unix_nano < point.time_unix_nano
