"""How much is kept: max_size, min_free, rows, transactions, and what gives way first."""

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.model.counters import Counters
from relay.model.errors import BufferFull
from tests.unit.buffer.making import (
    SETTINGS,
    deliver_all,
    eventually,
    noise,
    opened,
    piece,
    rejected_span,
    request,
    take_all,
)

pytestmark = pytest.mark.anyio
MIB = 1 << 20


async def fill(buffer: Buffer, delivered: Backlog | None = None) -> int:
    """Append until it is refused; returns how many were kept."""
    for number in range(1000):
        try:
            await buffer.append(request(piece(noise(20_000, number))))
        except BufferFull:
            return number
        if delivered is not None:
            await deliver_all(delivered)
    raise AssertionError("it never was full")


async def test_append_is_refused_before_max_size_is_passed(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=4 * MIB, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        kept = await fill(buffer)
        on_disk = sum((tmp_path / name).stat().st_size for name in ("relay.db", "relay.db-wal"))
        bodies = await take_all(backlog)

    assert on_disk <= 4 * MIB
    assert kept > 75
    assert len(bodies) == kept


async def test_append_works_again_when_something_was_delivered(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=4 * MIB) as buffer:
        backlog = buffer.consumer("a")
        await fill(buffer)
        await eventually(lambda: buffer.statistics().is_full)
        assert not buffer.statistics().is_writable
        await deliver_all(backlog)
        await eventually(lambda: not buffer.statistics().is_full)
        await buffer.append(request(piece(noise(20_000))))

        assert backlog.statistics().owed_items == 1


async def test_delivered_rows_give_way_to_new_ones(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=4 * MIB) as buffer:
        backlog = buffer.consumer("a")
        for number in range(400):
            await buffer.append(request(piece(noise(20_000, number))))
            await deliver_all(backlog)

        assert buffer.statistics().first_row > 1
        assert buffer.statistics().disk_bytes <= 4 * MIB


async def test_nothing_gives_way_without_a_destination(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=4 * MIB) as buffer:
        await fill(buffer)

        assert buffer.statistics().first_row == 1


async def test_row_that_is_still_owed_to_one_destination_does_not_give_way(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, max_size_bytes=4 * MIB) as buffer:
        good, slow = buffer.consumer("good"), buffer.consumer("slow")
        await fill(buffer, good)

        assert buffer.statistics().first_row == 1
        assert slow.statistics().owed_rows == buffer.statistics().rows


async def test_request_that_is_too_large_alone_leaves_room_for_others(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=4 * MIB) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"small")))
        await deliver_all(backlog)
        with pytest.raises(BufferFull):
            await buffer.append(request(piece(noise(5 * MIB))))
        await buffer.append(request(piece(b"small too")))

        assert buffer.statistics().rows == 2
        assert not buffer.statistics().is_full


async def test_append_is_refused_when_the_file_system_is_nearly_full(tmp_path: Path) -> None:
    async with opened(tmp_path, min_free_bytes=1 << 60) as buffer:
        with pytest.raises(BufferFull):
            await buffer.append(request(piece()))

        assert buffer.statistics().is_full


async def test_settings_can_be_reloaded(tmp_path: Path) -> None:
    async with opened(tmp_path, min_free_bytes=1 << 60) as buffer:
        with pytest.raises(BufferFull):
            await buffer.append(request(piece()))
        buffer.reload(SETTINGS)
        await eventually(lambda: not buffer.statistics().is_full)
        await buffer.append(request(piece()))


async def test_reload_takes_up_what_dead_letters_may_use(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1) as buffer:
        for _ in range(20):
            await buffer.append(request(rejected=(rejected_span(body=noise(1000)),)))
        before = len(await buffer.dead_letters.newest(100))
        buffer.reload(replace(buffer.settings, dead_letter_bytes=6000))
        await buffer.append(request(rejected=(rejected_span(body=noise(1000)),)))

        def kept() -> int:
            return sum(each.stored_bytes for each in buffer.statistics().dead_letters.values())

        await eventually(lambda: 0 < kept() <= 6000)

    assert before == 20


async def test_pieces_over_the_row_size_are_a_row_each(tmp_path: Path) -> None:
    big = [piece(noise(600, seed)) for seed in range(3)]
    async with opened(tmp_path, row_bytes=1000) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(*big, piece(b"s"), piece(b"t")))
        bodies = await take_all(backlog)

    assert bodies == [big[0].body, big[1].body, big[2].body + b",s,t"]


async def test_request_over_the_transaction_size_is_committed_whole(tmp_path: Path) -> None:
    async with opened(tmp_path, transaction_bytes=1000) as buffer:
        backlog = buffer.consumer("a")
        async with anyio.create_task_group() as tasks:
            for seed in range(10):
                large = request(piece(noise(700, seed)), piece(noise(700, seed + 100)))
                tasks.start_soon(buffer.append, large)

        assert backlog.statistics().owed_items == 20


async def test_dead_letters_are_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    async with opened(tmp_path, dead_letter_bytes=100_000) as buffer:
        for number in range(100):
            span = rejected_span(f"{number:032x}", noise(5_000, number))
            await buffer.append(request(rejected=(span,)))
        await eventually(lambda: buffer.statistics().dead_letters[""].stored_bytes <= 100_000)
        kept = [stored.letter.words for stored in await buffer.dead_letters.newest(1000)]
        dropped = buffer.statistics().dead_letters_dropped

    assert kept[0] == f"{99:032x}"
    assert 10 < len(kept) < 25
    assert len(kept) + dropped == 100


async def test_wal_stays_small_whatever_is_written(tmp_path: Path) -> None:
    largest = 0
    async with opened(tmp_path, wal_checkpoint_bytes=256 * 1024) as buffer:
        for number in range(200):
            await buffer.append(request(piece(noise(50_000, number), spans=1)))
            largest = max(largest, buffer.statistics().wal_bytes)

    assert largest < 3 * MIB


async def test_no_more_is_committed_together_than_a_transaction_may_hold(tmp_path: Path) -> None:
    counters = Counters()
    async with opened(tmp_path, counters=counters, transaction_bytes=100_000) as buffer:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(buffer.append, request(piece(noise(30_000, number))))
    assert counters.commits >= 7  # of three each
