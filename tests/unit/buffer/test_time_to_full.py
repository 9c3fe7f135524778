"""When the buffer will be full: the arithmetic, and that a real one is sampled."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.space import time_to_full
from relay.buffer.sqlite.space.space import Space
from relay.buffer.sqlite.space.time_to_full import (
    Forecast,
    Sample,
    bytes_per_second,
    room_bytes,
    seconds_until_full,
    sums_owed,
)
from relay.buffer.sqlite.transactions import Transaction
from relay.buffer.sqlite.types import Totals
from relay.model.records import Health
from tests.unit.buffer.making import (
    NOW_NS,
    SETTINGS,
    Clocks,
    deliver_all,
    eventually,
    noise,
    opened,
    piece,
    request,
    take,
)

pytestmark = pytest.mark.anyio
MIB = 1 << 20


def samples(room: Callable[[float], float], *, seconds: int = 100, every: int = 5) -> list[Sample]:
    return [Sample(float(at), int(room(at))) for at in range(0, seconds + 1, every)]


def test_steady_growth_is_full_when_the_room_is_used_up() -> None:
    steady = samples(lambda at: 1_000_000 - 1000 * at)

    assert bytes_per_second(steady) == pytest.approx(-1000)
    assert seconds_until_full(steady) == pytest.approx(900)


@pytest.mark.parametrize(
    "found",
    [
        samples(lambda _at: 1_000_000),
        samples(lambda at: 1_000_000 + 1000 * at),
        samples(lambda at: 1_000_000 - 1000 * at, seconds=20),
        samples(lambda at: 1_000_000 - 1000 * at, every=50),
        samples(lambda at: 10**15 - at / 50),
        [],
    ],
    ids=["steady", "emptying", "too short", "too few", "in ten thousand years", "nothing"],
)
def test_not_filling_or_not_known_is_none(found: list[Sample]) -> None:
    assert seconds_until_full(found) is None


def test_single_jumps_hardly_change_it() -> None:
    def room(at: float) -> float:
        return 10_000_000 - 1000 * at - (200_000 if at == 50 else 0)

    seconds = seconds_until_full(samples(room))

    assert seconds == pytest.approx(9900, rel=0.1)


def test_no_room_left_is_full_now() -> None:
    assert seconds_until_full(samples(lambda at: 1000 - 100 * at)) == 0


def test_only_the_last_minutes_count() -> None:
    forecast = Forecast()
    for at in range(0, 1000, 5):
        forecast.add(at, 10_000_000 - 10_000 * at if at < 500 else 5_000_000)
    assert forecast.seconds_until_full() is None

    forecast = Forecast()
    for at in range(0, 100, 5):
        forecast.add(at, 1_000_000 - 1000 * at)
    assert forecast.seconds_until_full() == pytest.approx(905)


def test_room_is_by_the_nearer_limit_and_delivered_rows_count_as_room(tmp_path: Path) -> None:
    space = Space(
        StateDirectory(tmp_path), BufferSettings(max_size_bytes=100 * MIB, min_free_bytes=MIB)
    )
    space.reserve.bytes = 25 * MIB
    space.database_bytes, space.wal_bytes, space.freelist_bytes = 60 * MIB, 4 * MIB, 2 * MIB
    space.free_bytes = 1000 * MIB
    assert room_bytes(space, 10 * MIB) == 65 * MIB

    space.free_bytes = 3 * MIB
    assert room_bytes(space, 50 * MIB) == (3 + 4 + 2 + 10 - 1) * MIB
    assert room_bytes(space, 60 * MIB) == (3 + 4 + 2 - 1) * MIB


async def test_buffer_that_fills_says_when_it_will_be_full(tmp_path: Path) -> None:
    clocks = Clocks()
    settings = replace(SETTINGS, max_size_bytes=64 * MIB, flush_seconds=0.01)
    async with opened(tmp_path, settings, tail_bytes=0, uptime=clocks.uptime) as buffer:
        backlog = buffer.consumer("a")
        for number in range(20):
            await buffer.append(request(piece(noise(100_000, number))))
            clocks.pass_seconds(10)
            await buffer.flush()  # wakes the writer, which sleeps by the real clock
        await eventually(lambda: buffer.statistics().owed_rows == 20)
        statistics = buffer.statistics()
        # 48 MiB beside the reserve, at 10 kB/s and what rows cost beside it.
        expected = (48 * MIB - 2_000_000) / 10_000
        assert statistics.full_in_seconds == pytest.approx(expected, rel=0.15)
        assert 2_000_000 < statistics.owed_disk_bytes < 2_500_000

        await deliver_all(backlog)
        await buffer.flush()  # a sample that is taken late still finds it delivered
        clocks.pass_seconds(10)
        await buffer.flush()
        await eventually(lambda: buffer.statistics().owed_rows == 0)
        assert buffer.statistics().full_in_seconds is None
        assert buffer.statistics().owed_disk_bytes == 0


async def test_rows_owed_to_several_count_once(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, uptime=clocks.uptime) as buffer:
        one, _two = buffer.consumer("one"), buffer.consumer("two")
        for _ in range(4):
            await buffer.append(request(piece(spans=3)))
        await deliver_all(one)
        await buffer.flush()
        clocks.pass_seconds(10)
        await buffer.flush()
        await eventually(lambda: buffer.statistics().owed_items == 12)

        assert buffer.statistics().owed_rows == 4


async def test_who_may_lose_its_rows_does_not_fill_the_buffer(tmp_path: Path) -> None:
    clocks = Clocks()
    health = {"good": Health(0, 10**9, NOW_NS), "dead": Health(NOW_NS - 10**12, 10**9, 0)}
    settings = replace(SETTINGS, max_size_bytes=64 * MIB)
    async with opened(
        tmp_path, settings, clock_ns=clocks.wall, uptime=clocks.uptime, tail_bytes=0
    ) as buffer:
        buffer._backlogs.health = lambda: health  # type: ignore[method-assign]
        good, _dead = buffer.consumer("good"), buffer.consumer("dead")
        for number in range(20):
            await buffer.append(request(piece(noise(100_000, number))))
            await deliver_all(good)
            await buffer.flush()  # a sample that is taken late still finds it delivered
            clocks.pass_seconds(10)
            await buffer.flush()
        await eventually(lambda: buffer.statistics().owed_rows == 20)
        assert buffer.statistics().full_in_seconds is None

        health["dead"] = Health(NOW_NS - 10**12, None, 0)
        for number in range(20):
            await buffer.append(request(piece(noise(100_000, number))))
            await deliver_all(good)
            await buffer.flush()
            clocks.pass_seconds(10)
            await buffer.flush()
        assert buffer.statistics().full_in_seconds is not None


def test_what_has_not_filled_for_a_minute_is_not_filling() -> None:
    def ended(at_end: int) -> list[Sample]:
        return samples(lambda at: 1_000_000 - 1000 * min(at, at_end), seconds=300)

    assert seconds_until_full(ended(230)) is None
    assert seconds_until_full(ended(260)) is not None


def test_room_that_is_less_than_it_was_though_it_did_not_shrink_steadily_is_not_filling() -> None:
    ups_and_downs = samples(
        lambda at: {0: 101, 20: 100, 40: 103, 60: 100}[int(at)], seconds=60, every=20
    )
    assert bytes_per_second(ups_and_downs) == 0
    assert seconds_until_full(ups_and_downs) is None


def test_four_samples_of_half_a_minute_are_enough() -> None:
    def rate(*seconds: int) -> float | None:
        return bytes_per_second([Sample(at, 1000 - at) for at in seconds])

    assert rate(0, 10, 20, 30) == pytest.approx(-1)
    assert rate(0, 10, 20, 29) is None
    assert rate(0, 10, 30) is None


def test_what_is_full_in_ten_years_to_the_second_is_filling() -> None:
    years = 10 * 365 * 86_400
    assert seconds_until_full(samples(lambda at: years + 100 - at)) == years
    assert seconds_until_full(samples(lambda at: years + 101 - at)) is None


class Owed(Transaction[Totals]):
    """What is owed, as the writer sums it up."""

    def run(self, file: LogFile, *, now_ns: int) -> Totals:
        return sums_owed(file)


async def test_of_too_many_ranges_holes_count_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, row_bytes=1) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(5):
            await buffer.append(request(piece(spans=2)))
        held = [await take(backlog, max_items=2) for _ in range(5)]
        for row in (2, 4):
            backlog.settle(held[row - 1], status=200, at_ns=NOW_NS)
        await buffer.flush()
        monkeypatch.setattr(time_to_full, "_MOST_RANGES", 3)
        assert (await buffer._ledger.transact(Owed())).items == 6
        monkeypatch.setattr(time_to_full, "_MOST_RANGES", 2)
        assert (await buffer._ledger.transact(Owed())).items == 10
