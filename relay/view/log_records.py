"""A log record as a list shows it. Pure."""

from typing import Any

from relay.model.units import iso
from relay.view.attributes import shown_attributes, shown_value
from relay.view.items import Placed, level_of, level_word
from relay.view.summaries import MOST_CHARACTERS


def log_line(placed: Placed, received_ns: int) -> dict[str, Any]:
    """Everything about it but its resource; `row` and `item` say where to fetch what was cut."""
    record = placed.record
    time_ns = int(record.timeUnixNano) or int(record.observedTimeUnixNano)
    return {
        "row": placed.row,
        "item": placed.number,
        "time": iso(time_ns or received_ns),
        "time_ns": str(time_ns or received_ns),
        "received_at": iso(received_ns),
        "level": level_word(level_of(record)),
        "severity": record.severityText[:MOST_CHARACTERS],
        "service": placed.service[:MOST_CHARACTERS],
        "event": record.eventName[:MOST_CHARACTERS],
        "trace_id": record.traceId,
        "span_id": record.spanId,
        "body": shown_value(record.body, "body"),
        "attributes": shown_attributes(record.attributes, "attributes"),
    }
