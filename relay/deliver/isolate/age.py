"""Find by their times which items of a batch are refused for their age, to set them aside at once.

Some receivers refuse what is older than a moment, or newer. Halving down to single items would be
millions of requests for a backlog of an hour. Instead single items are sent: that of the far end,
which tells whether all are refused, then by bisection over the times those between.

A point that passes makes earlier ones late: those of its series, and in Prometheus all of its
resource, of which it writes a series of its own (`target_info`). So where some points may be young
enough, all from a time on are sent as one request, and that time rises until one passes, which is
then the delivery itself: what is refused is rolled back and does no harm. Elsewhere each probe is
of another series.
"""

import functools
from bisect import bisect_left
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

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
# How far behind the newest Prometheus takes a sample, unless it is told to take older ones.
USUAL_WINDOW_NS = 3600 * 10**9
# So many parts of what is older than that are tried, for a receiver that takes older ones, then so
# many of what is younger.
_OLDER_PARTS, _YOUNGER_PARTS = 4, 9
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


class Found(NamedTuple):
    """What is late, and how the rest was sent, if it was."""

    late: Late
    rest: Attempt | None = None


async def find_late(head: Attempt, sender: BatchSender) -> Found | None:
    """What of `head`, refused for the age of some items, is late; None where that cannot be told.

    Nothing is settled. Raises Interrupted.
    """
    refusal, batch = head.refusal, head.batch
    if refusal is None or batch is None or refusal.about not in ("older", "newer"):
        return None
    try:
        fragment = batch.fragment
        read = functools.partial(times_of, fragment, head.encoding, head.taken.signal)
        is_long = len(fragment) > THREAD_FROM_BYTES
        items = await anyio.to_thread.run_sync(read) if is_long else read()
    except TranscodeError:
        return None
    why = Why(Reason.UPSTREAM_REFUSED, refusal.words or refusal.said, refusal.status)
    ranks = sorted(range(len(items)), key=lambda at: items[at].time_ns)
    probe = _Probe(head, sender, len(items), refusal.about)
    if refusal.about == "newer":
        oldest = ranks[0]
        is_all = await probe.is_refused(oldest)
        return Found(Late(why, after_ns=items[oldest].time_ns - 1)) if is_all else None
    is_in_order = head.taken.signal is Signal.METRICS
    times = [items[at].time_ns for at in ranks]
    usual = bisect_left(times, sender.now_ns() - USUAL_WINDOW_NS)
    if is_in_order and usual < len(times):
        return await _send_the_young(head, sender, why, times, usual)
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
    return Found(Late(why, before_ns, passed=passed if is_in_order else ()))


async def _send_the_young(
    head: Attempt, sender: BatchSender, why: Why, times: Sequence[int], usual: int
) -> Found:
    """Send all points from a time on, a later one each time, until they are not refused for age.

    `usual` is the place in `times`, which rise, from which on a receiver takes them mostly.
    """
    younger = len(times) - usual
    places = [usual * part // _OLDER_PARTS for part in range(1, _OLDER_PARTS)]
    places += [usual + younger * part // _YOUNGER_PARTS for part in range(_YOUNGER_PARTS)]
    for before_ns in dict.fromkeys(times[place] for place in places):
        if before_ns == times[0]:
            continue  # that is all of it, which was refused
        if not sender.may_go_on:
            raise Interrupted(None)
        late = Late(why, before_ns)
        rest = await sender.send(head.taken, head.encoding, judges=(late.judge,))
        outcome = rest.outcome
        if outcomes.is_refused_as_content(outcome) and outcome.about == "older":
            continue
        return Found(late, rest)
    return Found(Late(why, times[-1] + 1))


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
