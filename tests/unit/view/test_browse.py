"""The list of traces over a buffer: what is read for it, what is remembered, how far it looks."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.values import LookBack
from relay.model.records import StoredRow
from relay.view import trace_lines
from relay.view.browse import Browser, Cursor
from relay.view.query import parse
from tests.unit.buffer.making import opened, piece, request, trace_id

pytestmark = pytest.mark.anyio


class Counting:
    """A buffer that counts the rows whose bodies are asked for."""

    def __init__(self, buffer: Buffer) -> None:
        self.browse = buffer.browse
        self.rows_read: list[int] = []
        self._buffer = buffer

    async def read_rows(self, rows: Iterable[int]) -> list[StoredRow]:
        found = await self._buffer.read_rows(rows)
        self.rows_read += [row.row for row in found]
        return found


def a_span(trace: int, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "traceId": trace_id(trace).hex(),
        "spanId": f"{number:016x}",
        "name": f"step {number}",
        "startTimeUnixNano": str(number),
        **more,
    }


async def keep(buffer: Buffer, *spans: dict[str, Any]) -> None:
    """A request of these spans, in a row of its own."""
    body = msgspec.json.encode({"resource": {}, "scopeSpans": [{"spans": spans}]})
    ids = dict.fromkeys(int(each["traceId"], 16) for each in spans)
    await buffer.append(request(piece(body, spans=len(spans), traces=tuple(ids))))


async def listed(browser: Browser, cursor: str = "", limit: int = 100, query: str = "") -> Any:
    begin = Cursor.of(cursor) if cursor else None
    return await browser.traces(parse(query), begin, limit)


def names_in(found: Any) -> list[tuple[int, int]]:
    """Each trace with how many spans it has."""
    return [(int(each["trace_id"], 16), each["spans"]) for each in found["traces"]]


async def test_only_rows_whose_traces_are_shown_are_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for trace in range(1, 31):
            await keep(buffer, a_span(trace))
        log = Counting(buffer)
        found = await listed(Browser(log), limit=2)  # type: ignore[arg-type]

    assert names_in(found) == [(30, 1), (29, 1)]
    assert sorted(log.rows_read) == [29, 30]


async def test_list_that_is_asked_for_again_reads_what_is_new_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for trace in range(1, 6):
            await keep(buffer, a_span(trace))
        log = Counting(buffer)
        browser = Browser(log)  # type: ignore[arg-type]
        first = await listed(browser)
        log.rows_read.clear()
        assert await listed(browser) == first
        assert log.rows_read == []

        await keep(buffer, a_span(6), a_span(2, 2))
        assert names_in(await listed(browser)) == [(2, 2), (6, 1), (5, 1), (4, 1), (3, 1), (1, 1)]
        assert sorted(log.rows_read) == [2, 6]


async def test_what_nobody_asks_for_any_more_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as buffer:
        await keep(buffer, a_span(1))
        log = Counting(buffer)
        browser = Browser(log)  # type: ignore[arg-type]
        await listed(browser)
        browser.forget_unused()
        await listed(browser)
        assert log.rows_read == [1]
        monkeypatch.setattr(trace_lines, "FORGET_SECONDS", -1.0)
        browser.forget_unused()
        await listed(browser)
        assert log.rows_read == [1, 1]


@pytest.mark.parametrize("query", ["", "step"])
async def test_every_trace_is_met_once_though_it_is_in_several_rows(
    tmp_path: Path, query: str
) -> None:
    async with opened(tmp_path) as buffer:
        for number in range(1, 5):
            await keep(buffer, *(a_span(trace, number) for trace in range(number, number + 6)))
        browser = Browser(buffer)
        met: list[tuple[int, int]] = []
        cursor = ""
        while True:
            found = await listed(browser, cursor, 2, query)
            met += names_in(found)
            if found["next"] is None:
                break
            cursor = found["next"]

    # The newest row first, in it the last one first; of how many rows each is.
    assert met == [(9, 1), (8, 2), (7, 3), (6, 4), (5, 4), (4, 4), (3, 3), (2, 2), (1, 1)]


async def test_trace_stands_in_the_newest_row_where_a_span_of_it_is_meant(tmp_path: Path) -> None:
    failed: dict[str, Any] = {"status": {"code": 2}}
    async with opened(tmp_path) as buffer:
        await keep(buffer, a_span(1, **failed), a_span(2, **failed))
        await keep(buffer, a_span(1, 2, **failed))
        await keep(buffer, a_span(2, 2), a_span(3))
        browser = Browser(buffer)
        first = await listed(browser, limit=1, query="error")
        second = await listed(browser, first["next"], 1, "error")
        third = await listed(browser, second["next"] or "0.0.0", 1, "error")

    assert [names_in(each) for each in (first, second, third)] == [[(1, 2)], [(2, 2)], []]


async def test_line_says_of_what_was_sent_twice_what_came_last(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        await keep(buffer, a_span(1, status={"code": 2}))
        await keep(buffer, a_span(1))
        (line,) = (await listed(Browser(buffer)))["traces"]

    assert (line["spans"], line["errors"]) == (1, 0)


@pytest.mark.parametrize(
    ("back", "rows"),
    [
        (LookBack(0, 0), [8]),
        (LookBack(3, 100), [5, 6, 7, 8]),
        (LookBack(100, 2), [6, 7, 8]),
        (LookBack(100, 100), [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
async def test_rest_of_a_trace_is_looked_for_so_many_rows_and_ids_back(
    tmp_path: Path, back: LookBack, rows: list[int]
) -> None:
    async with opened(tmp_path) as buffer:
        for number in range(8):
            await keep(buffer, a_span(1, number))
        assert buffer.browse is not None
        found = await buffer.browse.rows_of_traces(frozenset((trace_id(1),)), 8, 8, back)

    assert found == {trace_id(1): rows}


async def test_ids_are_read_down_until_there_are_enough(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        for number in range(1, 5):
            await keep(buffer, a_span(number), a_span(number + 100))
        browse = buffer.browse
        assert browse is not None
        step = await browse.ids_down(5, most_rows=10, most_ids=3)
        rest = await browse.ids_down(step.before_row, most_rows=10, most_ids=100)
        first = await browse.ids_down(5, most_rows=1, most_ids=100)

    assert [each.row for each in step.rows] == [4, 3]
    assert step.rows[0].trace_ids == trace_id(4) + trace_id(104)
    assert ([each.row for each in rest.rows], rest.before_row) == ([2, 1], 0)
    assert ([each.row for each in first.rows], first.before_row) == ([4], 4)
