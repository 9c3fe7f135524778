"""Rows as whoever looks at them wants them: the newest first, and what came since (`api.Browse`).

Each question ends after so many rows or bytes: couriers ask the same thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby

import apsw

from relay.buffer.rejected_senders import RejectedSenders
from relay.buffer.sqlite import signal_runs, sums, trace_queries
from relay.buffer.sqlite.backlogs import Backlogs
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.reader import Ask, is_encoding, split_parts
from relay.buffer.sqlite.rows import Part, RowColumns, read_row, signal_of
from relay.buffer.sqlite.schema import fetch, fetch_value, number
from relay.buffer.sqlite.trace_lookup import Standing, places, standing_of
from relay.buffer.sqlite.trace_queries import DeliveredEntry, PartPlace, TraceFinding
from relay.buffer.values import (
    NO_FURTHER,
    Arrival,
    Extent,
    IdsDown,
    LookBack,
    RowIds,
    RowsDown,
    StoredDeadLetter,
    TraceDelivery,
    unpacked,
)
from relay.model.records import Encoding, OwedRange, Position, Request, Sender, Signal, StoredRow

_IDS_STEP = 20_000
_ARRIVALS_STEP = 1000
_CLOCK_SLACK_NS = 60_000_000_000


class SqliteBrowse:
    """What a running buffer keeps, looked at from the newest row down."""

    def __init__(self, ask: Ask, ledger: Ledger, backlogs: Backlogs) -> None:
        self._ask = ask
        self._ledger = ledger
        self._backlogs = backlogs
        self._rejected = RejectedSenders()

    @property
    def last_row(self) -> int:
        """The newest row ever kept."""
        return self._ledger.last_row

    def note_rejected(self, request: Request) -> None:
        """Remember whose request it is that dead letters are made of; of the newest thousand."""
        self._rejected.note(request)

    def sender_of_rejected(self, received_ns: int) -> Sender | None:
        """Who sent a request of which items were rejected, if that is remembered."""
        return self._rejected.of(received_ns)

    async def rows_down(
        self, signal: Signal, before_row: int, *, most_rows: int, most_bytes: int
    ) -> RowsDown:
        """Rows of a signal before `before_row`, newest first; at least one, however large."""
        return await self._ask(
            partial(
                _rows_down,
                signal=signal,
                before_row=before_row,
                most_rows=most_rows,
                most_bytes=most_bytes,
            )
        )

    async def ids_down(self, before_row: int, *, most_rows: int, most_ids: int) -> IdsDown:
        """Rows of spans before `before_row` by their traces, newest first; at least one."""
        return await self._ask(
            partial(_ids_down, before_row=before_row, most_rows=most_rows, most_ids=most_ids)
        )

    async def arrivals(self, after_row: int, *, with_ids: bool = True) -> list[Arrival]:
        """What was kept after `after_row`, by row and sender: see `api.Browse`."""
        return await self._ask(partial(_arrivals, after_row=after_row, with_ids=with_ids))

    async def extent(self, signal: Signal, first_row: int, last_row: int) -> Extent:
        """How much of a signal is kept in those rows (both included)."""
        return await self._ask(
            partial(_extent, signal=signal, first_row=first_row, last_row=last_row)
        )

    async def rows_of_traces(
        self,
        trace_ids: frozenset[bytes],
        first_row: int,
        last_row: int,
        back: LookBack = NO_FURTHER,
    ) -> dict[bytes, list[int]]:
        """Kept rows of spans among those (both included) that hold each trace, lowest first; and
        among some before `first_row`.
        """
        found: dict[bytes, list[int]] = {}
        first_row = await self._ask(partial(_first_row, first_row=first_row, back=back))
        for first in range(first_row, min(last_row, self.last_row) + 1, _IDS_STEP):
            last = min(first + _IDS_STEP - 1, last_row)
            question = partial(_rows_holding, trace_ids=trace_ids, first_row=first, last_row=last)
            for trace_id, row in await self._ask(question):
                found.setdefault(trace_id, []).append(row)
        return found

    async def deliveries(
        self, rows_by_trace: Mapping[bytes, Sequence[int]]
    ) -> dict[bytes, list[TraceDelivery]]:
        """What became of each trace in those rows, for each destination and request."""
        backlogs = [
            (key, backlog)
            for key, backlog in sorted(self._backlogs.known().items())
            if key.signal is Signal.TRACES and key.is_claimed
        ]
        pending = self._ledger.pending
        standings = {}
        alike = [standing_of(key, backlog, pending, b"") for key, backlog in backlogs]
        if any(backlog.parked.ranges for _key, backlog in backlogs):  # then it depends on the trace
            standings = {
                trace_id: [
                    standing_of(key, backlog, pending, trace_id) for key, backlog in backlogs
                ]
                for trace_id in rows_by_trace
            }
        rows = sorted({row for each in rows_by_trace.values() for row in each})
        settled = await self._settled(rows) if rows else []
        letters: dict[bytes, list[StoredDeadLetter]] = {}
        if any(not 200 <= entry.status < 300 for entry in settled):
            letters = await self._letters(frozenset(rows_by_trace))
        findings = await self._ask(
            partial(_findings, rows_by_trace=rows_by_trace, settled=settled, letters=letters)
        )
        made: dict[tuple[tuple[int, int], ...], list[TraceDelivery]] = {}
        found = {}
        for trace_id, finding in findings.items():
            if trace_id in standings or finding.letters:
                found[trace_id] = _deliveries(finding, standings.get(trace_id, alike))
            else:  # what came in the same requests fares alike
                key = tuple((place.row, place.first_item) for place in finding.places)
                if key not in made:
                    made[key] = _deliveries(finding, alike)
                found[trace_id] = made[key]
        return found

    async def _letters(self, trace_ids: frozenset[bytes]) -> dict[bytes, list[StoredDeadLetter]]:
        found: dict[bytes, list[StoredDeadLetter]] = {}
        after: int | None = 0
        while after is not None:
            letters, after = await self._ask(
                partial(trace_queries.letters_of, trace_ids=trace_ids, after=after)
            )
            for trace_id, letter in letters:
                found.setdefault(trace_id, []).append(letter)
        return found

    async def _settled(self, rows: Sequence[int]) -> list[DeliveredEntry]:
        entries: list[DeliveredEntry] = []
        after: int | None = await self._ask(partial(_settled_before, row=rows[0]))
        while after is not None:
            found, after = await self._ask(
                partial(trace_queries.trace_deliveries, rows=rows, after=after)
            )
            entries += found
        return entries


def _oldest_row(connection: apsw.Connection) -> int:
    return number(fetch_value(connection, "SELECT min(id) FROM rows"))


def _rows_down(
    connection: apsw.Connection, signal: Signal, before_row: int, most_rows: int, most_bytes: int
) -> RowsDown:
    newest = number(fetch_value(connection, "SELECT max(id) FROM rows WHERE id < ?", (before_row,)))
    rows: list[StoredRow] = []
    size = 0
    for first, last in signal_runs.stretches_down(
        connection, signal, _oldest_row(connection), newest
    ):
        meta = fetch(
            connection,
            "SELECT id, raw_bytes FROM rows WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT ?",
            (first, last, most_rows + 1 - len(rows)),
        )
        for row_id, raw_bytes in meta:
            size += number(raw_bytes)
            if rows and (len(rows) >= most_rows or size > most_bytes):
                return RowsDown(rows, rows[-1].row)
            columns = fetch(connection, "SELECT * FROM rows WHERE id = ?", (row_id,))[0]
            read = read_row(RowColumns(*columns))
            if isinstance(read, StoredRow):
                rows.append(read)
    return RowsDown(rows, 0)


def _ids_down(
    connection: apsw.Connection, before_row: int, most_rows: int, most_ids: int
) -> IdsDown:
    newest = number(fetch_value(connection, "SELECT max(id) FROM rows WHERE id < ?", (before_row,)))
    rows: list[RowIds] = []
    many = 0
    for first, last in signal_runs.stretches_down(
        connection, Signal.TRACES, _oldest_row(connection), newest
    ):
        meta = fetch(
            connection,
            "SELECT id FROM rows WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT ?",
            (first, last, most_rows + 1 - len(rows)),
        )
        for (row,) in meta:
            if rows and (len(rows) >= most_rows or many >= most_ids):
                return IdsDown(rows, rows[-1].row)
            ids = fetch_value(connection, "SELECT ids FROM traces WHERE row = ?", (row,))
            if isinstance(ids, bytes) and len(ids) % 16 == 0:
                rows.append(RowIds(row, ids))
                many += len(ids) // 16
    return IdsDown(rows, 0)


def _first_row(connection: apsw.Connection, first_row: int, back: LookBack) -> int:
    """The lowest row to look at."""
    oldest = _oldest_row(connection)
    ids = 0
    for row, size in fetch(
        connection,
        "SELECT row, length(ids) FROM traces WHERE row < ? AND row >= ? ORDER BY row DESC LIMIT ?",
        (first_row, oldest, back.rows),
    ):
        ids += number(size) // 16
        if ids > back.ids:
            break
        first_row = row
    return max(first_row, oldest)


def _arrivals(connection: apsw.Connection, after_row: int, *, with_ids: bool) -> list[Arrival]:
    # Where a row has gone again its history tells of it.
    found = fetch(
        connection,
        "SELECT row, coalesce(rows.signal, history.signal), coalesce(rows.parts, history.parts),"
        " CASE WHEN ? THEN ids ELSE X'' END"
        " FROM traces LEFT JOIN rows ON rows.id = row LEFT JOIN history USING (row)"
        " WHERE row > ? ORDER BY row LIMIT ?",
        (with_ids, after_row, _ARRIVALS_STEP),
    )
    return [
        arrival
        for row, signal, parts, ids in found
        if isinstance(parts, bytes)
        for arrival in _by_sender(row, signal_of(signal) or Signal.TRACES, split_parts(parts, ids))
    ]


def _by_sender(row: int, signal: Signal, requests: list[tuple[Part, bytes]]) -> Iterator[Arrival]:
    """Requests of a row in their order, those that follow one of the same sender with that."""
    for sender, group in groupby(requests, key=_sender_of):
        parts, ids = zip(*group, strict=True)
        items = sum(part.items for part in parts)
        yield Arrival(row, signal, parts[-1].received_ns, *sender, items, b"".join(ids))


def _sender_of(request: tuple[Part, bytes]) -> tuple[str, str, tuple[str, ...]]:
    part = request[0]
    return part.address, part.user_agent, part.services


def _extent(connection: apsw.Connection, signal: Signal, first_row: int, last_row: int) -> Extent:
    ranges = (OwedRange(Position(max(first_row, 1)), Position(last_row + 1)),)
    if last_row < max(first_row, 1):
        return Extent(0, 0, 0)
    totals = sums.sums(connection, ranges, signal)
    return Extent(totals.rows, totals.items, sums.oldest_ns(connection, ranges, signal))


def _rows_holding(
    connection: apsw.Connection, trace_ids: frozenset[bytes], first_row: int, last_row: int
) -> list[tuple[bytes, int]]:
    found = fetch(
        connection,
        "SELECT row, ids FROM traces CROSS JOIN rows ON id = row"
        " WHERE row >= ? AND row <= ? AND length(ids) > 0 AND signal = ?",
        (first_row, last_row, int(Signal.TRACES)),
    )
    return [
        (trace_id, row)
        for row, ids in found
        if isinstance(ids, bytes) and len(ids) % 16 == 0
        for trace_id in trace_ids.intersection(unpacked(ids))
    ]


def _settled_before(connection: apsw.Connection, row: int) -> int:
    """After which delivery to look for what became of a row: none is older than the row."""
    received_ns = number(
        fetch_value(connection, "SELECT received_ns FROM rows WHERE id = ?", (row,))
    )
    return number(
        fetch_value(
            connection,
            "SELECT id FROM deliveries WHERE at_ns < ? ORDER BY id DESC LIMIT 1",
            (received_ns - _CLOCK_SLACK_NS,),
        )
    )


def _deliveries(finding: TraceFinding, standings: list[Standing]) -> list[TraceDelivery]:
    return [each for place in places(finding, standings) for each in place.deliveries]


def _findings(
    connection: apsw.Connection,
    rows_by_trace: Mapping[bytes, Sequence[int]],
    settled: Sequence[DeliveredEntry],
    letters: Mapping[bytes, list[StoredDeadLetter]],
) -> dict[bytes, TraceFinding]:
    """What is on disk of each trace; a row that holds many of them is read once."""
    of_row: dict[int, set[bytes]] = {}
    for trace_id, rows in rows_by_trace.items():
        for row in rows:
            of_row.setdefault(row, set()).add(trace_id)
    findings = {each: TraceFinding(letters=letters.get(each, [])) for each in rows_by_trace}
    all_rows = sorted(of_row)
    for entry in settled:
        within = trace_queries.rows_within(all_rows, entry.start, entry.end)
        for trace_id in {each for row in within for each in of_row[row]}:
            findings[trace_id].deliveries.append(entry)
    for row in all_rows:
        for trace_id, place in _places_in(connection, row, of_row[row]):
            findings[trace_id].places.append(place)
    return findings


def _places_in(
    connection: apsw.Connection, row: int, wanted: set[bytes]
) -> Iterator[tuple[bytes, PartPlace]]:
    for encoding, parts, ids in fetch(
        connection,
        "SELECT encoding, parts, ids FROM rows JOIN traces ON row = id WHERE id = ?",
        (row,),
    ):
        first_item = 0
        for part, own_ids in split_parts(parts, ids) if is_encoding(encoding) else ():
            place = PartPlace(row, Encoding(encoding), part, first_item)
            yield from ((trace_id, place) for trace_id in wanted.intersection(unpacked(own_ids)))
            first_item += part.items
