"""The body of a test request: without items, or with the one item of a signal that tests it."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from relay.config.presets import Temporality
from relay.model.records import Encoding, Signal
from relay.otlp.signals import WIRE
from relay.otlp.transcode import to_protobuf

SERVICE = "otlp-relay-test"
TEST_NAME = "otlp-relay connection test"
METRIC_NAME = "otlp_relay.connection_test"


@dataclass(frozen=True, slots=True)
class ProbeItem:
    """Ids and time of one test item; the same in either encoding."""

    trace_id: str
    span_id: str
    end_ns: int

    @classmethod
    def new(cls) -> "ProbeItem":
        """An item of now. Its ids begin with no zero: some backends cut those off."""
        return cls("f" + secrets.token_hex(16)[1:], "f" + secrets.token_hex(8)[1:], time.time_ns())


def body_of(
    encoding: Encoding, signal: Signal, item: ProbeItem | None, temporality: Temporality = "any"
) -> bytes:
    """An export request of `signal`: empty, or with `item`. In protobuf the empty one is b"".

    The test metric is a gauge; where only `temporality` delta is taken, a sum that is delta.
    """
    fragment = b"" if item is None else _fragment(signal, item, temporality)
    if encoding is Encoding.JSON:
        return WIRE[signal].json_request % fragment
    return to_protobuf(fragment, signal)


def _fragment(signal: Signal, item: ProbeItem, temporality: Temporality) -> bytes:
    names = WIRE[signal].lists[Encoding.JSON]
    scope = {
        "scope": {"name": "otlp-relay"},
        names.records: [_RECORDS[signal](item, temporality)],
    }
    service = {"key": "service.name", "value": {"stringValue": SERVICE}}
    return msgspec.json.encode({"resource": {"attributes": [service]}, names.scopes: [scope]})


def _span(item: ProbeItem, _temporality: Temporality) -> dict[str, Any]:
    return {
        "traceId": item.trace_id,
        "spanId": item.span_id,
        "name": TEST_NAME,
        "kind": 1,  # internal
        "startTimeUnixNano": str(item.end_ns - 1_000_000),
        "endTimeUnixNano": str(item.end_ns),
        "status": {"code": 1},  # ok
    }


def _log_record(item: ProbeItem, _temporality: Temporality) -> dict[str, Any]:
    return {
        "timeUnixNano": str(item.end_ns),
        "observedTimeUnixNano": str(item.end_ns),
        "severityNumber": 9,
        "severityText": "INFO",
        "body": {"stringValue": TEST_NAME},
    }


def _metric(item: ProbeItem, temporality: Temporality) -> dict[str, Any]:
    point = {"timeUnixNano": str(item.end_ns), "asInt": "1"}
    if temporality != "delta":
        return {"name": METRIC_NAME, "unit": "1", "gauge": {"dataPoints": [point]}}
    point["startTimeUnixNano"] = str(item.end_ns - 1_000_000)
    delta = {"dataPoints": [point], "aggregationTemporality": 1, "isMonotonic": True}
    return {"name": METRIC_NAME, "unit": "1", "sum": delta}


_RECORDS: Final[dict[Signal, Callable[[ProbeItem, Temporality], dict[str, Any]]]] = {
    Signal.TRACES: _span,
    Signal.LOGS: _log_record,
    Signal.METRICS: _metric,
}
