"""Successes and refusals of one configuration go in; whether a lone span is at fault comes out.

A span is set aside only where others are seen to pass (`search`). Where nothing else is owed that
could be sent, an earlier success has to do, and then with care: an upstream that has just begun to
refuse everything looks the same from here.
"""

from collections import Counter

from relay.deliver.pauses import PROBE_FIRST_SECONDS, PROBE_SPREAD
from relay.model.records import Encoding, Taken

# How long a success of this very configuration tells that it is right.
FRESH_SECONDS = 600.0
# Between the two refusals of a lone span: the shortest pause before a probe.
PAUSE_SECONDS = PROBE_FIRST_SECONDS * (1 - PROBE_SPREAD)


class Evidence:
    """What was seen of an upstream under one configuration. Times are seconds, monotonic."""

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
        """Whether `taken`, all that is owed and refused just now, may be set aside.

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
