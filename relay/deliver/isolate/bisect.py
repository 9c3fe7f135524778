"""A refused batch goes in; the spans it was refused for are set aside, the others delivered.

A batch is halved and its halves sent at once, without pauses: first down to a single span, always
the first half (log n requests), then the siblings on the way up. What passes is settled. With k
spans at fault among n it takes about k (2 log n + 1) requests.

**Evidence.** An upstream that refuses everything, for its own reasons, looks like one that was sent
only bad spans. So a single span is set aside only when it was refused twice, alone, and something
else had passed, in the same encoding, before each time: another part of the batch, or another row.
Once would do against an upstream that recovers meanwhile; it takes twice with one that breaks.

Without evidence the search stops when the siblings of one path were refused, and all is given back.
Spans that were refused once so, and for which nothing is owed that could pass before the second
time, stay owed as `suspected`: the next search goes on from there. A single one that is left is set
aside when it is refused again after a pause (`evidence`).

Statuses that speak of other things than content (401, 404, …) count only while another row is seen
to pass, and a span must be refused for them several times. So do answers that are no refusals
(`policy.Breaks`): the field steps around what it is told to set aside for them.
"""

from collections.abc import Set as AbstractSet
from typing import Protocol

from relay.deliver.sender import Attempt
from relay.model.records import Encoding, Position, Taken
from relay.otlp.transcode import TranscodeError
from relay.upstream import outcomes

# How often a span alone is refused for what is not known to mean content, until it is believed.
REFUSALS_FOR_OTHER_STATUSES = 3
# One span larger than this may be too large whatever else passes or not.
LARGE_SPAN_BYTES = 1024 * 1024


class Field(Protocol):
    """What a search does its work on: a courier's backlog and upstream."""

    async def send(self, part: Taken, encoding: Encoding) -> Attempt:
        """One request."""
        ...

    async def settle(self, attempt: Attempt) -> None:
        """It was delivered."""
        ...

    async def set_aside(self, attempt: Attempt) -> None:
        """It is at fault: owed no more, or stepped around."""
        ...

    async def split(self, part: Taken, spans: int) -> tuple[Taken, Taken]:
        """As Backlog.split."""
        ...

    def give_back(self, part: Taken) -> None:
        """It stays owed."""
        ...

    async def take_other(self, came_in: Encoding) -> Taken | None:
        """One more row that came in so, in flight now; None when there is none."""
        ...

    def may_go_on(self) -> bool:
        """Whether nobody wants the courier to do something else."""
        ...

    def is_too_large(self, part: Taken) -> bool:
        """Whether it is known that so much at once is refused."""
        ...

    def note_too_large(self, part: Taken) -> None:
        """It was refused for its size."""
        ...

    def condemns_lone(self, attempt: Attempt) -> bool:
        """Whether all that is owed may be set aside without another row to prove it."""
        ...


class _BrokenOff(Exception):
    """Something else than passing or being refused has happened; `part` of the batch was sent."""

    def __init__(self, outcome: outcomes.Outcome | None, part: Taken | None = None) -> None:
        super().__init__()
        self.outcome = outcome
        self.part = part


class Search:
    """One search, in one encoding. `run` is to be called once.

    `statuses` count as refusals of content besides those that always do. `other` is the other
    encoding, where that is free and not known to be refused: a span is set aside only when it is
    refused in both. `suspected` are the places of those that a search before lacked only the last
    proof for. After `run`: `is_solved`, all of the batch was settled or set aside; `outcome`, if it
    was broken off by one, and `part_spans`, how far down it had come by then; `suspects`.
    """

    def __init__(
        self,
        field: Field,
        encoding: Encoding,
        *,
        statuses: frozenset[int] = frozenset(),
        other: Encoding | None = None,
        suspected: AbstractSet[Position] = frozenset(),
    ) -> None:
        self._field = field
        self._suspected = suspected
        self._encoding = encoding
        self._statuses = statuses
        self._other = other
        self._held: list[Taken] = []  # parts of the batch
        self._others: list[Taken] = []  # rows beside it that were refused, too
        self._unsent: list[Taken] = []
        self._refused: list[Attempt] = []
        self._suspects: list[Attempt] = []
        self._convicted: list[Attempt] = []  # refused once, after something had passed
        self._to_confirm: list[Attempt] = []  # and since then something has passed again
        self._whole: set[int] = set()  # id() of held parts that cannot be cut
        self.has_evidence = False
        self.is_solved = False
        self.is_broken_off = False
        self.outcome: outcomes.Outcome | None = None
        self.part_spans = 0
        self.suspects: frozenset[Position] = frozenset()

    async def run(
        self, head: Attempt, *, needs_proof: bool = False, asks_first: bool = False
    ) -> None:
        """Search `head`, which was refused. With `needs_proof` nothing of it is sent before
        another row, or failing that its last one, has passed. With `asks_first` another row is
        sent first, whether it passes or not.
        """
        self._held.append(head.taken)
        try:
            if needs_proof:
                await self._search_with_proof(head)
            else:
                if asks_first:
                    await self._try_another(head.taken)
                await self._descend(head)
                await self._climb(head)
        except _BrokenOff as end:
            self.is_broken_off, self.outcome = True, end.outcome
            self.part_spans = end.part.spans if end.part is not None else 0
        finally:
            for part in (*self._held, *self._others):
                self._field.give_back(part)
            found = (*self._convicted, *self._to_confirm)
            self.suspects = frozenset(_place(attempt) for attempt in found)
        self.is_solved = not self.is_broken_off and not self._held

    # The way down and up

    async def _search_with_proof(self, head: Attempt) -> None:
        passed = await self._try_another(head.taken)
        if passed is None and len(head.taken.rows) > 1:
            last = head.taken.rows[-1]
            cut = await self._cut(head.taken, head.taken.spans - last.spans)
            if cut is not None:
                rest, probe = cut
                head = Attempt(rest, head.encoding, head.outcome)
                passed = await self._passes(probe)
        if passed:
            await self._descend(head)
            await self._climb(head)

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

    async def _climb(self, head: Attempt) -> None:
        """Send what is left, the smallest parts first; cut what was refused once others pass."""
        is_asked = False
        while True:
            if self._to_confirm:
                again = await self._send(self._to_confirm[-1].taken)
                self._to_confirm.pop()
                if again.refusal is not None:
                    await self._set_aside(again)
            elif self.has_evidence and self._suspects:
                again = await self._send(self._suspects.pop().taken)
                if again.refusal is not None:
                    await self._judge(again)
            elif self.has_evidence and self._refused:
                await self._cut_refused(self._refused.pop())
            elif self._unsent:
                await self._send_next(self._unsent.pop())
            elif not is_asked and self._held:
                is_asked = True
                passed = await self._try_another(head.taken)
                if passed is None and not self.has_evidence:
                    await self._judge_lone()
            else:
                break

    async def _send_next(self, part: Taken) -> None:
        if self._field.is_too_large(part) and (cut := await self._halve(part)) is not None:
            self._unsent += reversed(cut)
            return
        attempt = await self._send(part)
        if attempt.refusal is None:
            return
        if self._is_unit(part):
            await self._judge(attempt)
        else:
            self._refused.append(attempt)

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
            await self._set_aside(attempt)
        elif not self.has_evidence:
            self._suspects.append(attempt)
        elif await self._is_refused_again(attempt) and await self._is_refused_in_other(attempt):
            if _place(attempt) in self._suspected:
                await self._set_aside(attempt)
            else:
                self._convicted.append(attempt)

    @staticmethod
    def _stands_alone(attempt: Attempt) -> bool:
        """Whether the refusal is clear without any evidence."""
        refusal = attempt.refusal
        if attempt.taken.spans > 1:
            return False
        if isinstance(refusal, outcomes.Faulty):
            return refusal.is_certain
        size = sum(len(row.body) for row in attempt.taken.rows)
        is_size = refusal is not None and refusal.status == outcomes.TOO_LARGE
        return is_size and size > LARGE_SPAN_BYTES

    async def _is_refused_again(self, attempt: Attempt) -> bool:
        refusal = attempt.refusal
        if outcomes.may_mean_the_content(refusal):
            return True
        for _ in range(REFUSALS_FOR_OTHER_STATUSES - 1):
            if (await self._send(attempt.taken)).refusal is None:
                return False
        return True

    async def _is_refused_in_other(self, attempt: Attempt) -> bool:
        if self._other is None or isinstance(attempt.refusal, outcomes.Faulty):
            return True
        other = await self._field.send(attempt.taken, self._other)
        outcome = other.outcome
        if isinstance(outcome, outcomes.Delivered):
            await self._field.settle(other)
            self._drop(attempt.taken)
            return False
        if isinstance(outcome, outcomes.Blocked):
            return True
        raise _BrokenOff(outcome, attempt.taken)

    async def _judge_lone(self) -> None:
        """Nothing has passed and nothing else is owed."""
        if len(self._held) == len(self._suspects) == 1:
            attempt = self._suspects[0]
            if self._field.condemns_lone(attempt) and await self._is_refused_in_other(attempt):
                self._suspects.clear()
                await self._set_aside(attempt)

    async def _set_aside(self, attempt: Attempt) -> None:
        await self._field.set_aside(attempt)
        self._drop(attempt.taken)

    # Requests

    async def _send(self, part: Taken) -> Attempt:
        """One request: settled if it passed. Raises _BrokenOff for what is neither."""
        if not self._field.may_go_on():
            raise _BrokenOff(None)
        attempt = await self._field.send(part, self._encoding)
        outcome = attempt.outcome
        if isinstance(outcome, outcomes.Delivered):
            await self._field.settle(attempt)
            self._drop(part)
            self.has_evidence = True
            self._to_confirm += self._convicted
            self._convicted.clear()
        elif not self._is_refusal(outcome):
            is_other = any(part is other for other in self._others)
            raise _BrokenOff(outcome, None if is_other else part)
        elif attempt.refusal is not None and attempt.refusal.status == outcomes.TOO_LARGE:
            self._field.note_too_large(part)
        return attempt

    def _is_refusal(self, outcome: outcomes.Outcome | None) -> bool:
        if outcomes.may_mean_the_content(outcome) or isinstance(outcome, outcomes.Breaks):
            return True
        return isinstance(outcome, outcomes.Blocked) and outcome.status in self._statuses

    async def _passes(self, part: Taken) -> bool:
        return (await self._send(part)).refusal is None

    async def _try_another(self, head: Taken) -> bool | None:
        """Whether another row passes; None when there is none to try. Two are tried."""
        passed: bool | None = None
        for _ in range(2):
            other = await self._field.take_other(head.rows[0].encoding)
            if other is None:
                break
            self._others.append(other)
            passed = await self._passes(other)
            if passed:
                break
        return passed

    # Parts

    def _is_unit(self, part: Taken) -> bool:
        return part.spans < 2 or id(part) in self._whole

    async def _halve(self, part: Taken) -> tuple[Taken, Taken] | None:
        return None if self._is_unit(part) else await self._cut(part, part.spans // 2)

    async def _cut(self, part: Taken, spans: int) -> tuple[Taken, Taken] | None:
        try:
            left, right = await self._field.split(part, spans)
        except TranscodeError:
            self._whole.add(id(part))
            return None
        self._drop(part)
        self._held += (left, right)
        return left, right

    def _drop(self, part: Taken) -> None:
        self._held = [held for held in self._held if held is not part]
        self._others = [held for held in self._others if held is not part]


def _place(attempt: Attempt) -> Position:
    return attempt.taken.ranges[0].start
