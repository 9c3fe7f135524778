"""The reserve: its size, when it is made, given back and made again, and what counts it."""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
import structlog

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.space import reserve as reserve_module
from relay.buffer.sqlite.space.reserve import Reserve
from relay.buffer.sqlite.space.space import COMMIT_FACTOR, COMMIT_OVERHEAD_BYTES, Space
from relay.model.errors import BufferFull
from tests.unit.buffer.making import SETTINGS, eventually, noise, opened, piece, request

pytestmark = pytest.mark.anyio
MIB = 1 << 20
GIB = 1 << 30


class Time:
    """The clock of the reserve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(reserve_module, "monotonic", lambda: self.now)


@pytest.mark.parametrize("size", [MIB, 4 * MIB, 64 * MIB, 128 * MIB, GIB, 100 * GIB])
def test_reserve_is_twice_a_transaction_and_the_wal_before_it(size: int) -> None:
    settings = BufferSettings(max_size_bytes=size)

    assert settings.reserve_bytes <= min(size // 4, 32 * MIB)
    written = settings.transaction_limit_bytes + settings.checkpoint_limit_bytes
    assert settings.reserve_bytes >= 2 * written
    assert settings.transaction_limit_bytes > 64 * 1024
    assert settings.truncate_limit_bytes >= settings.checkpoint_limit_bytes


def test_reserve_is_large_by_default_and_limits_are_those_asked_for() -> None:
    settings = BufferSettings()

    assert settings.reserve_bytes == 32 * MIB
    assert settings.transaction_limit_bytes == settings.transaction_bytes
    assert settings.checkpoint_limit_bytes == settings.wal_checkpoint_bytes


async def test_reserve_is_there_after_the_start_and_counts_as_used(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=8 * MIB) as buffer:
        found = (tmp_path / "reserve").stat()
        statistics = buffer.statistics()

    assert found.st_size == statistics.reserve_bytes == 2 * MIB
    assert found.st_blocks * 512 >= 2 * MIB
    assert found.st_mode & 0o777 == 0o600
    assert statistics.disk_bytes >= 2 * MIB


async def test_relay_works_without_a_reserve(tmp_path: Path) -> None:
    (tmp_path / "reserve").mkdir()  # so that it cannot be made
    async with opened(tmp_path, max_size_bytes=8 * MIB) as buffer:
        await buffer.append(request(piece()))

        assert buffer.statistics().reserve_bytes == 0


async def test_room_of_a_reserve_that_is_not_there_is_kept_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "reserve").mkdir()
    async with opened(tmp_path, max_size_bytes=8 * MIB, tail_bytes=0) as buffer:
        buffer.consumer("a")
        with suppress(BufferFull):
            for number in range(1000):
                await buffer.append(request(piece(noise(20_000, number))))

        assert buffer.statistics().is_full
        assert buffer.statistics().disk_bytes <= 6 * MIB


async def test_reload_makes_it_larger_and_smaller(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=8 * MIB) as buffer:
        buffer.reload(replace(SETTINGS, max_size_bytes=4 * MIB))
        await eventually(lambda: (tmp_path / "reserve").stat().st_size == MIB)
        await buffer.append(request(piece()))

        assert buffer.statistics().reserve_bytes == MIB


async def test_reserve_that_is_there_from_before_is_taken_up(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=8 * MIB):
        before = (tmp_path / "reserve").stat()
    async with opened(tmp_path, max_size_bytes=8 * MIB) as buffer:
        after = (tmp_path / "reserve").stat()
        assert buffer.statistics().reserve_bytes == 2 * MIB

    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_file_whose_blocks_were_never_given_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    path.touch()
    os.truncate(path, MIB)
    reserve = Reserve(path)
    reserve.look()

    assert reserve.bytes == 0


def test_it_is_not_made_where_that_would_break_min_free(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve")

    assert not reserve.keep(MIB, free_bytes=3 * MIB - 1, min_free_bytes=2 * MIB)
    assert reserve.keep(MIB, free_bytes=3 * MIB, min_free_bytes=2 * MIB)
    assert reserve.bytes == MIB


def test_given_back_it_is_made_again_later_and_with_room_for_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time(monkeypatch)
    reserve = Reserve(tmp_path / "reserve")
    reserve.keep(MIB, free_bytes=MIB, min_free_bytes=0)
    assert reserve.give_back()
    assert reserve.bytes == (tmp_path / "reserve").stat().st_size == 0
    assert not reserve.give_back()

    assert not reserve.keep(MIB, free_bytes=100 * MIB, min_free_bytes=0)  # too soon
    time.now += 60
    assert not reserve.keep(MIB, free_bytes=2 * MIB - 1, min_free_bytes=0)
    assert reserve.keep(MIB, free_bytes=2 * MIB, min_free_bytes=0)
    assert reserve.bytes == MIB


def test_it_grows_once_in_a_while_and_shrinks_whatever_room_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time(monkeypatch)
    reserve = Reserve(tmp_path / "reserve")
    reserve.look()
    assert reserve.bytes == 0
    assert reserve.keep(MIB, free_bytes=GIB, min_free_bytes=0)
    time.now += 4.5
    assert not reserve.keep(2 * MIB, free_bytes=GIB, min_free_bytes=0)
    time.now += 0.5
    assert reserve.keep(2 * MIB, free_bytes=GIB, min_free_bytes=0)
    assert reserve.keep(MIB, free_bytes=0, min_free_bytes=GIB)
    assert not reserve.keep(MIB, free_bytes=GIB, min_free_bytes=0)
    assert reserve.bytes == MIB


def test_made_again_after_it_was_given_back_it_grows_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time(monkeypatch)
    reserve = Reserve(tmp_path / "reserve")
    reserve.keep(MIB, free_bytes=GIB, min_free_bytes=0)
    reserve.give_back()
    time.now += 5
    assert reserve.keep(MIB, free_bytes=2 * MIB, min_free_bytes=0)
    time.now += 5
    assert reserve.keep(2 * MIB, free_bytes=MIB, min_free_bytes=0)


def test_it_says_once_what_keeps_it_from_being_made_and_when_it_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time(monkeypatch)
    place = tmp_path / "none" / "reserve"
    reserve = Reserve(place)

    def events() -> list[str]:
        with structlog.testing.capture_logs() as logged:
            reserve.give_back()
            for _ in range(2):
                time.now += 5
                assert reserve.keep(MIB, free_bytes=GIB, min_free_bytes=0)
                reserve.bytes = 0
        reserve.look()
        return [entry["event"] for entry in logged]

    assert events() == ["reserve_not_made"]
    assert events() == []
    place.parent.mkdir()
    assert events() == []
    assert reserve.bytes == MIB
    assert events() == ["reserve_given_back"]
    place.unlink()
    place.parent.rmdir()
    reserve.look()
    assert events() == ["reserve_not_made"]


def space_of(tmp_path: Path, settings: BufferSettings) -> Space:
    """As if measured: nothing kept, on a file system with a GiB free."""
    space = Space(StateDirectory(tmp_path), settings)
    space.free_bytes = GIB
    space.reserve.bytes = settings.reserve_bytes
    return space


@pytest.mark.parametrize(
    ("free", "reserve", "settings", "room", "words"),
    [
        (GIB, MIB, {"max_size_bytes": 4 * MIB}, 3 * MIB, "max_size (4MiB) is used up"),
        (GIB, 0, {"max_size_bytes": 4 * MIB}, 3 * MIB, "max_size (4MiB) is used up"),
        (50 * MIB, MIB, {"max_size_bytes": GIB, "min_free_bytes": 40 * MIB}, 10 * MIB, "min_free"),
        (10 * MIB, 32 * MIB, {}, 10 * MIB, "the file system is full (10 MiB free)"),
        (33 * MIB, 0, {}, MIB, "the file system is full (33 MiB free)"),
        (33 * MIB, 0, {"min_free_bytes": 40 * MIB}, -7 * MIB, "min_free is 40MiB"),
    ],
)
def test_room_is_that_of_the_nearest_limit_and_it_is_named(
    tmp_path: Path, free: int, reserve: int, settings: dict[str, int], room: int, words: str
) -> None:
    space = space_of(tmp_path, replace(SETTINGS, **settings))  # type: ignore[arg-type]
    space.free_bytes, space.reserve.bytes = free, reserve

    assert space.room_bytes == room
    assert words in space.limit()


def test_free_pages_count_for_min_free_but_not_for_a_full_disk(tmp_path: Path) -> None:
    space = space_of(tmp_path, BufferSettings(min_free_bytes=64 * MIB))
    space.free_bytes, space.freelist_bytes = 60 * MIB, 20 * MIB
    assert space.room_bytes == 16 * MIB
    assert not space.needs_disk(MIB)

    space.free_bytes, space.freelist_bytes = MIB, 500 * MIB
    assert space.needs_disk(MIB)
    assert space.may_ever_fit(MIB)

    space.free_bytes, space.reserve.bytes = 33 * MIB, 0
    assert space.needs_disk(2 * MIB)


def test_disk_that_is_full_is_named_whatever_min_free_is(tmp_path: Path) -> None:
    space = space_of(tmp_path, replace(SETTINGS, min_free_bytes=40 * MIB))
    space.free_bytes, space.freelist_bytes = 10 * MIB, 100 * MIB
    assert "the file system is full (10 MiB free)" in space.limit()


def test_what_needs_exactly_the_room_there_is_fits(tmp_path: Path) -> None:
    space = space_of(tmp_path, replace(SETTINGS, max_size_bytes=64 * MIB))
    connection = apsw.Connection(":memory:")
    size = (48 * MIB - COMMIT_OVERHEAD_BYTES) // COMMIT_FACTOR
    assert space.fits(connection, size)
    assert not space.fits(connection, size + 1)


def test_space_is_measured_before_the_reserve_is_made_and_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = StateDirectory(tmp_path)
    space = Space(directory, replace(SETTINGS, max_size_bytes=8 * MIB))

    def free_bytes() -> int:
        return GIB - ((tmp_path / "reserve").stat().st_size if space.reserve.path.exists() else 0)

    monkeypatch.setattr(directory, "free_bytes", free_bytes)
    connection = apsw.Connection(":memory:")
    assert space.keep_reserve(connection)
    assert (space.reserve.bytes, space.free_bytes) == (2 * MIB, GIB - 2 * MIB)
    assert not space.keep_reserve(connection)


@pytest.mark.parametrize(("size", "most"), [(GIB, 2 * MIB), (64 * MIB, MIB)])
def test_disk_is_looked_at_again_when_much_was_written(
    tmp_path: Path, size: int, most: int
) -> None:
    space = space_of(tmp_path, replace(SETTINGS, max_size_bytes=size))
    connection = apsw.Connection(":memory:")
    space.written_bytes = most - 1
    assert space.fits(connection, 1)
    assert space.written_bytes == most - 1
    space.written_bytes = most
    assert space.fits(connection, 1)
    assert space.written_bytes == 0
