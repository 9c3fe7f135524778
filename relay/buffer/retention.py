"""Delivered rows in, free space out: one short step at a time, on the writer's connection.

A row may go when no destination on disk is owed any of it, and there is a destination at all:
without one nothing counts as delivered. What decides is what is *on disk*, so that a crash after
a step never leaves a range that owes a row which has gone.
"""

import time

import apsw

from relay.buffer import owed
from relay.buffer.history import forget_deliveries, let_go
from relay.buffer.logfile import LogFile
from relay.buffer.schema import PAGE_BYTES, fetch, fetch_value
from relay.buffer.settings import MIB, BufferSettings
from relay.buffer.values import Totals

_CANDIDATES = 512
_MAX_STEP_BYTES = 4 * MIB
_MIN_STEP_BYTES = 256 * 1024
_FAST_SECONDS = 0.005
_SLOW_SECONDS = 0.015
_VACUUM_PAGES = 256
SHRINK_BYTES = _VACUUM_PAGES * PAGE_BYTES
# Free pages below this are kept for the next rows: moving pages only to grow again is waste.
_KEEP_FREE_BYTES = 4 * MIB


class Retention:
    """Deletes delivered rows, oldest first, in steps that waiters hardly notice."""

    def __init__(self, settings: BufferSettings) -> None:
        self._keep_ns = int(settings.keep_delivered_seconds * 1e9)
        self._step_bytes = MIB

    def expire(self, file: LogFile, *, now_ns: int) -> int:
        """Delete some rows that were kept long enough; returns how many (0: nothing to do)."""
        return self._step(file, now_ns - self._keep_ns)

    def give_way(self, file: LogFile) -> int:
        """Delete some delivered rows of any age, for space; returns how many."""
        return self._step(file, None)

    def next_due_ns(self, file: LogFile) -> int | None:
        """When the oldest delivered row will have been kept long enough; None: there is none."""
        for first, end in self._deletable(file):
            found = fetch_value(
                file.connection,
                "SELECT received_ns FROM rows WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
                (first, end),
            )
            if found is not None:
                return int(found) + self._keep_ns
        return None

    @staticmethod
    def _deletable(file: LogFile) -> list[tuple[int, int]]:
        if not file.destinations:
            return []
        ranges = owed.union(
            item for destination in file.destinations.values() for item in destination.ranges
        )
        return owed.row_gaps(ranges, file.last_row + 1)

    def _step(self, file: LogFile, received_before_ns: int | None) -> int:
        for first, end in self._deletable(file):
            found = fetch(
                file.connection,
                "SELECT id, received_ns, length(parts) + length(body), spans, raw_bytes FROM rows"
                " WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                (first, end, _CANDIDATES),
            )
            if not found:
                continue
            chosen = Totals()
            last, size = 0, 0
            for row, received_ns, stored_bytes, spans, raw_bytes in found:
                is_young = received_before_ns is not None and received_ns > received_before_ns
                if is_young or (last and size + stored_bytes > self._step_bytes):
                    break
                last, size = row, size + stored_bytes
                chosen += Totals(1, spans, raw_bytes)
            if last:
                self._delete(file, first, last, chosen)
            return chosen.rows
        return 0

    def _delete(self, file: LogFile, first: int, last: int, chosen: Totals) -> None:
        started = time.monotonic()
        connection = file.connection
        gone = file.gone + chosen
        totals = file.totals
        with connection:
            let_go(file, first, last)
            forget_deliveries(file)
            connection.execute(
                "UPDATE totals SET rows = ?, spans = ?, raw_bytes = ?,"
                " gone_rows = ?, gone_spans = ?, gone_raw_bytes = ?",
                (
                    totals.rows,
                    totals.spans,
                    totals.raw_bytes,
                    gone.rows,
                    gone.spans,
                    gone.raw_bytes,
                ),
            )
        file.gone = gone
        seconds = time.monotonic() - started
        if seconds > _SLOW_SECONDS:
            self._step_bytes = max(self._step_bytes // 2, _MIN_STEP_BYTES)
        elif seconds < _FAST_SECONDS:
            self._step_bytes = min(self._step_bytes * 2, _MAX_STEP_BYTES)


def shrink(connection: apsw.Connection, *, freelist_bytes: int) -> bool:
    """Give some free pages back to the file system; returns whether there were too many."""
    if freelist_bytes <= _KEEP_FREE_BYTES + SHRINK_BYTES:
        return False
    fetch(connection, f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
    return True
