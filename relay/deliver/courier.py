"""Rows that a destination is owed go in; delivered, or still owed and the reason known, come out.

The loop of one destination::

        ┌────────────────────────────────────────────────────────────┐
        ▼                                                            │
      take ──nothing──▶ IDLE, until the backlog has something ───────┤
        │                                                            │
      build ─▶ send ─▶ outcome ─▶ Delivered ─▶ settle ───────────────┤
        ▲                │        Wait ──────▶ give back, pause ─────┤
        └─ once, in the ─┘        Blocked ───▶ give back, pause ─────┘
           other encoding

The way back is for `encoding = auto`: an answer that may mean the encoding (`policy`) lets the same
rows go at once in the other one. What passes is remembered until the settings are given anew.

Rows are given back before every pause and taken again after it: what changed meanwhile (a reload,
more rows, rows that had to give way) counts, and a destination that waits holds no memory.

Being cancelled is not a failure: the rows are given back and nothing is counted. No exception
leaves `run`: one of ours is an outcome too, and one that comes twice at the same place stops this
destination alone, until a reload or a resume.
"""

import random as random_module
import time
from collections.abc import Awaitable, Callable, Mapping

import anyio
import structlog

from relay.deliver import batches, policy
from relay.deliver.seams import Backlog, Exchanges
from relay.deliver.settings import DestinationSettings
from relay.errors import ConfigError
from relay.records import DeadLetter, DestinationState, DestinationStatus, Health, Taken
from relay.secrets import mask_url

log = structlog.stdlib.get_logger(__name__)

MAX_WARNINGS = 5
# In a steady flow small batches start at most a hundred times a second: an exchange costs about as
# much CPU as ten small requests coming in. The first one after a pause goes at once.
PACE_SECONDS = 0.01
PACED_BELOW_BYTES = 256 * 1024
HEALTHY = (DestinationState.IDLE, DestinationState.DELIVERING)
IN_TROUBLE = (DestinationState.WAITING, DestinationState.BLOCKED)


class Courier:
    """Delivers to one destination, and keeps `status`, its own account of that.

    `run` is its task. Everything else may be called from the same event loop at any time.
    `resolve_headers` gives the headers with their secrets filled in, read anew at each call.
    """

    def __init__(  # noqa: PLR0913 - the seams of tests, each by name
        self,
        settings: DestinationSettings,
        backlog: Backlog,
        upstream: Exchanges,
        resolve_headers: Callable[[], dict[str, str]],
        *,
        now_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = random_module.random,
        pace_seconds: float = PACE_SECONDS,
    ) -> None:
        self.status = DestinationStatus(
            settings.name,
            mask_url(settings.endpoint),
            settings.encoding,
            settings.header_names,
            since_ns=now_ns(),
        )
        self._settings = settings
        self._backlog = backlog
        self._upstream = upstream
        self._resolve_headers = resolve_headers
        self._now_ns = now_ns
        self._sleep = sleep
        self._random = random
        self._pace_seconds = pace_seconds
        self._headers: dict[str, str] | None = None
        self._is_paused = False
        self._is_stopping = False
        self._is_nudged = False
        self._rest_scope: anyio.CancelScope | None = None
        self._sending_scope: anyio.CancelScope | None = None
        self._ended: anyio.Event | None = None
        self._died_at: object = None
        self._last_refusal = ""
        self._learnt = batches.LearntEncodings()
        self._upstream_words: list[str] = []

    # What others may ask of it

    def wake(self) -> None:
        """Try at once, with secrets read anew: what was in the way may be gone."""
        self._headers = None
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
        self._settings = settings
        if resolve_headers is not None:
            self._resolve_headers = resolve_headers
        self._upstream.update(settings)
        self.status.endpoint = mask_url(settings.endpoint)
        self.status.encoding = settings.encoding
        self.status.header_names = settings.header_names
        self._died_at = None
        # Anew, not emptied: a request that is out now must not teach the new settings.
        self._learnt = batches.LearntEncodings()
        self._show_warnings()
        self.wake()

    def health(self) -> Health:
        """How it fares, for the buffer when space is short; may be called from any thread."""
        hold = self._settings.hold_seconds
        return Health(self.status.failing_since_ns, None if hold is None else int(hold * 1e9))

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """End `run`: wait so long for the request in flight, then give its rows back."""
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
        await ended.wait()

    # The loop

    async def run(self) -> None:
        """Deliver until `stop`. Raises nothing but its own cancellation."""
        self._ended = anyio.Event()
        try:
            while not self._is_stopping:
                try:
                    await self._turn()
                except Exception as error:  # noqa: BLE001 - others and ingest go on
                    await self._survive(error)
        finally:
            self._ended.set()
            with anyio.CancelScope(shield=True):
                await self._upstream.aclose()

    async def _turn(self) -> None:
        """Once around the loop."""
        self._is_nudged = False
        settings = self._settings
        if self._is_paused or settings.paused:
            by = "`paused = true` in its configuration" if settings.paused else "command"
            self._enter(DestinationState.PAUSED, f"paused by {by}")
            await self._rest(None)
            return
        if settings.blocked_reason:
            self._enter(DestinationState.BLOCKED, settings.blocked_reason)
            await self._rest(None)
            return
        taken = await self._backlog.take(
            max_bytes=settings.max_batch_bytes,
            max_spans=settings.max_batch_spans,
            one_encoding=settings.encoding == "auto",
        )
        if taken is None:
            self._died_at = None
            unset = self._unset_secret()
            if unset is not None:
                await self._act_on(unset)
                return
            self._enter(DestinationState.IDLE)
            await self._rest_for(self._backlog.wait)
            return
        await self._deliver(taken, settings)

    def _take_headers(self) -> dict[str, str]:
        """The headers with their secrets, read now. Raises ConfigError."""
        headers = self._headers = self._resolve_headers()
        self.status.header_names = tuple(headers)
        return headers

    def _unset_secret(self) -> policy.Blocked | None:
        """What keeps it from sending even before there is anything to send, if anything does."""
        if self._headers is None:
            try:
                self._take_headers()
            except ConfigError as error:
                return _cannot_send(self._settings, error)
        return None

    async def _deliver(self, taken: Taken, settings: DestinationSettings) -> None:
        """One batch, from its rows to their fate. `taken` is not in flight after it."""
        is_settled = False
        began = anyio.current_time()
        self.status.in_flight_spans = taken.spans
        try:
            batch, outcome = await self._attempt(taken, settings)
            if isinstance(outcome, policy.Delivered) and batch is not None:
                self._settle(taken, batch, outcome)
                is_settled = True
        finally:
            # Also when the task is cancelled: cut off by shutdown is not failed.
            self.status.in_flight_spans = 0
            if not is_settled:
                self._backlog.give_back(taken)
        if outcome is not None:
            self._died_at = None
            await self._act_on(outcome)
        if is_settled and batch is not None and len(batch.content) < PACED_BELOW_BYTES:
            left = began + self._pace_seconds - anyio.current_time()
            if left > 0:
                await self._rest_for(lambda: self._sleep(left))

    async def _attempt(
        self, taken: Taken, settings: DestinationSettings
    ) -> tuple[batches.Batch | None, policy.Outcome | None]:
        """Build and send. The outcome is None when `stop` cut the exchange off."""
        if self.status.state not in IN_TROUBLE:
            self._enter(DestinationState.DELIVERING)
        with anyio.CancelScope() as scope:
            self._sending_scope = scope
            try:
                headers = self._headers
                if headers is None:
                    headers = self._take_headers()
                learnt = self._learnt
                encoding = batches.encoding_of(taken.rows, settings, learnt)
                batch = await batches.build(taken.rows, settings, encoding)
                self.status.requests += 1
                outcome = await self._upstream.send(batch, headers)
                if settings.encoding != "auto" or not policy.may_mean_the_encoding(outcome):
                    return batch, outcome
                return await self._try_other(taken, settings, headers, batch, outcome, learnt)
            except ConfigError as error:
                return None, _cannot_send(settings, error)
            except Exception as error:
                log.exception("batch_failed", destination=settings.name, spans=taken.spans)
                return None, policy.Blocked(_own_fault(error))
            finally:
                self._sending_scope = None
        return None, None

    async def _try_other(
        self,
        taken: Taken,
        settings: DestinationSettings,
        headers: Mapping[str, str],
        refused: batches.Batch,
        refusal: policy.Blocked,
        learnt: batches.LearntEncodings,
    ) -> tuple[batches.Batch, policy.Outcome]:
        """The rows of `refused` once in the other encoding.

        Not after a wake: then they are taken again at once, with what is true by then.
        """
        if self._is_nudged or self._is_stopping:
            return refused, refusal
        other = batches.other_than(refused.encoding)
        try:
            batch = await batches.build(taken.rows, settings, other)
        except Exception:
            log.exception("batch_not_transcoded", destination=settings.name, spans=taken.spans)
            return refused, policy.worse_of_two(refusal, policy.Blocked(""))
        self.status.requests += 1
        outcome = await self._upstream.send(batch, headers)
        if isinstance(outcome, policy.Blocked):
            return refused, policy.worse_of_two(refusal, outcome)
        if isinstance(outcome, policy.Delivered):
            learnt.learn(taken.rows[0].encoding, other, refusal.status)
            self._show_warnings()
            log.warning(
                "encoding_changed",
                destination=settings.name,
                refused=batches.spoken(refused.encoding),
                sent=batches.spoken(other),
                status=refusal.status,
            )
        return batch, outcome

    def _settle(self, taken: Taken, batch: batches.Batch, outcome: policy.Delivered) -> None:
        now_ns = self._now_ns()
        refused = min(outcome.rejected, batch.spans)
        if refused:
            letter = self._dead_letter(taken, batch, outcome, refused)
            self._backlog.settle_with(taken, [letter], status=outcome.status, at_ns=now_ns)
        else:
            self._backlog.settle(taken, status=outcome.status, at_ns=now_ns)
        status = self.status
        status.delivered_spans += batch.spans - refused
        status.refused_spans += refused
        status.last_success_ns = now_ns
        self._note_words(outcome, refused, batch.spans)
        log.debug(
            "batch_delivered",
            destination=status.name,
            spans=batch.spans,
            rows=batch.rows,
            bytes=len(batch.content),
            encoding=batch.encoding.name.lower(),
            status=outcome.status,
        )

    def _dead_letter(
        self, taken: Taken, batch: batches.Batch, outcome: policy.Delivered, refused: int
    ) -> DeadLetter:
        words = f"{refused} of {batch.spans} refused, not known which"
        if outcome.message:
            words += f": {outcome.message}"
        return DeadLetter(
            destination=self._settings.name,
            reason="upstream_partial",
            words=words,
            spans=batch.spans,
            encoding=batch.encoding,
            body=batch.fragment,
            status=outcome.status,
            affected=refused,
            row=taken.rows[0].row,
            received_ns=taken.rows[0].received_ns,
        )

    def _note_words(self, outcome: policy.Delivered, refused: int, spans: int) -> None:
        """Say once what the upstream says beside its success; it may say it with every batch."""
        if refused and outcome.message != self._last_refusal:
            log.warning(
                "spans_refused",
                destination=self.status.name,
                refused=refused,
                spans=spans,
                words=outcome.message,
            )
            self._last_refusal = outcome.message
        elif outcome.message and not refused and outcome.message not in self._upstream_words:
            log.warning("destination_warned", destination=self.status.name, words=outcome.message)
            self._upstream_words = [*self._upstream_words, outcome.message][-MAX_WARNINGS:]
            self._show_warnings()

    def _show_warnings(self) -> None:
        self.status.warnings = [*self._learnt.notes(), *self._upstream_words]

    async def _act_on(self, outcome: policy.Outcome) -> None:
        """The state that an outcome puts the destination in, and the pause it asks for."""
        status = self.status
        status.last_status = outcome.status
        if isinstance(outcome, policy.Delivered):
            status.consecutive_failures = 0
            self._enter(DestinationState.DELIVERING)
            return
        # After a failure secrets are read again: a file may hold the right one by now.
        self._headers = None
        is_wait = isinstance(outcome, policy.Wait)
        state = DestinationState.WAITING if is_wait else DestinationState.BLOCKED
        if status.state is not state:
            status.consecutive_failures = 0  # each kind counts its own pauses
        status.consecutive_failures += 1
        failures = status.consecutive_failures
        if isinstance(outcome, policy.Wait):
            pause = policy.wait_seconds(outcome.retry_after_seconds, failures, self._random)
        else:
            pause = policy.probe_seconds(failures, self._random)
        self._enter(state, outcome.reason)
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
            self._enter(
                DestinationState.BLOCKED,
                f"{_own_fault(error)}, twice: stopped until a reload or resume",
            )
            await self._rest(None)
            return
        self._enter(DestinationState.BLOCKED, _own_fault(error))
        await self._rest(policy.probe_seconds(1, self._random))

    # Resting and telling

    async def _rest(self, seconds: float | None) -> None:
        """Do nothing for so long, or until `wake`; None is until `wake`."""
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

    def _enter(self, state: DestinationState, reason: str = "") -> None:
        """Keep `status` current, and log the transitions that somebody should know of."""
        status = self.status
        before = status.state
        status.reason = reason
        if state is before:
            return
        since_ns, status.since_ns, status.state = status.since_ns, self._now_ns(), state
        if state in HEALTHY:
            status.failing_since_ns = 0
        elif not status.failing_since_ns:
            status.failing_since_ns = status.since_ns
        if state is DestinationState.WAITING:
            log.warning("destination_waiting", destination=status.name, reason=reason)
        elif state is DestinationState.BLOCKED:
            log.error("destination_blocked", destination=status.name, reason=reason)
        elif state is DestinationState.PAUSED:
            log.info("destination_paused", destination=status.name, reason=reason)
        elif before in IN_TROUBLE:
            status.consecutive_failures = 0
            if state is DestinationState.DELIVERING:
                seconds = round((status.since_ns - since_ns) / 1e9, 3)
                log.info(
                    "destination_recovered",
                    destination=status.name,
                    was=before.value,
                    seconds=seconds,
                )


def _cannot_send(settings: DestinationSettings, error: ConfigError) -> policy.Blocked:
    return policy.Blocked(
        f"{settings.name}: {error.message}; it is looked at again by itself, "
        "and at once on a reload"
    )


def _own_fault(error: Exception) -> str:
    """A reason for status: the kind of the error only, since its text may hold parts of a body."""
    return f"otlp-relay failed on the batch at the head ({type(error).__name__}, see the log)"


def _place(error: Exception) -> tuple[type[Exception], str, int]:
    """Where `error` was raised, to know it again."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return (type(error), "", 0)
    return (type(error), traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
