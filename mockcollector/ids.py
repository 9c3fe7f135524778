"""Span ids in, 24 bytes each; how many of them are distinct out.

Adding is an append. Sorting out what is the same is done when asked, and only for what came since.
"""

from mockcollector.decoding import KEY_BYTES


class IdLog:
    """Every accepted span's id pair. Not thread-safe: the journal's lock guards it.

    Costs 24 bytes a span until asked, about 130 a distinct span from then on.
    """

    def __init__(self) -> None:
        self._new = bytearray()
        self._distinct: set[bytes] = set()
        self._total = 0

    def add(self, packed: bytes) -> None:
        """Append packed pairs of trace id and span id."""
        self._new += packed
        self._total += len(packed) // KEY_BYTES

    @property
    def total(self) -> int:
        """How many were added, the same ones again included."""
        return self._total

    def distinct(self) -> set[bytes]:
        """The distinct pairs, 24 bytes each. The set is the log's own: copy before keeping it."""
        packed = bytes(self._new)
        self._new.clear()
        self._distinct.update(
            packed[at : at + KEY_BYTES] for at in range(0, len(packed), KEY_BYTES)
        )
        return self._distinct
