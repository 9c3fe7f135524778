"""Finds out where a trace is: received, kept, and what became of it for each destination.

What is typed may be the id that an app wrote and the relay mapped (`app_trace_001`), or one with
dashes: each reading is tried, and the report says which were right.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import anyio
import anyio.to_thread

from relay.buffer.api import Log, TraceIndex
from relay.buffer.backlog_name import BacklogName
from relay.buffer.values import ReachesBack, RecentService, RecentTrace, TracePlace
from relay.config import DestinationConfig
from relay.deliver.fleet import Fleet
from relay.model.errors import BufferUnavailable
from relay.model.records import DestinationStatus, StoredRow
from relay.traces.ids import IdReading, readings
from relay.traces.stepped import Stepped, stepped

# How a trace of several requests stands with a destination: the first that any of them has.
STATES: Final = ("waiting", "set_aside", "evicted", "delivered", "filtered", "not_owed")
# What is kept of an id that was refused is cut there.
MOST_KEPT = 128
# Rows whose spans are shown; the rest of a large trace is told of all the same.
MOST_ROWS_SHOWN = 20
# A disk that hangs must not keep what is known from being told.
FLUSH_SECONDS = 2.0


class NamedDestination(NamedTuple):
    """A destination as one of its signals has it; `is_known` false: only dead letters name it.

    `oldest_owed_ns` is when the oldest that it is owed was received; 0: not known, or nothing.
    `stepped` says what its steps make of the trace, where that is known; `held_seconds` is how long
    what is owed to it waits for the rest of its trace.
    """

    status: DestinationStatus
    is_configured: bool
    is_known: bool
    oldest_owed_ns: int
    stepped: Stepped = Stepped()
    held_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TraceReport:
    """All that is known of the trace that somebody named with `text`.

    `rows` are those of `places` that are shown. Where nothing is known, only `reach` is given.
    """

    text: str
    reach: ReachesBack
    ids: Sequence[IdReading] = ()
    places: Sequence[TracePlace] = ()
    rows: Sequence[StoredRow] = ()
    destinations: Sequence[NamedDestination] = ()

    @property
    def is_known(self) -> bool:
        """Whether anything is."""
        return bool(self.places)


class Traces:
    """Where traces are, of the buffer and the couriers of one process."""

    def __init__(self, buffer: Log, fleet: Fleet) -> None:
        self._buffer = buffer
        self._fleet = fleet

    @property
    def _index(self) -> TraceIndex:
        index = self._buffer.traces
        if index is None:
            raise BufferUnavailable("this buffer has no index of traces")
        return index

    async def find(self, text: str, *, with_spans: bool) -> TraceReport:
        """What is known of a trace, with its spans if asked for. Raises BufferUnavailable."""
        consumers = self._buffer.consumers()
        # What was just settled is told with its dead letter, which is only on disk.
        with anyio.move_on_after(FLUSH_SECONDS), contextlib.suppress(BufferUnavailable):
            await self._buffer.flush()
            await self._buffer.find_oldest()
        known = {key: each.statistics().oldest_owed_ns for key, each in consumers.items()}
        report = await report_of(text, self._index, self._fleet.statuses(), known)
        views = self._fleet.views()
        return await with_rows(report, self._buffer.read_rows, views, with_spans=with_spans)

    async def recent(self, limit: int) -> list[RecentTrace]:
        """What was received last, newest first."""
        return await self._index.recent(limit)

    async def services(self) -> list[RecentService]:
        """Who sent what last, the last seen first. Raises BufferUnavailable."""
        return await self._index.services()


async def with_rows(
    report: TraceReport,
    read: Callable[[Iterable[int]], Awaitable[Sequence[StoredRow]]],
    views: Sequence[DestinationConfig],
    *,
    with_spans: bool,
) -> TraceReport:
    """The report, with what the steps of each of `views` say of the trace and, if asked for, with
    its rows, which `read` reads where they are kept.
    """
    kept = sorted({place.row for place in report.places if place.row and place.is_kept})
    has_steps = any(view.has_steps for view in views)
    if not (with_spans or has_steps) or not kept:
        return report
    rows = await read(kept[:MOST_ROWS_SHOWN])
    if has_steps:
        # Not of a trace of which only the first rows are looked at.
        shown = rows if len(kept) <= MOST_ROWS_SHOWN else []
        report = await anyio.to_thread.run_sync(_with_steps, report, shown, views)
    return replace(report, rows=rows) if with_spans else report


def _with_steps(
    report: TraceReport, rows: Sequence[StoredRow], views: Sequence[DestinationConfig]
) -> TraceReport:
    """The report, with what the steps of each destination say of the trace; `rows` are all that is
    kept of it.
    """
    found = stepped([each.trace_id for each in report.ids], rows, views)
    samples = {BacklogName(view.name, view.signal): view for view in views if view.is_sampled}
    destinations = []
    for each in report.destinations:
        key = BacklogName(each.status.name, each.status.signal)
        view = samples.get(key)
        is_held = view is not None and view.sample.keeps_whole
        seconds = view.sample.wait_seconds if is_held and view is not None else 0.0
        destinations.append(each._replace(stepped=found.get(key, Stepped()), held_seconds=seconds))
    return replace(report, destinations=destinations)


async def report_of(
    text: str,
    index: TraceIndex,
    statuses: Iterable[DestinationStatus],
    known: Mapping[BacklogName, int],
) -> TraceReport:
    """What `index` tells of a trace, without its items; `known` are the backlogs on disk, and when
    the oldest that each is owed was received.
    """
    ids, places = await _read_all(text, index)
    reach = await index.reaches_back()
    if not places:
        return TraceReport(text, reach)
    return TraceReport(text, reach, ids, places, (), _destinations(statuses, known, places))


def _destinations(
    statuses: Iterable[DestinationStatus],
    known: Mapping[BacklogName, int],
    places: list[TracePlace],
) -> list[NamedDestination]:
    """Those configured, those `known` to the disk, and those that only dead letters name: of the
    signals that the trace has items of.
    """
    signals = {place.signal for place in places}
    configured = {BacklogName(status.name, status.signal): status for status in statuses}
    letters = (place.dead_letter for place in places if place.dead_letter)
    named = {BacklogName(each.destination, each.signal) for each in letters if each.destination}
    return [
        NamedDestination(
            configured.get(key) or DestinationStatus(key.destination, "", signal=key.signal),
            is_configured=key in configured,
            is_known=key in configured or key in known,
            oldest_owed_ns=known.get(key, 0),
        )
        for key in sorted({*configured, *known, *named})
        if key.signal in signals and key.is_claimed
    ]


async def _read_all(text: str, index: TraceIndex) -> tuple[list[IdReading], list[TracePlace]]:
    """Which readings of `text` were right, and all that was found by them."""
    ids: list[IdReading] = []
    places: list[TracePlace] = []
    for reading in readings(text):
        found = await index.find(reading.trace_id, "" if places else text.strip()[:MOST_KEPT])
        # A letter may be found by the text and by the id that it was mapped to.
        seen = {place.letter_id for place in places if place.letter_id}
        new = [place for place in found if place.letter_id not in seen]
        if new:
            ids.append(reading)
            places += new
    return ids, places
