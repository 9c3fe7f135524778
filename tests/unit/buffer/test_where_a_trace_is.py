"""Where a trace is: every place of it, what became of it there, and steps that miss none of it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from relay.buffer.backlog_name import BacklogName
from relay.buffer.sqlite import reader, trace_queries
from relay.buffer.sqlite.reader import ask_directly
from relay.buffer.sqlite.trace_lookup import TracesAtRest, rows_of
from relay.buffer.sqlite.trace_queries import rows_within, trace_deliveries, trace_rows
from relay.buffer.values import FILTERED_STATUS, RecentTrace, TraceDelivery
from relay.model.records import Signal
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
ONE, OTHER = trace_id(1), trace_id(2)


async def test_every_row_delivery_and_letter_of_a_trace_is_found_by_small_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FIRST_STEP", 1), ("_MOST_STEP", 2), ("_LEAST_STEP", 1)):
        monkeypatch.setattr(trace_queries, name, value)
    for name in ("_PLACES", "_DELIVERIES", "_LETTERS"):
        monkeypatch.setattr(trace_queries, name, 1)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        for number in range(1, 8):
            await buffer.append(request(piece(traces=(1 if number % 2 else 2,))))
        for number, status in enumerate((200, 202, 400, 200, 422), start=1):
            letters = [a_letter(ONE, status=status)] if status >= 400 else []
            taken = await take(backlog, max_items=1)
            backlog.settle_with(taken, letters, status=status, at_ns=NOW_NS + number)
            await buffer.flush()
        found = await buffer.traces.find(ONE)

    assert [(each.row, each.deliveries) for each in found if each.dead_letter is None] == [
        (1, (TraceDelivery("a", "delivered", NOW_NS + 1, 200),)),
        (3, (TraceDelivery("a", "set_aside", NOW_NS + 3, 400),)),
        (5, (TraceDelivery("a", "set_aside", NOW_NS + 5, 422),)),
        (7, (TraceDelivery("a", "waiting"),)),
    ]
    letters = [each.dead_letter for each in found if each.dead_letter is not None]
    assert [each.status for each in letters] == [400, 422]


async def test_only_so_many_rows_of_a_trace_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_queries, "MOST_ROWS", 3)
    async with opened(tmp_path) as buffer:
        for _ in range(5):
            await buffer.append(request(piece(traces=(1,))))
        assert [each.row for each in await buffer.traces.find(ONE)] == [1, 2, 3]


async def test_what_was_refused_on_the_way_in_is_found_by_the_id_it_was_refused_for(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        bad, other = "not an id", "another"
        await buffer.append(request(rejected=(rejected_span(bad), rejected_span(other))))
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(9,))))
        letter = replace(a_letter(trace_id(9)), words=bad)  # an upstream that says the same
        backlog.settle_with(await take(backlog), [letter], status=400, at_ns=NOW_NS)
        await buffer.flush()
        found = await buffer.traces.find(ONE, bad)
        nothing = await buffer.traces.find(ONE)

    assert [(each.row, each.letter_id) for each in found] == [(0, 1)]
    letter = found[0].dead_letter  # type: ignore[assignment]
    assert (letter.words, letter.destination) == (bad, "")
    assert found[0].set_aside_ns == NOW_NS
    assert nothing == []


async def test_each_request_of_a_row_is_told_of_by_itself(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        sent = [request(piece(b"{}", traces=(each,)), agent=f"sdk/{each}") for each in (1, 2)]
        await asyncio.gather(*map(buffer.append, sent))
        taken = await take(backlog)
        assert len(taken.rows) == 1
        (place,) = await buffer.traces.find(ONE)
        assert (place.row, place.user_agent, place.items) == (1, "sdk/1", 1)
        assert place.deliveries == (TraceDelivery("a", "waiting", is_in_flight=True),)
        backlog.give_back(taken)
        (place,) = await buffer.traces.find(OTHER)
        assert place.user_agent == "sdk/2"
        assert place.deliveries == (TraceDelivery("a", "waiting"),)


async def test_part_of_a_row_that_was_settled_is_told_apart_from_the_rest(tmp_path: Path) -> None:
    body = b'{"resource":{},"scopeSpans":[{"spans":[{"spanId":"%016x"}]}]}'
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        sent = [request(piece(body % each, traces=(each,))) for each in (1, 2)]
        await asyncio.gather(*map(buffer.append, sent))
        left, right = await backlog.split(await take(backlog), 1)
        backlog.settle(left, status=FILTERED_STATUS, at_ns=NOW_NS + 5)
        states = [(await buffer.traces.find(each))[0].deliveries for each in (ONE, OTHER)]
        assert states == [
            (TraceDelivery("a", "filtered", NOW_NS + 5, FILTERED_STATUS),),
            (TraceDelivery("a", "waiting", is_in_flight=True),),
        ]
        together = await buffer.browse.deliveries({ONE: [1], OTHER: [1]})
        assert [tuple(together[each]) for each in (ONE, OTHER)] == states
        backlog.settle(right, status=299, at_ns=NOW_NS + 6)
        await buffer.flush()
        states = [(await buffer.traces.find(each))[0].deliveries for each in (ONE, OTHER)]

    assert states == [
        (TraceDelivery("a", "filtered", NOW_NS + 5, FILTERED_STATUS),),
        (TraceDelivery("a", "delivered", NOW_NS + 6, 299),),
    ]


@pytest.mark.parametrize(
    ("status", "state"), [(200, "delivered"), (299, "delivered"), (300, "set_aside")]
)
async def test_what_an_answer_means_goes_by_its_status(
    tmp_path: Path, status: int, state: str
) -> None:
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece(traces=(1,))))
        backlog = buffer.consumer("a")
        letters = [] if status < 300 else [a_letter(ONE, status=status)]
        backlog.settle_with(await take(backlog), letters, status=status, at_ns=NOW_NS + 1)
        await buffer.flush()
        place = (await buffer.traces.find(ONE))[0]
        together = await buffer.browse.deliveries({ONE: [1]})

    assert place.deliveries == (TraceDelivery("a", state, NOW_NS + 1, status),)
    assert together == {ONE: list(place.deliveries)}


async def test_newest_traces_are_told_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.buffer.sqlite.trace_lookup._RECENT_ROWS", 1)
    async with opened(tmp_path) as buffer:
        assert await buffer.traces.recent() == []
        for number, traces in enumerate(((1,), (2, 3), (1, 4)), start=1):
            await buffer.append(request(piece(traces=traces), received_ns=NOW_NS + number))
        await buffer.append(request(piece(traces=(5,), signal=LOGS)))
        found = await buffer.traces.recent()
        two = await buffer.traces.recent(2)
        three = await buffer.traces.recent(3)
        await buffer.append(request(piece(traces=tuple(range(100, 160)))))
        assert len(await buffer.traces.recent()) == 50

    assert found == [
        RecentTrace(trace_id(number), row, NOW_NS + row, ("shop",), "192.0.2.7")
        for number, row in ((1, 3), (4, 3), (2, 2), (3, 2))
    ]
    assert two == found[:2]
    assert three == found[:3]


async def test_newest_traces_are_found_behind_many_rows_that_name_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_RECENT_LOOKS", 2)
    async with opened(tmp_path) as buffer:
        await buffer.append(request(piece(traces=(1,))))
        await buffer.append(request(piece(traces=(2,))))
        for _ in range(5):
            await buffer.append(request(piece(signal=METRICS)))
        assert [each.trace_id for each in await buffer.traces.recent()] == [OTHER, ONE]


async def test_rows_of_a_trace_are_told_apart_by_signal_and_by_whether_they_are_kept(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, keep_delivered_seconds=0, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(2):
            await buffer.append(request(piece(traces=(1,))))
        await deliver_all(backlog)
        await eventually(lambda: buffer.statistics().rows == 0)
        for signal in (TRACES, LOGS, TRACES):
            await buffer.append(request(piece(traces=(1,), signal=signal)))
        ask = buffer._reader.ask
        spans, logs = await rows_of(ask, ONE, TRACES), await rows_of(ask, ONE, LOGS)
        none = await rows_of(ask, OTHER, TRACES)

    assert (spans.kept, spans.gone) == ([3, 5], [1, 2])
    assert (logs.kept, logs.gone) == ([4], [])
    assert none == ([], [])


async def test_what_was_set_aside_is_told_of_so_when_its_letter_has_gone(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(traces=(1,))))
        backlog.settle_with(await take(backlog), [a_letter(ONE)], status=400, at_ns=NOW_NS)
        await buffer.flush()
        assert await buffer.dead_letters.discard([1]) == [1]
        (place,) = await buffer.traces.find(ONE)

    assert place.deliveries == (TraceDelivery("a", "set_aside", NOW_NS, 400),)


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_at_rest_it_is_told_who_is_owed(tmp_path: Path, is_damaged: bool) -> None:
    async with opened(tmp_path) as buffer:
        buffer.consumer("b", signal=LOGS)
        buffer.consumer("a")
        await buffer.append(request(piece(traces=(1,))))
    connection = apsw.Connection(str(tmp_path / "relay.db"))
    if is_damaged:  # then a relay that starts on it takes all of it for owed
        connection.execute("UPDATE destinations SET ranges = zeroblob(9)")
    try:
        traces = TracesAtRest(ask_directly(connection))
        names = await traces.backlogs()
        (place,) = await traces.find(ONE)
        recent = await traces.recent()
        count = await traces.count_kept(frozenset({ONE}))
    finally:
        connection.close()

    assert names == [BacklogName("a", TRACES), BacklogName("b", LOGS)]
    assert place.deliveries == (TraceDelivery("a", "waiting"),)
    assert [each.trace_id for each in recent] == [ONE]
    assert count == 1


def test_rows_of_a_delivery_end_before_one_of_which_it_has_no_part() -> None:
    rows = [3, 5, 8]
    assert rows_within(rows, (3, 0), (5, 0)) == [3]
    assert rows_within(rows, (3, 0), (5, 1)) == [3, 5]
    assert rows_within(rows, (4, 0), (9, 0)) == [5, 8]
    assert rows_within(rows, (4, 0), (5, 0)) == []
    assert rows_within(rows, (9, 0), (12, 0)) == []


def test_search_ends_at_the_last_row_there_is() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE traces (row INTEGER PRIMARY KEY, ids BLOB)")
    # The id may stand across two others, where it means nothing.
    across = b"\0" * 8 + ONE + b"\0" * 8
    held = [(2, ONE), (4, OTHER + ONE), (5, across), (9, ONE)]
    connection.executemany("INSERT INTO traces VALUES (?,?)", held)

    assert trace_rows(connection, ONE, 0, 2)[:2] == ([2, 4], 4)
    assert trace_rows(connection, ONE, 2, 1)[:2] == ([4], 4)
    assert trace_rows(connection, ONE, 4, 2)[:2] == ([9], 9)
    assert trace_rows(connection, ONE, 4, 3)[:2] == ([9], None)
    assert trace_rows(connection, ONE, 9, 7) == ([], None, 7)


def test_deliveries_are_those_of_the_rows_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_queries, "_DELIVERIES", 3)
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE TABLE deliveries (id INTEGER PRIMARY KEY, destination, start_row, start_span,"
        " end_row, end_span, at_ns, status)"
    )
    connection.executemany(
        "INSERT INTO deliveries VALUES (?,'a',?,0,?,?,?,200)",
        [(1, 1, 2, 0, 11), (2, 2, 5, 0, 12), (3, 5, 5, 1, 13), (5, 6, 9, 0, 14), (6, 9, 10, 0, 15)],
    )

    def found(rows: list[int], after: int) -> tuple[list[int], int | None]:
        entries, last = trace_deliveries(connection, rows, after)
        return [each.at_ns for each in entries], last

    assert found([1, 5], 0) == ([11, 13], 3)
    assert found([1, 5], 3) == ([], 6)
    assert found([2, 8], 0) == ([12], 3)
    assert found([2, 9], 3) == ([15], 6)
    assert found([2, 9], 6) == ([], None)
