"""Opens the buffer's file to be read, for commands of another process than the daemon.

Opened read-only beside whoever holds it, in short statements, as the daemon's own reader does: so
it works the same whether a daemon runs or not, and never holds up its WAL.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName, backlog_name
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import schema
from relay.buffer.sqlite.private_files import open_private
from relay.buffer.sqlite.quarantine import wal_of
from relay.buffer.sqlite.rows import RowColumns, read_row
from relay.buffer.sqlite.schema import CORRUPT_ERRORS, DISK_ERRORS, fetch, fetch_value, number
from relay.buffer.sqlite.trace_queries import FIRST_STEP, trace_rows
from relay.buffer.sqlite.types import DamagedRow
from relay.model.errors import BufferUnavailable
from relay.model.records import OwedRange, Position, StoredRow
from relay.model.run_as_hint import hint_for
from relay.salvage.pages import PageFiles
from relay.salvage.scan import Scan, Wanted

_CHUNK_ROWS = 16
_NEWEST = 2**63 - 1
_ONE_ROW = "SELECT * FROM rows WHERE id = ?"
# What a reader gets where the file was hit, or cut short, or a bad sector lies under it.
BROKEN = (*CORRUPT_ERRORS, apsw.IOError, apsw.SQLError)


@dataclass(frozen=True, slots=True)
class OwedDestination:
    """A backlog on disk. `ranges` of None: its list is damaged, so it counts as owed all."""

    key: BacklogName
    is_paused: bool
    ranges: Ranges | None
    stored: bytes  # `ranges` as they stand there

    def owes(self, row: int) -> bool:
        """Whether any of `row`, which is of its signal, is owed."""
        return self.ranges is None or owed_ranges.overlaps(self.ranges, owed_ranges.row_range(row))


@dataclass(slots=True)
class BufferFile:
    """The buffer's file, open to be read. `is_running`: a daemon holds it.

    `foreign` says how its schema differs from ours; then it is read by its pages only.
    """

    path: Path
    is_running: bool
    foreign: str
    _connection: apsw.Connection

    @property
    def connection(self) -> apsw.Connection:
        """Raises CorruptError for a file whose schema is not ours."""
        if self.foreign:
            raise apsw.CorruptError(self.foreign)
        return self._connection

    def row_count(self) -> int:
        """About how many rows there are: for progress."""
        first = number(fetch_value(self.connection, "SELECT min(id) FROM rows"))
        last = number(fetch_value(self.connection, "SELECT max(id) FROM rows"))
        return last - first + 1 if last else 0

    def destinations(self) -> list[OwedDestination]:
        """By name, with those that no destination claims. Raises one of CORRUPT_ERRORS."""
        found = []
        for name, paused, stored in fetch(
            self.connection, "SELECT name, paused, ranges FROM destinations ORDER BY name"
        ):
            try:
                ranges: Ranges | None = owed_ranges.decode(stored)
            except (ValueError, TypeError):
                ranges = None
            found.append(OwedDestination(backlog_name(str(name)), paused == 1, ranges, stored))
        return found

    def chunks(
        self, table: str, *, key: str = "id", after: int = 0, last: int = _NEWEST, limit: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Rows of a table by their `key`, up to `limit` at a time, each time read anew.

        Raises one of BROKEN.
        """
        while found := fetch(
            self.connection,
            f"SELECT * FROM {table} WHERE {key} > ? AND {key} <= ?"  # noqa: S608 - ours
            f" ORDER BY {key} LIMIT ?",
            (after, last, limit),
        ):
            yield found
            if not found[-1][0] > after:
                raise apsw.CorruptError("ids are out of order")
            after = found[-1][0]

    def rows(self) -> Iterator[tuple[RowColumns, StoredRow | DamagedRow]]:
        """Every row in order; where a page is damaged, by pages."""
        last = 0
        try:
            for found in self.chunks("rows", limit=_CHUNK_ROWS):
                yield from map(_read, found)
                last = max(last, found[-1][0])
        except BROKEN:
            yield from self._rows_by_pages(last)

    def rows_of_trace(self, trace_id: bytes) -> Iterator[tuple[RowColumns, StoredRow | DamagedRow]]:
        """Rows that hold spans of the trace, by table `traces`. Raises one of CORRUPT_ERRORS."""
        after: int | None = 0
        step = FIRST_STEP
        while after is not None:
            rows, after, step = trace_rows(self.connection, trace_id, after, step)
            for row in rows:
                yield from map(_read, fetch(self.connection, _ONE_ROW, (row,)))

    def _rows_by_pages(self, after: int) -> Iterator[tuple[RowColumns, StoredRow | DamagedRow]]:
        seen: set[int] = set()
        with PageFiles(self.path, wal_of(self.path)) as files:
            scan = Scan(files)
            scan.wanted = Wanted((OwedRange(Position(after + 1), None),))
            for row in scan.rows():
                if isinstance(row, RowColumns) and row.id not in seen:
                    seen.add(row.id)
                    yield row, read_row(row)


def _read(values: tuple[Any, ...]) -> tuple[RowColumns, StoredRow | DamagedRow]:
    columns = RowColumns(*values)
    return columns, read_row(columns)


class NoBuffer(BufferUnavailable):
    """No relay has kept anything in this state directory."""

    code = "nothing_kept"


@contextmanager
def open_buffer(state_dir: Path, *, is_of_this_version: bool = False) -> Iterator[BufferFile]:
    """The buffer in `state_dir`, open to be read.

    Raises NoBuffer when there is none, BufferUnavailable with what to do when it is not readable
    for this user, is no database at all or, with `is_of_this_version`, has another schema.
    """
    path = state_dir / "relay.db"
    try:
        if not path.exists():
            raise NoBuffer(
                f"nothing is kept in {state_dir}: there is no relay.db",
                hint="name the daemon's configuration with --config",
            )
        os.close(open_private(path, os.O_RDONLY))
        running = is_held(state_dir)
        connection = schema.open_reader(path, vfs=None)
    except PermissionError as error:
        raise unreadable(path) from error
    except (*DISK_ERRORS, *CORRUPT_ERRORS) as error:
        raise BufferUnavailable(f"{path} cannot be opened: {error}") from error
    try:
        if is_of_this_version:
            _refuse_other_version(path, connection)
        yield BufferFile(path, running, _foreign(connection), connection)
    except CORRUPT_ERRORS as error:
        raise BufferUnavailable(
            f"{path} is damaged: {error}",
            hint="the daemon quarantines it and reads back what is whole, now or when it starts;"
            " `otlp-relay buffer check` says what that is",
        ) from error
    except apsw.Error as error:
        if isinstance(error, (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError)):
            raise unreadable(path) from error
        raise BufferUnavailable(f"{path} cannot be read: {error}") from error
    finally:
        connection.close(force=True)


def _foreign(connection: apsw.Connection) -> str:
    try:
        schema.refuse_foreign(connection)
    except BROKEN as error:
        return str(error)
    return ""


def _refuse_other_version(path: Path, connection: apsw.Connection) -> None:
    ours, version = schema.APPLICATION_ID, connection.pragma("user_version")
    if connection.pragma("application_id") != ours or version != schema.SCHEMA_VERSION:
        raise BufferUnavailable(
            f"{path} is not of this version (schema {version}, not {schema.SCHEMA_VERSION})",
            hint="start the relay, which takes the file up, then retry",
        )


def unreadable(path: Path) -> BufferUnavailable:
    """What is said where the file belongs to another user."""
    return BufferUnavailable(f"{path} may not be read by you", hint=hint_for(path))


def is_held(state_dir: Path) -> bool:
    """Whether a daemon holds the directory."""
    try:
        descriptor = open_private(state_dir / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared, and given back at once: it must not keep a daemon that starts now from its own.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
