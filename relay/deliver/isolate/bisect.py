"""Find the spans that a batch is refused for, deliver the others, and say what came of it.

A batch is halved and its halves sent at once, without pauses: first down to a single span, always
the first half (log n requests), then the siblings on the way up. What passes is settled. With k
spans at fault among n it takes about k (2 log n + 1) requests.

**Evidence.** An upstream that refuses everything, for its own reasons, looks like one that was sent
only bad spans. So a single span is given up only when it was refused twice, alone, and something
else had passed, in the same encoding, before each time: another part of the batch, or another row.
Once would do against an upstream that recovers meanwhile; it takes twice with one that breaks.

Without evidence the search stops when the siblings of one path were refused, and all is given back.
Spans that were refused once so, and for which nothing is owed that could pass before the second
time, stay owed as `suspects`: the next search goes on from there. A single one that is left is
given up when it is refused once more after a pause (`learnt.Evidence`).

**Age.** What is refused for the age of items is searched by their times first (`age`). Then the
requests of a search are bounded: in a backlog of an hour each item may be late.

**Order.** Metrics must arrive in order: a point that comes after a later one of its series is
refused for that. So no other rows are asked, and what was refused is cut at once, evidence or not,
before anything to its right is sent; without evidence for so many requests. What is sent once more,
after others to its right have passed, may be refused for its lateness: that counts, under the words
of its first refusal.

Statuses that speak of other things than content (401, 404, …) count only while another row is seen
to pass, and a span must be refused for them several times. So do responses that are no refusals
(`outcomes.Breaks`): what is found to break the upstream so is parked.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from relay.deliver.learnt import raw_bytes
from relay.deliver.left_out import Judge
from relay.deliver.parked import Parked
from relay.deliver.sender import Attempt, BatchSender
from relay.model.records import Encoding, OwedRange, Position, Signal, Taken
from relay.otlp.transcode import TranscodeError
from relay.upstream import outcomes

# How often a span alone is refused for what is not known to mean content, until it is believed.
REFUSALS_FOR_OTHER_STATUSES = 3
# One span larger than this may be too large whatever else passes or not.
LARGE_SPAN_BYTES = 1024 * 1024
# Requests of one search that may end without a response: each may take the whole timeout. It
# goes on from the part it had come to, after the head has failed once more.
MOST_UNANSWERED = 12
# Requests of one search in order that may be refused before anything has passed; and those that an
# upstream breaks at, when it has come down to one item: if it recovers meanwhile, what was sent
# before comes too late for it.
MOST_WITHOUT_EVIDENCE = 40
MOST_BROKEN_IN_ORDER = 12
# Requests of one search after which whatever is refused for its age is given up as it was sent.
MOST_FOR_AGE = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a search came to. Whatever it did not settle was given back.

    `is_solved`: all of the batch was delivered, given up or parked. `has_evidence`: something
    passed. `is_broken_off` by `outcome` (None: somebody wants something else to be done), when it
    had come down to `part_items` spans. `suspects` lack only the last proof.
    """

    is_solved: bool
    has_evidence: bool
    is_broken_off: bool
    outcome: outcomes.Outcome | None
    part_items: int
    suspects: frozenset[Position]


class _BrokenOff(Exception):
    """Something else than passing or being refused has happened; `part` of the batch was sent."""

    def __init__(self, outcome: outcomes.Outcome | None, part: Taken | None = None) -> None:
        self.outcome = outcome
        self.part = part


class Bisection:
    """One search of `head`, which was refused, in the encoding of `head`. To be run once.

    A span is given up only when it is refused in the alternative encoding of `head`, too, where
    there is one. With `parked` waiting counts as refusing, and what is found so, now or by the
    search before, is parked. `suspected` are the places that a search before lacked only the last
    proof for.
    """

    def __init__(
        self,
        head: Attempt,
        sender: BatchSender,
        *,
        parked: Parked | None,
        suspected: AbstractSet[Position],
        judges: Sequence[Judge] = (),
    ) -> None:
        if head.refusal is None:
            raise TypeError("only what was refused can be searched")
        self._head = head
        self._sender = sender
        self._consumer = sender.consumer
        self._parked = parked
        self._judges = judges
        self._suspected = suspected
        self._limits = head.learnt.limits
        self._is_in_order = self._consumer.signal is Signal.METRICS
        self._refusals = 0
        self._is_proven = head.refusal.is_proof
        self._status = head.refusal.status
        self._broke: set[tuple[OwedRange, ...]] = set()  # what the upstream broke at
        self._unanswered = 0
        self._held: list[Taken] = [head.taken]  # parts of the batch
        self._others: list[Taken] = []  # rows beside it that were refused, too
        self._unsent: list[Taken] = []
        self._refused: list[Attempt] = []
        self._suspects: list[Attempt] = []
        self._convicted: list[Attempt] = []  # refused once, after something had passed
        self._to_confirm: list[Attempt] = []  # and since then something has passed again
        self._whole: set[tuple[OwedRange, ...]] = set()  # what cannot be cut
        self._has_evidence = False

    async def run(self, *, needs_proof: bool, asks_first: bool) -> Verdict:
        """With `needs_proof` nothing of the head is sent before another row, or failing that its
        last one, has passed. With `asks_first` another row is sent first, whether it passes or not.
        """
        end: _BrokenOff | None = None
        try:
            if needs_proof:
                await self._search_with_proof()
            else:
                if asks_first:
                    await self._try_another()
                await self._search(self._head)
        except _BrokenOff as broken_off:
            end = broken_off
        finally:
            for part in (*self._held, *self._others):
                self._consumer.give_back(part)
        return Verdict(
            is_solved=end is None and not self._held,
            has_evidence=self._has_evidence,
            is_broken_off=end is not None,
            outcome=end.outcome if end is not None else None,
            part_items=end.part.items if end is not None and end.part is not None else 0,
            suspects=frozenset(map(_place, (*self._convicted, *self._to_confirm))),
        )

    # The way down and up

    async def _search_with_proof(self) -> None:
        head = self._head
        passed = await self._try_another()
        if passed is None and len(head.taken.rows) > 1:
            last = head.taken.rows[-1]
            cut = await self._cut(head.taken, head.taken.items - last.items)
            if cut is not None:
                rest, probe = cut
                head = replace(head, taken=rest)
                passed = (await self._send(probe)).refusal is None
        if passed:
            await self._search(head)

    async def _search(self, head: Attempt) -> None:
        await self._descend(head)
        if self._parked is not None:
            self._refusals = 0  # however many it took to come down to one
        await self._climb()

    async def _descend(self, head: Attempt) -> None:
        """Send first halves until one passes or is a single span."""
        refused = head
        while (cut := await self._halve(refused.taken)) is not None:
            left, right = cut
            self._unsent.append(right)
            attempt = await self._send(left)
            if attempt.refusal is None:
                return
            refused = attempt
        if refused is head and not self._stands_alone(head):
            self._suspects.append(head)
        else:
            await self._judge(refused)

    async def _climb(self) -> None:
        """Send what is left, the smallest parts first; cut what was refused once others pass."""
        is_asked = False
        while True:
            if self._to_confirm:
                attempt = await self._send(self._to_confirm[-1].taken)
                first = self._to_confirm.pop()
                if attempt.refusal is not None:
                    await self._give_up(first if self._is_in_order else attempt)
            elif self._has_evidence and self._suspects:
                attempt = await self._send(self._suspects.pop().taken)
                if attempt.refusal is not None:
                    await self._judge(attempt)
            elif self._has_evidence and self._refused:
                await self._cut_refused(self._refused.pop())
            elif self._unsent and not self._is_hopeless:
                await self._send_next(self._unsent.pop())
            elif not is_asked and self._held:
                is_asked = True
                passed = await self._try_another()
                if passed is None and not self._has_evidence:
                    await self._judge_lone()
            else:
                break

    async def _send_next(self, part: Taken) -> None:
        if self._limits.is_too_large(part) and (cut := await self._halve(part)) is not None:
            self._unsent += reversed(cut)
            return
        attempt = await self._send(part)
        if attempt.refusal is None:
            return
        if self._is_unit(part):
            await self._judge(attempt)
        elif attempt.refusal.about in outcomes.AGES and self._refusals >= MOST_FOR_AGE:
            await self._give_up(attempt)
        elif self._is_in_order or attempt.refusal.is_proof:
            await self._cut_refused(attempt)
        else:
            self._refused.append(attempt)

    @property
    def _is_hopeless(self) -> bool:
        most = MOST_WITHOUT_EVIDENCE if self._parked is None else MOST_BROKEN_IN_ORDER
        if not self._is_in_order or self._has_evidence or self._is_proven:
            return False
        return self._refusals >= most

    async def _cut_refused(self, attempt: Attempt) -> None:
        cut = await self._halve(attempt.taken)
        if cut is not None:
            self._unsent += reversed(cut)
        else:
            self._suspects.append(attempt)  # it cannot be cut after all: sent once more

    # Single spans

    async def _judge(self, attempt: Attempt) -> None:
        """`attempt`, a single span, was refused just now."""
        if self._stands_alone(attempt):
            await self._give_up(attempt)
        elif not self._has_evidence:
            self._suspects.append(attempt)
        elif await self._is_refused_each_time(attempt) and await self._is_refused_in_other(attempt):
            if _place(attempt) in self._suspected:
                await self._give_up(attempt)
            else:
                self._convicted.append(attempt)

    @staticmethod
    def _stands_alone(attempt: Attempt) -> bool:
        """Whether the refusal is clear without any evidence."""
        refusal = attempt.refusal
        if attempt.taken.items > 1:
            return False
        if isinstance(refusal, outcomes.Faulty):
            return refusal.is_certain
        if refusal is not None and refusal.is_proof:
            return True
        return _is_about_size(attempt) and raw_bytes(attempt.taken) > LARGE_SPAN_BYTES

    async def _is_refused_each_time(self, attempt: Attempt) -> bool:
        if outcomes.may_mean_the_content(attempt.refusal):
            return True
        for _ in range(REFUSALS_FOR_OTHER_STATUSES - 1):
            if (await self._send(attempt.taken)).refusal is None:
                return False
        return True

    async def _is_refused_in_other(self, attempt: Attempt) -> bool:
        alternative = self._head.alternative
        if alternative is None or isinstance(attempt.refusal, outcomes.Faulty):
            return True
        other = await self._exchange(attempt.taken, alternative)
        if isinstance(other.outcome, outcomes.Delivered):
            await self._sender.settle(other)
            self._drop(attempt.taken)
            return False
        if isinstance(other.outcome, outcomes.Blocked):
            return True
        raise _BrokenOff(other.outcome, attempt.taken)

    async def _judge_lone(self) -> None:
        """Nothing has passed and nothing else is owed."""
        if self._parked is not None:
            return  # it is in nobody's way
        if len(self._held) == len(self._suspects) == 1:
            attempt = self._suspects[0]
            is_condemned = attempt.learnt.evidence.condemns_lone(
                attempt.taken,
                attempt.encoding,
                self._sender.monotonic(),
                # In order more may be owed, and an upstream may find all of it too large.
                is_too_large=_is_about_size(attempt) and self._is_all_that_is_owed(attempt),
            )
            if is_condemned and await self._is_refused_in_other(attempt):
                await self._give_up(attempt)

    def _is_all_that_is_owed(self, attempt: Attempt) -> bool:
        return self._consumer.statistics().owed_items <= attempt.taken.items

    async def _give_up(self, attempt: Attempt) -> None:
        """`attempt` is at fault: a dead letter, or parked."""
        # Refused now, it may have broken the upstream before: once of each proves neither.
        has_broken = attempt.taken.ranges in self._broke or _place(attempt) in self._suspected
        if self._parked is not None and has_broken:
            await self._parked.park(attempt)
        else:
            await self._sender.give_up(attempt)
        self._drop(attempt.taken)

    # Requests

    async def _send(self, part: Taken) -> Attempt:
        """One request: settled if it passed. Raises _BrokenOff for what is neither."""
        if not self._sender.may_go_on:
            raise _BrokenOff(None)
        attempt = await self._exchange(part, self._head.encoding)
        if isinstance(attempt.outcome, outcomes.Unsent):
            await self._sender.settle(attempt)
            self._drop(part)
        elif isinstance(attempt.outcome, outcomes.Delivered):
            await self._sender.settle(attempt)
            self._drop(part)
            self._has_evidence = True
            self._to_confirm += self._convicted
            self._convicted.clear()
        elif not self._is_refusal(attempt.outcome):
            is_other = any(part is other for other in self._others)
            raise _BrokenOff(attempt.outcome, None if is_other else part)
        else:
            self._refusals += 1
            if _is_about_size(attempt):
                self._limits.too_large(part)
        return attempt

    async def _exchange(self, part: Taken, encoding: Encoding) -> Attempt:
        attempt = await self._sender.send(part, encoding, judges=self._judges)
        breaks = outcomes.breaks(attempt.outcome)
        if self._parked is None or breaks is None:
            return attempt
        self._unanswered += not breaks.status
        if self._unanswered > (1 if self._is_in_order else MOST_UNANSWERED):
            return attempt
        self._broke.add(part.ranges)
        return replace(attempt, outcome=breaks)

    def _is_refusal(self, outcome: outcomes.Outcome | None) -> bool:
        if outcomes.may_mean_the_content(outcome) or isinstance(outcome, outcomes.Breaks):
            return True
        return isinstance(outcome, outcomes.Blocked) and 0 < outcome.status == self._status

    # Other rows

    async def _try_another(self) -> bool | None:
        """Whether another row passes; None when there is none to try. Two are tried."""
        passed: bool | None = None
        for _ in range(2):
            other = await self._take_other()
            if other is None:
                break
            self._others.append(other)
            passed = (await self._send(other)).refusal is None
            if passed:
                break
        return passed

    async def _take_other(self) -> Taken | None:
        """The newest row that is owed; one span of it, the least that can pass, where each row may
        hold one that breaks the upstream.
        """
        is_auto = self._head.learnt.settings.encoding == "auto"
        came_in = self._head.taken.rows[0].encoding
        other = await self._consumer.take_newest(came_in if is_auto else None)
        if other is None or self._parked is None or other.items < 2:
            return other
        try:
            rest, last = await self._consumer.split(other, other.items - 1)
        except TranscodeError:
            return other
        except BaseException:
            self._consumer.give_back(other)
            raise
        self._consumer.give_back(rest)
        return last

    # Parts

    def _is_unit(self, part: Taken) -> bool:
        return part.items < 2 or part.ranges in self._whole

    async def _halve(self, part: Taken) -> tuple[Taken, Taken] | None:
        return None if self._is_unit(part) else await self._cut(part, part.items // 2)

    async def _cut(self, part: Taken, items: int) -> tuple[Taken, Taken] | None:
        try:
            left, right = await self._consumer.split(part, items)
        except TranscodeError:
            self._whole.add(part.ranges)
            return None
        self._drop(part)
        self._held += (left, right)
        return left, right

    def _drop(self, part: Taken) -> None:
        self._held = [held for held in self._held if held is not part]
        self._others = [held for held in self._others if held is not part]


def _is_about_size(attempt: Attempt) -> bool:
    return attempt.refusal is not None and attempt.refusal.status == outcomes.TOO_LARGE


def _place(attempt: Attempt) -> Position:
    return attempt.taken.ranges[0].start
