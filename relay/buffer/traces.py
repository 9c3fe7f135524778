"""A trace id in, every place where something of it is kept out: what `where` and the page show."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from relay.buffer import owed, reader
from relay.buffer.backlog import Backlog
from relay.buffer.moves import PendingMoves
from relay.buffer.owed import Ranges
from relay.buffer.reader import DeliveredEntry, PartPlace, TraceFinding
from relay.records import OwedRange, Position
from relay.views import RecentTrace, StoredLetter, TraceDelivery, TracePlace

_MOST_ROWS = 1000
_RECENT_ROWS = 64


class Ask(Protocol):
    """Puts a question to the reader's thread."""

    def __call__(self, question: Callable[..., Any], /) -> Awaitable[Any]:
        """The answer."""
        ...


async def find(ask: Ask, trace_id: bytes) -> TraceFinding:
    """What the disk tells of a trace, asked in short statements; at most 1,000 rows of it."""
    finding = TraceFinding()
    rows: list[int] = []
    after: int | None = 0
    while after is not None and len(rows) < _MOST_ROWS:
        found, after = await ask(
            partial(_call, reader.trace_rows, trace_id=trace_id, after_row=after)
        )
        rows += found
    for row in rows[:_MOST_ROWS]:
        places, entries = await ask(partial(_call, reader.trace_places, trace_id=trace_id, row=row))
        finding.places += places
        finding.deliveries[row] = entries
    after = 0
    while after is not None:
        letters, after = await ask(
            partial(_call, reader.trace_letters, trace_id=trace_id, after=after)
        )
        finding.letters += letters
    return finding


def _call(question: Callable[..., Any], connection: object, **arguments: object) -> Any:
    return question(connection, **arguments)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a destination was owed, and what of it had been settled, at one moment.

    Taken before the disk is asked: what is settled later is on disk or not, but was owed here.
    """

    name: str
    ranges: Ranges
    settled: list[DeliveredEntry]


def standings(backlogs: Mapping[str, Backlog], moves: PendingMoves) -> list[Standing]:
    """Every destination as it is now, by name."""
    return [
        Standing(
            name,
            backlog.ranges,
            [
                DeliveredEntry(name, item.start, item.end, item.at_ns, item.status)
                for item in moves.deliveries(name)
            ],
        )
        for name, backlog in sorted(backlogs.items())
    ]


def places(finding: TraceFinding, destinations: list[Standing]) -> list[TracePlace]:
    """The finding in words of couriers: kept rows first, then dead letters."""
    result = [
        TracePlace(
            place.row,
            place.part.received_ns,
            place.part.address,
            place.part.user_agent,
            place.part.services,
            place.encoding,
            place.part.spans,
            tuple(
                _delivery(place, standing, finding.deliveries.get(place.row, []))
                for standing in destinations
            ),
        )
        for place in finding.places
    ]
    return result + [_letter_place(stored) for stored in finding.letters]


def _delivery(place: PartPlace, standing: Standing, entries: list[DeliveredEntry]) -> TraceDelivery:
    # Whole rows are settled by (row + 1, 0): the end of this part must not reach past its row.
    start = Position(place.row, place.first_span)
    end = Position(place.row, place.first_span + max(place.part.spans, 1))
    if owed.overlaps(standing.ranges, OwedRange(start, end)):
        return TraceDelivery(standing.name, "waiting")
    for entry in standing.settled + entries:
        if entry.destination == standing.name and entry.start < end and start < entry.end:
            is_success = 200 <= entry.status < 300
            state = "delivered" if is_success else "set_aside"
            return TraceDelivery(standing.name, state, entry.at_ns, entry.status)
    return TraceDelivery(standing.name, "not_owed")


def _letter_place(stored: StoredLetter) -> TracePlace:
    letter = stored.letter
    return TracePlace(
        0,
        letter.received_ns,
        "",
        "",
        (),
        letter.encoding,
        letter.affected,
        dead_letter=letter,
    )


async def recent(ask: Ask, *, before_row: int, limit: int) -> list[RecentTrace]:
    """The newest distinct traces, newest first."""
    seen: dict[bytes, RecentTrace] = {}
    while len(seen) < limit:
        found = await ask(
            partial(_call, reader.recent_parts, before_row=before_row, limit=_RECENT_ROWS)
        )
        if not found:
            break
        for row, part, trace_ids in found:
            for at in range(0, len(trace_ids), 16):
                trace_id = trace_ids[at : at + 16]
                if trace_id not in seen:
                    seen[trace_id] = RecentTrace(
                        trace_id, row, part.received_ns, part.services, part.address
                    )
            before_row = min(before_row, row)
    return list(seen.values())[:limit]
