"""Deliver what one destination is owed: take, send, decide, for as long as the daemon runs.

The loop of one destination::

        ┌────────────────────────────────────────────────────────────┐
        ▼                                                            │
      take ──nothing──▶ IDLE, until the backlog has something ───────┤
        │                                                            │
        ├──too old──▶ dead letter ───────────────────────────────────┤
        │                                                            │
      build ─▶ send ─▶ outcome ─▶ Delivered ─▶ settle ───────────────┤
        ▲                │        Wait ──────▶ give back, pause ─────┤
        └─ once, in the ─┤        Blocked ───▶ give back, pause ─────┤
           other encoding └─ 400, 413, 422 ──▶ isolate the culprits ─┘

Rows are given back before every pause and taken anew after it: what changed meanwhile (a reload,
more rows, rows that were evicted) counts, and a destination that waits holds no memory.

Being cancelled is not a failure: the rows are given back and nothing is counted. No exception
leaves `run`: one of ours is an outcome too, and one that comes twice at the same place stops this
destination alone, until a reload or a resume.
"""

import random as random_module
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import structlog

from relay.buffer.api import Consumer
from relay.config import DestinationConfig
from relay.deliver import pauses
from relay.deliver.isolate.policy import Isolation
from relay.deliver.parallel import Parallel
from relay.deliver.parked import Parked
from relay.deliver.rest import PACE_SECONDS, Rest
from relay.deliver.sender import SHORT_OF_MEMORY, BatchSender, Exchanges, own_fault
from relay.deliver.status import IN_TROUBLE
from relay.model.records import (
    DestinationState,
    DestinationStatus,
    Health,
    Signal,
    StoredRow,
    Taken,
)
from relay.upstream import outcomes

if TYPE_CHECKING:
    from relay.deliver.whole_traces import WholeTraces

log = structlog.stdlib.get_logger(__name__)


class Courier:
    """Delivers to one destination, and keeps `status`, its own account of that.

    `run` is its task. Everything else may be called from the same event loop at any time.
    `resolve_headers` gives the headers with their secrets filled in, read anew at each call;
    `make_upstream` a connection for each request that goes beside the first; `age_ns` how long ago
    a row was received; `whole` which traces are sent whole, where not all are sent.
    """

    def __init__(  # noqa: PLR0913 - the seams of tests, each by name
        self,
        settings: DestinationConfig,
        consumer: Consumer,
        upstream: Exchanges,
        resolve_headers: Callable[[DestinationConfig], dict[str, str]],
        *,
        make_upstream: Callable[[DestinationConfig], Exchanges] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        age_ns: Callable[[StoredRow], int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = random_module.random,
        pace_seconds: float = PACE_SECONDS,
        whole: "WholeTraces | None" = None,
    ) -> None:
        self._sender = BatchSender(
            settings,
            consumer,
            upstream,
            resolve_headers,
            now_ns=now_ns,
            monotonic=monotonic,
            age_ns=age_ns,
            whole=whole,
        )
        self._parked = Parked(self._sender, random)
        self._parallel = Parallel(self._sender, make_upstream)
        self._rest = Rest(self._sender, self._parallel, sleep, pace_seconds)
        self._isolation = Isolation(self._sender, self._parked, self._parallel)
        self._random = random
        self._ended: anyio.Event | None = None
        self._died_at: object = None

    # What others may ask of it

    @property
    def status(self) -> DestinationStatus:
        """Its own account of itself, kept current."""
        status, whole = self._sender.status, self._sender.whole
        if whole is not None:
            status.held_items = whole.held_items(status.signal)
            if status.signal is Signal.TRACES:
                status.overflowed_traces = whole.overflowed_traces
        return status

    @property
    def settings(self) -> DestinationConfig:
        """As they hold for its next request."""
        return self._sender.learnt.settings

    def wake(self) -> None:
        """Try at once, with secrets read anew: what was in the way may be gone."""
        self._sender.look_anew()
        self._sender.is_nudged = True
        self._parked.hurry()
        self._rest.end()

    def pause(self) -> None:
        """Send nothing after the request in flight, until `resume`."""
        self._sender.is_paused = True
        self.wake()

    def resume(self) -> None:
        """Go on at once. A pause that the settings demand stays."""
        self._sender.is_paused = False
        self.wake()

    def update(self, settings: DestinationConfig) -> None:
        """Use these from the next request on, and try at once."""
        self._sender.update(settings)
        self._died_at = None
        self.wake()

    def health(self) -> Health:
        """How it fares, for the buffer when space is short; may be called from any thread."""
        hold = self._sender.learnt.settings.hold_seconds
        hold_ns = None if hold is None else int(hold * 1e9)
        return Health(self.status.failing_since_ns, hold_ns, self.status.last_success_ns)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """End `run`: wait so long for the requests in flight, then give their rows back."""
        self._sender.is_stopping = True
        self.wake()
        if self._ended is None:
            return
        with anyio.move_on_after(grace_seconds):
            await self._ended.wait()
            return
        self._sender.cut_off()
        await self._ended.wait()

    # The loop

    async def run(self) -> None:
        """Deliver until `stop`. Raises nothing but its own cancellation."""
        self._ended = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                self._parallel.start(tasks)
                while not self._sender.is_stopping:
                    try:
                        await self._turn()
                    except Exception as error:  # noqa: BLE001 - others and ingest go on
                        await self._survive(error)
        finally:
            self._parked.end()
            self._ended.set()
            with anyio.CancelScope(shield=True):
                await self._sender.upstream.aclose()

    async def _turn(self) -> None:
        """Once around the loop."""
        sender = self._sender
        sender.is_nudged = False
        settings = sender.learnt.settings
        if sender.is_paused or settings.paused:
            by = f"by command: `otlp-relay destination resume {settings.name}` sends it"
            if settings.paused:
                by = f"by `paused = true` in {settings.source or 'its configuration'}: remove that"
                by += " line, then reload"
            await self._stand_still(DestinationState.PAUSED, f"paused {by}")
            return
        if settings.reload_reason:
            await self._stand_still(DestinationState.BLOCKED, settings.reload_reason)
            return
        if self._parked.items and sender.status.state not in IN_TROUBLE:
            await self._parked.retry()
            if not sender.may_go_on:
                return
        taken = await sender.take()
        if taken is None:
            await self._idle()
            return
        began, sent_bytes = anyio.current_time(), None
        outcome: outcomes.Outcome | None
        if self._isolation.is_due(taken):
            outcome = await self._isolation.ask_another(taken)
        else:
            outcome, sent_bytes = await self._deliver(taken)
        del taken  # a destination that is away holds no memory while it is waited for
        await self._act_on(outcome)
        if sent_bytes is not None:
            await self._rest.pace(sent_bytes, began)

    async def _idle(self) -> None:
        self._died_at = None
        unset = self._sender.unset_secret()
        if unset is not None:
            await self._act_on(unset)
        else:
            self._sender.status.enter(DestinationState.IDLE)
            await self._rest.until_more(self._parked)

    async def _deliver(self, taken: Taken) -> tuple[outcomes.Outcome | None, int | None]:
        """One batch, from its rows to their fate. `taken` is not in flight after it.

        What the destination's state is to follow, None for nothing, and how many bytes were
        delivered, None where it was otherwise.
        """
        sender = self._sender
        if sender.status.state not in IN_TROUBLE:
            sender.status.enter(DestinationState.DELIVERING)
            if sender.learnt.settings.concurrency > 1:
                self._parallel.open(taken)
        attempt = await sender.deliver(taken)
        outcome, batch = attempt.outcome, attempt.batch
        if outcome is None or isinstance(outcome, outcomes.Unsent):
            return None, None
        self._died_at = None
        if isinstance(outcome, outcomes.Delivered):
            return outcome, batch.size if batch is not None else None
        self._isolation.note_failed(attempt)
        if outcomes.may_mean_the_content(outcome):
            outcome = await self._isolation.isolate(attempt)
        elif isinstance(outcome, outcomes.Wait) and outcome.may_be_the_size:
            attempt.learnt.limits.too_slow(taken)
        return outcome, None

    async def _act_on(self, outcome: outcomes.Outcome | None) -> None:
        """The state that an outcome puts the destination in, and the pause it asks for."""
        status = self._sender.status
        if isinstance(outcome, outcomes.Delivered):
            status.consecutive_failures = 0
            status.enter(DestinationState.DELIVERING)
        elif isinstance(outcome, outcomes.Wait | outcomes.Blocked):
            # After a failure secrets are read anew: a file may hold the right one by now.
            self._sender.look_anew()
            await self._rest.until_next_try(status.failed(outcome, self._random))

    async def _survive(self, error: Exception) -> None:
        """An exception came out of a turn. The second one at the same place stops the courier."""
        status = self._sender.status
        if isinstance(error, MemoryError):
            await self._act_on(
                outcomes.Wait(f"{status.name}: {SHORT_OF_MEMORY}; {outcomes.RETRIED}")
            )
            return
        place = (type(error), traceback.extract_tb(error.__traceback__)[-1:])
        is_second = place == self._died_at
        self._died_at = None if is_second else place
        log.error(
            "courier_died",
            destination=status.name,
            signal=status.signal.word,
            again=is_second,
            exc_info=error,
        )
        status.consecutive_failures += 1
        if is_second:
            reason = f"{own_fault(error)}, twice: stopped until a reload or resume"
            await self._stand_still(DestinationState.BLOCKED, reason)
        else:
            status.enter(DestinationState.BLOCKED, own_fault(error))
            await self._rest.until_next_try(pauses.probe_seconds(1, self._random))

    async def _stand_still(self, state: DestinationState, reason: str) -> None:
        self._sender.status.enter(state, reason)
        await self._rest.until_woken()
