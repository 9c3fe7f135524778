"""Rows that are kept in, what of them is to be sent again out: found by time or by trace, summed.

A scan goes by ids, a step at a time, and reads every row's time: wall clocks jump, so rows are not
in the order of their times.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import anyio.to_thread
import apsw

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import trace_lookup
from relay.buffer.sqlite.partial_rows import share, spans_of
from relay.buffer.sqlite.schema import fetch
from relay.buffer.sqlite.types import Totals
from relay.model.records import OwedRange, Position, StoredRow
from relay.otlp.ids import stretches_of_trace

# A row's numbers may stand on a page of their own: so many take up to 20 ms.
_STEP_ROWS = 4_000
_HISTORY_ROWS = 20_000
NOTHING = Totals()


class Log(Protocol):
    """What is needed of the buffer."""

    last_row: int

    async def ask(self, question: Callable[[apsw.Connection], Any]) -> Any:
        """The answer of the disk. Raises BufferUnavailable."""

    async def read_rows(self, rows: list[int]) -> list[StoredRow]:
        """Those of `rows` that are kept and whole."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is kept of what was asked for.

    `gone_rows` and `gone_spans`: what history tells of the same time that is not kept any more;
    `kept_since_ns`: received time of the oldest row of all that is kept, 0 when nothing is.
    """

    ranges: Ranges
    looked_to: int  # rows above this came later
    kept_since_ns: int = 0
    gone_rows: int = 0
    gone_spans: int = 0
    rows: int = 0  # that hold some of it


async def since(log: Log, since_ns: int) -> Found:
    """Rows received at `since_ns` or later."""
    runs: list[OwedRange] = []
    looked_to, oldest_ns, count = 0, 0, 0
    while True:
        found = await log.ask(partial(_times, after_row=looked_to))
        for row, received_ns in found:
            oldest_ns = min(oldest_ns or received_ns, received_ns)
            if received_ns < since_ns:
                continue
            count += 1
            if runs and runs[-1].end == Position(row):
                runs[-1] = OwedRange(runs[-1].start, Position(row + 1))
            else:
                runs.append(owed_ranges.row_range(row))
        if found:
            looked_to = found[-1][0]
        if len(found) < _STEP_ROWS:
            break
    gone_rows, gone_spans = await _gone(log, since_ns)
    return Found(tuple(runs), looked_to, oldest_ns, gone_rows, gone_spans, count)


def _times(connection: apsw.Connection, after_row: int) -> list[tuple[int, int]]:
    return [
        (int(row), int(received_ns))
        for row, received_ns in fetch(
            connection,
            "SELECT id, received_ns FROM rows WHERE id > ? ORDER BY id LIMIT ?",
            (after_row, _STEP_ROWS),
        )
    ]


async def _gone(log: Log, since_ns: int) -> tuple[int, int]:
    rows, spans, after = 0, 0, 0
    while True:
        count, last, more_rows, more_spans = await log.ask(
            partial(_remembered, after_row=after, since_ns=since_ns)
        )
        rows, spans = rows + more_rows, spans + more_spans
        if count < _HISTORY_ROWS:
            return rows, spans
        after = last


def _remembered(
    connection: apsw.Connection, after_row: int, since_ns: int
) -> tuple[int, int, int, int]:
    count, last, rows, spans = fetch(
        connection,
        "SELECT count(*), max(row), sum(received_ns >= ?), sum((received_ns >= ?) * spans) FROM"
        " (SELECT row, received_ns, spans FROM history WHERE row > ? ORDER BY row LIMIT ?)",
        (since_ns, since_ns, after_row, _HISTORY_ROWS),
    )[0]
    return int(count), int(last or 0), int(rows or 0), int(spans or 0)


async def of_trace(log: Log, trace_id: bytes) -> Found:
    """The spans of a trace (16 bytes), and nothing else of the rows that hold them."""
    ranges: list[OwedRange] = []
    kept = await trace_lookup.rows_of(log.ask, trace_id)
    for number in sorted(kept.kept):
        for row in await log.read_rows([number]):
            runs = await anyio.to_thread.run_sync(
                stretches_of_trace, row.body, row.encoding, trace_id
            )
            ranges += [_stretch(row, first, stop) for first, stop in runs]
    rows = {item.start.row for item in ranges}
    return Found(
        owed_ranges.union(ranges),
        log.last_row,
        gone_rows=len(kept.gone),
        rows=len(rows),
    )


def _stretch(row: StoredRow, first: int, stop: int) -> OwedRange:
    end = Position(row.row + 1) if stop >= row.spans else Position(row.row, stop)
    return OwedRange(Position(row.row, first), end)


@dataclass(frozen=True, slots=True)
class Measured:
    """What of some ranges exists, and its sums."""

    there: Ranges
    sums: Totals


async def measure(
    ask: Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]],
    ranges: Ranges,
    *,
    also_owed: Ranges,
) -> Measured:
    """The rows of `ranges` (every end a place) that exist, and exact sums of their spans in them.

    A row counts as one unless some of it is in `also_owed`, where it counts already.
    """
    there: list[OwedRange] = []
    sums, counted = Totals(), 0
    for item in ranges:
        if item.end is None:
            raise ValueError("an open range has no sums")
        after = item.start.row - 1
        last = item.end.row if item.end.span else item.end.row - 1
        while after < last:
            found = await ask(partial(_sizes, after_row=after, last_row=last))
            for row, spans, raw_bytes in found:
                first, stop = spans_of(item, row, spans)
                start = max(item.start, Position(row))
                end = min(item.end, Position(row + 1))
                there.append(OwedRange(start, end))
                is_new = row != counted and not owed_ranges.overlaps(
                    also_owed, owed_ranges.row_range(row)
                )
                counted = row
                part_bytes = share(raw_bytes, spans, first, stop)
                sums += Totals(int(is_new), stop - first, part_bytes)
            after = found[-1][0] if len(found) == _STEP_ROWS else last
    return Measured(owed_ranges.union(there), sums)


def _sizes(
    connection: apsw.Connection, after_row: int, last_row: int
) -> list[tuple[int, int, int]]:
    return [
        (int(row), int(spans), int(raw_bytes))
        for row, spans, raw_bytes in fetch(
            connection,
            "SELECT id, spans, raw_bytes FROM rows WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (after_row, last_row, _STEP_ROWS),
        )
    ]
