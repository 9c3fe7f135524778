"""Places that are owed and handed out to nobody but who asks for them, with the traces they hold.

A courier parks what an upstream cannot bear (`deliver.parked`). Known only in memory: after
a restart they are handed out in their turn again.
"""

from collections.abc import Iterable

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.values import holds_trace
from relay.model.records import OwedRange, Position


class ParkedRanges:
    """Disjoint ranges; each keeps the packed ids of its traces, empty where they are not known."""

    def __init__(self) -> None:
        self.ranges: Ranges = ()  # merged where they touch
        self._trace_ids: dict[OwedRange, bytes] = {}

    def add(self, ranges: Iterable[OwedRange], trace_ids: bytes) -> None:
        """Park `ranges`."""
        self._trace_ids.update(dict.fromkeys(ranges, trace_ids))
        self.ranges = owed_ranges.union(self._trace_ids)

    def keep(self, within: Ranges, without: Ranges = ()) -> None:
        """Forget what does not lie in `within` any more, or lies in `without`."""
        if not self._trace_ids:
            return
        for item in list(self._trace_ids):
            if owed_ranges.overlaps(without, item) or owed_ranges.subtract((item,), within):
                del self._trace_ids[item]
        self.ranges = owed_ranges.union(self._trace_ids)

    def clear(self) -> None:
        """Forget all."""
        self._trace_ids.clear()
        self.ranges = ()

    def at(self, place: Position) -> OwedRange | None:
        """The range that begins there."""
        return next((item for item in self._trace_ids if item.start == place), None)

    def of_trace(self, trace_id: bytes) -> tuple[Ranges, Ranges]:
        """The ranges that may hold spans of the trace, and those that hold none of them."""
        own = [item for item, ids in self._trace_ids.items() if holds_trace(ids, trace_id)]
        return owed_ranges.union(own), owed_ranges.union(
            item for item in self._trace_ids if item not in own
        )
