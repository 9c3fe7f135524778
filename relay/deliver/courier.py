"""Rows that a destination is owed go in; delivered, or still owed and the reason known, come out.

The loop of one destination::

        ┌────────────────────────────────────────────────────────────┐
        ▼                                                            │
      take ──nothing──▶ IDLE, until the backlog has something ───────┤
        │                                                            │
        ├──too old──▶ set aside ─────────────────────────────────────┤
        │                                                            │
      build ─▶ send ─▶ outcome ─▶ Delivered ─▶ settle ───────────────┤
        ▲                │        Wait ──────▶ give back, pause ─────┤
        └─ once, in the ─┤        Blocked ───▶ give back, pause ─────┤
           other encoding └─ 400, 413, 422 ──▶ search the culprits ──┘

Rows are given back before every pause and taken again after it: what changed meanwhile (a reload,
more rows, rows that had to give way) counts, and a destination that waits holds no memory.

After three failures of the same head the next probe is another row, then the head again, and so on:
where another row passes, it is the head, and it is searched (`search`) whatever the status was.
What answers 500 or nothing so is stepped around, and tried alone between two batches (`detour`).

Being cancelled is not a failure: the rows are given back and nothing is counted. No exception
leaves `run`: one of ours is an outcome too, and one that comes twice at the same place stops this
destination alone, until a reload or a resume.
"""

import random as random_module
import time
from collections.abc import Awaitable, Callable

import anyio
import structlog

from relay.buffer.api import Consumer
from relay.deliver import batches, pauses
from relay.deliver.interfaces import Exchanges
from relay.deliver.isolate.policy import Inquiry
from relay.deliver.parallel import Lanes
from relay.deliver.parked import Detour
from relay.deliver.sender import Attempt, Dispatch, Terms, own_fault, weigh
from relay.deliver.status import IN_TROUBLE, Account
from relay.model.records import (
    DestinationState,
    DestinationStatus,
    Encoding,
    Health,
    StoredRow,
    Taken,
)
from relay.otlp.transcode import TranscodeError
from relay.upstream import outcomes
from relay.upstream.settings import DestinationSettings

log = structlog.stdlib.get_logger(__name__)

# In a steady flow small batches start at most a hundred times a second: an exchange costs about as
# much CPU as ten small requests coming in. The first one after a pause goes at once.
PACE_SECONDS = 0.01
PACED_BELOW_BYTES = 256 * 1024


class Courier:
    """Delivers to one destination, and keeps `status`, its own account of that.

    `run` is its task. Everything else may be called from the same event loop at any time.
    `resolve_headers` gives the headers with their secrets filled in, read anew at each call;
    `make_upstream` a connection for each request that goes beside the first; `age_ns` how long ago
    a row was received.
    """

    def __init__(  # noqa: PLR0913 - the seams of tests, each by name
        self,
        settings: DestinationSettings,
        backlog: Consumer,
        upstream: Exchanges,
        resolve_headers: Callable[[], dict[str, str]],
        *,
        make_upstream: Callable[[DestinationSettings], Exchanges] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        age_ns: Callable[[StoredRow], int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = random_module.random,
        pace_seconds: float = PACE_SECONDS,
    ) -> None:
        self._account = Account(settings, now_ns)
        self._dispatch = Dispatch(
            backlog, self._account, resolve_headers, now_ns=now_ns, monotonic=monotonic
        )
        self._terms = Terms(settings)
        self._backlog = backlog
        self._upstream = upstream
        self._now_ns = now_ns
        # The buffer's word for it, where there is one: a wall clock that jumps makes nothing old.
        self._age_ns = age_ns or (lambda row: now_ns() - row.received_ns)
        self._lanes = Lanes(self._dispatch, make_upstream, self._may_go_on, self._age_ns)
        self._detour = Detour(self._dispatch, random)
        self._inquiry = Inquiry(self._dispatch, self._send, self._may_go_on, self._detour)
        self._sleep = sleep
        self._random = random
        self._pace_seconds = pace_seconds
        self._is_paused = False
        self._is_stopping = False
        self._is_nudged = False
        self._is_aging = False
        self._rest_scope: anyio.CancelScope | None = None
        self._sending_scope: anyio.CancelScope | None = None
        self._ended: anyio.Event | None = None
        self._died_at: object = None

    # What others may ask of it

    @property
    def status(self) -> DestinationStatus:
        """Its own account of itself, kept current."""
        return self._account.status

    def wake(self) -> None:
        """Try at once, with secrets read anew: what was in the way may be gone."""
        self._dispatch.forget_headers()
        self._detour.hurry()
        self._is_nudged = True
        if self._rest_scope is not None:
            self._rest_scope.cancel()

    def pause(self) -> None:
        """Send nothing after the request in flight, until `resume`."""
        self._is_paused = True
        self.wake()

    def resume(self) -> None:
        """Go on at once. A pause that the settings demand stays."""
        self._is_paused = False
        self.wake()

    def update(
        self,
        settings: DestinationSettings,
        resolve_headers: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        """Use these from the next request on, and try at once."""
        if resolve_headers is not None:
            self._dispatch.resolve_headers = resolve_headers
        self._upstream.update(settings)
        self._terms.is_current = False
        self._terms = Terms(settings)
        self._account.update(settings)
        self._died_at = None
        self.wake()

    def health(self) -> Health:
        """How it fares, for the buffer when space is short; may be called from any thread."""
        hold = self._terms.settings.hold_seconds
        hold_ns = None if hold is None else int(hold * 1e9)
        return Health(self.status.failing_since_ns, hold_ns, self.status.last_success_ns)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """End `run`: wait so long for the requests in flight, then give their rows back."""
        self._is_stopping = True
        self.wake()
        ended = self._ended
        if ended is None:
            return
        with anyio.move_on_after(grace_seconds):
            await ended.wait()
            return
        if self._sending_scope is not None:
            self._sending_scope.cancel()
        self._lanes.cut_off()
        await ended.wait()

    # The loop

    async def run(self) -> None:
        """Deliver until `stop`. Raises nothing but its own cancellation."""
        self._ended = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                self._lanes.start(tasks)
                await self._loop()
        finally:
            self._detour.end()
            self._ended.set()
            with anyio.CancelScope(shield=True):
                await self._upstream.aclose()

    async def _loop(self) -> None:
        while not self._is_stopping:
            try:
                await self._turn()
            except Exception as error:  # noqa: BLE001 - others and ingest go on
                await self._survive(error)

    async def _turn(self) -> None:
        """Once around the loop."""
        self._is_nudged = False
        terms = self._terms
        settings = terms.settings
        if self._is_paused or settings.paused:
            by = "`paused = true` in its configuration" if settings.paused else "command"
            self._account.enter(DestinationState.PAUSED, f"paused by {by}")
            await self._rest(None)
            return
        if settings.blocked_reason:
            self._account.enter(DestinationState.BLOCKED, settings.blocked_reason)
            await self._rest(None)
            return
        if self.status.state not in IN_TROUBLE:
            await self._detour.retry(terms, self._send, self._set_aside_old)
            if not self._may_go_on():
                return
        taken = await self._take(terms)
        if taken is None:
            await self._idle(settings)
            return
        await self._deliver(taken, terms)

    async def _idle(self, settings: DestinationSettings) -> None:
        self._died_at = None
        unset = self._dispatch.unset_secret(settings)
        if unset is not None:
            await self._act_on(unset)
            return
        self._account.enter(DestinationState.IDLE)
        await self._rest_for(self._more_or_due)

    async def _more_or_due(self) -> None:
        """Return when there is something to take, or to try alone."""
        seconds = self._detour.seconds_until_due()
        if seconds is None:
            await self._backlog.wait()
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._wake_up_when_due, max(seconds, 0.0), tasks.cancel_scope)
            await self._backlog.wait()
            tasks.cancel_scope.cancel()

    async def _wake_up_when_due(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self._sleep(seconds)
        scope.cancel()

    async def _take(self, terms: Terms) -> Taken | None:
        """The next rows; what is too old among them is set aside here."""
        settings, reach = terms.settings, terms.reach
        while True:
            taken = await self._backlog.take(
                max_bytes=settings.max_batch_bytes if self._is_aging else reach.max_bytes,
                max_spans=settings.max_batch_spans if self._is_aging else reach.max_spans,
                one_encoding=settings.encoding == "auto",
            )
            self._is_aging = False
            if taken is None:
                return None
            try:
                rest = await self._set_aside_old(taken, terms)
                if rest is not None:
                    return await self._fit(rest, terms)
            except BaseException:
                self._backlog.give_back(taken)
                raise
            if self._is_stopping or self._is_nudged:
                return None
            await anyio.lowlevel.checkpoint()

    async def _set_aside_old(self, taken: Taken, terms: Terms) -> Taken | None:
        """What of `taken` is young enough to be sent, None if nothing is. The rest is settled."""
        max_age = terms.settings.max_age_seconds
        if max_age is None:
            return taken
        max_age_ns = int(max_age * 1e9)
        old = 0
        while old < len(taken.rows) and self._age_ns(taken.rows[old]) > max_age_ns:
            old += 1
        if not old:
            return taken
        self._is_aging = True
        if old == len(taken.rows):
            await self._dispatch.set_aside_old(taken, max_age, terms)
            return None
        gone, rest = await self._backlog.split(taken, sum(row.spans for row in taken.rows[:old]))
        self._backlog.give_back(rest)  # taken again at once, to the full
        try:
            await self._dispatch.set_aside_old(gone, max_age, terms)
        except BaseException:
            self._backlog.give_back(gone)
            raise
        return None

    async def _fit(self, taken: Taken, terms: Terms) -> Taken:
        """`taken`, or where that is a single row that is too much by itself, its first part."""
        if len(taken.rows) > 1 or taken.spans < 2:
            return taken
        spans = terms.reach.spans_to_send(taken)
        if spans >= taken.spans:
            return taken
        try:
            part, rest = await self._backlog.split(taken, spans)
        except TranscodeError:
            return taken
        self._backlog.give_back(rest)
        return part

    async def _deliver(self, taken: Taken, terms: Terms) -> None:
        """One batch, from its rows to their fate. `taken` is not in flight after it."""
        if self.status.state not in IN_TROUBLE:
            self._account.enter(DestinationState.DELIVERING)
            self._lanes.open(taken, terms)
        began = anyio.current_time()
        if self._inquiry.is_due(taken, terms, self.status):
            outcome = await self._inquiry.ask_another(taken, terms)
            if outcome is not None:
                await self._act_on(outcome)
            return
        attempt = await self._send_and_settle(taken, terms)
        outcome = attempt.outcome
        if outcome is None:
            return
        self._died_at = None
        if attempt.refusal is not None and outcomes.may_mean_the_content(outcome):
            outcome = await self._seek(attempt, terms)
        elif isinstance(outcome, outcomes.Wait) and outcome.may_be_the_size:
            terms.reach.too_slow(taken)
        if outcome is not None:
            await self._act_on(outcome)
        batch = attempt.batch
        is_small = batch is not None and len(batch.content) < PACED_BELOW_BYTES
        if is_small and isinstance(attempt.outcome, outcomes.Delivered):
            left = began + self._pace_seconds - anyio.current_time()
            if left > 0:
                await self._rest_for(lambda: self._sleep(left))

    async def _send_and_settle(self, taken: Taken, terms: Terms) -> Attempt:
        """The fate of `taken` but for a refusal of its content: then it is still in flight."""
        is_done = False
        try:
            attempt = await self._send_either(taken, terms)
            self._inquiry.note_failed(attempt)
            is_done = outcomes.may_mean_the_content(attempt.outcome)
            if isinstance(attempt.outcome, outcomes.Delivered):
                await self._dispatch.settle(attempt, terms)
                is_done = True
        finally:
            # Also when the task is cancelled: cut off by shutdown is not failed.
            if not is_done:
                self._backlog.give_back(taken)
        return attempt

    async def _seek(self, attempt: Attempt, terms: Terms) -> outcomes.Outcome | None:
        """What of `attempt` is at fault; all of it is settled or given back."""
        try:
            await self._lanes.close()
            if self._may_go_on():
                return await self._inquiry.search(attempt, terms)
        except BaseException:
            self._backlog.give_back(attempt.taken)
            raise
        self._backlog.give_back(attempt.taken)
        return attempt.outcome

    def _may_go_on(self) -> bool:
        return not (self._is_stopping or self._is_paused or self._is_nudged)

    async def _send(self, taken: Taken, encoding: Encoding, terms: Terms) -> Attempt:
        """One request, which `stop` may cut off: then the outcome is None."""
        with anyio.CancelScope() as scope:
            self._sending_scope = scope
            try:
                return await self._dispatch.attempt(taken, encoding, terms, self._upstream)
            finally:
                self._sending_scope = None
        return Attempt(taken, encoding, None)

    async def _send_either(self, taken: Taken, terms: Terms) -> Attempt:
        """The rows as they are known to be taken; refused, once in the other encoding.

        Not after a wake: then they are taken again at once, with what is true by then.
        """
        first = await self._send(taken, terms.encoding_of(taken), terms)
        refusal = first.refusal
        if (
            terms.settings.encoding != "auto"
            or refusal is None
            or not outcomes.may_mean_the_encoding(refusal)
            or not self._may_go_on()
        ):
            return first
        second = await self._send(taken, batches.other_than(first.encoding), terms)
        if isinstance(second.outcome, outcomes.Delivered):
            self._dispatch.learn(second, refusal.status, terms)
        return weigh(first, second)

    async def _act_on(self, outcome: outcomes.Outcome) -> None:
        """The state that an outcome puts the destination in, and the pause it asks for."""
        if isinstance(outcome, outcomes.Delivered):
            self.status.consecutive_failures = 0
            self._account.enter(DestinationState.DELIVERING)
            return
        # After a failure secrets are read again: a file may hold the right one by now.
        self._dispatch.forget_headers()
        if isinstance(outcome, outcomes.Wait):
            failures = self._account.failed(DestinationState.WAITING, outcome)
            pause = pauses.wait_seconds(outcome.retry_after_seconds, failures, self._random)
        else:
            failures = self._account.failed(DestinationState.BLOCKED, outcome)
            pause = pauses.probe_seconds(failures, self._random)
        await self._rest(pause)

    async def _survive(self, error: Exception) -> None:
        """An exception came out of a turn. The second one at the same place stops the courier."""
        place = _place(error)
        is_second, self._died_at = place == self._died_at, place
        log.error(
            "courier_died",
            destination=self.status.name,
            again=is_second,
            exc_info=error,
        )
        self.status.consecutive_failures += 1
        if is_second:
            self._died_at = None
            self._account.enter(
                DestinationState.BLOCKED,
                f"{own_fault(error)}, twice: stopped until a reload or resume",
            )
            await self._rest(None)
            return
        self._account.enter(DestinationState.BLOCKED, own_fault(error))
        await self._rest(pauses.probe_seconds(1, self._random))

    # Resting

    async def _rest(self, seconds: float | None) -> None:
        """Do nothing for so long, or until `wake`; None is until `wake`."""
        self._lanes.close_soon()
        if seconds is None:
            await self._rest_for(anyio.sleep_forever)
            return
        self.status.next_try_ns = self._now_ns() + int(seconds * 1e9)
        await self._rest_for(lambda: self._sleep(seconds))
        self.status.next_try_ns = 0

    async def _rest_for(self, until: Callable[[], Awaitable[None]]) -> None:
        # A wake during the request in flight came too early for it: do not sleep on it.
        if self._is_nudged or self._is_stopping:
            return
        with anyio.CancelScope() as scope:
            self._rest_scope = scope
            try:
                await until()
            finally:
                self._rest_scope = None


def _place(error: Exception) -> tuple[type[Exception], str, int]:
    """Where `error` was raised, to know it again."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return (type(error), "", 0)
    return (type(error), traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
