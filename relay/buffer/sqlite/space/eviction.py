"""Deletes rows that are still owed, when space is short and their destinations may lose them.

The last that goes for space: rows that nobody is owed but destinations that may lose them
(`hold_timers`). A step is one transaction: the ranges of who loses them, an entry for `where`, a
count that outlives the process, and the rows. The event loop hears of it afterwards; until then
what it writes is cut by `PendingAcks`. What is in flight at that moment may still be delivered.
"""

import time
from dataclasses import replace
from functools import partial

import structlog

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import backlog_name
from relay.buffer.owed_ranges import Ranges
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.backlogs import Backlogs, Evicted
from relay.buffer.sqlite.counters_table import EVICTED
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.partial_rows import sums_of
from relay.buffer.sqlite.space.hold_timers import HoldTimers
from relay.buffer.sqlite.space.retention import Chosen, Retention, remove
from relay.buffer.sqlite.types import EVICTED_STATUS

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

_LOG_SECONDS = 60.0


class Eviction:
    """Deletes rows that are owed, a step at a time. Lives in the writer's thread."""

    def __init__(self, holds: HoldTimers, ledger: Ledger, backlogs: Backlogs) -> None:
        self._holds = holds
        self._ledger = ledger
        self._backlogs = backlogs
        self._unlogged: dict[str, int] = {}
        self._next_log = 0.0  # monotonic
        self.last_ns = 0  # when anything was evicted last, by this process
        self.items: dict[str, int] = {}  # by destination, those of earlier processes included

    def load(self, counters: dict[str, int]) -> None:
        """Take up the counts on disk, where they are higher than those known."""
        for name, value in counters.items():
            if name.startswith(EVICTED):
                destination = name.removeprefix(EVICTED)
                known = max(value, self.items.get(destination, 0))
                self.items = {**self.items, destination: known}

    def counters(self) -> dict[str, int]:
        """The counts as they are to stand on disk."""
        return {EVICTED + name: value for name, value in self.items.items()}

    def step(self, file: LogFile, settings: BufferSettings, retention: Retention) -> int:
        """Delete some rows that may go undelivered; returns how many (0: there are none)."""
        drops_oldest = settings.when_full == "drop-oldest"
        for names in self._holds.evictable(drops_oldest=drops_oldest):
            chosen = retention.choose(file, file.owed_by_signal(but=names))
            if chosen.count and any(name in names for name in file.destinations):
                with retention.timed():
                    self._evict(file, names, chosen)
                return chosen.count
        return 0

    def _evict(self, file: LogFile, names: frozenset[str], chosen: Chosen) -> None:
        lost: dict[str, Ranges] = {}
        items: dict[str, int] = {}
        for name in names & file.destinations.keys():
            had = file.destinations[name].ranges
            rows = chosen.rows.get(backlog_name(name).signal, [])
            ranges = owed_ranges.intersection(chosen.ranges(backlog_name(name).signal), had)
            if ranges:
                left = owed_ranges.subtract(had, ranges)
                lost[name] = ranges
                items[name] = sums_of(ranges, rows, left=left).items
        self._ledger.evictions_begun += 1
        now_ns = self._ledger.now_ns()
        try:
            file.work(partial(_write, chosen=chosen, lost=lost, items=items, at_ns=now_ns))
        except BaseException:
            self._ledger.evictions_begun -= 1
            raise
        self.last_ns = now_ns
        for name, ranges in lost.items():
            self._ledger.pending.evicted(name, ranges)
            self.items = {**self.items, name: self.items.get(name, 0) + items[name]}
            self._unlogged[name] = self._unlogged.get(name, 0) + items[name]
        self._ledger.post(self._backlogs.on_evicted, Evicted(chosen.rows, lost))
        self.say()

    def say(self, *, is_last: bool = False) -> None:
        """Log what was evicted, once a minute."""
        now = time.monotonic()
        if not self._unlogged or (now < self._next_log and not is_last):
            return
        self._next_log = now + _LOG_SECONDS
        unlogged, self._unlogged = self._unlogged, {}
        for name, items in unlogged.items():
            log.warning(
                "spans_evicted",
                destination=backlog_name(name).destination,
                signal=backlog_name(name).signal.name.lower(),
                spans=items,
                since_ever=self.items[name],
                reason="space was short, and they could not be delivered",
            )


def _write(
    file: LogFile, *, chosen: Chosen, lost: dict[str, Ranges], items: dict[str, int], at_ns: int
) -> None:
    for name, ranges in lost.items():
        state = file.destinations[name]
        left = owed_ranges.subtract(state.ranges, ranges)
        file.write_destination(name, replace(state, ranges=left))
        file.add_counter(EVICTED + name, items[name])
        file.settle(name, ranges, at_ns=at_ns, status=EVICTED_STATUS)
    remove(file, chosen)
