"""A refusal goes in; whether it is the batch's own fault, and what follows, comes out.

Decides whether to search at all, in which encoding, and what to send as the next probe. The search
itself is `search`. It is not repeated for the same head before something has passed: rows that came
since are asked first.

A head that waits each time (500, 502, 504, a timeout) is searched after three times, too; what is
found then is stepped around, not set aside (`detour`).
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from relay.deliver.batch_limits import raw_bytes
from relay.deliver.isolate.bisect import Search
from relay.deliver.parked import Detour
from relay.deliver.sender import Attempt, Dispatch, Terms
from relay.model.records import (
    DestinationState,
    DestinationStatus,
    Encoding,
    OwedRange,
    Position,
    Taken,
)
from relay.otlp.transcode import TranscodeError
from relay.upstream import outcomes

# So many failures in a row of one head are put down to the upstream; then another row is asked.
FAILURES_OF_ONE_HEAD = 3
# Requests of one search that may end without an answer: each may take the whole timeout. It goes on
# from the part it had come to, after the head has failed again.
MOST_UNANSWERED = 12

Send = Callable[[Taken, Encoding, Terms], Awaitable[Attempt]]


class _Ground:
    """What a search works on, under the terms of one turn (`search.Field`).

    With a `detour` waiting counts as refusing, and what was found so, now or by the search before
    (`suspected`), is stepped around.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        send: Send,
        may_go_on: Callable[[], bool],
        terms: Terms,
        *,
        detour: Detour | None,
        suspected: frozenset[Position],
    ) -> None:
        self._dispatch = dispatch
        self._send = send
        self._terms = terms
        self._detour = detour
        self._suspected = suspected
        self._broke: set[tuple[OwedRange, ...]] = set()
        self._unanswered = 0
        self.may_go_on = may_go_on
        self.split = dispatch.backlog.split
        self.give_back = dispatch.backlog.give_back
        self.is_too_large = terms.reach.is_too_large
        self.note_too_large = terms.reach.too_large

    async def send(self, part: Taken, encoding: Encoding) -> Attempt:
        attempt = await self._send(part, encoding, self._terms)
        breaks = outcomes.breaks(attempt.outcome)
        if self._detour is None or breaks is None:
            return attempt
        self._unanswered += not breaks.status
        if self._unanswered > MOST_UNANSWERED:
            return attempt
        self._broke.add(part.ranges)
        return replace(attempt, outcome=breaks)

    async def settle(self, attempt: Attempt) -> None:
        await self._dispatch.settle(attempt, self._terms)

    async def set_aside(self, attempt: Attempt) -> None:
        # Refused now, it may have broken the upstream before: once of each proves neither.
        ranges = attempt.taken.ranges
        has_broken = ranges in self._broke or ranges[0].start in self._suspected
        if self._detour is not None and has_broken:
            await self._detour.step_around(attempt)
        else:
            await self._dispatch.set_aside(attempt, self._terms)

    async def take_other(self, came_in: Encoding) -> Taken | None:
        is_auto = self._terms.settings.encoding == "auto"
        other = await self._dispatch.backlog.take_newest(came_in if is_auto else None)
        return other if other is None or self._detour is None else await self._last_of(other)

    async def _last_of(self, other: Taken) -> Taken:
        """One span of it, the least that can pass: each row may hold one that does not."""
        if other.spans < 2:
            return other
        try:
            rest, last = await self.split(other, other.spans - 1)
        except TranscodeError:
            return other
        except BaseException:
            self.give_back(other)
            raise
        self.give_back(rest)
        return last

    def condemns_lone(self, attempt: Attempt) -> bool:
        refusal = attempt.refusal
        if self._detour is not None:
            return False  # it is in nobody's way
        return self._terms.evidence.condemns_lone(
            attempt.taken,
            attempt.encoding,
            self._dispatch.monotonic(),
            is_too_large=refusal is not None and refusal.status == outcomes.TOO_LARGE,
        )


class Inquiry:
    """Remembers how the head of one backlog fared."""

    def __init__(
        self, dispatch: Dispatch, send: Send, may_go_on: Callable[[], bool], detour: Detour
    ) -> None:
        self._dispatch = dispatch
        self._detour = detour
        self._send = send
        self._may_go_on = may_go_on
        self._head: Position | None = None
        self._failures = 0
        self._refused: Attempt | None = None
        self._asks_another = False
        self._unproven: tuple[Terms, tuple[OwedRange, ...], int] | None = None
        self._suspected: tuple[Terms, bool, frozenset[Position]] | None = None

    def note_failed(self, attempt: Attempt) -> None:
        """The head was sent, and refused or not answered as it should be."""
        refusal = attempt.refusal or outcomes.breaks(attempt.outcome)
        if refusal is None:  # cut off, or an upstream that is away: it says nothing of the head
            return
        head = attempt.taken.ranges[0].start
        if head != self._head:
            self._head, self._failures, self._asks_another = head, 0, False
        self._failures += 1
        # Without what it sent: a destination that is blocked for days holds no memory.
        self._refused = replace(attempt, outcome=refusal, batch=None, taken=Taken((), ()))

    def is_due(self, taken: Taken, terms: Terms, status: DestinationStatus) -> bool:
        """Whether another row is to be the next probe instead of `taken`; then every other time."""
        refused = self._refused
        if (
            self._failures < FAILURES_OF_ONE_HEAD
            or taken.ranges[0].start != self._head
            or refused is None
            or not self._may_be_the_head(refused.refusal, status.state)
        ):
            return False
        has_others = len(taken.rows) > 1 or self._dispatch.backlog.has_more
        if not has_others and not self._may_be_cut(refused, taken, terms):
            return False  # there is nothing else to send
        self._asks_another = not self._asks_another
        return self._asks_another

    def _may_be_cut(self, refused: Attempt, taken: Taken, terms: Terms) -> bool:
        """Whether parts of `taken` may be sent though no other row has passed: once.

        Where each row holds a span that breaks the upstream, only parts can pass.
        """
        breaks = isinstance(refused.refusal, outcomes.Breaks)
        return breaks and taken.spans > 1 and not self._was_searched(taken, terms)

    def _may_be_the_head(self, refusal: outcomes.Blocked | None, state: DestinationState) -> bool:
        """Whether `refusal`, which led to `state`, may come from the head alone."""
        if isinstance(refusal, outcomes.Breaks):
            return state is DestinationState.WAITING and not self._detour.is_full
        is_answer = refusal is not None and bool(refusal.status)
        return state is DestinationState.BLOCKED and is_answer

    async def ask_another(self, taken: Taken, terms: Terms) -> outcomes.Outcome | None:
        """Send another row than `taken`, and search `taken` if that passes. Settles or gives back.

        Returns what the destination's state is to follow, None for nothing.
        """
        refused = self._refused
        if refused is None or refused.refusal is None:
            raise RuntimeError("nothing was refused that another row could stand for")
        head = replace(refused, taken=taken)
        search = self._search(head, terms)
        is_first = self._may_be_cut(refused, taken, terms)
        await search.run(head, needs_proof=not is_first, asks_first=is_first)
        if is_first:
            self._note_search(search, taken, terms)
        return self._conclude(search, refused.refusal, terms)

    async def search(self, attempt: Attempt, terms: Terms) -> outcomes.Outcome | None:
        """Search `attempt`, refused for what may be its content. Settles or gives back all of it.

        Returns what the destination's state is to follow, None for nothing.
        """
        refusal = attempt.refusal
        if refusal is None:
            raise RuntimeError("only what was refused can be searched")
        taken = attempt.taken
        if refusal.status == outcomes.TOO_LARGE:
            terms.reach.too_large(taken)
        needs_proof = taken.spans > 1 and self._was_searched(taken, terms)
        if needs_proof and self._unproven is not None and self._unproven[1] == taken.ranges:
            self._dispatch.backlog.give_back(taken)
            return refusal
        is_lone = taken.spans < 2 and not self._dispatch.backlog.has_more
        search = self._search(attempt, terms)
        await search.run(attempt, needs_proof=needs_proof)
        is_open = not (search.is_solved or search.is_broken_off or search.has_evidence)
        if is_open and attempt.alternative is not None and not is_lone:
            second = await self._search_alternative(attempt, terms)
            search = second or search
        self._note_search(search, taken, terms)
        return self._conclude(search, refusal, terms)

    async def _search_alternative(self, attempt: Attempt, terms: Terms) -> Search | None:
        """The same rows in the encoding that refused them, too."""
        head = attempt.taken
        backlog = self._dispatch.backlog
        if attempt.alternative is None:
            return None
        taken = await backlog.take(
            max_bytes=raw_bytes(head), max_spans=head.spans, one_encoding=True
        )
        if taken is None:
            return None
        if taken.ranges[0].start != head.ranges[0].start:
            backlog.give_back(taken)
            return None
        second = Attempt(taken, attempt.alternative, attempt.outcome)
        search = self._search(second, terms)
        await search.run(second)
        if search.has_evidence and attempt.refusal is not None:
            self._dispatch.learn(second, attempt.refusal.status, terms)
        return search

    def _search(self, head: Attempt, terms: Terms) -> Search:
        refusal = head.refusal
        breaks = isinstance(refusal, outcomes.Breaks)
        known, broke, suspected = self._suspected or (terms, breaks, frozenset())
        if known is not terms or broke is not breaks:
            suspected = frozenset()
        ground = _Ground(
            self._dispatch,
            self._send,
            self._may_go_on,
            terms,
            detour=self._detour if breaks else None,
            suspected=suspected,
        )
        statuses = frozenset({refusal.status} if refusal is not None and refusal.status else ())
        return Search(
            ground,
            head.encoding,
            statuses=statuses,
            other=head.alternative,
            suspected=suspected,
        )

    def _note_search(self, search: Search, taken: Taken, terms: Terms) -> None:
        if not search.is_solved and not search.is_broken_off:
            self._unproven = (terms, taken.ranges, sum(terms.evidence.passes.values()))

    def _was_searched(self, taken: Taken, terms: Terms) -> bool:
        """Whether a search of this very head has found nothing, and nothing has passed since."""
        if self._unproven is None:
            return False
        known, ranges, passes = self._unproven
        return (
            known is terms
            and ranges[0].start == taken.ranges[0].start
            and passes == sum(terms.evidence.passes.values())
        )

    def _conclude(
        self, search: Search, refusal: outcomes.Blocked, terms: Terms
    ) -> outcomes.Outcome | None:
        breaks = isinstance(refusal, outcomes.Breaks)
        self._suspected = (terms, breaks, search.suspects) if search.suspects else None
        if search.is_solved:
            return outcomes.Delivered(200)
        if not search.is_broken_off:
            return refusal.wait if isinstance(refusal, outcomes.Breaks) else refusal
        if isinstance(search.outcome, outcomes.Wait) and search.part_spans:
            terms.reach.narrow(search.part_spans)
        return search.outcome
