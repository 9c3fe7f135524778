"""Backlogs that are closed: owed nothing new, and what nobody gets is for the first that will."""

from pathlib import Path

import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.values import DeadLetterReplay
from relay.model.records import Signal
from tests.unit.buffer.making import (
    NOW_NS,
    deliver_all,
    eventually,
    opened,
    piece,
    request,
    take,
    take_all,
)

pytestmark = pytest.mark.anyio
A, B = BacklogName("a"), BacklogName("b")


async def append(buffer: Buffer, *texts: str) -> None:
    for text in texts:
        await buffer.append(request(piece(text.encode())))


async def bodies(buffer: Buffer, name: str) -> list[bytes]:
    return await take_all(buffer.consumer(name))


async def test_closed_one_keeps_what_it_is_owed_and_gets_nothing_new(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        closed, goes_on = buffer.consumer("a"), buffer.consumer("b")
        await append(buffer, "1")
        buffer.owe_only({B})
        await append(buffer, "2", "3")

        assert closed.statistics().owed_items == 1
        assert goes_on.statistics().owed_items == 3
    async with opened(tmp_path) as buffer:
        buffer.consumer("b")
        buffer.owe_only({B})
        assert buffer.consumers()[A].statistics().owed_items == 1
        await append(buffer, "4")
        assert await bodies(buffer, "a") == [b"1"]  # opened again: now it is owed what comes
        await append(buffer, "5")
        assert await bodies(buffer, "a") == [b"1", b"5"]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("next_one", ["a", "new"])
async def test_what_comes_while_all_are_closed_is_for_the_first_to_come(
    tmp_path: Path, next_one: str, restarts: bool
) -> None:
    async with opened(tmp_path) as buffer:
        first = buffer.consumer("a")
        await append(buffer, "1")
        first.settle(await take(first), status=200, at_ns=NOW_NS)
        await append(buffer, "2")
        buffer.owe_only(())
        await append(buffer, "3")
        if not restarts:
            await check_handed_over(buffer, next_one)
    if restarts:
        async with opened(tmp_path) as buffer:
            buffer.owe_only(())
            await check_handed_over(buffer, next_one)


async def check_handed_over(buffer: Buffer, name: str) -> None:
    await append(buffer, "4")
    assert list(buffer.consumers()) == [A]
    backlog = buffer.consumer(name)
    own = [b"2"] if name == "a" else []
    assert backlog.statistics().owed_items == len(own) + 2
    assert await bodies(buffer, name) == [*own, b"3", b"4"]
    assert all(key.is_claimed for key in buffer.consumers())
    assert await bodies(buffer, "later") == []


async def test_each_signal_is_handed_over_by_itself(tmp_path: Path) -> None:
    logs = BacklogName("a", Signal.LOGS)
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        buffer.consumer("a", signal=Signal.LOGS)
        await append(buffer, "1")
        buffer.owe_only({A})
        await buffer.append(request(piece(b"log", signal=Signal.LOGS)))
        assert buffer.consumers()[logs].statistics().owed_items == 0
        found = await take_all(buffer.consumer("b", signal=Signal.LOGS))
        assert found == [b"log"]
        assert await bodies(buffer, "a") == [b"1"]


async def test_closed_one_that_is_owed_nothing_may_begin_as_a_new_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for name in "ab":
            buffer.consumer(name)
        await append(buffer, "1")
        await deliver_all(buffer.consumer("a"))
        buffer.owe_only({B})
        again = buffer.consumer("a", "beginning")

        assert again.statistics().owed_items == 1


async def test_kept_rows_go_although_a_closed_one_never_had_them(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0.0) as buffer:
        buffer.consumer("a")
        going = buffer.consumer("b")
        buffer.owe_only({B})
        await append(buffer, "1")
        going.settle(await take(going), status=200, at_ns=NOW_NS)
        await eventually(lambda: buffer.statistics().rows == 0)


async def test_replayed_letter_of_the_way_in_is_not_for_a_closed_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        buffer.consumer("b")
        buffer.owe_only({B})
        await buffer.flush()
        again = DeadLetterReplay(1, request(piece(b"again")), None, 0)
        await buffer.dead_letters.replay([again])

        assert buffer.consumers()[A].statistics().owed_items == 0


async def test_one_that_is_opened_again_is_owed_what_comes_after_a_restart_too(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        for name in "ab":
            buffer.consumer(name)
        await append(buffer, "1")
        buffer.owe_only({B})
        await append(buffer, "2")
        buffer.consumer("a")
        await buffer.flush()
        await append(buffer, "3")
    async with opened(tmp_path) as buffer:
        assert buffer.consumers()[A].statistics().owed_items == 2
        assert await bodies(buffer, "a") == [b"1", b"3"]


@pytest.mark.parametrize("restarts", [False, True])
async def test_very_first_rows_wait_for_the_next_to_come_when_all_were_closed_before(
    tmp_path: Path, restarts: bool
) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.set_paused(buffer.consumer("a").name, is_paused=True)
        buffer.consumer("b")
        buffer.owe_only(())
        await append(buffer, "1")
        if not restarts:
            assert await bodies(buffer, "c") == [b"1"]
    if restarts:
        async with opened(tmp_path) as buffer:
            buffer.owe_only(())
            assert buffer.consumers().keys() == {A, B}
            assert buffer.consumers()[A].is_paused
            assert await bodies(buffer, "c") == [b"1"]
            assert await bodies(buffer, "d") == []
