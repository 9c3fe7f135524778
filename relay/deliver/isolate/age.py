"""Find by their times which items of a batch are refused for their age, to set them aside at once.

Some receivers refuse what is older than a moment, or newer. Halving down to single items would be
millions of requests for a backlog of an hour. Instead single items are sent: that of the far end,
which tells whether all are refused, then by bisection over the times those between. A point that
passes makes earlier ones of its series late, and they are set aside, too; so each probe of metrics
is of another series.
"""

import functools
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import anyio.to_thread

from relay.deliver.batches import THREAD_FROM_BYTES
from relay.deliver.left_out import Why
from relay.deliver.sender import Attempt, BatchSender
from relay.model.reasons import Reason
from relay.model.records import Encoding, Signal
from relay.otlp.item_facts import ItemTime, times_of
from relay.otlp.transcode import TranscodeError
from relay.upstream import outcomes

# Enough to halve a batch of thousands down to one.
MOST_PROBES = 16
_OTHERS = Why(Reason.UPSTREAM_REFUSED, "not sent by this probe")


@dataclass(frozen=True, slots=True)
class Late:
    """What is known to be refused: older than `before_ns`, newer than `after_ns`, or earlier than
    what has passed of its series.
    """

    why: Why
    before_ns: int = 0
    after_ns: int = 2**64
    passed: Sequence[ItemTime] = ()

    def judge(self, fragment: bytes, encoding: Encoding, signal: Signal) -> list[Why | None]:
        """Why each item is left out, or None."""
        passed = {each.series: each.time_ns for each in self.passed}
        return [
            self.why if self._is_late(each, passed.get(each.series, 0)) else None
            for each in times_of(fragment, encoding, signal)
        ]

    def _is_late(self, item: ItemTime, passed_ns: int) -> bool:
        is_within = max(self.before_ns, passed_ns) <= item.time_ns <= self.after_ns
        return not is_within


class Interrupted(Exception):
    """A probe was answered with something else than yes or no."""

    def __init__(self, outcome: outcomes.Outcome | None) -> None:
        super().__init__()
        self.outcome = outcome


async def find_late(head: Attempt, sender: BatchSender) -> Late | None:
    """What of `head`, refused for the age of some items, is late; None where that cannot be told.

    Nothing is settled. Raises Interrupted.
    """
    refusal, batch = head.refusal, head.batch
    if refusal is None or batch is None or refusal.about not in ("older", "newer"):
        return None
    try:
        read = functools.partial(times_of, batch.fragment, head.encoding, head.taken.signal)
        is_long = len(batch.fragment) > THREAD_FROM_BYTES
        items = await anyio.to_thread.run_sync(read) if is_long else read()
    except TranscodeError:
        return None
    why = Why(Reason.UPSTREAM_REFUSED, refusal.words or refusal.said, refusal.status)
    ranks = sorted(range(len(items)), key=lambda at: items[at].time_ns)
    probe = _Probe(head, sender, len(items), refusal.about)
    if refusal.about == "newer":
        oldest = ranks[0]
        is_all = await probe.is_refused(oldest)
        return Late(why, after_ns=items[oldest].time_ns - 1) if is_all else None
    is_in_order = head.taken.signal is Signal.METRICS
    if not is_in_order:  # the order within a stream matters little
        items = [each._replace(series=at) for at, each in enumerate(items)]
    low, high = -1, len(ranks)  # the newest that was refused, the oldest that passed
    asked: set[int] = set()  # series
    passed = []
    by_rank = [items[at] for at in ranks]
    for _ in range(MOST_PROBES):
        rank = _next(low, high, by_rank, asked)
        if rank is None:
            break
        asked.add(by_rank[rank].series)
        is_refused = await probe.is_refused(ranks[rank])
        if is_refused:
            low = rank
        elif is_refused is False:
            high = rank
            passed.append(by_rank[rank])
    if low < 0 and not passed:
        return None
    before_ns = by_rank[low].time_ns + 1 if low >= 0 else 0
    return Late(why, before_ns, passed=passed if is_in_order else ())


def _next(low: int, high: int, items: Sequence[ItemTime], asked: AbstractSet[int]) -> int | None:
    """The place to ask next, of a series that was not asked: the newest, then nearest the middle.

    None where there is none whose time is between the two.
    """
    least = items[low].time_ns if low >= 0 else -1
    most = items[high].time_ns if high < len(items) else 2**64
    unknown = [
        rank
        for rank in range(low + 1, high)
        if least < items[rank].time_ns < most and items[rank].series not in asked
    ]
    if high == len(items):
        return unknown[-1] if unknown else None
    middle = (low + high) // 2
    return min(unknown, key=lambda rank: abs(rank - middle), default=None)


class _Probe:
    """Sends single items of `head`, which holds `count`."""

    def __init__(
        self, head: Attempt, sender: BatchSender, count: int, about: outcomes.About
    ) -> None:
        self._head = head
        self._sender = sender
        self._count = count
        self._about = about

    async def is_refused(self, wanted: int) -> bool | None:
        """Whether the item at place `wanted`, sent alone, is refused for its age; None: for
        something else. Raises Interrupted.
        """

        def only(_fragment: bytes, _encoding: Encoding, _signal: Signal) -> list[Why | None]:
            return [None if at == wanted else _OTHERS for at in range(self._count)]

        if not self._sender.may_go_on:
            raise Interrupted(None)
        head, judges = self._head, (only,)
        outcome = (await self._sender.send(head.taken, head.encoding, judges=judges)).outcome
        if isinstance(outcome, outcomes.Delivered):
            return False
        if outcomes.is_refused_as_content(outcome):
            return True if outcome.about == self._about else None
        raise Interrupted(outcome)
