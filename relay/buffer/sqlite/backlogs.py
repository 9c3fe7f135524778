"""Every destination's backlog, and what the writer's news mean to them.

The writer's thread posts the methods of "news" into the event loop.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.buffer import owed_ranges
from relay.buffer.api import Start
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.commands import Append, Waiter
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.reader import Reader
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.transactions import Readmitted
from relay.buffer.sqlite.types import GoneRow, Loaded, Totals
from relay.model.records import Health, StoredRow


@dataclass(frozen=True, slots=True)
class Evicted:
    """Rows that have gone, and what of them each destination was owed until then."""

    rows: list[GoneRow]
    ranges: dict[str, Ranges]


class Backlogs:
    """What each destination is owed by name."""

    def __init__(self, ledger: Ledger, reader: Reader) -> None:
        self._ledger = ledger
        self._reader = reader
        self._backlogs: dict[str, Backlog] = {}
        self.ended = asyncio.Event()  # the writer's thread has ended
        self.file_changed = asyncio.Event()  # a file was quarantined: there is something to read

    def load(self, loaded: Loaded) -> None:
        """Take up what the file says that was just opened."""
        self._ledger.last_row = loaded.last_row
        for name, found in loaded.destinations.items():
            backlog = self._backlogs[name] = Backlog(
                self._ledger,
                self._reader,
                name,
                found.state.ranges,
                sums=found.owed,
                is_paused=found.state.is_paused,
            )
            free = owed_ranges.clip(backlog.ranges, loaded.last_row)
            if free:
                self._reader.note_oldest(free[0].start.row, found.oldest_owed_ns)

    def open(self, name: str, start: Start = "auto", *, held: Ranges = ()) -> Backlog:
        """The backlog of `name`, made if it is new: see `api.Log.consumer`.

        `held` is for a new one too, in the same transaction (`Backlog.hold`).
        """
        known = self._backlogs.get(name)
        if known is not None and not known.is_removed:
            return known
        at_beginning = start == "beginning" or (start == "auto" and not self.known())
        kept = self._ledger.published
        first = 1 if at_beginning else self._ledger.last_row + 1
        sums = Totals(kept.rows, kept.items, kept.raw_bytes) if at_beginning else Totals()
        backlog = self._backlogs[name] = Backlog(
            self._ledger, self._reader, name, owed_ranges.open_from(first), sums=sums
        )
        if at_beginning and kept.first_row:
            self._reader.note_oldest(first, kept.oldest_received_ns)
        if not backlog.hold(held):
            backlog.changed()
        return backlog

    def known(self) -> dict[str, Backlog]:
        """All of them by name. Any thread may ask."""
        return {name: each for name, each in dict(self._backlogs).items() if not each.is_removed}

    def health(self) -> Mapping[str, Health]:
        """How each destination fares that has a courier. Any thread may ask."""
        found = {name: backlog.health() for name, backlog in self.known().items()}
        return {name: health for name, health in found.items() if health is not None}

    # -- news from the writer's thread, in the event loop (`Ledger.post`) -----------------------

    def on_committed(self, appends: list[Append], group: Group) -> None:
        """All of `appends` are on disk, as the rows of `group`."""
        if group.stored:
            self.on_rows(group.stored[-1].row, group.sums, group.stored)
        for letter in group.letters:
            self._ledger.counters.dead_letters[letter.reason] += 1
        for append in appends:
            if not append.waiter.done():
                append.waiter.set_result(None)

    def on_rows(self, last_row: int, sums: Totals, rows: Iterable[StoredRow] = ()) -> None:
        """Rows up to `last_row` are on disk, `sums` of them new; `rows` are what is at hand."""
        ledger = self._ledger
        ledger.last_row = max(ledger.last_row, last_row)
        for row in rows:
            ledger.cache.add(row)
        for backlog in self._backlogs.values():
            backlog.rows_added(sums)

    def on_evicted(self, evicted: Evicted) -> None:
        """These were evicted, undelivered."""
        self._ledger.evictions_heard += 1
        for name, ranges in evicted.ranges.items():
            self._ledger.pending.heard(name)
            if name in self._backlogs:
                self._backlogs[name].evict(ranges, evicted.rows)

    def on_transacted(self, waiter: Waiter, result: Any, readmitted: Sequence[Readmitted]) -> None:
        """A transaction is committed, and returned `result`."""
        for each in readmitted:
            self._on_readmitted(each)
        if not waiter.done():
            waiter.set_result(result)

    def _on_readmitted(self, readmitted: Readmitted) -> None:
        group, owed_to, known = readmitted.group, readmitted.owed_to, self.known()
        if group.rows:
            # Before `last_row` tells of them: until then nobody can have taken any.
            for name, backlog in known.items():
                if name not in owed_to:
                    backlog.skip((group.range,))
            self._ledger.last_row = max(self._ledger.last_row, group.rows[-1].id)
            for row in group.stored:
                self._ledger.cache.add(row)
            for name, backlog in known.items():
                if name in owed_to:
                    backlog.readmitted(group.range, group.sums)
        for name, (ranges, sums) in readmitted.parts.items():
            if name in known:
                known[name].owe(ranges, sums)

    def on_replaced(self, last_row: int) -> None:
        """The file was quarantined; in the new one rows follow on `last_row`."""
        self._ledger.last_row = last_row
        self._ledger.cache.clear()
        self._reader.forget()
        for backlog in self.known().values():
            backlog.restart_after(last_row)
        self.file_changed.set()
