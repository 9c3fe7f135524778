"""Decide whether a refusal is the batch's own fault, and what to send to find out.

Decides whether to search at all (`bisect`), in which encoding, and what to send as the next probe.
A search is not repeated for the same head before something has passed: rows that came since are
asked first.

A head that waits each time (500, 502, 504, a timeout) is searched after three times, too; what is
found then is parked, and nothing is given up for it.
"""

from collections.abc import Sequence
from dataclasses import replace

from relay.deliver.isolate.age import Interrupted, find_late
from relay.deliver.isolate.bisect import Bisection, Verdict
from relay.deliver.learnt import Learnt, raw_bytes
from relay.deliver.left_out import Judge
from relay.deliver.parallel import Parallel
from relay.deliver.parked import Parked
from relay.deliver.sender import SETTLED, Attempt, BatchSender
from relay.model.records import DestinationState, OwedRange, Position, Signal, Taken
from relay.upstream import outcomes

# So many failures in a row of one head are put down to the upstream; then another row is asked.
FAILURES_OF_ONE_HEAD = 3
# In order nothing newer can show that the upstream is well again, and that only the head breaks it:
# after so many more failures of the head it is searched again. With so many rows at most: what
# they cost is a request each time their number doubles.
FAILURES_UNTIL_SEARCHED_AGAIN = 16
ROWS_TO_SEARCH_IN_ORDER = 16


class Isolation:
    """Remembers how the head of one backlog fared, and isolates what is at fault in it."""

    def __init__(self, sender: BatchSender, parked: Parked, parallel: Parallel) -> None:
        self._sender = sender
        self._consumer = sender.consumer
        self._parked = parked
        self._parallel = parallel
        # What is newer is never sent before the head.
        self._is_in_order = self._consumer.signal is Signal.METRICS
        self.failures = 0  # of the head, in a row
        self._head: Position | None = None
        self._refused: Attempt | None = None
        self._asks_another = False
        self._searched_at = 0  # by the number of failures
        self._unproven: tuple[Learnt, tuple[OwedRange, ...], int] | None = None
        self._suspected: tuple[Learnt, bool, frozenset[Position]] | None = None

    def note_failed(self, attempt: Attempt) -> None:
        """The head was sent, and refused or not answered as it should be."""
        refusal = attempt.refusal or outcomes.breaks(attempt.outcome)
        if refusal is None:  # cut off, or an upstream that is away: it says nothing of the head
            return
        head = attempt.taken.ranges[0].start
        if head != self._head:
            self._head, self.failures, self._asks_another = head, 0, False
            self._searched_at = 0
        self.failures += 1
        # Without what it sent: a destination that is blocked for days holds no memory.
        self._refused = replace(attempt, outcome=refusal, batch=None, taken=Taken((), ()))

    # Another row instead of the head

    def is_due(self, taken: Taken) -> bool:
        """Whether another row is to be the next probe instead of `taken`; then every other time."""
        refused = self._refused
        if (
            self.failures < FAILURES_OF_ONE_HEAD
            or taken.ranges[0].start != self._head
            or refused is None
            or not self._may_be_the_head(refused.refusal)
        ):
            return False
        if self._is_in_order:
            # Nothing is handed out beside what is in flight: what is owed tells.
            is_more = taken.items > 1 or self._consumer.statistics().owed_items > taken.items
            is_due = is_more and self._may_be_searched(refused, taken)
            self._searched_at = self.failures if is_due else self._searched_at
            return is_due
        has_others = len(taken.rows) > 1 or self._consumer.has_more
        if not has_others and not self._may_be_cut(refused, taken):
            return False  # there is nothing else to send
        self._asks_another = not self._asks_another
        return self._asks_another

    async def ask_another(self, taken: Taken) -> outcomes.Outcome | None:
        """Send another row than `taken`, and search `taken` if that passes. Settles or gives back.

        In order `taken` is searched together with the rows that come next.
        Returns what the destination's state is to follow, None for nothing.
        """
        refused = self._refused
        if refused is None:
            raise RuntimeError("nothing was refused that another row could stand for")
        if self._is_in_order:
            together = await self._with_the_next(taken)
            if together is None:
                return None
            taken = together
        head = replace(refused, taken=taken, learnt=self._sender.learnt)
        is_first = self._is_in_order or self._may_be_cut(refused, taken)
        verdict = await self._bisection(head).run(needs_proof=not is_first, asks_first=is_first)
        if is_first:
            self._note_unproven(verdict, head)
        return self._conclude(verdict, head)

    async def _with_the_next(self, taken: Taken) -> Taken | None:
        """`taken` and the rows that come after it, in whichever encoding, so that there is
        something to be seen to pass. None if others are first by now.
        """
        if len(taken.rows) >= ROWS_TO_SEARCH_IN_ORDER:
            return taken
        start, settings = taken.ranges[0].start, self._sender.learnt.settings
        self._consumer.give_back(taken)
        first = await self._consumer.take(
            max_bytes=settings.max_batch_bytes,
            max_items=settings.max_batch_items,
            one_encoding=False,
        )
        if first is not None and len(first.rows) > ROWS_TO_SEARCH_IN_ORDER:
            items = sum(row.items for row in first.rows[:ROWS_TO_SEARCH_IN_ORDER])
            try:
                first, rest = await self._consumer.split(first, items)
            except BaseException:
                self._consumer.give_back(first)
                raise
            self._consumer.give_back(rest)
        if first is None or first.ranges[0].start == start:
            return first
        self._consumer.give_back(first)
        return None

    def _may_be_cut(self, refused: Attempt, taken: Taken) -> bool:
        """Whether parts of `taken` may be sent though no other row has passed: once.

        Where each row holds a span that breaks the upstream, only parts can pass.
        """
        return taken.items > 1 and self._may_be_searched(refused, taken)

    def _may_be_searched(self, refused: Attempt, taken: Taken) -> bool:
        if not isinstance(refused.refusal, outcomes.Breaks):
            return False
        failures = self.failures - self._searched_at
        is_again = self._is_in_order and failures >= FAILURES_UNTIL_SEARCHED_AGAIN
        return is_again or not self._was_searched(taken, self._sender.learnt)

    def _may_be_the_head(self, refusal: outcomes.Blocked | None) -> bool:
        """Whether `refusal`, which led to the state of now, may come from the head alone."""
        state = self._sender.status.state
        if isinstance(refusal, outcomes.Breaks):
            return state is DestinationState.WAITING and not self._parked.is_full
        is_answer = refusal is not None and bool(refusal.status)
        return state is DestinationState.BLOCKED and is_answer

    # The head

    async def isolate(self, head: Attempt) -> outcomes.Outcome | None:
        """Find what is at fault in `head`, refused for what may be its content, while nothing is
        sent beside it. Settles or gives back all of it.

        Returns what the destination's state is to follow, None for nothing.
        """
        try:
            await self._parallel.close()
            if self._sender.may_go_on:
                if self._is_in_order and not head.learnt.limits.is_narrowed:
                    taken = await self._with_the_next(head.taken)
                    if taken is None:
                        return None
                    head = replace(head, taken=taken)
                return await self._search(head)
        except BaseException:
            self._consumer.give_back(head.taken)
            raise
        self._consumer.give_back(head.taken)
        return head.outcome

    async def _search(self, head: Attempt) -> outcomes.Outcome | None:
        taken, learnt, refusal = head.taken, head.learnt, head.refusal
        if refusal is None:
            raise RuntimeError("only what was refused can be searched")
        if refusal.status == outcomes.TOO_LARGE:
            learnt.limits.too_large(taken)
        needs_proof = taken.items > 1 and not refusal.is_proof and self._was_searched(taken, learnt)
        is_same = self._unproven is not None and self._unproven[1] == taken.ranges
        if self._is_in_order:
            # By turns parts of more, and the first alone, which an earlier success may condemn.
            learnt.limits.narrow(0 if taken.items < 2 else 1)
        if needs_proof and is_same:
            self._consumer.give_back(taken)
            return refusal
        is_lone = taken.items < 2 and not self._consumer.has_more
        judges: tuple[Judge, ...] = ()
        if taken.items > 1:
            try:
                found = await find_late(head, self._sender)
            except Interrupted as interrupted:
                self._consumer.give_back(taken)
                return interrupted.outcome
            if found is not None:
                judges = (found.late.judge,)
                head = found.rest or await self._sender.send(taken, head.encoding, judges=judges)
                if isinstance(head.outcome, SETTLED):
                    await self._sender.settle(head)
                    return outcomes.Delivered(200)
                if not outcomes.may_mean_the_content(head.outcome):
                    self._consumer.give_back(taken)
                    return head.outcome
        needs_proof &= not self._is_in_order  # what came since is the proof, in its turn
        verdict = await self._bisection(head, judges).run(needs_proof=needs_proof, asks_first=False)
        is_open = not (verdict.is_solved or verdict.is_broken_off or verdict.has_evidence)
        if is_open and not is_lone:
            verdict = await self._search_alternative(head, refusal.status) or verdict
        self._note_unproven(verdict, head)
        if not is_open and self._is_in_order:
            learnt.limits.narrow(0)
        return self._conclude(verdict, head)

    async def _search_alternative(self, head: Attempt, status: int) -> Verdict | None:
        """The same rows, refused with `status`, in the encoding that refused them, too."""
        if head.alternative is None:
            return None
        taken = await self._consumer.take(
            max_bytes=raw_bytes(head.taken), max_items=head.taken.items, one_encoding=True
        )
        if taken is None:
            return None
        if taken.ranges[0].start != head.taken.ranges[0].start:
            self._consumer.give_back(taken)
            return None
        second = Attempt(taken, head.alternative, head.learnt, head.outcome)
        verdict = await self._bisection(second).run(needs_proof=False, asks_first=False)
        if verdict.has_evidence:
            self._sender.learn_encoding(second, status)
        return verdict

    # What both come to

    def _bisection(self, head: Attempt, judges: Sequence[Judge] = ()) -> Bisection:
        breaks = isinstance(head.refusal, outcomes.Breaks)
        suspected: frozenset[Position] = frozenset()
        if self._suspected is not None and self._suspected[:2] == (head.learnt, breaks):
            suspected = self._suspected[2]
        parked = self._parked if breaks else None
        return Bisection(head, self._sender, parked=parked, suspected=suspected, judges=judges)

    def _note_unproven(self, verdict: Verdict, head: Attempt) -> None:
        if not verdict.is_solved and not verdict.is_broken_off:
            passes = head.learnt.evidence.passes.total()
            self._unproven = (head.learnt, head.taken.ranges, passes)

    def _was_searched(self, taken: Taken, learnt: Learnt) -> bool:
        """Whether a search of this very head has found nothing, and nothing has passed since."""
        if self._unproven is None:
            return False
        known, ranges, passes = self._unproven
        return (
            known is learnt
            and ranges[0].start == taken.ranges[0].start
            and passes == learnt.evidence.passes.total()
        )

    def _conclude(self, verdict: Verdict, head: Attempt) -> outcomes.Outcome | None:
        refusal = head.outcome
        breaks = isinstance(refusal, outcomes.Breaks)
        self._suspected = (head.learnt, breaks, verdict.suspects) if verdict.suspects else None
        if verdict.is_solved:
            return outcomes.Delivered(200)
        if not verdict.is_broken_off:
            return refusal.wait if isinstance(refusal, outcomes.Breaks) else refusal
        if isinstance(verdict.outcome, outcomes.Wait) and verdict.part_items:
            head.learnt.limits.narrow(verdict.part_items)
        return verdict.outcome
