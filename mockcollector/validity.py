"""A decoded request in; what makes it invalid out, and what a sender must not do.

Ids of spans are judged by an `IdRule`. By the strict one, `VALID`, trace.proto demands 16 and 8
bytes, not all zero; a parent is empty or a whole id; a link's ids may be empty or zero (the trace
API lets invalid contexts be linked), but not of another length. Ids of log records and exemplars
are optional, each by itself, and all zero means none (logs.proto).

A data point has a time and, unless it is marked as "no recorded value", a value; so has an
exemplar, and a metric has a name (metrics.proto calls a point without a value invalid, the data
model makes the name a part of its identity). What receivers take all the same, but no sender may
do by those sources, is a *flaw*: an unspecified temporality, buckets that do not fit.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mockcollector.rules import Cause, IdRule, Refused, Violation

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
MAX_SHOWN = 5
NO_RECORDED_VALUE = 1
_MAX_SEVERITY = 24
Point = (
    metrics_pb2.NumberDataPoint
    | metrics_pb2.HistogramDataPoint
    | metrics_pb2.ExponentialHistogramDataPoint
    | metrics_pb2.SummaryDataPoint
)


def points_of(metric: metrics_pb2.Metric) -> Sequence[Point]:
    """The data points of a metric, of whatever kind; none where its kind is not known."""
    kind = metric.WhichOneof("data")
    return () if kind is None else getattr(metric, kind).data_points


def is_bad_id(an_id: bytes, size_bytes: int, rule: IdRule) -> bool:
    """Whether a trace or span id of a span breaks the rule."""
    if rule is IdRule.VALID or rule is IdRule.NONZERO:
        return len(an_id) != size_bytes or not any(an_id)
    if rule is IdRule.SIZED:
        return len(an_id) not in {0, size_bytes}
    return rule is IdRule.PRESENT and not an_id


def span_violations(span: Span, path: str, rule: IdRule) -> Iterator[Violation]:
    """The ids of a span, its parent and its links that are wrong."""
    if rule is IdRule.ANY:
        return
    if is_bad_id(span.trace_id, TRACE_ID_BYTES, rule):
        yield Violation(f"{path}.traceId", _demand(TRACE_ID_BYTES, rule))
    if is_bad_id(span.span_id, SPAN_ID_BYTES, rule):
        yield Violation(f"{path}.spanId", _demand(SPAN_ID_BYTES, rule))
    if rule is IdRule.PRESENT:
        return
    parent_rule = IdRule.SIZED if rule is IdRule.NONZERO else rule
    if span.parent_span_id and is_bad_id(span.parent_span_id, SPAN_ID_BYTES, parent_rule):
        yield Violation(f"{path}.parentSpanId", "must be empty or 8 bytes, not all zero")
    for at, link in enumerate(span.links):
        yield from optional_id_violations(link, f"{path}.links[{at}]", rule)


def _demand(size_bytes: int, rule: IdRule) -> str:
    if rule is IdRule.PRESENT:
        return "must be there"
    return f"must be {size_bytes} bytes" + (
        ", not all zero" if rule is IdRule.VALID else " or none"
    )


def optional_id_violations(holder: Any, path: str, rule: IdRule) -> Iterator[Violation]:
    """The ids that a log record, an exemplar or a link has and that are of another length."""
    if rule is IdRule.ANY:
        return
    if len(holder.trace_id) not in {0, TRACE_ID_BYTES}:
        yield Violation(f"{path}.traceId", "must be empty or 16 bytes")
    if len(holder.span_id) not in {0, SPAN_ID_BYTES}:
        yield Violation(f"{path}.spanId", "must be empty or 8 bytes")


def check_is_no_metric(record: LogRecord) -> None:
    """Refuse what is a metric: alone of all mistaken bodies it decodes as log records in silence.

    Its name stands where a record has a time, which is of another wire type. Raises `Refused`.
    """
    unknown: Any = UnknownFieldSet(record)  # its stub knows no iteration
    if any(field.field_number == 1 for field in unknown):
        raise Refused(
            400,
            "this looks like an ExportMetricsServiceRequest: send it to /v1/metrics",
            cause=Cause.BODY,
        )


def log_record_flaws(record: LogRecord, path: str) -> Iterator[str]:
    """What a log record should not have."""
    if not 0 <= record.severity_number <= _MAX_SEVERITY:
        yield f"{path}.severityNumber: is none of 0 to {_MAX_SEVERITY}"


def metric_violations(metric: metrics_pb2.Metric, path: str) -> Iterator[Violation]:
    """A metric that has no name."""
    if not metric.name:
        yield Violation(f"{path}.name", "must not be empty")


def point_violations(
    point: Point, path: str, rule: IdRule, *, takes_invalid: bool
) -> Iterator[Violation]:
    """What makes a data point, or an exemplar of it, invalid."""
    if not takes_invalid:
        if not point.time_unix_nano:
            yield Violation(f"{path}.timeUnixNano", "must be there, and not 0")
        if (
            isinstance(point, metrics_pb2.NumberDataPoint)
            and point.WhichOneof("value") is None
            and not point.flags & NO_RECORDED_VALUE
        ):
            yield Violation(path, "must have asDouble or asInt, or the flag for no recorded value")
    if isinstance(point, metrics_pb2.SummaryDataPoint):
        return
    for at, exemplar in enumerate(point.exemplars):
        place = f"{path}.exemplars[{at}]"
        if not takes_invalid and exemplar.WhichOneof("value") is None:
            yield Violation(place, "must have asDouble or asInt")
        yield from optional_id_violations(exemplar, place, rule)


def metric_flaws(metric: metrics_pb2.Metric, path: str) -> Iterator[str]:
    """What a metric should not be, though receivers let it pass."""
    kind = metric.WhichOneof("data")
    if kind is None:
        yield f"{path}: has no kind of data that OTLP knows"
    elif (
        kind in {"sum", "histogram", "exponential_histogram"}
        and getattr(metric, kind).aggregation_temporality not in TEMPORALITIES
    ):
        yield f"{path}: aggregationTemporality is neither delta (1) nor cumulative (2)"


TEMPORALITIES = {
    metrics_pb2.AGGREGATION_TEMPORALITY_DELTA,
    metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE,
}


def point_flaws(point: Point, path: str) -> Iterator[str]:
    """Buckets of a data point that do not fit its bounds or its count."""
    if point.flags & NO_RECORDED_VALUE:
        return
    if isinstance(point, metrics_pb2.HistogramDataPoint):
        counts, bounds = point.bucket_counts, point.explicit_bounds
        if (counts or bounds) and len(counts) != len(bounds) + 1:
            yield f"{path}.bucketCounts: must be one more than explicitBounds, or none of both"
        if counts and sum(counts) != point.count:
            yield f"{path}.count: is not the sum of bucketCounts"
        if any(not low < high for low, high in itertools.pairwise(bounds)):
            yield f"{path}.explicitBounds: must rise"
    elif isinstance(point, metrics_pb2.ExponentialHistogramDataPoint) and bucketed(point) != (
        point.count
    ):
        yield f"{path}.count: is not the sum of all bucketCounts and zeroCount"


def bucketed(point: metrics_pb2.ExponentialHistogramDataPoint) -> int:
    """The observations in the buckets of an exponential histogram."""
    return point.zero_count + sum(point.positive.bucket_counts) + sum(point.negative.bucket_counts)
