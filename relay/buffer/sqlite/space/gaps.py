"""Finds rows that nobody needs: of each signal those that no backlog of that signal is owed.

Rows of a signal that is owed may lie between, so a gap in what is owed is walked through run by run
(`signal_runs`). Where nothing of the signal is left need not be looked at again: rows that have
gone never come back, so that is remembered.
"""

import heapq
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import NamedTuple

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import signal_runs
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.schema import fetch, number
from relay.model.records import Signal

# Gaps that one query looks into at once, and what may lie between two of them: of many small ones
# most may be empty.
_AT_ONCE = 64
_APART_ROWS = 64
# Rows that the first query asks for: most often the oldest is too young, and nobody looks further.
_AT_FIRST = 4


class Gap(NamedTuple):
    """Rows `first`…`end` (not included) of `signal` that nobody needs; `of` is where the hole in
    what is owed begins that they are part of.
    """

    first: int
    end: int
    signal: Signal
    of: int


class FreeRow(NamedTuple):
    """A row that nobody needs."""

    row: int
    received_ns: int
    monotonic_ns: int
    stored_bytes: int
    items: int
    raw_bytes: int


class Gaps:
    """Walks through rows that nobody needs. Lives in the writer's thread."""

    def __init__(self) -> None:
        self._empty_to: dict[tuple[Signal, int], int] = {}  # from where a hole begins

    def rows(
        self, file: LogFile, owed: Mapping[Signal, list[Ranges]], at_once: int
    ) -> Iterator[tuple[Gap, FreeRow]]:
        """Each row that is in none of the lists of its signal, in order, with its gap.

        None of a signal for which there is no list at all: nobody said yet who wants it.
        """
        gaps = self._gaps(file, owed)
        seen: set[tuple[Signal, int]] = set()
        batch: list[Gap] = []
        for gap in gaps:
            if batch and (len(batch) == _AT_ONCE or gap.first - batch[-1].end > _APART_ROWS):
                yield from self._found(file, batch, at_once, seen)
                batch = []
            batch.append(gap)
        if batch:
            yield from self._found(file, batch, at_once, seen)

    def _gaps(self, file: LogFile, owed: Mapping[Signal, list[Ranges]]) -> Iterator[Gap]:
        holes = {
            signal: owed_ranges.row_gaps(
                owed_ranges.union(item for ranges in lists for item in ranges), file.last_row + 1
            )
            for signal, lists in owed.items()
        }
        begins = {signal: {first for first, _ in found} for signal, found in holes.items()}
        self._empty_to = {
            (signal, first): to
            for (signal, first), to in self._empty_to.items()
            if first in begins.get(signal, ())
        }
        if not file.run.first_row:
            # A log of spans alone: its holes are gaps.
            found = holes.get(Signal.TRACES, [])
            return (Gap(first, end, Signal.TRACES, first) for first, end in found)
        of_each = (self._of_signal(file, signal, found) for signal, found in holes.items())
        return heapq.merge(*of_each, key=attrgetter("first"))

    def _of_signal(
        self, file: LogFile, signal: Signal, holes: list[tuple[int, int]]
    ) -> Iterator[Gap]:
        for begin, end in holes:
            first = max(begin, self._empty_to.get((signal, begin), 0))
            for run in signal_runs.stretches(file.connection, signal, first, end - 1):
                yield Gap(run[0], run[1] + 1, signal, begin)

    def _found(
        self, file: LogFile, batch: list[Gap], at_once: int, seen: set[tuple[Signal, int]]
    ) -> Iterator[tuple[Gap, FreeRow]]:
        at, start, end = 0, batch[0].first, batch[-1].end
        entered = -1  # the gap that a row was last found in
        most = min(at_once, _AT_FIRST)
        while at < len(batch):
            rows = fetch(
                file.connection,
                "SELECT id, received_ns, monotonic_ns, length(parts) + length(body), spans,"
                " raw_bytes FROM rows WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                (start, end, most),
            )
            for values in rows:
                free = FreeRow(*map(number, values))  # what was hit need not be a number
                while batch[at].end <= free.row:
                    self._passed(batch[at], batch[at].end, seen)
                    at += 1
                if free.row >= batch[at].first:
                    if entered != at:
                        self._passed(batch[at], free.row, seen)
                        seen.add((batch[at].signal, batch[at].of))
                        entered = at
                    yield batch[at], free
            start = end if len(rows) < most else rows[-1][0] + 1
            most = at_once
            while at < len(batch) and batch[at].end <= start:
                self._passed(batch[at], batch[at].end, seen)
                at += 1

    def _passed(self, gap: Gap, to: int, seen: set[tuple[Signal, int]]) -> None:
        """Nothing of the gap is left before row `to`."""
        key = (gap.signal, gap.of)
        if key not in seen:
            self._empty_to[key] = max(to, self._empty_to.get(key, 0))
