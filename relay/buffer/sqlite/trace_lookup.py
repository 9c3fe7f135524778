"""Where a trace is: every place where something of it is kept, and what became of it there."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import apsw

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName, backlog_name
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import reader, trace_queries
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.backlogs import Backlogs
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.pending_acks import PendingAcks
from relay.buffer.sqlite.reader import Ask
from relay.buffer.sqlite.schema import fetch
from relay.buffer.sqlite.trace_queries import DeliveredEntry, PartPlace, TraceFinding
from relay.buffer.sqlite.types import EVICTED_STATUS
from relay.buffer.values import (
    FILTERED_STATUS,
    ReachesBack,
    RecentService,
    RecentTrace,
    StoredDeadLetter,
    TraceDelivery,
    TracePlace,
)
from relay.model.records import OwedRange, Position, Signal

_RECENT_ROWS = 64
_ALL_ROWS = 1_000_000
_NO_ROW_YET = 2**63 - 1
# What became of a piece as a whole: the first of these that any part of it met.
SETTLED_STATES = ("set_aside", "evicted", "delivered", "filtered")


async def _rows_of(ask: Ask, trace_id: bytes, most: int) -> list[int]:
    rows: list[int] = []
    after: int | None = 0
    step = trace_queries.FIRST_STEP
    while after is not None and len(rows) < most:
        found, after, step = await ask(
            partial(trace_queries.trace_rows, trace_id=trace_id, after_row=after, step=step)
        )
        rows += found
    return rows[:most]


class TraceReader:
    """Where traces are, by what the file says and what its destinations are owed."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def find(self, trace_id: bytes, text: str = "") -> list[TracePlace]:
        """Where the trace is, oldest first; at most 1,000 rows and their dead letters.

        Scans all known ids, 0.1-0.5 s a million.
        """
        standings = await self._standings(trace_id)
        return places(await _finding(self._ask, trace_id, text), standings)

    async def recent(self, limit: int = 50) -> list[RecentTrace]:
        """The newest distinct traces that there are spans of, newest first."""
        seen: dict[bytes, RecentTrace] = {}
        before_row = self._end_row()
        while before_row and len(seen) < limit:
            question = partial(reader.recent_parts, before_row=before_row, limit=_RECENT_ROWS)
            found, before_row = await self._ask(question)
            for row, part, trace_ids in found:
                for at in range(0, len(trace_ids), 16):
                    trace_id = trace_ids[at : at + 16]
                    if trace_id not in seen:
                        seen[trace_id] = RecentTrace(
                            trace_id, row, part.received_ns, part.services, part.address
                        )
        return list(seen.values())[:limit]

    async def services(self) -> list[RecentService]:
        """The services and signals of the newest rows, the last seen first."""
        return await self._ask(reader.recent_services)

    async def reaches_back(self) -> ReachesBack:
        """How far back it is known what there was."""
        return await self._ask(trace_queries.reaches_back)

    async def count_kept(self, trace_ids: frozenset[bytes]) -> int:
        """How many kept rows hold spans of any of these traces."""
        count = 0
        row: int | None = 0 if trace_ids else None
        while row is not None:
            more, row = await self._ask(
                partial(trace_queries.count_kept, trace_ids=trace_ids, after_row=row)
            )
            count += more
        return count

    async def _standings(self, trace_id: bytes) -> list["Standing"]:
        raise NotImplementedError

    def _end_row(self) -> int:
        return _NO_ROW_YET


class SqliteTraceIndex(TraceReader):
    """Traces of a running buffer (`api.TraceIndex`)."""

    def __init__(self, ask: Ask, ledger: Ledger, backlogs: Backlogs) -> None:
        super().__init__(ask)
        self._ledger = ledger
        self._backlogs = backlogs

    async def _standings(self, trace_id: bytes) -> list["Standing"]:
        return [
            standing_of(key, backlog, self._ledger.pending, trace_id)
            for key, backlog in sorted(self._backlogs.known().items())
            if key.is_claimed
        ]

    def _end_row(self) -> int:
        return self._ledger.last_row + 1


class TracesAtRest(TraceReader):
    """Traces of a file that no daemon has open for writing."""

    async def backlogs(self) -> list[BacklogName]:
        """Of whom anything is owed."""
        return [standing.key for standing in await self._standings(b"")]

    async def _standings(self, trace_id: bytes) -> list["Standing"]:
        return await self._ask(_standings_on_disk)


def _standings_on_disk(connection: apsw.Connection) -> list["Standing"]:
    return [
        Standing(key, _owed(stored), (), [])
        for name, stored in fetch(connection, "SELECT name, ranges FROM destinations ORDER BY name")
        if (key := backlog_name(str(name))).is_claimed
    ]


def _owed(stored: bytes) -> owed_ranges.Ranges:
    try:
        return owed_ranges.decode(stored)
    except (ValueError, TypeError):
        return owed_ranges.open_from(1)  # as a relay takes it that starts on this file


async def _finding(ask: Ask, trace_id: bytes, text: str) -> TraceFinding:
    finding = TraceFinding()
    rows = await _rows_of(ask, trace_id, trace_queries.MOST_ROWS)
    for few in trace_queries.batches(rows):
        finding.places += await ask(
            partial(trace_queries.trace_places, trace_id=trace_id, rows=few)
        )
    after: int | None = 0
    while rows and after is not None:
        entries, after = await ask(partial(trace_queries.trace_deliveries, rows=rows, after=after))
        finding.deliveries += entries
    after = 0
    while after is not None:
        letters, after = await ask(
            partial(trace_queries.trace_letters, trace_id=trace_id, text=text, after=after)
        )
        finding.letters += letters
    return finding


class TraceRows(NamedTuple):
    """Rows that hold spans of a trace."""

    kept: list[int]
    gone: list[int]  # only remembered


async def rows_of(ask: Ask, trace_id: bytes, signal: Signal) -> TraceRows:
    """The rows of a signal that hold the trace, lowest first; at most a million."""
    rows = await _rows_of(ask, trace_id, _ALL_ROWS)
    kept: dict[int, bool] = {}
    for few in trace_queries.batches(rows):
        places = await ask(partial(trace_queries.trace_places, trace_id=trace_id, rows=few))
        kept.update((place.row, place.is_kept) for place in places if place.signal is signal)
    return TraceRows(
        sorted(row for row, is_kept in kept.items() if is_kept),
        sorted(row for row, is_kept in kept.items() if not is_kept),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What a destination was owed of a signal, and what of it had been settled, at one moment.

    Taken before the disk is asked: what is settled later is on disk or not, but was owed here.
    """

    key: BacklogName
    ranges: Ranges
    in_flight: Ranges
    settled: list[DeliveredEntry]
    parked: Ranges = ()  # what of `ranges` others go before


def standing_of(key: BacklogName, backlog: Backlog, acks: PendingAcks, trace_id: bytes) -> Standing:
    """What a destination is owed now, as far as it may be of the trace."""
    own, of_others = backlog.parked.of_trace(trace_id)
    settled = [
        DeliveredEntry(key.text, item.start, item.end, item.at_ns, item.status)
        for item in acks.deliveries(key.text)
    ]
    ranges = owed_ranges.subtract(backlog.ranges, of_others)
    return Standing(key, ranges, backlog.in_flight, settled, own)


def places(finding: TraceFinding, destinations: list[Standing]) -> list[TracePlace]:
    """The finding in words of couriers: rows first, then dead letters."""
    rows = sorted({place.row for place in finding.places})
    settled: dict[tuple[str, int], list[DeliveredEntry]] = {}
    for entry in (*finding.deliveries, *(one for each in destinations for one in each.settled)):
        for row in trace_queries.rows_within(rows, entry.start, entry.end):
            settled.setdefault((entry.destination, row), []).append(entry)
    letters = (stored.letter for stored in finding.letters)
    has_letter = {BacklogName(letter.destination, letter.signal) for letter in letters}
    result = [
        TracePlace(
            place.row,
            place.part.received_ns,
            place.part.address,
            place.part.user_agent,
            place.part.services,
            place.encoding,
            place.part.items,
            tuple(
                _delivery(
                    place,
                    standing,
                    settled.get((standing.key.text, place.row), []),
                    has_letter=standing.key in has_letter,
                )
                for standing in destinations
                if standing.key.signal is place.signal
            ),
            place.is_kept,
            signal=place.signal,
        )
        for place in finding.places
    ]
    return result + [_letter_place(stored) for stored in finding.letters]


def _delivery(
    place: PartPlace, standing: Standing, entries: list[DeliveredEntry], *, has_letter: bool
) -> TraceDelivery:
    # Whole rows are settled by (row + 1, 0): the end of this part must not reach past its row.
    start = Position(place.row, place.first_item)
    whole = OwedRange(start, Position(place.row, place.first_item + max(place.part.items, 1)))
    # What has gone waits for nobody, though a range from the beginning covers its place.
    if place.is_kept and owed_ranges.overlaps(standing.ranges, whole):
        is_in_flight = owed_ranges.overlaps(standing.in_flight, whole)
        return TraceDelivery(
            standing.key.destination,
            "waiting",
            is_in_flight=is_in_flight,
            is_parked=owed_ranges.overlaps(standing.parked, whole),
        )
    found: dict[str, DeliveredEntry] = {}
    left: Ranges = (whole,)
    # The newest word counts: what was sent again was settled again.
    for entry in reversed(entries):
        settled = OwedRange(Position(*entry.start), Position(*entry.end))
        if owed_ranges.overlaps(left, settled):
            left = owed_ranges.subtract(left, (settled,))
            found.setdefault(_state_of(entry.status), entry)
    if len(found) > 1 and not has_letter:
        # A part was set aside, and no dead letter is of this trace: it was another's.
        found.pop("set_aside", None)
    for state in SETTLED_STATES:
        if state in found:
            return TraceDelivery(
                standing.key.destination, state, found[state].at_ns, found[state].status
            )
    return TraceDelivery(standing.key.destination, "not_owed")


def _state_of(status: int) -> str:
    if status == EVICTED_STATUS:
        return "evicted"
    if status == FILTERED_STATUS:
        return "filtered"
    return "delivered" if 200 <= status < 300 else "set_aside"


def _letter_place(stored: StoredDeadLetter) -> TracePlace:
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
        letter_id=stored.letter_id,
        set_aside_ns=stored.set_aside_ns,
        signal=letter.signal,
    )
