"""A connection to the buffer's file: how it is made, how it is left, what counts as damage."""

import os
from pathlib import Path

import apsw
import pytest

from relay.buffer.sqlite import schema
from relay.buffer.sqlite.schema import bounded, connect, fetch, fetch_value, is_damage, open_writer
from tests.unit.buffer.log_files import append, log_file
from tests.unit.buffer.making import SETTINGS, noise

COUNT = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 5000)"
COUNT += " SELECT max(x) FROM n"


def short_read() -> apsw.IOError:
    error = apsw.IOError("disk I/O error")
    error.extendedresult = apsw.SQLITE_IOERR_SHORT_READ  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (short_read(), True),
        (apsw.IOError("disk I/O error"), False),
        (apsw.SQLError("no such table: rows"), True),
        (apsw.SQLError("table rows has 3 columns but 14 values for it"), True),
        (apsw.SQLError("near SELEC: syntax error"), False),
        (ValueError("no such thing"), False),
    ],
)
def test_file_that_was_cut_or_lacks_what_is_ours_is_damaged(error: Exception, is_so: bool) -> None:
    assert is_damage(error) is is_so


@pytest.mark.parametrize("floor", [1, 2, 3, 10**15])
def test_ids_of_a_new_file_begin_where_they_are_told_to(tmp_path: Path, floor: int) -> None:
    connection = open_writer(tmp_path / "relay.db", SETTINGS, floor=floor, vfs=None)
    last = fetch_value(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'rows'")
    connection.close()
    assert (last or 0) == floor - 1


def test_name_of_a_new_file_is_synced_and_that_of_a_finished_one_needs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    path = tmp_path / "relay.db"
    monkeypatch.setattr(schema, "sync_directory", synced.append)
    open_writer(path, SETTINGS, floor=1, vfs=None).close()
    assert synced == [tmp_path]
    connection = open_writer(path, SETTINGS, floor=1, vfs=None)
    wal = tmp_path / "relay.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0  # nothing was written
    connection.close()
    assert synced == [tmp_path]


def test_names_in_a_directory_are_synced_and_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    schema.sync_directory(tmp_path)
    assert seen == [tmp_path]
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208


@pytest.mark.parametrize("journal", [None, b""])
def test_newer_file_is_not_written_whatever_lies_beside_it(
    tmp_path: Path, journal: bytes | None
) -> None:
    path = tmp_path / "relay.db"
    open_writer(path, SETTINGS, floor=1, vfs=None).close()
    connection = connect(path, apsw.SQLITE_OPEN_READWRITE, None)
    connection.pragma("user_version", 99)
    connection.close()
    content = path.read_bytes()
    if journal is not None:
        (tmp_path / "relay.db-journal").write_bytes(journal)
    with pytest.raises(schema.NewerSchema, match="schema 99") as found:
        open_writer(path, SETTINGS, floor=1, vfs=None)
    assert found.value.version == 99
    assert path.read_bytes() == content


def test_wal_is_written_back_when_the_engine_says_so_alone(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        size = (tmp_path / "relay.db").stat().st_size
        append(file, noise(6 << 20))
        append(file, b"two")
        assert (tmp_path / "relay.db").stat().st_size == size


def test_reader_that_is_closed_last_leaves_the_wal(tmp_path: Path) -> None:
    with log_file(tmp_path, checkpoint=False) as file:
        append(file, b"one")
    wal = (tmp_path / "relay.db-wal").read_bytes()
    reader = schema.open_reader(tmp_path / "relay.db", vfs=None)
    assert fetch(reader, "SELECT id FROM rows") == [(1,)]
    reader.close()
    assert (tmp_path / "relay.db-wal").read_bytes() == wal


def test_connection_waits_a_while_for_others(tmp_path: Path) -> None:
    (tmp_path / "relay.db").touch()
    connection = connect(tmp_path / "relay.db", apsw.SQLITE_OPEN_READONLY, None)
    assert connection.pragma("busy_timeout") == 2000
    connection.close()


def test_statement_may_be_long_again_when_the_bound_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schema, "_MOST_STEPS", 1000)
    connection = apsw.Connection(":memory:")
    with pytest.raises(apsw.CorruptError, match="did not come to an end"), bounded(connection):
        fetch(connection, COUNT)
    assert fetch_value(connection, COUNT) == 5000


def test_transaction_that_raised_is_over_and_nothing_of_it_is_there() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t (a)")

    def fail() -> None:
        with schema.transaction(connection):
            connection.execute("INSERT INTO t VALUES (1)")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert not connection.in_transaction
    assert fetch_value(connection, "SELECT count(*) FROM t") == 0


@pytest.mark.parametrize(
    ("version", "is_refused"),
    [(0, False), (99, False), (-1, True), (1, True), (2, True), (3, True)],
)
def test_file_of_no_version_or_a_newer_one_is_for_others_to_judge(
    version: int, is_refused: bool
) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE theirs (a)")
    connection.pragma("user_version", version)
    if is_refused:
        with pytest.raises(apsw.CorruptError, match="its schema is not ours"):
            schema.refuse_foreign(connection)
    else:
        schema.refuse_foreign(connection)
