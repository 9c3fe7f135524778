"""The documents of `/api/traces` and `/api/traces/ID`, as plain dicts. Pure."""

import time
from collections.abc import Sequence
from typing import Any

from relay.admin.dead_letter_documents import summary
from relay.buffer.values import ReachesBack, RecentTrace, TracePlace, holds_trace
from relay.model.records import DestinationStatus, Signal
from relay.model.units import iso
from relay.otlp.trace_items import entries_of_trace
from relay.traces.ids import IdReading
from relay.traces.stepped import Stepped
from relay.traces.where import STATES, NamedDestination, TraceReport

# Of a trace no more rows are told of, the oldest ones.
MOST_ROWS = 1000
SETTLED = {"set_aside", "evicted", "delivered", "filtered"}
# Of these the relay's own mark stands where else a status is.
UNANSWERED = {"evicted", "filtered"}


def trace_document(report: TraceReport) -> dict[str, Any]:
    """All that is known of a trace, or how far back what is known reaches."""
    if not report.is_known:
        return {
            "error": f"nothing is known of trace {report.text}",
            **_reach(report.reach),
        }
    ids = report.ids
    pieces = [place for place in report.places if place.dead_letter is None]
    letters = [place for place in report.places if place.dead_letter is not None]
    return {
        "trace_id": ids[0].trace_id.hex(),
        "ids": [{"trace_id": each.trace_id.hex(), "how": each.how} for each in ids],
        "received": [_received(place) for place in pieces],
        "dead_letters": [
            {
                "id": place.letter_id,
                **summary(place.dead_letter),
                "set_aside_at": iso(place.set_aside_ns),
            }
            for place in letters
            if place.dead_letter
        ],
        "destinations": [_destination(each, ids, pieces, letters) for each in report.destinations],
        **_reach(report.reach),
        "is_cut": len({place.row for place in pieces}) >= MOST_ROWS,
        "resourceSpans": _entries(report, Signal.TRACES),
        "resourceLogs": _entries(report, Signal.LOGS),
    }


def _entries(report: TraceReport, signal: Signal) -> list[dict[str, Any]]:
    """What is shown of the items of a signal. Data points are of no trace."""
    return [
        entry
        for row in report.rows
        if row.signal is signal
        for each in report.ids
        for entry in entries_of_trace(row, each.trace_id)
    ]


def _reach(reach: ReachesBack) -> dict[str, Any]:
    return {"kept_since": iso(reach.kept_ns), "known_since": iso(reach.known_ns)}


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
        "signal": place.signal.word,
        "spans": place.items,
        "is_kept": place.is_kept,
        "destinations": [
            {
                "name": each.destination,
                "state": each.state,
                "at": iso(each.at_ns),
                "status": 0 if each.state in UNANSWERED else each.status,
            }
            for each in place.deliveries
        ],
    }


def _destination(
    destination: NamedDestination,
    ids: Sequence[IdReading],
    pieces: Sequence[TracePlace],
    letters: Sequence[TracePlace],
) -> dict[str, Any]:
    status = destination.status
    found = [
        (delivery, place)
        for place in pieces
        if place.signal is status.signal
        for delivery in place.deliveries
        if delivery.destination == status.name
    ]
    own = [
        place
        for place in letters
        if place.signal is status.signal
        and place.dead_letter
        and place.dead_letter.destination == status.name
    ]
    states = {delivery.state for delivery, _place in found}
    state = next((state for state in STATES if state in states), "not_owed")
    if state == "not_owed" and own:
        state = "set_aside"  # its row is not known any more, what became of it is
    of_state = [(each, place) for each, place in found if each.state == state]
    stepped = destination.stepped if state in ("delivered", "filtered") and not own else Stepped()
    if stepped.step:
        state = "filtered"
    last = max((each for each, _place in of_state), key=lambda each: each.at_ns, default=None)
    came_in = found[-1][1].encoding.name.lower() if found else ""
    at_ns = last.at_ns if last else max((place.set_aside_ns for place in own), default=0)
    return {
        "name": status.name,
        "signal": status.signal.word,
        "endpoint": status.endpoint,
        "is_configured": destination.is_configured,
        "is_known": destination.is_known,
        "state": state,
        "at": iso(at_ns) if state in SETTLED else None,
        "status": last.status if last and state not in UNANSWERED else 0,
        "encoding": came_in if status.encoding == "auto" else status.encoding,
        "header_names": list(status.header_names),
        "waiting_since": iso(min(place.received_ns for _each, place in of_state))
        if state == "waiting"
        else None,
        "is_in_flight": any(each.is_in_flight for each, _place in of_state),
        "is_behind": state == "waiting"
        and 0 < destination.oldest_owed_ns < min(place.received_ns for _each, place in of_state),
        "stepped_around": _stepped_around(status, ids)
        if any(each.is_parked for each, _place in of_state)
        else None,
        "dead_letters": [place.letter_id for place in own],
        **_stepped(stepped),
        "held_seconds": _held_seconds(destination, [place for _each, place in of_state])
        if state == "waiting"
        else 0.0,
        **_courier(status),
    }


def _stepped(stepped: Stepped) -> dict[str, Any]:
    return {
        "filtered_by": stepped.step,
        "filtered_because": stepped.words,
        "changed_by": list(stepped.changed_by),
    }


def _held_seconds(destination: NamedDestination, places: Sequence[TracePlace]) -> float:
    """How long what waits is held for the rest of the trace; 0 where that time is over."""
    waited_ns = time.time_ns() - min(place.received_ns for place in places)
    seconds = destination.held_seconds
    return seconds if waited_ns < seconds * 1e9 else 0.0


def _stepped_around(status: DestinationStatus, ids: Sequence[IdReading]) -> dict[str, Any] | None:
    """Items of the trace that the upstream cannot bear: others go first, they are tried alone."""
    own = [
        each
        for each in status.parked
        if any(holds_trace(each.trace_ids, reading.trace_id) for reading in ids)
    ]
    if not own:
        return None
    return {
        "spans": sum(each.items for each in own),
        "said": own[0].said,
        "tries": max(each.tries for each in own),
        "next_try_at": iso(min(each.next_try_ns for each in own)),
    }


def _courier(status: DestinationStatus) -> dict[str, Any]:
    """How the destination fares: what is waited for, and how often it was tried in vain."""
    return {
        "destination_state": str(status.state),
        "reason": status.reason,
        "since": iso(status.since_ns),
        "failing_since": iso(status.failing_since_ns),
        "tries": status.consecutive_failures,
        "last_status": status.last_status,
        "last_success_at": iso(status.last_success_ns),
        "next_try_at": iso(status.next_try_ns),
    }
