"""The text of an OTLP/JSON body in, structs out, which know no other keys than OTLP's.

They have fewer forms than ProtoJSON; whatever is not of these is a `msgspec.MsgspecError`. Doubles
and the values of attributes are read without a type: a float stays as it was written (`Raw`).
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from google.protobuf.descriptor import Descriptor
from msgspec import UNSET, Meta, Raw, UnsetType
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from mockcollector.signals import TRAITS, Signal


def _struct(title: str, descriptor: Descriptor, /, **types: Any) -> type[msgspec.Struct]:
    """A struct of these fields, all optional; without those that the official classes lack."""
    known = {field.json_name for field in descriptor.fields}
    fields = [(key, kind | UnsetType, UNSET) for key, kind in types.items() if key in known]
    return msgspec.defstruct(title, fields, forbid_unknown_fields=True, gc=False)


def _number(low: int, high: int) -> Any:
    return Annotated[int, Meta(ge=low, le=high)]


def _list(kind: Any) -> Any:
    return list[kind]


_uint32, _enum = _number(0, 2**32 - 1), _number(0, 2**31 - 1)
_sint32 = _number(-(2**31), 2**31 - 1)
_integer = int | str
_double = Any
_value = dict[str, Any]
_temporality = _number(1, 2)  # what else comes is a flaw

_attributes = _list(_struct("_KeyValue", KeyValue.DESCRIPTOR, key=str, value=_value))
_owner = {"attributes": _attributes, "droppedAttributesCount": _uint32}
_Resource = _struct("_Resource", Resource.DESCRIPTOR, **_owner)
_Scope = _struct("_Scope", InstrumentationScope.DESCRIPTOR, name=str, version=str, **_owner)
_Event = _struct(
    "_Event", trace_pb2.Span.Event.DESCRIPTOR, timeUnixNano=_integer, name=str, **_owner
)
_Link = _struct(
    "_Link",
    trace_pb2.Span.Link.DESCRIPTOR,
    traceId=str,
    spanId=str,
    traceState=str,
    flags=_uint32,
    **_owner,
)
_Status = _struct("_Status", trace_pb2.Status.DESCRIPTOR, message=str, code=_enum)
_Span = _struct(
    "_Span",
    trace_pb2.Span.DESCRIPTOR,
    traceId=str,
    spanId=str,
    traceState=str,
    parentSpanId=str,
    flags=_uint32,
    name=str,
    kind=_enum,
    startTimeUnixNano=_integer,
    endTimeUnixNano=_integer,
    events=_list(_Event),
    droppedEventsCount=_uint32,
    links=_list(_Link),
    droppedLinksCount=_uint32,
    status=_Status,
    **_owner,
)
_LogRecord = _struct(
    "_LogRecord",
    logs_pb2.LogRecord.DESCRIPTOR,
    timeUnixNano=_integer,
    observedTimeUnixNano=_integer,
    severityNumber=_number(0, 24),
    severityText=str,
    body=_value,
    flags=_uint32,
    traceId=str,
    spanId=str,
    eventName=str,
    **_owner,
)
_Exemplar = _struct(
    "_Exemplar",
    metrics_pb2.Exemplar.DESCRIPTOR,
    filteredAttributes=_attributes,
    timeUnixNano=_integer,
    asDouble=_double,
    asInt=_integer,
    spanId=str,
    traceId=str,
)
_any_point = {
    "attributes": _attributes,
    "startTimeUnixNano": _integer,
    "timeUnixNano": _integer,
    "flags": _uint32,
    "exemplars": _list(_Exemplar),
}
_any_histogram = {
    "count": _integer,
    "sum": _double,
    "min": _double,
    "max": _double,
    **_any_point,
}
_Buckets = _struct(
    "_Buckets",
    metrics_pb2.ExponentialHistogramDataPoint.Buckets.DESCRIPTOR,
    offset=_sint32,
    bucketCounts=_list(_integer),
)
_Quantile = _struct(
    "_Quantile",
    metrics_pb2.SummaryDataPoint.ValueAtQuantile.DESCRIPTOR,
    quantile=_double,
    value=_double,
)
_NumberPoint = _struct(
    "_NumberPoint",
    metrics_pb2.NumberDataPoint.DESCRIPTOR,
    asDouble=_double,
    asInt=_integer,
    **_any_point,
)
_HistogramPoint = _struct(
    "_HistogramPoint",
    metrics_pb2.HistogramDataPoint.DESCRIPTOR,
    bucketCounts=_list(_integer),
    explicitBounds=_list(_double),
    **_any_histogram,
)
_ExponentialPoint = _struct(
    "_ExponentialPoint",
    metrics_pb2.ExponentialHistogramDataPoint.DESCRIPTOR,
    scale=_sint32,
    zeroCount=_integer,
    zeroThreshold=_double,
    positive=_Buckets,
    negative=_Buckets,
    **_any_histogram,
)
_SummaryPoint = _struct(
    "_SummaryPoint",
    metrics_pb2.SummaryDataPoint.DESCRIPTOR,
    quantileValues=_list(_Quantile),
    **_any_histogram,
)


def _data(kind: Any, point: Any) -> Any:
    return _struct(
        f"_{kind.DESCRIPTOR.name}",
        kind.DESCRIPTOR,
        dataPoints=_list(point),
        aggregationTemporality=_temporality,
        isMonotonic=bool,
    )


_Metric = _struct(
    "_Metric",
    metrics_pb2.Metric.DESCRIPTOR,
    name=str,
    description=str,
    unit=str,
    metadata=_attributes,
    gauge=_data(metrics_pb2.Gauge, _NumberPoint),
    sum=_data(metrics_pb2.Sum, _NumberPoint),
    histogram=_data(metrics_pb2.Histogram, _HistogramPoint),
    exponentialHistogram=_data(metrics_pb2.ExponentialHistogram, _ExponentialPoint),
    summary=_data(metrics_pb2.Summary, _SummaryPoint),
)


def _decoder(signal: Signal, resource: Any, scope: Any, items: str, item: Any) -> Any:
    of = signal.title()
    inner = {"scope": _Scope, items: _list(item), "schemaUrl": str}
    scoped = _struct(f"_Scope{of}", scope.DESCRIPTOR, **inner)
    outer = {"resource": _Resource, f"scope{_PLURALS[signal]}": _list(scoped), "schemaUrl": str}
    whole = _struct(f"_Resource{of}", resource.DESCRIPTOR, **outer)
    name, request = f"resource{_PLURALS[signal]}", TRAITS[signal].request
    struct = _struct(f"_{of}", request.DESCRIPTOR, **{name: _list(whole)})
    return msgspec.json.Decoder(struct, float_hook=_keep_as_written).decode


def _keep_as_written(text: str) -> Raw:
    return Raw(text.encode())


_PLURALS = {Signal.TRACES: "Spans", Signal.LOGS: "Logs", Signal.METRICS: "Metrics"}
DECODE: Mapping[Signal, Callable[[bytes], Any]] = {
    Signal.TRACES: _decoder(
        Signal.TRACES, trace_pb2.ResourceSpans, trace_pb2.ScopeSpans, "spans", _Span
    ),
    Signal.LOGS: _decoder(
        Signal.LOGS, logs_pb2.ResourceLogs, logs_pb2.ScopeLogs, "logRecords", _LogRecord
    ),
    Signal.METRICS: _decoder(
        Signal.METRICS, metrics_pb2.ResourceMetrics, metrics_pb2.ScopeMetrics, "metrics", _Metric
    ),
}
"""For each signal: the structs of a body. Raises MsgspecError, ValueError or RecursionError."""
