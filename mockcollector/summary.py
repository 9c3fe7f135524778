"""A decoded request in; the services and names that a line about it tells out."""

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from mockcollector.items import to_dict, to_python
from mockcollector.signals import Request
from mockcollector.validity import points_of

_SHOWN_NAMES = 3


def summary_of(message: Request) -> tuple[list[tuple[str, int]], list[str]]:
    """The service names of a request with the number of their items, and the first items' names.

    A log record's name is that of its event, or what it says.
    """
    services: list[tuple[str, int]] = []
    names: list[str] = []
    match message:
        case ExportTraceServiceRequest():
            for outer in message.resource_spans:
                count = 0
                for inner in outer.scope_spans:
                    count += len(inner.spans)
                    names += [span.name for span in inner.spans[: _SHOWN_NAMES - len(names)]]
                services += _service_of(outer.resource, count)
        case ExportLogsServiceRequest():
            for of_logs in message.resource_logs:
                count = 0
                for scope_logs in of_logs.scope_logs:
                    count += len(scope_logs.log_records)
                    records = scope_logs.log_records[: _SHOWN_NAMES - len(names)]
                    names += [_log_name(record) for record in records]
                services += _service_of(of_logs.resource, count)
        case ExportMetricsServiceRequest():
            for of_metrics in message.resource_metrics:
                count = 0
                for scope_metrics in of_metrics.scope_metrics:
                    for metric in scope_metrics.metrics:
                        points = len(points_of(metric))
                        count += points
                        names += [metric.name] * min(points, _SHOWN_NAMES - len(names))
                services += _service_of(of_metrics.resource, count)
    return services, names


def _service_of(resource: Resource, count: int) -> list[tuple[str, int]]:
    name = str(to_dict(resource.attributes).get("service.name", "(no service.name)"))
    return [(name, count)] if count else []


def _log_name(record: logs_pb2.LogRecord) -> str:
    body = to_python(record.body)
    return getattr(record, "event_name", "") or ("" if body is None else str(body))
