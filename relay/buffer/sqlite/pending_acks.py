"""Holds what couriers settled until the next commit writes it.

The event loop adds, the writer takes everything at once with its next commit. What could not be
written comes back and is merged behind what was added meanwhile.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.model.records import DeadLetter, OwedRange, Position

# Deliveries of one status within this time are one entry: `where` needs no finer time.
COALESCE_NS = 1_000_000_000


@dataclass(slots=True)
class Delivery:
    """Places of one destination that were settled with one status, about at one time."""

    start: Position
    end: Position
    at_ns: int
    status: int
    delivery_id: int = 0  # its row in table `deliveries`; 0: not there yet
    first_at_ns: int = 0

    def takes(self, start: Position, at_ns: int, status: int) -> bool:
        """Whether a delivery that begins at `start` may simply lengthen this one."""
        return (
            self.end == start
            and self.status == status
            and 0 <= at_ns - self.first_at_ns < COALESCE_NS
        )


@dataclass(slots=True)
class PendingAck:
    """The newest state of one destination, and what was settled since it was last written."""

    ranges: Ranges = ()
    is_paused: bool = False
    is_removed: bool = False  # drop what is on disk first
    is_present: bool = True  # then there is a destination again (or still)
    deliveries: list[Delivery] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    def settled(self, ranges: Iterable[OwedRange], *, at_ns: int, status: int) -> None:
        """Note that `ranges` were settled."""
        for start, end in ranges:
            if end is not None:
                self._add(start, end, at_ns, status)

    def _add(self, start: Position, end: Position, at_ns: int, status: int) -> None:
        last = self.deliveries[-1] if self.deliveries else None
        if last is not None and last.takes(start, at_ns, status):
            last.end, last.at_ns = end, at_ns
        else:
            self.deliveries.append(Delivery(start, end, at_ns, status, first_at_ns=at_ns))


class PendingAcks:
    """What is to be written, by destination. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: dict[str, PendingAck] = {}  # any thread may ask whether there is something
        self._in_commit: dict[str, PendingAck] = {}  # taken, and not known to be on disk
        self._evicted: dict[str, list[Ranges]] = {}  # and the event loop does not know yet

    def update(
        self,
        name: str,
        ranges: Ranges,
        *,
        is_paused: bool,
        settled: Iterable[OwedRange] = (),
        at_ns: int = 0,
        status: int = 0,
        letters: Iterable[DeadLetter] = (),
    ) -> None:
        """The destination is owed `ranges` now; `settled` is what just left them."""
        with self._lock:
            ack = self.waiting.setdefault(name, PendingAck())
            for gone in self._evicted.get(name, ()):
                ranges = owed_ranges.subtract(ranges, gone)
            ack.ranges, ack.is_paused, ack.is_present = ranges, is_paused, True
            ack.settled(settled, at_ns=at_ns, status=status)
            ack.letters.extend(letters)

    def remove(self, name: str) -> None:
        """The destination is to be forgotten; its dead letters stay."""
        with self._lock:
            letters = self.waiting[name].letters if name in self.waiting else []
            self.waiting[name] = PendingAck(is_removed=True, is_present=False, letters=letters)

    def evicted(self, name: str, gone: Ranges) -> None:
        """Rows of `gone` were deleted undelivered: what is written next must not owe them."""
        with self._lock:
            self._evicted.setdefault(name, []).append(gone)
            ack = self.waiting.get(name)
            if ack is not None:
                ack.ranges = owed_ranges.subtract(ack.ranges, gone)

    def heard(self, name: str) -> None:
        """The event loop knows of the oldest that `evicted` told of `name`."""
        with self._lock:
            self._evicted[name].pop(0)

    def forget_places(self) -> None:
        """The file was replaced: places in the old one mean nothing in the new one."""
        with self._lock:
            for ack in self.waiting.values():
                ack.deliveries.clear()

    def take(self) -> dict[str, PendingAck]:
        """Everything there is; `written` or `put_back` must follow."""
        with self._lock:
            acks, self.waiting = self.waiting, {}
            self._in_commit = acks
        return acks

    def written(self) -> None:
        """What was taken is on disk."""
        with self._lock:
            self._in_commit = {}

    def put_back(self, older: dict[str, PendingAck]) -> None:
        """Those were not written: they are pending again, before what came since."""
        with self._lock:
            self._in_commit = {}
            for name, old in older.items():
                new = self.waiting.get(name)
                if new is None:
                    self.waiting[name] = old
                    continue
                new.letters = old.letters + new.letters
                if not new.is_removed:
                    new.deliveries = old.deliveries + new.deliveries
                    new.is_removed = old.is_removed

    def states(self) -> dict[str, tuple[Ranges, bool] | None]:
        """What each destination with news is owed now, and its pause; None: it was removed."""
        with self._lock:
            return {
                name: (ack.ranges, ack.is_paused) if ack.is_present else None
                for acks in (self._in_commit, self.waiting)
                for name, ack in acks.items()
            }

    def deliveries(self, name: str) -> list[Delivery]:
        """What was settled and may not yet be on disk."""
        with self._lock:
            acks = (self._in_commit.get(name), self.waiting.get(name))
            return [delivery for ack in acks if ack for delivery in ack.deliveries]
