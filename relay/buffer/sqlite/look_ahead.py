"""What a backlog is owed, seen before it is taken (`api.LookAhead`). Belongs to the event loop."""

import asyncio
import sys
from typing import Protocol

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.parked import ParkedRanges
from relay.buffer.sqlite.reader import Reader
from relay.buffer.sqlite.types import Budget
from relay.buffer.values import RowsUp
from relay.model.records import Signal, StoredRow


class Owed(Protocol):
    """What it looks at: a backlog."""

    signal: Signal
    ranges: Ranges
    parked: ParkedRanges
    news: asyncio.Event

    def wake(self) -> None:
        """Let who waits look again."""
        ...


class SqliteLookAhead:
    """Of one backlog; `held` is handed out to nobody."""

    def __init__(self, backlog: Owed, ledger: Ledger, reader: Reader) -> None:
        self.held: Ranges = ()
        self._backlog = backlog
        self._ledger = ledger
        self._reader = reader

    @property
    def last_row(self) -> int:
        """The newest row of its signal, or a later one of another."""
        return self._ledger.last_rows[self._backlog.signal]

    def first_row(self, from_row: int) -> int:
        """The first one from there on that is owed and not parked; 0 when there is none."""
        backlog = self._backlog
        owed = owed_ranges.subtract(backlog.ranges, backlog.parked.ranges)
        behind = owed_ranges.subtract(owed, (owed_ranges.before(from_row),))
        there = owed_ranges.clip(behind, self.last_row)
        return there[0].start.row if there else 0

    def hold_from(self, row: int | None) -> None:
        """Hold that row and every later one; None: hold nothing."""
        held = () if row is None else owed_ranges.open_from(row)
        if held != self.held:
            self.held = held
            self._backlog.wake()

    async def read(self, after_row: int, *, most_bytes: int) -> RowsUp:
        """Rows after `after_row`, oldest first; raises as `api.LookAhead` says."""
        last_row = self.last_row
        if after_row >= last_row:
            return RowsUp([], after_row)
        budget = Budget(most_bytes, sys.maxsize, None, one_encoding=False, is_first=True)
        chunk = await self._reader.read_chunk(self._backlog.signal, after_row + 1, last_row, budget)
        if chunk is None:  # the file was replaced
            return RowsUp([], after_row)
        rows = [row for row in chunk.rows if isinstance(row, StoredRow)]
        return RowsUp(rows, max(chunk.next_row - 1, after_row))

    async def changed(self) -> None:
        """Return when rows came or, while something is held, when some were settled."""
        await self._backlog.news.wait()
