"""Keeps dead letters: rows of table `dead_letters`, bounded by bytes and age.

Used on the writer's connection to add and trim, on the reader's to list.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import apsw

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import counters_table
from relay.buffer.sqlite.rows import signal_of, unzstd, zstd_1
from relay.buffer.sqlite.schema import fetch, fetch_value
from relay.buffer.values import DeadLetterCount, DeadLetterEntry, StoredDeadLetter
from relay.model.reasons import UNREADABLE_BODIES, Reason
from relay.model.records import DeadLetter, Encoding, Signal

_INSERT = "INSERT INTO dead_letters VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
# The table's, in its order, but for the checksum and the body: what `entry_of` takes.
ENTRY_COLUMNS = (
    "id, set_aside_ns, received_ns, destination, reason, status, spans, affected, encoding, row,"
    " raw_bytes, stored_bytes, path, trace_ids, words, signal"
)
_SELECT = "SELECT * FROM dead_letters "
_OVERHEAD_BYTES = 200
_TRIM_STEP = 64
_BODIES_LOOK = 5000  # letters that are looked at for whole bodies, once
_UNREADABLE = (Reason.DAMAGED_ON_DISK, Reason.RELAY_ERROR)  # set aside by whole rows
_NUMBERS = struct.Struct("<8q")
MAX_WORDS = 8192


def _checksum(letter: DeadLetter, set_aside_ns: int, words: str, body: bytes) -> int:
    numbers = _NUMBERS.pack(
        set_aside_ns,
        letter.received_ns,
        letter.status,
        letter.items,
        letter.affected,
        letter.encoding,
        letter.row,
        len(letter.trace_ids),
    )
    texts = f"{letter.destination}\0{letter.reason}\0{letter.path}\0{words}"
    if letter.signal is not Signal.TRACES:  # as those were written before there were others
        texts += f"\0{letter.signal}"
    checksum = zlib.crc32(texts.encode("utf-8", "surrogatepass"), zlib.crc32(numbers))
    return zlib.crc32(body, zlib.crc32(letter.trace_ids, checksum))


class DeadLetterTable:
    """The writer's account of the dead letters on disk.

    They share the space fairly: over the limit, the oldest goes of the one that holds most, so a
    flood of one destination, or of spans refused on the way in, leaves the others' letters alone.
    """

    def __init__(self, connection: apsw.Connection, settings: BufferSettings) -> None:
        self._connection = connection
        self.settings = settings
        self.dropped: int  # given up for space or age, ever
        self.counts: dict[str, DeadLetterCount]
        self._first_ids: dict[str, int]  # none of that destination is below
        self._bodies: list[int] | None  # unreadable ones, the oldest first, once looked up
        self.load()

    def load(self) -> None:
        """Count anew from disk, by an index that holds no bodies."""
        found = fetch(
            self._connection,
            "SELECT destination, count(*), total(stored_bytes) FROM dead_letters"
            " GROUP BY destination",
        )
        # total, not sum: a size that was hit must neither overflow nor be NULL.
        self.counts = {str(name): DeadLetterCount(count, int(size)) for name, count, size in found}
        self._first_ids = {}
        self._bodies = None
        self.dropped = sum(
            counters_table.read(self._connection, counters_table.DROPPED_LETTERS).values()
        )

    @property
    def stored_bytes(self) -> int:
        """Bytes of all of them on disk, about."""
        return sum(count.stored_bytes for count in self.counts.values())

    def add(self, letters: Iterable[DeadLetter], *, now_ns: int) -> None:
        """Insert `letters`, inside the caller's transaction; `load` again if that fails."""
        for each in letters:
            letter = each
            if not letter.trace_ids and letter.row and letter.reason in _UNREADABLE:
                # What cannot be read does not tell its ids; they stand beside its row.
                letter = replace(letter, trace_ids=self._trace_ids(letter.row))
            words = _storable(letter.words[:MAX_WORDS])
            body = zstd_1(letter.body)
            size = len(body) + len(words) + len(letter.trace_ids) + _OVERHEAD_BYTES
            self._connection.execute(
                _INSERT,
                (
                    now_ns,
                    letter.received_ns,
                    letter.destination,
                    letter.reason,
                    letter.status,
                    letter.items,
                    letter.affected,
                    int(letter.encoding),
                    letter.row,
                    len(letter.body),
                    size,
                    _checksum(letter, now_ns, words, body),
                    letter.path,
                    letter.trace_ids,
                    words,
                    body,
                    int(letter.signal),
                ),
            )
            self._count(letter.destination, 1, size)
            if letter.reason == Reason.BODY_UNREADABLE:
                self._keep_newest_bodies(self._connection.last_insert_rowid())

    def _keep_newest_bodies(self, newest: int) -> None:
        """Of whole bodies only so many stay: a sender that sends no others has them without end."""
        if self._bodies is None:
            found = fetch(
                self._connection,
                "SELECT id, reason FROM dead_letters WHERE id < ? ORDER BY id DESC LIMIT ?",
                (newest, _BODIES_LOOK),
            )
            self._bodies = [each for each, reason in found if reason == Reason.BODY_UNREADABLE]
            self._bodies.reverse()
        self._bodies.append(newest)
        self.remove(self._bodies[:-UNREADABLE_BODIES])
        self._bodies = self._bodies[-UNREADABLE_BODIES:]

    def _trace_ids(self, row: int) -> bytes:
        found = fetch_value(self._connection, "SELECT ids FROM traces WHERE row = ?", (row,))
        return found if isinstance(found, bytes) and len(found) % 16 == 0 else b""

    def having(self, letter_ids: Iterable[int]) -> list[int]:
        """Those of `letter_ids` that there are."""
        query = "SELECT id FROM dead_letters WHERE id = ?"
        return [each for each in letter_ids if fetch(self._connection, query, (each,))]

    def rows_of(self, letter_ids: Iterable[int]) -> set[int]:
        """The log's rows that these came from."""
        return {
            int(row)
            for letter_id in letter_ids
            for (row,) in fetch(
                self._connection, "SELECT row FROM dead_letters WHERE id = ?", (letter_id,)
            )
            if row
        }

    def remove(self, letter_ids: Iterable[int]) -> list[int]:
        """Delete these, inside the caller's transaction; the ids of those that were there."""
        removed = []
        for letter_id in letter_ids:
            for destination, size in fetch(
                self._connection,
                "SELECT destination, stored_bytes FROM dead_letters WHERE id = ?",
                (letter_id,),
            ):
                self._connection.execute("DELETE FROM dead_letters WHERE id = ?", (letter_id,))
                self._count(destination, -1, -size)
                removed.append(letter_id)
        return removed

    def trim(self, *, now_ns: int) -> int:
        """Delete at most a few of the oldest that are too old or too many; returns how many.

        Inside the caller's transaction.
        """
        return self._trim_old(now_ns) or self._trim_fullest()

    def _trim_old(self, now_ns: int) -> int:
        oldest_ns = now_ns - int(self.settings.dead_letter_seconds * 1e9)
        gone: list[_Gone] = []
        for letter_id, set_aside_ns, destination, size in fetch(
            self._connection,
            "SELECT id, set_aside_ns, destination, stored_bytes FROM dead_letters"
            " ORDER BY id LIMIT ?",
            (_TRIM_STEP,),
        ):
            if set_aside_ns >= oldest_ns:
                break
            gone.append(_Gone(letter_id, destination, size))
        return self._drop(gone)

    def _trim_fullest(self) -> int:
        if not self.is_over():
            return 0
        excess = self.stored_bytes - self.settings.dead_letter_limit_bytes
        fullest = max(self.counts, key=lambda name: self.counts[name].stored_bytes)
        gone: list[_Gone] = []
        # By id rather than by the index: that one would have to be sorted at each step.
        for letter_id, size in fetch(
            self._connection,
            "SELECT id, stored_bytes FROM dead_letters WHERE id >= ? AND +destination = ?"
            " ORDER BY id LIMIT ?",
            (self._first_ids.get(fullest, 0), fullest, _TRIM_STEP),
        ):
            gone.append(_Gone(letter_id, fullest, size))
            excess -= size
            if excess <= 0:
                break
        if gone:
            self._first_ids[fullest] = gone[-1].letter_id
        return self._drop(gone)

    def _drop(self, gone: list["_Gone"]) -> int:
        for letter_id, destination, size in gone:
            self._connection.execute("DELETE FROM dead_letters WHERE id = ?", (letter_id,))
            self._count(destination, -1, -size)
        for destination, times in Counter(each.destination for each in gone).items():
            counters_table.add(
                self._connection, counters_table.DROPPED_LETTERS + destination, times
            )
        self.dropped += len(gone)
        return len(gone)

    def is_over(self) -> bool:
        """Whether `trim` has something to do for space."""
        return self.stored_bytes > self.settings.dead_letter_limit_bytes

    def _count(self, destination: str, count: int, size: int) -> None:
        # A new dict each time: the event loop reads the published one without a lock.
        before = self.counts.get(destination, DeadLetterCount())
        after = DeadLetterCount(before.count + count, before.stored_bytes + size)
        counts = {**self.counts, destination: after}
        self.counts = {name: value for name, value in counts.items() if value.count > 0}


class _Gone(NamedTuple):
    """A letter that is given up."""

    letter_id: int
    destination: str
    size: int


def _storable(text: str) -> str:
    # SQLite text is UTF-8: a lone surrogate in an upstream's words must not lose the letter.
    return text.encode("utf-8", "replace").decode("utf-8")


def newest_letters(connection: apsw.Connection, limit: int) -> list[StoredDeadLetter]:
    """The newest dead letters, newest first."""
    found = fetch(
        connection,
        _SELECT + "ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    return [stored_letter(row) for row in found]


def letter_of(connection: apsw.Connection, letter_id: int) -> StoredDeadLetter | None:
    """That letter; None when it has gone."""
    found = fetch(connection, _SELECT + "WHERE id = ?", (letter_id,))
    return stored_letter(found[0]) if found else None


def stored_letter(row: tuple[object, ...]) -> StoredDeadLetter:
    """A row of the table, all its columns, as a value; its checksum is compared.

    Without the last column, as a page may hold it that an earlier version wrote, it is of spans.
    """
    checksum, stored, *signal = row[12], *row[16:]
    entry = entry_of(row[:12] + row[13:16] + tuple(signal or (int(Signal.TRACES),)))
    letter, set_aside_ns = entry.letter, entry.set_aside_ns
    body, is_damaged = b"", False
    try:
        body = unzstd(stored, entry.raw_bytes)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        is_damaged = True
        body = stored if isinstance(stored, bytes) else b""
    if isinstance(stored, bytes):
        is_damaged |= checksum != _checksum(letter, set_aside_ns, letter.words, stored)
    return StoredDeadLetter(entry.letter_id, set_aside_ns, replace(letter, body=body), is_damaged)


def entry_of(columns: Sequence[object]) -> DeadLetterEntry:
    """`ENTRY_COLUMNS` as a value, without the body. Whatever stands there, it raises nothing."""
    (letter_id, set_aside_ns, received_ns, destination, reason, status, items, affected) = columns[
        :8
    ]
    encoding, row, raw_bytes, stored_bytes, path, trace_ids, words, signal = columns[8:]
    letter = DeadLetter(
        destination=str(destination),
        reason=str(reason),
        words=str(words),
        items=whole_number(items),
        encoding=Encoding.PROTOBUF if encoding == Encoding.PROTOBUF else Encoding.JSON,
        body=b"",
        status=whole_number(status),
        affected=whole_number(affected),
        path=str(path),
        trace_ids=trace_ids if isinstance(trace_ids, bytes) else b"",
        row=whole_number(row),
        received_ns=whole_number(received_ns),
        signal=signal_of(signal) or Signal.TRACES,
    )
    return DeadLetterEntry(
        whole_number(letter_id),
        whole_number(set_aside_ns),
        letter,
        whole_number(raw_bytes),
        whole_number(stored_bytes),
    )


def whole_number(value: object) -> int:
    """The number, or 0 for what is none: a damaged column need not be of its type."""
    return value if isinstance(value, int) else 0
