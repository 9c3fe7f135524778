"""Looks once a second at what has changed: fills the rates and tells those who watch.

It reads totals that others keep anyway, and of new rows the requests without their bodies.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import anyio
import structlog

from relay.buffer.api import Log
from relay.buffer.values import Arrival
from relay.deliver.fleet import Fleet
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable
from relay.model.records import DestinationStatus, Signal
from relay.model.units import iso
from relay.view.events import Hub
from relay.view.rates import Rates

log = structlog.stdlib.get_logger(__name__)

TICK_SECONDS: Final = 1.0
MOST_HAPPENED: Final = 100
MOST_IDS: Final = 100  # of traces that are told with one event
_MOST_LOOKS: Final = 20  # for new rows in one tick


class Watch:
    """What happened lately. `run` it as a task; everything else may be asked at any time."""

    def __init__(
        self, log: Log, fleet: Fleet, counters: Counters, each_time: Callable[[], None]
    ) -> None:
        self.hub = Hub()
        self._each_time = each_time
        self.rates = Rates()
        self._log = log
        self._fleet = fleet
        self._counters = counters
        self._seen_row: int | None = None
        self._states: dict[tuple[str, Signal], str] = {}
        self._rejected: dict[tuple[Signal, str], int] = {}
        self._refused: dict[str, int] = {}
        self._backlog: list[dict[str, Any]] = []
        self._is_full = False
        self._happened: deque[dict[str, Any]] = deque(maxlen=MOST_HAPPENED)

    @property
    def last_row(self) -> int:
        """The newest row that was told of."""
        return self._seen_row or 0

    def happened(self) -> list[dict[str, Any]]:
        """What an operator would want to know, the newest first."""
        return list(reversed(self._happened))

    async def run(self) -> None:
        """Look once a second, for ever: who looks must never end what is looked at."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("watch_failed")
            await anyio.sleep(TICK_SECONDS)

    async def look(self) -> None:
        """Once."""
        self._look_at_counters()
        self._look_at_destinations()
        self._look_at_space()
        self._each_time()
        with contextlib.suppress(BufferUnavailable):  # the rows are looked at when it is back
            await self._look_at_rows()

    async def _look_at_rows(self) -> None:
        browse = self._log.browse
        if browse is None:
            return
        if self._seen_row is None:
            self._seen_row = browse.last_row  # what was there before the start has no rate
        last, new = browse.last_row, _New()
        for _ in range(_MOST_LOOKS):
            if self._seen_row >= last:
                break
            # Ids are most of it, and for those alone who watch.
            arrivals = await browse.arrivals(self._seen_row, with_ids=bool(self.hub))
            self._seen_row = arrivals[-1].row if arrivals else last
            self.rates.arrived(arrivals)
            new.add(arrivals)
        else:
            self._seen_row = last
        if new.rows:
            self.hub.tell("arrived", {**new.document(), "last_row": self._seen_row})

    def _look_at_counters(self) -> None:
        counters = self._counters
        self.rates.counted(counters)
        for key, items in list(counters.rejected_items.items()):
            if new := items - self._rejected.get(key, 0):
                signal, reason = key
                self._tell("rejected", signal=signal.word, reason=reason, items=new)
            self._rejected[key] = items
        for reason, times in list(counters.refused.items()):
            if new := times - self._refused.get(reason, 0):
                self._tell("refused", reason=reason, times=new)
            self._refused[reason] = times

    def _look_at_destinations(self) -> None:
        backlog = []
        for status in self._fleet.statuses():
            statistics = self._log.consumer(status.name, signal=status.signal).statistics()
            self.rates.stands(status, statistics)
            self._look_at_state(status)
            backlog.append(
                {
                    "name": status.name,
                    "signal": status.signal.word,
                    "state": str(status.state),
                    "waiting": max(statistics.owed_items - status.held_items, 0),
                    "delivered": status.delivered_items,
                    "set_aside": status.refused_items,
                }
            )
        if backlog != self._backlog:
            self._backlog = backlog
            self.hub.tell("backlog", {"destinations": backlog})

    def _look_at_state(self, status: DestinationStatus) -> None:
        key, state = (status.name, status.signal), str(status.state)
        # Between idle and delivering it goes back and forth with every request.
        shown = "delivering" if state == "idle" else state
        was = self._states.get(key, "delivering")
        self._states[key] = shown
        if shown != was:
            self._tell(
                "destination",
                name=status.name,
                signal=status.signal.word,
                state=shown,
                was=was,
                status=status.last_status,
            )

    def _look_at_space(self) -> None:
        is_full = self._log.statistics().is_full
        if is_full != self._is_full:
            self._is_full = is_full
            self._tell("buffer", is_full=is_full)

    def _tell(self, kind: str, **facts: Any) -> None:
        happening = {"at": iso(time.time_ns()), "kind": kind, **facts}
        self._happened.append(happening)
        self.hub.tell(kind, happening)


class _New:
    """What came since the last look."""

    def __init__(self) -> None:
        self.items = dict.fromkeys((signal.word for signal in Signal), 0)
        self._trace_ids: dict[bytes, None] = {}
        self.rows = 0

    def add(self, arrivals: list[Arrival]) -> None:
        """What was kept."""
        self.rows += len(arrivals)
        for each in arrivals:
            self.items[each.signal.word] += each.items
            if each.signal is Signal.TRACES:
                ids = each.trace_ids
                self._trace_ids |= {ids[at : at + 16]: None for at in range(0, len(ids), 16)}

    def document(self) -> dict[str, Any]:
        """Numbers, and the newest few ids."""
        newest = list(self._trace_ids)[-MOST_IDS:]
        return {
            "items": self.items,
            "traces": len(self._trace_ids),
            "trace_ids": [each.hex() for each in newest],
        }
