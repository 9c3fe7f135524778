"""Prometheus and Mimir; a profile out of each function.

What they refuse of well-formed metrics follows Prometheus' own OTLP handler and its head block:
a 400 for a sample whose time does not fit, a 500 for content that has no translation, and nothing
of the request is stored in either case.
"""

import json
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.metrics.v1 import metrics_pb2

from mockcollector.items import ReceivedDataPoint, flatten
from mockcollector.profiles.parts import Profile, tenant
from mockcollector.rules import (
    Cause,
    ErrorForm,
    IdRule,
    Payload,
    Refused,
    Rules,
    TypeMatch,
    Wording,
)
from mockcollector.signals import Signal
from mockcollector.validity import NO_RECORDED_VALUE, bucketed

_HOUR_MS = 3_600_000
_AHEAD_MS = 600_000
_MIN_SCALE = -4
_IDENTITY = ("service.namespace", "service.name", "service.instance.id")
_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE


def prometheus(out_of_order_window: str = "0") -> Profile:
    """Metrics at /api/v1/otlp/v1/metrics; all of a request or nothing; 500 for bad content.

    400 for samples out of order, twice with other values, over an hour behind the newest, in the
    future; `out_of_order_window` in seconds lets older ones pass, as its configuration does.
    """
    head = _Head(window_ms=_whole_seconds(out_of_order_window) * 1000)
    rules = Rules(
        path="/api/v1/otlp/v1/metrics",
        type_match=TypeMatch.EXACT,
        codings=("gzip",),
        ids=IdRule.SIZED,
        takes_invalid_points=True,
        checks=(_check_content, head.append),
        errors=ErrorForm.TEXT,
        bare_success=True,
        wordings={
            Cause.PATH: Wording(404, body="404 page not found\n"),
            Cause.MEDIA_TYPE: Wording(
                400,
                "unsupported content type, supported: [application/json, application/x-protobuf]",
            ),
            Cause.CODING: Wording(
                400, 'unsupported compression. Only "gzip" or no compression supported'
            ),
            Cause.METHOD: Wording(405, "Method Not Allowed"),
        },
    )
    return Profile(
        {Signal.METRICS: rules},
        {},
        (
            "a sample older than one before it in its request is lost there: accepted here",
            "it quotes a Content-Type and a Content-Encoding that it does not know: not here",
        ),
    )


def mimir(*, multitenancy: bool = False) -> Profile:
    """Metrics at /otlp/v1/metrics; cumulative only; 400 for bad content, and the rest is stored."""
    rules, headers = tenant(Wording(401, "no org id"), is_needed=multitenancy)
    return Profile(
        {Signal.METRICS: mimir_rules(header_rules=rules)},
        headers,
        (
            "out of order and too old samples, which it answers with a partial success: taken here",
            "the words for an unknown Content-Type or Content-Encoding",
        ),
    )


def mimir_rules(**changes: Any) -> Rules:
    """How Mimir, and Grafana Cloud with it, takes metrics."""
    return Rules(
        path="/otlp/v1/metrics",
        ids=IdRule.SIZED,
        takes_invalid_points=True,
        checks=(_check_translation,),
        **changes,
    )


def _whole_seconds(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("out_of_order_window is a whole number of seconds")
    return int(text)


def _check_content(payload: Payload) -> None:
    """One that cannot be translated fails the whole request, as a fault of the server."""
    errors = [error for _, error in _content_errors(payload)]
    if errors:
        raise Refused(500, "\n".join(errors), cause=Cause.CONTENT)


def _check_translation(payload: Payload) -> None:
    errors = list(_content_errors(payload))
    if not errors:
        return
    broken = {id(metric) for metric, _ in errors}
    points = _points(payload)
    stored = [at for at, point in enumerate(points) if id(point.metric.raw) not in broken]
    words = "otlp parse error: " + "; ".join(error for _, error in errors)
    raise Refused(400, words, cause=Cause.CONTENT, stored=stored)


def _points(payload: Payload) -> list[ReceivedDataPoint]:
    return [item for item in flatten(payload.message, 0) if isinstance(item, ReceivedDataPoint)]


def _content_errors(payload: Payload) -> Iterator[tuple[metrics_pb2.Metric, str]]:
    for resource in getattr(payload.message, "resource_metrics", ()):
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                error = _error_of(metric)
                if error:
                    yield metric, error


def _error_of(metric: metrics_pb2.Metric) -> str:
    """Why a metric has no translation, in the words of Prometheus; empty where it has one."""
    quoted = json.dumps(metric.name)
    kind = metric.WhichOneof("data")
    if kind is None:
        return (
            f"could not get aggregation temporality for {metric.name}"
            " as it has unsupported metric type Empty"
        )
    data = getattr(metric, kind)
    has_temporality = "aggregation_temporality" in data.DESCRIPTOR.fields_by_name
    if has_temporality and data.aggregation_temporality != _CUMULATIVE:
        return f"invalid temporality and type combination for metric {quoted}"
    if not _is_named(metric, kind):
        return f"normalization for metric {quoted} resulted in empty name"
    for point in data.data_points:
        error = _error_of_point(point)
        if error:
            return error
    return ""


def _is_named(metric: metrics_pb2.Metric, kind: str) -> bool:
    """Whether anything is left of its name, or stands behind it: the unit, or "total"."""
    unit = "" if metric.unit.startswith("{") else metric.unit
    has_suffix = metric.sum.is_monotonic or (unit and (unit != "1" or kind == "gauge"))
    return bool(has_suffix) or any(char.isascii() and char.isalnum() for char in metric.name)


def _error_of_point(point: Any) -> str:
    if any(not attribute.key for attribute in point.attributes):
        return "label name is empty"
    is_exponential = isinstance(point, metrics_pb2.ExponentialHistogramDataPoint)
    if is_exponential and point.scale < _MIN_SCALE:
        return (
            "cannot convert exponential to native histogram."
            f" Scale must be >= {_MIN_SCALE}, was {point.scale}"
        )
    if is_exponential and bucketed(point) != point.count:
        return (
            f"{bucketed(point)} observations found in buckets, but the Count field is"
            f" {point.count}: histogram's observation count should equal the number of"
            " observations found in the buckets (in absence of NaN)"
        )
    for exemplar in getattr(point, "exemplars", ()):
        if exemplar.WhichOneof("value") is None:
            return "unsupported exemplar value type: Empty"
    return ""


@dataclass(frozen=True, slots=True)
class _Sample:
    series: Hashable
    at_ms: int
    value: Any


class _Head:
    """What has been stored: the newest sample of each series, and of all."""

    def __init__(self, *, window_ms: int) -> None:
        self._window_ms = window_ms
        self._newest: dict[Hashable, tuple[int, Any]] = {}
        self._newest_ms: int | None = None

    def append(self, payload: Payload) -> None:
        """Store all samples of a request, or refuse it for one whose time does not fit."""
        samples = [_sample(point) for point in _points(payload)]
        if not samples:
            return
        newest_ms = self._newest_ms if self._newest_ms is not None else samples[0].at_ms
        latest_ms = time.time_ns() // 1_000_000 + _AHEAD_MS
        errors = [
            error for each in samples if (error := self._error_of(each, newest_ms, latest_ms))
        ]
        if errors:
            raise Refused(400, "\n".join(dict.fromkeys(errors)), cause=Cause.CONTENT)
        for sample in samples:
            known = self._newest.get(sample.series)
            if known is None or sample.at_ms > known[0]:
                self._newest[sample.series] = (sample.at_ms, sample.value)
        self._newest_ms = max(newest_ms, *(sample.at_ms for sample in samples))

    def _error_of(self, sample: _Sample, newest_ms: int, latest_ms: int) -> str:
        if sample.at_ms > latest_ms:
            return "out of bounds: timestamp is too far in the future"
        oldest_ms = newest_ms - _HOUR_MS
        is_out_of_bounds = sample.at_ms < oldest_ms or not sample.at_ms
        if is_out_of_bounds and not self._window_ms:
            return "out of bounds"
        at_ms, value = self._newest.get(sample.series, (-1, None))
        if sample.at_ms == at_ms and sample.value != value:
            return (
                f"duplicate sample for timestamp {sample.at_ms}; overrides not allowed:"
                f" existing {_shown(value)}, new value {_shown(sample.value)}"
            )
        is_in_order = sample.at_ms >= at_ms and not is_out_of_bounds
        is_in_window = self._window_ms > newest_ms - sample.at_ms
        if is_in_order or is_in_window:
            return ""
        return "too old sample" if self._window_ms else "out of order sample"


def _sample(point: ReceivedDataPoint) -> _Sample:
    resource: Mapping[str, Any] = point.resource.attributes
    series = (
        point.name,
        point.unit,
        point.kind,
        json.dumps([resource.get(key) for key in _IDENTITY], default=repr),
        json.dumps(sorted(point.attributes.items()), default=repr),
    )
    if point.flags & NO_RECORDED_VALUE:
        value: Any = "stale"
    elif point.count is None:
        value = float(point.value or 0)  # one without a value is stored as 0
    else:
        value = point.raw.SerializeToString(deterministic=True)
    # NaN is a value like others: the same again is no other one.
    is_nan = isinstance(value, float) and value != value  # noqa: PLR0124
    return _Sample(series, point.time_unix_nano // 1_000_000, "NaN" if is_nan else value)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "another"
