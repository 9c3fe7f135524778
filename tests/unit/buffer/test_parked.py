"""What is deferred: owed still, handed out to who asks for it, told of to its own trace only."""

from pathlib import Path

import anyio
import pytest

from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.types import GoneRow, Totals
from relay.model.records import Encoding, OwedRange, Position
from tests.support import builders
from tests.unit.buffer.making import NOW_NS, opened, piece, request, take, take_all, trace_id

pytestmark = pytest.mark.anyio
BAD, GOOD = 7, 8


async def keep(buffer: Buffer) -> None:
    """A row of four spans, one a trace but for the third, which is of the bad one; then another."""
    numbers = [GOOD, GOOD + 1, BAD, GOOD]
    made = builders.request(*(builders.span(traceId=trace_id(n).hex()) for n in numbers))
    body = builders.to_body(made["resourceSpans"])[1:-1]
    await buffer.append(request(piece(body, spans=4, traces=tuple(dict.fromkeys(numbers)))))
    await buffer.append(request(piece(b"{}")))


async def defer_third(backlog: Backlog, trace_ids: bytes = trace_id(BAD)) -> Position:
    """Settle the row but for its third span, which is deferred; its place."""
    row = await take(backlog, max_items=1)
    left, right = await backlog.split(row, 2)
    third, last = await backlog.split(right, 1)
    for part in (left, last):
        backlog.settle(part, status=200, at_ns=NOW_NS)
    backlog.park(third, trace_ids)
    return third.ranges[0].start


async def test_deferred_is_owed_and_handed_out_to_nobody_who_takes(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer)
        place = await defer_third(backlog)

        assert await take_all(backlog) == [b"{}"]
        assert (await take(backlog)).rows[0].row == 2
        assert not backlog.has_more
        assert await backlog.take_newest() is None
        with anyio.move_on_after(0.05) as scope:
            await backlog.wait()
        assert scope.cancelled_caught
        found = backlog.statistics()
        assert (found.owed_items, found.owed_rows, found.oldest_owed_ns) == (2, 2, NOW_NS)

        taken = await backlog.take_parked(place)
        assert taken is not None
        assert (taken.items, taken.rows[0].first_item) == (1, 2)
        assert await backlog.take_parked(place) is None
        assert backlog.statistics().in_flight_items == 2
        backlog.settle(taken, status=200, at_ns=NOW_NS)
        assert backlog.statistics().owed_items == 1
        assert await backlog.take_parked(place) is None


@pytest.mark.parametrize("how", ["given back", "unparked", "restarted"])
async def test_deferred_no_more_it_has_its_old_place(tmp_path: Path, how: str) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer)
        place = await defer_third(backlog)
        taken = await backlog.take_parked(place)
        assert taken is not None
        if how == "given back":
            backlog.give_back(taken)
        else:
            backlog.park(taken, b"")
        if how == "unparked":
            backlog.unpark()
        if how != "restarted":
            assert (await take(backlog)).rows[0].first_item == 2
    if how == "restarted":
        async with opened(tmp_path) as buffer:
            assert (await take(buffer.consumer("a"))).rows[0].first_item == 2


async def test_deferred_gives_way_with_its_row_and_goes_with_its_destination(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        a, b = buffer.consumer("a"), buffer.consumer("b")
        await keep(buffer)
        places = [await defer_third(each) for each in (a, b)]
        gone = (OwedRange(Position(1), Position(2)),)
        a.evict(gone, [GoneRow(1, 4, 1000)])
        await buffer.remove(b.name)

        assert a.statistics().owed_items == 1
        assert await a.take_parked(places[0]) is None
        assert await b.take_parked(places[1]) is None


async def test_what_gave_way_while_it_was_tried_is_not_deferred_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer)
        place = await defer_third(backlog)
        taken = await backlog.take_parked(place)
        assert taken is not None
        backlog.evict((OwedRange(Position(1), Position(2)),), [GoneRow(1, 4, 1000)])
        backlog.park(taken, b"")

        assert await backlog.take_parked(place) is None
        assert backlog.statistics().owed_items == 1


@pytest.mark.parametrize("how", ["settled", "evicted"])
async def test_what_is_owed_anew_is_not_deferred(tmp_path: Path, how: str) -> None:
    row = (OwedRange(Position(1), Position(2)),)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer)
        place = await defer_third(backlog)
        if how == "settled":
            taken = await backlog.take_parked(place)
            assert taken is not None
            backlog.settle(taken, status=200, at_ns=NOW_NS)
        else:
            backlog.evict(row, [GoneRow(1, 4, 1000)])
        backlog.owe(row, Totals(1, 4, 1000))

        assert (await take(backlog)).rows[0].items == 4


@pytest.mark.parametrize("trace_ids", [trace_id(BAD), b""], ids=["known", "unknown"])
async def test_only_the_trace_of_a_deferred_span_is_told_to_wait(
    tmp_path: Path, trace_ids: bytes
) -> None:
    async with opened(tmp_path) as buffer:
        await keep(buffer)
        await defer_third(buffer.consumer("a"), trace_ids)

        for number in (BAD, GOOD):
            (place,) = await buffer.traces.find(trace_id(number))
            (delivery,) = place.deliveries
            waits = number == BAD or not trace_ids
            assert delivery.is_parked == waits
            assert delivery.state == ("waiting" if waits else "delivered")
            assert place.encoding is Encoding.JSON
