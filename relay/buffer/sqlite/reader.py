"""Answers what memory cannot: one thread, one read-only connection, short statements.

A statement that stays open keeps the WAL from being reused (372 MiB in 8 s, tried), so each one
is fetched to its end and asks for little: row numbers and sizes first, bodies by those.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import apsw

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import schema, signal_runs, sums
from relay.buffer.sqlite.commands import Corrupt
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.rows import Part, RowColumns, read_parts, read_row
from relay.buffer.sqlite.schema import CORRUPT_ERRORS, DISK_ERRORS, fetch, fetch_value, number
from relay.buffer.sqlite.types import Budget, Chunk, DamagedRow
from relay.buffer.values import RecentService
from relay.model.errors import BufferUnavailable
from relay.model.records import Encoding, OwedRange, Position, Signal, StoredRow

Result = TypeVar("Result")
Question = Callable[[apsw.Connection], Result]
Told = Callable[[Any, BaseException | None], None]

_META_ROWS = 512
_RECENT_LOOKS = 10_000
_SERVICE_ROWS = 200
_EVICTION_SECONDS = 0.01
_EACH_BYTES = 512 * 1024
_MOST_HEADS = 64  # looked-up rows, more than there are destinations


class Ask(Protocol):
    """Puts a question to the file: the running buffer's reader, or a file that nobody writes."""

    async def __call__(self, question: Question[Result], /) -> Result:
        """The answer. Raises BufferUnavailable, and what `question` raises."""
        ...


def ask_directly(connection: apsw.Connection) -> Ask:
    """Ask a file of which no daemon is in the way, in this thread."""

    async def ask(question: Question[Result], /) -> Result:
        return question(connection)

    return ask


class Reader:
    """The thread and its connection, opened at the first question and after a file was replaced."""

    def __init__(self, database: Path, ledger: Ledger, *, vfs: str | None) -> None:
        self._database = database
        self._ledger = ledger
        self._vfs = vfs
        self._queue: queue.SimpleQueue[tuple[Question[Any], Told] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="buffer-reader", daemon=True)
        self._connection: apsw.Connection | None = None
        self._opened_generation = -1
        self._oldest: dict[tuple[Signal, int], int] = {}  # received_ns of heads looked up, by row

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what was asked, then end; safe twice."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    # -- the event loop's side ----------------------------------------------------------------

    async def ask(self, question: Question[Result], /) -> Result:
        """The answer: one short statement or few. A file that turns out corrupt is replaced.

        Raises BufferUnavailable for whatever the disk says, and what `question` raises.
        """
        future: asyncio.Future[Result] = self._ledger.new_waiter()
        generation = self._ledger.generation
        self._put(question, partial(_resolve, future))
        try:
            return await future
        except CORRUPT_ERRORS as error:
            await self._report(generation, str(error))
            raise BufferUnavailable("the buffer's file was damaged and was replaced") from error
        except DISK_ERRORS as error:
            raise BufferUnavailable(f"the buffer cannot be read: {error}") from error

    def _put(self, question: Question[Any], told: Told) -> None:
        """Ask without waiting; `told` is called in the event loop, in the order of questions."""
        self._queue.put((question, told))

    async def _report(self, generation: int, words: str, gaps: Ranges = ()) -> None:
        """Return when the writer has looked, and replaced the file where it must.

        Raises BufferUnavailable when it has ended, which would never answer.
        """
        seen = self._ledger.new_waiter()
        self._ledger.commands.put(Corrupt(generation, words, seen, gaps))
        await seen

    async def read_chunk(
        self, signal: Signal, first_row: int, last_row: int, budget: Budget
    ) -> Chunk | None:
        """Rows of a signal, from memory if they are there, else from disk; None: the file was
        replaced.
        """
        ledger = self._ledger
        chunk = ledger.cache.read(signal, first_row, last_row, budget)
        if chunk is None:
            chunk = await self._read_chunk(signal, first_row, last_row, budget)
            while ledger.evictions_heard < ledger.evictions_begun:
                # Rows may be missing that are still owed here: they would count as settled.
                chunk = None
                await asyncio.sleep(_EVICTION_SECONDS)
        return chunk

    async def _read_chunk(
        self, signal: Signal, first_row: int, last_row: int, budget: Budget
    ) -> Chunk | None:
        generation = self._ledger.generation
        question = partial(
            read_rows, signal=signal, first_row=first_row, last_row=last_row, budget=budget
        )
        proper: Ranges = ()
        chunk: Chunk | None = None
        try:
            while chunk is None:
                try:
                    chunk = await self.ask(partial(question, may_skip=proper))
                except RowMissing as missing:
                    await self._report(generation, str(missing), missing.gaps)
                    if generation != self._ledger.generation:
                        return None
                    # These have gone in an orderly way, or there never were any: no others may.
                    proper = owed_ranges.union((*proper, *missing.gaps))
        except BufferUnavailable:
            if generation != self._ledger.generation:
                return None
            raise
        return chunk if generation == self._ledger.generation else None

    async def read_row(self, row: int) -> StoredRow | None:
        """That row; None when it has gone or is damaged."""
        return self._ledger.cache.get(row) or await self.ask(partial(read_one, row=row))

    async def read_each(self, rows: Iterable[int]) -> list[StoredRow]:
        """Those of `rows` that are kept and whole, in order: from memory if they are there, else
        some with each question.
        """
        wanted = sorted(set(rows))
        cached = ((row, self._ledger.cache.get(row)) for row in wanted)
        known = {row: found for row, found in cached if found is not None}
        missing = [row for row in wanted if row not in known]
        while missing:
            found, looked = await self.ask(partial(read_some, rows=missing))
            known |= {row.row: row for row in found}
            missing = missing[looked:]
        return [known[row] for row in wanted if row in known]

    async def last_row(self, signal: Signal, first_row: int, last_row: int) -> int:
        """The last row of a signal among those, or where it was; 0 when there is none."""
        return await self.ask(
            partial(last_row_of, signal=signal, first_row=first_row, last_row=last_row)
        )

    def received_ns(self, signal: Signal, row: int) -> int | None:
        """Received time of the first row of a signal from `row` on, if it is at hand; if not, it
        is looked up behind the scenes.
        """
        found = self._ledger.cache.first(signal, row)
        if found is not None:
            return found.received_ns
        key = (signal, row)
        known = self._oldest.pop(key, None)
        if known is None and self._ledger.is_bound and not self._ledger.is_closing:
            # Until the answer comes: it is younger than rows before it, older than those in memory.
            before = (
                at_ns for (of, other), at_ns in self._oldest.items() if of is signal and other < row
            )
            known = max(before, default=self._ledger.cache.oldest_received_ns(signal))
            self._put(
                partial(first_received_ns, signal=signal, first_row=row),
                partial(self._found_oldest, key),
            )
        if known is not None:
            self._oldest[key] = known  # last: those that nobody asks for any more leave first
            if len(self._oldest) > _MOST_HEADS:
                del self._oldest[next(iter(self._oldest))]
        return known

    async def find_oldest(self, signal: Signal, row: int) -> None:
        """Let `received_ns` of that row be right at the next question. Raises BufferUnavailable."""
        if self._ledger.cache.first(signal, row) is None:
            question = partial(first_received_ns, signal=signal, first_row=row)
            if found := await self.ask(question):
                self.note_oldest(signal, row, found)

    def note_oldest(self, signal: Signal, row: int, received_ns: int) -> None:
        """The received time of the first row of a signal from `row` on, or 0."""
        self._oldest[signal, row] = received_ns

    def _found_oldest(
        self, key: tuple[Signal, int], found: int | None, error: BaseException | None
    ) -> None:
        if error is None and found and key in self._oldest:
            self._oldest[key] = found

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while (asked := self._queue.get()) is not None:
            self._answer(*asked)
            del asked  # else the rows that were read last stay in memory until the next question
        self._close()

    def _answer(self, question: Question[Any], told: Told) -> None:
        post = self._ledger.post
        try:
            connection = self._open()
            # One state of the file, whatever goes meanwhile.
            with schema.transaction(connection, "BEGIN"):
                result = question(connection)
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            if schema.is_damage(error):
                error = apsw.CorruptError(str(error))
            if not isinstance(error, (apsw.BusyError, RowMissing, *CORRUPT_ERRORS)):
                self._close()
            post(told, None, error)
        else:
            post(told, result, None)

    def _open(self) -> apsw.Connection:
        generation = self._ledger.generation
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


def _resolve(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class RowMissing(Exception):
    """Rows are not where they are looked for; the writer knows whether they ought to be."""

    def __init__(self, gaps: Ranges) -> None:
        self.gaps = gaps
        super().__init__(f"row {gaps[0].start.row} is not in the table any more")


class RecentPart(NamedTuple):
    """One request among the newest, with its own trace ids."""

    row: int
    part: Part
    trace_ids: bytes


def read_rows(
    connection: apsw.Connection,
    signal: Signal,
    first_row: int,
    last_row: int,
    budget: Budget,
    *,
    may_skip: Ranges = (),
) -> Chunk:
    """Rows of `signal` among `first_row`…`last_row` (both included) that fit into `budget`, some at
    a time. What is of another signal is passed over without a look at it.

    Raises RowMissing where some of them are not there, unless it `may_skip` those: damage can
    take rows out of a table without a word of SQLite. Raises CorruptError where they are in no
    order, or of another signal than was said of them.
    """
    budget = replace(budget)  # the event loop's own may be asked again
    rows: list[StoredRow | DamagedRow] = []
    for first, last in signal_runs.stretches(connection, signal, first_row, last_row):
        chunk = _read_stretch(connection, first, last, budget, may_skip)
        for row in chunk.rows:
            is_damaged = isinstance(row, DamagedRow)
            if not is_damaged and row.signal is not signal:
                raise apsw.CorruptError(f"row {row.row} is of another signal than its run")
            # Of a damaged one its run knows better, which has a checksum of its own.
            rows.append(replace(row, signal=signal) if is_damaged else row)
        if chunk.is_full or len(rows) >= _META_ROWS:
            return Chunk(rows, chunk.next_row, chunk.is_full)
    return Chunk(rows, last_row + 1, is_full=False)


def _read_stretch(
    connection: apsw.Connection, first_row: int, last_row: int, budget: Budget, may_skip: Ranges
) -> Chunk:
    meta = fetch(
        connection,
        "SELECT id, encoding, spans, raw_bytes FROM rows WHERE id >= ? AND id <= ?"
        " ORDER BY id LIMIT ?",
        (first_row, last_row, _META_ROWS),
    )
    read_to = meta[-1][0] if len(meta) == _META_ROWS else last_row
    missing = owed_ranges.subtract(_gaps([row for row, *_ in meta], first_row, read_to), may_skip)
    if missing:
        raise RowMissing(missing)
    for chosen, (row_id, encoding, *numbers) in enumerate(meta):
        # What is damaged need not even be a number; its checksum is read with its body.
        row_items, row_bytes = (each if isinstance(each, int) else 0 for each in numbers)
        kind = Encoding(encoding) if is_encoding(encoding) else None
        if not budget.takes(kind, row_bytes, row_items):
            return Chunk(_bodies(connection, meta[:chosen]), row_id, is_full=True)
    return Chunk(_bodies(connection, meta), read_to + 1, is_full=False)


def _gaps(ids: list[int], first_row: int, last_row: int) -> Ranges:
    gaps: list[OwedRange] = []
    expected = first_row
    for row in (*ids, last_row + 1):
        if row < expected:
            raise apsw.CorruptError(f"row {row} is out of order")
        if row > expected:
            gaps.append(OwedRange(Position(expected), Position(row)))
        expected = row + 1
    return tuple(gaps)


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
    if [columns[0] for columns in found] != [row for row, *_ in meta]:
        # Two statements may see two states of the file.
        there = {columns[0] for columns in found}
        gone = (owed_ranges.row_range(row) for row, *_ in meta if row not in there)
        if missing := owed_ranges.union(gone):
            raise RowMissing(missing)
        raise apsw.CorruptError("rows are out of order")
    return [read_row(RowColumns(*columns)) for columns in found]


def read_one(connection: apsw.Connection, row: int) -> StoredRow | None:
    """That row; None when it has gone or is damaged."""
    found = fetch(connection, "SELECT * FROM rows WHERE id = ?", (row,))
    read = read_row(RowColumns(*found[0])) if found else None
    return read if isinstance(read, StoredRow) else None


def read_some(connection: apsw.Connection, rows: Sequence[int]) -> tuple[list[StoredRow], int]:
    """The first few of `rows` without those that have gone or are damaged, and how many that were.

    No more once their bodies are large together: couriers ask the same thread.
    """
    found: list[StoredRow] = []
    size = 0
    for looked, row in enumerate(rows):
        if size >= _EACH_BYTES:
            return found, looked
        if (read := read_one(connection, row)) is not None:
            found.append(read)
            size += len(read.body)
    return found, len(rows)


def first_received_ns(connection: apsw.Connection, signal: Signal, first_row: int) -> int:
    """Received time of the first row of a signal from `first_row` on; 0 when there is none."""
    last = number(fetch_value(connection, "SELECT max(id) FROM rows"))
    ranges = (OwedRange(Position(first_row), Position(last + 1)),)
    return sums.oldest_ns(connection, ranges, signal) if first_row <= last else 0


def last_row_of(connection: apsw.Connection, signal: Signal, first_row: int, last_row: int) -> int:
    """The last row of a signal among those, or where it was; 0 when there is none."""
    found = signal_runs.stretches_down(connection, signal, first_row, last_row)
    return next((last for _first, last in found), 0)


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


def recent_parts(
    connection: apsw.Connection, before_row: int, limit: int
) -> tuple[list[RecentPart], int]:
    """Requests of spans of up to `limit` rows before `before_row`, newest first, and before
    which row to go on (0: that was the end).
    """
    newest = fetch_value(connection, "SELECT max(id) FROM rows WHERE id < ?", (before_row,))
    if newest is None:
        return [], 0
    # Most rows of metrics have no ids: they are passed over in the narrow table. Log records name
    # traces, too, but whoever lists traces wants those that there are spans of.
    found = fetch(
        connection,
        "SELECT id, parts, ids FROM traces CROSS JOIN rows ON id = row WHERE row <= ? AND row > ?"
        " AND length(ids) > 0 AND signal = ? ORDER BY row DESC LIMIT ?",
        (newest, newest - _RECENT_LOOKS, int(Signal.TRACES), limit),
    )
    parts_found = [
        RecentPart(row, part, own_ids)
        for row, parts, ids in found
        for part, own_ids in reversed(split_parts(parts, ids))
    ]
    following = found[-1][0] if len(found) == limit else max(newest - _RECENT_LOOKS + 1, 0)
    return parts_found, following


def recent_services(connection: apsw.Connection) -> list[RecentService]:
    """The services of the newest rows, each signal of them once, the last seen first."""
    seen: dict[tuple[str, int], RecentService] = {}
    for signal, parts in fetch(
        connection, "SELECT signal, parts FROM rows ORDER BY id DESC LIMIT ?", (_SERVICE_ROWS,)
    ):
        for part, _ids in reversed(split_parts(parts, b"")):
            for name in part.services or ("",):
                found = RecentService(name, Signal(signal), part.received_ns, part.address)
                seen.setdefault((name, signal), found)
    return list(seen.values())


def quarantined(connection: apsw.Connection) -> list[tuple[str, bytes]]:
    """Table `salvages`: files to be read back, and how far that has come."""
    return [
        (str(name), stored if isinstance(stored, bytes) else b"")
        for name, stored in fetch(connection, "SELECT file, state FROM salvages ORDER BY file")
    ]
