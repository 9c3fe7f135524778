"""The three signals of OTLP and what sets them apart, as one table: paths, messages, words.

An *item* is what a signal is counted in: a span, a log record or a metric's data point.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

Request = ExportTraceServiceRequest | ExportLogsServiceRequest | ExportMetricsServiceRequest


class Signal(enum.StrEnum):
    """A signal, by the name that users type."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Traits:
    """What is particular to a signal. `rejected` is the field of its partial success."""

    path: str
    request: type[Request]
    response: type[
        ExportTraceServiceResponse | ExportLogsServiceResponse | ExportMetricsServiceResponse
    ]
    rejected: str
    item: str

    @property
    def items(self) -> str:
        """Several of its items, for people."""
        return f"{self.item}s"

    def counted(self, count: int) -> str:
        """So many of its items, for people."""
        return f"{count} {self.item if count == 1 else self.items}"


TRAITS: Mapping[Signal, Traits] = MappingProxyType(
    {
        Signal.TRACES: Traits(
            "/v1/traces",
            ExportTraceServiceRequest,
            ExportTraceServiceResponse,
            "rejected_spans",
            "span",
        ),
        Signal.LOGS: Traits(
            "/v1/logs",
            ExportLogsServiceRequest,
            ExportLogsServiceResponse,
            "rejected_log_records",
            "log record",
        ),
        Signal.METRICS: Traits(
            "/v1/metrics",
            ExportMetricsServiceRequest,
            ExportMetricsServiceResponse,
            "rejected_data_points",
            "data point",
        ),
    }
)
