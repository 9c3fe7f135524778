"""What the buffer knows of one trace in; the document of `/api/traces/ID` out, as plain dicts."""

from collections.abc import Sequence
from typing import Any

import msgspec

from relay.admin.app import iso
from relay.otlp import messages, transcode
from relay.records import DeadLetter, DestinationStatus, Encoding, StoredRow
from relay.views import RecentTrace, TracePlace

# How a trace of several requests stands as a whole: the first of these that any of them has.
STATES = ("waiting", "set_aside", "delivered", "not_owed")


def trace_document(
    trace_id: bytes,
    places: Sequence[TracePlace],
    rows: Sequence[StoredRow],
    destinations: Sequence[DestinationStatus],
) -> dict[str, Any]:
    """All that is known of a trace; `rows` are those of `places` that could be read."""
    kept = [place for place in places if place.dead_letter is None]
    return {
        "trace_id": trace_id.hex(),
        "received": [_received(place) for place in kept],
        "dead_letters": [
            _dead(place.dead_letter) for place in places if place.dead_letter is not None
        ],
        "destinations": [_destination(status, kept) for status in destinations],
        "resourceSpans": [
            entry for row in rows for entry in resource_spans_of_trace(row, trace_id)
        ],
    }


def recent_trace(recent: RecentTrace) -> dict[str, Any]:
    """One line of `/api/traces`."""
    return {
        "trace_id": recent.trace_id.hex(),
        "received_at": iso(recent.received_ns),
        "services": list(recent.services),
        "sender": recent.sender_address,
    }


def _received(place: TracePlace) -> dict[str, Any]:
    return {
        "row": place.row,
        "received_at": iso(place.received_ns),
        "sender": place.sender_address,
        "user_agent": place.user_agent,
        "services": list(place.services),
        "encoding": place.encoding.name.lower(),
        "spans": place.spans,
    }


def _dead(letter: DeadLetter) -> dict[str, Any]:
    return {
        "destination": letter.destination or "ingest",
        "reason": letter.reason,
        "words": letter.words,
        "path": letter.path,
        "status": letter.status,
        "spans": letter.spans,
        "affected": letter.affected,
        "received_at": iso(letter.received_ns),
    }


def _destination(status: DestinationStatus, kept: Sequence[TracePlace]) -> dict[str, Any]:
    found = [
        (delivery, place)
        for place in kept
        for delivery in place.deliveries
        if delivery.destination == status.name
    ]
    states = {delivery.state for delivery, _place in found}
    state = next((state for state in STATES if state in states), "not_owed")
    last = max((delivery for delivery, _ in found), key=lambda each: each.at_ns, default=None)
    came_in = found[-1][1].encoding.name.lower() if found else ""
    return {
        "name": status.name,
        "endpoint": status.endpoint,
        "state": state,
        "at": iso(last.at_ns) if last and state in {"delivered", "set_aside"} else None,
        "status": last.status if last else 0,
        "encoding": came_in if status.encoding == "auto" else status.encoding,
        "header_names": list(status.header_names),
        "destination_state": str(status.state),
        "reason": status.reason,
    }


def resource_spans_of_trace(row: StoredRow, trace_id: bytes) -> list[dict[str, Any]]:
    """The `resourceSpans` of a row with only the spans of one trace, as OTLP/JSON."""
    fragment = row.body if row.encoding is Encoding.JSON else transcode.to_json(row.body)
    wanted = trace_id.hex()
    found = []
    request = messages.decode_request(b'{"resourceSpans":[' + fragment + b"]}")
    for entry in request.resourceSpans:
        for scope in entry.scopeSpans:
            scope.spans = [span for span in scope.spans if span.traceId == wanted]
        entry.scopeSpans = [scope for scope in entry.scopeSpans if scope.spans]
        if entry.scopeSpans:
            found.append(msgspec.json.decode(messages.encode(entry)))
    return found
