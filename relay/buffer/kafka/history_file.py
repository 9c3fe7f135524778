"""What this relay remembers of the fleet's records, in a file of its own: places, never contents.

Kafka cannot be asked which record holds a trace, nor for the newest records of all partitions. Here
each record has a number, in the order in which the brokers took the records in: so lists go from
the newest down, and a cursor means the same a minute later. The file is an index: what is wrong
with it is mended by deleting it, and it is filled again from the brokers.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import msgspec

from relay.buffer.kafka.places import INDEXED, first_row
from relay.buffer.sqlite.rows import Part
from relay.buffer.sqlite.schema import connect, fetch, fetch_value, is_damage, transaction
from relay.buffer.sqlite.trace_queries import DeliveredEntry
from relay.buffer.values import IdsDown, LookBack, RowIds, packed_index, unpacked
from relay.model.errors import BufferUnavailable
from relay.model.records import Encoding, Signal

VERSION: Final = 1
_MOST_ROWS_OF_A_DELIVERY: Final = 1000
_OPEN_SECONDS: Final = 5.0
_SERVICE_ROWS: Final = 1000
_SCHEMA: Final = """
CREATE TABLE records (number INTEGER PRIMARY KEY, place INTEGER NOT NULL UNIQUE,
    signal INTEGER NOT NULL, encoding INTEGER NOT NULL, received_ns INTEGER NOT NULL,
    items INTEGER NOT NULL, raw_bytes INTEGER NOT NULL, part BLOB NOT NULL, ids BLOB NOT NULL);
CREATE INDEX sums ON records (signal, number, items, raw_bytes, received_ns);
CREATE TABLE deliveries (id INTEGER PRIMARY KEY, destination TEXT NOT NULL,
    start_row INTEGER NOT NULL, start_item INTEGER NOT NULL, end_row INTEGER NOT NULL,
    end_item INTEGER NOT NULL, at_ns INTEGER NOT NULL, status INTEGER NOT NULL);
CREATE INDEX delivery_places ON deliveries (end_row, start_row);
CREATE TABLE read_to (topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (topic, partition));
"""
_encode_part = msgspec.msgpack.Encoder().encode
_decode_part = msgspec.msgpack.Decoder(Part).decode

Partition = tuple[str, int]


class Seen(NamedTuple):
    """A record, without its body. `place` is its row, `ids` are packed."""

    place: int
    signal: Signal
    encoding: Encoding
    raw_bytes: int
    part: Part
    ids: bytes


class Indexed(NamedTuple):
    """A record as it is found again, by its number."""

    number: int
    seen: Seen


class HistoryFile:
    """The file. One thread writes; questions may come from any other."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._is_open = threading.Event()
        self._writer: apsw.Connection | None = None
        self._reader: apsw.Connection | None = None
        self.last_number = INDEXED  # the newest one
        self.first_number = 0  # the oldest; 0: there is none

    # -- writing --------------------------------------------------------------------------------

    def open(self) -> None:
        """Open it, or begin it anew where it cannot be used. Raises BufferUnavailable."""
        try:
            try:
                self._open()
            except apsw.Error:
                self._discard()
                self._open()
        except (apsw.Error, OSError) as error:
            raise BufferUnavailable(f"the fleet's history cannot be kept: {error}") from error

    def _open(self) -> None:
        self._path.touch(mode=0o600)
        writer = self._connect()
        if fetch_value(writer, "PRAGMA user_version") != VERSION:
            if fetch_value(writer, "SELECT count(*) FROM sqlite_schema"):
                writer.close()
                self._discard()
                self._path.touch(mode=0o600)
                writer = self._connect()
            with transaction(writer):
                writer.execute(_SCHEMA)
                writer.execute(f"PRAGMA user_version = {VERSION}")
        with self._lock:
            self._writer, self._reader = writer, self._connect()
        self.last_number = int(fetch_value(writer, "SELECT max(number) FROM records") or INDEXED)
        self.first_number = int(fetch_value(writer, "SELECT min(number) FROM records") or 0)
        self._is_open.set()

    def _connect(self) -> apsw.Connection:
        connection = connect(self._path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, None)
        # A power cut may take the last moments: they are read from the brokers again.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -1024")
        return connection

    def discard_if(self, error: BaseException) -> None:
        """Begin anew with the next `open` where `error` is the file's fault."""
        if is_damage(error) or isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
            self._discard()

    def _discard(self) -> None:
        self.close()
        for ending in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)

    def close(self) -> None:
        """Safe twice."""
        self._is_open.clear()
        with self._lock:
            for each in (self._writer, self._reader):
                if each is not None:
                    with suppress(apsw.Error):
                        each.close()
            self._writer = self._reader = None

    def read_to(self) -> dict[Partition, int]:
        """Where to go on reading each partition."""
        found = self._ask("SELECT topic, partition, next FROM read_to")
        return {(str(topic), int(partition)): int(offset) for topic, partition, offset in found}

    def add(
        self,
        records: Sequence[Seen],
        deliveries: Iterable[DeliveredEntry],
        read_to: Mapping[Partition, int],
    ) -> None:
        """Records in the order of their numbers, and how far was read: all or nothing."""
        writer = self._writer
        if writer is None:
            raise BufferUnavailable("the fleet's history is closed")
        last = self.last_number + len(records)
        with transaction(writer):
            # A topic that was made anew has the same places again, for other records.
            writer.executemany(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        number,
                        each.place,
                        int(each.signal),
                        int(each.encoding),
                        each.part.received_ns,
                        each.part.items,
                        each.raw_bytes,
                        _encode_part(each.part),
                        each.ids,
                    )
                    for number, each in enumerate(records, self.last_number + 1)
                ),
            )
            for entry in deliveries:
                values = (entry.destination, *entry.start, *entry.end, entry.at_ns, entry.status)
                writer.execute("INSERT INTO deliveries VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", values)
            writer.executemany(
                "INSERT OR REPLACE INTO read_to VALUES (?, ?, ?)",
                ((topic, partition, offset) for (topic, partition), offset in read_to.items()),
            )
        self.last_number = last
        if records and not self.first_number:
            self.first_number = last - len(records) + 1

    def forget_before(self, lows: Mapping[int, int]) -> None:
        """Forget records that the brokers deleted: of each stream those before that row. And the
        oldest, where the file is larger than it may be.
        """
        writer = self._writer
        if writer is None:
            return
        with transaction(writer):
            for stream, low in lows.items():
                first = first_row(stream)
                writer.execute("DELETE FROM records WHERE place >= ? AND place < ?", (first, low))
            pages, free, size = (
                int(fetch_value(writer, f"PRAGMA {name}") or 0)
                for name in ("page_count", "freelist_count", "page_size")
            )
            if (pages - free) * size > self._most_bytes:
                _drop_oldest(writer)
            oldest = fetch_value(writer, "SELECT min(received_ns) FROM records INDEXED BY sums")
            if oldest is not None:
                # Nothing is delivered before it came, but clocks differ.
                writer.execute("DELETE FROM deliveries WHERE at_ns < ?", (oldest - 3600 * 10**9,))
        self.first_number = int(fetch_value(writer, "SELECT min(number) FROM records") or 0)

    # -- questions ------------------------------------------------------------------------------

    def _ask(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self._is_open.wait(_OPEN_SECONDS)
        with self._lock:
            if self._reader is None:
                raise BufferUnavailable("the fleet's history is not open yet")
            try:
                return fetch(self._reader, sql, bindings)
            except apsw.Error as error:
                raise BufferUnavailable(f"the fleet's history cannot be read: {error}") from error

    def down(self, signal: Signal, before: int, limit: int) -> list[tuple[int, int, int]]:
        """Number, place and bytes of records of a signal before `before`, the newest first."""
        return self._ask(
            "SELECT number, place, raw_bytes FROM records WHERE signal = ? AND number < ?"
            " ORDER BY number DESC LIMIT ?",
            (int(signal), before, limit),
        )

    def ids_down(self, before: int, most_rows: int, most_ids: int) -> IdsDown:
        """Records of spans before `before` by their traces, the newest first."""
        known = self.down(Signal.TRACES, before, most_rows + 1)
        rows: list[RowIds] = []
        many = 0
        for number, _place, _bytes in known:
            if rows and (len(rows) >= most_rows or many >= most_ids):
                return IdsDown(rows, rows[-1].row)
            for (ids,) in self._ask("SELECT ids FROM records WHERE number = ?", (number,)):
                rows.append(RowIds(int(number), ids))
                many += len(ids) // 16
        return IdsDown(rows, 0)

    def first_behind(self, first: int, back: LookBack) -> int:
        """The lowest number to look at."""
        ids = 0
        for number, size in self._ask(
            "SELECT number, length(ids) FROM records WHERE number < ? ORDER BY number DESC LIMIT ?",
            (first, back.rows),
        ):
            ids += int(size) // 16
            if ids > back.ids:
                break
            first = int(number)
        return first

    def places(self, numbers: Iterable[int]) -> dict[int, int]:
        """The place of each of those numbers that is known."""
        found = {}
        for number in numbers:
            for (place,) in self._ask("SELECT place FROM records WHERE number = ?", (number,)):
                found[number] = int(place)
        return found

    def after(self, number: int, limit: int) -> list[Indexed]:
        """Records after that one, the oldest first."""
        return _indexed(
            self._ask(
                f"{_SELECT} WHERE number > ? ORDER BY number LIMIT ?",
                (number, limit),
            )
        )

    def newest(self, signal: Signal, before: int, limit: int) -> list[Indexed]:
        """Records of a signal before that one, the newest first."""
        return _indexed(
            self._ask(
                f"{_SELECT} WHERE signal = ? AND number < ? ORDER BY number DESC LIMIT ?",
                (int(signal), before, limit),
            )
        )

    def last_parts(self) -> list[Indexed]:
        """The newest records of all signals, the newest first."""
        return _indexed(self._ask(f"{_SELECT} ORDER BY number DESC LIMIT ?", (_SERVICE_ROWS,)))

    def extent(self, signal: Signal, first: int, last: int) -> tuple[int, int, int]:
        """Records, items, and the oldest received time of a signal between both (included)."""
        ((rows, items, oldest),) = self._ask(
            "SELECT count(*), sum(items), min(received_ns) FROM records INDEXED BY sums"
            " WHERE signal = ? AND number >= ? AND number <= ?",
            (int(signal), first, last),
        )
        return int(rows), int(items or 0), int(oldest or 0)

    def holding(
        self, trace_ids: frozenset[bytes], first: int, last: int, signal: Signal | None = None
    ) -> list[tuple[bytes, int]]:
        """Each of the traces with the numbers of records that hold it, lowest first."""
        found: list[tuple[bytes, int]] = []
        wanted = None if signal is None else int(signal)
        if len(trace_ids) == 1:
            (one,) = trace_ids
            hits = self._ask(
                "SELECT number, ids FROM records WHERE number >= ? AND number <= ?"
                " AND instr(ids, ?) > 0 AND signal = coalesce(?, signal) ORDER BY number",
                (first, last, one, wanted),
            )
            return [(one, int(n)) for n, ids in hits if packed_index(ids, one) is not None]
        step = 5000
        for at in range(max(first, INDEXED), min(last, self.last_number) + 1, step):
            for number, ids in self._ask(
                "SELECT number, ids FROM records WHERE number >= ? AND number < ?"
                " AND number <= ? AND length(ids) > 0 AND signal = coalesce(?, signal)"
                " ORDER BY number",
                (at, at + step, last, wanted),
            ):
                own = trace_ids.intersection(unpacked(ids))
                found += [(trace_id, int(number)) for trace_id in own]
        return found

    def records(self, numbers: Iterable[int]) -> list[Indexed]:
        """Those that are known, in order."""
        return [
            each
            for number in sorted(set(numbers))
            for each in _indexed(self._ask(f"{_SELECT} WHERE number = ?", (number,)))
        ]

    def deliveries(self, places: Iterable[int]) -> list[DeliveredEntry]:
        """What is known to have been settled of those places, in the order in which it was told."""
        found: dict[int, DeliveredEntry] = {}
        for place in places:
            for number, name, row, item, end_row, end_item, at_ns, status in self._ask(
                "SELECT * FROM deliveries WHERE end_row >= ? AND end_row <= ? AND start_row <= ?",
                (place, place + _MOST_ROWS_OF_A_DELIVERY, place),
            ):
                if (end_row, end_item) == (place, 0):
                    continue  # it ends before this one
                found[number] = DeliveredEntry(
                    str(name), (row, item), (end_row, end_item), at_ns, status
                )
        return [found[number] for number in sorted(found)]

    def oldest_ns(self) -> int:
        """Received time of the oldest record; 0 where none is known."""
        found = self._ask("SELECT received_ns FROM records ORDER BY number LIMIT 1")
        return int(found[0][0]) if found else 0


_SELECT: Final = "SELECT number, place, signal, encoding, raw_bytes, part, ids FROM records"


def _indexed(found: Iterable[tuple[Any, ...]]) -> list[Indexed]:
    return [
        Indexed(
            number,
            Seen(place, Signal(signal), Encoding(encoding), raw_bytes, _decode_part(part), ids),
        )
        for number, place, signal, encoding, raw_bytes, part, ids in found
    ]


def _drop_oldest(writer: apsw.Connection) -> None:
    """A tenth of what there is."""
    for extent, delete in (
        ("SELECT min(number), max(number) FROM records", "DELETE FROM records WHERE number <= ?"),
        ("SELECT min(id), max(id) FROM deliveries", "DELETE FROM deliveries WHERE id <= ?"),
    ):
        ((low, high),) = fetch(writer, extent)
        if low is not None:
            writer.execute(delete, (low + (high - low) // 10,))


def delivered_entries(
    destination: str, ranges: Iterable[Any], at_ns: int, status: int
) -> list[DeliveredEntry]:
    """Deliveries of whole ranges, each short enough to be found again by its end."""
    found = []
    for start, end in ranges:
        row, item = start
        while end.row - row > _MOST_ROWS_OF_A_DELIVERY:
            cut = row + _MOST_ROWS_OF_A_DELIVERY
            found.append(DeliveredEntry(destination, (row, item), (cut, 0), at_ns, status))
            row, item = cut, 0
        found.append(DeliveredEntry(destination, (row, item), (end.row, end.item), at_ns, status))
    return found
