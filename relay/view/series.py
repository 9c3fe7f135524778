"""The newest value and the last few of each series of metrics, from what is kept. Not a database.

Nothing is done before somebody asks. Then kept rows are read from the newest down, a step with each
question, and what came since first. When nobody has asked for a while all is forgotten.
"""

import time
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import anyio

from relay.buffer.values import RowsDown
from relay.model.records import Signal, StoredRow
from relay.model.units import iso
from relay.otlp.messages import KeyValue
from relay.otlp.messages_metrics import data_of
from relay.view.attributes import shown_attributes
from relay.view.browse import Browser
from relay.view.item_lines import value_of
from relay.view.items import Attributes, Placed, each_in_turn, text_of
from relay.view.query import Item, Query

MOST_SERIES: Final = 2000
MOST_POINTS: Final = 60  # of a series
MOST_COUNTED: Final = 20_000  # series that are told apart but not kept
STEP_SECONDS: Final = 0.2
STEP_ROWS: Final = 50
STEP_BYTES: Final = 512 * 1024
FORGET_SECONDS: Final = 600.0
_MOST_CHARACTERS: Final = 200
_TEMPORALITIES: Final = ("", "delta", "cumulative")


@dataclass(slots=True)
class OneSeries:
    """A metric of one resource with one set of attributes."""

    service: str
    name: str
    unit: str
    description: str
    resource: list[KeyValue]
    kind: str
    temporality: str
    is_monotonic: bool
    attributes: list[KeyValue]
    times: "array[int]" = field(default_factory=lambda: array("Q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))
    last_count: int | None = None  # of a histogram or summary

    def add(self, time_ns: int, value: float, count: int | None) -> None:
        """A point; the oldest leave when there are too many, and one that is known stays."""
        at = bisect_left(self.times, time_ns)
        if at < len(self.times) and self.times[at] == time_ns:
            return
        if at == len(self.times):
            self.last_count = count
        elif len(self.times) == MOST_POINTS and at == 0:
            return
        self.times.insert(at, time_ns)
        self.values.insert(at, value)
        if len(self.times) > MOST_POINTS:
            del self.times[0], self.values[0]


class Series:
    """All series that are kept in memory."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._turn = anyio.Lock()
        self._forget()

    def _forget(self) -> None:
        self._series: dict[tuple[str, ...], OneSeries] = {}
        self._others: set[int] = set()
        self._resources: dict[str, list[KeyValue]] = {}  # each once: a row has its own
        self._high = 0  # rows from `_low` to `_high` have been read
        self._low = 0
        self._asked = 0.0

    def forget_unused(self) -> None:
        """Forget all when nobody has asked for a while."""
        if self._series and time.monotonic() - self._asked > FORGET_SECONDS:
            self._forget()

    async def document(self, query: Query, first: int, limit: int) -> dict[str, Any]:
        """Those that `query` means, by service and name, `limit` of them from number `first` on."""
        self._asked = time.monotonic()
        async with self._turn:
            await self._read()
            series = [self._series[key] for key in sorted(self._series)]
            meant = [each for each in series if query(_as_item(each))]
            shown = [_document(each) for each in meant[first : first + limit]]
        browse = self._browser.browse
        whole = await browse.extent(Signal.METRICS, 1, self._high)
        looked = await browse.extent(Signal.METRICS, self._low, self._high)
        return {
            "series": shown,
            "meant": len(meant),
            "next": first + limit if first + limit < len(meant) else None,
            "in_memory": len(series),
            "not_shown": len(self._others),
            "looked": {
                "items": looked.items,
                "of_items": whole.items,
                "back_to": iso(looked.oldest_ns or whole.oldest_ns),
                "kept_since": iso(whole.oldest_ns),
                "is_whole": self._low <= 1,
            },
        }

    async def _read(self) -> None:
        """What came since, then older rows, as long as a step may take."""
        ends = time.monotonic() + STEP_SECONDS
        last = self._browser.browse.last_row
        if not self._low:
            self._low = self._high = last + 1
        row = last
        while row >= self._high and time.monotonic() < ends:
            row = await self._step(row)
        if row < self._high:
            self._high = last + 1
        while self._low > 1 and time.monotonic() < ends:
            self._low = await self._step(self._low - 1) + 1

    async def _step(self, row: int) -> int:
        """Take in some rows from `row` down; with which to go on, 0 at the end."""
        chunk: RowsDown = await self._browser.browse.rows_down(
            Signal.METRICS, row + 1, most_rows=STEP_ROWS, most_bytes=STEP_BYTES
        )
        await self._browser.in_thread(partial(self._take, chunk.rows))
        return max(chunk.before_row - 1, 0)

    def _take(self, rows: list[StoredRow]) -> None:
        for _row, items in each_in_turn(rows):
            for placed in items:
                self._take_metric(placed)

    def _take_metric(self, placed: Placed) -> None:
        found = data_of(placed.record)
        if found is None:
            return
        kind, data = found
        resource = _identity(placed.source.resource.attributes)
        for point in data.dataPoints:
            key = (placed.service, placed.record.name, resource, _identity(point.attributes))
            one = self._series.get(key)
            if one is None:
                if len(self._series) >= MOST_SERIES:
                    if len(self._others) < MOST_COUNTED:
                        self._others.add(hash(key))
                    continue
                temporality = getattr(data, "aggregationTemporality", 0)
                one = self._series[key] = OneSeries(
                    placed.service,
                    placed.record.name,
                    placed.record.unit,
                    placed.record.description,
                    self._resources.setdefault(resource, placed.source.resource.attributes),
                    kind,
                    _TEMPORALITIES[temporality] if 0 <= temporality < 3 else "",
                    getattr(data, "isMonotonic", False),
                    point.attributes,
                )
            for value, count in value_of(point):
                one.add(int(point.timeUnixNano), value, count)


def _identity(attributes: list[KeyValue]) -> str:
    return "\0".join(sorted(f"{each.key}={text_of(each.value)}" for each in attributes))


def _as_item(one: OneSeries) -> Item:
    return Item(service=one.service, name=one.name, values=Attributes(one.attributes, one.resource))


def _document(one: OneSeries) -> dict[str, Any]:
    return {
        "service": one.service[:_MOST_CHARACTERS],
        "name": one.name[:_MOST_CHARACTERS],
        "unit": one.unit[:_MOST_CHARACTERS],
        "description": one.description[:_MOST_CHARACTERS],
        "kind": one.kind,
        "temporality": one.temporality,
        "is_monotonic": one.is_monotonic,
        "attributes": shown_attributes(one.attributes, "attributes"),
        "value": one.values[-1] if one.values else None,
        "count": one.last_count,
        "at": iso(one.times[-1]) if one.times else None,
        "points": [[str(at), value] for at, value in zip(one.times, one.values, strict=True)],
    }
