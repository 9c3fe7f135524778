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
    """What is known to be refused: before `before_ns`, from `from_ns` on, or earlier than what has
    passed of its series.
    """

    why: Why
    before_ns: int = 0
    from_ns: int = 2**64
    passed: Sequence[ItemTime] = ()

    def judge(self, fragment: bytes, encoding: Encoding, signal: Signal) -> list[Why | None]:
        """Why each item is left out, or None."""
        passed = {each.series: each.time_ns for each in self.passed}  # newer than `before_ns`
        return [
            None
            if passed.get(each.series, self.before_ns) <= each.time_ns < self.from_ns
            else self.why
            for each in times_of(fragment, encoding, signal)
        ]


class Interrupted(Exception):
    """A probe was answered with something else than yes or no."""

    def __init__(self, outcome: outcomes.Outcome | None) -> None:
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
    by_time = sorted(enumerate(items), key=lambda each: each[1].time_ns)
    times = [item.time_ns for _, item in by_time]
    probe = _Probe(head, sender, refusal.about)
    if refusal.about == "newer":
        is_all = await probe.is_refused(by_time[0][0])
        return Found(Late(why, from_ns=times[0])) if is_all else None
    is_in_order = head.taken.signal is Signal.METRICS
    usual = bisect_left(times, sender.now_ns() - USUAL_WINDOW_NS)
    if is_in_order and usual < len(times):
        return await _send_the_young(head, sender, why, times, usual)
    if not is_in_order:  # the order within a stream matters little
        by_time = [(place, item._replace(series=place)) for place, item in by_time]
    before_ns, passed = await _halve(by_time, probe)
    return Found(Late(why, before_ns, passed=passed if is_in_order else ()))


async def _halve(
    unknown: Sequence[tuple[int, ItemTime]], probe: "_Probe"
) -> tuple[int, list[ItemTime]]:
    """Before when all are refused, and what has passed, no two of one series.

    `unknown` are items and their places in the batch, by their times: the newest is asked first,
    then the one in the middle of those that are between what was refused and what has passed.
    """
    before_ns = 0
    passed: list[ItemTime] = []
    for _ in range(MOST_PROBES):
        if not unknown:
            break
        place, item = unknown[len(unknown) // 2 if passed else -1]
        is_refused = await probe.is_refused(place)
        if is_refused:
            before_ns = item.time_ns + 1
            unknown = [each for each in unknown if each[1].time_ns > item.time_ns]
        elif is_refused is False:
            passed.append(item)
            unknown = [each for each in unknown if each[1].time_ns < item.time_ns]
        unknown = [each for each in unknown if each[1].series != item.series]
    return before_ns, passed


async def _send_the_young(
    head: Attempt, sender: BatchSender, why: Why, times: Sequence[int], usual: int
) -> Found:
    """Send all points from a time on, a later one each time, until they are not refused for age.

    `usual` is the place in `times`, which rise, from which on a receiver takes them mostly.
    """
    younger = len(times) - usual
    places = [usual * part // _OLDER_PARTS for part in range(1, _OLDER_PARTS)]
    places += [usual + younger * part // _YOUNGER_PARTS for part in range(_YOUNGER_PARTS)]
    later = dict.fromkeys(times[place] for place in places)
    later.pop(times[0], None)  # from then on is all of it, which was refused
    for before_ns in later:
        if not sender.may_go_on:
            raise Interrupted(None)
        late = Late(why, before_ns)
        rest = await sender.send(head.taken, head.encoding, judges=(late.judge,))
        outcome = rest.outcome
        if outcomes.is_refused_as_content(outcome) and outcome.about == "older":
            continue
        return Found(late, rest)
    return Found(Late(why, times[-1] + 1))


class _Probe:
    """Sends single items of `head`."""

    def __init__(self, head: Attempt, sender: BatchSender, about: outcomes.About) -> None:
        self._head = head
        self._sender = sender
        self._about = about

    async def is_refused(self, wanted: int) -> bool | None:
        """Whether the item at place `wanted`, sent alone, is refused for its age; None: for
        something else. Raises Interrupted.
        """
        first = 0  # of the fragment: with steps each row is judged by itself

        def only(fragment: bytes, encoding: Encoding, signal: Signal) -> list[Why | None]:
            nonlocal first
            places = [first + at for at, _ in enumerate(times_of(fragment, encoding, signal))]
            first += len(places)
            return [None if at == wanted else _OTHERS for at in places]

        if not self._sender.may_go_on:
            raise Interrupted(None)
        head, judges = self._head, (only,)
        outcome = (await self._sender.send(head.taken, head.encoding, judges=judges)).outcome
        if isinstance(outcome, outcomes.Delivered):
            return False
        if outcomes.is_refused_as_content(outcome):
            return True if outcome.about == self._about else None
        raise Interrupted(outcome)
