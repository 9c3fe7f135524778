"""Replays kept rows to one destination, by time or by trace; and where a new one begins.

The others are not touched: only the ranges of that one destination grow. They are on disk before
anybody is answered, so from then on no row of them goes, and a crash loses nothing.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import structlog

from relay.buffer.api import Log, ReplayIndex
from relay.buffer.backlog_name import BacklogName
from relay.buffer.values import KeptRows, OwedAgain
from relay.deliver.fleet import Fleet
from relay.model.errors import BufferUnavailable, ControlRefused, UnknownDestination
from relay.model.records import Signal
from relay.model.units import iso
from relay.traces.deltas import holds_deltas
from relay.traces.ids import readings

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

# Where a new destination begins; a number: with what was received then (nanoseconds) or later.
Start = Literal["beginning", "end"] | int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedRows:
    """What was found, and what of it is sent again. Times in nanoseconds, 0 for none.

    `found_rows` hold some of what was asked for; `spans` (items of all signals, those of each in
    `by_signal`), `rows` and `bytes` were not owed already and are now (with `is_dry_run` would be);
    `gone_rows` and `gone_spans` are remembered of
    what was asked for and not kept any more (0 spans where they are not counted). `has_deltas`:
    points are among it that count twice at a destination that had them.
    """

    destination: str
    is_dry_run: bool
    found_rows: int
    spans: int
    by_signal: Mapping[str, int]
    rows: int
    bytes: int
    gone_rows: int
    gone_spans: int
    kept_since_ns: int
    has_deltas: bool = False
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

    async def since(
        self,
        name: str,
        since_ns: int,
        *,
        is_dry_run: bool,
        is_forced: bool = False,
        signal: Signal | None = None,
    ) -> ReplayedRows:
        """Owe `name` again what was received at `since_ns` or later and is kept.

        Of one `signal` alone if it is given. Raises UnknownDestination, BufferUnavailable, and
        ControlRefused, also for delta points unless `is_forced`.
        """
        async with self._one_at_a_time:
            found = [
                (key, await self._index.since(since_ns, key.signal))
                for key in self._keys(name, signal)
            ]
            return await self._owe(
                name, found, is_dry_run=is_dry_run, is_forced=is_forced, since_ns=since_ns
            )

    async def trace(
        self,
        name: str,
        text: str,
        *,
        is_dry_run: bool,
        is_forced: bool = False,
        signal: Signal | None = None,
    ) -> ReplayedRows:
        """Owe `name` again what is kept of one trace, and nothing else.

        Of one `signal` alone if it is given. Raises as `since`.
        """
        async with self._one_at_a_time:
            keys = self._keys(name, signal)
            found: list[tuple[BacklogName, KeptRows]] = []
            trace_id = ""
            for reading in readings(text):
                trace_id = reading.trace_id.hex()
                found = [
                    (key, await self._index.of_trace(reading.trace_id, key.signal)) for key in keys
                ]
                if any(kept.rows or kept.gone_rows for _, kept in found):
                    break
            return await self._owe(
                name, found, is_dry_run=is_dry_run, is_forced=is_forced, trace_id=trace_id
            )

    async def begin(self, key: BacklogName, start: Start) -> None:
        """Make a new backlog begin at `start`; nothing for one that is known.

        A number is a time: what was received then or later, in nanoseconds. Raises
        BufferUnavailable.
        """
        if isinstance(start, str):
            self._buffer.consumer(key.destination, start, signal=key.signal)
            return
        async with self._one_at_a_time:
            await self._index.begin(key, start)

    @property
    def _index(self) -> ReplayIndex:
        index = self._buffer.replays
        if index is None:
            raise BufferUnavailable("this buffer cannot find what it keeps by time or trace")
        return index

    def _keys(self, name: str, signal: Signal | None) -> list[BacklogName]:
        """Those of a destination, of one signal if it is given. Raises as `since`."""
        keys = sorted(key for key in self._buffer.consumers() if key.destination == name)
        is_known = bool(keys)
        is_configured = any(status.name == name for status in self._fleet.statuses())
        if not is_known and not is_configured:
            raise UnknownDestination.named(name)
        if not is_known or not is_configured:
            raise ControlRefused(
                f"{name} is not in the configuration, so nothing is sent to it",
                hint="add it again, then replay",
            )
        wanted = [key for key in keys if signal in (None, key.signal)]
        if not wanted and signal is not None:
            words = ", ".join(key.signal.word for key in keys)
            raise ControlRefused(f"{name} takes no {signal.word}, only {words}")
        return wanted

    async def _owe(
        self,
        name: str,
        found: list[tuple[BacklogName, KeptRows]],
        *,
        is_dry_run: bool,
        is_forced: bool,
        since_ns: int = 0,
        trace_id: str | None = None,
    ) -> ReplayedRows:
        """Owe what of it is not owed already, on disk when this returns."""
        has_deltas = not is_forced and await self._would_repeat_deltas(found)
        if has_deltas and not is_dry_run:
            raise ControlRefused(
                f"delta points are among them, and those that {name} had already count twice there",
                hint="--force sends them all the same; --signal replays the other signals alone",
            )
        owed = OwedAgain(0, 0, 0)
        by_signal: dict[str, int] = {}
        for key, kept in found:
            more = await self._index.owe(key, kept, is_dry_run=is_dry_run)
            if more is None:
                raise ControlRefused(f"{name} was removed meanwhile")
            by_signal[key.signal.word] = more.items
            owed = OwedAgain(*map(sum, zip(owed, more, strict=True)))
        kept_since_ns = max((kept.kept_since_ns for _, kept in found), default=0)
        # What somebody should know of its signals is which of them takes nothing now.
        of_it = [each for each in self._fleet.statuses() if each.name == name]
        status = max(
            [each for each in of_it if each.signal.word in by_signal] or of_it,
            key=lambda each: bool(each.failing_since_ns),
        )
        replayed = ReplayedRows(
            destination=name,
            is_dry_run=is_dry_run,
            found_rows=sum(kept.rows for _, kept in found),
            spans=owed.items,
            by_signal=by_signal,
            rows=owed.rows,
            bytes=owed.raw_bytes,
            gone_rows=sum(kept.gone_rows for _, kept in found),
            gone_spans=sum(kept.gone_items for _, kept in found),
            kept_since_ns=kept_since_ns or self._buffer.statistics().oldest_received_ns,
            has_deltas=has_deltas,
            since_ns=since_ns,
            trace_id=trace_id,
            destination_state=str(status.state),
            reason=status.reason,
        )
        if not is_dry_run:
            log.info(
                "replay",
                destination=name,
                signal=", ".join(by_signal),
                spans=replayed.spans,
                since=iso(since_ns) or "",
                trace_id=trace_id or "",
            )
        return replayed

    async def _would_repeat_deltas(self, found: list[tuple[BacklogName, KeptRows]]) -> bool:
        browse = self._buffer.browse
        if browse is None:
            return False
        for key, kept in found:
            if key.signal is Signal.METRICS:
                again = await self._index.not_owed(key, kept)
                if await holds_deltas(browse, again):
                    return True
        return False
