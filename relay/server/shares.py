"""Shares a listener's connections among peers, once all are taken.

Until then a peer may have as many as it likes: behind a proxy, or on this host, all senders are
one peer. When none is left, whoever has fewer than the one with the most gets one of that one's.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol, TypeVar

from uvicorn.server import ServerState


class _Connection(Protocol):
    @property
    def peer(self) -> str: ...

    @property
    def dispensable(self) -> tuple[int, float] | None:
        """The lower, the less is lost with it; None if an answer is owed."""


C = TypeVar("C", bound=_Connection)


class Shares:
    """How many connections each peer has now."""

    def __init__(self) -> None:
        self._by_peer: Counter[str] = Counter()

    def add(self, peer: str) -> None:
        """A connection of this peer has begun."""
        self._by_peer[peer] += 1

    def remove(self, peer: str) -> None:
        """One has ended."""
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]

    def to_close(self, newcomer: C, connections: Iterable[C]) -> C:
        """The connection that must go, now that there is one too many: perhaps the newest.

        `connections` are all, the newcomer included.
        """
        greediest, held = max(self._by_peer.items(), key=lambda item: item[1])
        if held <= self._by_peer[newcomer.peer]:
            return newcomer
        found = [
            (least, each)
            for each in connections
            if each.peer == greediest and (least := each.dispensable) is not None
        ]
        return min(found, key=lambda pair: pair[0])[1] if found else newcomer


class SharedState(ServerState):
    """What all connections of one listener have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = Shares()
        self.date = b""
        """The header line of every response."""
