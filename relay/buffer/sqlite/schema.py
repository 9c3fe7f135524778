"""A path in, a connection to the buffer's file out: schema, pragmas, and whose file it is.

`user_version` is the schema's number, and below is what each added to the one before; a change
that an older version would misread needs a new number and a migration that is O(1).

A schema is a program: triggers, views and expressions run when a statement of ours meets them. So
every connection is opened here, where they are switched off, and a file whose schema is not what
the versions below make is not used at all.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import apsw

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.private_files import open_private

SCHEMA_VERSION: Final = 3
APPLICATION_ID: Final = 0x4F54524C  # "OTRL"
PAGE_BYTES: Final = 4096
SYNCHRONOUS: Final[dict[str, int]] = {"full": 2, "normal": 1}

# The disk refuses now and may take it later: the waiters are told, the data was not at fault.
DISK_ERRORS: Final = (
    apsw.IOError,
    apsw.FullError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.PermissionsError,
    apsw.NoMemError,
    apsw.ProtocolError,
    OSError,
)
CORRUPT_ERRORS: Final = (apsw.CorruptError, apsw.NotADBError)

# Our statements are right: when SQLite finds no such table, or a value of another type than its
# column's comes out, what was written there has been hit.
ODD_VALUES: Final = (TypeError, ValueError, OverflowError, ArithmeticError)


def is_damage(error: BaseException) -> bool:
    """Whether what SQLite calls an error of the disk or of our statement is the file's fault: it
    was cut short, or a table or column of ours is not found in it.
    """
    if isinstance(error, apsw.IOError):
        return getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_SHORT_READ
    signs = ("no such", "malformed", "has no column", "values for")
    return isinstance(error, apsw.SQLError) and any(sign in str(error) for sign in signs)


# Large columns stand last, so that a scan of the others never reads their overflow pages.
# rows_before, spans_before, bytes_before: sums over all rows ever written before this one; the
# sum over any run of rows is a difference of two look-ups, however long the backlog.
# traces: a row's distinct trace ids, 16 bytes each, in the order of its parts.
_VERSION_1: Final = """
CREATE TABLE rows (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_ns INTEGER NOT NULL,
    monotonic_ns INTEGER NOT NULL,
    signal INTEGER NOT NULL,
    encoding INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    spans INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    rows_before INTEGER NOT NULL,
    spans_before INTEGER NOT NULL,
    bytes_before INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    parts BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE traces (row INTEGER PRIMARY KEY, ids BLOB NOT NULL);
CREATE TABLE destinations (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL,
    ranges BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    destination TEXT NOT NULL,
    start_row INTEGER NOT NULL,
    start_span INTEGER NOT NULL,
    end_row INTEGER NOT NULL,
    end_span INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    status INTEGER NOT NULL
);
CREATE INDEX deliveries_by_end ON deliveries (end_row, end_span);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    set_aside_ns INTEGER NOT NULL,
    received_ns INTEGER NOT NULL,
    destination TEXT NOT NULL,
    reason TEXT NOT NULL,
    status INTEGER NOT NULL,
    spans INTEGER NOT NULL,
    affected INTEGER NOT NULL,
    encoding INTEGER NOT NULL,
    row INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    path TEXT NOT NULL,
    trace_ids BLOB NOT NULL,
    words TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX dead_letters_by_destination ON dead_letters (destination, stored_bytes);
CREATE TABLE totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    rows INTEGER NOT NULL,
    spans INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    gone_rows INTEGER NOT NULL,
    gone_spans INTEGER NOT NULL,
    gone_raw_bytes INTEGER NOT NULL
);
INSERT INTO totals VALUES (1, 0, 0, 0, 0, 0, 0);
"""
# history: what `where` tells of a row whose data has gone; its ids stay in traces, and what became
# of it in deliveries. tallies: counts that outlive a restart, by name, such as evicted:NAME.
# salvages: quarantined files that are being read back; done is 1 when all that can be read is back.
_VERSION_2: Final = """
CREATE TABLE history (
    row INTEGER PRIMARY KEY,
    received_ns INTEGER NOT NULL,
    encoding INTEGER NOT NULL,
    spans INTEGER NOT NULL,
    parts BLOB NOT NULL
);
CREATE TABLE tallies (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE salvages (
    file TEXT PRIMARY KEY,
    last_row INTEGER NOT NULL,
    done INTEGER NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID;
"""
# signal_runs: where rows of another signal begin, a file's first being traces (`signal_runs`).
# Rows that were owed to nobody by name are now owed to the backlog without a destination.
_VERSION_3: Final = """
CREATE TABLE signal_runs (
    first_row INTEGER PRIMARY KEY,
    signal INTEGER NOT NULL,
    sums BLOB NOT NULL
);
CREATE INDEX signal_runs_by_signal ON signal_runs (signal);
INSERT INTO signal_runs VALUES (0, 1, X'ba769b2e90');
INSERT INTO destinations SELECT '', 0, X'be55383091940100c000'
    WHERE NOT EXISTS (SELECT 1 FROM destinations) AND EXISTS (SELECT 1 FROM rows);
ALTER TABLE history ADD COLUMN signal INTEGER NOT NULL DEFAULT 1;
ALTER TABLE dead_letters ADD COLUMN signal INTEGER NOT NULL DEFAULT 1;
"""
_STEPS: Final = (_VERSION_1, _VERSION_2, _VERSION_3)
# Of SQLite's machine, in one statement: opening needs some thousand, whatever the file's size.
_MOST_STEPS: Final = 10_000_000
_GUARDS: Final = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
)


def fetch(
    connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    """All rows at once: no cursor stays open, which would hold up the checkpoint."""
    return connection.execute(sql, bindings).fetchall()


def fetch_value(connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()) -> Any:
    """The first column of the only row; None when there is no row."""
    found = fetch(connection, sql, bindings)
    return found[0][0] if found else None


def number(value: object, *, below: float = math.inf) -> int:
    """`value` if it is a number that can stand in its column, else 0."""
    return value if isinstance(value, int) and 0 < value < below else 0


@contextmanager
def transaction(connection: apsw.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """All of it or nothing. What is raised is what went wrong: after some errors SQLite has rolled
    back by itself, and then apsw's own `with` complains of that instead.
    """
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(apsw.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


class NewerSchema(Exception):
    """The file was written by a newer version; `version` is its schema's number."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(f"schema {version}")


def open_writer(
    path: Path, settings: BufferSettings, *, floor: int, vfs: str | None
) -> apsw.Connection:
    """The one connection that writes; makes the file when it is new, ids beginning at `floor`.

    Raises NewerSchema, one of CORRUPT_ERRORS or one of DISK_ERRORS.
    """
    _create_private(path)
    if path.stat().st_size and not _is_half_made(path):
        # Looked at without the right to write: a newer version's file stays as it is.
        refuse_newer(path, vfs=vfs)
    connection = connect(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, vfs)
    try:
        if connection.pragma("user_version") == 0:
            _create_schema(connection, floor)
        elif connection.pragma("application_id") == APPLICATION_ID:
            refuse_foreign(connection)
            _migrate(connection)
        connection.pragma("secure_delete", "fast")
        connection.pragma("synchronous", SYNCHRONOUS[settings.sync])
        connection.wal_autocheckpoint(0)
        if connection.pragma("application_id") != APPLICATION_ID:
            raise apsw.NotADBError("relay.db belongs to another program")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, *, vfs: str | None) -> apsw.Connection:
    """A connection that cannot write. Raises one of CORRUPT_ERRORS or DISK_ERRORS.

    Whether the schema is ours was looked at by the writer; who has none calls `refuse_foreign`.
    """
    connection = connect(path, apsw.SQLITE_OPEN_READONLY, vfs)
    leave_wal(connection)  # to write it back is the writer's, and wants its locks
    return connection


def connect(path: Path, flags: int, vfs: str | None) -> apsw.Connection:
    """A connection that runs nothing of what a file's schema says."""
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
    for guard, value in _GUARDS:
        connection.config(guard, value)
    connection.set_busy_timeout(2000)
    return connection


def leave_wal(connection: apsw.Connection) -> None:
    """Closing `connection` does not write the WAL back."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


def refuse_foreign(connection: apsw.Connection) -> None:
    """Raise CorruptError, which names the difference, where the schema is none that we make.

    A file without a version, or with a newer one, is for others to judge.
    """
    version = connection.pragma("user_version")
    if version == 0 or version > SCHEMA_VERSION:
        return
    with bounded(connection):
        found = _schema_of(connection)
    made = _made_by(version) if version > 0 else frozenset()
    if found != made:
        names = sorted({f"{kind} {name}" for kind, name, *_ in found ^ made})
        raise apsw.CorruptError(f"its schema is not ours: {', '.join(names[:5])}")


def _schema_of(connection: apsw.Connection) -> frozenset[tuple[str, ...]]:
    found = fetch(connection, "SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT 100")
    return frozenset(tuple(" ".join(str(each).split()) for each in row) for row in found)


@cache
def _made_by(version: int) -> frozenset[tuple[str, ...]]:
    """The schema that the steps up to `version` make."""
    connection = apsw.Connection(":memory:")
    try:
        for step in _STEPS[:version]:
            connection.execute(step)
        return _schema_of(connection)
    finally:
        connection.close()


@contextmanager
def bounded(connection: apsw.Connection) -> Iterator[None]:
    """Turn a statement that does not end into CorruptError: what it reads was made so."""
    connection.set_progress_handler(lambda: True, _MOST_STEPS)
    try:
        yield
    except apsw.InterruptError as error:
        raise apsw.CorruptError("a statement did not come to an end") from error
    finally:
        connection.set_progress_handler(None)


def refuse_newer(path: Path, *, vfs: str | None) -> None:
    """Raise NewerSchema if the file's schema is newer than ours."""
    connection = open_reader(path, vfs=vfs)
    try:
        version = connection.pragma("user_version")
    finally:
        connection.close()
    if version > SCHEMA_VERSION:
        raise NewerSchema(version)


def _is_half_made(path: Path) -> bool:
    """Whether its very creation was interrupted: only who may write can roll that back.

    A file in WAL mode, as every finished one is, has no rollback journal.
    """
    journal = path.with_name(path.name + "-journal")
    return journal.exists() and journal.stat().st_size > 0


def _create_schema(connection: apsw.Connection, floor: int) -> None:
    if fetch_value(connection, "SELECT count(*) FROM sqlite_schema"):
        raise apsw.NotADBError("relay.db belongs to another program")
    connection.pragma("page_size", PAGE_BYTES)
    connection.pragma("auto_vacuum", 2)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", SYNCHRONOUS["full"])
    # One transaction: a crash leaves either no schema or all of it, the number included.
    with transaction(connection):
        for step in _STEPS:
            connection.execute(step)
        if floor > 1:
            connection.execute(
                "INSERT INTO sqlite_sequence (name, seq) VALUES ('rows', ?)", (floor - 1,)
            )
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", SCHEMA_VERSION)
    sync_directory(Path(connection.filename).parent)


def _migrate(connection: apsw.Connection) -> None:
    """Add what the file's version lacks: tables only, so it takes as long for any size of file."""
    version = connection.pragma("user_version")
    if version >= SCHEMA_VERSION:
        return
    with transaction(connection):
        for step in _STEPS[version:]:
            connection.execute(step)
        connection.pragma("user_version", SCHEMA_VERSION)


def _create_private(path: Path) -> None:
    # SQLite gives WAL and shm the mode of the database, so making it 0600 is enough.
    os.close(open_private(path, os.O_RDWR | os.O_CREAT))


def sync_directory(directory: Path) -> None:
    """Make names that were created, renamed or removed in `directory` survive power loss."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
