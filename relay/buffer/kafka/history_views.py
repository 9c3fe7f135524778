"""A fleet's history, looked at: rows from the newest down (`api.Browse`) and traces
(`api.TraceIndex`).

What is handed out here has the numbers of this relay's index, which go by time; what a destination
is owed goes by places, which do not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from relay.buffer.kafka.history import History, by_place, places_of
from relay.buffer.kafka.history_file import Indexed
from relay.buffer.kafka.letters import Letters
from relay.buffer.kafka.places import INDEXED, first_row, stream_of
from relay.buffer.sqlite.trace_lookup import places
from relay.buffer.sqlite.trace_queries import MOST_ROWS, DeliveredEntry, TraceFinding
from relay.buffer.values import (
    NO_FURTHER,
    Arrival,
    DeadLetterFilter,
    Extent,
    IdsDown,
    LookBack,
    ReachesBack,
    RecentService,
    RecentTrace,
    RowsDown,
    StoredDeadLetter,
    TraceDelivery,
    TracePlace,
)
from relay.model.records import Sender, Signal, StoredRow

_ARRIVALS: Final = 1000
_RECENT: Final = 64

ReadRows = Callable[[Iterable[int]], Awaitable[list[StoredRow]]]


class FleetBrowse:
    """Rows as whoever looks at them wants them."""

    def __init__(self, history: History, letters: Letters, read_rows: ReadRows) -> None:
        self._history = history
        self._file = history.file
        self._letters = letters
        self._read_rows = read_rows

    @property
    def last_row(self) -> int:
        """The newest record that this relay has heard of."""
        return self._file.last_number

    def sender_of_rejected(self, received_ns: int) -> Sender | None:
        """Who sent a request of which this relay rejected items."""
        return self._history.sender_of_rejected(received_ns)

    async def rows_down(
        self, signal: Signal, before_row: int, *, most_rows: int, most_bytes: int
    ) -> RowsDown:
        """Rows of a signal before `before_row`, newest first; before a place, those before it in
        its partition.
        """
        if 0 < before_row < INDEXED:
            return await self._places_down(before_row, most_rows)
        while True:
            known = await asyncio.to_thread(self._file.down, signal, before_row, most_rows + 1)
            meant, size = 0, 0
            for _, _, raw_bytes in known[:most_rows]:
                size += raw_bytes
                if meant and size > most_bytes:
                    break
                meant += 1
            rows = await self._read_rows(number for number, _, _ in known[:meant])
            before_row = known[meant - 1][0] if len(known) > meant else 0
            if rows or not before_row:
                return RowsDown(rows[::-1], before_row)

    async def _places_down(self, before: int, most_rows: int) -> RowsDown:
        first = first_row(stream_of(before - 1))
        low = max(before - most_rows, first)
        rows = await self._read_rows(range(low, before))
        return RowsDown(rows[::-1], low if low > first else 0)

    async def ids_down(self, before_row: int, *, most_rows: int, most_ids: int) -> IdsDown:
        """Rows of spans before `before_row` by their traces, newest first; at least one."""
        return await asyncio.to_thread(self._file.ids_down, before_row, most_rows, most_ids)

    async def arrivals(self, after_row: int, *, with_ids: bool = True) -> list[Arrival]:
        """Records after `after_row`, oldest first, up to a thousand; their ids in any case."""
        del with_ids
        found = await asyncio.to_thread(self._file.after, after_row, _ARRIVALS)
        return [
            Arrival(
                number,
                seen.signal,
                seen.part.received_ns,
                seen.part.address,
                seen.part.user_agent,
                seen.part.services,
                seen.part.items,
                seen.ids,
            )
            for number, seen in found
        ]

    async def extent(self, signal: Signal, first_row: int, last_row: int) -> Extent:
        """How much of a signal is known in those rows (both included)."""
        return Extent(*await asyncio.to_thread(self._file.extent, signal, first_row, last_row))

    async def rows_of_traces(
        self,
        trace_ids: frozenset[bytes],
        first_row: int,
        last_row: int,
        back: LookBack = NO_FURTHER,
    ) -> dict[bytes, list[int]]:
        """Rows of spans among those (both included) that hold each trace, lowest first; and among
        some before `first_row`.
        """
        found: dict[bytes, list[int]] = {}
        if trace_ids:
            if back.rows:
                first_row = await asyncio.to_thread(self._file.first_behind, first_row, back)
            for trace_id, number in await asyncio.to_thread(
                self._file.holding, trace_ids, first_row, last_row, Signal.TRACES
            ):
                found.setdefault(trace_id, []).append(number)
        return found

    async def deliveries(
        self, rows_by_trace: Mapping[bytes, Sequence[int]]
    ) -> dict[bytes, list[TraceDelivery]]:
        """What became of each trace in those rows, for each destination and request."""
        numbers = {number for each in rows_by_trace.values() for number in each}
        known = {each.number: each for each in await asyncio.to_thread(self._file.records, numbers)}
        settled = await asyncio.to_thread(
            self._file.deliveries, sorted(each.seen.place for each in known.values())
        )
        alike = await self._history.standings()
        is_parked = any(backlog.has_parked for backlog in self._history.backlogs().values())
        letters: dict[bytes, list[StoredDeadLetter]] = {}
        entries = (*settled, *(one for each in alike for one in each.settled))
        if any(not 200 <= entry.status < 300 for entry in entries):
            letters = await letters_of(self._letters, frozenset(rows_by_trace))
        found = {}
        for trace_id, rows in rows_by_trace.items():
            own = [known[number] for number in rows if number in known]
            finding = TraceFinding(places_of(own), settled, letters.get(trace_id, []))
            standings = await self._history.standings(trace_id) if is_parked else alike
            found[trace_id] = [
                delivery
                for place in places(finding, standings)
                for delivery in place.deliveries
                if place.signal is Signal.TRACES
            ]
        return found


class FleetTraces:
    """Where traces are, by what this relay has heard."""

    def __init__(self, history: History, letters: Letters) -> None:
        self._history = history
        self._file = history.file
        self._letters = letters

    async def find(self, trace_id: bytes, text: str = "") -> list[TracePlace]:
        """Where the trace is, oldest first; at most 1,000 records and their dead letters."""
        known = await self._records(frozenset((trace_id,)))
        known = known[:MOST_ROWS]
        settled: list[DeliveredEntry] = await asyncio.to_thread(
            self._file.deliveries, [each.seen.place for each in known]
        )
        letters = (await letters_of(self._letters, frozenset((trace_id,)), text)).get(trace_id, [])
        finding = TraceFinding(places_of(known), settled, letters)
        standings = await self._history.standings(trace_id) if known else []
        numbers = by_place(known)
        return [
            replace(each, row=numbers[each.row]) if each.row else each
            for each in places(finding, standings)
        ]

    async def _records(self, trace_ids: frozenset[bytes]) -> list[Indexed]:
        last = self._file.last_number
        held = await asyncio.to_thread(self._file.holding, trace_ids, INDEXED, last)
        return await asyncio.to_thread(self._file.records, (number for _, number in held))

    async def places(self, trace_id: bytes, signal: Signal) -> list[int]:
        """The rows of a signal that hold the trace, as destinations are owed them."""
        found = await self._records(frozenset((trace_id,)))
        return sorted(each.seen.place for each in found if each.seen.signal is signal)

    async def recent(self, limit: int = 50) -> list[RecentTrace]:
        """The newest distinct traces that there are spans of, newest first."""
        seen: dict[bytes, RecentTrace] = {}
        before = self._file.last_number + 1
        while len(seen) < limit:
            found = await asyncio.to_thread(self._file.newest, Signal.TRACES, before, _RECENT)
            for number, one in found:
                part = one.part
                for at in range(0, len(one.ids), 16):
                    trace_id = one.ids[at : at + 16]
                    if trace_id not in seen:
                        seen[trace_id] = RecentTrace(
                            trace_id, number, part.received_ns, part.services, part.address
                        )
            if len(found) < _RECENT:
                break
            before = found[-1].number
        return list(seen.values())[:limit]

    async def services(self) -> list[RecentService]:
        """The services and signals of the newest records, the last seen first."""
        seen: dict[tuple[str, Signal], RecentService] = {}
        for _, one in await asyncio.to_thread(self._file.last_parts):
            for name in one.part.services or ("",):
                found = RecentService(name, one.signal, one.part.received_ns, one.part.address)
                seen.setdefault((name, one.signal), found)
        return list(seen.values())

    async def reaches_back(self) -> ReachesBack:
        """Received time of the oldest record that is known."""
        oldest = await asyncio.to_thread(self._file.oldest_ns)
        return ReachesBack(oldest, oldest)

    async def count_kept(self, trace_ids: frozenset[bytes]) -> int:
        """How many records hold any of these traces, of those that are known."""
        if not trace_ids:
            return 0
        last = self._file.last_number
        held = await asyncio.to_thread(self._file.holding, trace_ids, INDEXED, last)
        return len({number for _, number in held})


async def letters_of(
    letters: Letters, trace_ids: frozenset[bytes], text: str = ""
) -> dict[bytes, list[StoredDeadLetter]]:
    """The dead letters of each trace, without bodies, oldest first."""
    found: dict[bytes, list[StoredDeadLetter]] = {}
    for trace_id in trace_ids:
        own: dict[int, StoredDeadLetter] = {}
        for wanted in {trace_id.hex(), text} - {""}:
            after: int | None = 0
            while after is not None:
                page = await letters.oldest_first(DeadLetterFilter(trace=wanted), after)
                own |= {
                    each.letter_id: StoredDeadLetter(each.letter_id, each.set_aside_ns, each.letter)
                    for each in page.entries
                }
                after = page.edge
        if own:
            found[trace_id] = [own[letter_id] for letter_id in sorted(own)]
    return found
