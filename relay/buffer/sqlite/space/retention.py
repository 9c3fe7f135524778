"""Deletes rows that nobody needs, one short step at a time, on the writer's connection.

A row may go when no backlog of its signal on disk is owed any of it; where no destination asks for
a signal yet, a backlog of nobody is owed it all. What decides is what is *on disk*, so that a crash
after a step never leaves a range that owes a row which has gone. Rows that are owed go by
`eviction`, which chooses and removes them by the same means.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import apsw

from relay.buffer.owed_ranges import Ranges
from relay.buffer.settings import MIB, BufferSettings
from relay.buffer.sqlite import counters_table, signal_runs
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.schema import PAGE_BYTES, fetch, fetch_value, number
from relay.buffer.sqlite.space.gaps import FreeRow, Gap, Gaps
from relay.buffer.sqlite.space.history import forget_deliveries, let_go
from relay.buffer.sqlite.space.row_age import RowAges
from relay.buffer.sqlite.types import GoneRow, Totals
from relay.model.records import OwedRange, Position, Signal

_CANDIDATES = 512
_FEW = 32
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

    rows: dict[Signal, list[GoneRow]] = field(default_factory=dict)
    runs: list[tuple[int, int]] = field(default_factory=list)  # first and last row
    # Of each signal, from where a hole in what is owed begins up to the last row chosen in it.
    holes: dict[Signal, dict[int, int]] = field(default_factory=dict)
    count: int = 0
    stored_bytes: int = 0
    _gap: Gap | None = None

    def add(self, row: FreeRow, gap: Gap) -> None:
        """`row` is the next one, in `gap`."""
        self.rows.setdefault(gap.signal, []).append(GoneRow(row.row, row.items, row.raw_bytes))
        self.holes.setdefault(gap.signal, {})[gap.of] = row.row
        self.count += 1
        self.stored_bytes += row.stored_bytes
        if gap is self._gap:
            self.runs[-1] = (self.runs[-1][0], row.row)
        else:
            self.runs.append((row.row, row.row))
            self._gap = gap

    def ranges(self, signal: Signal) -> Ranges:
        """The places of its rows of `signal`, what is of other signals between them included."""
        holes = self.holes.get(signal, {})
        return tuple(
            OwedRange(Position(first), Position(last + 1)) for first, last in holes.items()
        )

    def sums(self) -> dict[Signal, Totals]:
        """Over its rows."""
        return {
            signal: Totals(
                len(rows), sum(row.items for row in rows), sum(row.raw_bytes for row in rows)
            )
            for signal, rows in self.rows.items()
        }


class Retention:
    """Deletes delivered rows, oldest first, in steps that waiters hardly notice."""

    def __init__(self, settings: BufferSettings, ages: RowAges) -> None:
        self._keep_ns = int(settings.keep_delivered_seconds * 1e9)
        self._ages = ages
        self._gaps = Gaps()
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
        for _gap, found in self._gaps.rows(file, file.owed_by_signal(), _FEW):
            return max((self._keep_ns - self._ages.age_ns(*found[:3])) / 1e9, 0.0)
        return None

    def _is_old(self, row: int, received_ns: int, monotonic_ns: int) -> bool:
        return self._ages.age_ns(row, received_ns, monotonic_ns) >= self._keep_ns

    def _step(self, file: LogFile, is_old: Callable[[int, int, int], bool] | None) -> int:
        chosen = self.choose(file, file.owed_by_signal(), is_old)
        if chosen.count:
            with self.timed():
                file.work(lambda it: remove(it, chosen))
        return chosen.count

    def choose(
        self,
        file: LogFile,
        owed: Mapping[Signal, list[Ranges]],
        is_old: Callable[[int, int, int], bool] | None = None,
    ) -> Chosen:
        """The oldest rows that are not `owed`, as many as one step takes; with `is_old` until one
        is not.
        """
        chosen = Chosen()
        for gap, found in self._gaps.rows(file, owed, _CANDIDATES):
            if is_old is not None and not is_old(*found[:3]):
                break
            size = chosen.stored_bytes + found.stored_bytes
            is_enough = size > min(self._step_bytes, self._most_bytes)
            if chosen.count and (is_enough or chosen.count >= _CANDIDATES):
                break
            chosen.add(found, gap)
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


def remove(file: LogFile, chosen: Chosen) -> None:
    """Delete what was chosen, and what speaks of it. For `LogFile.work`."""
    sums, totals = chosen.sums(), file.totals
    gone = sum(sums.values(), file.gone)
    for first, last in chosen.runs:
        let_go(file, first, last)
    forget_deliveries(file)
    oldest = fetch_value(file.connection, "SELECT min(id) FROM rows")
    signal_runs.forget(file.connection, file.last_row if oldest is None else number(oldest))
    for signal in sums.keys() - {Signal.TRACES}:
        counters_table.add_gone(file.connection, signal, sums[signal])
        so_far = file.gone_by_signal.get(signal, Totals())
        file.gone_by_signal = {**file.gone_by_signal, signal: so_far + sums[signal]}
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
