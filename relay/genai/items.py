"""Single spans, log records and data points with what stands around them, in plain values."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from relay.genai.contents import Told
from relay.genai.senders import sender_of
from relay.genai.values import attributes_of, number_of, plain, text_of
from relay.otlp import messages
from relay.otlp.messages_logs import LogRecord, ResourceLogs
from relay.otlp.messages_metrics import Metric, ResourceMetrics, data_of

NS_IN_MS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """The resource and the scope that items are of."""

    service: str
    scope: str
    resource: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SpanItem:
    """A span."""

    around: Around
    span: messages.Span
    attributes: dict[str, Any]

    @property
    def sender(self) -> str:
        """Who sent it, if it is a known one."""
        around = self.around
        return sender_of(around.scope, around.service, self.span.name, self.attributes)

    @property
    def started_ns(self) -> int:
        """When it began."""
        return _ns(self.span.startTimeUnixNano)

    @property
    def latency_ms(self) -> float | None:
        """How long it took; None for one that has not both times."""
        ended_ns = _ns(self.span.endTimeUnixNano)
        if not self.started_ns or ended_ns < self.started_ns:
            return None
        return (ended_ns - self.started_ns) / NS_IN_MS

    @property
    def has_failed(self) -> bool:
        """Whether its status says so; OpenRouter says it in an attribute."""
        status = self.span.status
        is_error = status is not UNSET and status.code == 2
        return is_error or self.attributes.get("span.level") == "ERROR"

    @property
    def error_words(self) -> str:
        """What its status says, else the exception that it tells of."""
        if self.span.status is not UNSET and self.span.status.message:
            return self.span.status.message
        for each in self.told():
            if each.name == "exception":
                keys = ("exception.type", "exception.message")
                return ": ".join(filter(None, (text_of(each.attributes.get(key)) for key in keys)))
        return ""

    def told(self) -> list[Told]:
        """Its events."""
        return [Told(each.name, attributes_of(each.attributes)) for each in self.span.events]


@dataclass(frozen=True, slots=True)
class LogItem:
    """A log record under the name of its event."""

    around: Around
    record: LogRecord
    attributes: dict[str, Any]
    name: str

    @property
    def sender(self) -> str:
        """Who sent it, if it is a known one."""
        return sender_of(self.around.scope, self.around.service, self.name, self.attributes)

    @property
    def at_ns(self) -> int:
        """Its time, else when it was seen."""
        return _ns(self.record.timeUnixNano) or _ns(self.record.observedTimeUnixNano)

    def told(self) -> Told:
        """It as an event of the span that it names."""
        return Told(self.name, self.attributes, plain(self.record.body))


@dataclass(frozen=True, slots=True)
class PointItem:
    """A data point with its metric. `is_delta`: its value is to be added to those before."""

    around: Around
    metric: Metric
    point: Any
    attributes: dict[str, Any]
    is_delta: bool

    @property
    def at_ns(self) -> int:
        """The end of the time that it is about."""
        return _ns(self.point.timeUnixNano)

    @property
    def started_ns(self) -> int:
        """The beginning of it."""
        return _ns(self.point.startTimeUnixNano)

    def number(self, *names: str) -> int | float | None:
        """The first of the point's own members that is a number."""
        values = (number_of(getattr(self.point, name, None)) for name in names)
        return next((each for each in values if each is not None), None)


def spans_of(entries: Iterable[messages.ResourceSpans]) -> Iterator[SpanItem]:
    """The spans of a request's entries, in their order."""
    for entry in entries:
        resource = _resource(entry.resource)
        for scope in entry.scopeSpans:
            around = _around(resource, scope.scope)
            for span in scope.spans:
                yield SpanItem(around, span, attributes_of(span.attributes))


def logs_of(entries: Iterable[ResourceLogs]) -> Iterator[LogItem]:
    """The log records of a request's entries, in their order."""
    for entry in entries:
        resource = _resource(entry.resource)
        for scope in entry.scopeLogs:
            around = _around(resource, scope.scope)
            for record in scope.logRecords:
                attributes = attributes_of(record.attributes)
                yield LogItem(around, record, attributes, event_name(record, attributes))


def points_of(entries: Iterable[ResourceMetrics]) -> Iterator[PointItem]:
    """The data points of a request's entries, in their order."""
    for entry in entries:
        resource = _resource(entry.resource)
        for scope in entry.scopeMetrics:
            around = _around(resource, scope.scope)
            for metric in scope.metrics:
                _name, data = data_of(metric) or ("", None)
                is_delta = getattr(data, "aggregationTemporality", 0) == 1
                for point in getattr(data, "dataPoints", ()):
                    attributes = attributes_of(point.attributes)
                    yield PointItem(around, metric, point, attributes, is_delta)


def event_name(record: LogRecord, attributes: dict[str, Any]) -> str:
    """What a log record is: its attribute event.name, else its field, else its body.

    Rust writes a source line into the field ("event otel/src/…rs:925"): that is no name.
    """
    own = text_of(attributes.get("event.name"))
    if own:
        return own
    if record.eventName and not record.eventName.startswith("event "):
        return record.eventName
    body = plain(record.body)
    return body[:200] if isinstance(body, str) else ""


def _around(resource: dict[str, Any], scope: Any) -> Around:
    service = sys.intern(text_of(resource.get("service.name")))
    name = "" if scope is UNSET else scope.name
    return Around(service=service, scope=name, resource=resource)


def _resource(text: msgspec.Raw) -> dict[str, Any]:
    return attributes_of(messages.decode_resource(text).attributes)


def _ns(value: str | int) -> int:
    found = number_of(value)
    return int(found) if found and found > 0 else 0
