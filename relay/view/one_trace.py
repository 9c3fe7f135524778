"""One trace with all that is kept of it: its tree of spans, its log records, long values whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from relay.buffer.api import Log
from relay.buffer.values import rows_at_once
from relay.model.errors import RelayError
from relay.model.records import Signal, StoredRow
from relay.traces.where import TraceReport, Traces
from relay.view.attributes import type_of, value_at
from relay.view.browse import Browser
from relay.view.genai_facts import genai_facts, is_step
from relay.view.items import Placed, each_in_turn, items_of, text_of
from relay.view.log_records import log_line
from relay.view.query import Query
from relay.view.trace_tree import details_of, tree_of

MOST_SPANS: Final = 10_000
MOST_LOGS: Final = 500


class NotKept(RelayError):
    """That is not kept any more."""

    code = "not_kept"


@dataclass(frozen=True, slots=True)
class Page:
    """Which spans of the tree are wanted, and what to find in all of them.

    `is_only_genai`: those alone that are of calls of models.
    """

    query: Query
    first: int = 0
    limit: int = 500
    is_only_genai: bool = False


class OneTrace:
    """Traces and single items. `added` is what the relay adds to resources now."""

    def __init__(
        self, log: Log, traces: Traces, browser: Browser, added: Callable[[], Mapping[str, str]]
    ) -> None:
        self._log = log
        self._traces = traces
        self._browser = browser
        self._added = added

    async def find(self, text: str, page: Page) -> tuple[TraceReport, dict[str, Any]]:
        """Where a trace is, and its document; the tree is None where no span of it is kept."""
        report = await self._traces.find(text, with_spans=False)
        ids = {each.trace_id.hex() for each in report.ids}
        spans = await self._items(report, Signal.TRACES, ids)
        logs = await self._items(report, Signal.LOGS, ids)
        make = partial(
            _document, spans[:MOST_SPANS], logs, page, self._added(), is_cut=len(spans) > MOST_SPANS
        )
        return report, await self._browser.in_thread(make)

    async def _items(
        self, report: TraceReport, signal: Signal, ids: set[str]
    ) -> list[tuple[Placed, int]]:
        """Each item of the trace with its received time, oldest row first."""
        rows = sorted(
            {each.row for each in report.places if each.is_kept and each.signal is signal} - {0}
        )
        found: list[tuple[Placed, int]] = []
        stored: list[StoredRow] = []
        while rows:
            many = rows_at_once(stored)
            stored, rows = await self._log.read_rows(rows[:many]), rows[many:]
            found += await self._browser.in_thread(partial(_of_traces, stored, ids))
            if len(found) > MOST_SPANS:
                break
        return found

    async def details(self, row: int, number: int) -> dict[str, Any]:
        """What a span of a large tree came without. Raises NotKept."""
        placed = await self._item(row, number)
        if not hasattr(placed.record, "spanId") or not hasattr(placed.record, "events"):
            raise NotKept("that item is no span")
        return details_of(placed, self._added())

    async def value(self, row: int, number: int, path: str) -> dict[str, Any]:
        """A value that was cut, whole. Raises NotKept."""
        placed = await self._item(row, number)
        steps = path.split("/")
        source = placed.source if steps[0] in ("resource", "scope") else placed.record
        value = value_at(source, steps)
        if value is None:
            raise NotKept(f"there is no value at {path[:100]}")
        return {"type": type_of(value), "value": text_of(value)}

    async def _item(self, row: int, number: int) -> Placed:
        stored = await self._log.read_rows([row])
        items = await self._browser.in_thread(lambda: items_of(stored[0]) if stored else [])
        if number >= len(items):
            raise NotKept
        return items[number]


def _of_traces(rows: list[StoredRow], ids: set[str]) -> list[tuple[Placed, int]]:
    wanted = dict.fromkeys((row.row for row in rows), ids)
    return [(each, row.received_ns) for row, items in each_in_turn(rows, wanted) for each in items]


def _document(
    spans: Sequence[tuple[Placed, int]],
    logs: Sequence[tuple[Placed, int]],
    page: Page,
    added: Mapping[str, str],
    *,
    is_cut: bool,
) -> dict[str, Any]:
    tree = None
    if spans:
        placed = [each for each, _received_ns in spans]
        keeps = is_step if page.is_only_genai else None
        first, limit = page.first, page.limit
        tree = tree_of(
            placed,
            page.query,
            first=first,
            limit=limit,
            added=added,
            keeps=keeps,
            facts=genai_facts,
        )
    lines = [log_line(each, received_ns) for each, received_ns in logs[:MOST_LOGS]]
    lines.sort(key=lambda line: int(line["time_ns"]))
    return {"trace": tree, "is_cut": is_cut, "logs": lines, "logs_left_out": len(logs) - len(lines)}
