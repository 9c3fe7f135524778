"""The sidecar: a line that older versions read, and a ledger that owes what the file owes."""

import errno
import os
import time
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import high_water
from relay.buffer.sqlite.high_water import (
    FILE_NAME,
    LINE_BYTES,
    HighWater,
    HighWaterFile,
    LedgerCopy,
)
from relay.buffer.sqlite.housekeeping import Housekeeping
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.pending_acks import PendingAck
from relay.buffer.sqlite.quarantine import decode_state
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.schema import fetch
from relay.buffer.sqlite.types import Persisted, Totals
from relay.model.records import OwedRange, Position
from tests.unit.buffer.log_files import ALL, append, crash, hit, log_file, move, rows
from tests.unit.buffer.making import (
    NOW_NS,
    change_ledger,
    eventually,
    noise,
    opened,
    own_copy,
    piece,
    request,
    take,
)


def ledger_of(state_dir: Path) -> dict[str, Ranges]:
    found = high_water.read(state_dir)
    assert found is not None
    assert found.ledger is not None
    return {name: each.ranges for name, each in found.ledger.destinations.items()}


def noted(state_dir: Path) -> dict[str, Ranges] | None:
    """Whom a damaged file owed what, by the note that its successor begins with; None: a guess."""
    with log_file(state_dir) as file:
        ((stored,),) = fetch(file.connection, "SELECT state FROM salvages")
        state = decode_state(stored)
        return None if state.is_guess else state.ranges()


def test_it_reads_what_it_wrote(tmp_path: Path) -> None:
    database = tmp_path / "relay.db"
    database.touch()
    ledger = LedgerCopy(
        {"a": Persisted(rows(3, 9), is_paused=True), "ü": Persisted((), is_paused=False)},
        {"evicted:a": 7},
        {"relay.db.corrupt-20260101T000000Z": b"state"},
        database.stat().st_ino,
    )
    file = HighWaterFile(tmp_path)
    file.begin(database, 9, Totals(9, 90, 900), ledger)
    file.close()

    found = high_water.read(tmp_path)
    assert found == HighWater(9, Totals(9, 90, 900), 2, found.names if found else 0, ledger)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("last-row*")] == [FILE_NAME]


def test_a_line_of_the_version_before_is_read(tmp_path: Path) -> None:
    line = "12 12 30 4711 1 3904355907"
    line = f"{zlib.crc32(line.encode()):08x} {line}".ljust(120) + "\n"
    (tmp_path / FILE_NAME).write_text(line)
    found = high_water.read(tmp_path)

    assert found == HighWater(12, Totals(12, 30, 4711), 1, 3904355907, None)


def test_the_version_before_reads_the_line(tmp_path: Path) -> None:
    """As it did: 121 bytes, a checksum and six numbers."""
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        append(file, b"one", b"two")
    line = (tmp_path / FILE_NAME).read_bytes()[:121].decode("ascii")

    assert line.endswith("\n")
    assert len(line.strip().split(" ")) == 7
    assert int(line.split(" ")[1]) == 1  # two requests, one row


def test_a_ledger_that_another_version_did_not_keep_does_not_count(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        append(file, b"one")
    before = (tmp_path / FILE_NAME).read_bytes()
    with log_file(tmp_path) as file:
        append(file, b"two")
    line = (tmp_path / FILE_NAME).read_bytes()[:LINE_BYTES]
    (tmp_path / FILE_NAME).write_bytes(line + before[LINE_BYTES:])
    found = high_water.read(tmp_path)

    assert found is not None
    assert found.row == 2
    assert found.ledger is None


def test_a_version_before_that_writes_the_same_line_invalidates_the_ledger(tmp_path: Path) -> None:
    """It may have replayed or paused without a row being added: the ledger knows nothing of it."""
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        append(file, b"one")
    path = tmp_path / FILE_NAME
    _, *numbers = path.read_bytes()[:LINE_BYTES].decode().split()
    text = " ".join(str(int(number)) for number in numbers)
    line = f"{zlib.crc32(text.encode()):08x} {text}".ljust(LINE_BYTES - 1) + "\n"
    path.write_bytes(line.encode() + path.read_bytes()[LINE_BYTES:])
    found = high_water.read(tmp_path)

    assert found is not None
    assert (found.row, found.misses(["a"]), found.misses(["b"])) == (1, False, True)
    assert found.ledger is None


def test_no_byte_of_it_can_be_wrong_unnoticed(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        append(file, b"one")
    whole = (tmp_path / FILE_NAME).read_bytes()
    right = high_water.read(tmp_path)
    assert right is not None
    assert right.ledger is not None
    for at in range(len(whole)):
        for wrong in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            (tmp_path / FILE_NAME).write_bytes(wrong)
            found = high_water.read(tmp_path)
            assert found in (None, replace(right, ledger=None)), at


def test_a_ledger_of_a_later_version_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(high_water, "_VERSION", 2)
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
    monkeypatch.undo()
    found = high_water.read(tmp_path)

    assert found is not None
    assert found.ledger is None


def test_a_damaged_file_is_owed_by_its_ledger(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        move(file, "b", rows(2, 3))
    hit(tmp_path)

    assert noted(tmp_path) == {"a": ALL, "b": rows(2, 3)}


@pytest.mark.parametrize("sidecar", ["missing", "torn", "line alone", "of another file"])
def test_without_a_good_ledger_everything_is_owed_to_everybody(
    tmp_path: Path, sidecar: str
) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", rows(2, 3))
    path = tmp_path / FILE_NAME
    if sidecar == "missing":
        path.unlink()
    elif sidecar == "of another file":
        change_ledger(tmp_path, lambda ledger: replace(ledger, inode=ledger.inode + 1))
    else:
        path.write_bytes(path.read_bytes()[: -1 if sidecar == "torn" else LINE_BYTES])
    hit(tmp_path)

    assert noted(tmp_path) is None


@pytest.fixture
def crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Kills right after the sidecar of `state` was written, before the table is committed."""
    found: list[Path] = []
    promise = HighWaterFile.promise

    def then_die(file: HighWaterFile, destinations: dict[str, Persisted]) -> None:
        promise(file, destinations)
        if file._directory == tmp_path / "state":
            found.append(crash(tmp_path / "state", tmp_path / f"crash-{len(found)}"))

    monkeypatch.setattr(HighWaterFile, "promise", then_die)
    return found


def test_what_is_owed_in_addition_is_in_the_sidecar_before_the_table_is_committed(
    tmp_path: Path, crashes: list[Path]
) -> None:
    with log_file(tmp_path / "state") as file:
        move(file, "a", rows(3, 3))  # a destination
        append(file, b"one", b"two", b"three")
        move(file, "a", rows(1, 1))  # settled, and replayed
        file.work(lambda it: it.owe("a", rows(2, 2)))
    for state_dir in crashes:
        hit(state_dir)

    assert list(map(noted, crashes)) == [
        {"a": rows(3, 3)},
        {"a": (*rows(1, 1), *rows(3, 3))},
        {"a": rows(1, 3)},
    ]


def test_a_crash_before_the_table_is_committed_leaves_the_table_as_it_was(
    tmp_path: Path, crashes: list[Path]
) -> None:
    with log_file(tmp_path / "state") as file:
        move(file, "a", ALL)
        move(file, "b", ALL)
    with log_file(crashes[1]) as file:
        assert list(file.destinations) == ["a"]

    assert ledger_of(crashes[1]) == {"a": ALL}


def test_a_commit_that_fails_leaves_a_ledger_that_owes_what_the_table_owes(tmp_path: Path) -> None:
    class Refused(Exception):
        pass

    def refuse(file: LogFile) -> None:
        file.write_destination("a", Persisted(rows(5, 9), is_paused=False))
        file._high_water.promise(file.destinations)
        raise Refused

    with log_file(tmp_path) as file:
        move(file, "a", rows(1, 3))
        with suppress(Refused):
            file.work(refuse)
        assert ledger_of(tmp_path) == {"a": (*rows(1, 3), *rows(5, 9))}


def test_ranges_that_shrink_cost_no_sync_and_the_line_keeps_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        file._high_water.keep(file.ledger())
        synced.clear()
        for number in range(1, 50):
            append(file, b"one")
            move(file, "a", owed_ranges.open_from(number + 1))
            file.keep_ledger()
        assert synced == []
        assert ledger_of(tmp_path) == {"a": ALL}
        found = high_water.read(tmp_path)
        assert found is not None
        assert found.row == file.last_row

    assert ledger_of(tmp_path) == {"a": owed_ranges.open_from(50)}


def test_the_line_costs_the_same_however_long_the_ledger_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = tuple(OwedRange(Position(row), Position(row + 1)) for row in range(1, 4000, 2))
    with log_file(tmp_path) as file:
        move(file, "a", (*ranges, *owed_ranges.open_from(5000)))
        summed, crc32 = [], zlib.crc32

        def count(content: bytes, before: int = 0) -> int:
            summed.append(len(content))
            return crc32(content, before)

        monkeypatch.setattr(zlib, "crc32", count)
        file._high_water.write(file.last_row + 1, file.totals, file.destinations)
        monkeypatch.undo()

        assert sum(summed) < 1000
    assert ledger_of(tmp_path)


@pytest.mark.anyio
async def test_the_ledger_follows_after_a_while_although_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(high_water, "LAZY_SECONDS", 0.05)
    async with opened(tmp_path) as buffer:
        a = buffer.consumer("a")
        await buffer.append(request(piece()))
        a.settle(await take(a), status=200, at_ns=NOW_NS)
        await eventually(lambda: ledger_of(tmp_path) == {"a": owed_ranges.open_from(2)})


def test_a_destination_that_was_removed_goes_at_once(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        move(file, "b", ALL)
        file._high_water.keep(file.ledger())
        file.commit(Group(), {"b": PendingAck(is_removed=True, is_present=False)}, now_ns=NOW_NS)
        file.keep_ledger()

        assert ledger_of(tmp_path) == {"a": ALL}


def test_a_sidecar_that_cannot_be_written_is_no_ledger_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not go on owing less; and the line, which needs no room, goes on."""

    def refuse(_path: Path, _to: Path) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with log_file(tmp_path) as file:
        move(file, "a", rows(1, 3))
        with monkeypatch.context() as full:
            full.setattr(Path, "rename", refuse)
            move(file, "b", ALL)
            append(file, b"one")
            found = high_water.read(tmp_path)
            assert found is not None
            assert (found.row, found.ledger) == (1, None)
        assert file.destinations["b"].ranges == ALL
    assert ledger_of(tmp_path) == {"a": rows(1, 3), "b": ALL}  # there is room again


@pytest.mark.anyio
async def test_a_destination_has_gone_from_the_sidecar_when_its_removal_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Housekeeping, "step", lambda *_, **__: False)  # it comes after the answer
    async with opened(tmp_path) as buffer:
        b = buffer.consumer("b")
        await buffer.set_paused(buffer.consumer("a").name, is_paused=False)
        await buffer.remove(b.name)

        assert ledger_of(tmp_path) == {"a": ALL}


def test_a_destination_that_was_removed_on_a_full_disk_goes_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, _to: Path) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        move(file, "b", ALL)
        file.keep_ledger()
        with monkeypatch.context() as full:
            full.setattr(Path, "rename", refuse)
            file.commit(
                Group(), {"b": PendingAck(is_removed=True, is_present=False)}, now_ns=NOW_NS
            )
            file.keep_ledger()
            assert ledger_of(tmp_path) == {"a": ALL, "b": ALL}
        file.keep_ledger()
        assert ledger_of(tmp_path) == {"a": ALL}


def test_a_rename_that_may_not_survive_power_loss_is_no_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it taken for one, the sidecar before it could come back, which owes less."""

    def refuse(_directory: Path) -> None:
        raise OSError(errno.EIO, "the disk fails")

    with log_file(tmp_path) as file:
        move(file, "a", rows(1, 3))
        with monkeypatch.context() as broken:
            broken.setattr(high_water, "sync_directory", refuse)
            with pytest.raises(OSError, match="the disk fails"):
                move(file, "a", rows(1, 9))
        assert file.destinations["a"].ranges == rows(1, 3)


def test_a_pause_whose_wal_was_lost_still_holds(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with log_file(state_dir) as file:
        move(file, "a", ALL)
        append(file, b"one")
        file.write_back()
        file.commit(Group(), {"a": PendingAck(ALL, is_paused=True)}, now_ns=NOW_NS)
        append(file, b"two")
        lost = crash(state_dir, tmp_path / "lost")
    (lost / "relay.db-wal").unlink()
    with log_file(lost) as file:
        assert file.destinations["a"].is_paused


def test_a_replay_whose_wal_was_lost_is_still_owed(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with log_file(state_dir) as file:
        move(file, "a", ALL)
        append(file, noise(600_000))
        append(file, noise(600_000, 2))
        move(file, "a", owed_ranges.open_from(3))
        file.write_back()
        file.work(lambda it: it.owe("a", rows(1, 1)))
        append(file, b"three")
        lost = crash(state_dir, tmp_path / "lost")
    (lost / "relay.db-wal").unlink()
    with log_file(lost) as file:
        assert file.last_row > 2
        first = owed_ranges.clip(file.destinations["a"].ranges, 2)
        assert owed_ranges.overlaps(first, rows(1, 1)[0])


def test_ids_never_come_again_although_the_clock_was_set_back(tmp_path: Path) -> None:
    later = time.time_ns() // 10**9 + 86_400
    with log_file(tmp_path) as file:
        append(file, b"one")
    hit(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    os.utime(tmp_path / "relay.db", (later, later))  # until when its ids were given by the time
    with log_file(tmp_path) as file:
        assert file.last_row + 1 >= later * 10**6


def test_what_is_being_read_back_is_carried_through_one_more_damage(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        move(file, "a", ALL)
        append(file, b"one")
    hit(tmp_path)
    with log_file(tmp_path) as file:
        first = dict(fetch(file.connection, "SELECT file, state FROM salvages"))
    hit(tmp_path)
    with log_file(tmp_path) as file:
        second = dict(fetch(file.connection, "SELECT file, state FROM salvages"))

    assert len(second) == 2
    assert first.items() <= second.items()


def test_a_kill_before_the_line_follows_the_first_destination_costs_nothing(tmp_path: Path) -> None:
    """Until then rows are owed to nobody by name; the line is a commit behind at worst."""
    with log_file(tmp_path / "state") as file:
        append(file, b"one")
        file.commit(Group(), {"a": PendingAck(ALL)}, now_ns=NOW_NS)
        state_dir = crash(tmp_path / "state", tmp_path / "crash")
    own_copy(state_dir)
    with log_file(state_dir) as file:
        assert list(file.destinations) == ["a"]
    assert not list(state_dir.glob("relay.db.corrupt*"))
