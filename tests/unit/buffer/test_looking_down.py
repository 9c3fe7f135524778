"""Rows from the newest down, by their bodies or their traces, and what became of many traces."""

from pathlib import Path

import apsw
import pytest

from relay.buffer.sqlite import browse, trace_queries
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.values import (
    FILTERED_STATUS,
    Extent,
    IdsDown,
    LookBack,
    RowIds,
    RowsDown,
    TraceDelivery,
)
from relay.model.records import RejectedItem, Sender, Signal
from tests.support import builders
from tests.unit.buffer.making import (
    NOW_NS,
    a_letter,
    deliver_all,
    eventually,
    opened,
    piece,
    rejected_span,
    request,
    take,
    trace_id,
)

pytestmark = pytest.mark.anyio
TRACES, LOGS, METRICS = Signal
ALL = 1 << 30
BODY = b"x" * 10


async def keep(buffer: Buffer, signals: str) -> None:
    """A row for each letter: one span of the trace of its number, or one log."""
    for number, each in enumerate(signals, start=1):
        signal = TRACES if each == "t" else LOGS
        made = piece(BODY, traces=(number,), signal=signal)
        await buffer.append(request(made, received_ns=NOW_NS + number))


def rows_of(found: RowsDown | IdsDown) -> tuple[list[int], int]:
    return [each.row for each in found.rows], found.before_row


@pytest.mark.parametrize(
    ("before_row", "most_rows", "most_bytes", "wanted"),
    [
        (100, 10, ALL, ([7, 4, 3, 1], 0)),
        (100, 4, ALL, ([7, 4, 3, 1], 0)),
        (100, 3, ALL, ([7, 4, 3], 3)),
        (100, 2, ALL, ([7, 4], 4)),
        (4, 10, ALL, ([3, 1], 0)),
        (1, 10, ALL, ([], 0)),
        (100, 10, 30, ([7, 4, 3], 3)),
        (100, 10, 29, ([7, 4], 4)),
        (100, 10, 1, ([7], 7)),
    ],
)
async def test_rows_of_a_signal_are_read_down_to_so_many_or_so_large(
    tmp_path: Path, before_row: int, most_rows: int, most_bytes: int, wanted: tuple[list[int], int]
) -> None:
    async with opened(tmp_path) as buffer:
        await keep(buffer, "tlttllt")
        down = buffer.browse.rows_down
        found = await down(TRACES, before_row, most_rows=most_rows, most_bytes=most_bytes)

    assert rows_of(found) == wanted
    assert all(each.signal is TRACES and each.body == BODY for each in found.rows)


@pytest.mark.parametrize(
    ("before_row", "most_rows", "most_ids", "wanted"),
    [
        (100, 10, ALL, ([7, 4, 3, 1], 0)),
        (100, 3, ALL, ([7, 4, 3], 3)),
        (100, 1, ALL, ([7], 7)),
        (100, 10, 2, ([7, 4], 4)),
        (100, 10, 1, ([7], 7)),
        (7, 10, ALL, ([4, 3, 1], 0)),
        (1, 10, ALL, ([], 0)),
    ],
)
async def test_ids_of_spans_alone_are_read_down(
    tmp_path: Path, before_row: int, most_rows: int, most_ids: int, wanted: tuple[list[int], int]
) -> None:
    async with opened(tmp_path) as buffer:
        await keep(buffer, "tlttllt")
        found = await buffer.browse.ids_down(before_row, most_rows=most_rows, most_ids=most_ids)

    assert rows_of(found) == wanted
    assert all(each == RowIds(each.row, trace_id(each.row)) for each in found.rows)


async def test_extent_counts_both_ends_and_one_signal(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await keep(buffer, "tlttllt")
        extent = buffer.browse.extent
        assert await extent(TRACES, 0, 7) == Extent(4, 4, NOW_NS + 1)
        assert await extent(TRACES, 1, 7) == Extent(4, 4, NOW_NS + 1)
        assert await extent(TRACES, 0, 1) == Extent(1, 1, NOW_NS + 1)
        assert await extent(TRACES, 2, 4) == Extent(2, 2, NOW_NS + 3)
        assert await extent(TRACES, 4, 4) == Extent(1, 1, NOW_NS + 4)
        assert await extent(LOGS, 2, 2) == Extent(1, 1, NOW_NS + 2)
        assert await extent(LOGS, 3, 4) == Extent(0, 0, 0)
        assert await extent(TRACES, 4, 3) == Extent(0, 0, 0)
        assert await extent(TRACES, 0, 0) == Extent(0, 0, 0)
        assert buffer.browse.last_row == 7


async def test_rows_of_traces_are_found_over_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "_IDS_STEP", 2)
    async with opened(tmp_path) as buffer:
        for number in range(1, 8):
            signal = LOGS if number == 4 else TRACES
            await buffer.append(request(piece(traces=(1, number), signal=signal)))
        wanted = frozenset({trace_id(1), trace_id(5), trace_id(9)})
        rows = buffer.browse.rows_of_traces
        assert await rows(wanted, 1, 7) == {trace_id(1): [1, 2, 3, 5, 6, 7], trace_id(5): [5]}
        assert await rows(wanted, 1, 100) == {trace_id(1): [1, 2, 3, 5, 6, 7], trace_id(5): [5]}
        assert await rows(wanted, 2, 3) == {trace_id(1): [2, 3]}
        assert await rows(wanted, 3, 5) == {trace_id(1): [3, 5], trace_id(5): [5]}
        # Each row has two ids; the fourth is a log.
        assert await rows(wanted, 5, 5, LookBack(10, 4)) == {
            trace_id(1): [3, 5],
            trace_id(5): [5],
        }
        assert await rows(wanted, 3, 5, LookBack(1, 100)) == {
            trace_id(1): [2, 3, 5],
            trace_id(5): [5],
        }


async def test_nothing_is_looked_for_behind_the_oldest_row(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer, "ttt")
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        await keep(buffer, "tt")
        down = await buffer.browse.ids_down(100, most_rows=10, most_ids=ALL)
        read = await buffer.browse.rows_down(TRACES, 100, most_rows=10, most_bytes=ALL)
        of_first = frozenset({trace_id(1)})
        found = await buffer.browse.rows_of_traces(of_first, 5, 5, LookBack(100, 100))
        arrived = [each.row for each in await buffer.browse.arrivals(0)]

    assert rows_of(down) == rows_of(read) == ([5, 4], 0)
    assert found == {trace_id(1): [4]}
    assert arrived == [1, 2, 3, 4, 5]  # history tells of what has gone


async def test_arrivals_are_told_a_step_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "_ARRIVALS_STEP", 2)
    async with opened(tmp_path) as buffer:
        await keep(buffer, "tlt")
        first = await buffer.browse.arrivals(0)
        rest = await buffer.browse.arrivals(2)

    assert [(each.row, each.signal) for each in first] == [(1, TRACES), (2, LOGS)]
    assert [(each.row, each.signal) for each in rest] == [(3, TRACES)]


async def test_only_destinations_of_spans_say_what_became_of_a_trace(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("b")
        buffer.consumer("a")
        buffer.consumer("a", signal=LOGS)
        await buffer.append(request(piece(traces=(1,))))
        await buffer.append(request(piece(traces=(2,), signal=LOGS)))
        found = await buffer.browse.deliveries({trace_id(1): [1]})
        assert await buffer.browse.deliveries({}) == {}

    assert found == {trace_id(1): [TraceDelivery("a", "waiting"), TraceDelivery("b", "waiting")]}


async def test_rows_that_wait_for_the_first_destination_are_told_of_none(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("gone")
        buffer.owe_only([])  # from here on it is owed to nobody known
        await buffer.append(request(piece(traces=(1,))))
        wanted = (TraceDelivery("gone", "not_owed"),)
        assert await buffer.browse.deliveries({trace_id(1): [1]}) == {trace_id(1): [*wanted]}
        (place,) = await buffer.traces.find(trace_id(1))
        assert place.deliveries == wanted


async def test_what_was_settled_one_by_one_is_told_of_each_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_queries, "_DELIVERIES", 1)
    monkeypatch.setattr(trace_queries, "_LETTERS", 1)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer, "tttt")
        for number, status in ((1, 200), (2, 400), (3, 422), (4, 202)):
            taken = await take(backlog, max_items=1)
            letters = [a_letter(trace_id(number))] if status >= 400 else []
            backlog.settle_with(taken, letters, status=status, at_ns=NOW_NS + 100 + number)
            await buffer.flush()
        found = await buffer.browse.deliveries({trace_id(each): [each] for each in (1, 2, 3, 4)})

    assert found == {
        trace_id(1): [TraceDelivery("a", "delivered", NOW_NS + 101, 200)],
        trace_id(2): [TraceDelivery("a", "set_aside", NOW_NS + 102, 400)],
        trace_id(3): [TraceDelivery("a", "set_aside", NOW_NS + 103, 422)],
        trace_id(4): [TraceDelivery("a", "delivered", NOW_NS + 104, 202)],
    }


@pytest.mark.parametrize("order", [[[9], [2]], [[2], [9]], [[2, 9]], [[9, 2]]])
@pytest.mark.parametrize(("status", "state"), [(200, "delivered"), (FILTERED_STATUS, "filtered")])
async def test_of_one_row_the_part_that_was_set_aside_is_told_of_its_trace_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, state: str, order: list[list[int]]
) -> None:
    monkeypatch.setattr(trace_queries, "_LETTERS", 1)  # one letter is looked at a time
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        made = builders.request(*(builders.span(traceId=trace_id(n).hex()) for n in (1, 2)))
        body = builders.to_body(made["resourceSpans"])[1:-1]
        await buffer.append(request(piece(body, spans=2, traces=(1, 2))))
        left, right = await backlog.split(await take(backlog), 1)
        backlog.settle(left, status=status, at_ns=NOW_NS + 1)
        letters = [a_letter(b"".join(map(trace_id, each))) for each in order]
        backlog.settle_with(right, letters, status=300, at_ns=NOW_NS + 2)
        await buffer.flush()
        found = await buffer.browse.deliveries({trace_id(1): [1], trace_id(2): [1]})

    assert found == {
        trace_id(1): [TraceDelivery("a", state, NOW_NS + 1, status)],
        trace_id(2): [TraceDelivery("a", "set_aside", NOW_NS + 2, 300)],
    }


async def test_parked_part_is_told_of_its_own_trace_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(1, 2))))
        await buffer.append(request(piece(traces=(2,))))
        backlog.park(await take(backlog, max_items=1), trace_id(1))
        found = await buffer.browse.deliveries({trace_id(1): [1], trace_id(2): [1, 2]})

    assert found == {
        trace_id(1): [TraceDelivery("a", "waiting", is_parked=True)],
        trace_id(2): [TraceDelivery("a", "not_owed"), TraceDelivery("a", "waiting")],
    }


async def test_sender_of_a_refused_request_is_remembered_when_it_was_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        refused: tuple[RejectedItem, ...] = (rejected_span(),)
        await buffer.append(request(piece(), rejected=refused, received_ns=NOW_NS + 5))
        await buffer.append(request(piece(), received_ns=NOW_NS + 6))
        sender = buffer.browse.sender_of_rejected
        assert sender(NOW_NS + 5) == Sender("192.0.2.7", user_agent="sdk")
        assert sender(NOW_NS + 6) is None


@pytest.mark.parametrize(("before_ns", "is_told"), [(59 * 10**9, True), (61 * 10**9, False)])
async def test_delivery_may_be_a_minute_older_than_its_row_by_a_clock_that_was_set_back(
    tmp_path: Path, before_ns: int, is_told: bool
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(1,))))
        await deliver_all(backlog, at_ns=NOW_NS - before_ns)
        await buffer.flush()
        (told,) = (await buffer.browse.deliveries({trace_id(1): [1]}))[trace_id(1)]

    assert (told.state == "delivered") is is_told


@pytest.mark.parametrize("damage", ["x'00'", "'text'", "zeroblob(17)"])
async def test_row_whose_ids_were_hit_is_left_out_of_what_is_found_by_them(
    tmp_path: Path, damage: str
) -> None:
    async with opened(tmp_path) as buffer:
        await keep(buffer, "ttt")
    connection = apsw.Connection(str(tmp_path / "relay.db"))
    connection.execute(f"UPDATE traces SET ids = {damage} WHERE row = 2")  # noqa: S608 - ours
    connection.close()
    async with opened(tmp_path) as buffer:
        down = await buffer.browse.ids_down(100, most_rows=10, most_ids=ALL)
        wanted = frozenset(trace_id(number) for number in range(4))
        found = await buffer.browse.rows_of_traces(wanted, 1, 3)

    assert rows_of(down) == ([3, 1], 0)
    assert found == {trace_id(1): [1], trace_id(3): [3]}
