"""A span, a log record or a data point as a list shows it, a line each. Pure."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import UNSET

from relay.model.records import Signal
from relay.model.units import iso
from relay.otlp.messages import Status
from relay.otlp.messages_metrics import data_of
from relay.view.attributes import MOST_CHARACTERS, shown_attributes
from relay.view.items import Attributes, Placed, as_item
from relay.view.log_records import log_line
from relay.view.query import Item, Query

MOST_NAME: Final = 200
_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")


def lines_of_item(
    placed: Placed, signal: Signal, received_ns: int, query: Query
) -> Iterator[dict[str, Any]]:
    """The line of a span or a log record that `query` means; of a metric one for each point."""
    if signal is Signal.METRICS:
        yield from _point_lines(placed, received_ns, query)
    elif query(as_item(placed, signal)):
        yield (log_line if signal is Signal.LOGS else span_line)(placed, received_ns)


def span_line(placed: Placed, received_ns: int) -> dict[str, Any]:
    """A span by itself; its events, links and resource are fetched with `row` and `item`."""
    span = placed.record
    return {
        **span_facts(placed),
        "time": iso(int(span.startTimeUnixNano) or received_ns),
        "received_at": iso(received_ns),
        "trace_id": span.traceId,
        "attributes": shown_attributes(span.attributes, "attributes"),
    }


def span_facts(placed: Placed) -> dict[str, Any]:
    """What is said of a span wherever it stands."""
    span = placed.record
    start, end = int(span.startTimeUnixNano), int(span.endTimeUnixNano)
    status = Status() if span.status is UNSET else span.status
    return {
        "row": placed.row,
        "item": placed.number,
        "span_id": span.spanId,
        "parent_id": span.parentSpanId,
        "name": span.name[:MOST_NAME],
        "service": placed.service[:MOST_NAME],
        "kind": _word(_KINDS, span.kind),
        "start_ns": str(start),
        "duration_ns": max(end - start, 0) if start else 0,
        "status": _word(_STATUSES, status.code),
        "message": status.message[:MOST_CHARACTERS],
    }


def _word(words: Sequence[str], number: int) -> str:
    return words[number] if 0 <= number < len(words) else str(number)


def _point_lines(placed: Placed, received_ns: int, query: Query) -> Iterator[dict[str, Any]]:
    metric, found = placed.record, data_of(placed.record)
    if found is None:
        return
    kind, data = found
    resource = placed.source.resource.attributes
    for point in reversed(data.dataPoints):
        values = Attributes(point.attributes, resource)
        if query(Item(service=placed.service, name=metric.name, values=values)):
            time_ns = int(point.timeUnixNano) or received_ns
            value, count = next(value_of(point), (None, None))
            yield {
                "row": placed.row,
                "item": placed.number,
                "time": iso(time_ns),
                "time_ns": str(time_ns),
                "received_at": iso(received_ns),
                "service": placed.service[:MOST_NAME],
                "name": metric.name[:MOST_NAME],
                "unit": metric.unit[:MOST_NAME],
                "kind": kind,
                "value": value,
                "count": count,
                "attributes": shown_attributes(point.attributes, "attributes"),
            }


def value_of(point: Any) -> Iterator[tuple[float, int | None]]:
    """The number of a point; of a histogram or summary the mean, and how many it is of. Nothing
    where it has none, or one that JSON cannot say.
    """
    count = getattr(point, "count", None)
    if count is None:
        value = point.asDouble if point.asDouble is not UNSET else point.asInt
        if value is not UNSET and math.isfinite(number := float(value)):
            yield number, None
    elif point.sum is not UNSET and int(count) and math.isfinite(total := float(point.sum)):
        yield total / int(count), int(count)
