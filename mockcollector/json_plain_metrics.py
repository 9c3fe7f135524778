"""The structs of a plain request with metrics in; how many points it has, or `DeclinedError`, out.

What `validity` calls invalid or a flaw is declined.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from msgspec import UNSET

from mockcollector.json_plain_message import as_float
from mockcollector.json_plain_values import (
    DeclinedError,
    check_attributes,
    check_doubles,
    check_optional_ids,
    check_signed,
    check_times,
    unsigned,
)
from mockcollector.validity import NO_RECORDED_VALUE

_KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_WITH_TEMPORALITY = ("sum", "histogram", "exponentialHistogram")


def read_metric(metric: Any) -> int:
    """How many data points it has."""
    if not metric.name:
        raise DeclinedError
    kinds = [kind for kind in _KINDS if getattr(metric, kind) is not UNSET]
    if len(kinds) != 1:
        raise DeclinedError
    if getattr(metric, "metadata", None):
        check_attributes(metric.metadata)
    (kind,) = kinds
    data = getattr(metric, kind)
    if kind in _WITH_TEMPORALITY and data.aggregationTemporality is UNSET:
        raise DeclinedError
    points = data.dataPoints or ()
    for point in points:
        _check_point(point)
        _CHECKS[kind](point)
    return len(points)


def _check_point(point: Any) -> None:
    if not point.timeUnixNano or point.timeUnixNano == "0":
        raise DeclinedError
    check_times(point.startTimeUnixNano, point.timeUnixNano)
    if point.attributes:
        check_attributes(point.attributes)
    for exemplar in getattr(point, "exemplars", None) or ():
        if not _has_value(exemplar):
            raise DeclinedError
        check_times(exemplar.timeUnixNano)
        check_optional_ids(exemplar)
        if exemplar.filteredAttributes:
            check_attributes(exemplar.filteredAttributes)


def _is_recorded(point: Any) -> bool:
    return not (point.flags or 0) & NO_RECORDED_VALUE


def _has_value(holder: Any) -> bool:
    """Whether it has one; two are declined."""
    check_doubles(holder.asDouble)
    if holder.asInt is UNSET:
        return holder.asDouble is not UNSET
    check_signed(holder.asInt)
    if holder.asDouble is not UNSET:
        raise DeclinedError
    return True


def _check_number(point: Any) -> None:
    if not _has_value(point) and _is_recorded(point):
        raise DeclinedError


def _check_histogram(point: Any) -> None:
    check_doubles(point.sum, getattr(point, "min", UNSET), getattr(point, "max", UNSET))
    counts = [unsigned(count) for count in point.bucketCounts or ()]
    bounds = list(_doubles(point.explicitBounds or ()))
    if unsigned(point.count) != sum(counts) and counts and _is_recorded(point):
        raise DeclinedError
    if (counts or bounds) and len(counts) != len(bounds) + 1:
        raise DeclinedError
    if any(not low < high for low, high in itertools.pairwise(bounds)):
        raise DeclinedError


def _doubles(contents: Any) -> Iterator[float]:
    for content in contents:
        check_doubles(content)
        yield as_float(content)


def _check_exponential(point: Any) -> None:
    check_doubles(point.sum, getattr(point, "min", UNSET), getattr(point, "max", UNSET))
    check_doubles(getattr(point, "zeroThreshold", UNSET))
    total = unsigned(point.zeroCount)
    for buckets in (point.positive, point.negative):
        if buckets is not UNSET:
            total += sum(unsigned(count) for count in buckets.bucketCounts or ())
    if unsigned(point.count) != total and _is_recorded(point):
        raise DeclinedError


def _check_summary(point: Any) -> None:
    check_doubles(point.sum)
    unsigned(point.count)
    for each in point.quantileValues or ():
        check_doubles(each.quantile, each.value)


_CHECKS = {
    "gauge": _check_number,
    "sum": _check_number,
    "histogram": _check_histogram,
    "exponentialHistogram": _check_exponential,
    "summary": _check_summary,
}
