"""Makes a consistent copy of the buffer's file while a daemon goes on writing.

Not `VACUUM INTO`, nor SQLite's backup: the first holds one read transaction for its whole run, so
that the WAL cannot be cut meanwhile; the second begins anew whenever another connection writes.
Rows do not change, so they are copied by their ids in short reads, up to the last that there was
when the copy began. Rows that went meanwhile had been delivered to all: the copy owes them to none.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

import apsw

from relay.buffer import owed_ranges
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import counters_table, load, schema
from relay.buffer.sqlite.rows import RowColumns, read_row, signal_of
from relay.buffer.sqlite.schema import DISK_ERRORS, fetch, fetch_value, number, sync_directory
from relay.buffer.sqlite.types import DamagedRow, Totals
from relay.model.errors import BufferUnavailable
from relay.model.records import OwedRange, Position, Signal
from relay.offline.file import BufferFile, OwedDestination, open_buffer

_ROWS = 64  # at most 512 KiB each, and usually some kilobytes
_OTHERS = 500
_SMALL = {"deliveries": "id", "history": "row", "dead_letters": "id"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was copied. `damaged_rows` are in the copy as they were found.

    `spans` are items of all signals, `by_signal` those of each.
    """

    file: str
    rows: int
    spans: int
    by_signal: Mapping[str, int]
    size_bytes: int
    damaged_rows: list[int]


def snapshot(state_dir: Path, target: Path, progress: Progress) -> Snapshot:
    """Copy the buffer in `state_dir` to the new file `target`, 0600 and synced, and verify it.

    Raises BufferUnavailable when there is nothing to copy, when `target` exists or cannot be
    written, and when what was written is not sound; then there is no `target`.
    """
    if target.exists():
        raise BufferUnavailable(f"{target} already exists", hint="choose another name")
    part = target.with_name(target.name + ".part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise BufferUnavailable(
            f"{part} cannot be created: {error.strerror}",
            hint="remove it if it is left from an interrupted snapshot, or choose another folder",
        ) from error
    try:
        with open_buffer(state_dir, is_of_this_version=True) as file:
            result = _copy(file, part, target, progress)
        # A link, which unlike a rename never replaces what came to be there meanwhile.
        os.link(part, target)
        sync_directory(target.parent)
    except DISK_ERRORS as error:
        raise BufferUnavailable(f"{target} cannot be written: {error}") from error
    finally:
        for name in (part, *(part.with_name(part.name + end) for end in ("-wal", "-shm"))):
            with suppress(FileNotFoundError):
                name.unlink()
    return result


def _copy(file: BufferFile, part: Path, target: Path, progress: Progress) -> Snapshot:
    writer = schema.open_writer(part, BufferSettings(), floor=1, vfs=None)
    try:
        writer.pragma("synchronous", 0)  # synced as a whole at its end
        writer.wal_autocheckpoint(1000)
        standing = _begin(file, writer)
        rows, spans, damaged, missing = _copy_rows(file, writer, standing, progress)
        for table, key in _SMALL.items():
            _copy_table(file, writer, table, key)
        # Only a daemon deletes; without one, what is not there was damaged: the reader says so.
        _copy_rest(writer, standing, rows, spans, missing if file.is_running else [])
        writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        said = fetch(writer, "PRAGMA quick_check")
        count = fetch_value(writer, "SELECT count(*) FROM rows")
        by_signal = Counter[str]()
        for of, items in fetch(writer, "SELECT signal, sum(spans) FROM rows GROUP BY signal"):
            by_signal[(signal_of(of) or Signal.TRACES).word] += number(items)
    finally:
        writer.close()
    if said != [("ok",)] or count != rows:
        raise BufferUnavailable(f"the copy is not sound: {said[:3]}, {count} of {rows} rows")
    with part.open("rb") as copied:
        os.fsync(copied.fileno())
        size = os.fstat(copied.fileno()).st_size
    return Snapshot(str(target), rows, spans, dict(by_signal), size, damaged)


@dataclass(frozen=True, slots=True)
class _Standing:
    """The file at one moment: everything that must fit together."""

    last_row: int
    first_row: int
    destinations: list[OwedDestination]
    totals: Totals
    counters: dict[str, int]


def _begin(file: BufferFile, writer: apsw.Connection) -> _Standing:
    connection = file.connection
    connection.execute("BEGIN")
    try:
        destinations = file.destinations()
        newest = number(fetch_value(connection, "SELECT max(id) FROM rows"))
        # All at once: each leans on the one before it, and the oldest go with their rows.
        with writer:
            writer.execute("DELETE FROM signal_runs")
            runs = connection.execute("SELECT * FROM signal_runs")
            writer.executemany("INSERT INTO signal_runs VALUES (?,?,?)", runs)
        return _Standing(
            max(newest, load.last_row(connection, (each.ranges or () for each in destinations))),
            number(fetch_value(connection, "SELECT min(id) FROM rows")),
            destinations,
            load.kept_totals(connection)[0],
            counters_table.read(connection),
        )
    finally:
        connection.execute("COMMIT")


def _copy_rows(
    file: BufferFile, writer: apsw.Connection, standing: _Standing, progress: Progress
) -> tuple[int, int, list[int], list[tuple[int, int]]]:
    """How many rows and spans, which of them are damaged, and runs of ids that were not there."""
    rows, spans, after = 0, 0, standing.first_row - 1
    damaged: list[int] = []
    missing: list[tuple[int, int]] = []
    total = standing.last_row - standing.first_row + 1
    for found in file.chunks("rows", after=after, last=standing.last_row, limit=_ROWS):
        traces = fetch(
            file.connection,
            "SELECT row, ids FROM traces WHERE row > ? AND row <= ?",
            (after, found[-1][0]),
        )
        with writer:
            writer.executemany("INSERT INTO rows VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", found)
            writer.executemany("INSERT INTO traces VALUES (?,?)", traces)
        for values in found:
            columns = RowColumns(*values)
            if columns.id > after + 1:
                missing.append((after + 1, columns.id))
            after = columns.id
            spans += number(columns.items)
            if isinstance(read_row(columns), DamagedRow):
                damaged.append(columns.id)
        rows += len(found)
        progress(after - standing.first_row + 1, max(total, 1))
    if after < standing.last_row:
        missing.append((after + 1, standing.last_row + 1))
    return rows, spans, damaged, missing


def _copy_table(file: BufferFile, writer: apsw.Connection, table: str, key: str) -> None:
    for found in file.chunks(table, key=key, limit=_OTHERS):
        marks = ",".join("?" * len(found[0]))
        with writer:
            writer.executemany(f"INSERT INTO {table} VALUES ({marks})", found)  # noqa: S608 - ours


def _copy_rest(
    writer: apsw.Connection,
    standing: _Standing,
    rows: int,
    spans: int,
    missing: list[tuple[int, int]],
) -> None:
    # Gone while it was copied is delivered to all; gone before is owed to none anyway.
    holes = [OwedRange(Position(first), Position(end)) for first, end in missing]
    _, newest = load.newest(writer, standing.totals)
    sums = [max(*pair) for pair in zip(astuple(standing.totals), astuple(newest), strict=True)]
    kept_bytes = number(fetch_value(writer, "SELECT sum(raw_bytes) FROM rows"))
    gone = (sums[0] - rows, sums[1] - spans, sums[2] - kept_bytes)
    with writer:
        for each in standing.destinations:
            stored = each.stored
            if each.ranges:
                stored = owed_ranges.encode(owed_ranges.subtract(each.ranges, holes))
            writer.execute(
                "INSERT INTO destinations VALUES (?,?,?)",
                (each.key.text, each.is_paused, stored),
            )
        writer.executemany("INSERT INTO tallies VALUES (?,?)", standing.counters.items())
        writer.execute(
            "INSERT OR REPLACE INTO totals VALUES (1,?,?,?,?,?,?)",
            (*sums, *(max(each, 0) for each in gone)),
        )
        writer.execute("DELETE FROM sqlite_sequence WHERE name = 'rows'")
        writer.execute("INSERT INTO sqlite_sequence VALUES ('rows', ?)", (standing.last_row,))
