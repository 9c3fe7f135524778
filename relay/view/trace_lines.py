"""The line of each trace in a list: what its spans say, and how it stands with each destination.

What the spans say is made once and remembered for as long as the trace has no other rows: a page
that is open asks for the same hundred traces every second.
"""

import sys
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from relay.buffer.api import Browse, Log
from relay.buffer.values import LookBack, TraceDelivery, rows_at_once
from relay.genai.steps import Step
from relay.model.records import StoredRow
from relay.traces.where import STATES
from relay.view.genai_facts import facts_of, step_of
from relay.view.in_thread import OneAtATime
from relay.view.items import Placed, Turns, each_in_turn
from relay.view.summaries import SpanKey, by_start, key_of, summary_of

Line = dict[str, Any]
Take = Callable[[str, list[Placed]], None]

MOST_TRACE_ROWS: Final = 50  # of one trace that its line is made of
LOOK_BACK: Final = LookBack(rows=2000, ids=20_000)  # for the rest of a trace
MOST_LINES_BYTES: Final = 4 * 1024 * 1024
FORGET_SECONDS: Final = 600.0


class TraceLines:
    """Makes lines of what `log` keeps."""

    def __init__(self, log: Log, thread: OneAtATime) -> None:
        self._log = log
        self._thread = thread
        self._known = KnownLines()
        self._asked = 0.0

    def forget_unused(self) -> None:
        """Forget all lines when nobody has asked for a while."""
        if len(self._known) and time.monotonic() - self._asked > FORGET_SECONDS:
            self._known = KnownLines()

    async def of(self, browse: Browse, rows: Mapping[str, int]) -> list[Line]:
        """The lines of those traces, which stand in those rows. One that has gone has none."""
        if not rows:
            return []
        self._asked = time.monotonic()
        wanted = frozenset(map(bytes.fromhex, rows))
        kept = await browse.rows_of_traces(
            wanted, min(rows.values()), browse.last_row, back=LOOK_BACK
        )
        rows_of = {each: kept[key] for each in rows if (key := bytes.fromhex(each)) in kept}
        lines = await self._lines(rows_of)
        recent = {each: found[-MOST_TRACE_ROWS:] for each, found in kept.items()}
        deliveries = await browse.deliveries(recent)
        return [
            {**line, "destinations": states_of(deliveries.get(bytes.fromhex(trace_id), ()))}
            for trace_id, line in lines.items()
        ]

    async def _lines(self, rows_of: Mapping[str, Sequence[int]]) -> dict[str, Line]:
        """What the spans of each trace say, which is in those rows."""
        known = {each: self._known.get(each, rows) for each, rows in rows_of.items()}
        new = {each: rows for each, rows in rows_of.items() if known[each] is None}
        if new:
            told: defaultdict[str, _Told] = defaultdict(_Told)
            recent = {each: rows[-MOST_TRACE_ROWS:] for each, rows in new.items()}
            await self.read(recent, lambda trace_id, spans: told[trace_id].add(spans))
            made = await self._thread.run(partial(_lines_of, new, told))
            for each, line in made.items():
                self._known.put(each, new[each], line)
                known[each] = line
        return {each: line for each, line in known.items() if line is not None}

    async def read(self, rows_of: Mapping[str, Sequence[int]], take: Take) -> None:
        """Let `take` have the spans of each of those traces in each of those rows, the lowest row
        first; in a thread.
        """
        wanted: defaultdict[int, set[str]] = defaultdict(set)
        for trace_id, rows in rows_of.items():
            for row in rows:
                wanted[row].add(trace_id)
        left, stored = sorted(wanted), list[StoredRow]()
        while left:
            many = rows_at_once(stored)
            stored = await self._log.read_rows(left[:many])
            left = left[many:]
            await self._thread.run(partial(_hand_out, stored, wanted, take))


@dataclass(slots=True)
class _Told:
    """What the line of a trace needs of its spans, each once: nothing that is long."""

    spans: dict[SpanKey, Placed] = field(default_factory=dict)
    steps: dict[SpanKey, Step] = field(default_factory=dict)

    def add(self, spans: Iterable[Placed]) -> None:
        """More of them; of what was sent again the last counts."""
        for each in spans:
            key = key_of(each)
            self.spans[key] = each
            self.steps.pop(key, None)
            if (step := step_of(each)) is not None:
                self.steps[key] = step
            span = each.record
            span.attributes, span.events, span.links = [], [], []

    def line(self, *, is_cut: bool) -> Line:
        """The line."""
        once = by_start(self.spans.values())
        steps = [step for each in once if (step := self.steps.get(key_of(each)))]
        return {**summary_of(once), "is_cut": is_cut, **facts_of(steps)}


def _hand_out(rows: Iterable[StoredRow], wanted: Mapping[int, set[str]], take: Take) -> None:
    for _row, items in each_in_turn(rows, wanted):
        for trace_id, spans in by_trace(items).items():
            take(trace_id, spans)


def _lines_of(rows_of: Mapping[str, Sequence[int]], told: Mapping[str, _Told]) -> dict[str, Line]:
    made, turns = {}, Turns()
    for trace_id, rows in rows_of.items():
        if trace_id in told:
            made[trace_id] = told[trace_id].line(is_cut=len(rows) > MOST_TRACE_ROWS)
            turns.give()
    return made


class KnownLines:
    """Lines that were made, each for the rows that its trace had; those asked for last stay."""

    def __init__(self, most_bytes: int = MOST_LINES_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lines: OrderedDict[str, tuple[tuple[int, ...], Line, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._lines)

    def get(self, trace_id: str, rows: Sequence[int]) -> Line | None:
        """The line of a trace that is in those rows, in no other and in all of them."""
        found = self._lines.get(trace_id)
        if found is None or found[0] != _told(rows):
            return None
        self._lines.move_to_end(trace_id)
        return found[1]

    def put(self, trace_id: str, rows: Sequence[int], line: Line) -> None:
        """Remember it, and forget others where it is too much."""
        self._drop(self._lines.pop(trace_id, None))
        told = _told(rows)
        size = bytes_of(line) + bytes_of(list(told))
        self._lines[trace_id] = (told, line, size)
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._drop(self._lines.popitem(last=False)[1])

    def _drop(self, dropped: tuple[tuple[int, ...], Line, int] | None) -> None:
        if dropped is not None:
            self._bytes -= dropped[2]


def _told(rows: Sequence[int]) -> tuple[int, ...]:
    """What tells one set of rows from another: rows are never changed, and numbers never reused."""
    return len(rows), *rows[-MOST_TRACE_ROWS:]


def bytes_of(value: Any) -> int:
    """What a document takes in memory, keys of objects aside."""
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(map(bytes_of, value.values()))
    return size + sum(map(bytes_of, value)) if isinstance(value, list) else size


def by_trace(items: Iterable[Placed]) -> dict[str, list[Placed]]:
    """Spans by the id of their trace, in their order."""
    found: dict[str, list[Placed]] = {}
    for each in items:
        found.setdefault(each.record.traceId, []).append(each)
    return found


def states_of(deliveries: Iterable[TraceDelivery]) -> dict[str, str]:
    """How a trace stands with each destination, by name."""
    found: dict[str, set[str]] = {}
    for each in deliveries:
        found.setdefault(each.destination, set()).add(each.state)
    return {
        name: next(state for state in STATES if state in states) for name, states in found.items()
    }
