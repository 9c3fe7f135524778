"""Builders of OTLP requests and one exchange over a real socket, for the mock collector's tests."""

import http.client
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from mockcollector import MockCollector
from mockcollector.otlp_json import decode_request
from mockcollector.signals import TRAITS, Signal

JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def send(
    collector: MockCollector,
    body: bytes | dict[str, Any] | Message = b"{}",
    *,
    method: str = "POST",
    path: str = "/v1/traces",
    headers: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    timeout: float = 10,
) -> Reply:
    """Send one request on a connection of its own. A dict goes as JSON, a message as protobuf."""
    if isinstance(body, dict):
        content, defaults = json.dumps(body).encode(), JSON
    elif isinstance(body, Message):
        content, defaults = body.SerializeToString(), PROTOBUF
    else:
        content, defaults = body, {}
    connection = (
        http.client.HTTPConnection(collector.host, collector.port, timeout=timeout)
        if tls is None
        else http.client.HTTPSConnection(
            collector.host, collector.port, context=tls, timeout=timeout
        )
    )
    try:
        connection.request(method, path, content, defaults if headers is None else headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, names, response.read())
    finally:
        connection.close()


class InThread:
    """A call in a thread of its own; `result` waits for it and raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._value: Any = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._main)
        self._thread.start()

    def _main(self) -> None:
        try:
            self._value = self._call()
        except Exception as error:  # noqa: BLE001 - handed to `result`
            self._error = error

    def result(self) -> Any:
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return self._value


def span_json(number: int = 1, **fields: Any) -> dict[str, Any]:
    """A valid span; its span id is the number."""
    return {
        "traceId": TRACE_ID,
        "spanId": f"{number:016x}",
        "name": f"span {number}",
        "kind": 1,
        "startTimeUnixNano": "1767225600000000000",
        "endTimeUnixNano": "1767225600005000000",
    } | fields


def request_json(*spans: dict[str, Any], service: str = "shop", **outer: Any) -> dict[str, Any]:
    """A request with these spans (one if none is given) under one resource and scope."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    scope_spans = {
        "scope": {"name": "lib", "version": "1.2"},
        "spans": list(spans) or [span_json()],
    }
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope_spans]}]} | outer


def resource_json(service: str = "shop") -> dict[str, Any]:
    return {"attributes": [attribute_json("service.name", stringValue=service)]}


def record_json(**fields: Any) -> dict[str, Any]:
    """A valid log record."""
    return {
        "timeUnixNano": "1767225600000000000",
        "severityNumber": 9,
        "body": {"stringValue": "paid"},
    } | fields


def logs_json(*records: dict[str, Any], service: str = "shop") -> dict[str, Any]:
    """A request with these log records (one if none is given) under one resource and scope."""
    scope_logs = {"scope": {"name": "lib"}, "logRecords": list(records) or [record_json()]}
    return {"resourceLogs": [{"resource": resource_json(service), "scopeLogs": [scope_logs]}]}


def point_json(value: float = 1, **fields: Any) -> dict[str, Any]:
    """A valid data point of a gauge or a sum."""
    kind = {"asInt": str(value)} if isinstance(value, int) else {"asDouble": value}
    return {"timeUnixNano": "1767225600000000000"} | kind | fields


def sum_json(*points: dict[str, Any], name: str = "orders", **fields: Any) -> dict[str, Any]:
    """A valid cumulative counter with these data points."""
    data = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": list(points)}
    return {"name": name, "unit": "1", "sum": data | fields}


def metrics_json(*metrics: dict[str, Any], service: str = "shop") -> dict[str, Any]:
    """A request with these metrics (a counter of one point if none is given)."""
    listed = list(metrics) or [sum_json(point_json())]
    scope_metrics = {"scope": {"name": "lib"}, "metrics": listed}
    return {
        "resourceMetrics": [{"resource": resource_json(service), "scopeMetrics": [scope_metrics]}]
    }


def twin(made: dict[str, Any], signal: str) -> Message:
    """The protobuf message of a request in JSON."""
    return decode_request(json.dumps(made).encode(), TRAITS[Signal(signal)].request)[0]


def attribute_json(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def request_proto(count: int = 1, *, first: int = 1) -> ExportTraceServiceRequest:
    """The same in protobuf: `count` spans whose ids count up from `first`."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.append(
        KeyValue(key="service.name", value=AnyValue(string_value="shop"))
    )
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "lib"
    for number in range(first, first + count):
        span = scope_spans.spans.add()
        span.trace_id = bytes.fromhex(TRACE_ID)
        span.span_id = number.to_bytes(8, "big")
        span.name = f"span {number}"
    return request
