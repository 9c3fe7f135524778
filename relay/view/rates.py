"""The last hour in steps of ten seconds: what came, from whom, what left, and what was refused.

In memory and bounded: after a restart it is empty and says since when it counts. Nobody on the way
of an item writes here: totals are looked at once a second (`watch`).
"""

import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from relay.buffer.values import Arrival, BacklogStatistics
from relay.model.counters import Counters
from relay.model.records import DestinationStatus, Signal
from relay.model.units import iso
from relay.otlp.words import clean

SLOT_SECONDS: Final = 10
SLOTS: Final = 360
MOST_SENDERS: Final = 200
MOST_KEYS: Final = 1000  # reasons, and destinations with their signals
_MOST_CHARACTERS: Final = 120
_LOOK_CHARACTERS: Final = 500


class SenderName(NamedTuple):
    """What tells one sender from another; the service of a request is its first one."""

    service: str
    user_agent: str


@lru_cache(MOST_SENDERS)
def _name_of(service: str, user_agent: str) -> SenderName:
    return SenderName(clean(service, _MOST_CHARACTERS), clean(user_agent, _MOST_CHARACTERS))


@dataclass(slots=True)
class _Sender:
    address: str = ""
    last_ns: int = 0
    signals: dict[str, int] = field(default_factory=dict)


class Ring:
    """A number for each step of the hour."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values = array("d", bytes(8 * SLOTS))


class Rates:
    """The ring of everything; `clock` in seconds, never backwards."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock = clock
        self._clock_ns = clock_ns
        self._first = self._slot = int(clock() // SLOT_SECONDS)
        self._since_ns = clock_ns()
        self._shown = 0  # steps of the document that is being made
        self._rings: dict[tuple[str, ...], Ring] = {}
        self._totals: dict[tuple[str, ...], int] = {}
        self._senders: dict[SenderName, _Sender] = {}

    def arrived(self, arrivals: Iterable[Arrival]) -> None:
        """What was kept, in every row of the last second: each is looked at as little as can be."""
        self._advance()
        if len(self._senders) >= MOST_SENDERS:
            self._forget_silent()
        for each in arrivals:
            service = each.services[0][:_LOOK_CHARACTERS] if each.services else ""
            name = _name_of(service, each.user_agent[:_LOOK_CHARACTERS])
            sender = self._senders.get(name) or self._new_sender(name)
            if sender is None:
                self._add(("others",), each.items)
                continue
            sender.address, sender.last_ns = each.address, each.received_ns
            word = each.signal.word
            sender.signals[word] = sender.signals.get(word, 0) + each.items
            self._add(("sender", *name), each.items)

    def _new_sender(self, name: SenderName) -> _Sender | None:
        has_room = len(self._senders) < MOST_SENDERS
        return self._senders.setdefault(name, _Sender()) if has_room else None

    def _forget_silent(self) -> None:
        for name in list(self._senders):
            if not any(self._ring(("sender", *name)).values):
                del self._senders[name]
                self._rings.pop(("sender", *name), None)

    def counted(self, counters: Counters) -> None:
        """The totals of the way in, as they stand now."""
        for signal in Signal:
            self._total(("received", signal.word), counters.received_items[signal])
            self._total(("kept", signal.word), counters.kept_items[signal])
        for (signal, reason), items in list(counters.rejected_items.items()):
            self._total(("rejected", signal.word, reason), items)
        for reason, times in list(counters.refused.items()):
            self._total(("refused", reason), times)

    def stands(self, status: DestinationStatus, backlog: BacklogStatistics) -> None:
        """How a destination fares with one signal."""
        key = (status.name, status.signal.word)
        self._total(("delivered", *key), status.delivered_items)
        self._total(("set_aside", *key), status.refused_items)
        owed = max(backlog.owed_items - status.held_items, 0)
        self._set(("owed", *key), owed)
        oldest_ns = backlog.oldest_owed_ns if owed else 0
        age = max(0.0, (self._clock_ns() - oldest_ns) / 1e9) if oldest_ns else 0.0
        self._set(("oldest_seconds", *key), age)

    def document(self, most_steps: int = SLOTS) -> dict[str, Any]:
        """Everything as the admin API has it: lists of the last steps, the oldest first."""
        self._advance()
        steps = self._shown = min(self._slot - self._first + 1, most_steps)
        return {
            "step_seconds": SLOT_SECONDS,
            "steps": steps,
            "since": iso(self._since_ns),
            "last_step_seconds": round(self._clock() % SLOT_SECONDS, 3),
            "received": {word: self._list(("received", word)) for word in _WORDS},
            "kept": {word: self._list(("kept", word)) for word in _WORDS},
            "senders": [self._sender(name, sender) for name, sender in self._by_last()],
            "others": self._list(("others",)),
            "rejected": [
                {"signal": key[1], "reason": key[2], "items": self._list(key)}
                for key in self._keys("rejected")
            ],
            "refused": [
                {"reason": key[1], "times": self._list(key)} for key in self._keys("refused")
            ],
            "destinations": [
                {"name": key[1], "signal": key[2]}
                | {what: self._list((what, *key[1:])) for what in _OF_DESTINATION}
                for key in self._keys("delivered")
            ],
        }

    def _sender(self, name: SenderName, sender: _Sender) -> dict[str, Any]:
        return {
            **name._asdict(),
            "address": sender.address,
            "last_at": iso(sender.last_ns),
            "signals": sender.signals,
            "items": self._list(("sender", *name)),
        }

    def _by_last(self) -> list[tuple[SenderName, _Sender]]:
        return sorted(self._senders.items(), key=lambda each: -each[1].last_ns)

    def _keys(self, kind: str) -> list[tuple[str, ...]]:
        return sorted(key for key in self._rings if key[0] == kind)

    def _list(self, key: tuple[str, ...]) -> list[int]:
        steps = self._shown
        ring = self._rings.get(key)
        if ring is None:
            return [0] * steps
        begin = self._slot - steps + 1
        return [int(ring.values[at % SLOTS]) for at in range(begin, self._slot + 1)]

    # -- one step ---------------------------------------------------------------------------------

    def _total(self, key: tuple[str, ...], total: int) -> None:
        """Count what a total has grown by; one that begins anew counts from nothing."""
        before = self._totals.get(key, 0)
        self._totals[key] = total
        self._add(key, total - before if total >= before else total)

    def _add(self, key: tuple[str, ...], number: float) -> None:
        self._advance()
        self._ring(key).values[self._slot % SLOTS] += number

    def _set(self, key: tuple[str, ...], number: float) -> None:
        self._advance()
        self._ring(key).values[self._slot % SLOTS] = number

    def _ring(self, key: tuple[str, ...]) -> Ring:
        ring = self._rings.get(key)
        if ring is None:
            if len(self._rings) >= MOST_KEYS:
                key = ("too_many",)
            ring = self._rings.setdefault(key, Ring())
        return ring

    def _advance(self) -> None:
        slot = int(self._clock() // SLOT_SECONDS)
        for at in range(max(self._slot + 1, slot - SLOTS + 1), slot + 1):
            for ring in self._rings.values():
                ring.values[at % SLOTS] = 0
        self._slot = slot


_WORDS: Final = tuple(signal.word for signal in Signal)
_OF_DESTINATION: Final = ("delivered", "set_aside", "owed", "oldest_seconds")
