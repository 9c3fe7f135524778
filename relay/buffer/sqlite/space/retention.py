"""Deletes rows that nobody needs, one short step at a time, on the writer's connection.

A row may go when no destination on disk is owed any of it, and there is a destination at all:
without one nothing counts as delivered. What decides is what is *on disk*, so that a crash after
a step never leaves a range that owes a row which has gone. Rows that are owed go by `eviction`,
which chooses and removes them by the same means.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import apsw

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.settings import MIB, BufferSettings
from relay.buffer.sqlite.load import number
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.schema import PAGE_BYTES, fetch
from relay.buffer.sqlite.space.history import forget_deliveries, let_go
from relay.buffer.sqlite.space.row_age import RowAges
from relay.buffer.sqlite.types import GoneRow, Totals

_CANDIDATES = 512
_FEW = 32
# Gaps that one query looks into at once: of many small ones most may be empty.
_GAPS_AT_ONCE = 64
_MAX_STEP_BYTES = 4 * MIB
_MIN_STEP_BYTES = 256 * 1024
_FAST_SECONDS = 0.005
_SLOW_SECONDS = 0.015
_VACUUM_PAGES = 256
SHRINK_BYTES = _VACUUM_PAGES * PAGE_BYTES
# Free pages below this are kept for the next rows: moving pages only to grow again is waste.
_KEEP_FREE_BYTES = 4 * MIB


@dataclass(slots=True)
class Chosen:
    """Rows of one step, in order, and the runs of ids that hold them and nothing that stays."""

    rows: list[GoneRow] = field(default_factory=list)
    runs: list[tuple[int, int]] = field(default_factory=list)  # first and last row
    stored_bytes: int = 0
    _gap: int = -1

    def add(self, row: GoneRow, stored_bytes: int, gap: int) -> None:
        """`row` is the next one, in the gap of that number."""
        self.rows.append(row)
        self.stored_bytes += stored_bytes
        if gap == self._gap:
            self.runs[-1] = (self.runs[-1][0], row.row)
        else:
            self.runs.append((row.row, row.row))
            self._gap = gap

    @property
    def sums(self) -> Totals:
        """Over its rows."""
        return Totals(
            len(self.rows),
            sum(row.items for row in self.rows),
            sum(row.raw_bytes for row in self.rows),
        )


class Retention:
    """Deletes delivered rows, oldest first, in steps that waiters hardly notice."""

    def __init__(self, settings: BufferSettings, ages: RowAges) -> None:
        self._keep_ns = int(settings.keep_delivered_seconds * 1e9)
        self._ages = ages
        self._step_bytes = MIB
        # Of a small buffer a step must not take much more than was asked for.
        self._most_bytes = max(settings.max_size_bytes // 32, _MIN_STEP_BYTES)

    def expire(self, file: LogFile) -> int:
        """Delete some rows that were kept long enough; returns how many (0: nothing to do)."""
        return self._step(file, self._is_old)

    def make_room(self, file: LogFile) -> int:
        """Delete some delivered rows of any age, for space; returns how many."""
        return self._step(file, None)

    def next_due_seconds(self, file: LogFile) -> float | None:
        """How long until the oldest delivered row was kept long enough; None: there is none."""
        for _gap, found in _walk(file, deletable(file), _FEW):
            return max((self._keep_ns - self._ages.age_ns(*found[:3])) / 1e9, 0.0)
        return None

    def _is_old(self, row: int, received_ns: int, monotonic_ns: int) -> bool:
        return self._ages.age_ns(row, received_ns, monotonic_ns) >= self._keep_ns

    def _step(self, file: LogFile, is_old: Callable[[int, int, int], bool] | None) -> int:
        chosen = self.choose(file, deletable(file), is_old)
        if chosen.rows:
            with self.timed():
                file.work(lambda it: remove(it, chosen))
        return len(chosen.rows)

    def choose(
        self,
        file: LogFile,
        gaps: list[tuple[int, int]],
        is_old: Callable[[int, int, int], bool] | None = None,
    ) -> Chosen:
        """The oldest rows of `gaps`, as many as one step takes; with `is_old` until one is not."""
        chosen = Chosen()
        for gap, found in _walk(file, gaps, _CANDIDATES):
            row, received_ns, monotonic_ns, stored_bytes, items, raw_bytes = found
            if is_old is not None and not is_old(row, received_ns, monotonic_ns):
                break
            size = chosen.stored_bytes + stored_bytes
            is_enough = size > min(self._step_bytes, self._most_bytes)
            if chosen.rows and (is_enough or len(chosen.rows) >= _CANDIDATES):
                break
            chosen.add(GoneRow(row, items, raw_bytes), stored_bytes, gap)
        return chosen

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around a step: the next one is larger or smaller, as this one was fast or slow."""
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        if seconds > _SLOW_SECONDS:
            self._step_bytes = max(self._step_bytes // 2, _MIN_STEP_BYTES)
        elif seconds < _FAST_SECONDS:
            self._step_bytes = min(self._step_bytes * 2, _MAX_STEP_BYTES)


def deletable(file: LogFile) -> list[tuple[int, int]]:
    """Half-open intervals of rows that every destination has had; none without a destination."""
    if not file.destinations:
        return []
    return untouched(file, (found.ranges for found in file.destinations.values()))


def untouched(file: LogFile, kept: Iterable[Ranges]) -> list[tuple[int, int]]:
    """Half-open intervals of rows in none of `kept`."""
    return owed_ranges.row_gaps(
        owed_ranges.union(item for ranges in kept for item in ranges), file.last_row + 1
    )


def _walk(
    file: LogFile, gaps: list[tuple[int, int]], at_once: int
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each row that lies in `gaps`, in order, with the number of its gap."""
    gap, start = 0, 0
    while gap < len(gaps):
        start, end = max(start, gaps[gap][0]), gaps[min(gap + _GAPS_AT_ONCE, len(gaps)) - 1][1]
        rows = fetch(
            file.connection,
            "SELECT id, received_ns, monotonic_ns, length(parts) + length(body), spans, raw_bytes"
            " FROM rows WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (start, end, at_once),
        )
        for values in rows:
            found = tuple(map(number, values))  # what was hit need not be one
            while gaps[gap][1] <= found[0]:
                gap += 1
            if found[0] >= gaps[gap][0]:
                yield gap, found
        start = end if len(rows) < at_once else rows[-1][0] + 1
        while gap < len(gaps) and gaps[gap][1] <= start:
            gap += 1


def remove(file: LogFile, chosen: Chosen) -> None:
    """Delete what was chosen, and what speaks of it. For `LogFile.work`."""
    gone, totals = file.gone + chosen.sums, file.totals
    for first, last in chosen.runs:
        let_go(file, first, last)
    forget_deliveries(file)
    file.connection.execute(
        "UPDATE totals SET rows = ?, spans = ?, raw_bytes = ?,"
        " gone_rows = ?, gone_spans = ?, gone_raw_bytes = ?",
        (totals.rows, totals.items, totals.raw_bytes, gone.rows, gone.items, gone.raw_bytes),
    )
    file.gone = gone


def shrink(
    connection: apsw.Connection, *, freelist_bytes: int, keep_bytes: int = _KEEP_FREE_BYTES
) -> bool:
    """Give some free pages back to the file system; returns whether there were too many."""
    if freelist_bytes <= keep_bytes + (SHRINK_BYTES if keep_bytes else 0):
        return False
    fetch(connection, f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
    return True
