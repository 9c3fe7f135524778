"""What was learnt of an upstream under the present settings: how much it takes at once, in which
encoding, and when it last took anything. Pure, in memory only.

New settings begin with nothing learnt. What was learnt under the old ones is never emptied but left
behind: a request that is out by then must not teach the new ones.
"""

from collections import Counter
from typing import TYPE_CHECKING

from relay.config import DestinationConfig
from relay.deliver import batches, pauses
from relay.deliver.left_out import judge_of_temporality
from relay.model.records import Encoding, Taken

if TYPE_CHECKING:
    from relay.process.steps.run import Steps
    from relay.process.steps.sampling import Scout

# So many requests in a row near the limit of bytes pass before a larger one is tried.
GROW_AFTER = 32
# How long a success of this very configuration tells that it is right.
FRESH_SECONDS = 600.0
# Between the two refusals of a lone span: the shortest pause before a probe.
PAUSE_SECONDS = pauses.PROBE_FIRST_SECONDS * (1 - pauses.PROBE_SPREAD)


def raw_bytes(taken: Taken) -> int:
    """What `taken` comes to before compression, as the limits count it."""
    return sum(len(row.body) for row in taken.rows)


class Learnt:
    """The settings, and what was learnt under them: `limits`, `evidence` and encodings.

    `judges` are the settings' own, of items that are not for this destination; `scout` finds out
    which traces are sent whole.
    """

    def __init__(self, settings: DestinationConfig, scout: "Scout | None" = None) -> None:
        self.settings = settings
        self.gzips = batches.gzips_for(settings)
        judge = judge_of_temporality(settings)
        self.judges = () if judge is None else (judge,)
        self._scout = scout
        self._has_steps = settings.has_steps  # looked up once, not for every batch
        self._steps: Steps | None = None
        self.limits = BatchLimits(settings)
        self.evidence = Evidence()
        # By the encoding that rows came in: the one that is taken instead, and the status of the
        # refusal that showed it.
        self._sent_as: dict[Encoding, tuple[Encoding, int]] = {}

    @property
    def steps(self) -> "Steps | None":
        """The settings' own steps; None where they ask for none. Raises ConfigError where what they
        need is not there.
        """
        if self._has_steps and self._steps is None:
            from relay.process.steps.run import steps_of

            self._steps = steps_of(self.settings, self._scout)
        return self._steps

    def encoding_of(self, taken: Taken) -> Encoding:
        """The encoding to send `taken` in: the destination's, or under `auto` as its rows came in,
        but for what was learnt.

        Under `auto` the rows must be of one encoding, which is how they are taken.
        """
        if self.settings.encoding == "auto":
            came_in = taken.rows[0].encoding
            return self._sent_as.get(came_in, (came_in, 0))[0]
        return Encoding.JSON if self.settings.encoding == "json" else Encoding.PROTOBUF

    def learn_encoding(self, came_in: Encoding, passed: Encoding, refusal_status: int) -> None:
        """Rows of `came_in` were refused in the encoding beside `passed`, and taken in that."""
        if passed is came_in:
            self._sent_as.pop(came_in, None)
        else:
            self._sent_as[came_in] = (passed, refusal_status)

    def notes(self) -> list[str]:
        """What was learnt of encodings, each as a sentence for status."""
        return [
            f"refuses {batches.spoken(came_in)} ({status}): sent as {batches.spoken(encoding)}"
            for came_in, (encoding, status) in sorted(self._sent_as.items())
        ]

    def passed(self, taken: Taken, encoding: Encoding, now: float) -> None:
        """`taken` was delivered in `encoding`, at `now` in monotonic seconds."""
        self.evidence.passed(encoding, now)
        self.limits.passed(taken)


class BatchLimits:
    """How much the next request may hold.

    Three limits beside those of the settings, each forgotten step by step as requests pass:

    - after a timeout or a 500, 502, 504: half the spans of the request that failed, whole rows;
    - after a 413: less than the bytes that were refused. It grows again a little at a time, and
      never back to what was refused until the settings are given anew;
    - after a search that was broken off: the part it had come to, inside a row if need be.
    """

    def __init__(self, settings: DestinationConfig) -> None:
        self._max_bytes = settings.max_batch_bytes
        self._max_items = settings.max_batch_items
        self._slow_items = 0  # 0: no such limit, here and below
        self._part_items = 0
        self._limit_bytes = 0
        self._refused_bytes = self._passes = 0
        self._passed_bytes = 0

    @property
    def max_bytes(self) -> int:
        """Bytes of bodies for the next request."""
        return min(self._max_bytes, self._limit_bytes or self._max_bytes)

    @property
    def max_items(self) -> int:
        """Spans for the next request; a row is not cut for it (see `items_to_send`)."""
        limits = (self._max_items, self._slow_items, self._part_items)
        return min(limit for limit in limits if limit)

    @property
    def is_narrowed(self) -> bool:
        """Whether a search has asked for less than usual."""
        return bool(self._part_items)

    def items_to_send(self, taken: Taken) -> int:
        """How many of its spans `taken`, a single row, may send at once; at least one."""
        allowed = min(self._max_items, self._part_items or self._max_items, taken.items)
        size = raw_bytes(taken)
        if size > self.max_bytes:
            allowed = min(allowed, taken.items * self.max_bytes // size)
        return max(allowed, 1)

    def is_too_large(self, taken: Taken) -> bool:
        """Whether as much as this was refused for its size before."""
        return 0 < self._refused_bytes <= raw_bytes(taken)

    def passed(self, taken: Taken) -> None:
        """`taken` was delivered."""
        self._slow_items = self._doubled(self._slow_items)
        self._part_items = self._doubled(self._part_items)
        if not self._refused_bytes:
            return
        size = raw_bytes(taken)
        self._passed_bytes = max(self._passed_bytes, size)
        if size >= self._refused_bytes:
            # It was not the bytes: other content of that size gets through.
            self._refused_bytes = size + size // 4
        if size * 4 >= self._limit_bytes * 3:
            self._passes += 1
        if self._passes >= GROW_AFTER:
            self._passes = 0
            self._limit_bytes += (self._refused_bytes - self._limit_bytes) // 4

    def too_slow(self, taken: Taken) -> None:
        """`taken` timed out or broke the upstream: less next time."""
        self._slow_items = max(1, taken.items // 2)

    def too_large(self, taken: Taken) -> None:
        """`taken` was refused for its size."""
        size = raw_bytes(taken)
        if taken.items < 2:
            return  # one large span says nothing of what the others may be together
        if self._passed_bytes >= size:
            self._passed_bytes = 0
        self._refused_bytes = min(self._refused_bytes or size, size)
        # Not half of `size`: a part may be larger than what was refused before it.
        self._limit_bytes = max(self._refused_bytes // 2, self._passed_bytes, 1)
        self._passes = 0

    def narrow(self, items: int) -> None:
        """A search was broken off when it had come down to so many spans; 0: no matter."""
        self._part_items = items

    def _doubled(self, limit: int) -> int:
        return 0 if limit * 2 >= self._max_items else limit * 2


class Evidence:
    """What was seen to pass, to tell a span that is at fault from an upstream that refuses all.

    A span is given up only where others are seen to pass (`isolate`). Where nothing else is owed
    that could be sent, an earlier success has to do, and then with care: an upstream that has just
    begun to refuse everything looks the same from here. Times are seconds, monotonic.
    """

    def __init__(self) -> None:
        self.passes: Counter[Encoding] = Counter()
        self._last_pass: dict[Encoding, float] = {}
        self._spent: dict[Encoding, int] = {}
        self._spent_for_size: dict[Encoding, int] = {}
        self._lone: object = None
        self._lone_since = 0.0

    def passed(self, encoding: Encoding, now: float) -> None:
        """A request in `encoding` was taken."""
        self.passes[encoding] += 1
        self._last_pass[encoding] = now

    def condemns_lone(
        self, taken: Taken, encoding: Encoding, now: float, *, is_too_large: bool
    ) -> bool:
        """Whether `taken`, all that is owed and refused just now, may be given up.

        At its second refusal after a pause; once for each success. What is too large needs no
        success before.
        """
        if self._lone != taken.ranges:
            self._lone, self._lone_since = taken.ranges, now
        if now - self._lone_since < PAUSE_SECONDS:
            return False
        passes = self.passes[encoding]
        if is_too_large:
            may_go = self._spent_for_size.get(encoding, -1) < passes
            self._spent_for_size[encoding] = passes
            return may_go
        is_new = passes > self._spent.get(encoding, 0)
        if not is_new or now - self._last_pass[encoding] > FRESH_SECONDS:
            return False
        self._spent[encoding] = passes
        return True
