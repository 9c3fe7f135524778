"""Shares `ingest.max_in_flight` among senders: who gets room for a body, whose body must go for it.

What is counted is what is in memory: bytes as they came and as they were unzipped. Two bodies of
65 kB that unzip to 63 MiB and then arrive byte by byte would otherwise keep everybody else out.

- A sender is a token where the relay asks for one, else an address (`Sender.account`). All that
  comes through one proxy without tokens, and all programs of this host, are one sender.
- While nobody else asks, a sender may use all of it. Once another one has been turned away, or has
  a body in flight too, it may hold half at most for the next minute.
- A quarter is kept free of larger bodies for those of up to 1 MiB.
- Where a body finds no room, unfinished ones are cut off for it, first the one that has held most
  for longest (bytes times seconds), of a sender that holds no less. A whole body is never cut off.
- A body that is alone always finds room: it must be possible at some time.

Small bodies that came whole are counted by their bytes alone and pass within microseconds; the
endpoint does that. Whatever stays for longer, or is larger, is listed here.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from relay.model.errors import Refusal
from relay.model.records import Sender

SMALL_BYTES: Final = 1024 * 1024
UNLISTED_BYTES: Final = 128 * 1024
"""A body that came whole and is no larger needs no list, while half of the room is free."""
_REMEMBERED_SECONDS: Final = 60.0


class Cancellable(Protocol):
    """Who reads a body, and ends with CancelledError when it is cut off."""

    def cancel(self) -> object:
        """Raise CancelledError where it waits."""


class Body:
    """What one request holds in memory. Made for every request, so it begins with nothing.

    `sender` is known once its head was read. `is_whole` once its last byte has come. `first` are
    some bytes of a compressed one as they came.
    """

    sender: Sender | None = None
    bytes = 0
    first = b""
    is_whole = False
    is_cut_off = False
    owner = ""  # whose share it counts in; empty while it is not listed
    since = 0.0
    task: "Cancellable | None" = None


class InFlight:
    """The bodies of all requests that are not yet answered, in one event loop."""

    def __init__(self, max_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        """Of all bodies, listed or not."""
        self._clock = clock
        self._listed: dict[Body, None] = {}
        self._by_owner: Counter[str] = Counter()
        self._large_bytes = 0
        self._turned_away: dict[str, float] = {}  # the last two owners, and when

    def hold(self, body: Body, more_bytes: int) -> None:
        """Count `more_bytes` of a request, and list it.

        Raises Refusal 503 where there is no room and nobody gives way. A body that is cut off has
        its `task` cancelled, and `is_cut_off`.
        """
        if not body.owner:
            self._list(body)
        while lack := self._lack(body, more_bytes):
            victim = self._victim(body, more_bytes, is_own=lack is _SHARE)
            if victim is None:
                self._note_turned_away(body.owner)
                raise lack.refusal()
            self._cut_off(victim)
        self._count(body, more_bytes)

    def release(self, body: Body) -> None:
        """Forget a request that is answered."""
        self._count(body, -body.bytes)
        self._listed.pop(body, None)
        body.task = None

    def _list(self, body: Body) -> None:
        body.owner = body.sender.account if body.sender else "unknown"
        body.since = self._clock()
        self._listed[body] = None
        held, body.bytes = body.bytes, 0
        self.bytes -= held
        self._count(body, held)

    def _count(self, body: Body, more_bytes: int) -> None:
        """Add to every sum, or take away from it."""
        before, after = body.bytes, body.bytes + more_bytes
        body.bytes = after
        self.bytes += more_bytes
        if not body.owner:
            return
        self._large_bytes += (after > SMALL_BYTES) * after - (before > SMALL_BYTES) * before
        self._by_owner[body.owner] += more_bytes
        if not self._by_owner[body.owner]:
            del self._by_owner[body.owner]

    def _lack(self, body: Body, more_bytes: int) -> "_Lack | None":
        """What there is too little of for a body to grow by `more_bytes`."""
        after = body.bytes + more_bytes
        if self.bytes == body.bytes:
            return None  # alone
        if self.bytes + more_bytes > self.max_bytes:
            return _ROOM
        if after > SMALL_BYTES:
            others = self._large_bytes - (body.bytes > SMALL_BYTES) * body.bytes
            if others and others + after > self.max_bytes - self.max_bytes // 4:
                return _ROOM
        owned = self._by_owner[body.owner] + more_bytes
        if owned > self.max_bytes // 2 and self._is_contested(body.owner):
            return _SHARE
        return None

    def _is_contested(self, owner: str) -> bool:
        """Whether somebody else has a body in flight, or was turned away in the last minute."""
        since = self._clock() - _REMEMBERED_SECONDS
        return any(each != owner for each in self._by_owner) or any(
            each != owner and at > since for each, at in self._turned_away.items()
        )

    def _victim(self, body: Body, more_bytes: int, *, is_own: bool) -> Body | None:
        """The unfinished body that gives way to this one, if any."""
        now = self._clock()
        owned = self._by_owner[body.owner]
        worst = 0.0 if body.is_whole else (body.bytes + more_bytes) * (now - body.since)
        victim = None
        for each in self._listed:
            if each is body or each.is_whole or each.bytes == 0:
                continue
            if each.owner != body.owner and (is_own or self._by_owner[each.owner] < owned):
                continue
            weight = each.bytes * (now - each.since)
            if weight >= worst:
                worst, victim = weight, each
        return victim

    def _cut_off(self, victim: Body) -> None:
        task = victim.task
        self.release(victim)
        victim.is_cut_off = True
        if task is not None:
            task.cancel()

    def _note_turned_away(self, owner: str) -> None:
        self._turned_away.pop(owner, None)
        self._turned_away[owner] = self._clock()
        if len(self._turned_away) > 2:
            del self._turned_away[next(iter(self._turned_away))]


class _Lack:
    """Why there is no room, in the words that the sender is told."""

    def __init__(self, words: str) -> None:
        self._words = words

    def refusal(self) -> Refusal:
        return Refusal(f"{self._words} (ingest.max_in_flight); retry", status=503, grpc_code=14)


_ROOM: Final = _Lack("too many bytes of other requests are in flight")
_SHARE: Final = _Lack("requests of this sender hold half of what may be in flight")
_CUT_OFF: Final = _Lack(
    "cut off, since other requests needed the room that this unfinished one held"
)


def cut_off_refusal() -> Refusal:
    """What the sender of a body that was cut off is told."""
    return _CUT_OFF.refusal()
