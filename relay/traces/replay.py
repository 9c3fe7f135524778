"""Replays kept rows to one destination, by time or by trace; and where a new one begins.

The others are not touched: only the ranges of that one destination grow. They are on disk before
anybody is answered, so from then on no row of them goes, and a crash loses nothing.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal

import structlog

from relay.buffer.api import Log, ReplayIndex
from relay.buffer.values import KeptRows
from relay.deliver.fleet import Fleet
from relay.model.errors import BufferUnavailable, ControlRefused, UnknownDestination
from relay.model.units import iso
from relay.traces.where import readings

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

# Where a new destination begins; a number: with what was received then (nanoseconds) or later.
Start = Literal["beginning", "end"] | int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedRows:
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

    def __init__(self, buffer: Log, fleet: Fleet) -> None:
        self._buffer = buffer
        self._fleet = fleet
        self._one_at_a_time = asyncio.Lock()

    async def since(self, name: str, since_ns: int, *, is_dry_run: bool) -> ReplayedRows:
        """Owe `name` again what was received at `since_ns` or later and is kept.

        Raises UnknownDestination, ControlRefused, BufferUnavailable.
        """
        async with self._one_at_a_time:
            self._must_be_configured(name)
            found = await self._index.since(since_ns)
            return await self._owe(name, found, is_dry_run=is_dry_run, since_ns=since_ns)

    async def trace(self, name: str, text: str, *, is_dry_run: bool) -> ReplayedRows:
        """Owe `name` again the spans of one trace that are kept, and nothing else.

        Raises UnknownDestination, ControlRefused, BufferUnavailable.
        """
        async with self._one_at_a_time:
            self._must_be_configured(name)
            found, trace_id = KeptRows(), ""
            for reading in readings(text):
                trace_id = reading.trace_id.hex()
                found = await self._index.of_trace(reading.trace_id)
                if found.rows or found.gone_rows:
                    break
            return await self._owe(name, found, is_dry_run=is_dry_run, trace_id=trace_id)

    async def begin(self, name: str, start: Start) -> None:
        """Make the backlog of a new destination begin at `start`; nothing for one that is known.

        A number is a time: what was received then or later, in nanoseconds. Raises
        BufferUnavailable.
        """
        if isinstance(start, str):
            self._buffer.consumer(name, start)
            return
        async with self._one_at_a_time:
            await self._index.begin(name, start)

    @property
    def _index(self) -> ReplayIndex:
        index = self._buffer.replays
        if index is None:
            raise BufferUnavailable("this buffer cannot find what it keeps by time or trace")
        return index

    def _must_be_configured(self, name: str) -> None:
        is_known = name in self._buffer.consumers()
        is_configured = any(status.name == name for status in self._fleet.statuses())
        if not is_known and not is_configured:
            raise UnknownDestination.named(name)
        if not is_known or not is_configured:
            raise ControlRefused(
                f"{name} is not in the configuration, so nothing is sent to it",
                hint="add it again, then replay",
            )

    async def _owe(
        self,
        name: str,
        found: KeptRows,
        *,
        is_dry_run: bool,
        since_ns: int = 0,
        trace_id: str | None = None,
    ) -> ReplayedRows:
        """Owe what of it is not owed already, on disk when this returns."""
        owed = await self._index.owe(name, found, is_dry_run=is_dry_run)
        if owed is None:
            raise ControlRefused(f"{name} was removed meanwhile")
        status = next(each for each in self._fleet.statuses() if each.name == name)
        replayed = ReplayedRows(
            destination=name,
            is_dry_run=is_dry_run,
            found_rows=found.rows,
            spans=owed.items,
            rows=owed.rows,
            bytes=owed.raw_bytes,
            gone_rows=found.gone_rows,
            gone_spans=found.gone_items,
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
