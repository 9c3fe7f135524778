"""Metrics of OTLP/JSON into normal form, as `json_values` does it for spans and log records.

Of 64-bit integers there are more kinds here (values, counts, lists of counts), and doubles stand
outside of attributes: they are values, whatever they are, and mark no body as holding special ones.
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

from msgspec import UNSET

from relay.otlp.json_values import (
    SPECIAL_DOUBLES,
    Findings,
    Unusual,
    normal_fixed64,
    normal_int64,
    normalise_attributes,
    normalise_times,
)
from relay.otlp.messages import KeyValue
from relay.otlp.messages_metrics import (
    DATA,
    Buckets,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
    points_of,
)

_DATA: Final = attrgetter(*DATA)
_SUMS: Final = ("sum", "min", "max")


def normalise_metrics(
    metrics: list[Metric], lists: list[list[KeyValue]], findings: Findings
) -> None:
    """Every value of these metrics, and of these further attribute lists. Raises Unusual."""
    if any(_DATA(metric).count(UNSET) < len(DATA) - 1 for metric in metrics):
        raise Unusual  # two kinds
    points = [point for metric in metrics for point in points_of(metric)]
    exemplars = [
        exemplar
        for point in points
        if not isinstance(point, SummaryDataPoint)
        for exemplar in point.exemplars
    ]
    lists += [metric.metadata for metric in metrics if metric.metadata]
    lists += [point.attributes for point in points]
    lists += [exemplar.filteredAttributes for exemplar in exemplars]
    normalise_attributes(lists, findings)
    normalise_times(
        (points, "startTimeUnixNano"), (points, "timeUnixNano"), (exemplars, "timeUnixNano")
    )
    _normalise_values(exemplars)
    _normalise_values([point for point in points if isinstance(point, NumberDataPoint)])
    for point in points:
        if not isinstance(point, NumberDataPoint):
            point.count = normal_fixed64(point.count)
            _normalise_distribution(point)


def _normalise_values(holders: list[Any]) -> None:
    """The one value of each number point or exemplar."""
    for holder in holders:
        if holder.asInt is UNSET:
            if isinstance(holder.asDouble, str):
                _check_doubles((holder.asDouble,))
        elif holder.asDouble is UNSET:
            holder.asInt = normal_int64(holder.asInt)
        else:
            raise Unusual  # two members


def _normalise_distribution(
    point: HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint,
) -> None:
    if isinstance(point, SummaryDataPoint):
        _check_doubles((point.sum,))
        for at in point.quantileValues:
            _check_doubles((at.quantile, at.value))
        return
    _check_doubles(value for name in _SUMS if (value := getattr(point, name)) is not UNSET)
    if isinstance(point, HistogramDataPoint):
        _check_doubles(point.explicitBounds)
        point.bucketCounts = [normal_fixed64(count) for count in point.bucketCounts]
        return
    _check_doubles((point.zeroThreshold,))
    point.zeroCount = normal_fixed64(point.zeroCount)
    for buckets in (point.positive, point.negative):
        if isinstance(buckets, Buckets):
            buckets.bucketCounts = [normal_fixed64(count) for count in buckets.bucketCounts]


def _check_doubles(doubles: Iterable[Any]) -> None:
    for number in doubles:
        if isinstance(number, str) and number not in SPECIAL_DOUBLES:
            raise Unusual  # a number in quotes
