"""How long delivered rows stay, and that their space comes back."""

from pathlib import Path

import pytest

from tests.unit.buffer.making import (
    NOW_NS,
    Clocks,
    deliver_all,
    eventually,
    noise,
    opened,
    piece,
    request,
    take,
    take_all,
    trace_id,
)

pytestmark = pytest.mark.anyio


async def test_delivered_rows_stay_for_their_time_and_then_go(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(
        tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime, keep_delivered_seconds=60
    ) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(1,))))
        await deliver_all(backlog)
        await buffer.flush()
        assert (await buffer.traces.find(trace_id(1)))[0].deliveries[0].state == "delivered"

        clocks.pass_seconds(61)
        await buffer.append(request(piece(traces=(2,)), received_ns=clocks.now_ns))
        await eventually(lambda: buffer.statistics().first_row == 2)

        (place,) = await buffer.traces.find(trace_id(1))
        assert not place.is_kept
        assert buffer.statistics().rows == 1


async def test_delivered_rows_go_at_once_when_nothing_is_to_be_kept(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(3):
            await buffer.append(request(piece()))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        found = buffer._writer.lifecycle.file
        assert found is not None
        await buffer.append(request(piece(b"next")))

        assert await take_all(backlog) == [b"next"]
        assert buffer.statistics().last_row == 4


async def test_ids_and_sums_go_on_over_a_restart_with_an_empty_table(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(5):
            await buffer.append(request(piece()))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        assert (buffer.statistics().rows, buffer.statistics().last_row) == (0, 5)
        await buffer.append(request(piece(b"six")))
        taken = await take(backlog)

    assert [(row.row, row.body) for row in taken.rows] == [(6, b"six")]


async def test_rows_owed_to_anybody_stay_whatever_their_age(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        fast, slow = buffer.consumer("fast"), buffer.consumer("slow")
        for number in range(6):
            await buffer.append(request(piece(b"%d" % number)))
        await deliver_all(fast)
        first = await take(slow, max_items=2)
        second = await take(slow, max_items=2)
        slow.settle(second, status=200, at_ns=NOW_NS)
        await eventually(lambda: buffer.statistics().rows == 4)
        slow.give_back(first)

        assert await take_all(slow) == [b"0", b"1", b"4", b"5"]


async def test_destination_from_the_beginning_walks_over_rows_that_have_gone(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        fast = buffer.consumer("fast")
        for number in range(4):
            await buffer.append(request(piece(b"%d" % number)))
        fast.settle(await take(fast, max_items=2), status=200, at_ns=NOW_NS)
        await eventually(lambda: buffer.statistics().rows == 2)
        whole = buffer.consumer("whole", start="beginning")
        assert whole.statistics().owed_items == 2
        assert await take_all(whole) == [b"2", b"3"]
        await deliver_all(whole)

        assert whole.statistics().owed_items == 0


async def test_space_of_rows_that_went_is_given_back_to_the_file_system(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        for number in range(80):
            await buffer.append(request(piece(noise(250_000, number))))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0, seconds=20)
        space = buffer._writer._house.space
        await eventually(lambda: space.freelist_bytes < 6_000_000, seconds=20)
    assert (tmp_path / "relay.db").stat().st_size < 8_000_000


async def test_deliveries_are_dropped_with_the_rows_they_speak_of(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, history_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        for number in range(5):
            await buffer.append(request(piece()))
            await deliver_all(backlog, at_ns=NOW_NS + number * 10**10)
            await buffer.flush()
        await eventually(lambda: buffer.statistics().rows == 0)
        count = await buffer._reader.ask(
            lambda connection: connection.execute("SELECT count(*) FROM deliveries").get
        )

    assert count == 0


async def test_idle_relay_deletes_what_was_kept_long_enough(tmp_path: Path) -> None:
    """Nothing comes any more: it has to look by itself when the time is over."""
    clocks = Clocks()
    async with opened(
        tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime, keep_delivered_seconds=1
    ) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(), received_ns=clocks.now_ns))
        await deliver_all(backlog)
        await buffer.flush()
        await eventually(lambda: buffer._writer._house._expire_due not in (None, 0.0))

        await eventually(lambda: buffer.statistics().rows == 0, seconds=20)
