"""Finds out which traces a destination gets whole, before any span of them is sent.

`[destinations.NAME.sample] keep` says what makes a trace worth it. One scout a destination looks at
spans as they come; each of its signals lags by `wait`, so that what a trace held by then is known
when the first of it is due. The signals share what is known: log records follow their trace.
"""

import contextlib
from collections.abc import Sequence

import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from relay.buffer.api import Consumer, Log
from relay.buffer.backlog_name import BacklogName
from relay.config.sample import SampleConfig
from relay.deliver.lag import Lag
from relay.model.records import Signal, StoredRow
from relay.otlp.opened import Opened
from relay.otlp.transcode import TranscodeError
from relay.process.sample.kept_traces import KeptTraces
from relay.process.steps.condition import Condition
from relay.process.steps.sampling import Scout

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

# More than this is looked at in a thread: 0.1 ms for the hop, against some microseconds a span.
_THREAD_FROM_BYTES = 32 * 1024


class WholeTraces:
    """Of one destination: its scout, and the lag of each of its signals."""

    def __init__(self, name: str, sample: SampleConfig, buffer: Log) -> None:
        self.sample = sample
        self.scout = Scout(Condition(sample.keep), KeptTraces())
        self._name = name
        self._buffer = buffer
        self._lags: dict[Signal, Lag] = {}

    @staticmethod
    def can_follow(consumer: Consumer) -> bool:
        """Whether the engine lets rows be looked at before they are taken."""
        return consumer.look_ahead is not None

    def follow(self, consumer: Consumer, tasks: TaskGroup) -> None:
        """Let `consumer` lag, from this moment on; it must be one that can."""
        look, signal = consumer.look_ahead, consumer.signal
        if look is None:
            raise TypeError("an engine that cannot look ahead has no lag")
        is_scouted = signal is Signal.TRACES
        lag = self._lags[signal] = Lag(
            look,
            self.sample.wait_seconds,
            age_ns=self._buffer.age_ns,
            watch=self._watch if is_scouted else None,
            needed_since=self._need if is_scouted else None,
            leader=None if is_scouted else self._lags.get(Signal.TRACES),
        )
        key = BacklogName(self._name, signal)
        tasks.start_soon(lag.run, self._buffer.browse, key, name=f"lag {key.text}")

    def leave(self, signal: Signal) -> None:
        """Let that signal lag no more."""
        lag = self._lags.pop(signal, None)
        if lag is not None:
            lag.end()

    def end(self) -> None:
        """Let no signal lag any more."""
        for signal in list(self._lags):
            self.leave(signal)

    def held_items(self, signal: Signal) -> int:
        """How many items of that signal wait for the rest of their traces."""
        lag = self._lags.get(signal)
        return lag.held_items if lag is not None else 0

    @property
    def overflowed_traces(self) -> int:
        """How many traces worth keeping were more than are remembered by their ids, ever: others
        are taken for them.
        """
        return self.scout.kept.overflowed

    async def look_at(self, rows: Sequence[StoredRow]) -> None:
        """Look at those of `rows`, just taken, that the scout has not seen: they were owed before
        it began, and are again.
        """
        lag = self._lags.get(Signal.TRACES)
        if lag is None:
            return
        unseen = [
            (row, lag.now_ns())
            for row in rows
            if row.signal is Signal.TRACES and not lag.has_seen(row.row)
        ]
        if unseen:
            await self._watch(unseen)

    def pin(self, trace_ids: bytes) -> None:
        """Go on keeping traces, packed ids, whatever is forgotten: of what was to be sent once."""
        newest_ns = self._lags[Signal.TRACES].now_ns() if Signal.TRACES in self._lags else 0
        for at in range(0, len(trace_ids), 16):
            self.scout.kept.add(trace_ids[at : at + 16], newest_ns)

    async def _watch(self, rows: Sequence[tuple[StoredRow, int]]) -> None:
        overflowed = self.overflowed_traces
        if sum(len(row.body) for row, _ in rows) > _THREAD_FROM_BYTES:
            await anyio.to_thread.run_sync(self._look, rows)
        else:
            self._look(rows)
        if self.overflowed_traces and not overflowed:
            log.warning(
                "kept_traces_overflow",
                destination=self._name,
                traces=len(self.scout.kept),
                hint="shorten wait, or let keep mean fewer traces; until then some traces more "
                "than need be are sent whole",
            )

    def _look(self, rows: Sequence[tuple[StoredRow, int]]) -> None:
        for row, received_ns in rows:
            # What cannot be read its courier meets, too, and sets it aside with the reason.
            with contextlib.suppress(TranscodeError):
                self.scout.look(Opened(row.body, row.encoding, row.signal), received_ns)

    def _need(self, since_ns: int) -> None:
        self.scout.kept.needed_since_ns = since_ns
