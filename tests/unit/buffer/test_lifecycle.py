"""The file while the relay runs: lost and opened again, damaged and replaced, removed under it."""

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
import structlog

from relay.buffer import owed_ranges
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import lifecycle as lifecycle_module
from relay.buffer.sqlite import open as open_module
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.commands import Corrupt
from relay.buffer.sqlite.lifecycle import Lifecycle
from relay.buffer.sqlite.types import Persisted, Totals
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable
from relay.model.records import Signal
from tests.support.faulty_vfs import Fault, FaultyVFS
from tests.unit.buffer.log_files import ALL, append, move, opened_when_set_aside, rows
from tests.unit.buffer.making import SETTINGS


def life_of(state_dir: Path, vfs: str | None = None) -> Lifecycle:
    """Of a buffer whose thread does not run."""
    return Buffer(state_dir, SETTINGS, Counters(), vfs=vfs)._writer.lifecycle


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Lifecycle]:
    """With a row that a and b are owed."""
    made = life_of(tmp_path)
    made.open()
    with made.writable() as file:
        move(file, "a", ALL)
        move(file, "b", ALL)
        append(file, b"one")
    yield made
    made.close(checkpoint=True)


def set_aside(state_dir: Path) -> list[str]:
    return sorted(path.name for path in state_dir.glob("relay.db.*"))


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was still open each time that a file was set aside."""
    return opened_when_set_aside(monkeypatch, tmp_path)


def fail(life: Lifecycle, error: Exception) -> str:
    """What is told of `error` in a transaction."""
    with pytest.raises(BufferUnavailable) as found, life.writable():
        raise error
    return found.value.message


# -- whether it is there ----------------------------------------------------------------------


class Now:
    """Stands for `time`."""

    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now


def test_file_that_is_not_there_is_missed_within_a_quarter_of_a_second(
    life: Lifecycle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Now(life._next_check)
    monkeypatch.setattr(lifecycle_module, "time", clock)
    file = life.usable()
    wal, hidden = tmp_path / "relay.db-wal", tmp_path / "hidden"
    wal.rename(hidden)
    clock.now += 0.125
    assert life.usable() is file
    clock.now += 0.125
    for _ in range(2):
        with pytest.raises(BufferUnavailable, match=r"^relay.db-wal was removed or replaced"):
            life.usable()
        wal.write_bytes(hidden.read_bytes())  # another one
    assert "removed" in life.last_error
    hidden.rename(wal)
    assert life.usable() is file


# -- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [apsw.CorruptError("hit"), apsw.NotADBError("hit"), apsw.SQLError("no such table: rows")],
)
def test_damaged_file_is_replaced_by_one_that_knows_what_was_in_memory(
    life: Lifecycle, tmp_path: Path, held: list[list[str]], error: Exception
) -> None:
    wal = (tmp_path / "relay.db-wal").read_bytes()
    acks = life._acks
    acks.update("a", owed_ranges.open_from(2), is_paused=True, settled=rows(1, 1), at_ns=1)
    acks.remove("b")
    acks.update("c", ALL, is_paused=False)

    assert fail(life, error) == "the buffer's file was found damaged and has just been replaced"
    file = life.usable()
    new = owed_ranges.open_from(file.last_row + 1)
    assert file.destinations == {"a": Persisted(new, True), "c": Persisted(new, False)}
    assert held == [[]]  # it was closed by then
    name, log = set_aside(tmp_path)
    assert log == f"{name}-wal"
    assert (tmp_path / log).read_bytes() == wal
    assert (life.last_error, life._ledger.generation) == ("", 1)
    assert life._ledger.last_row == life._ledger.last_rows[Signal.LOGS] == file.last_row > 1
    assert acks.deliveries("a") == []


def test_new_file_that_cannot_be_made_is_made_later(
    life: Lifecycle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise apsw.CantOpenError("no")

    with monkeypatch.context() as broken:
        broken.setattr(lifecycle_module, "open_file", refuse)
        fail(life, apsw.CorruptError("hit"))
        assert "CantOpenError: no" in life.last_error
        with pytest.raises(BufferUnavailable, match="the buffer cannot be opened: CantOpenError"):
            life.usable()
    assert set_aside(tmp_path) == []
    assert life.usable().destinations.keys() == {"a", "b"}
    assert len(set_aside(tmp_path)) == 2


def test_disk_that_fails_is_told_once_and_the_file_opened_again(
    life: Lifecycle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(life._backlogs, "on_rows", lambda *told: seen.append(told))
    with structlog.testing.capture_logs() as events:
        for _ in range(3):
            before = life.usable()
            words = fail(life, apsw.IOError("no"))
            assert words.startswith("the buffer cannot write: the disk fails")
            assert life.file is None
            with pytest.raises(apsw.ConnectionClosedError):
                before.connection.execute("SELECT 1")
        with life.writable():
            assert life.last_error
        assert life.last_error == ""
    assert [each["event"] for each in events] == ["buffer_disk_error", "buffer_disk_recovered"]
    assert seen == []
    assert not life.is_full
    assert set_aside(tmp_path) == []


def test_disk_that_fails_in_another_way_is_told_in_its_words(
    life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise apsw.CantOpenError("no")

    fail(life, apsw.IOError("no"))
    monkeypatch.setattr(lifecycle_module, "open_file", refuse)
    with pytest.raises(BufferUnavailable, match="the buffer cannot be opened: CantOpenError"):
        life.usable()
    assert life.last_error.startswith("CantOpenError")


def test_wal_is_left_alone_when_the_disk_failed(life: Lifecycle, tmp_path: Path) -> None:
    wal = (tmp_path / "relay.db-wal").read_bytes()
    fail(life, apsw.IOError("no"))
    assert (tmp_path / "relay.db-wal").read_bytes() == wal


def test_commit_that_was_refused_and_is_there_after_all_is_counted(
    life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(life._backlogs, "on_rows", lambda *told: seen.append(told))

    def commit() -> None:
        with life.writable() as file:
            append(file, b"two!")
            raise apsw.IOError("its sync failed")

    with pytest.raises(BufferUnavailable):
        commit()
    life.usable()
    assert seen == [(2, {Signal.TRACES: Totals(1, 1, 4)})]


def test_full_disk_leaves_the_file_open_and_says_what_is_full(tmp_path: Path) -> None:
    class Quota(FaultyVFS):
        def xGetLastError(self) -> tuple[int, str]:  # noqa: N802 - SQLite's name
            return errno.EDQUOT, "quota"

    disk = Quota("quota-in-use")
    life = life_of(tmp_path, "quota-in-use")
    life.open()
    disk.faults = (Fault("write", disk.counts["write"] + 1),)
    with pytest.raises(BufferUnavailable, match="the quota on the file system is used up"):
        with life.writable() as file:
            append(file, b"one")
    assert (life.file, life.is_full, life.limit[:9]) == (file, True, "the quota")
    assert life.full().message.startswith("the buffer is full: the quota")
    life.close(checkpoint=False)
    disk.unregister()


def test_error_of_our_own_is_nobody_elses(life: Lifecycle, tmp_path: Path) -> None:
    with pytest.raises(apsw.SQLError, match="syntax"), life.writable():
        raise apsw.SQLError("near SELEC: syntax error")
    assert (life.last_error, set_aside(tmp_path)) == ("", [])


def test_it_is_told_when_it_becomes_full_and_when_no_more(
    life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life._house.space, "limit", lambda: "max_size is reached")
    with structlog.testing.capture_logs() as events:
        for is_full in (False, True, True, False):
            life.note_full(is_full=is_full)
            assert life.is_full is is_full
            assert life.limit == ("max_size is reached" if is_full else "")
    assert [each["event"] for each in events] == ["buffer_full", "buffer_has_room"]
    assert "max_size" not in life.full().message


# -- damage that a reader met -----------------------------------------------------------------


class Waiter:
    def __init__(self) -> None:
        self.is_done = False

    def done(self) -> bool:
        return self.is_done

    def set_result(self, _result: object) -> None:
        self.is_done = True


@pytest.mark.parametrize(
    ("generation", "gaps", "is_replaced"),
    [
        (0, (), True),
        (1, (), False),  # of a file that was replaced already
        (0, rows(2, 2), True),
        (0, rows(3, 3), False),  # it went in order
    ],
)
def test_damage_that_a_reader_met_replaces_the_file_unless_that_is_no_damage(
    life: Lifecycle, tmp_path: Path, generation: int, gaps: owed_ranges.Ranges, is_replaced: bool
) -> None:
    with life.writable() as file:
        for body in (b"two", b"three"):
            append(file, body)
        file.connection.execute("DELETE FROM rows WHERE id = 3")
        file.gone += Totals(rows=1)
        move(file, "a", rows(1, 1))
        move(file, "b", rows(1, 1))
    life._acks.update("a", rows(1, 3), is_paused=False)  # replayed, and not on disk yet
    life._acks.remove("b")
    waiter: Any = Waiter()
    life.replace_reported(Corrupt(generation, "a page", waiter, gaps))
    assert waiter.is_done
    assert bool(set_aside(tmp_path)) is is_replaced


def test_settings_hold_for_the_file_that_is_open(life: Lifecycle) -> None:
    wanted: BufferSettings = replace(SETTINGS, dead_letter_seconds=1)
    life.reload(wanted)
    assert life.usable().letters.settings is wanted
    fail(life, apsw.IOError("no"))
    again = replace(SETTINGS, dead_letter_seconds=2)
    life.reload(again)
    assert life.usable().letters.settings is again


# -- the beginning and the end ----------------------------------------------------------------


@pytest.mark.parametrize("has_helped", [True, False])
def test_full_disk_at_the_start_is_tried_again_when_the_reserve_was_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_helped: bool
) -> None:
    life = life_of(tmp_path)
    open_file, errors = open_module.open_file, [apsw.FullError("no")]

    def refuse_once(*arguments: Any, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return open_file(*arguments, **options)

    monkeypatch.setattr(lifecycle_module, "open_file", refuse_once)
    monkeypatch.setattr(life._house, "open_on_full_disk", lambda: has_helped)
    if has_helped:
        life.open()
        life.close(checkpoint=True)
    else:
        with pytest.raises(apsw.FullError):
            life.open()


@pytest.mark.parametrize("error", [apsw.CorruptError("hit"), ValueError("odd"), KeyError("ours")])
def test_damage_that_is_met_behind_opening_sets_the_file_aside(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: list[list[str]],
    error: Exception,
) -> None:
    first = life_of(tmp_path)
    first.open()
    with first.writable() as file:
        move(file, "a", ALL)
    first.close(checkpoint=True)
    life = life_of(tmp_path)
    look, errors = life._house.look, [error]

    def fail_once(file: Any) -> None:
        if errors:
            raise errors.pop()
        look(file)

    monkeypatch.setattr(life._house, "look", fail_once)
    if isinstance(error, KeyError):
        with pytest.raises(KeyError):
            life.open()
        assert set_aside(tmp_path) == []
    else:
        loaded = life.open()
        assert loaded.last_row == life.usable().last_row > 1
        assert list(loaded.destinations) == ["a"]
        assert len(set_aside(tmp_path)) == 1
        assert held == [[]]  # it was closed by then
        assert life._ledger.generation == 0  # nobody has seen another
        assert life._known_row == loaded.last_row
    life.close(checkpoint=True)


@pytest.mark.parametrize(
    ("checkpoint", "trouble", "is_cut"),
    [(True, "", True), (False, "", False), (True, "the disk fails", False)],
)
def test_wal_is_written_back_at_the_end_where_the_disk_is_well(
    tmp_path: Path, checkpoint: bool, trouble: str, is_cut: bool
) -> None:
    life = life_of(tmp_path)
    life.close(checkpoint=True)  # nothing is open
    life.open()
    file = life.usable()
    append(file, b"one")
    life.last_error = trouble
    life.close(checkpoint=checkpoint)
    wal = tmp_path / "relay.db-wal"
    assert (not wal.exists() or wal.stat().st_size == 0) is is_cut
    with pytest.raises(apsw.ConnectionClosedError):
        file.connection.execute("SELECT 1")
