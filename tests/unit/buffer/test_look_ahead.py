"""What is owed, seen before it is taken, and held until somebody frees it."""

from pathlib import Path

import anyio
import pytest

from relay.model.records import Signal
from tests.unit.buffer.making import NOW_NS, eventually, opened, piece, request, take, take_all

pytestmark = pytest.mark.anyio


async def test_what_is_held_is_handed_out_to_nobody_and_stays_owed(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        for n in range(4):
            await buffer.append(request(piece(b"%d" % n)))
        backlog.look_ahead.hold_from(3)
        assert await take_all(backlog) == [b"0", b"1"]
        newest = await backlog.take_newest()
        assert newest is not None
        assert newest.rows[0].row == 2
        backlog.give_back(newest)
        assert backlog.statistics().owed_items == 4

        backlog.settle(await take(backlog), status=200, at_ns=NOW_NS)
        assert not backlog.has_more
        assert await backlog.take_newest() is None
        backlog.look_ahead.hold_from(None)
        assert await take_all(backlog) == [b"2", b"3"]


async def test_rows_to_come_are_held_and_who_waits_is_woken_when_they_are_freed(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        backlog, other = buffer.consumer("a"), buffer.consumer("b")
        backlog.look_ahead.hold_from(1)
        await buffer.append(request(piece(b"1")))
        with anyio.move_on_after(0.05) as scope:
            await backlog.wait()
        assert scope.cancelled_caught
        assert await take_all(other) == [b"1"]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backlog.wait)
            await anyio.lowlevel.checkpoint()
            backlog.look_ahead.hold_from(2)
        assert await take_all(backlog) == [b"1"]


async def test_rows_are_read_on_without_being_taken(tmp_path: Path) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        buffer.consumer("a", signal=Signal.LOGS)
        for n in range(3):
            await buffer.append(request(piece(b"%d" % n)))
            await buffer.append(request(piece(b"log", signal=Signal.LOGS)))
        look, after, bodies = backlog.look_ahead, 0, []
        while look.last_row > after:
            rows, after = await look.read(after, most_bytes=1)
            bodies += [row.body for row in rows]
        assert bodies == [b"0", b"1", b"2"]
        assert await take_all(backlog) == [b"0", b"1", b"2"]


async def test_news_are_rows_and_what_is_settled_of_what_is_owed_before_those_held(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        look = backlog.look_ahead
        heard = 0

        async def listen() -> None:
            nonlocal heard
            while True:
                await look.changed()
                heard += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.lowlevel.checkpoint()
            await buffer.append(request(piece(b"1")))
            await eventually(lambda: heard == 1)
            look.hold_from(2)
            await eventually(lambda: heard == 2)
            taken = await take(backlog)
            assert look.first_row(0) == 1
            backlog.settle(taken, status=200, at_ns=NOW_NS)
            await eventually(lambda: heard == 3)
            assert look.first_row(0) == 0
            tasks.cancel_scope.cancel()


async def test_the_first_row_that_counts_is_not_one_that_is_parked_or_before(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        for n in range(3):
            await buffer.append(request(piece(b"%d" % n)))
        look = backlog.look_ahead
        assert [look.first_row(n) for n in (0, 2, 3, 4)] == [1, 2, 3, 0]
        backlog.park(await take(backlog, max_items=1), b"")
        assert look.first_row(0) == 2
