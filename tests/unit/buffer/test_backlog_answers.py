"""What a destination's backlog says of itself, and whom it wakes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.types import Totals
from relay.buffer.values import KeptRows
from relay.model.counters import Counters
from relay.model.records import Health, Signal
from tests.unit.buffer.making import (
    NOW_NS,
    a_letter,
    eventually,
    opened,
    piece,
    request,
    take,
    trace_id,
)

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def somebody_waits(backlog: Backlog) -> AsyncIterator[None]:
    """Until what is done inside has woken him."""
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backlog.wait)
            await anyio.wait_all_tasks_blocked()
            yield


async def test_who_waits_is_woken_by_all_that_makes_something_to_take(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        async with somebody_waits(backlog):
            await buffer.append(request(piece(b"one")))
        taken = await take(backlog)
        async with somebody_waits(backlog):
            backlog.give_back(taken)
        backlog.park(await take(backlog), b"")
        async with somebody_waits(backlog):
            backlog.unpark()
        taken = await take(backlog)
        assert [row.body for row in taken.rows] == [b"one"]
        backlog.settle(taken, status=200, at_ns=NOW_NS)
        row = (owed_ranges.row_range(1),)
        async with somebody_waits(backlog):
            backlog.owe(row, Totals(1, 1, 3))
        backlog.settle(await take(backlog), status=200, at_ns=NOW_NS)
        async with somebody_waits(backlog):
            await buffer.replays.owe(BacklogName("a"), KeptRows(row), is_dry_run=False)


async def test_who_waits_for_points_is_woken_when_those_in_flight_have_arrived(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a", signal=Signal.METRICS)
        for _ in range(2):
            await buffer.append(request(piece(signal=Signal.METRICS)))
        taken = await take(backlog, max_items=1)
        async with somebody_waits(backlog):
            backlog.settle(taken, status=200, at_ns=NOW_NS)


async def test_removed_one_is_owed_nothing_and_holds_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(spans=3)))
        taken = await take(backlog)
        assert backlog.statistics().in_flight_items == 3
        backlog.park(taken, b"")
        backlog.remove()
        backlog.give_back(taken)
        found = backlog.statistics()
        assert backlog.parked.ranges == ()

    assert (found.owed_rows, found.owed_items, found.in_flight_items) == (0, 0, 0)
    assert (found.oldest_owed_ns, backlog.health(), backlog.is_over) == (0, None, True)


async def test_how_it_fares_is_told_while_a_courier_serves_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        told = Health(NOW_NS, None, 5)
        assert backlog.health() is None
        backlog.attach(lambda: told)
        assert backlog.health() == told
        backlog.detach()
        assert backlog.health() is None


async def test_oldest_of_what_is_owed_is_looked_up_where_anything_is(tmp_path: Path) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog, logs = buffer.consumer("a"), buffer.consumer("a", signal=Signal.LOGS)
        for number in range(1, 4):
            await buffer.append(request(piece(), received_ns=NOW_NS + number))
        for number in range(1, 4):
            await backlog.find_oldest()
            assert backlog.statistics().oldest_owed_ns == NOW_NS + number
            taken = await take(backlog, max_items=1)
            await backlog.find_oldest()
            assert backlog.statistics().oldest_owed_ns == NOW_NS + number
            backlog.settle(taken, status=200, at_ns=NOW_NS)
        for nothing in (backlog, logs):
            await nothing.find_oldest()
            assert nothing.statistics().oldest_owed_ns == 0


async def test_until_the_oldest_is_looked_up_that_of_the_rows_before_it_is_told(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        spans, logs = buffer.consumer("a"), buffer.consumer("a", signal=Signal.LOGS)
        signals = (Signal.TRACES, Signal.LOGS, Signal.TRACES)
        for seconds, signal in zip((1, 9, 5), signals, strict=True):
            await buffer.append(request(piece(signal=signal), received_ns=NOW_NS + seconds))
        assert spans.statistics().oldest_owed_ns == 0
        for backlog in (spans, logs):
            await backlog.find_oldest()
        assert logs.statistics().oldest_owed_ns == NOW_NS + 9
        spans.settle(await take(spans, max_items=1), status=200, at_ns=NOW_NS)
        assert spans.statistics().oldest_owed_ns == NOW_NS + 1
        await eventually(lambda: spans.statistics().oldest_owed_ns == NOW_NS + 5)


async def test_since_when_anything_is_owed_is_known_at_once_after_a_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("a")
        for number in range(1, 4):
            await buffer.append(request(piece(), received_ns=NOW_NS + number))
    async with opened(tmp_path) as buffer:
        assert buffer.consumer("a").statistics().oldest_owed_ns == NOW_NS + 1


async def test_first_one_knows_at_once_since_when_it_is_owed_what_was_kept(tmp_path: Path) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        for number in range(1, 4):
            await buffer.append(request(piece(), received_ns=NOW_NS + number))
        assert buffer.consumer("a").statistics().oldest_owed_ns == NOW_NS + 1


async def test_first_one_of_a_signal_is_not_told_the_time_of_another(tmp_path: Path) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        for number, signal in ((1, Signal.LOGS), (5, Signal.TRACES)):
            await buffer.append(request(piece(signal=signal), received_ns=NOW_NS + number))
        spans, metrics = buffer.consumer("a"), buffer.consumer("a", signal=Signal.METRICS)
        await spans.find_oldest()
        assert spans.statistics().oldest_owed_ns == NOW_NS + 5
        assert metrics.statistics().oldest_owed_ns == 0


async def test_what_is_settled_is_written_a_moment_later_and_its_letters_are_counted(
    tmp_path: Path,
) -> None:
    counters = Counters()
    async with opened(tmp_path, counters=counters) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(1,))))
        letter = a_letter(trace_id(1))
        backlog.settle_with(await take(backlog), [letter], status=400, at_ns=NOW_NS)
        await eventually(lambda: "a" in buffer.statistics().dead_letters)

    assert counters.dead_letters[letter.reason] == 1
