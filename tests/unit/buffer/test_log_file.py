"""The engine's file alone: what was delivered, transactions that fail, missing rows, the WAL."""

import errno
from pathlib import Path
from typing import Any

import apsw
import pytest

from relay.buffer import owed_ranges
from relay.buffer.sqlite import high_water, schema
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.pending_acks import PendingAck
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.types import EVICTED_STATUS, Persisted, Totals
from relay.model.records import Signal
from tests.support.faulty_vfs import Fault, FaultyVFS
from tests.unit.buffer.log_files import ALL, append, group_of, log_file, move, rows
from tests.unit.buffer.making import NOW_NS, a_letter, piece

SECOND = 10**9


# -- what was delivered -----------------------------------------------------------------------


def deliver(file: LogFile, name: str, first: int, last: int, *, after_ns: int = 0) -> None:
    ack = PendingAck(owed_ranges.open_from(last + 1))
    ack.settled(rows(first, last), at_ns=NOW_NS + after_ns, status=200)
    file.commit(Group(), {name: ack}, now_ns=NOW_NS)


def deliveries(file: LogFile) -> list[tuple[Any, ...]]:
    """Whose, first and last row, and how long after the first."""
    return schema.fetch(
        file.connection,
        "SELECT destination, start_row, end_row - 1, at_ns - ? FROM deliveries ORDER BY id",
        (NOW_NS,),
    )


def test_deliveries_that_touch_within_a_second_are_one_entry(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        deliver(file, "a", 1, 1)
        deliver(file, "b", 1, 1)
        deliver(file, "a", 2, 3, after_ns=5)
        deliver(file, "a", 4, 4, after_ns=SECOND - 1)
        deliver(file, "a", 5, 5, after_ns=SECOND)

        assert deliveries(file) == [
            ("a", 1, 4, SECOND - 1),
            ("b", 1, 1, 0),
            ("a", 5, 5, SECOND),
        ]


def test_rows_that_are_evicted_one_after_the_other_are_one_entry(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        for row in (1, 2, 3):
            file.settle("a", rows(row, row), at_ns=NOW_NS, status=EVICTED_STATUS)

        assert deliveries(file) == [("a", 1, 3, 0)]


def test_entry_that_has_gone_is_not_continued_in_that_of_another(tmp_path: Path) -> None:
    """SQLite gives the highest id again when its row has gone."""
    with log_file(tmp_path) as file:
        deliver(file, "a", 1, 1)
        file.connection.execute("DELETE FROM deliveries")  # as retention does
        deliver(file, "b", 1, 1)
        deliver(file, "a", 2, 2)

        assert deliveries(file) == [("b", 1, 1, 0), ("a", 2, 2, 0)]


def test_destination_that_is_removed_and_comes_again_has_been_delivered_nothing(
    tmp_path: Path,
) -> None:
    with log_file(tmp_path) as file:
        deliver(file, "a", 1, 1)
        deliver(file, "b", 1, 1)
        file.commit(Group(), {"b": PendingAck(is_removed=True, is_present=False)}, now_ns=NOW_NS)
        assert deliveries(file) == [("a", 1, 1, 0)]
        deliver(file, "b", 2, 2)
        assert deliveries(file) == [("a", 1, 1, 0), ("b", 2, 2, 0)]


# -- whom rows are owed to --------------------------------------------------------------------


def test_rows_that_nobody_asks_for_are_owed_to_nobody_who_is_not_paused(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        append(file, b"one", signal=Signal.LOGS)
        assert file.destinations == {":logs": Persisted(ALL, is_paused=False)}


def test_rows_that_come_again_are_owed_to_no_other_of_their_signal(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        for name in ("a", "a:logs", "b"):
            move(file, name, ALL)
        file.work(lambda it: it.readmit(group_of(it, piece()), frozenset({"a"}), now_ns=NOW_NS))

        owed = {name: found.ranges for name, found in file.destinations.items()}
        assert owed == {"a": ALL, "a:logs": ALL, "b": owed_ranges.open_from(2)}


def test_newest_row_of_a_signal_is_known_over_a_restart(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        append(file, b"one")
        append(file, b"two", signal=Signal.LOGS)
    with log_file(tmp_path) as file:
        assert file.loaded().last_rows == {Signal.TRACES: 1, Signal.LOGS: 2, Signal.METRICS: 0}


def test_counts_that_outlive_the_file_are_those_that_speak_of_no_row_in_it(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        for name, value in (("evicted:a", 7), ("evicted:b", 0), ("history_bytes", 9)):
            file.add_counter(name, value)
        assert file.ledger().counts == {"evicted:a": 7}


# -- transactions that fail -------------------------------------------------------------------


def test_commit_that_failed_leaves_nothing_behind_and_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_directory: Path) -> None:
        raise OSError(errno.EIO, "the disk fails")

    with log_file(tmp_path) as file:
        with monkeypatch.context() as broken:
            broken.setattr(high_water, "sync_directory", refuse)
            ack = PendingAck(ALL, letters=[a_letter(b"")])
            with pytest.raises(OSError, match="the disk fails"):
                file.commit(Group(), {"a": ack}, now_ns=NOW_NS)
        assert (file.destinations, file.letters.counts) == ({}, {})
        move(file, "a", ALL)
        assert list(file.destinations) == ["a"]


def test_commit_of_nothing_tells_whether_the_disk_takes_writes(tmp_path: Path) -> None:
    disk = FaultyVFS("probed")
    with log_file(tmp_path, vfs="probed") as file:
        move(file, "a", ALL)
        disk.faults = (Fault("write", disk.counts["write"] + 1, error="full"),)
        with pytest.raises(apsw.FullError):
            file.commit(Group(), {}, now_ns=NOW_NS)
        file.commit(Group(), {}, now_ns=NOW_NS)
    disk.unregister()


# -- rows that are missing --------------------------------------------------------------------


def five_rows(file: LogFile) -> None:
    move(file, "a", ALL)
    for number in range(5):
        append(file, b"%d" % number)


def delete(file: LogFile, first: int, last: int) -> None:
    file.connection.execute("DELETE FROM rows WHERE id BETWEEN ? AND ?", (first, last))


@pytest.mark.parametrize(
    ("gone", "met", "is_lost"),
    [
        ((1, 2), (1, 2), False),
        ((3, 3), (3, 3), False),
        ((4, 5), (4, 5), False),
        ((5, 5), (5, 5), False),
        ((3, 3), (2, 2), True),  # it is there, where a walk over all finds it
        ((3, 3), (4, 4), True),
        ((4, 5), (3, 3), True),
        ((3, 3), (2, 3), True),
    ],
)
def test_hole_that_a_reader_met_is_damage_where_rows_did_not_go_in_order(
    tmp_path: Path, gone: tuple[int, int], met: tuple[int, int], is_lost: bool
) -> None:
    with log_file(tmp_path) as file:
        five_rows(file)
        delete(file, *gone)
        file.gone += Totals(rows=gone[1] - gone[0] + 1)
        assert [file.has_lost(rows(*met)) for _ in range(2)] == [is_lost] * 2


def test_row_that_is_missing_is_lost_to_whom_it_is_owed(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        five_rows(file)
        delete(file, 3, 3)
        assert file.has_lost(rows(3, 3))
        move(file, "a", rows(4, 5))
        assert not file.has_lost(rows(3, 3))
        assert file.has_lost(rows(3, 3), waiting=[rows(2, 3)])


def test_row_that_came_after_a_look_at_all_can_be_lost(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        five_rows(file)
        delete(file, 5, 5)
        file.gone += Totals(rows=1)
        assert not file.has_lost(rows(5, 5))
        append(file, b"six")
        delete(file, 6, 6)
        assert file.has_lost(rows(6, 6))


# -- the WAL ----------------------------------------------------------------------------------


class Watched:
    """A connection that notes how long each of its checkpoints would wait for others."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.waits: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def wal_checkpoint(self, **options: Any) -> Any:
        self.waits.append(self._connection.pragma("busy_timeout"))
        return self._connection.wal_checkpoint(**options)


def test_wal_is_cut_where_no_reader_needs_it_and_none_is_waited_for(tmp_path: Path) -> None:
    wal = tmp_path / "relay.db-wal"
    with log_file(tmp_path) as file:
        append(file, b"one")
        usual = file.connection.pragma("busy_timeout")
        reader = schema.open_reader(tmp_path / "relay.db", vfs=None)
        with reader:
            schema.fetch(reader, "SELECT id FROM rows")
            append(file, b"two")
            watched: Any = Watched(file.connection)
            file.connection = watched
            assert not file.cut_wal()
            assert wal.stat().st_size > 0
        assert file.cut_wal()
        reader.close()

        assert watched.waits == [0, 0]
        assert watched.pragma("busy_timeout") == usual
        assert wal.stat().st_size == 0


@pytest.mark.parametrize("checkpoint", [True, False])
def test_wal_is_written_back_at_the_end_only_if_asked_for(tmp_path: Path, checkpoint: bool) -> None:
    """On a disk that failed, nothing more is written."""
    with log_file(tmp_path, checkpoint=checkpoint) as file:
        append(file, b"one")
        bystander = schema.open_reader(tmp_path / "relay.db", vfs=None)
        schema.fetch(bystander, "SELECT id FROM rows")
    assert ((tmp_path / "relay.db-wal").stat().st_size > 0) is not checkpoint
    with pytest.raises(apsw.ConnectionClosedError):
        file.connection.execute("SELECT 1")
    bystander.close()
