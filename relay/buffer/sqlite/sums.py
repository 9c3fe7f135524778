"""Adds up what of one signal lies in some ranges: a few look-ups a range, however long it is.

Each row holds the sums over all rows before it, each run of rows those of every signal before it
(`signal_runs`): so what of a signal lies between two rows is a difference.
"""

from typing import NamedTuple

import apsw

from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import signal_runs
from relay.buffer.sqlite.partial_rows import share
from relay.buffer.sqlite.schema import fetch, fetch_value, number
from relay.buffer.sqlite.types import Totals
from relay.model.records import OwedRange, Signal

_SELECT = "SELECT id, spans, raw_bytes, rows_before, spans_before, bytes_before FROM rows"
_BETWEEN = "WHERE id >= ? AND id <= ? ORDER BY id"


class _RowSums(NamedTuple):
    """A row's size, and the sums over all rows of its signal before it."""

    row: int
    items: int
    raw_bytes: int
    before: Totals

    def part(self, items: int) -> Totals:
        """So many of its first items."""
        items = min(items, self.items)
        return Totals(0, items, share(self.raw_bytes, self.items, 0, items))


def sums(connection: apsw.Connection, ranges: Ranges, signal: Signal) -> Totals:
    """Rows, items and bytes of `signal` in `ranges`, every end a place.

    A row that is in them in part counts as a row, with the share of its bytes.
    """
    result = Totals()
    last_row = 0
    for item in ranges:
        first, last = _first(connection, signal, item), _last(connection, signal, item)
        if first is not None and last is not None and item.end is not None:
            begin = first.before
            if item.start.item and first.row == item.start.row:
                begin += first.part(item.start.item)
            is_cut = item.end.item and last.row == item.end.row
            end = last.before + last.part(item.end.item if is_cut else last.items)
            end.rows += 1
            if end.rows > begin.rows:
                result += end - begin
                result.rows -= int(first.row == last_row)
        last_row = _last_row(item)
    return result


def oldest_ns(connection: apsw.Connection, ranges: Ranges, signal: Signal) -> int:
    """Received time of the first row of `signal` in `ranges`; 0 when there is none."""
    for item in ranges:
        found = _first(connection, signal, item)
        if found is not None:
            query = "SELECT received_ns FROM rows WHERE id = ?"
            return number(fetch_value(connection, query, (found.row,)))
    return 0


def _last_row(item: OwedRange) -> int:
    """The last row that is in it, in part at least."""
    if item.end is None:
        raise ValueError("an open range has no sums")
    return item.end.row if item.end.item else item.end.row - 1


def _first(connection: apsw.Connection, signal: Signal, item: OwedRange) -> _RowSums | None:
    """Of the first row of `signal` in it; None: there is none."""
    for stretch in signal_runs.stretches(connection, signal, item.start.row, _last_row(item)):
        if found := fetch(connection, f"{_SELECT} {_BETWEEN} LIMIT 1", stretch):
            return _row_sums(connection, signal, found[0])
    return None


def _last(connection: apsw.Connection, signal: Signal, item: OwedRange) -> _RowSums | None:
    """Of the last. The next row would not do: rows between may have gone, owed to nobody."""
    for stretch in signal_runs.stretches_down(connection, signal, item.start.row, _last_row(item)):
        if found := fetch(connection, f"{_SELECT} {_BETWEEN} DESC LIMIT 1", stretch):
            return _row_sums(connection, signal, found[0])
    return None


def _row_sums(connection: apsw.Connection, signal: Signal, values: tuple[object, ...]) -> _RowSums:
    # Before its checksum was read a value may be anything.
    row, items, raw_bytes, *before = map(number, values)
    by_signal = signal_runs.at(connection, row).sums_at(Totals(*before))
    return _RowSums(row, items, raw_bytes, by_signal.get(signal, Totals()))
