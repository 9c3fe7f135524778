"""Remembers which traces are kept whole, in bounded memory. Pure.

Ids stand in two generations of sets: where the younger is full, the older goes, if nothing that
waits needs it any more. While it is needed, further ids go into a filter of fixed size beside the
younger one, which knows every id that was put in and takes some others for known: then more is kept
than need be, never less, and that is counted.
"""

import threading
from typing import Final

# An id takes about 100 bytes. In both generations together.
MOST_TRACES: Final = 100_000
# 1 MiB; at 100,000 ids one in 50,000 others is taken for known, at a million one in 40.
_FILTER_BITS: Final = 1 << 23
_MASK: Final = _FILTER_BITS - 1
_HASHES: Final = 4


class _Filter:
    """A Bloom filter of trace ids."""

    def __init__(self) -> None:
        self._bits = bytearray(_FILTER_BITS // 8)

    def add(self, trace_id: bytes) -> None:
        for bit in _bits_of(trace_id):
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, trace_id: bytes) -> bool:
        return all(self._bits[bit >> 3] >> (bit & 7) & 1 for bit in _bits_of(trace_id))


def _bits_of(trace_id: bytes) -> tuple[int, ...]:
    number = hash(trace_id)
    step = (number >> 32) | 1
    return tuple((number + step * n) & _MASK for n in range(_HASHES))


class _Generation:
    def __init__(self) -> None:
        self.ids: set[bytes] = set()
        self.more: _Filter | None = None
        self.newest_ns = 0

    def __contains__(self, trace_id: bytes) -> bool:
        return trace_id in self.ids or (self.more is not None and trace_id in self.more)


class KeptTraces:
    """The traces of one destination that are kept whole. Ids are 16 bytes.

    Times are when a row was received, in nanoseconds of one clock. `needed_since_ns` is set from
    outside: what was put in for rows received before it may be forgotten. Until there is no room it
    is remembered all the same, for spans that come late. Any thread may put in and ask.
    """

    def __init__(self, most: int = MOST_TRACES) -> None:
        self._most = max(most // 2, 1)
        self._lock = threading.Lock()
        self._young = _Generation()
        self._old = _Generation()
        self.needed_since_ns = 0
        self.overflowed = 0  # ids that went into a filter, ever

    def __contains__(self, trace_id: bytes) -> bool:
        return trace_id in self._young or trace_id in self._old

    def __len__(self) -> int:
        """How many are remembered exactly; some may count twice."""
        return len(self._young.ids) + len(self._old.ids)

    def add(self, trace_id: bytes, received_ns: int) -> None:
        """A span of it, of a row received then, is worth the whole trace."""
        with self._lock:
            self._add(trace_id, received_ns)

    def _add(self, trace_id: bytes, received_ns: int) -> None:
        young = self._young
        if trace_id not in young.ids and len(young.ids) >= self._most:
            if self._old.newest_ns < self.needed_since_ns or not self._old.ids:
                young = self._next()
            elif trace_id not in young:
                if young.more is None:
                    young.more = _Filter()
                young.more.add(trace_id)
                self.overflowed += 1
                young.newest_ns = max(young.newest_ns, received_ns)
                return
        young.newest_ns = max(young.newest_ns, received_ns)
        young.ids.add(trace_id)

    def _next(self) -> _Generation:
        self._old, self._young = self._young, _Generation()
        return self._young
