"""Traces and log records, newest first, all or those that a search means, a step at a time.

There is no index to search in, and there will be none: it would cost every span that comes in. A
step reads kept rows from the newest down and ends when it has enough, or after `STEP_SECONDS`; it
says how far it looked, and its cursor goes on from there.

A trace stands where its newest span is that was meant when the first step was asked for. What comes
meanwhile moves nothing: every trace is met once.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import anyio
import anyio.to_thread

from relay.buffer.api import Browse, Log
from relay.buffer.values import TraceDelivery
from relay.model.errors import BufferUnavailable
from relay.model.records import Signal, StoredRow
from relay.model.units import iso
from relay.traces.where import STATES
from relay.view.as_destination import Seen
from relay.view.item_lines import lines_of_item
from relay.view.items import Placed, as_item, each_in_turn
from relay.view.query import BadSearch, Query
from relay.view.summaries import distinct, summary_of

Result = TypeVar("Result")
Facts = Callable[[Sequence[Placed]], Mapping[str, Any]]

STEP_SECONDS: Final = 0.25
STEP_ROWS: Final = 100
STEP_BYTES: Final = 1024 * 1024
MOST_TRACE_ROWS: Final = 50  # of one trace that its line is made of
LOOK_BACK_ROWS: Final = 2000  # before its newest row, for the rest of a trace
_READ_ROWS: Final = 20


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


# The spans of a trace in a row, by both.
Spans = dict[tuple[int, str], list[Placed]]


@dataclass(slots=True)
class Found:
    """What a step met, and where the next goes on; None: that was the end."""

    traces: dict[str, int] = field(default_factory=dict)  # by id the row where it stands
    spans: Spans = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    next: Cursor | None = None


class Browser:
    """Lists and searches over what `log` keeps. One decodes at a time, in a thread of its own."""

    def __init__(self, log: Log, facts: Facts = lambda _spans: {}) -> None:
        """`facts` adds to the line of a trace what else is known of its spans."""
        self._log = log
        self._facts = facts
        self._limiter: anyio.CapacityLimiter | None = None

    @property
    def browse(self) -> Browse:
        """Rows from the newest down. Raises BufferUnavailable."""
        if self._log.browse is None:
            raise BufferUnavailable("this buffer cannot be looked through")
        return self._log.browse

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """What `work` returns: it decodes, and the event loop has other things to do."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(1)
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)

    async def traces(self, query: Query, cursor: Cursor | None, limit: int) -> dict[str, Any]:
        """A step through the traces of which one span has all terms of `query`."""
        begin = self._begin(cursor)
        if query.trace_id:
            found = await self._one(query, begin.until)
        else:
            found = await self._step(
                Signal.TRACES,
                begin,
                limit,
                partial(self._take_traces, query=query, until=begin.until),
            )
        lines = await self.lines_of(found.traces, found.spans)
        return {"traces": lines, **await self._reached(Signal.TRACES, begin, found.next)}

    async def _one(self, query: Query, until: int) -> Found:
        """The trace that the search names, if a span of it is meant: the ids say where it is."""
        found = Found()
        trace_id = bytes.fromhex(query.trace_id)
        kept = await self.browse.rows_of_traces(frozenset((trace_id,)), 1, until)
        rows = kept.get(trace_id, [])
        await self._read(found.spans, {query.trace_id: rows})
        if any(_is_meant(own, query) for own in found.spans.values()):
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
        found = await self._step(signal, begin, limit, take, after=after)
        return found.lines, await self._reached(signal, begin, found.next)

    def _begin(self, cursor: Cursor | None) -> Cursor:
        last = self.browse.last_row
        if cursor is None:
            return Cursor(last, last)
        return cursor._replace(until=min(cursor.until, last), row=min(cursor.row, last))

    async def _step(
        self,
        signal: Signal,
        begin: Cursor,
        limit: int,
        take: Callable[[Found, list[StoredRow], int, int], Awaitable[Cursor | None]],
        *,
        after: int = 0,
    ) -> Found:
        """Read rows down from `begin` until `take` has put `limit` into what was found; none of
        `after` and below.
        """
        found = Found()
        row, skip = begin.row, begin.skip
        ends = time.monotonic() + STEP_SECONDS
        while True:
            chunk = await self.browse.rows_down(
                signal, row + 1, most_rows=STEP_ROWS, most_bytes=STEP_BYTES
            )
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

    async def _take_traces(
        self,
        found: Found,
        rows: list[StoredRow],
        skip: int,
        limit: int,
        *,
        query: Query,
        until: int,
    ) -> Cursor | None:
        """Put the traces of these rows into `found` that do not stand further up."""
        candidates, spans = await self.in_thread(partial(_candidates, rows, query))
        if skip:
            first = rows[0].row
            candidates = [each for each in candidates if each.row < first or each.number >= skip]
        if not candidates:
            return None
        wanted = frozenset(bytes.fromhex(each.trace_id) for each in candidates)
        higher = await self.browse.rows_of_traces(wanted, rows[-1].row + 1, until)
        above = {trace_id.hex(): rows for trace_id, rows in higher.items()}
        if query:  # a trace stands where a span of it is meant
            await self._read(spans, above)
        for each in candidates:
            if len(found.traces) >= limit:
                return Cursor(until, each.row, each.number)
            if each.trace_id in found.traces or any(
                row > each.row and _is_meant(spans.get((row, each.trace_id), ()), query)
                for row in above.get(each.trace_id, ())
            ):
                continue
            found.traces[each.trace_id] = each.row
            for row in (each.row, *above.get(each.trace_id, ())):
                if own := spans.get((row, each.trace_id)):
                    found.spans[row, each.trace_id] = own
        return None

    async def _read(self, spans: Spans, rows_by_trace: Mapping[str, Sequence[int]]) -> None:
        """Read what of those traces and rows is not in `spans` yet."""
        missing = sorted(
            {
                row
                for trace_id, rows in rows_by_trace.items()
                for row in rows[-MOST_TRACE_ROWS:]
                if (row, trace_id) not in spans
            }
        )
        for at in range(0, len(missing), _READ_ROWS):
            stored = await self._log.read_rows(missing[at : at + _READ_ROWS])
            spans |= await self.in_thread(partial(_spans_of, stored, rows_by_trace.keys()))

    async def lines_of(self, rows: Mapping[str, int], spans: Spans) -> list[dict[str, Any]]:
        """The line of each of those traces, which stand in those rows; `spans` are known by now."""
        if not rows:
            return []
        browse, last = self.browse, self.browse.last_row
        wanted = frozenset(map(bytes.fromhex, rows))
        first = max(min(rows.values()) - LOOK_BACK_ROWS, 1)
        kept = await browse.rows_of_traces(wanted, first, last)
        by_trace = {trace_id.hex(): found for trace_id, found in kept.items()}
        await self._read(spans, by_trace)
        recent = {each: found[-MOST_TRACE_ROWS:] for each, found in kept.items()}
        deliveries = await browse.deliveries(recent)
        standings = {each.hex(): states_of(found) for each, found in deliveries.items()}

        def lines() -> list[dict[str, Any]]:
            made = []
            for trace_id in rows:
                own = by_trace.get(trace_id, [])
                read = own[-MOST_TRACE_ROWS:]
                once = distinct(span for row in read for span in spans.get((row, trace_id), ()))
                if once:  # else it has gone meanwhile
                    line = {**summary_of(once), "is_cut": len(own) > len(read)}
                    states = standings.get(trace_id, {})
                    made.append({**line, **self._facts(once), "destinations": states})
            return made

        return await self.in_thread(lines)

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


def states_of(deliveries: Iterable[TraceDelivery]) -> dict[str, str]:
    """How a trace stands with each destination, by name."""
    found: dict[str, set[str]] = {}
    for each in deliveries:
        found.setdefault(each.destination, set()).add(each.state)
    return {
        name: next(state for state in STATES if state in states) for name, states in found.items()
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


def _candidates(rows: list[StoredRow], query: Query) -> tuple[list[Candidate], Spans]:
    """The traces that are meant, newest first, and the spans of all that the rows hold."""
    found: list[Candidate] = []
    spans: Spans = {}
    for row, items in each_in_turn(rows):
        own = _by_trace(items)
        meant = [trace_id for trace_id in reversed(own) if _is_meant(own[trace_id], query)]
        found += [Candidate(row.row, at, trace_id) for at, trace_id in enumerate(meant)]
        spans |= {(row.row, trace_id): own[trace_id] for trace_id in own}
    return found, spans


def _spans_of(rows: list[StoredRow], wanted: Collection[str]) -> Spans:
    return {
        (row.row, trace_id): spans
        for row, items in each_in_turn(rows)
        for trace_id, spans in _by_trace(items).items()
        if trace_id in wanted
    }


def _by_trace(items: Iterable[Placed]) -> dict[str, list[Placed]]:
    found: dict[str, list[Placed]] = {}
    for each in items:
        found.setdefault(each.record.traceId, []).append(each)
    return found


def _is_meant(spans: Iterable[Placed], query: Query) -> bool:
    return not query or any(query(as_item(each, Signal.TRACES)) for each in spans)
