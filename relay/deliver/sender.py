"""Taken rows and an upstream go in; one answered request, settled or not, comes out.

What the main loop, its search and its extra lanes have in common: the terms that hold under the
present settings, building and sending one batch, and writing down what became of it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from relay.buffer.api import Consumer
from relay.deliver import batches, make_dead_letter
from relay.deliver.batch_limits import Reach
from relay.deliver.interfaces import Exchanges
from relay.deliver.isolate.evidence import Evidence
from relay.deliver.status import Account
from relay.model.errors import ConfigError
from relay.model.records import Encoding, Taken
from relay.otlp.transcode import TranscodeError
from relay.upstream import outcomes
from relay.upstream.settings import DestinationSettings

log = structlog.stdlib.get_logger(__name__)


class Terms:
    """The settings, and what was learnt of the upstream under them.

    Made anew with new settings, never emptied: a request that is out then must not teach them.
    """

    def __init__(self, settings: DestinationSettings) -> None:
        self.settings = settings
        self.learnt = batches.LearntEncodings()
        self.reach = Reach(settings)
        self.evidence = Evidence()
        self.is_current = True

    def encoding_of(self, taken: Taken) -> Encoding:
        """The encoding to send `taken` in, as far as is known."""
        return batches.encoding_of(taken.rows, self.settings, self.learnt)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that was tried, or could not be made. `outcome` None: cut off by a stop.

    `alternative` is the other encoding, where that was refused, too, for what may be the content.
    """

    taken: Taken
    encoding: Encoding
    outcome: outcomes.Outcome | None
    batch: batches.Batch | None = None
    alternative: Encoding | None = None

    @property
    def refusal(self) -> outcomes.Blocked | None:
        """The outcome, if it is a refusal."""
        return self.outcome if isinstance(self.outcome, outcomes.Blocked) else None


class Dispatch:
    """Sends what was taken from one backlog, and settles it."""

    def __init__(
        self,
        backlog: Consumer,
        account: Account,
        resolve_headers: Callable[[], dict[str, str]],
        *,
        now_ns: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.backlog = backlog
        self.account = account
        self.resolve_headers = resolve_headers
        self.now_ns = now_ns
        self.monotonic = monotonic
        self._headers: dict[str, str] | None = None

    def forget_headers(self) -> None:
        """Read the secrets anew for the next request."""
        self._headers = None

    def headers(self) -> dict[str, str]:
        """The headers with their secrets, read when they were not since `forget_headers`.

        Raises ConfigError.
        """
        if self._headers is None:
            self._headers = self.resolve_headers()
            self.account.status.header_names = tuple(self._headers)
        return self._headers

    def unset_secret(self, settings: DestinationSettings) -> outcomes.Blocked | None:
        """What keeps it from sending even before there is anything to send, if anything does."""
        try:
            self.headers()
        except ConfigError as error:
            return _cannot_send(settings, error)
        return None

    async def attempt(
        self, taken: Taken, encoding: Encoding, terms: Terms, upstream: Exchanges
    ) -> Attempt:
        """Build and send. Whatever fails is an outcome; only a cancellation comes through."""
        settings, status = terms.settings, self.account.status
        status.in_flight_spans += taken.spans
        batch = None
        try:
            headers = self.headers()
            batch = await batches.build(taken.rows, settings, encoding)
            status.requests += 1
            outcome = await upstream.send(batch, headers)
        except ConfigError as error:
            outcome = _cannot_send(settings, error)
        except Exception as error:
            log.exception("batch_failed", destination=settings.name, spans=taken.spans)
            outcome = outcomes.Faulty(
                own_fault(error),
                words=make_dead_letter.words_of(error),
                is_certain=isinstance(error, TranscodeError),
            )
        finally:
            status.in_flight_spans -= taken.spans
        return Attempt(taken, encoding, outcome, batch)

    async def settle(self, attempt: Attempt, terms: Terms) -> None:
        """`attempt` was delivered: owed no more. What was refused of it becomes a dead letter."""
        outcome, batch, taken = attempt.outcome, attempt.batch, attempt.taken
        if not isinstance(outcome, outcomes.Delivered) or batch is None:
            raise TypeError("only what was delivered can be settled")
        refused = min(outcome.rejected, batch.spans)
        at_ns = self.now_ns()
        if refused:
            name = terms.settings.name
            letter = await make_dead_letter.of_partial_success(name, taken, batch, outcome, refused)
            self.backlog.settle_with(taken, [letter], status=outcome.status, at_ns=at_ns)
        else:
            self.backlog.settle(taken, status=outcome.status, at_ns=at_ns)
        terms.evidence.passed(attempt.encoding, self.monotonic())
        terms.reach.passed(taken)
        self.account.delivered(outcome, refused, batch.spans)
        log.debug(
            "batch_delivered",
            destination=terms.settings.name,
            spans=batch.spans,
            rows=batch.rows,
            bytes=len(batch.content),
            encoding=batch.encoding.name.lower(),
            status=outcome.status,
        )

    async def set_aside(self, attempt: Attempt, terms: Terms) -> None:
        """`attempt` was refused for what it holds: a dead letter with the words of the refusal."""
        refusal = attempt.refusal
        if refusal is None:
            raise TypeError("only what was refused can be set aside for it")
        name = terms.settings.name
        letter = await make_dead_letter.of_refusal(name, attempt.taken, attempt.batch, refusal)
        self.backlog.settle_with(
            attempt.taken, [letter], status=refusal.status, at_ns=self.now_ns()
        )
        self.account.set_aside(letter.reason, letter.spans, refusal.status, letter.words)

    async def set_aside_old(self, taken: Taken, max_age_seconds: float, terms: Terms) -> None:
        """All of `taken` was received too long ago to be sent."""
        now_ns = self.now_ns()
        made = await make_dead_letter.of_age(terms.settings, taken, max_age_seconds, now_ns)
        self.backlog.settle_with(taken, made, status=0, at_ns=now_ns)
        for letter in made:
            self.account.set_aside(letter.reason, letter.spans, 0, letter.words)

    def learn(self, attempt: Attempt, refusal_status: int, terms: Terms) -> None:
        """The rows of `attempt` were refused in the other encoding, and taken in its own."""
        came_in, passed = attempt.taken.rows[0].encoding, attempt.encoding
        terms.learnt.learn(came_in, passed, refusal_status)
        if terms.is_current:
            self.account.learnt(terms.learnt.notes())
        log.warning(
            "encoding_changed",
            destination=terms.settings.name,
            refused=batches.spoken(batches.other_than(passed)),
            sent=batches.spoken(passed),
            status=refusal_status,
        )


def weigh(first: Attempt, second: Attempt) -> Attempt:
    """What it means that rows were refused as `first` and, in the other encoding, as `second`.

    The attempt whose encoding is to be searched; `alternative` is the one to search after it.
    """
    one, two = first.refusal, second.refusal
    if one is None or two is None:
        return second
    is_two_content = two.status in outcomes.OF_THE_CONTENT
    if one.status not in outcomes.OF_THE_CONTENT and is_two_content:
        return second  # the encoding of the first is not taken at all
    outcome = outcomes.worse_of_two(one, two)
    if outcome is two:
        return second
    return replace(first, outcome=outcome, alternative=second.encoding if is_two_content else None)


def _cannot_send(settings: DestinationSettings, error: ConfigError) -> outcomes.Blocked:
    return outcomes.Blocked(
        f"{settings.name}: {error.message}; it is looked at again by itself, "
        "and at once on a reload"
    )


def own_fault(error: Exception) -> str:
    """A reason for status: the kind of the error only, since its text may hold parts of a body."""
    return f"otlp-relay failed on the batch at the head ({type(error).__name__}, see the log)"
