"""Spans that break their upstream: they stay owed, others go before them.

Some upstreams answer 500 to a span, or nothing at all, each time they are sent it, and take every
other one. That is no refusal: the span may pass after an update over there, so it is never given up
for it. A search that finds one (`isolate`) parks it, and from then on it is tried alone, after a
minute and then less often, up to ten, and at once on a wake. What comes of that concerns no other
rows: it counts as no failure of the destination, and its limits stay as they are.

All of it is in memory only. After a restart the span is owed as every other one and found anew.
"""

from collections.abc import Callable
from dataclasses import replace

import structlog

from relay.deliver import make_dead_letter, pauses
from relay.deliver.sender import SETTLED, Attempt, BatchSender
from relay.model.records import ParkedSpan, Position
from relay.upstream import outcomes

log = structlog.stdlib.get_logger(__name__)

# Each keeps its whole row on disk, and is a range more in the list of what is owed.
MOST = 128
# Tries may take one part in so many of the time: each that hangs keeps the others from being sent.
SHARE = 10


class Parked:
    """What is parked of one destination. Times are seconds, monotonic."""

    def __init__(self, sender: BatchSender, random: Callable[[], float]) -> None:
        self._sender = sender
        self._consumer = sender.consumer
        self._random = random
        self.items: dict[Position, ParkedSpan] = {}
        self._due: dict[Position, float] = {}
        self._rest_until = 0.0
        self._hurries = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more is parked: it stays at the head, and others wait."""
        return len(self.items) >= MOST

    async def park(self, attempt: Attempt) -> None:
        """Park `attempt`, which breaks the upstream; given back where there are too many."""
        taken, refusal = attempt.taken, attempt.refusal
        if refusal is None:
            raise TypeError("only what was refused is parked")
        trace_ids = await make_dead_letter.trace_ids_of_rows(taken.rows)
        if self.is_full:
            self._consumer.give_back(taken)
            return
        self._consumer.park(taken, trace_ids)
        place = taken.ranges[0].start
        said = refusal.said or refusal.reason
        self._plan(ParkedSpan(place, taken.items, said, trace_ids))
        log.warning(
            "span_stepped_around",
            destination=self._consumer.name,
            signal=self._consumer.signal.word,
            spans=taken.items,
            trace=trace_ids[:16].hex(),
            reason=f"{said}, each time while others pass; it stays owed and is tried again alone",
        )

    def seconds_until_due(self) -> float | None:
        """How long until `retry` has something to send; None: nothing is parked."""
        if not self._due:
            return None
        return max(min(self._due.values()), self._rest_until) - self._sender.monotonic()

    async def retry(self) -> None:
        """Send what has waited longest, alone, if it is due.

        An upstream that is away leaves it parked. What is refused is given back: as the head it is
        refused once more, and dealt with as every head.
        """
        began = self._sender.monotonic()
        place = min(self._due, key=self._due.__getitem__, default=None)
        if place is None or began < max(self._due[place], self._rest_until):
            return
        hurries = self._hurries
        taken = await self._consumer.take_parked(place)
        is_parked = False
        try:
            if taken is None or not await self._sender.is_young(taken):
                return
            if self._sender.whole is not None:
                self._sender.whole.pin(self.items[place].trace_ids)
            attempt = await self._sender.send(taken)
            elapsed = self._sender.monotonic() - began
            self._rest_until = began + elapsed * SHARE
            if isinstance(attempt.outcome, SETTLED):
                await self._sender.settle(attempt)
                self._say_got_through(self.items[place])
            elif isinstance(attempt.outcome, outcomes.Wait):
                known = self.items[place]
                self._consumer.park(taken, known.trace_ids)
                is_parked = True
                least = attempt.outcome.retry_after_seconds or 0.0
                self._plan(replace(known, tries=known.tries + 1), least)
                if hurries != self._hurries:  # a wake came too early for this request
                    self.hurry()
        finally:
            if taken is not None:
                self._consumer.give_back(taken)  # unless it has landed
            if not is_parked:
                self._forget(place)

    def hurry(self) -> None:
        """Try all of them at once: what was in the way may be gone."""
        if not self.items:
            return
        self._rest_until = 0.0
        self._hurries += 1
        now, now_ns = self._sender.monotonic(), self._sender.now_ns()
        self._due = dict.fromkeys(self._due, now)
        self.items = {
            place: replace(each, next_try_ns=now_ns) for place, each in self.items.items()
        }
        self._show()

    def end(self) -> None:
        """Hand all of them out in their turn again: nobody is there who would try them."""
        if self.items:
            self.items.clear()
            self._due.clear()
            self._consumer.unpark()
            self._show()

    def _plan(self, parked: ParkedSpan, least_seconds: float = 0.0) -> None:
        pause = max(pauses.parked_seconds(parked.tries + 1, self._random), least_seconds)
        self._due[parked.place] = self._sender.monotonic() + pause
        next_try_ns = self._sender.now_ns() + int(pause * 1e9)
        self.items[parked.place] = replace(parked, next_try_ns=next_try_ns)
        self._show()

    def _forget(self, place: Position) -> None:
        self.items.pop(place, None)
        self._due.pop(place, None)
        self._show()

    def _show(self) -> None:
        shown = tuple(each for _place, each in sorted(self.items.items()))
        self._sender.status.parked = shown

    def _say_got_through(self, parked: ParkedSpan) -> None:
        log.info(
            "span_got_through",
            destination=self._consumer.name,
            signal=self._consumer.signal.word,
            spans=parked.items,
            trace=parked.trace_ids[:16].hex(),
            tries=parked.tries + 1,
        )
