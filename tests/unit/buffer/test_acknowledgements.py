"""What a destination is owed: settled, given back, kept over a restart, apart from others."""

import gc
from pathlib import Path

import anyio
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.model.records import DeadLetter, Encoding, StoredRow
from tests.unit.buffer.making import (
    NOW_NS,
    deliver_all,
    eventually,
    opened,
    piece,
    request,
    take,
    take_all,
    trace_id,
)

pytestmark = pytest.mark.anyio


async def test_settled_rows_are_not_owed_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        for number in (1, 2, 3):
            await buffer.append(request(piece(b"%d" % number)))
        taken = await take(backlog, max_items=2)
        backlog.settle(taken, status=200, at_ns=NOW_NS)
    async with opened(tmp_path) as buffer:
        assert await take_all(buffer.consumer("a")) == [b"3"]


async def test_rows_in_flight_are_owed_again_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece(b"1")))
        await take(buffer.consumer("a"))
    async with opened(tmp_path) as buffer:
        assert await take_all(buffer.consumer("a")) == [b"1"]


async def test_rows_given_back_come_again_at_their_place(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        for number in (1, 2, 3):
            await buffer.append(request(piece(b"%d" % number)))
        first = await take(backlog, max_items=1)
        second = await take(backlog, max_items=1)
        backlog.give_back(first)

        assert (await take(backlog, max_items=1)).rows == first.rows
        assert (await take(backlog, max_items=1)).rows[0].body == b"3"
        backlog.settle(second, status=200, at_ns=NOW_NS)
        assert backlog.statistics().owed_items == 2


async def test_settling_twice_or_after_giving_back_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        for number in (1, 2):
            await buffer.append(request(piece(b"%d" % number)))
        taken = await take(backlog, max_items=1)
        backlog.give_back(taken)
        backlog.settle(taken, status=200, at_ns=NOW_NS)

        assert await take_all(backlog) == [b"1", b"2"]
        assert backlog.statistics().owed_items == 2


async def test_ranges_are_on_disk_without_another_append(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with opened(tmp_path / "one") as buffer:
        await buffer.append(request(piece()))
        await deliver_all(buffer.consumer("a"))
        await eventually(lambda: not buffer._ledger.pending.waiting)
        await buffer.flush()
        crash_copy(tmp_path / "one", copy)
    async with opened(copy) as buffer:
        assert buffer.consumer("a").statistics().owed_items == 0


async def test_first_destination_begins_at_the_beginning_and_later_ones_at_the_end(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece(b"1")))
        first = buffer.consumer("first")
        later = buffer.consumer("later")
        whole = buffer.consumer("whole", start="beginning")
        await buffer.append(request(piece(b"2")))

        assert await take_all(first) == [b"1", b"2"]
        assert await take_all(later) == [b"2"]
        assert await take_all(whole) == [b"1", b"2"]
        assert [each.statistics().owed_items for each in (first, later, whole)] == [2, 1, 2]


async def test_new_destination_owes_what_came_after_it_even_after_a_crash(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with opened(tmp_path / "one", flush_seconds=60) as buffer:
        buffer.consumer("first")
        await buffer.append(request(piece(b"1")))
        buffer.consumer("later")
        await buffer.append(request(piece(b"2")))
        crash_copy(tmp_path / "one", copy)
    async with opened(copy) as buffer:
        await buffer.append(request(piece(b"3")))

        assert await take_all(buffer.consumer("later")) == [b"2", b"3"]


async def test_destination_gone_from_the_config_keeps_what_it_is_owed(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("gone")
        await buffer.append(request(piece(b"1")))
    async with opened(tmp_path) as buffer:
        buffer.consumer("other")
        await buffer.append(request(piece(b"2")))
        assert buffer.consumers()[BacklogName("gone")].health() is None
    async with opened(tmp_path) as buffer:
        assert await take_all(buffer.consumer("gone")) == [b"1", b"2"]


async def test_removed_destination_is_owed_nothing_any_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        keeper, removed = buffer.consumer("keeper"), buffer.consumer("removed")
        await buffer.append(request(piece()))
        taken = await take(removed)
        await buffer.remove(removed.name)
        removed.settle(taken, status=200, at_ns=NOW_NS)

        assert await removed.take(max_bytes=1, max_items=1) is None
        assert keeper.statistics().owed_items == 1
    async with opened(tmp_path) as buffer:
        assert list(buffer.consumers()) == [BacklogName("keeper")]


async def test_pause_is_kept_over_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.set_paused(buffer.consumer("a").name, is_paused=True)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        assert backlog.is_paused
        await buffer.set_paused(backlog.name, is_paused=False)
    async with opened(tmp_path) as buffer:
        assert not buffer.consumer("a").is_paused


async def test_statistics_of_a_long_backlog_are_right_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1) as buffer:
        backlog = buffer.consumer("a")
        async with anyio.create_task_group() as tasks:
            for number in range(300):
                body = piece(b"x" * 10, spans=2)
                tasks.start_soon(buffer.append, request(body, received_ns=NOW_NS + number))
        taken = await take(backlog, max_items=100)
        backlog.settle(taken, status=200, at_ns=NOW_NS)
        before = backlog.statistics()
    async with opened(tmp_path) as buffer:
        after = buffer.consumer("a").statistics()
        kept = buffer.statistics()

    assert (after.owed_items, after.owed_rows, after.owed_bytes) == (500, 250, 2500)
    assert (before.owed_items, before.owed_rows, before.owed_bytes) == (500, 250, 2500)
    assert after.oldest_owed_ns == NOW_NS + 50
    assert (kept.rows, kept.items, kept.first_row, kept.last_row) == (300, 600, 1, 300)


async def test_age_of_heads_that_are_not_in_memory_is_told_at_the_first_look(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, row_bytes=1, tail_bytes=100) as buffer:
        backlogs = buffer.consumer("a"), buffer.consumer("b")
        for number in range(30):
            await buffer.append(request(piece(b"x" * 10), received_ns=NOW_NS + number))
        backlogs[1].settle(await take(backlogs[1], max_items=10), status=200, at_ns=NOW_NS)
        first = backlogs[0].statistics()

        assert NOW_NS <= first.oldest_owed_ns <= NOW_NS + 20

        def both() -> tuple[int, ...]:
            return tuple(each.statistics().oldest_owed_ns - NOW_NS for each in backlogs)

        both()
        await eventually(lambda: both() == (0, 10))
        assert {both() for _ in range(5)} == {(0, 10)}


async def test_dead_letters_of_an_upstream_are_written_with_the_ranges(tmp_path: Path) -> None:
    letter = DeadLetter(
        "a", "upstream_partial", "2 of 3 refused", 3, Encoding.JSON, b"{}", 200, 2, row=1
    )
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece()))
        backlog.settle_with(await take(backlog), [letter], status=200, at_ns=NOW_NS)
    async with opened(tmp_path) as buffer:
        assert [stored.letter for stored in await buffer.dead_letters.newest()] == [letter]
        assert buffer.consumer("a").statistics().owed_items == 0


async def test_find_trace_tells_where_each_request_is_for_each_destination(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        a, b = buffer.consumer("a"), buffer.consumer("b")
        await buffer.append(request(piece(traces=(7, 8)), piece(traces=(9,), spans=4), agent="x"))
        await deliver_all(a, at_ns=NOW_NS + 5)
        taken = await take(b)
        unsaved = await buffer.traces.find(trace_id(9))
        await buffer.flush()
        b.settle(taken, status=400, at_ns=NOW_NS + 6)
        buffer.consumer("late")
        place = (await buffer.traces.find(trace_id(9)))[0]

        assert await buffer.traces.find(trace_id(10)) == []
    assert [(each.destination, each.state) for each in unsaved[0].deliveries] == [
        ("a", "delivered"),
        ("b", "waiting"),
    ]
    assert (place.row, place.items, place.user_agent, place.services) == (1, 4, "x", ("shop",))
    assert [(one.state, one.at_ns, one.status) for one in place.deliveries] == [
        ("delivered", NOW_NS + 5, 200),
        ("set_aside", NOW_NS + 6, 400),
        ("not_owed", 0, 0),
    ]


async def test_find_trace_is_right_while_ranges_are_being_written(tmp_path: Path) -> None:
    async with opened(tmp_path, flush_seconds=0.0) as buffer:
        backlog = buffer.consumer("a")
        for number in range(1, 200):
            await buffer.append(request(piece(traces=(number,))))
            await deliver_all(backlog)
            places = await buffer.traces.find(trace_id(number))
            assert places[0].deliveries[0].state == "delivered"


async def test_dead_letter_that_cannot_be_stored_does_not_hold_up_the_ranges(
    tmp_path: Path,
) -> None:
    good = DeadLetter("a", "upstream_partial", "good", 1, Encoding.JSON, b"{}")
    bad = DeadLetter("a", "upstream_partial", "bad", 2**70, Encoding.JSON, b"{}")
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece()))
        backlog.settle_with(await take(backlog), [bad, good], status=200, at_ns=NOW_NS)
        await buffer.flush()
        assert [stored.letter.words for stored in await buffer.dead_letters.newest()] == ["good"]
    async with opened(tmp_path) as buffer:
        assert buffer.consumer("a").statistics().owed_items == 0


async def test_recent_traces_are_distinct_and_newest_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for traces in ((1,), (2, 3), (1,)):
            await buffer.append(request(piece(traces=traces)))
        recent = await buffer.traces.recent(10)

        assert len(await buffer.traces.recent(2)) == 2
    assert [each.trace_id for each in recent] == [trace_id(number) for number in (1, 2, 3)]


def crash_copy(source: Path, target: Path) -> None:
    """The files as a kill at this moment would leave them."""
    target.mkdir()
    for name in ("relay.db", "relay.db-wal"):
        (target / name).write_bytes((source / name).read_bytes())


@pytest.mark.parametrize("end", ["settled", "given back", "removed"])
async def test_no_body_stays_in_memory_once_it_is_in_flight_no_more(
    tmp_path: Path, end: str
) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(20):
            await buffer.append(request(piece(b'{"only":"here"}')))
        taken = await take(backlog)
        assert len(taken.rows) == 20
        if end == "settled":
            backlog.settle(taken, status=200, at_ns=NOW_NS)
        elif end == "given back":
            backlog.give_back(taken)
        else:
            await buffer.remove(backlog.name)
            backlog.give_back(taken)
        del taken
        await buffer.flush()

        def held() -> list[int]:
            gc.collect()
            rows = [it for it in gc.get_objects() if isinstance(it, StoredRow)]
            return [row.row for row in rows if row.body == b'{"only":"here"}']

        # The reader's thread may not have returned yet from handing over what it read.
        await eventually(lambda: not held())


async def test_age_of_all_that_is_kept_is_right_at_once_for_who_comes_later(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1, tail_bytes=0) as buffer:
        for number in range(1, 4):
            await buffer.append(request(piece(), received_ns=NOW_NS + number))
        assert buffer.consumer("a").statistics().oldest_owed_ns == NOW_NS + 1


async def test_age_of_a_head_is_right_at_once_after_it_was_looked_up(tmp_path: Path) -> None:
    async with opened(tmp_path, row_bytes=1, tail_bytes=100) as buffer:
        backlog = buffer.consumer("a")
        for number in range(30):
            await buffer.append(request(piece(b"x" * 10), received_ns=NOW_NS + number))
        backlog.settle(await take(backlog, max_items=5), status=200, at_ns=NOW_NS)
        await buffer.find_oldest()

        assert backlog.statistics().oldest_owed_ns == NOW_NS + 5


async def test_what_stands_on_disk_is_pending_no_more(tmp_path: Path) -> None:
    async with opened(tmp_path, flush_seconds=60.0) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece()))
        await buffer.flush()
        await deliver_all(backlog)
        pending = buffer._ledger.pending
        assert len(pending.deliveries("a")) == 1
        await buffer.flush()
        assert (pending.deliveries("a"), pending.states()) == ([], {})
