"""The newest rows in memory, for couriers that keep up: no disk, no unzipping."""

import bisect
from collections import deque
from operator import attrgetter

from relay.buffer.sqlite.types import Budget, Chunk
from relay.model.records import Signal, StoredRow

_ROW = attrgetter("row")


class RowCache:
    """The newest rows in memory up to so many bytes, each signal's by themselves: who wants one
    signal does not come across the others. Lives in the event loop.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._rows: dict[Signal, list[StoredRow]] = {signal: [] for signal in Signal}
        self._signals: deque[Signal] = deque()  # of all rows here, the oldest first
        # Of each signal no row behind this one is missing here.
        self._gone_to = dict.fromkeys(Signal, 0)
        self._last_row = 0
        self.stored_bytes = 0

    def add(self, row: StoredRow) -> None:
        """Append the newest row; the oldest leave when it is too much."""
        if row.row != self._last_row + 1:
            self.clear(row.row - 1)
        self._rows[row.signal].append(row)
        self._signals.append(row.signal)
        self._last_row = row.row
        self.stored_bytes += len(row.body)
        if self.stored_bytes > self._limit_bytes:
            self._trim()

    def _trim(self) -> None:
        leaving: dict[Signal, int] = {}
        while self.stored_bytes > self._limit_bytes:
            signal = self._signals.popleft()
            before = leaving.get(signal, 0)
            self.stored_bytes -= len(self._rows[signal][before].body)
            leaving[signal] = before + 1
        for signal, count in leaving.items():
            rows = self._rows[signal]
            self._gone_to[signal] = rows[count - 1].row
            del rows[:count]

    def clear(self, last_row: int) -> None:
        """Forget everything; what comes next follows on `last_row`."""
        for signal, rows in self._rows.items():
            rows.clear()
            self._gone_to[signal] = last_row
        self._signals.clear()
        self._last_row = last_row
        self.stored_bytes = 0

    def get(self, row: int) -> StoredRow | None:
        """That row, if it is still here."""
        for signal in Signal:
            found = self.first(signal, row)
            if found is not None and found.row == row:
                return found
        return None

    def oldest_received_ns(self, signal: Signal) -> int:
        """When the oldest row of `signal` here was received, 0 without any: what is older waits
        longer.
        """
        rows = self._rows[signal]
        return rows[0].received_ns if rows else 0

    def first(self, signal: Signal, row: int) -> StoredRow | None:
        """The first of `signal` that is not before `row`; None too where that may be elsewhere."""
        if row <= self._gone_to[signal]:
            return None
        rows = self._rows[signal]
        at = bisect.bisect_left(rows, row, key=_ROW)
        return rows[at] if at < len(rows) else None

    def read(self, signal: Signal, first_row: int, last_row: int, budget: Budget) -> Chunk | None:
        """As reader.read_rows, or None when some of those rows are not here."""
        if first_row <= self._gone_to[signal]:
            return None
        rows = self._rows[signal]
        begin = at = bisect.bisect_left(rows, first_row, key=_ROW)
        while at < len(rows) and rows[at].row <= last_row:
            row = rows[at]
            if not budget.takes(row.encoding, len(row.body), row.items):
                return Chunk([*rows[begin:at]], row.row, is_full=True)
            at += 1
        return Chunk([*rows[begin:at]], last_row + 1, is_full=False)
