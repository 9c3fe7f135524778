"""The rules for metrics, point by point: the same in both encodings.

A point without a value or a time is rejected, as are all points of a metric without a name: some
upstreams refuse the whole request for one of them, others make a zero of it. What is only odd is
kept and told: the relay does not know better than who measured. A metric without points carries
nothing and is left out, which is worth a word only if its points may be of a kind not known here.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from operator import attrgetter
from typing import Any, Final, NamedTuple

from msgspec import UNSET
from opentelemetry.proto.metrics.v1 import metrics_pb2

from relay.model.errors import TooHeavy
from relay.model.reasons import Reason
from relay.model.records import Encoding
from relay.otlp import messages_metrics
from relay.otlp.json import JsonRequest
from relay.otlp.protobuf import ProtobufRequest, take_out
from relay.process.check.clock import are_near, warn_of_clocks
from relay.process.check.form import FORMS
from relay.process.check.ids import SPAN_ID_BYTES, TRACE_ID_BYTES
from relay.process.check.rejections import Rejections, rejections_of
from relay.process.check.weight import MOST_FLAWED, MOST_MESSAGES

NO_RECORDED_VALUE: Final = 1  # the flag of a point that says: this series has ended
MOST_BUCKETS: Final = 20_000  # of a request whose histograms are looked at

# The member at fault, of a metric whose first point at fault is `points`.
_FLAWED: Final[Mapping[Reason, str]] = {
    Reason.METRIC_NAME_EMPTY: "name",
    Reason.VALUE_MISSING: "{points}",
    Reason.TIME_MISSING: "{points}.timeUnixNano",
}


class _MetricForm(NamedTuple):
    """How an encoding holds metrics: names of members, and what differs by more than a name."""

    data_of: Callable[[Any], tuple[str, Any] | None]
    """The kind of a metric, as JSON spells it, and the message that holds the points."""
    with_points: Callable[[Any, list[Any]], Any]
    has_value: Callable[[Any], bool]
    """Whether a number point or an exemplar has one."""
    points: str
    temporality: str
    bounds: str
    counts: str
    zero_count: str


def _data_in_protobuf(metric: Any) -> tuple[str, Any] | None:
    kind = metric.WhichOneof("data")
    return (_KINDS[kind], getattr(metric, kind)) if kind else None


def _with_points_in_protobuf(metric: Any, points: list[Any]) -> Any:
    alone = metrics_pb2.Metric()
    alone.CopyFrom(metric)
    held = getattr(alone, metric.WhichOneof("data")).data_points
    del held[:]
    held.extend(points)
    return alone


_KINDS: Final = {
    field.name: field.camelcase_name
    for field in metrics_pb2.Metric.DESCRIPTOR.oneofs_by_name["data"].fields
}
_NUMBERS: Final = frozenset({"gauge", "sum"})
_WITH_TEMPORALITY: Final = frozenset({"sum", "histogram", "exponentialHistogram"})
_WITH_BUCKETS: Final = frozenset({"histogram", "exponentialHistogram"})

_FORMS: Final = {
    Encoding.JSON: _MetricForm(
        data_of=messages_metrics.data_of,
        with_points=messages_metrics.with_points,
        has_value=lambda each: each.asDouble is not UNSET or each.asInt is not UNSET,
        points="dataPoints",
        temporality="aggregationTemporality",
        bounds="explicitBounds",
        counts="bucketCounts",
        zero_count="zeroCount",
    ),
    Encoding.PROTOBUF: _MetricForm(
        data_of=_data_in_protobuf,
        with_points=_with_points_in_protobuf,
        has_value=lambda each: each.WhichOneof("value") is not None,
        points="data_points",
        temporality="aggregation_temporality",
        bounds="explicit_bounds",
        counts="bucket_counts",
        zero_count="zero_count",
    ),
}


def check_metrics(
    request: JsonRequest | ProtobufRequest, now_ns: int, *, is_bounded: bool
) -> Rejections:
    """Reject points, settle exemplars, count what is odd but kept.

    Raises TooHeavy if it `is_bounded` and there are too many points, exemplars or metrics with
    points to reject.
    """
    check = _Metrics(request, now_ns, is_bounded=is_bounded)
    lists = request.wire.lists[request.encoding]
    for i, entry in enumerate(request.entries):
        for j, scope in enumerate(getattr(entry, lists.scopes)):
            for k, metric in enumerate(getattr(scope, lists.records)):
                check.metric(metric, (i, j, k), scope)
    if check.is_changed:
        request.changed()
    return check.rejected


class _Metrics:
    """The check of one request."""

    def __init__(
        self, request: JsonRequest | ProtobufRequest, now_ns: int, *, is_bounded: bool
    ) -> None:
        self.rejected = rejections_of(request)
        self.is_changed = False
        self._request = request
        self._now_ns = now_ns
        self._names = _FORMS[request.encoding]
        self._form = FORMS[request.encoding]
        self._time = attrgetter(self._form.time)
        self._warnings = request.findings.warnings
        self._points_left = MOST_MESSAGES if is_bounded else None
        self._exemplars_left = MOST_FLAWED if is_bounded else None
        self._flawed_left = MOST_FLAWED if is_bounded else None
        self._buckets_left = MOST_BUCKETS

    def metric(self, metric: Any, place: tuple[int, int, int], scope: Any) -> None:
        """Check the points of a metric, which stands there."""
        found = self._names.data_of(metric)
        if found is None:
            self._warnings["metric_kind_unknown"] += 1
            return
        kind, data = found
        points = getattr(data, self._names.points)
        if not points:
            return
        self._points_left = _less(self._points_left, len(points))
        flaws = self._flaws(metric, kind, points)
        if flaws:
            self._reject(flaws, metric, kind, points, place, scope)
            if not points:
                return
        self._look_at_times(points)
        if kind != "summary":
            self._settle_exemplars(points)
        if kind in _WITH_TEMPORALITY and not getattr(data, self._names.temporality):
            self._warnings["temporality_unspecified"] += 1
        if kind in _WITH_BUCKETS:
            self._look_at_buckets(kind, points)

    def _flaws(self, metric: Any, kind: str, points: Any) -> dict[int, Reason]:
        """The points that must go, by number, each with the reason."""
        if not metric.name:
            return dict.fromkeys(range(len(points)), Reason.METRIC_NAME_EMPTY)
        flaws: dict[int, Reason] = {}
        if kind in _NUMBERS:
            has_value = self._names.has_value
            for number, point in enumerate(points):
                if not has_value(point) and not point.flags & NO_RECORDED_VALUE:
                    flaws[number] = Reason.VALUE_MISSING
        no_time = self._form.no_time
        for number, time in enumerate(map(self._time, points)):
            if time == no_time:
                flaws.setdefault(number, Reason.TIME_MISSING)
        return flaws

    def _reject(
        self,
        flaws: dict[int, Reason],
        metric: Any,
        kind: str,
        points: Any,
        place: tuple[int, int, int],
        scope: Any,
    ) -> None:
        """Take points out; those of one reason are told, and kept, together."""
        self._flawed_left = _less(self._flawed_left, 1)
        by_reason: dict[Reason, list[int]] = {}
        for number, reason in sorted(flaws.items()):
            by_reason.setdefault(reason, []).append(number)
        for reason, numbers in by_reason.items():
            first = self.rejected.as_sent((*place, numbers[0]))[-1]
            member = _FLAWED[reason].format(points=f"{kind}.dataPoints[{first}]")
            fragment = partial(self._fragment, metric, points, numbers, place[0], scope)
            self.rejected.add((reason, member), place, "", fragment, len(numbers))
        take_out(points, sorted(flaws))
        self.is_changed = True

    def _fragment(
        self, metric: Any, points: Any, numbers: list[int], index: int, scope: Any
    ) -> bytes:
        """The metric with these of its points alone."""
        alone = self._names.with_points(metric, [points[number] for number in numbers])
        return self._request.fragment_of(index, scope, alone)

    def _look_at_times(self, points: Any) -> None:
        times = list(map(int, map(self._time, points)))
        if not are_near(min(times), max(times), self._now_ns):
            warn_of_clocks(times, self._now_ns, self._warnings)

    def _settle_exemplars(self, points: Any) -> None:
        """Clear malformed ids, take out what has no value: peers refuse batches for them."""
        for point in points:
            exemplars = point.exemplars
            if exemplars:
                self._exemplars_left = _less(self._exemplars_left, len(exemplars))
                for exemplar in exemplars:
                    self._settle_ids(exemplar)
                has_value = self._names.has_value
                bad = [index for index, each in enumerate(exemplars) if not has_value(each)]
                if bad:
                    take_out(exemplars, bad)
                    self._warnings["exemplar_without_value"] += len(bad)
                    self.is_changed = True

    def _settle_ids(self, exemplar: Any) -> None:
        form = self._form
        is_malformed = False
        for name, size in zip(form.ids, (TRACE_ID_BYTES, SPAN_ID_BYTES), strict=False):
            raw = getattr(exemplar, name)
            made = form.read(raw, size)
            is_malformed = is_malformed or made is None
            normal = form.write(made if made and any(made) else b"")
            if normal != raw:
                setattr(exemplar, name, normal)
                self.is_changed = True
        if is_malformed:
            self._warnings["exemplar_ids_malformed"] += 1

    def _look_at_buckets(self, kind: str, points: Any) -> None:
        fits = self._fits if kind == "histogram" else self._fits_exponentially
        odd = [point for point in points if not point.flags & NO_RECORDED_VALUE and not fits(point)]
        if odd:
            self._warnings["histogram_shape"] += len(odd)

    def _fits(self, point: Any) -> bool:
        """Whether buckets, bounds and count of a histogram are those of one distribution."""
        counts = getattr(point, self._names.counts)
        bounds = getattr(point, self._names.bounds)
        if not counts and not bounds:
            return True
        if len(counts) != len(bounds) + 1:
            return False
        if not self._may_look_at(len(counts)):
            return True
        edges = list(map(float, bounds))
        return int(point.count) == sum(map(int, counts)) and all(
            low < high for low, high in pairwise(edges)
        )

    def _fits_exponentially(self, point: Any) -> bool:
        counts = [
            buckets
            for side in (point.positive, point.negative)
            if side is not UNSET
            for buckets in (getattr(side, self._names.counts),)
        ]
        if not self._may_look_at(sum(map(len, counts))):
            return True
        zero = int(getattr(point, self._names.zero_count))
        return int(point.count) == zero + sum(int(each) for side in counts for each in side)

    def _may_look_at(self, buckets: int) -> bool:
        self._buckets_left -= buckets
        return self._buckets_left >= 0


def _less(left: int | None, taken: int) -> int | None:
    """What is left of a bound, where there is one. Raises TooHeavy."""
    if left is None:
        return None
    if taken > left:
        raise TooHeavy
    return left - taken
