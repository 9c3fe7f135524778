"""Span ids in, 24 bytes each; how many of them are distinct out.

Adding is an append. Sorting out what is the same is done when asked, and only for what came since.
"""

from mockcollector.decoding import KEY_BYTES


class IdLog:
    """The id pairs of the first accepted spans. Not thread-safe: the journal's lock guards it.

    Costs 24 bytes a span until asked, about 130 a distinct span from then on; no more than
    `max_ids` are kept. Those after them are only counted, each as a distinct one.
    """

    def __init__(self, max_ids: int) -> None:
        self._max_ids = max_ids
        self._new = bytearray()
        self._distinct: set[bytes] = set()
        self._total = 0
        self.forgotten = 0
        """How many ids were not kept."""

    def add(self, packed: bytes) -> None:
        """Append packed pairs of trace id and span id."""
        self._total += len(packed) // KEY_BYTES
        room = self._max_ids - len(self._distinct) - len(self._new) // KEY_BYTES
        if len(packed) <= room * KEY_BYTES:
            self._new += packed
            return
        kept = self.distinct()
        for at in range(0, len(packed), KEY_BYTES):
            key = packed[at : at + KEY_BYTES]
            if key in kept:
                continue
            if len(kept) < self._max_ids:
                kept.add(key)
            else:
                self.forgotten += 1

    @property
    def total(self) -> int:
        """How many were added, the same ones again included."""
        return self._total

    @property
    def distinct_count(self) -> int:
        """How many distinct ones there are; each that was not kept is taken for one."""
        return len(self.distinct()) + self.forgotten

    def distinct(self) -> set[bytes]:
        """The distinct pairs, 24 bytes each. The set is the log's own: copy before keeping it."""
        packed = bytes(self._new)
        self._new.clear()
        self._distinct.update(
            packed[at : at + KEY_BYTES] for at in range(0, len(packed), KEY_BYTES)
        )
        return self._distinct
