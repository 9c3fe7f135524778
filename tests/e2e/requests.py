"""Requests as values that compare: all that came as one, each item with what is around it."""

from typing import Any, cast

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.metrics.v1.metrics_pb2 import ScopeMetrics
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

from mockcollector.items import (
    ReceivedDataPoint,
    ReceivedLogRecord,
    ReceivedSpan,
    flatten,
)
from mockcollector.server import MockCollector
from mockcollector.signals import TRAITS, Request
from mockcollector.validity import points_of

MESSAGES = {traits.path: traits.request for traits in TRAITS.values()}
# Other in each run of a program.
OF_THE_RUN = {"service.instance.id"}


def merged(collector: MockCollector, path: str) -> Request:
    """All that has come to `path`, as one request."""
    whole = MESSAGES[path]()
    for request in collector.journal.requests():
        if request.path == path:
            assert request.message is not None
            cast("Any", whole).MergeFrom(request.message)
    return whole


def each_item(message: Request) -> list[tuple[bytes, ...]]:
    """Every item with its metric, scope and resource, in bytes that compare, sorted."""
    found = []
    for item in flatten(message, 0):
        resource, raw = Resource(), copy_of(cast("Any", item).raw)
        resource.CopyFrom(item.resource.raw)
        resource.attributes.sort(key=lambda attribute: attribute.key)
        # A Collector writes a status and a body that are not set as empty ones: they mean the same.
        if isinstance(item, ReceivedSpan):
            raw.status.SetInParent()
        elif isinstance(item, ReceivedLogRecord):
            raw.body.SetInParent()
        metric = metrics_pb2.Metric()
        if isinstance(item, ReceivedDataPoint):
            metric.CopyFrom(item.metric.raw)
            del getattr(metric, item.kind).data_points[:]
        parts = (resource, item.scope.raw, metric, raw)
        urls = (item.resource.schema_url.encode(), item.scope.schema_url.encode())
        found.append((*urls, *(part.SerializeToString(deterministic=True) for part in parts)))
    return sorted(found)


def copy_of(message: Any) -> Any:
    """A message like it."""
    made = type(message)()
    made.CopyFrom(message)
    return made


def resource_keys(message: Request) -> set[str]:
    """The keys of all resource attributes."""
    return {each.key for resource, _ in entries_of(message) for each in resource.attributes}


def entries_of(message: Request) -> list[tuple[Resource, Any]]:
    """The resource of each entry, with its scopes."""
    match message:
        case ExportTraceServiceRequest():
            return [(each.resource, each.scope_spans) for each in message.resource_spans]
        case ExportLogsServiceRequest():
            return [(each.resource, each.scope_logs) for each in message.resource_logs]
        case ExportMetricsServiceRequest():
            return [(each.resource, each.scope_metrics) for each in message.resource_metrics]


def of_any_run(message: Request, *, scope: str, without: set[str] | None = None) -> Request:
    """A copy of what is in that scope, without what differs from run to run.

    `without` are more resource attributes to leave out.
    """
    copy = copy_of(message)
    for resource, scopes in entries_of(copy):
        kept = [a for a in resource.attributes if a.key not in (without or set()) | OF_THE_RUN]
        del resource.attributes[:]
        # A map in some SDKs: its order is another in each run of Rust.
        resource.attributes.extend(sorted(kept, key=lambda a: a.key))
        ours = [each for each in scopes if each.scope.name == scope]
        del scopes[:]
        scopes.extend(ours)
        for each in scopes:
            _clear_run(each)
    return cast("Request", copy)


def _clear_run(scope: ScopeSpans | ScopeLogs | ScopeMetrics) -> None:
    match scope:
        case ScopeSpans():
            for span in scope.spans:
                _clear(span, "trace_id", "span_id", "parent_span_id")
                if span.name == "POST /orders":  # its times are those of the SDK's clock
                    _clear(span, "start_time_unix_nano", "end_time_unix_nano")
                else:
                    for timed in (span, *span.events):
                        _keep_fractions(timed)
        case ScopeLogs():
            for record in scope.log_records:
                _clear(record, "trace_id", "span_id", "observed_time_unix_nano")
                _keep_fractions(record)
                record.body.kvlist_value.values.sort(key=lambda each: each.key)
        case ScopeMetrics():
            scope.metrics.sort(key=lambda each: each.name)
            for metric in scope.metrics:
                for point in points_of(metric):
                    _clear(point, "start_time_unix_nano", "time_unix_nano")
                    cast("Any", point.attributes).sort(key=lambda each: each.key)


def _keep_fractions(message: Any) -> None:
    """Of given times: the second is that of the run, what follows it is not."""
    for field, value in message.ListFields():
        if field.name.endswith("time_unix_nano"):
            setattr(message, field.name, value % 1_000_000_000)


def _clear(message: Any, *fields: str) -> None:
    for field in fields:
        message.ClearField(field)
