"""How requests fared goes in, how much the next one may hold comes out. Pure.

Three limits beside those of the settings, each forgotten step by step as requests pass:

- after a timeout or a 500, 502, 504: half the spans of the request that failed, whole rows;
- after a 413: less than the bytes that were refused. It grows again a little at a time, and never
  back to what was refused until the settings are given anew;
- after a search that was broken off: the part it had come to, inside a row if need be.
"""

from relay.model.records import Taken
from relay.upstream.settings import DestinationSettings

# So many requests in a row near the limit of bytes pass before a larger one is tried.
GROW_AFTER = 32


def raw_bytes(taken: Taken) -> int:
    """What `taken` comes to before compression, as the limits count it."""
    return sum(len(row.body) for row in taken.rows)


class Reach:
    """The limits learnt for one configuration of a destination."""

    def __init__(self, settings: DestinationSettings) -> None:
        self._max_bytes = settings.max_batch_bytes
        self._max_spans = settings.max_batch_spans
        self._slow_spans = 0  # 0: no such limit, here and below
        self._part_spans = 0
        self._limit_bytes = 0
        self._refused_bytes = 0
        self._passed_bytes = 0
        self._passes = 0

    @property
    def max_bytes(self) -> int:
        """Bytes of bodies for the next request."""
        return min(self._max_bytes, self._limit_bytes or self._max_bytes)

    @property
    def max_spans(self) -> int:
        """Spans for the next request; a row is not cut for it (see `spans_to_send`)."""
        limits = (self._max_spans, self._slow_spans, self._part_spans)
        return min(limit for limit in limits if limit)

    def spans_to_send(self, taken: Taken) -> int:
        """How many of its spans `taken`, a single row, may send at once; at least one."""
        allowed = min(self._max_spans, self._part_spans or self._max_spans, taken.spans)
        size = raw_bytes(taken)
        if size > self.max_bytes:
            allowed = min(allowed, taken.spans * self.max_bytes // size)
        return max(allowed, 1)

    def is_too_large(self, taken: Taken) -> bool:
        """Whether as much as this was refused for its size before."""
        return 0 < self._refused_bytes <= raw_bytes(taken)

    def passed(self, taken: Taken) -> None:
        """`taken` was delivered."""
        self._slow_spans = self._doubled(self._slow_spans)
        self._part_spans = self._doubled(self._part_spans)
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
            room = self._refused_bytes - self._limit_bytes
            self._limit_bytes = min(self._limit_bytes + room // 4, self._refused_bytes - 1)

    def too_slow(self, taken: Taken) -> None:
        """`taken` timed out or broke the upstream: less next time."""
        self._slow_spans = max(1, taken.spans // 2)

    def too_large(self, taken: Taken) -> None:
        """`taken` was refused for its size."""
        size = raw_bytes(taken)
        if taken.spans < 2:
            return  # one large span says nothing of what the others may be together
        if self._passed_bytes >= size:
            self._passed_bytes = 0
        self._refused_bytes = min(self._refused_bytes or size, size)
        self._limit_bytes = max(size // 2, self._passed_bytes, 1)
        self._passes = 0

    def narrow(self, spans: int) -> None:
        """A search was broken off when it had come down to so many spans."""
        self._part_spans = max(spans, 1)

    def _doubled(self, limit: int) -> int:
        return 0 if limit * 2 >= self._max_spans else limit * 2
