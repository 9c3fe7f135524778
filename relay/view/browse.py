"""Traces and log records, newest first, all or those that a search means, a step at a time.

There is no index to search in, and there will be none: it would cost every span that comes in. A
step reads kept rows from the newest down and ends when it has enough, or after `STEP_SECONDS`; it
says how far it looked, and its cursor goes on from there.

A trace stands where its newest span is that was meant when the first step was asked for. What comes
meanwhile moves nothing: every trace is met once.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from relay.buffer.api import Browse, Log
from relay.buffer.values import IdsDown, RowIds, RowsDown, unpacked
from relay.model.errors import BufferUnavailable
from relay.model.records import Signal, StoredRow
from relay.model.units import iso
from relay.view.as_destination import Seen
from relay.view.in_thread import OneAtATime
from relay.view.item_lines import lines_of_item
from relay.view.items import Placed, as_item, each_in_turn
from relay.view.query import BadSearch, Query
from relay.view.trace_lines import MOST_TRACE_ROWS, TraceLines, by_trace

Result = TypeVar("Result")

STEP_SECONDS: Final = 0.25
STEP_ROWS: Final = 100
STEP_BYTES: Final = 1024 * 1024


class Cursor(NamedTuple):
    """Where a list goes on: in row `row`, behind `skip` of what it holds; rows above `until` came
    after somebody began to look.
    """

    until: int
    row: int
    skip: int = 0

    @classmethod
    def of(cls, text: str) -> "Cursor":
        """As a step gave it. Raises BadSearch."""
        parts = text.split(".")
        if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 19 for p in parts):
            raise BadSearch("this cursor is none that a list gave")
        return cls(*map(int, parts))

    def __str__(self) -> str:
        return f"{self.until}.{self.row}.{self.skip}"


class Candidate(NamedTuple):
    """A trace in a row that has a span that is meant; `number` counts those of the row."""

    row: int
    number: int
    trace_id: str


# Rows from one down, and what makes of them what is looked for: where the next step begins, once
# that is enough.
Read = Callable[[int], Awaitable[RowsDown | IdsDown]]
Take = Callable[["Found", list[Any], int, int], Awaitable[Cursor | None]]


@dataclass(slots=True)
class Found:
    """What a step met, and where the next goes on; None: that was the end."""

    traces: dict[str, int] = field(default_factory=dict)  # by id the row where it stands
    lines: list[dict[str, Any]] = field(default_factory=list)
    next: Cursor | None = None


class Browser:
    """Lists and searches over what `log` keeps. One decodes at a time, in a thread of its own."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._thread = OneAtATime()
        self._lines = TraceLines(log, self._thread)

    @property
    def browse(self) -> Browse:
        """Rows from the newest down. Raises BufferUnavailable."""
        if self._log.browse is None:
            raise BufferUnavailable("this buffer cannot be looked through")
        return self._log.browse

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """What `work` returns: it decodes, and the event loop has other things to do."""
        return await self._thread.run(work)

    def forget_unused(self) -> None:
        """Forget what is remembered when nobody has looked for a while."""
        self._lines.forget_unused()

    async def traces(self, query: Query, cursor: Cursor | None, limit: int) -> dict[str, Any]:
        """A step through the traces of which one span has all terms of `query`."""
        begin = self._begin(cursor)
        if query.trace_id:
            found = await self._one(query, begin.until)
        elif query:
            take = partial(self._take_meant, query=query, until=begin.until)
            found = await self._step(self._rows_down(Signal.TRACES), begin, limit, take)
        else:
            found = await self._step(
                partial(self.browse.ids_down, most_rows=STEP_ROWS, most_ids=limit),
                begin,
                limit,
                partial(self._take_ids, begin=begin),
            )
        lines = await self._lines.of(self.browse, found.traces)
        return {"traces": lines, **await self._reached(Signal.TRACES, begin, found.next)}

    async def _one(self, query: Query, until: int) -> Found:
        """The trace that the search names, if a span of it is meant: the ids say where it is."""
        found = Found()
        trace_id = bytes.fromhex(query.trace_id)
        kept = await self.browse.rows_of_traces(frozenset((trace_id,)), 1, until)
        rows = kept.get(trace_id, [])
        if await self._are_meant({query.trace_id: rows}, query):
            found.traces[query.trace_id] = rows[-1]
        return found

    async def lines(
        self,
        signal: Signal,
        query: Query,
        cursor: Cursor | None,
        limit: int,
        *,
        after: int = 0,
        seen: Seen = list,
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A step through the items of a signal that have all terms of `query`, in rows above
        `after`: their lines, and how far it looked. `seen` makes of rows what may be seen of them.
        """
        begin = self._begin(cursor)
        take = partial(self._take_lines, query=query, signal=signal, seen=seen)
        found = await self._step(self._rows_down(signal), begin, limit, take, after=after)
        return found.lines, await self._reached(signal, begin, found.next)

    def _begin(self, cursor: Cursor | None) -> Cursor:
        last = self.browse.last_row
        if cursor is None:
            return Cursor(last, last)
        return cursor._replace(until=min(cursor.until, last), row=min(cursor.row, last))

    def _rows_down(self, signal: Signal) -> Read:
        return partial(self.browse.rows_down, signal, most_rows=STEP_ROWS, most_bytes=STEP_BYTES)

    async def _step(
        self, read: Read, begin: Cursor, limit: int, take: Take, *, after: int = 0
    ) -> Found:
        """Read rows down from `begin` until `take` has put `limit` into what was found; none of
        `after` and below.
        """
        found = Found()
        row, skip = begin.row, begin.skip
        ends = time.monotonic() + STEP_SECONDS
        while True:
            chunk = await read(row + 1)
            if chunk.rows and chunk.rows[0].row != row:
                skip = 0  # the row that was cut has gone meanwhile
            rows = [each for each in chunk.rows if each.row > after]
            found.next = await take(found, rows, skip, limit)
            if found.next is not None or chunk.before_row - 1 <= after:
                break
            row, skip = chunk.before_row - 1, 0
            if time.monotonic() > ends:
                found.next = Cursor(begin.until, row)
                break
        if found.next is not None:
            found.next = found.next._replace(until=begin.until)
        return found

    async def _take_lines(
        self,
        found: Found,
        rows: list[StoredRow],
        skip: int,
        limit: int,
        *,
        query: Query,
        signal: Signal,
        seen: Seen,
    ) -> Cursor | None:
        return await self.in_thread(
            lambda: _take_lines(found, seen(rows), skip, limit, query, signal)
        )

    async def _take_ids(
        self, found: Found, rows: list[RowIds], skip: int, limit: int, *, begin: Cursor
    ) -> Cursor | None:
        """Put the traces of these rows into `found` that do not stand further up: no span of them
        need be read for it.
        """
        candidates = _after(skip, rows, [each for row in rows for each in _candidates_of_ids(row)])
        above: dict[str, list[int]] = {}
        if begin.row < begin.until or begin.skip:  # in what earlier steps have listed
            above = await self._rows_of(candidates, begin.row, begin.until)
        for each in candidates:
            if len(found.traces) >= limit:
                return Cursor(begin.until, each.row, each.number)
            if not any(row > each.row for row in above.get(each.trace_id, ())):
                found.traces.setdefault(each.trace_id, each.row)
        return None

    async def _take_meant(
        self,
        found: Found,
        rows: list[StoredRow],
        skip: int,
        limit: int,
        *,
        query: Query,
        until: int,
    ) -> Cursor | None:
        """Put the traces of these rows into `found` of which a span is meant, and none of them
        further up.
        """
        while rows:
            most = skip + limit - len(found.traces)
            meant, looked = await self.in_thread(partial(_meant, rows, query, most))
            candidates = _after(skip, rows, meant)
            stands_above = {each.trace_id for each in {*meant} - {*candidates}} | {*found.traces}
            new = [each for each in candidates if each.trace_id not in stands_above]
            above = await self._rows_of(new, rows[0].row + 1, until)
            stands_above |= await self._are_meant(above, query)
            for each in new:
                if len(found.traces) >= limit:
                    return Cursor(until, each.row, each.number)
                if each.trace_id in found.traces or each.trace_id in stands_above:
                    continue
                found.traces[each.trace_id] = each.row
            rows, skip = rows[looked:], 0
        return None

    async def _are_meant(self, rows_of: Mapping[str, Sequence[int]], query: Query) -> set[str]:
        """Those traces of which a span in those rows is meant."""
        found: set[str] = set()

        def take(trace_id: str, spans: list[Placed]) -> None:
            if trace_id not in found and _is_meant(spans, query):
                found.add(trace_id)

        recent = {each: rows[-MOST_TRACE_ROWS:] for each, rows in rows_of.items()}
        await self._lines.read(recent, take)
        return found

    async def _rows_of(
        self, candidates: Sequence[Candidate], first_row: int, last_row: int
    ) -> dict[str, list[int]]:
        """Which of those rows hold them."""
        if not candidates or first_row > last_row:
            return {}
        wanted = frozenset(bytes.fromhex(each.trace_id) for each in candidates)
        found = await self.browse.rows_of_traces(wanted, first_row, last_row)
        return {trace_id.hex(): rows for trace_id, rows in found.items()}

    async def _reached(
        self, signal: Signal, begin: Cursor, following: Cursor | None
    ) -> dict[str, Any]:
        """How far all steps so far have looked, and of how much."""
        lowest = following.row + (not following.skip) if following else 1
        whole = await self.browse.extent(signal, 1, begin.until)
        looked = await self.browse.extent(signal, lowest, begin.until)
        return {
            "next": str(following) if following else None,
            "looked": {
                "items": looked.items,
                "of_items": whole.items,
                "back_to": iso(looked.oldest_ns or whole.oldest_ns),
                "kept_since": iso(whole.oldest_ns),
                "is_whole": following is None,
            },
        }


def _take_lines(
    found: Found, rows: list[StoredRow], skip: int, limit: int, query: Query, signal: Signal
) -> Cursor | None:
    for row, items in each_in_turn(rows):
        for number, placed in enumerate(reversed(items)):
            if number < skip and row is rows[0]:
                continue
            if len(found.lines) >= limit:
                return Cursor(0, row.row, number)
            found.lines += lines_of_item(placed, signal, row.received_ns, query)
    return None


def _after(
    skip: int, rows: Sequence[StoredRow | RowIds], candidates: list[Candidate]
) -> list[Candidate]:
    """Without the first `skip` of the first row, which were listed before."""
    return [each for each in candidates if each.row < rows[0].row or each.number >= skip]


def _candidates_of_ids(row: RowIds) -> list[Candidate]:
    """All traces of a row, newest first."""
    ids = reversed(dict.fromkeys(unpacked(row.trace_ids)))
    return [Candidate(row.row, at, trace_id.hex()) for at, trace_id in enumerate(ids)]


def _meant(rows: list[StoredRow], query: Query, most: int) -> tuple[list[Candidate], int]:
    """The traces that are meant, newest first: `most` of them, and all of the row that has the
    last; and how many rows that were.
    """
    found: list[Candidate] = []
    looked = 0
    for row, items in each_in_turn(rows):
        own = by_trace(items)
        meant = [trace_id for trace_id in reversed(own) if _is_meant(own[trace_id], query)]
        found += [Candidate(row.row, at, each) for at, each in enumerate(meant)]
        looked += 1
        if len(found) >= most:
            break
    return found, looked


def _is_meant(spans: Iterable[Placed], query: Query) -> bool:
    return any(query(as_item(each, Signal.TRACES)) for each in spans)
