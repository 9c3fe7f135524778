"""Rows that are kept, found by time or by trace and owed again to one backlog.

A scan goes by ids, a step at a time, and reads every row's time: wall clocks jump, so rows are not
in the order of their times.
"""

from dataclasses import dataclass
from functools import partial

import anyio.to_thread
import apsw

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import trace_lookup
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.backlogs import Backlogs
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.partial_rows import items_of, share
from relay.buffer.sqlite.reader import Ask, Reader
from relay.buffer.sqlite.schema import fetch
from relay.buffer.sqlite.types import Totals
from relay.buffer.values import KeptRows, OwedAgain
from relay.model.records import OwedRange, Position, Signal, StoredRow
from relay.otlp.ids import stretches_of_trace

# A row's numbers may stand on a page of their own: so many take up to 20 ms.
_STEP_ROWS = 4_000
_HISTORY_ROWS = 20_000


class Replays:
    """What can be sent again, and sending it again (`api.ReplayIndex`).

    The others are not touched: only the ranges of that one backlog grow. They are on disk
    before anybody is answered, so from then on no row of them goes, and a crash loses nothing.
    """

    def __init__(self, reader: Reader, ledger: Ledger, backlogs: Backlogs) -> None:
        self._reader = reader
        self._ledger = ledger
        self._backlogs = backlogs

    async def since(self, since_ns: int, signal: Signal) -> KeptRows:
        """Rows of a signal received at `since_ns` or later."""
        return await _since(self._reader.ask, since_ns, signal)

    async def of_trace(self, trace_id: bytes, signal: Signal) -> KeptRows:
        """What of a signal is of a trace (16 bytes), and nothing else of the rows that hold it."""
        ranges: list[OwedRange] = []
        found = await trace_lookup.rows_of(self._reader.ask, trace_id, signal)
        for number in found.kept:
            row = await self._reader.read_row(number)
            if row is not None:
                runs = await anyio.to_thread.run_sync(
                    stretches_of_trace, row.body, row.encoding, row.signal, trace_id
                )
                ranges += [stretch(row, first, stop) for first, stop in runs]
        return KeptRows(
            owed_ranges.union(ranges),
            self._ledger.last_row,
            gone_rows=len(found.gone),
            rows=len({item.start.row for item in ranges}),
        )

    async def not_owed(self, key: BacklogName, kept: KeptRows) -> Ranges:
        """What of it that backlog is not owed already."""
        backlog = self._backlogs.known().get(key)
        return owed_ranges.subtract(kept.ranges, backlog.ranges if backlog is not None else ())

    async def owe(self, key: BacklogName, kept: KeptRows, *, is_dry_run: bool) -> OwedAgain | None:
        """Owe to that backlog what of it is not owed already; it is on disk when this returns."""
        backlog = self._backlogs.known().get(key)
        if backlog is None:
            return None
        before = backlog.ranges
        if is_dry_run:
            new = await self.not_owed(key, kept)
            measured = await measure(self._reader.ask, new, key.signal, also_owed=before)
            return _told(measured.sums)
        held = backlog.hold(kept.ranges)
        return await self._release(backlog, held, before) if held else OwedAgain(0, 0, 0)

    async def begin(self, key: BacklogName, since_ns: int) -> None:
        """Make that backlog, if it is new, begin with what was received since then."""
        if not self._is_new(key):
            return
        found = await self.since(since_ns, key.signal)
        # What came while we looked is owed as well, and all of it in one transaction: a first
        # destination is what lets older rows go.
        came = owed_ranges.open_from(found.looked_to + 1)
        ranges = owed_ranges.union((*found.ranges, *came))
        if self._is_new(key):
            backlog = self._backlogs.open(key, "end", held=ranges)
            await self._release(backlog, backlog.in_flight, ())

    def _is_new(self, key: BacklogName) -> bool:
        known = self._backlogs.known().get(key)
        return known is None or known.is_over

    async def _release(self, backlog: Backlog, held: Ranges, before: Ranges) -> OwedAgain | None:
        try:
            await self._ledger.flush()
            measured = await measure(self._reader.ask, held, backlog.signal, also_owed=before)
        except BaseException:
            # Owed it stays, so it must be sent; only its sums are not known.
            backlog.release(held, held, Totals())
            raise
        if not backlog.release(held, measured.there, measured.sums):
            return None
        return _told(measured.sums)


def _told(sums: Totals) -> OwedAgain:
    return OwedAgain(sums.rows, sums.items, sums.raw_bytes)


async def _since(ask: Ask, since_ns: int, signal: Signal) -> KeptRows:
    runs: list[OwedRange] = []
    looked_to, oldest_ns, count = 0, 0, 0
    is_going_on = False  # the last row of the signal was one
    while True:
        found = await ask(partial(_times, after_row=looked_to))
        for row, of, received_ns in found:
            oldest_ns = min(oldest_ns or received_ns, received_ns)
            if of != signal:
                continue
            if received_ns < since_ns:
                is_going_on = False
                continue
            count += 1
            # What is of other signals between two rows is in the range, and means nothing there.
            start = runs.pop().start if is_going_on else Position(row)
            runs.append(OwedRange(start, Position(row + 1)))
            is_going_on = True
        if found:
            looked_to = found[-1][0]
        if len(found) < _STEP_ROWS:
            break
    gone_rows, gone_items = await _gone(ask, since_ns, signal)
    return KeptRows(tuple(runs), looked_to, oldest_ns, gone_rows, gone_items, count)


def _times(connection: apsw.Connection, after_row: int) -> list[tuple[int, int, int]]:
    return [
        (int(row), int(signal), int(received_ns))
        for row, signal, received_ns in fetch(
            connection,
            "SELECT id, signal, received_ns FROM rows WHERE id > ? ORDER BY id LIMIT ?",
            (after_row, _STEP_ROWS),
        )
    ]


async def _gone(ask: Ask, since_ns: int, signal: Signal) -> tuple[int, int]:
    rows, items, after = 0, 0, 0
    while True:
        count, last, more_rows, more_items = await ask(
            partial(_remembered, after_row=after, since_ns=since_ns, signal=signal)
        )
        rows, items = rows + more_rows, items + more_items
        if count < _HISTORY_ROWS:
            return rows, items
        after = last


def _remembered(
    connection: apsw.Connection, after_row: int, since_ns: int, signal: Signal
) -> tuple[int, int, int, int]:
    count, last, rows, items = fetch(
        connection,
        "SELECT count(*), ifnull(max(row), 0), ifnull(sum(is_one), 0),"
        " ifnull(sum(is_one * spans), 0) FROM (SELECT row, spans,"
        " (received_ns >= ? AND signal = ?) AS is_one FROM history WHERE row > ?"
        " ORDER BY row LIMIT ?)",
        (since_ns, int(signal), after_row, _HISTORY_ROWS),
    )[0]
    return int(count), int(last), int(rows), int(items)


def stretch(row: StoredRow, first: int, stop: int) -> OwedRange:
    """Items of a row from `first` on, before `stop`."""
    end = Position(row.row + 1) if stop >= row.items else Position(row.row, stop)
    return OwedRange(Position(row.row, first), end)


@dataclass(frozen=True, slots=True)
class Measured:
    """What of some ranges exists, and its sums."""

    there: Ranges
    sums: Totals


async def measure(ask: Ask, ranges: Ranges, signal: Signal, *, also_owed: Ranges) -> Measured:
    """The rows of `signal` in `ranges` (every end a place) that exist, and exact sums of them.

    A row counts as one unless some of it is in `also_owed`, where it counts already.
    """
    there: list[OwedRange] = []
    sums, counted = Totals(), 0
    for item in ranges:
        if item.end is None:
            raise ValueError("an open range has no sums")
        after = item.start.row - 1
        last = item.end.row if item.end.item else item.end.row - 1
        begin: Position | None = None  # from its first row on all is there, or of other signals
        while after < last:
            found = await ask(partial(_sizes, after_row=after, last_row=last))
            for row, of, items, raw_bytes in found:
                if of != signal:
                    continue
                first, stop = items_of(item, row, items)
                if begin is None:
                    begin = max(item.start, Position(row))
                else:
                    there.pop()
                there.append(OwedRange(begin, min(item.end, Position(row + 1))))
                is_new = row != counted and not owed_ranges.overlaps(
                    also_owed, owed_ranges.row_range(row)
                )
                counted = row
                part_bytes = share(raw_bytes, items, first, stop)
                sums += Totals(int(is_new), stop - first, part_bytes)
            after = found[-1][0] if len(found) == _STEP_ROWS else last
    return Measured(owed_ranges.union(there), sums)


def _sizes(
    connection: apsw.Connection, after_row: int, last_row: int
) -> list[tuple[int, int, int, int]]:
    return [
        (int(row), int(signal), int(items), int(raw_bytes))
        for row, signal, items, raw_bytes in fetch(
            connection,
            "SELECT id, signal, spans, raw_bytes FROM rows WHERE id > ? AND id <= ?"
            " ORDER BY id LIMIT ?",
            (after_row, last_row, _STEP_ROWS),
        )
    ]
