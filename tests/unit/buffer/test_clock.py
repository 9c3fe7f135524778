"""The wall clock jumps for years, forth and back: no promise changes by that."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.buffer.sqlite.space.row_age import BOOT, BOOT_FIRST_ROW, RowAges
from relay.buffer.sqlite.uptime import boot_number, uptime_ns
from relay.model.records import DeadLetter, Encoding
from tests.unit.buffer.making import (
    NOW_NS,
    SETTINGS,
    Clocks,
    deliver_all,
    eventually,
    opened,
    piece,
    rejected_span,
    request,
    take,
    take_all,
)

pytestmark = pytest.mark.anyio
YEARS_NS = 20 * 365 * 86_400 * 10**9
JUMPS = pytest.mark.parametrize("jump_ns", [YEARS_NS, -YEARS_NS], ids=["forth", "back"])
HOUR_NS = 3600 * 10**9


@JUMPS
async def test_jump_wipes_neither_delivered_nor_owed_rows_nor_dead_letters(
    tmp_path: Path, jump_ns: int
) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        fast, slow = buffer.consumer("fast"), buffer.consumer("slow")
        await buffer.append(request(piece(b"had"), rejected=(rejected_span(),)))
        await deliver_all(fast)
        await deliver_all(slow)
        await buffer.append(request(piece(b"owed")))
        await deliver_all(fast)
        clocks.now_ns += jump_ns
        clocks.pass_seconds(90)
        await buffer.append(request(piece(b"later"), received_ns=clocks.now_ns))
        for _ in range(3):
            await buffer.flush()

        assert buffer.statistics().rows == 3
        assert [row.body for row in await buffer.read_rows([1])] == [b"had"]
        assert await take_all(slow) == [b"owed", b"later"]
        assert buffer.statistics().dead_letters[""].count == 1

        clocks.pass_seconds(3600)  # and then their time is over all the same
        await eventually(lambda: buffer.statistics().first_row == 2)
        assert await take_all(slow) == [b"owed", b"later"]


@JUMPS
async def test_dead_letter_that_is_set_aside_after_a_jump_has_its_time(
    tmp_path: Path, jump_ns: int
) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        clocks.now_ns += jump_ns
        await buffer.append(request(piece(b"after"), rejected=(rejected_span(),)))
        for _ in range(3):
            clocks.pass_seconds(90)
            await buffer.append(request(piece(b"later"), received_ns=clocks.now_ns))

        assert buffer.statistics().dead_letters[""].count == 1


@JUMPS
async def test_rows_from_before_a_jump_and_a_restart_go_after_their_time(
    tmp_path: Path, jump_ns: int
) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        await buffer.append(request(piece(b"had")))
        await deliver_all(buffer.consumer("a"))
    clocks.now_ns += jump_ns
    async with opened(tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        await buffer.flush()
        assert buffer.statistics().rows == 1  # of this uptime: its age is known
        clocks.pass_seconds(3700)
        await buffer.append(request(piece(b"next"), received_ns=clocks.now_ns))
        await deliver_all(buffer.consumer("a"))
        await eventually(lambda: buffer.statistics().first_row == 2)


@JUMPS
async def test_jump_stops_no_delivery_and_ages_no_row(tmp_path: Path, jump_ns: int) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"1", spans=2)))
        clocks.now_ns += jump_ns
        clocks.pass_seconds(500)
        await buffer.append(request(piece(b"2"), received_ns=clocks.now_ns))
        taken = await take(backlog)
        ages = [buffer.age_ns(row) / 1e9 for row in taken.rows]

        assert ages[0] == pytest.approx(500, abs=60)
        assert ages[1] == pytest.approx(0, abs=60)
        backlog.settle(taken, status=200, at_ns=clocks.now_ns)
        await buffer.flush()
        assert backlog.statistics().owed_items == 0
    async with opened(tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime, tail_bytes=0) as buffer:
        assert await take_all(buffer.consumer("a")) == []
        (row,) = await buffer.read_rows([1])
        assert buffer.age_ns(row) / 1e9 == pytest.approx(500, abs=60)


@JUMPS
async def test_deliveries_on_both_sides_of_a_jump_are_told_apart(
    tmp_path: Path, jump_ns: int
) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        backlog = buffer.consumer("a")
        for number in (1, 2):
            await buffer.append(request(piece(traces=(number,))))
            await deliver_all(backlog, at_ns=clocks.now_ns)
            clocks.now_ns += jump_ns
        await buffer.flush()
        places = [(await buffer.traces.find(n.to_bytes(16, "big")))[0] for n in (1, 2)]

    assert [place.deliveries[0].at_ns for place in places] == [NOW_NS, NOW_NS + jump_ns]
    assert [place.deliveries[0].state for place in places] == ["delivered"] * 2


async def test_dead_letters_go_after_their_time(tmp_path: Path) -> None:
    clocks = Clocks()
    settings = replace(SETTINGS, dead_letter_seconds=3600)
    async with opened(tmp_path, settings, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece()))
        letter = DeadLetter("a", "upstream_partial", "no", 1, Encoding.JSON, b"{}")
        backlog.settle_with(await take(backlog), [letter], status=200, at_ns=NOW_NS)
        await buffer.flush()
        clocks.now_ns += YEARS_NS
        await buffer.flush()
        clocks.pass_seconds(100)
        await buffer.flush()
        assert len(await buffer.dead_letters.newest()) == 1
        clocks.pass_seconds(3600)
        await buffer.flush()
        await eventually(lambda: not buffer.statistics().dead_letters)


# -- ages ------------------------------------------------------------------------------------------


def ages_of(clocks: Clocks, boot: Callable[[], int] = lambda: 7) -> RowAges:
    return RowAges(clocks.wall, clocks.uptime, boot)


def test_row_of_another_uptime_is_as_old_as_the_wall_clock_said_at_the_start() -> None:
    clocks = Clocks()
    ages = ages_of(clocks)
    ages.opened(10, {BOOT: 6, BOOT_FIRST_ROW: 1})
    row = (10, NOW_NS - HOUR_NS, uptime_ns() + 10**15)

    assert ages.age_ns(*row) == pytest.approx(HOUR_NS, abs=10**9)
    clocks.pass_seconds(60)
    clocks.now_ns += YEARS_NS
    assert ages.age_ns(*row) == pytest.approx(HOUR_NS + 60 * 10**9, abs=10**9)


def test_row_received_in_the_future_is_at_least_as_old_as_the_process() -> None:
    clocks = Clocks()
    ages = ages_of(clocks)
    ages.opened(10, {})
    clocks.pass_seconds(120)

    assert ages.age_ns(10, NOW_NS + YEARS_NS, 0) == pytest.approx(120 * 10**9, abs=10**9)


def test_rows_of_this_uptime_are_known_over_a_restart_of_the_relay() -> None:
    clocks = Clocks()
    first = ages_of(clocks)
    first.opened(4, {})
    written_ns = clocks.uptime()
    second = ages_of(clocks)
    second.opened(9, first.counters())
    clocks.pass_seconds(30)
    clocks.now_ns += YEARS_NS

    assert second.age_ns(5, NOW_NS, written_ns) == pytest.approx(30 * 10**9, abs=10**9)
    assert second.age_ns(4, NOW_NS, written_ns - 10**15) < HOUR_NS
    assert second.counters() == first.counters()


def test_unknown_start_of_the_host_matches_no_other(tmp_path: Path) -> None:
    clocks = Clocks()
    ages = ages_of(clocks, lambda: boot_number(tmp_path / "none"))
    ages.opened(9, {BOOT: 0, BOOT_FIRST_ROW: 1})

    assert ages.age_ns(9, NOW_NS - HOUR_NS, uptime_ns()) == pytest.approx(HOUR_NS, abs=10**9)
    assert ages.counters() == {}
    assert boot_number() != 0
    assert boot_number() == boot_number()
