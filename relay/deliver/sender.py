"""One batch on its way: taken from a consumer, sent to an upstream, settled by what became of it.

Everybody who sends does it through the one `BatchSender` of a destination: the courier's loop, the
search for what is at fault, the requests beside the first and the tries of what is parked. So it
also knows whether one may go on, and is what `stop` cuts off.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.lowlevel
import structlog

from relay.buffer.api import Consumer
from relay.buffer.values import FILTERED_STATUS
from relay.config import DestinationConfig
from relay.deliver import batches, make_dead_letter
from relay.deliver.learnt import Learnt
from relay.deliver.left_out import Judge
from relay.deliver.status import CourierStatus
from relay.model.errors import ConfigError
from relay.model.records import DeadLetter, Encoding, StoredRow, Taken
from relay.otlp.transcode import TranscodeError
from relay.upstream import outcomes

if TYPE_CHECKING:
    from relay.deliver.whole_traces import WholeTraces
    from relay.process.steps.sampling import Scout

log = structlog.stdlib.get_logger(__name__)

# What is owed no more after it.
SETTLED = (outcomes.Delivered, outcomes.Unsent)
SHORT_OF_MEMORY = "this relay is short of memory"


class Exchanges(Protocol):
    """The way to the upstream: `upstream.exchange.Upstream`, or a double of it."""

    def update(self, settings: DestinationConfig) -> None:
        """Use `settings` from the next exchange on."""
        ...

    def renew(self) -> None:
        """Connect anew for the next exchange."""
        ...

    async def send(self, batch: batches.Batch, headers: Mapping[str, str]) -> outcomes.Outcome:
        """One exchange."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that was tried, or could not be made. `outcome` None: a stop or new settings came
    first.

    `learnt` is what it was sent under, and what it teaches. `alternative` is the other encoding,
    where that was refused, too, for what may be the content.
    """

    taken: Taken
    encoding: Encoding
    learnt: Learnt
    outcome: outcomes.Outcome | None = None
    batch: batches.Batch | None = None
    alternative: Encoding | None = None

    @property
    def refusal(self) -> outcomes.Blocked | None:
        """The outcome, if it is a refusal."""
        return self.outcome if isinstance(self.outcome, outcomes.Blocked) else None


class BatchSender:
    """Sends what one consumer hands out, and settles it.

    `is_nudged`: something has changed since the loop last looked. `age_ns` tells how long ago a row
    was received; `whole` which traces are sent whole, where not all are sent.
    """

    def __init__(  # noqa: PLR0913 - the seams of tests, each by name
        self,
        settings: DestinationConfig,
        consumer: Consumer,
        upstream: Exchanges,
        resolve_headers: Callable[[DestinationConfig], dict[str, str]],
        *,
        now_ns: Callable[[], int],
        monotonic: Callable[[], float],
        age_ns: Callable[[StoredRow], int] | None,
        whole: "WholeTraces | None" = None,
    ) -> None:
        self.consumer = consumer
        self.upstream = upstream
        self.status = CourierStatus(settings, now_ns)
        self.whole = whole
        self.learnt = Learnt(settings, self._scout)
        self.now_ns = now_ns
        self.monotonic = monotonic
        # The buffer's word for it, where there is one: a wall clock that jumps makes nothing old.
        self.age_ns = age_ns or (lambda row: now_ns() - row.received_ns)
        self.is_stopping = False
        self.is_paused = False
        self.is_nudged = False
        self._is_aging = False
        self._is_cut_off = False
        self._resolve_headers = resolve_headers
        self._headers: dict[str, str] | None = None
        self._scopes: set[anyio.CancelScope] = set()

    @property
    def _scout(self) -> "Scout | None":
        return self.whole.scout if self.whole is not None else None

    # Whether one may go on

    @property
    def may_go_on(self) -> bool:
        """Whether nobody wants something else to be done than what is being done."""
        return not (self.is_stopping or self.is_paused or self.is_nudged)

    def update(self, settings: DestinationConfig) -> None:
        """Use these from the next request on. What was learnt under the old ones is left behind."""
        self.upstream.update(settings)
        self.learnt = Learnt(settings, self._scout)
        self.status.update(settings)

    def cut_off(self) -> None:
        """End every request that is out, and send none any more."""
        self._is_cut_off = True
        for scope in self._scopes:
            scope.cancel()

    def look_anew(self) -> None:
        """Read the secrets and connect anew for the next request: what was in the way may be gone,
        or be left behind.
        """
        self._headers = None
        self.upstream.renew()

    def unset_secret(self) -> outcomes.Blocked | None:
        """What keeps it from sending even before there is anything to send, if anything does."""
        try:
            self._read_headers()
        except ConfigError as error:
            return self._cannot_send(error)
        return None

    # Taking

    async def take(self) -> Taken | None:
        """The next rows for one request, now in flight; what is too old becomes dead letters."""
        while True:
            settings, limits = self.learnt.settings, self.learnt.limits
            taken = await self.consumer.take(
                max_bytes=settings.max_batch_bytes if self._is_aging else limits.max_bytes,
                max_items=settings.max_batch_items if self._is_aging else limits.max_items,
                one_encoding=settings.encoding == "auto",
            )
            self._is_aging = False
            if taken is None:
                return None
            try:
                if settings.max_age_seconds is None or await self.is_young(taken):
                    is_one_row = len(taken.rows) == 1 < taken.items
                    return await self._fit(taken) if is_one_row else taken
            except BaseException:
                self.consumer.give_back(taken)
                raise
            if self.is_stopping or self.is_nudged:
                return None
            await anyio.lowlevel.checkpoint()

    async def is_young(self, taken: Taken) -> bool:
        """Whether all of `taken` may be sent. If not, what is too old becomes dead letters, and the
        rest is given back, to be taken once more at once.
        """
        max_age_seconds = self.learnt.settings.max_age_seconds
        old = list(itertools.takewhile(self.is_old, taken.rows))
        if max_age_seconds is None or not old:
            return True
        self._is_aging = True
        if len(old) == len(taken.rows):
            await self._give_up_old(taken, max_age_seconds)
            return False
        gone, rest = await self.consumer.split(taken, sum(row.items for row in old))
        self.consumer.give_back(rest)
        try:
            await self._give_up_old(gone, max_age_seconds)
        except BaseException:
            self.consumer.give_back(gone)
            raise
        return False

    def is_old(self, row: StoredRow) -> bool:
        """Whether `row` was received too long ago to be sent."""
        max_age_seconds = self.learnt.settings.max_age_seconds
        return max_age_seconds is not None and self.age_ns(row) > max_age_seconds * 1e9

    async def _fit(self, taken: Taken) -> Taken:
        """`taken`, which is a single row, or where that is too much by itself, its first part."""
        items = self.learnt.limits.items_to_send(taken)
        if items >= taken.items:
            return taken
        try:
            part, rest = await self.consumer.split(taken, items)
        except TranscodeError:
            return taken
        self.consumer.give_back(rest)
        return part

    # Sending

    async def deliver(self, taken: Taken) -> Attempt:
        """Send `taken`, and settle it if it was delivered.

        Only what was refused for what may be its content is still in flight after it.
        """
        is_done = False
        try:
            attempt = await self._send_either(taken)
            if isinstance(attempt.outcome, SETTLED):
                await self.settle(attempt)
                is_done = True
            else:
                is_done = outcomes.may_mean_the_content(attempt.outcome)
        finally:
            # Also when the task is cancelled: cut off by shutdown is not failed.
            if not is_done:
                self.consumer.give_back(taken)
        return attempt

    async def _send_either(self, taken: Taken) -> Attempt:
        """Send the rows as they are known to be taken; refused, once in the other encoding.

        Not after a wake: then they are taken again at once, with what is true by then.
        """
        first = await self.send(taken)
        if isinstance(first.outcome, SETTLED):
            return first
        refusal = first.refusal
        if (
            refusal is None
            or first.learnt.settings.encoding != "auto"
            or not outcomes.may_mean_the_encoding(refusal)
            or not self.may_go_on
        ):
            return first
        second = await self.send(taken, batches.other_than(first.encoding))
        is_taken = isinstance(second.outcome, outcomes.Delivered) or (
            # It got past what refused the first one, whatever becomes of it.
            refusal.is_about_the_encoding and outcomes.is_refused_as_content(second.outcome)
        )
        if is_taken:
            self.learn_encoding(second, refusal.status)
        return weigh(first, second)

    async def send(
        self,
        taken: Taken,
        encoding: Encoding | None = None,
        upstream: Exchanges | None = None,
        judges: Sequence[Judge] = (),
    ) -> Attempt:
        """One request, in the encoding that is known to be taken if none is given.

        What one of `judges`, beside those of the settings, speaks against is left out.

        Whatever fails is an outcome; only a cancellation of the task comes through.
        """
        learnt, status = self.learnt, self.status
        if encoding is None:
            encoding = learnt.encoding_of(taken)
        attempt = Attempt(taken, encoding, learnt)
        if self._is_cut_off:
            return attempt
        status.in_flight_items += taken.items
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                headers = self._headers or self._read_headers()
                if self.whole is not None:
                    await self.whole.look_at(taken.rows)
                batch = await _build(taken, learnt, encoding, judges)
                if learnt is not self.learnt:
                    return attempt  # not with the headers of before to another endpoint
                attempt = replace(attempt, batch=batch)
                if not batch.items:
                    return replace(attempt, outcome=outcomes.Unsent())
                status.requests += 1
                outcome = await (upstream or self.upstream).send(batch, headers)
            except ConfigError as error:
                outcome = self._cannot_send(error)
            except MemoryError:  # a shortage passes, and less at once needs less
                learnt.limits.too_slow(taken)
                outcome = outcomes.Wait(f"{status.name}: {SHORT_OF_MEMORY}; {outcomes.RETRIED}")
            except Exception as error:
                log.exception(
                    "batch_failed",
                    destination=status.name,
                    signal=status.signal.word,
                    spans=taken.items,
                )
                outcome = outcomes.Faulty(
                    own_fault(error),
                    words=make_dead_letter.words_of(error),
                    is_certain=isinstance(error, TranscodeError),
                )
            finally:
                self._scopes.discard(scope)
                status.in_flight_items -= taken.items
            return replace(attempt, outcome=outcome)
        return attempt

    def _read_headers(self) -> dict[str, str]:
        """The headers with their secrets, read when they were not since `look_anew`.

        Raises ConfigError.
        """
        if self._headers is None:
            self._headers = self._resolve_headers(self.learnt.settings)
            self.status.header_names = tuple(self._headers)
        return self._headers

    def _cannot_send(self, error: ConfigError) -> outcomes.Blocked:
        then = error.hint or "it is retried automatically, and at once on a reload"
        return outcomes.Blocked(f"{self.status.name}: {error.message}; {then}")

    # Settling

    async def settle(self, attempt: Attempt) -> None:
        """`attempt` was delivered: owed no more. What was refused of it becomes a dead letter, and
        what was left out of it.
        """
        outcome, batch, taken = attempt.outcome, attempt.batch, attempt.taken
        if not isinstance(outcome, SETTLED) or batch is None:
            raise TypeError("only what was delivered can be settled")
        name = self.status.name
        dead = await make_dead_letter.of_left_out(name, taken, batch) if batch.left_out else []
        if batch.stepped:
            self.status.stepped(batch, attempt.learnt.steps)
        if isinstance(outcome, outcomes.Unsent):
            self._settle_dead(taken, dead, 0 if dead else FILTERED_STATUS, self.now_ns())
            return
        refused = min(outcome.rejected, batch.items)
        at_ns = self.now_ns()
        if refused:
            made = await make_dead_letter.of_partial_success(name, taken, batch, outcome, refused)
            self.consumer.settle_with(taken, [made, *dead], status=outcome.status, at_ns=at_ns)
        elif dead:
            self.consumer.settle_with(taken, dead, status=outcome.status, at_ns=at_ns)
        else:
            self.consumer.settle(taken, status=outcome.status, at_ns=at_ns)
        attempt.learnt.passed(taken, attempt.encoding, self.monotonic())
        self.status.delivered(outcome, refused, batch.items)
        for each in dead:
            self.status.gave_up(each)
        log.debug(
            "batch_delivered",
            destination=name,
            signal=self.status.signal.word,
            spans=batch.items,
            rows=batch.rows,
            bytes=batch.size,
            encoding=batch.encoding.name.lower(),
            status=outcome.status,
        )

    async def give_up(self, attempt: Attempt) -> None:
        """`attempt` was refused for what it holds: a dead letter with the words of the refusal."""
        refusal = attempt.refusal
        if refusal is None:
            raise TypeError("only what was refused can become a dead letter for it")
        name, taken, batch = self.status.name, attempt.taken, attempt.batch
        made = [await make_dead_letter.of_refusal(name, taken, batch, refusal)]
        if batch is not None:
            made += await make_dead_letter.of_left_out(name, taken, batch)
        # With the 2xx of somebody who took nothing it would be remembered as delivered.
        status = 0 if 200 <= refusal.status < 300 else refusal.status
        self._settle_dead(taken, made, status, self.now_ns())

    async def _give_up_old(self, taken: Taken, max_age_seconds: float) -> None:
        """All of `taken` was received too long ago to be sent."""
        now_ns = self.now_ns()
        made = await make_dead_letter.of_age(self.learnt.settings, taken, max_age_seconds, now_ns)
        self._settle_dead(taken, made, 0, now_ns)

    def _settle_dead(self, taken: Taken, made: list[DeadLetter], status: int, at_ns: int) -> None:
        self.consumer.settle_with(taken, made, status=status, at_ns=at_ns)
        for dead_letter in made:
            self.status.gave_up(dead_letter)

    def learn_encoding(self, attempt: Attempt, refusal_status: int) -> None:
        """The rows of `attempt` were refused in the other encoding, and taken in its own."""
        came_in, passed = attempt.taken.rows[0].encoding, attempt.encoding
        attempt.learnt.learn_encoding(came_in, passed, refusal_status)
        if attempt.learnt is self.learnt:
            self.status.learnt(attempt.learnt.notes())
        log.warning(
            "encoding_changed",
            destination=self.status.name,
            signal=self.status.signal.word,
            refused=batches.spoken(batches.other_than(passed)),
            sent=batches.spoken(passed),
            status=refusal_status,
        )


async def _build(
    taken: Taken, learnt: Learnt, encoding: Encoding, judges: Sequence[Judge]
) -> batches.Batch:
    """The request of `taken` under what is `learnt`."""
    return await batches.build(
        taken.rows,
        learnt.settings,
        encoding,
        gzips=learnt.gzips,
        judges=(*learnt.judges, *judges),
        steps=learnt.steps,
    )


def weigh(first: Attempt, second: Attempt) -> Attempt:
    """What it means that rows were refused as `first` and, in the other encoding, as `second`.

    The attempt whose encoding is to be searched; `alternative` is the one to search after it.
    """
    one, two = first.refusal, second.refusal
    if one is None or two is None:
        return second
    is_two_content = outcomes.is_refused_as_content(two)
    if not outcomes.is_refused_as_content(one) and is_two_content:
        return second  # the encoding of the first is not taken at all
    outcome = outcomes.worse_of_two(one, two)
    if outcome is two:
        return second
    return replace(first, outcome=outcome, alternative=second.encoding if is_two_content else None)


def own_fault(error: Exception) -> str:
    """A reason for status: the kind of the error only, since its text may hold parts of a body."""
    return f"otlp-relay failed on the batch at the head ({type(error).__name__}, see the log)"
