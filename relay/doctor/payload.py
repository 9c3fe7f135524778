"""The body of a test request: without spans, or with one test span."""

import secrets
import time
from dataclasses import dataclass

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.model.records import Encoding
from relay.otlp.signals import TRACES

SERVICE = "otlp-relay-test"
SPAN_NAME = "otlp-relay connection test"
EMPTY_JSON = TRACES.json_request % b""


@dataclass(frozen=True, slots=True)
class ProbeSpan:
    """The ids and the end of one test span; the same in either encoding."""

    trace_id: str
    span_id: str
    end_ns: int

    @classmethod
    def new(cls) -> "ProbeSpan":
        """A span that ends now. Its ids begin with no zero: some backends cut those off."""
        return cls("f" + secrets.token_hex(16)[1:], "f" + secrets.token_hex(8)[1:], time.time_ns())


def body_of(encoding: Encoding, span: ProbeSpan | None) -> bytes:
    """An ExportTraceServiceRequest: empty, or with `span`. In protobuf the empty one is b""."""
    if encoding is Encoding.JSON:
        return EMPTY_JSON if span is None else _json(span)
    return b"" if span is None else _protobuf(span)


def _json(span: ProbeSpan) -> bytes:
    service = {"key": "service.name", "value": {"stringValue": SERVICE}}
    one = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": SPAN_NAME,
        "kind": 1,
        "startTimeUnixNano": str(span.end_ns - 1_000_000),
        "endTimeUnixNano": str(span.end_ns),
        "status": {"code": 1},
    }
    scope = {"scope": {"name": "otlp-relay"}, "spans": [one]}
    entry = {"resource": {"attributes": [service]}, "scopeSpans": [scope]}
    return msgspec.json.encode({"resourceSpans": [entry]})


def _protobuf(span: ProbeSpan) -> bytes:
    request = ExportTraceServiceRequest()
    entry = request.resource_spans.add()
    service = entry.resource.attributes.add(key="service.name")
    service.value.string_value = SERVICE
    scope = entry.scope_spans.add()
    scope.scope.name = "otlp-relay"
    one = scope.spans.add(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        name=SPAN_NAME,
        kind=1,  # internal
        start_time_unix_nano=span.end_ns - 1_000_000,
        end_time_unix_nano=span.end_ns,
    )
    one.status.code = 1  # type: ignore[assignment]  # ok
    return request.SerializeToString()
