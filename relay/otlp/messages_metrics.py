"""Typed structs of OTLP/JSON's metrics, field for field as metrics.proto; see `messages`.

Members of a oneof and fields with presence are UNSET when absent: their zero is a value and is
written out. Doubles are numbers, or "NaN", "Infinity", "-Infinity".
"""

from typing import Any, Final

from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import replace

from relay.otlp.messages import (
    NO_RESOURCE,
    InstrumentationScope,
    Int32,
    Int64,
    KeyValue,
    Message,
    UInt32,
)

Double = float | str


class Exemplar(Message):
    filteredAttributes: list[KeyValue] = []
    timeUnixNano: Int64 = "0"
    asDouble: Double | UnsetType = UNSET
    asInt: Int64 | UnsetType = UNSET
    spanId: str = ""
    traceId: str = ""


class NumberDataPoint(Message):
    attributes: list[KeyValue] = []
    startTimeUnixNano: Int64 = "0"
    timeUnixNano: Int64 = "0"
    asDouble: Double | UnsetType = UNSET
    asInt: Int64 | UnsetType = UNSET
    exemplars: list[Exemplar] = []
    flags: UInt32 = 0


class HistogramDataPoint(Message):
    attributes: list[KeyValue] = []
    startTimeUnixNano: Int64 = "0"
    timeUnixNano: Int64 = "0"
    count: Int64 = "0"
    sum: Double | UnsetType = UNSET
    bucketCounts: list[Int64] = []
    explicitBounds: list[Double] = []
    exemplars: list[Exemplar] = []
    flags: UInt32 = 0
    min: Double | UnsetType = UNSET
    max: Double | UnsetType = UNSET


class Buckets(Message):
    offset: Int32 = 0
    bucketCounts: list[Int64] = []


class ExponentialHistogramDataPoint(Message):
    attributes: list[KeyValue] = []
    startTimeUnixNano: Int64 = "0"
    timeUnixNano: Int64 = "0"
    count: Int64 = "0"
    sum: Double | UnsetType = UNSET
    scale: Int32 = 0
    zeroCount: Int64 = "0"
    positive: Buckets | UnsetType = UNSET
    negative: Buckets | UnsetType = UNSET
    flags: UInt32 = 0
    exemplars: list[Exemplar] = []
    min: Double | UnsetType = UNSET
    max: Double | UnsetType = UNSET
    zeroThreshold: Double = 0.0


class ValueAtQuantile(Message):
    quantile: Double = 0.0
    value: Double = 0.0


class SummaryDataPoint(Message):
    attributes: list[KeyValue] = []
    startTimeUnixNano: Int64 = "0"
    timeUnixNano: Int64 = "0"
    count: Int64 = "0"
    sum: Double = 0.0
    quantileValues: list[ValueAtQuantile] = []
    flags: UInt32 = 0


class Gauge(Message):
    dataPoints: list[NumberDataPoint] = []


class Sum(Message):
    dataPoints: list[NumberDataPoint] = []
    aggregationTemporality: Int32 = 0
    isMonotonic: bool = False


class Histogram(Message):
    dataPoints: list[HistogramDataPoint] = []
    aggregationTemporality: Int32 = 0


class ExponentialHistogram(Message):
    dataPoints: list[ExponentialHistogramDataPoint] = []
    aggregationTemporality: Int32 = 0


class Summary(Message):
    dataPoints: list[SummaryDataPoint] = []


class Metric(Message):
    name: str = ""
    description: str = ""
    unit: str = ""
    gauge: Gauge | UnsetType = UNSET
    sum: Sum | UnsetType = UNSET
    histogram: Histogram | UnsetType = UNSET
    exponentialHistogram: ExponentialHistogram | UnsetType = UNSET
    summary: Summary | UnsetType = UNSET
    metadata: list[KeyValue] = []


class ScopeMetrics(Message):
    scope: InstrumentationScope | UnsetType = UNSET
    metrics: list[Metric] = []
    schemaUrl: str = ""


class ResourceMetrics(Message):
    """`resource` stays text here: it is decoded once per distinct text (`resources`)."""

    resource: Raw = NO_RESOURCE
    scopeMetrics: list[ScopeMetrics] = []
    schemaUrl: str = ""


class ExportMetricsServiceRequest(Message):
    resourceMetrics: list[ResourceMetrics] = []


DATA: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
"""The members of a metric of which one holds its points."""


def data_of(metric: Metric) -> tuple[str, Any] | None:
    """The name of the member that holds the points, and what it is; None without one."""
    for name in DATA:
        data = getattr(metric, name)
        if data is not UNSET:
            return name, data
    return None


def points_of(metric: Metric) -> list[Any]:
    """A metric's data points, of whatever kind; empty where there are none."""
    found = data_of(metric)
    return found[1].dataPoints if found else []


def lists_of_numbers(point: Any) -> list[list[Any]]:
    """The lists of a histogram's point that hold numbers; none of other points."""
    if isinstance(point, HistogramDataPoint):
        return [point.bucketCounts, point.explicitBounds]
    if isinstance(point, ExponentialHistogramDataPoint):
        sides = (point.positive, point.negative)
        return [side.bucketCounts for side in sides if isinstance(side, Buckets)]
    return []


def with_points(metric: Metric, points: list[Any]) -> Metric:
    """A copy of a metric that has points, with these instead."""
    found = data_of(metric)
    if found is None:
        return metric
    name, data = found
    return replace(metric, **{name: replace(data, dataPoints=points)})
