"""What delivery must know of single items of a kept fragment: temporality, time, series.

One value for each item, in the order in which they stand. Read by the official classes or by
structs of nothing but these fields: the rest of a body is passed over.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from relay.model.records import Encoding, Signal
from relay.otlp.data_points import points_of
from relay.otlp.folding import decode_without_depths
from relay.otlp.transcode import TranscodeError, describe_error, read_request


class ItemTime(NamedTuple):
    """When an item is of, in nanoseconds since the epoch, and which series or stream it is of."""

    time_ns: int
    series: int


class _MetricFacts(NamedTuple):
    """`temporality` is None where the kind has none; of a point: time and attributes."""

    resource: bytes
    name: str
    temporality: int | None
    points: Sequence[Any]


def temporalities_of(fragment: bytes, encoding: Encoding) -> list[int | None]:
    """The aggregationTemporality of the metric of each point; None where its kind has none.

    Raises TranscodeError when the fragment is not what this relay writes.
    """
    return [
        metric.temporality for metric in _metrics(fragment, encoding) for _point in metric.points
    ]


def times_of(fragment: bytes, encoding: Encoding, signal: Signal) -> list[ItemTime]:
    """The time and the series of each point, or the time and the stream of each log record.

    A series is told by resource, name and attributes, a stream by the resource. Raises as
    `temporalities_of`.
    """
    if signal is Signal.LOGS:
        return list(_log_records(fragment, encoding))
    read = _read_point if encoding is Encoding.PROTOBUF else _read_json_point
    return [
        ItemTime(time_ns, hash((metric.resource, metric.name, attributes)))
        for metric in _metrics(fragment, encoding)
        for time_ns, attributes in map(read, metric.points)
    ]


def _read_point(point: Any) -> tuple[int, bytes]:
    return point.time_unix_nano, b"".join([each.SerializeToString() for each in point.attributes])


def _read_json_point(point: Any) -> tuple[int, bytes]:
    return int(point.time_unix_nano), bytes(point.attributes)


class _Point(Struct, rename="camel"):
    time_unix_nano: str = "0"
    attributes: Raw = Raw(b"")


class _Data(Struct, rename="camel"):
    data_points: list[_Point] = []
    aggregation_temporality: int = 0


class _Metric(Struct, rename="camel"):
    name: str = ""
    gauge: _Data | UnsetType = UNSET
    sum: _Data | UnsetType = UNSET
    histogram: _Data | UnsetType = UNSET
    exponential_histogram: _Data | UnsetType = UNSET
    summary: _Data | UnsetType = UNSET


class _ScopeMetrics(Struct, rename="camel"):
    metrics: list[_Metric] = []


class _ResourceMetrics(Struct, rename="camel"):
    resource: Raw = Raw(b"")
    scope_metrics: list[_ScopeMetrics] = []


class _LogRecord(Struct, rename="camel"):
    time_unix_nano: str = "0"
    observed_time_unix_nano: str = "0"


class _ScopeLogs(Struct, rename="camel"):
    log_records: list[_LogRecord] = []


class _ResourceLogs(Struct, rename="camel"):
    resource: Raw = Raw(b"")
    scope_logs: list[_ScopeLogs] = []


_decode_metrics = msgspec.json.Decoder(list[_ResourceMetrics]).decode
_decode_logs = msgspec.json.Decoder(list[_ResourceLogs]).decode


def _metrics(fragment: bytes, encoding: Encoding) -> Iterator[_MetricFacts]:
    if encoding is Encoding.PROTOBUF:
        request: Any = read_request(fragment, Signal.METRICS)
        for entry in request.resource_metrics:
            resource = entry.resource.SerializeToString()
            for metric in (metric for scope in entry.scope_metrics for metric in scope.metrics):
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind) if kind else None
                temporality = getattr(data, "aggregation_temporality", None)
                yield _MetricFacts(resource, metric.name, temporality, points_of(metric))
        return
    for entry in _decode(_decode_metrics, fragment):
        resource = bytes(entry.resource)
        for metric in (metric for scope in entry.scope_metrics for metric in scope.metrics):
            for data in (metric.sum, metric.histogram, metric.exponential_histogram):
                if data is not UNSET:
                    temporality = data.aggregation_temporality
                    yield _MetricFacts(resource, metric.name, temporality, data.data_points)
            for data in (metric.gauge, metric.summary):
                if data is not UNSET:
                    yield _MetricFacts(resource, metric.name, None, data.data_points)


def _log_records(fragment: bytes, encoding: Encoding) -> Iterator[ItemTime]:
    if encoding is Encoding.PROTOBUF:
        request: Any = read_request(fragment, Signal.LOGS)
        for entry in request.resource_logs:
            stream = hash(entry.resource.SerializeToString())
            for record in (record for scope in entry.scope_logs for record in scope.log_records):
                yield ItemTime(record.time_unix_nano or record.observed_time_unix_nano, stream)
        return
    for entry in _decode(_decode_logs, fragment):
        stream = hash(bytes(entry.resource))
        for record in (record for scope in entry.scope_logs for record in scope.log_records):
            time_ns = int(record.time_unix_nano) or int(record.observed_time_unix_nano)
            yield ItemTime(time_ns, stream)


def _decode(decode: Callable[[bytes], list[Any]], fragment: bytes) -> list[Any]:
    try:
        return decode_without_depths(decode, fragment)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise TranscodeError(describe_error("JSON", error)) from None
