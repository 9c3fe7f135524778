"""Brings what several partitions hold into one order, that of the brokers' clocks. Pure.

A partition is waited for until it has brought something or is at its end, but not longer than
`PATIENCE_SECONDS`: its leader may be away, and the others go on. What comes at the end of a
partition lies for `SETTLE_SECONDS`: another broker may hand out something earlier a moment later.
"""

import heapq
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final, Generic, TypeVar

PATIENCE_SECONDS: Final = 3.0
SETTLE_SECONDS: Final = 0.2
MOST_WAITING: Final = 1000
_FEW: Final = 200

Key = TypeVar("Key")
Item = TypeVar("Item")
Moment = tuple[int, int]  # the broker's clock, and where that says the same the receiver's


class Merge(Generic[Key, Item]):
    """What came and is not in order yet; little of each partition."""

    def __init__(self) -> None:
        self._waiting: dict[Key, deque[tuple[Moment, float, Item]]] = {}
        self._quiet: dict[Key, float] = {}  # since when a partition owes us something
        self._at_end: set[Key] = set()

    def follow(self, keys: Iterable[Key], now: float) -> None:
        """Wait for those, too."""
        for key in keys:
            if key not in self._waiting:
                self._waiting[key] = deque()
                self._quiet[key] = now

    def came(self, key: Key, at: Moment, item: Item, now: float) -> None:
        """The next one of a partition, with when it was taken in."""
        waiting = self._waiting.setdefault(key, deque())
        # Clocks of brokers differ; within a partition its own order counts.
        settled = now + SETTLE_SECONDS if key in self._at_end else now
        waiting.append((max(at, waiting[-1][0]) if waiting else at, settled, item))
        self._at_end.discard(key)
        self._quiet[key] = now

    def reached_end(self, key: Key) -> None:
        """There is no more of a partition now."""
        self._at_end.add(key)

    def ready(self, now: float) -> list[Item]:
        """What nothing earlier can come before, in order."""
        found: list[Item] = []
        if any(self._is_awaited(key, now) for key in self._waiting):
            return found
        heads = [(queue[0][0], at) for at, queue in enumerate(self._waiting.values()) if queue]
        keys = list(self._waiting)
        heapq.heapify(heads)
        while heads:
            _, at = heads[0]
            queue = self._waiting[keys[at]]
            if queue[0][1] > now:
                break
            heapq.heappop(heads)
            found.append(queue.popleft()[2])
            if queue:
                heapq.heappush(heads, (queue[0][0], at))
            elif keys[at] not in self._at_end:
                self._quiet[keys[at]] = now
                break
        return found

    def _is_awaited(self, key: Key, now: float) -> bool:
        if self._waiting[key] or key in self._at_end:
            return False
        return now - self._quiet[key] < PATIENCE_SECONDS

    def full(self) -> set[Key]:
        """Of which so much waits that no more should come."""
        return {key for key, queue in self._waiting.items() if len(queue) >= MOST_WAITING}

    def hungry(self, among: Collection[Key]) -> set[Key]:
        """Those of `among` of which little waits."""
        return {key for key in among if len(self._waiting.get(key, ())) < _FEW}
