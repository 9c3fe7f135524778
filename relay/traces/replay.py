"""Kept rows to one destination again: by time or by trace, and where a new one begins.

The others are not touched: only the ranges of that one destination grow. They are on disk before
anybody is answered, so from then on no row of them goes, and a crash loses nothing.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal

import structlog

from relay.buffer import owed_ranges
from relay.buffer.sqlite import replay_query
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.replay_query import Found, Measured
from relay.deliver.fleet import Fleet
from relay.model.errors import ControlRefused, UnknownDestination
from relay.model.records import OwedRange, Position
from relay.model.units import iso
from relay.traces.where import readings

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

# Where a new destination begins; a number: with what was received then (nanoseconds) or later.
Start = Literal["beginning", "end"] | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was found, and what of it is sent again. Times in nanoseconds, 0 for none.

    `found_rows` hold some of what was asked for; `spans`, `rows` and `bytes` were not owed
    already and are now (with `is_dry_run` would be); `gone_rows` and `gone_spans` are remembered of
    what was asked for and not kept any more (0 spans where they are not counted).
    """

    destination: str
    is_dry_run: bool
    found_rows: int
    spans: int
    rows: int
    bytes: int
    gone_rows: int
    gone_spans: int
    kept_since_ns: int
    since_ns: int = 0
    trace_id: str | None = None
    destination_state: str = ""
    reason: str = ""


class Replay:
    """Sends again what is kept. One at a time, since each counts what the other would count."""

    def __init__(self, buffer: Buffer, fleet: Fleet) -> None:
        self._buffer = buffer
        self._fleet = fleet
        self._one_at_a_time = asyncio.Lock()

    async def since(self, name: str, since_ns: int, *, is_dry_run: bool) -> Replayed:
        """Owe `name` again what was received at `since_ns` or later and is kept.

        Raises UnknownDestination, ControlRefused, BufferUnavailable.
        """
        async with self._one_at_a_time:
            backlog = self._configured(name)
            found = await replay_query.since(self._buffer, since_ns)
            return self._told(
                name, found, await self._owe(backlog, found, is_dry_run=is_dry_run),
                is_dry_run=is_dry_run, since_ns=since_ns,
            )  # fmt: skip

    async def trace(self, name: str, text: str, *, is_dry_run: bool) -> Replayed:
        """Owe `name` again the spans of one trace that are kept, and nothing else.

        Raises UnknownDestination, ControlRefused, BufferUnavailable.
        """
        async with self._one_at_a_time:
            backlog = self._configured(name)
            found, trace_id = Found((), 0), ""
            for reading in readings(text):
                trace_id = reading.trace_id.hex()
                found = await replay_query.of_trace(self._buffer, reading.trace_id)
                if found.rows or found.gone_rows:
                    break
            return self._told(
                name, found, await self._owe(backlog, found, is_dry_run=is_dry_run),
                is_dry_run=is_dry_run, trace_id=trace_id,
            )  # fmt: skip

    async def begin(self, name: str, start: Start) -> None:
        """Make the backlog of a new destination begin at `start`; nothing for one that is known.

        A number is a time: what was received then or later, in nanoseconds. Raises
        BufferUnavailable.
        """
        if name in self._buffer.backlogs() or isinstance(start, str):
            self._buffer.destination(name, start if isinstance(start, str) else "end")
            return
        async with self._one_at_a_time:
            found = await replay_query.since(self._buffer, start)
            # What came while we looked is owed as well, and all of it in one transaction: a first
            # destination is what lets older rows go.
            came = OwedRange(Position(found.looked_to + 1), Position(self._buffer.last_row + 1))
            ranges = owed_ranges.union((*found.ranges, came))
            if name in self._buffer.backlogs():
                return
            backlog = self._buffer.destination(name, "end", held=ranges)
            await self._release(backlog, backlog.in_flight, ())

    def _configured(self, name: str) -> Backlog:
        backlog = self._buffer.backlogs().get(name)
        is_configured = any(status.name == name for status in self._fleet.statuses())
        if backlog is None and not is_configured:
            raise UnknownDestination.named(name)
        if backlog is None or not is_configured:
            raise ControlRefused(
                f"{name} is not in the configuration, so nothing is sent to it",
                hint="add it again, then replay",
            )
        return backlog

    async def _owe(self, backlog: Backlog, found: Found, *, is_dry_run: bool) -> Measured:
        """Owe what of it is not owed already, on disk when this returns."""
        before = backlog.ranges
        if is_dry_run:
            new = owed_ranges.subtract(found.ranges, before)
            return await replay_query.measure(self._buffer.ask, new, also_owed=before)
        held = backlog.hold(found.ranges)
        if not held:
            return await replay_query.measure(self._buffer.ask, (), also_owed=before)
        return await self._release(backlog, held, before)

    async def _release(
        self, backlog: Backlog, held: owed_ranges.Ranges, before: owed_ranges.Ranges
    ) -> Measured:
        try:
            await self._buffer.flush()
            measured = await replay_query.measure(self._buffer.ask, held, also_owed=before)
        except BaseException:
            # Owed it stays, so it must be sent; only its sums are not known.
            backlog.release(held, held, replay_query.NOTHING)
            raise
        if not backlog.release(held, measured.there, measured.sums):
            raise ControlRefused(f"{backlog.name} was removed meanwhile")
        await self._buffer.flush()
        return measured

    def _told(
        self,
        name: str,
        found: Found,
        measured: Measured,
        *,
        is_dry_run: bool,
        since_ns: int = 0,
        trace_id: str | None = None,
    ) -> Replayed:
        status = next(each for each in self._fleet.statuses() if each.name == name)
        replayed = Replayed(
            destination=name,
            is_dry_run=is_dry_run,
            found_rows=found.rows,
            spans=measured.sums.spans,
            rows=measured.sums.rows,
            bytes=measured.sums.raw_bytes,
            gone_rows=found.gone_rows,
            gone_spans=found.gone_spans,
            kept_since_ns=found.kept_since_ns or self._buffer.statistics().oldest_received_ns,
            since_ns=since_ns,
            trace_id=trace_id,
            destination_state=str(status.state),
            reason=status.reason,
        )
        if not is_dry_run:
            log.info(
                "replay",
                destination=name,
                spans=replayed.spans,
                since=iso(since_ns) or "",
                trace_id=trace_id or "",
            )
        return replayed
