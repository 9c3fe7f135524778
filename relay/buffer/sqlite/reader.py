"""Questions in, rows and traces out: one thread, one read-only connection, short statements.

A statement that stays open keeps the WAL from being reused (372 MiB in 8 s, tried), so each one
is fetched to its end and asks for little: row numbers and sizes first, bodies by those.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw

from relay.buffer.sqlite import schema
from relay.buffer.sqlite.dead_letter_table import newest_letters
from relay.buffer.sqlite.rows import Part, RowColumns, read_parts, read_row
from relay.buffer.sqlite.schema import fetch, fetch_value
from relay.buffer.sqlite.types import DamagedRow
from relay.buffer.views import StoredLetter
from relay.model.records import Encoding, StoredRow

Result = TypeVar("Result")

_META_ROWS = 512


@dataclass(frozen=True, slots=True)
class Budget:
    """What a courier still takes.

    `encoding` is that of the rows it has already (None: none yet); with `one_encoding` rows of
    another end the chunk. `is_first`: nothing taken yet, so one row is given whatever its size.
    """

    raw_bytes: int
    spans: int
    encoding: Encoding | None
    one_encoding: bool
    is_first: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in order. `next_row`: all before it were looked at; `is_full`: what follows is too much
    (or of another encoding).
    """

    rows: list[StoredRow | DamagedRow]
    next_row: int
    is_full: bool


class RecentPart(NamedTuple):
    """One request among the newest, with its own trace ids."""

    row: int
    part: Part
    trace_ids: bytes


class Job(NamedTuple):
    """`question(connection)` is asked in the thread; `answer(result, error)` told there."""

    question: Callable[[apsw.Connection], Any]
    answer: Callable[[Any, BaseException | None], None]


class Reader:
    """The thread and its connection, opened at the first question and after a file was replaced."""

    def __init__(self, database: Path, *, vfs: str | None, generation: Callable[[], int]) -> None:
        self._database = database
        self._vfs = vfs
        self._generation = generation
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="buffer-reader", daemon=True)
        self._connection: apsw.Connection | None = None
        self._opened_generation = -1

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def ask(self, job: Job) -> None:
        """Put a question; answers come in the order of questions."""
        self._queue.put(job)

    def stop(self) -> None:
        """Answer what was asked, then end; safe twice."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                result = job.question(self._open())
            except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                if schema.is_damage(error):
                    error = apsw.CorruptError(str(error))
                if not isinstance(error, (apsw.BusyError, RowMissing, *schema.CORRUPT_ERRORS)):
                    self._close()
                job.answer(None, error)
            else:
                job.answer(result, None)
        self._close()

    def _open(self) -> apsw.Connection:
        generation = self._generation()
        if self._opened_generation != generation:
            self._close()
        if self._connection is None:
            self._connection = schema.open_reader(self._database, vfs=self._vfs)
            self._opened_generation = generation
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close(force=True)
            self._connection = None


class RowMissing(Exception):
    """A row is not where it is looked for; the writer knows whether it ought to be."""

    def __init__(self, row: int) -> None:
        self.row = row
        super().__init__(f"row {row} is not in the table any more")


def read_rows(
    connection: apsw.Connection,
    first_row: int,
    last_row: int,
    budget: Budget,
    *,
    may_skip: bool = False,
) -> Chunk:
    """Rows of `first_row`…`last_row` (both included) that fit into `budget`, some at a time.

    Raises RowMissing where one of them is not there, unless it `may_skip` such places: damage can
    take rows out of a table without a word of SQLite.
    """
    meta = fetch(
        connection,
        "SELECT id, encoding, spans, raw_bytes FROM rows WHERE id >= ? AND id <= ?"
        " ORDER BY id LIMIT ?",
        (first_row, last_row, _META_ROWS),
    )
    if not may_skip:
        _find_gap([row for row, *_ in meta], first_row, last_row)
    raw_bytes, spans, encoding = budget.raw_bytes, budget.spans, budget.encoding
    is_first = budget.is_first
    for chosen, (row_id, row_encoding, *numbers) in enumerate(meta):
        # What is damaged need not even be a number; its checksum is read with its body.
        row_spans, row_bytes = (each if isinstance(each, int) else 0 for each in numbers)
        if budget.one_encoding and encoding is not None and row_encoding != encoding:
            return Chunk(_bodies(connection, meta[:chosen]), row_id, is_full=True)
        if not is_first and (row_bytes > raw_bytes or row_spans > spans):
            return Chunk(_bodies(connection, meta[:chosen]), row_id, is_full=True)
        if encoding is None and is_encoding(row_encoding):
            encoding = Encoding(row_encoding)
        raw_bytes, spans, is_first = raw_bytes - row_bytes, spans - row_spans, False
    next_row = meta[-1][0] + 1 if len(meta) == _META_ROWS else last_row + 1
    return Chunk(_bodies(connection, meta), next_row, is_full=False)


def _find_gap(ids: list[int], first_row: int, last_row: int) -> None:
    expected = list(range(first_row, min(last_row + 1, first_row + _META_ROWS)))
    if ids != expected:
        wrong = (at for at, row in enumerate(ids) if at >= len(expected) or row != expected[at])
        raise RowMissing(first_row + next(wrong, len(ids)))


def is_encoding(value: object) -> bool:
    """Whether a column holds one of the encodings: it may be damaged."""
    return value in (Encoding.JSON, Encoding.PROTOBUF)


def _bodies(
    connection: apsw.Connection, meta: list[tuple[Any, ...]]
) -> list[StoredRow | DamagedRow]:
    if not meta:
        return []
    found = fetch(
        connection,
        "SELECT * FROM rows WHERE id >= ? AND id <= ? ORDER BY id",
        (meta[0][0], meta[-1][0]),
    )
    return [_with_trace_ids(connection, read_row(RowColumns(*columns))) for columns in found]


def _with_trace_ids(
    connection: apsw.Connection, row: StoredRow | DamagedRow
) -> StoredRow | DamagedRow:
    """A damaged row with its ids, so that `where` still finds it."""
    if isinstance(row, StoredRow):
        return row
    ids = fetch_value(connection, "SELECT ids FROM traces WHERE row = ?", (row.row,))
    is_readable = isinstance(ids, bytes) and len(ids) % 16 == 0
    return replace(row, trace_ids=ids) if is_readable else row


def read_one(connection: apsw.Connection, row: int) -> StoredRow | None:
    """That row; None when it has gone or is damaged."""
    found = fetch(connection, "SELECT * FROM rows WHERE id = ?", (row,))
    read = read_row(RowColumns(*found[0])) if found else None
    return read if isinstance(read, StoredRow) else None


def first_received_ns(connection: apsw.Connection, first_row: int) -> int:
    """Received time of the first row that is not before `first_row`; 0 when there is none."""
    found = fetch_value(
        connection, "SELECT received_ns FROM rows WHERE id >= ? ORDER BY id LIMIT 1", (first_row,)
    )
    return int(found) if found is not None else 0


def split_parts(parts: bytes, ids: bytes) -> list[tuple[Part, bytes]]:
    """Each request of a row with its own trace ids; empty when `parts` is damaged."""
    try:
        decoded = read_parts(parts)
    except ValueError:
        return []
    result: list[tuple[Part, bytes]] = []
    at = 0
    for part in decoded:
        result.append((part, ids[at : at + 16 * part.trace_ids]))
        at += 16 * part.trace_ids
    return result


def list_letters(connection: apsw.Connection, limit: int) -> list[StoredLetter]:
    """The newest dead letters, newest first."""
    return newest_letters(connection, limit)


def recent_parts(connection: apsw.Connection, before_row: int, limit: int) -> list[RecentPart]:
    """Requests of up to `limit` rows before `before_row`, newest first."""
    found = fetch(
        connection,
        "SELECT rows.id, rows.parts, traces.ids FROM rows JOIN traces ON traces.row = rows.id"
        " WHERE rows.id < ? ORDER BY rows.id DESC LIMIT ?",
        (before_row, limit),
    )
    return [
        RecentPart(row, part, own_ids)
        for row, parts, ids in found
        for part, own_ids in reversed(split_parts(parts, ids))
    ]
