"""Counts what `[process]` did to records that no relay wrote, each of them once.

They are taken in by nobody: what reads them prepares them, each destination for itself, and again
after every failure. So that counts which reads a record first on the way to a destination of this
relay; the relay that delivers a partition to one destination usually does to all.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from relay.buffer.kafka.places import place_of
from relay.model.counters import Counters

MOST_ROWS: Final = 50_000
"""Remembered of those that were counted: some 5 MB. What is read again after so many others counts
twice."""


class ProcessedForeign:
    """Counts for this relay. Belongs to the event loop."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._rows: OrderedDict[int, None] = OrderedDict()

    def __call__(self, row: int, by_step: Mapping[str, int]) -> None:
        """`row` was read, and each step dropped or changed so many of its items."""
        if not by_step or row in self._rows:
            return
        self._rows[row] = None
        if len(self._rows) > MOST_ROWS:
            self._rows.popitem(last=False)
        self._counters.process(place_of(row).signal, by_step)
