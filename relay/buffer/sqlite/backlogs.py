"""Every destination's backlog, and what the writer's news mean to them.

The writer's thread posts the methods of "news" into the event loop.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.buffer import owed_ranges
from relay.buffer.api import Start
from relay.buffer.backlog_name import UNCLAIMED, BacklogName, backlog_name
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.commands import Append, Waiter
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.reader import Reader
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.signal_runs import SignalTotals
from relay.buffer.sqlite.transactions import Readmitted
from relay.buffer.sqlite.types import GoneRow, Loaded, Totals
from relay.model.records import Health, Signal, StoredRow


@dataclass(frozen=True, slots=True)
class Evicted:
    """Rows that have gone, by signal, and what of them each backlog was owed until then."""

    rows: Mapping[Signal, list[GoneRow]]
    ranges: dict[str, Ranges]


class Backlogs:
    """What each destination is owed by name, a signal at a time."""

    def __init__(self, ledger: Ledger, reader: Reader) -> None:
        self._ledger = ledger
        self._reader = reader
        self._backlogs: dict[BacklogName, Backlog] = {}
        self.ended = asyncio.Event()  # the writer's thread has ended
        self.file_changed = asyncio.Event()  # a file was quarantined: there is something to read

    def load(self, loaded: Loaded) -> None:
        """Take up what the file says that was just opened."""
        ledger = self._ledger
        ledger.last_row = loaded.last_row
        ledger.last_rows = dict(loaded.last_rows)
        ledger.cache.clear(loaded.last_row)
        keys = [backlog_name(name) for name in loaded.destinations]
        claimed = {key.signal for key in keys if key.is_claimed}
        for key, found in zip(keys, loaded.destinations.values(), strict=True):
            if key.signal not in claimed and found.state.ranges == owed_ranges.open_from(1):
                continue  # by the first one to come, which is owed all that is on disk
            backlog = self._backlogs[key] = Backlog(
                ledger,
                self._reader,
                key,
                found.state.ranges,
                sums=found.owed,
                is_paused=found.state.is_paused,
            )
            free = owed_ranges.clip(backlog.ranges, loaded.last_rows[key.signal])
            if free:
                self._reader.note_oldest(key.signal, free[0].start.row, found.oldest_owed_ns)

    def open(self, key: BacklogName, start: Start = "auto", *, held: Ranges = ()) -> Backlog:
        """The backlog of that name, made if it is new: see `api.Log.consumer`.

        `held` is for a new one too, in the same transaction (`Backlog.hold`).
        """
        others = self.known()
        nobodys = others.get(key.unclaimed)
        backlog = others.get(key)
        if backlog is None or backlog.is_over:
            ranges, sums = self._from(key.signal, start, others)
            backlog = self._made(key, ranges, sums)
            if not backlog.hold(held):
                backlog.changed()
        elif not backlog.is_open:
            backlog.owe(*self._from(key.signal, "auto", others))
        if nobodys is not None:
            nobodys.remove()
        return backlog

    def _from(
        self, signal: Signal, start: Start, others: Mapping[BacklogName, Backlog]
    ) -> tuple[Ranges, Totals]:
        """Where a backlog beside `others` begins, and the sums of what is there by then."""
        nobodys = others.get(BacklogName(UNCLAIMED, signal))
        if nobodys is not None and start == "auto":
            return nobodys.ranges, nobodys.sums
        is_first = all(other.signal is not signal for other in others)
        if start == "end" or (start == "auto" and not is_first):
            return owed_ranges.open_from(self._ledger.last_row + 1), Totals()
        found = self._ledger.sums
        sums = found.kept(signal) if found else Totals()
        if found and sums.rows and sums.rows == found.all_kept.rows:
            self._reader.note_oldest(signal, 1, self._ledger.published.oldest_received_ns)
        return owed_ranges.open_from(1), sums

    def _made(self, key: BacklogName, ranges: Ranges, sums: Totals) -> Backlog:
        is_paused = any(other.is_paused for other in self.of(key.destination))
        backlog = Backlog(self._ledger, self._reader, key, ranges, sums=sums, is_paused=is_paused)
        self._backlogs[key] = backlog
        return backlog

    def owe_only(self, wanted: Collection[BacklogName]) -> None:
        """Owe what comes to `wanted` and to no other that is known: see `api.Log`."""
        known = self.known()
        served = {key.signal for key in wanted}
        for signal in {key.signal for key in known} - served:
            nobody = BacklogName(UNCLAIMED, signal)
            if nobody not in known:  # before another is closed: a row between is owed to both
                ranges = owed_ranges.open_from(self._ledger.last_row + 1)
                self._made(nobody, ranges, Totals()).changed()
        for key, backlog in known.items():
            if key not in wanted and key.is_claimed and backlog.is_open:
                backlog.close()

    def known(self) -> dict[BacklogName, Backlog]:
        """All of them by name, of nobody too where others are closed. Any thread may ask."""
        return {name: each for name, each in dict(self._backlogs).items() if not each.is_removed}

    def of(self, destination: str) -> list[Backlog]:
        """Those of one destination."""
        return [each for name, each in self.known().items() if name.destination == destination]

    def health(self) -> Mapping[str, Health]:
        """How each backlog fares that has a courier, by its name on disk. Any thread may ask."""
        found = {backlog.key: backlog.health() for backlog in self.known().values()}
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

    def on_rows(self, last_row: int, sums: SignalTotals, rows: Sequence[StoredRow] = ()) -> None:
        """Rows up to `last_row` are on disk, `sums` of them new; `rows` are they, if at hand."""
        ledger = self._ledger
        ledger.last_row = max(ledger.last_row, last_row)
        for signal in sums:
            ledger.last_rows[signal] = ledger.last_row
        for row in rows:
            ledger.last_rows[row.signal] = row.row
            ledger.cache.add(row)
        if not rows:
            ledger.cache.clear(ledger.last_row)
        for backlog in self._backlogs.values():
            added = sums.get(backlog.signal)
            if added is not None:
                backlog.rows_added(added)

    def on_evicted(self, evicted: Evicted) -> None:
        """These were evicted, undelivered."""
        self._ledger.evictions_heard += 1
        for name, ranges in evicted.ranges.items():
            self._ledger.pending.heard(name)
            backlog = self._backlogs.get(backlog_name(name))
            if backlog is not None:
                backlog.evict(ranges, evicted.rows[backlog.signal])

    def on_transacted(self, waiter: Waiter, result: Any, readmitted: Sequence[Readmitted]) -> None:
        """A transaction is committed, and returned `result`."""
        for each in readmitted:
            self._on_readmitted(each)
        if not waiter.done():
            waiter.set_result(result)

    def _on_readmitted(self, readmitted: Readmitted) -> None:
        group, known = readmitted.group, self.known()
        if group.rows:
            signal, ledger = group.stored[0].signal, self._ledger
            of_signal = [key for key in known if key.signal is signal]
            owing = {
                key
                for key in of_signal
                if key.is_among(readmitted.owed_to, is_open=known[key].is_open)
            }
            # Before `last_rows` tell of them: until then nobody can have taken any.
            for key in of_signal:
                if key not in owing:
                    known[key].skip(group.range)
            ledger.last_row = max(ledger.last_row, group.rows[-1].id)
            ledger.last_rows[signal] = ledger.last_row
            for row in group.stored:
                ledger.cache.add(row)
            for key in owing:
                known[key].readmitted(group.range, group.sums[signal])
        for name, (ranges, sums) in readmitted.parts.items():
            if (key := backlog_name(name)) in known:
                known[key].owe(ranges, sums)

    def on_replaced(self, last_row: int) -> None:
        """The file was quarantined; in the new one rows follow on `last_row`."""
        self._ledger.last_row = last_row
        self._ledger.last_rows = dict.fromkeys(Signal, last_row)
        self._ledger.cache.clear(last_row)
        for backlog in self.known().values():
            backlog.restart_after(last_row)
        self.file_changed.set()
