"""Spans that break their upstream go in; they stay owed, others go before them.

Some upstreams answer 500 to a span, or nothing at all, each time they are sent it, and take every
other one. That is no refusal: the span may pass after an update over there, so it is never set
aside for it. A search that finds one (`search`) defers it, and from then on it is tried alone,
after a minute and then less often, up to ten, and at once on a wake. What comes of that concerns no
other rows: it counts as no failure of the destination, and its limits stay as they are.

All of it is in memory only. After a restart the span is owed as every other one and found anew.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from relay.deliver import make_dead_letter, pauses
from relay.deliver.sender import Attempt, Dispatch, Terms
from relay.model.records import Encoding, Position, SteppedAround, Taken
from relay.upstream import outcomes

log = structlog.stdlib.get_logger(__name__)

# Each keeps its whole row on disk, and is a range more in the list of what is owed.
MOST = 128
# Tries may take one part in so many of the time: each that hangs keeps the others from being sent.
SHARE = 10

Send = Callable[[Taken, Encoding, Terms], Awaitable[Attempt]]
SetAsideOld = Callable[[Taken, Terms], Awaitable[Taken | None]]


class Detour:
    """What one courier steps around. Times are seconds, monotonic."""

    def __init__(self, dispatch: Dispatch, random: Callable[[], float]) -> None:
        self._dispatch = dispatch
        self._random = random
        self._around: dict[Position, SteppedAround] = {}
        self._due: dict[Position, float] = {}
        self._rest_until = 0.0
        self._hurries = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more is stepped around: it stays at the head, and others wait."""
        return len(self._around) >= MOST

    async def step_around(self, attempt: Attempt) -> None:
        """Defer `attempt`, which breaks the upstream; given back where there are too many."""
        taken, refusal = attempt.taken, attempt.refusal
        if refusal is None:
            raise TypeError("only what was refused is stepped around")
        trace_ids = await make_dead_letter.trace_ids_of_rows(taken.rows)
        backlog = self._dispatch.backlog
        if self.is_full:
            backlog.give_back(taken)
            return
        backlog.park(taken, trace_ids)
        place = taken.ranges[0].start
        said = refusal.said or refusal.reason
        self._plan(SteppedAround(place, taken.spans, said, trace_ids))
        log.warning(
            "span_stepped_around",
            destination=backlog.name,
            spans=taken.spans,
            trace=trace_ids[:16].hex(),
            reason=f"{said}, each time while others pass; it stays owed and is tried again alone",
        )

    def seconds_until_due(self) -> float | None:
        """How long until `retry` has something to send; None: nothing is stepped around."""
        if not self._due:
            return None
        return max(min(self._due.values()), self._rest_until) - self._dispatch.monotonic()

    async def retry(self, terms: Terms, send: Send, set_aside_old: SetAsideOld) -> None:
        """Send what has waited longest, alone, if it is due.

        An upstream that is away leaves it deferred. What is refused is given back: as the head it
        is refused again, and dealt with as every head.
        """
        began = self._dispatch.monotonic()
        place = min(self._due, key=self._due.__getitem__, default=None)
        if place is None or began < max(self._due[place], self._rest_until):
            return
        backlog, hurries = self._dispatch.backlog, self._hurries
        taken = await backlog.take_parked(place)
        is_landed = is_deferred = False
        try:
            if taken is None or await set_aside_old(taken, terms) is None:
                is_landed = True
                return
            attempt = await send(taken, terms.encoding_of(taken), terms)
            elapsed = self._dispatch.monotonic() - began
            self._rest_until = began + elapsed * SHARE
            if isinstance(attempt.outcome, outcomes.Delivered):
                await self._dispatch.settle(attempt, terms)
                is_landed = True
                self._say_got_through(self._around[place])
            elif isinstance(attempt.outcome, outcomes.Wait):
                known = self._around[place]
                backlog.park(taken, known.trace_ids)
                is_landed = is_deferred = True
                least = attempt.outcome.retry_after_seconds or 0.0
                self._plan(replace(known, tries=known.tries + 1), least)
                if hurries != self._hurries:  # a wake came too early for this request
                    self.hurry()
        finally:
            if not is_landed and taken is not None:
                backlog.give_back(taken)
            if not is_deferred:
                self._forget(place)

    def hurry(self) -> None:
        """Try all of them at once: what was in the way may be gone."""
        if not self._around:
            return
        self._rest_until = 0.0
        self._hurries += 1
        now, now_ns = self._dispatch.monotonic(), self._dispatch.now_ns()
        self._due = dict.fromkeys(self._due, now)
        self._around = {
            place: replace(each, next_try_ns=now_ns) for place, each in self._around.items()
        }
        self._show()

    def end(self) -> None:
        """Hand all of them out in their turn again: nobody is there who would try them."""
        if self._around:
            self._around.clear()
            self._due.clear()
            self._dispatch.backlog.unpark()
            self._show()

    def _plan(self, around: SteppedAround, least_seconds: float = 0.0) -> None:
        pause = max(pauses.parked_seconds(around.tries + 1, self._random), least_seconds)
        self._due[around.place] = self._dispatch.monotonic() + pause
        next_try_ns = self._dispatch.now_ns() + int(pause * 1e9)
        self._around[around.place] = replace(around, next_try_ns=next_try_ns)
        self._show()

    def _forget(self, place: Position) -> None:
        self._around.pop(place, None)
        self._due.pop(place, None)
        self._show()

    def _show(self) -> None:
        shown = tuple(each for _place, each in sorted(self._around.items()))
        self._dispatch.account.status.stepped_around = shown

    def _say_got_through(self, around: SteppedAround) -> None:
        log.info(
            "span_got_through",
            destination=self._dispatch.backlog.name,
            spans=around.spans,
            trace=around.trace_ids[:16].hex(),
            tries=around.tries + 1,
        )
