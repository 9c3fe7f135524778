"""Remembers rows that went, for `where`: by a budget, the oldest forgotten first.

Of a row that went stay its requests (times, senders, services), its trace ids and its deliveries:
no contents. All of it counts against `max_size` and goes before any row does, but for an
eighth of its budget: what had to go undelivered is asked for just when space is short.

Deliveries are one a second for each busy destination. After an hour those that touch become one a
minute, and what speaks of nothing that is known any more goes: `History.sweep`, a short step at a
time. Used in the writer's thread.
"""

import time

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.pending_acks import Delivery
from relay.buffer.sqlite.schema import fetch, fetch_value, transaction
from relay.model.records import Position

# About what a row costs on disk: of history and traces together beside their blobs (31 measured),
# of deliveries with its index (51 measured); and some more, since pages are not always full.
ROW_BYTES = 40
DELIVERY_BYTES = 72
_COUNTER = "history_bytes"
_TRIM_ROWS = 512
_TRIM_BYTES = 1 << 20
_LOOK_SECONDS = 0.25
_SWEEP_ROWS = 1000
_SWEEP_SECONDS = 60.0
COARSE_NS = 60 * 10**9
COARSE_AFTER_NS = 3600 * 10**9
_FLOOR_SHARE = 8
_NOTHING_KNOWN = (
    "NOT EXISTS (SELECT 1 FROM rows WHERE id >= start_row AND id <= end_row - (end_span = 0))"
    " AND NOT EXISTS"
    " (SELECT 1 FROM history WHERE row >= start_row AND row <= end_row - (end_span = 0))"
)
# Those that end among what went; one that covers something known is needed still.
_FORGET_ENDING = (
    "DELETE FROM deliveries WHERE end_row >= ? AND end_row <= ? AND " + _NOTHING_KNOWN  # noqa: S608
)
_FORGET_SWEPT = (
    "DELETE FROM deliveries WHERE id > ? AND id <= ? AND " + _NOTHING_KNOWN  # noqa: S608
)


def let_go(file: LogFile, first: int, last: int) -> None:
    """Delete rows `first`…`last`, all of them, and remember them. For a transaction."""
    execute = file.connection.execute
    if file.letters.settings.history_limit_bytes:
        _remember(file, first, last)
    else:
        execute("DELETE FROM traces WHERE row >= ? AND row <= ?", (first, last))
    execute("DELETE FROM rows WHERE id >= ? AND id <= ?", (first, last))


def _remember(file: LogFile, first: int, last: int) -> None:
    added = fetch_value(
        file.connection,
        "SELECT total(length(parts) + length(ids) + ?)"
        " FROM rows JOIN traces ON traces.row = rows.id WHERE id >= ? AND id <= ?",
        (ROW_BYTES, first, last),
    )
    file.connection.execute(
        "INSERT OR REPLACE INTO history SELECT id, received_ns, encoding, spans, parts, signal"
        " FROM rows"
        " WHERE id >= ? AND id <= ?",
        (first, last),
    )
    file.add_counter(_COUNTER, int(added))


def erase(file: LogFile, row: int) -> None:
    """Forget a row whose data has gone; one that is still kept stays. For a transaction."""
    found = fetch_value(
        file.connection,
        "SELECT length(parts) + ifnull(length(ids), 0) FROM history"
        " LEFT JOIN traces ON traces.row = history.row WHERE history.row = ?",
        (row,),
    )
    if found is None:
        return
    file.connection.execute("DELETE FROM traces WHERE row = ?", (row,))
    file.connection.execute("DELETE FROM history WHERE row = ?", (row,))
    file.add_counter(_COUNTER, -(int(found) + ROW_BYTES))


def forget_deliveries(file: LogFile) -> None:
    """Drop deliveries of before anything that is kept or remembered. For a transaction."""
    oldest = fetch_value(
        file.connection,
        "SELECT min(oldest) FROM"
        " (SELECT min(id) AS oldest FROM rows UNION ALL SELECT min(row) FROM history)",
    )
    oldest = file.last_row + 1 if oldest is None else oldest
    file.connection.execute("DELETE FROM deliveries WHERE (end_row, end_span) <= (?, 0)", (oldest,))


class History:
    """The account of what is remembered, and one step of forgetting at a time."""

    def __init__(self, settings: BufferSettings) -> None:
        self.settings = settings
        self._bytes: int  # these three since `look`
        self._deliveries: int  # up to id `_counted_to`; later ones are counted by their ids
        self._counted_to: int
        self._next_look = 0.0  # monotonic, as the next one
        self._next_sweep = 0.0
        self._swept_to: int | None = None  # an id of a delivery; None: no sweep is under way

    def look(self, file: LogFile) -> None:
        """Measure the file just opened: counts one index, 20 ms for half a million deliveries."""
        connection = file.connection
        self._bytes = file.counters().get(_COUNTER, 0)
        self._deliveries = int(fetch_value(connection, "SELECT count(*) FROM deliveries") or 0)
        self._counted_to = int(fetch_value(connection, "SELECT max(id) FROM deliveries") or 0)
        self._swept_to = None

    def note_remembered(self, file: LogFile) -> None:
        """Rows went, by `let_go`."""
        self._bytes = file.counters().get(_COUNTER, 0)

    def used_bytes(self, file: LogFile) -> int:
        """What history and deliveries use on disk, about."""
        newest = int(fetch_value(file.connection, "SELECT max(id) FROM deliveries") or 0)
        count = self._deliveries + max(newest - self._counted_to, 0)
        return self._bytes + count * DELIVERY_BYTES

    def make_room(self, file: LogFile) -> bool:
        """Forget some of the oldest, for space; False when only its last share is left."""
        if self.used_bytes(file) <= self.settings.history_limit_bytes // _FLOOR_SHARE:
            return False
        return self._trim(file)

    def step(self, file: LogFile, *, now_ns: int) -> bool:
        """One step of what is due; returns whether there is more to do at once."""
        now = time.monotonic()
        if now >= self._next_look:
            if self.used_bytes(file) > self.settings.history_limit_bytes and self._trim(file):
                return True
            self._next_look = now + _LOOK_SECONDS
        if self._swept_to is None:
            if now < self._next_sweep:
                return False
            self._next_sweep = now + _SWEEP_SECONDS
        self._swept_to = self._sweep(file, self._swept_to or 0, now_ns)
        return self._swept_to is not None

    def _trim(self, file: LogFile) -> bool:
        """Forget the oldest few rows and what became of them; False when there is none."""
        connection = file.connection
        found = fetch(
            connection,
            "SELECT history.row, length(parts) + ifnull(length(ids), 0) FROM history"
            " LEFT JOIN traces ON traces.row = history.row ORDER BY history.row LIMIT ?",
            (_TRIM_ROWS,),
        )
        if not found:
            if self._bytes:
                with transaction(connection):
                    file.add_counter(_COUNTER, -self._bytes)
                self._bytes = 0
            return False
        first = last = found[0][0]
        size, most = 0, min(_TRIM_BYTES, self.settings.history_limit_bytes // 16 or _TRIM_BYTES)
        for row, row_bytes in found:
            last, size = row, size + row_bytes + ROW_BYTES
            if size >= most:
                break
        with transaction(connection):
            connection.execute(
                "DELETE FROM traces WHERE row IN"
                " (SELECT row FROM history WHERE row >= ? AND row <= ?)",
                (first, last),
            )
            connection.execute("DELETE FROM history WHERE row >= ? AND row <= ?", (first, last))
            connection.execute(_FORGET_ENDING, (first, last + 1))
            gone = connection.changes()
            file.add_counter(_COUNTER, -min(size, self._bytes))
        self._bytes = max(self._bytes - size, 0)
        self._deliveries -= gone
        return True

    def _sweep(self, file: LogFile, after: int, now_ns: int) -> int | None:
        """Look at the next deliveries: join those that touch, drop those of nothing known.

        Returns the last one that was looked at, None when there are no more.
        """
        connection = file.connection
        found = fetch(
            connection,
            "SELECT id, destination, status, start_row, start_span, end_row, end_span, at_ns"
            " FROM deliveries WHERE id > ? AND at_ns < ? ORDER BY id LIMIT ?",
            (after, now_ns - COARSE_AFTER_NS, _SWEEP_ROWS),
        )
        if not found:
            return None
        last: dict[tuple[str, int], Delivery] = {}
        longer: dict[int, Delivery] = {}
        joined: list[tuple[int]] = []
        for delivery_id, name, status, start_row, start_span, end_row, end_span, at_ns in found:
            start, end = Position(start_row, start_span), Position(end_row, end_span)
            entry = Delivery(start, end, at_ns, status, delivery_id)
            before = last.get((name, status))
            if (
                before is not None
                and before.end == entry.start
                and before.at_ns // COARSE_NS == at_ns // COARSE_NS
            ):
                before.end, before.at_ns = entry.end, max(before.at_ns, at_ns)
                longer[before.delivery_id] = before
                joined.append((delivery_id,))
            else:
                last[name, status] = entry
        with transaction(connection):
            connection.executemany("DELETE FROM deliveries WHERE id = ?", joined)
            connection.executemany(
                "UPDATE deliveries SET end_row = ?, end_span = ?, at_ns = ? WHERE id = ?",
                [(*each.end, each.at_ns, each.delivery_id) for each in longer.values()],
            )
            connection.execute(_FORGET_SWEPT, (after, found[-1][0]))
            gone = connection.changes() + len(joined)
        self._deliveries -= gone
        return int(found[-1][0]) if len(found) == _SWEEP_ROWS else None
