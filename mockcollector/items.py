"""What arrived in a request, as objects that tests read: spans, log records and data points.

Times are nanoseconds since the epoch, attributes plain Python values.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from mockcollector.json_plain_view import PlainView
from mockcollector.signals import Request
from mockcollector.validity import Point, points_of


def to_python(value: AnyValue) -> Any:
    """An attribute value as str, bool, int, float, list, dict, bytes, or None for an empty one."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [to_python(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return to_dict(value.kvlist_value.values)
    # An index into a string table means nothing here; it stays readable in the raw message.
    if kind is None or kind == "string_value_strindex":
        return None
    return getattr(value, kind)


def to_dict(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """A list of attributes as a dict; of the same key twice the last wins."""
    return {attribute.key: to_python(attribute.value) for attribute in attributes}


def _later(raw: Any, name: str, absent: Any) -> Any:
    """A field that the official classes of 1.20 did not have yet."""
    return getattr(raw, name, absent)


class ReceivedResource:
    """The resource of some items, shared between them."""

    def __init__(self, raw: Resource, schema_url: str) -> None:
        self.raw = raw
        self.schema_url = schema_url

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The resource's attributes as Python values."""
        return to_dict(self.raw.attributes)


class ReceivedScope:
    """The instrumentation scope of some items, shared between them."""

    def __init__(self, raw: InstrumentationScope, schema_url: str) -> None:
        self.raw = raw
        self.schema_url = schema_url
        self.name = raw.name
        self.version = raw.version

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The scope's attributes as Python values."""
        return to_dict(self.raw.attributes)


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event of a span."""

    time_unix_nano: int
    name: str
    attributes: dict[str, Any]
    dropped_attributes_count: int


@dataclass(frozen=True, slots=True)
class ReceivedLink:
    """A link of a span; ids in lower-case hex."""

    trace_id: str
    span_id: str
    trace_state: str
    attributes: dict[str, Any]
    dropped_attributes_count: int
    flags: int


class Acceptance:
    """Which items of a request were accepted, by their places; none until it is answered."""

    __slots__ = ("places",)

    def __init__(self) -> None:
        self.places: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item stood."""

    resource: ReceivedResource
    scope: ReceivedScope
    request_number: int
    acceptance: Acceptance


class ReceivedItem:
    """What a span, a log record and a data point have in common."""

    at = 0
    """Its place among the items of its request, from 0."""
    raw: Any

    def __init__(self, place: Place) -> None:
        self.resource = place.resource
        self.scope = place.scope
        self.request_number = place.request_number
        self._acceptance = place.acceptance

    @property
    def is_accepted(self) -> bool:
        """Whether its request was answered 2xx (or taken and cut) and it was not rejected."""
        return self.at in self._acceptance.places

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Its own attributes as Python values."""
        return to_dict(self.raw.attributes)

    def attribute(self, key: str, default: Any = None) -> Any:
        """The value of one of its own attributes; of the same key twice the last."""
        for each in reversed(self.raw.attributes):
            if each.key == key:
                return to_python(each.value)
        return default


class ReceivedSpan(ReceivedItem):
    """One span. Whatever has no property of its own is in `raw`, the official message."""

    raw: trace_pb2.Span

    def __init__(self, raw: trace_pb2.Span, place: Place) -> None:
        super().__init__(place)
        self.raw = raw

    @property
    def trace_id(self) -> str:
        """32 lower-case hexadecimal digits."""
        return self.raw.trace_id.hex()

    @property
    def span_id(self) -> str:
        """16 lower-case hexadecimal digits."""
        return self.raw.span_id.hex()

    @property
    def parent_span_id(self) -> str:
        """16 lower-case hexadecimal digits, or the empty string for a root."""
        return self.raw.parent_span_id.hex()

    @property
    def name(self) -> str:
        """The span's name."""
        return self.raw.name

    @property
    def kind(self) -> int:
        """The number of the kind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer."""
        return self.raw.kind

    @property
    def start_time_unix_nano(self) -> int:
        """When it began."""
        return self.raw.start_time_unix_nano

    @property
    def end_time_unix_nano(self) -> int:
        """When it ended."""
        return self.raw.end_time_unix_nano

    @property
    def trace_state(self) -> str:
        """The W3C trace state as it came."""
        return self.raw.trace_state

    @property
    def flags(self) -> int:
        """All 32 bits; the low eight are the trace flags."""
        return int(_later(self.raw, "flags", 0))

    @property
    def status_code(self) -> int:
        """0 unset, 1 ok, 2 error."""
        return self.raw.status.code

    @property
    def status_message(self) -> str:
        """The words of the status."""
        return self.raw.status.message

    @cached_property
    def events(self) -> tuple[ReceivedEvent, ...]:
        """The span's events, in order."""
        return tuple(
            ReceivedEvent(
                e.time_unix_nano, e.name, to_dict(e.attributes), e.dropped_attributes_count
            )
            for e in self.raw.events
        )

    @cached_property
    def links(self) -> tuple[ReceivedLink, ...]:
        """The span's links, in order."""
        return tuple(
            ReceivedLink(
                trace_id=link.trace_id.hex(),
                span_id=link.span_id.hex(),
                trace_state=link.trace_state,
                attributes=to_dict(link.attributes),
                dropped_attributes_count=link.dropped_attributes_count,
                flags=_later(link, "flags", 0),
            )
            for link in self.raw.links
        )

    def __repr__(self) -> str:
        return f"<span {self.name!r} trace {self.trace_id} span {self.span_id}>"


class ReceivedLogRecord(ReceivedItem):
    """One log record. Whatever has no property of its own is in `raw`, the official message."""

    raw: logs_pb2.LogRecord

    def __init__(self, raw: logs_pb2.LogRecord, place: Place) -> None:
        super().__init__(place)
        self.raw = raw

    @property
    def trace_id(self) -> str:
        """32 lower-case hexadecimal digits, or the empty string where it belongs to no trace."""
        return self.raw.trace_id.hex() if any(self.raw.trace_id) else ""

    @property
    def span_id(self) -> str:
        """16 lower-case hexadecimal digits, or the empty string where it belongs to no span."""
        return self.raw.span_id.hex() if any(self.raw.span_id) else ""

    @property
    def time_unix_nano(self) -> int:
        """When it happened; 0 where the sender does not know."""
        return self.raw.time_unix_nano

    @property
    def observed_time_unix_nano(self) -> int:
        """When something saw it first; 0 where nobody said."""
        return self.raw.observed_time_unix_nano

    @property
    def severity_number(self) -> int:
        """0 unspecified, from 1 TRACE, 5 DEBUG, 9 INFO, 13 WARN, 17 ERROR, 21 FATAL."""
        return self.raw.severity_number

    @property
    def severity_text(self) -> str:
        """The sender's own word for it."""
        return self.raw.severity_text

    @cached_property
    def body(self) -> Any:
        """The body as a Python value; None for an empty one or none."""
        return to_python(self.raw.body)

    @property
    def event_name(self) -> str:
        """The name of the event; empty for what is no event."""
        return str(_later(self.raw, "event_name", ""))

    @property
    def flags(self) -> int:
        """All 32 bits; the low eight are the trace flags."""
        return self.raw.flags

    def __repr__(self) -> str:
        words = self.event_name or self.body
        return f"<log record {words!r} severity {self.severity_number}>"


class ReceivedMetric:
    """The metric of some data points, shared between them."""

    def __init__(self, raw: metrics_pb2.Metric) -> None:
        self.raw = raw
        self.name = raw.name
        self.description = raw.description
        self.unit = raw.unit
        self.kind = raw.WhichOneof("data") or ""
        """gauge, sum, histogram, exponential_histogram or summary."""
        data = getattr(raw, self.kind) if self.kind else None
        self.temporality: int | None = getattr(data, "aggregation_temporality", None)
        """1 delta, 2 cumulative, 0 unspecified; None for a gauge and a summary."""
        self.is_monotonic: bool | None = getattr(data, "is_monotonic", None)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The metric's metadata as Python values."""
        return to_dict(_later(self.raw, "metadata", ()))


class ReceivedDataPoint(ReceivedItem):
    """One data point. What has no property of its own is in `raw`, the official message."""

    raw: Point

    def __init__(self, raw: Point, metric: ReceivedMetric, place: Place) -> None:
        super().__init__(place)
        self.raw = raw
        self.metric = metric

    @property
    def name(self) -> str:
        """The name of its metric."""
        return self.metric.name

    @property
    def kind(self) -> str:
        """The kind of its metric: gauge, sum, histogram, exponential_histogram or summary."""
        return self.metric.kind

    @property
    def unit(self) -> str:
        """The unit of its metric."""
        return self.metric.unit

    @property
    def temporality(self) -> int | None:
        """1 delta, 2 cumulative, 0 unspecified; None for a gauge and a summary."""
        return self.metric.temporality

    @property
    def is_monotonic(self) -> bool | None:
        """Whether a sum only rises; None for what is no sum."""
        return self.metric.is_monotonic

    @property
    def start_time_unix_nano(self) -> int:
        """When its time span began; 0 where nobody said."""
        return self.raw.start_time_unix_nano

    @property
    def time_unix_nano(self) -> int:
        """When it was measured."""
        return self.raw.time_unix_nano

    @property
    def flags(self) -> int:
        """Bit 1: there is no recorded value."""
        return self.raw.flags

    @property
    def value(self) -> int | float | None:
        """The number of a gauge or a sum, with its type; None where it has none."""
        raw: Any = self.raw  # it may be a view
        if "as_int" not in raw.DESCRIPTOR.fields_by_name:
            return None
        member = raw.WhichOneof("value")
        return None if member is None else getattr(raw, member)

    @property
    def count(self) -> int | None:
        """How many were observed; None for a number."""
        return getattr(self.raw, "count", None)

    @property
    def sum(self) -> float | None:
        """The sum of what was observed, where the point has one."""
        return self._present("sum")

    @property
    def min(self) -> float | None:
        """The least that was observed, where the point has it."""
        return self._present("min")

    @property
    def max(self) -> float | None:
        """The most that was observed, where the point has it."""
        return self._present("max")

    @property
    def bucket_counts(self) -> list[int] | None:
        """The buckets of a histogram; those of an exponential one are in `raw`."""
        return self._list("bucket_counts")

    @property
    def explicit_bounds(self) -> list[float] | None:
        """The bounds of a histogram's buckets."""
        return self._list("explicit_bounds")

    def _present(self, name: str) -> float | None:
        raw: Any = self.raw
        field = raw.DESCRIPTOR.fields_by_name.get(name)
        if field is None or (field.has_presence and not raw.HasField(name)):
            return None
        return float(getattr(raw, name))

    def _list(self, name: str) -> list[Any] | None:
        values = getattr(self.raw, name, None)
        return None if values is None else list(values)

    def __repr__(self) -> str:
        shown = f"count {self.count}" if self.value is None else f"{self.value!r}"
        return f"<{self.kind} {self.name!r} {shown} at {self.time_unix_nano}>"


def flatten(
    message: Request | PlainView, request_number: int, acceptance: Acceptance | None = None
) -> tuple[ReceivedItem, ...]:
    """All items of a request, in order, each with its resource and scope.

    Of a view of a request (`json_plain_view`) they are read as they are asked for.
    """
    items = _flatten(message, request_number, acceptance or Acceptance())
    for at, item in enumerate(items):
        item.at = at
    return items


def _flatten(message: Any, request_number: int, acceptance: Acceptance) -> tuple[ReceivedItem, ...]:
    match message.DESCRIPTOR.name:
        case "ExportTraceServiceRequest":
            return tuple(
                ReceivedSpan(raw, place)
                for outer in message.resource_spans
                for resource in [ReceivedResource(outer.resource, outer.schema_url)]
                for inner in outer.scope_spans
                for place in [_place(resource, inner, request_number, acceptance)]
                for raw in inner.spans
            )
        case "ExportLogsServiceRequest":
            return tuple(
                ReceivedLogRecord(raw, place)
                for outer in message.resource_logs
                for resource in [ReceivedResource(outer.resource, outer.schema_url)]
                for inner in outer.scope_logs
                for place in [_place(resource, inner, request_number, acceptance)]
                for raw in inner.log_records
            )
        case _:
            return tuple(
                ReceivedDataPoint(raw, metric, place)
                for outer in message.resource_metrics
                for resource in [ReceivedResource(outer.resource, outer.schema_url)]
                for inner in outer.scope_metrics
                for place in [_place(resource, inner, request_number, acceptance)]
                for each in inner.metrics
                for metric in [ReceivedMetric(each)]
                for raw in points_of(each)
            )


def _place(
    resource: ReceivedResource,
    scope: trace_pb2.ScopeSpans | logs_pb2.ScopeLogs | metrics_pb2.ScopeMetrics,
    request_number: int,
    acceptance: Acceptance,
) -> Place:
    own = ReceivedScope(scope.scope, scope.schema_url)
    return Place(resource, own, request_number, acceptance)
