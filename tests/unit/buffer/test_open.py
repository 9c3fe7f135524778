"""Opening, whatever lies in the state directory: what is set aside, and what is known of it."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from relay.buffer import owed_ranges
from relay.buffer.sqlite import schema
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.disk_errors import words_for
from relay.buffer.sqlite.high_water import FILE_NAME
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.open import InheritedState, open_file
from relay.buffer.sqlite.pending_acks import PendingAck
from relay.buffer.sqlite.quarantine import SalvageState, decode_state, quarantined_files
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.types import Persisted
from relay.buffer.values import DeadLetterFilter
from relay.model.counters import Counters
from relay.model.records import DeadLetter
from relay.salvage.salvage import Salvage
from tests.support.faulty_vfs import Fault, FaultyVFS
from tests.unit.buffer.log_files import (
    ALL,
    append,
    crash,
    hit,
    log_file,
    move,
    opened_when_set_aside,
    rows,
    still_open,
)
from tests.unit.buffer.making import NOW_NS, SETTINGS, opened, take_all

JUMP = 1 << 20  # ids that are left out behind a WAL that was hit


def noted(file: LogFile) -> dict[str, SalvageState]:
    """What is to be read back, by its file's name."""
    found = schema.fetch(file.connection, "SELECT file, state FROM salvages")
    return {name: decode_state(state) for name, state in found}


def set_aside(state_dir: Path) -> list[str]:
    return sorted(path.name for path in state_dir.glob("relay.db.*"))


async def letters_in(state_dir: Path) -> list[DeadLetter]:
    async with opened(state_dir) as buffer:
        page = await buffer.dead_letters.oldest_first(DeadLetterFilter(), 0)
        return [each.letter for each in page.entries]


# -- what takes the place of a file -----------------------------------------------------------


def test_damaged_file_leaves_whom_it_owed_their_pauses_and_counts(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        file.commit(Group(), {"b": PendingAck(ALL, is_paused=True)}, now_ns=NOW_NS)
        append(file, b"one")
        file.add_counter("evicted:a", 7)
    hit(tmp_path)
    with log_file(tmp_path) as file:
        new = owed_ranges.open_from(file.last_row + 1)
        assert file.destinations == {"a": Persisted(new, False), "b": Persisted(new, True)}
        assert file.ledger().counts == {"evicted:a": 7}
        ((name, state),) = noted(file).items()
        assert state.ranges() == {"a": ALL, "b": ALL}
        assert (state.last_row, state.total_rows, state.is_guess) == (1, 1, False)
        assert [path.name for path in quarantined_files(tmp_path)] == [name]


def test_file_of_which_nothing_is_known_is_noted_so(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        append(file, b"one")
    hit(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    with log_file(tmp_path) as file:
        assert list(noted(file).values()) == [SalvageState({}, is_guess=True)]
        assert file.destinations == {}


def test_directory_in_the_place_of_the_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "relay.db").mkdir()
    with log_file(tmp_path) as file:
        append(file, b"one")
        assert len(set_aside(tmp_path)) == 1


def test_file_that_was_removed_is_noted_and_its_ids_go_on(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        file.commit(Group(), {"a": PendingAck(ALL, is_paused=True)}, now_ns=NOW_NS)
        append(file, b"one")
    (tmp_path / "relay.db").unlink()
    with log_file(tmp_path) as file:
        (state,) = noted(file).values()
        assert (state.ranges(), state.last_row, state.total_rows) == ({"a": ALL}, 1, 1)
        assert file.last_row == 1
        assert file.destinations == {"a": Persisted(owed_ranges.open_from(2), is_paused=True)}


def test_kill_between_a_file_and_the_next_leaves_the_sidecar_to_the_first(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        append(file, b"one")
        file.add_counter("evicted:a", 7)
    name = "relay.db.corrupt-20260101T000000Z"
    (tmp_path / "relay.db").rename(tmp_path / name)
    with log_file(tmp_path) as file:
        found = {name: (each.ranges(), each.last_row) for name, each in noted(file).items()}
        assert found == {name: ({"a": ALL}, 1)}
        assert list(file.destinations) == ["a"]
        assert file.ledger().counts == {"evicted:a": 7}


def test_ids_go_on_where_the_sidecar_says_although_the_clock_was_set_back(tmp_path: Path) -> None:
    later = time.time_ns() // 10**9 + 86_400
    with log_file(tmp_path) as file:
        append(file, b"one")
    hit(tmp_path)
    os.utime(tmp_path / "relay.db", (later, later))
    with log_file(tmp_path) as file:
        append(file, b"two")
        last_row = file.last_row
    hit(tmp_path)
    for path in tmp_path.glob("relay.db*"):
        os.utime(path, (0, 0))
    with log_file(tmp_path) as file:
        assert file.last_row == last_row


def test_file_that_was_put_here_behind_one_that_is_known_is_noted(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        append(file, b"one")
    hit(tmp_path)
    with log_file(tmp_path) as file:
        before = noted(file)
    later = "relay.db.corrupt-99991231T235959Z"
    (tmp_path / later).write_bytes(b"somebody put it here")
    with log_file(tmp_path) as file:
        assert noted(file) == {**before, later: SalvageState({}, is_guess=True)}


# -- what cannot be opened --------------------------------------------------------------------


@pytest.mark.parametrize("failures", [2, 3])
def test_two_files_in_a_row_are_set_aside_and_not_a_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    open_writer, left = schema.open_writer, [apsw.CorruptError("hit")] * failures

    def refuse(path: Path, *arguments: Any, **options: Any) -> apsw.Connection:
        if left:
            path.write_bytes(b"hit")
            raise left.pop()
        return open_writer(path, *arguments, **options)

    monkeypatch.setattr(schema, "open_writer", refuse)
    if failures > 2:
        with pytest.raises(apsw.CorruptError), log_file(tmp_path):
            pass
    else:
        with log_file(tmp_path) as file:
            append(file, b"one")
    assert len(set_aside(tmp_path)) == 2


def test_file_is_set_aside_once_although_the_next_cannot_be_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_file(tmp_path) as file:
        append(file, b"one")
    held, left = StateDirectory(tmp_path), InheritedState(is_unusable=True)
    with monkeypatch.context() as broken:
        broken.setattr(StateDirectory, "fill_shared_memory", refuse_space)
        with pytest.raises(OSError, match="no space"):
            open_file(held, SETTINGS, vfs=None, inherited=left)
    file, _ = open_file(held, SETTINGS, vfs=None, inherited=left)
    assert [*noted(file)] == set_aside(tmp_path)
    assert held.quarantines == 1
    file.close(checkpoint=True)


def refuse_space(_state_dir: StateDirectory) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


def test_file_that_cannot_be_opened_now_is_closed_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StateDirectory, "fill_shared_memory", refuse_space)
    with pytest.raises(OSError, match="no space") as found, log_file(tmp_path):
        pass
    assert found.value.errno == errno.ENOSPC
    assert still_open(tmp_path) == []
    assert set_aside(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    ["PRAGMA user_version = 99", "CREATE TABLE more (a)", "DELETE FROM signal_runs", "", "torn"],
)
def test_file_is_closed_before_it_is_set_aside_with_its_wal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Whole: what stands in the WAL alone is neither written back nor lost."""
    running, state_dir = tmp_path / "running", tmp_path / "state"
    with log_file(running) as file:
        move(file, "a", ALL)
        append(file, b"one")
        if damage and damage != "torn":
            file.connection.execute(damage)
        crash(running, state_dir)
    if damage == "torn":
        spoil(state_dir, 40)  # in the first frame: the database alone is of before
    elif not damage:
        hit(state_dir)
    wal = (state_dir / "relay.db-wal").read_bytes()
    held = opened_when_set_aside(monkeypatch, state_dir)
    with log_file(state_dir):
        assert held == [[]]
        ((_, name),) = [set_aside(state_dir)]
        assert (state_dir / name).read_bytes() == wal


def spoil(state_dir: Path, at: int) -> None:
    """Let a bit of the WAL be wrong there."""
    wal = bytearray((state_dir / "relay.db-wal").read_bytes())
    wal[at] ^= 1
    (state_dir / "relay.db-wal").write_bytes(wal)


def test_quota_is_told_by_what_met_it_when_the_file_is_closed_again(tmp_path: Path) -> None:
    class Quota(FaultyVFS):
        def xGetLastError(self) -> tuple[int, str]:  # noqa: N802 - SQLite's name
            return errno.EDQUOT, "quota"

    left = tmp_path / "left"
    with log_file(tmp_path / "state") as file:
        append(file, b"one")
        crash(tmp_path / "state", left)
    disk = Quota("quota", faults=[Fault("write", 1, times=1 << 30)])
    with pytest.raises(apsw.IOError) as found, log_file(left, vfs="quota"):
        pass
    assert words_for(found.value).startswith("the quota on the file system is used up")
    assert set_aside(left) == []
    disk.unregister()


def test_shared_memory_of_the_wal_has_its_blocks(tmp_path: Path) -> None:
    with log_file(tmp_path):
        found = (tmp_path / "relay.db-shm").stat()
        assert found.st_size == 256 * 1024
        assert found.st_blocks * 512 >= found.st_size


# -- rows that the file does not have any more ------------------------------------------------


@pytest.mark.anyio
async def test_rows_that_were_lost_with_the_end_of_the_wal_are_named_to_whom_they_were_owed(
    tmp_path: Path,
) -> None:
    with log_file(tmp_path / "state") as file:
        move(file, "a", ALL)
        move(file, "b", rows(1, 1))
        append(file, b"one")
        wal = (tmp_path / "state/relay.db-wal").read_bytes()
        append(file, b"two")
        append(file, b"three")
        lost = crash(tmp_path / "state", tmp_path / "lost")
    (lost / "relay.db-wal").write_bytes(wal)
    with log_file(lost) as file:
        assert set_aside(lost) == []
        assert (file.last_row, file.totals.rows, file.kept.rows) == (3, 3, 1)
        owed = {name: each.ranges for name, each in file.destinations.items()}
        assert owed == {"a": (*rows(1, 1), *owed_ranges.open_from(4)), "b": rows(1, 1)}
        append(file, b"four")
        assert file.last_row == 4
    (letter,) = await letters_in(lost)
    assert (letter.destination, letter.row, letter.items, letter.affected) == ("a", 2, 0, 2)


def test_newest_row_that_is_missing_although_its_id_is_known_is_missed(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        for body in (b"one", b"two", b"three"):
            append(file, body)
        file.connection.execute("DELETE FROM rows WHERE id = 3")
    with log_file(tmp_path) as file:
        assert (file.last_row, file.totals.rows) == (3, 3)
        assert file.has_lost(rows(3, 3))


def test_ids_that_were_left_out_stay_so_and_no_row_is_missed_there(tmp_path: Path) -> None:
    with log_file(tmp_path, checkpoint=False) as file:
        owe_and_append(file)
        file._high_water.write(7, file.totals, file.destinations)
    with log_file(tmp_path) as file:
        assert (file.last_row, file.letters.counts) == (7, {})
        assert file.destinations["a"].ranges == ALL


def test_ledger_that_is_behind_the_file_owes_nothing_again(tmp_path: Path) -> None:
    with log_file(tmp_path / "state") as file:
        move(file, "a", ALL)
        append(file, b"one")
        move(file, "a", owed_ranges.open_from(2))
        left = crash(tmp_path / "state", tmp_path / "left")
    with log_file(left) as file:
        assert file.destinations["a"].ranges == owed_ranges.open_from(2)


# -- a WAL that was hit -----------------------------------------------------------------------


def torn(tmp_path: Path, first: Callable[[LogFile], None], then: Callable[[LogFile], None]) -> Path:
    """A directory whose WAL has what `first` did, and is hit where `then` begins."""
    with log_file(tmp_path / "state") as file:
        first(file)
        end = (tmp_path / "state/relay.db-wal").stat().st_size
        then(file)
        state_dir = crash(tmp_path / "state", tmp_path / "torn")
    spoil(state_dir, end + 30)
    return state_dir


def owe_and_append(file: LogFile) -> None:
    move(file, "a", ALL)
    append(file, b"one")


def append_two(file: LogFile) -> None:
    append(file, b"two")
    append(file, b"three")


def test_what_stands_behind_the_damage_is_owed_when_it_comes_again(tmp_path: Path) -> None:
    state_dir = torn(tmp_path, owe_and_append, append_two)
    with log_file(state_dir) as file:
        ((name, state),) = noted(file).items()
        assert set_aside(state_dir) == [f"{name}-wal"]
        assert state.ranges() == {"a": owed_ranges.open_from(2)}
        assert (state.last_row, state.total_rows, state.is_guess) == (3, 3, False)
        assert file.last_row == 3 + JUMP
        owed = file.destinations["a"].ranges
        assert owed == (*rows(1, 1), *owed_ranges.open_from(file.last_row + 1))


def test_wal_that_is_hit_where_it_begins_is_set_aside_with_its_file(tmp_path: Path) -> None:
    """The file alone is as old as when the WAL was last written back."""
    with log_file(tmp_path / "state") as file:
        owe_and_append(file)
        file.write_back()
        append_two(file)
        state_dir = crash(tmp_path / "state", tmp_path / "torn")
    spoil(state_dir, 40)
    with log_file(state_dir) as file:
        ((name, state),) = noted(file).items()
        assert set_aside(state_dir) == [name, f"{name}-wal"]
        assert (state.ranges(), state.last_row) == ({"a": ALL}, 3)


def test_without_a_sidecar_it_is_not_known_where_a_wal_that_was_hit_ended(tmp_path: Path) -> None:
    state_dir = torn(tmp_path, owe_and_append, append_two)
    (state_dir / FILE_NAME).unlink()
    with log_file(state_dir) as file:
        (state,) = noted(file).values()
        assert (state.last_row, state.total_rows, state.is_guess) == (0, 0, True)
        assert file.last_row == 1 + JUMP


@pytest.mark.anyio
async def test_wal_is_read_back_with_its_file_where_destinations_were_lost_with_it(
    tmp_path: Path,
) -> None:
    def then(file: LogFile) -> None:
        move(file, "a", ALL)
        append(file, b"two")

    state_dir = torn(tmp_path, lambda file: append(file, b"one"), then)
    async with opened(state_dir) as buffer:
        database, wal = set_aside(state_dir)
        assert wal == f"{database}-wal"
        await Salvage(buffer, Counters()).read_back()
        assert await take_all(buffer.consumer("a")) == [b"one", b"two"]
