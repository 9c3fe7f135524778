"""What tells one signal of OTLP/HTTP from another on the wire: one entry a signal.

Whatever differs between traces, logs and metrics by name alone is read from here: codecs, checks,
the way in, couriers and documents. To add a signal is to add an entry and its check.

A fragment, as rows hold it, is the inside of a request's one list. In protobuf a fragment is a
request by itself; in JSON `json_request % fragment` is.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from google.protobuf.message import Message
from msgspec import Struct
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from relay.model.records import Encoding, Signal
from relay.otlp import messages, messages_logs, messages_metrics


class Lists(NamedTuple):
    """The names of a request's three nested lists, as one encoding spells them.

    `records` are spans, log records or metrics; of metrics the items are the points inside.
    """

    entries: str
    scopes: str
    records: str


class SignalWire(NamedTuple):
    """A signal on the wire: where it is posted to, what its messages are called.

    `rejected` is the member of a partial success that counts rejected items. `request`, `response`
    and `partial` are the official classes, `entry` and `json_request_struct` the structs of JSON.
    """

    signal: Signal
    path: str
    lists: Mapping[Encoding, Lists]
    rejected: Mapping[Encoding, str]
    json_request: bytes
    json_request_struct: type[Struct]
    entry: type[Struct]
    request: type[Message]
    response: type[Message]
    partial: type[Message]

    @property
    def item(self) -> str:
        """What people call one of its items."""
        return self.signal.item

    @property
    def items(self) -> str:
        """What people call several of them."""
        return f"{self.signal.item}s"


def _both(camel: str, snake: str) -> Mapping[Encoding, str]:
    return {Encoding.JSON: camel, Encoding.PROTOBUF: snake}


TRACES: Final = SignalWire(
    signal=Signal.TRACES,
    path="/v1/traces",
    lists={
        Encoding.JSON: Lists("resourceSpans", "scopeSpans", "spans"),
        Encoding.PROTOBUF: Lists("resource_spans", "scope_spans", "spans"),
    },
    rejected=_both("rejectedSpans", "rejected_spans"),
    json_request=b'{"resourceSpans":[%b]}',
    json_request_struct=messages.ExportTraceServiceRequest,
    entry=messages.ResourceSpans,
    request=trace_service_pb2.ExportTraceServiceRequest,
    response=trace_service_pb2.ExportTraceServiceResponse,
    partial=trace_service_pb2.ExportTracePartialSuccess,
)
LOGS: Final = SignalWire(
    signal=Signal.LOGS,
    path="/v1/logs",
    lists={
        Encoding.JSON: Lists("resourceLogs", "scopeLogs", "logRecords"),
        Encoding.PROTOBUF: Lists("resource_logs", "scope_logs", "log_records"),
    },
    rejected=_both("rejectedLogRecords", "rejected_log_records"),
    json_request=b'{"resourceLogs":[%b]}',
    json_request_struct=messages_logs.ExportLogsServiceRequest,
    entry=messages_logs.ResourceLogs,
    request=logs_service_pb2.ExportLogsServiceRequest,
    response=logs_service_pb2.ExportLogsServiceResponse,
    partial=logs_service_pb2.ExportLogsPartialSuccess,
)
METRICS: Final = SignalWire(
    signal=Signal.METRICS,
    path="/v1/metrics",
    lists={
        Encoding.JSON: Lists("resourceMetrics", "scopeMetrics", "metrics"),
        Encoding.PROTOBUF: Lists("resource_metrics", "scope_metrics", "metrics"),
    },
    rejected=_both("rejectedDataPoints", "rejected_data_points"),
    json_request=b'{"resourceMetrics":[%b]}',
    json_request_struct=messages_metrics.ExportMetricsServiceRequest,
    entry=messages_metrics.ResourceMetrics,
    request=metrics_service_pb2.ExportMetricsServiceRequest,
    response=metrics_service_pb2.ExportMetricsServiceResponse,
    partial=metrics_service_pb2.ExportMetricsPartialSuccess,
)

WIRE: Final[Mapping[Signal, SignalWire]] = {wire.signal: wire for wire in (TRACES, LOGS, METRICS)}
"""The table: every signal that the relay can take."""
