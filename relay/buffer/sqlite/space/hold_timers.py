"""Tells which destinations may lose rows when space is short, by how they fare.

For how long a destination has failed is summed up here by a clock that does not jump, and kept
over restarts: the time in which the relay ran and the destination did not take what it was owed.
Only a success ends it; that a courier has just begun anew is none.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from relay.buffer.backlog_name import backlog_name
from relay.buffer.sqlite.counters_table import FAILING, HOLD
from relay.model.records import Health

# For destinations that went from the config before their `hold` was known here.
DEFAULT_HOLD_NS = 24 * 3600 * 10**9
_FOREVER = -1


@dataclass(slots=True)
class _Record:
    """One backlog."""

    failing_ns: int = 0
    hold_ns: int | None = DEFAULT_HOLD_NS
    looked_ns: int = 0  # by the clock that does not jump; 0: not yet by this process
    success_ns: int = 0
    failing_since_ns: int = 0  # by its courier, as `success_ns`; 0: it does not, or has none
    is_failing: bool = False
    is_healthy: bool = False

    @property
    def is_expired(self) -> bool:
        return self.is_failing and self.hold_ns is not None and self.failing_ns >= self.hold_ns


class HoldTimers:
    """The record of each backlog. Lives in the writer's thread."""

    def __init__(self, clock_ns: Callable[[], int], uptime_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._uptime_ns = uptime_ns
        self._began_ns = uptime_ns()
        self._records: dict[str, _Record] = {}

    def load(self, counters: Mapping[str, int]) -> None:
        """Take up what an earlier process wrote down, where nothing is known yet."""
        for destination in _named(counters) - self._records.keys():
            record = _Record(failing_ns=counters.get(FAILING + destination, 0) * 10**9)
            hold = counters.get(HOLD + destination)
            if hold is not None:
                record.hold_ns = None if hold == _FOREVER else hold * 10**9
            self._records[destination] = record

    def counters(self) -> dict[str, int]:
        """What the next process must know."""
        known: dict[str, int] = {}
        for name, record in self._records.items():
            known[FAILING + name] = record.failing_ns // 10**9
            hold_ns = record.hold_ns
            # Rounded up: a hold must not become shorter by a restart.
            known[HOLD + name] = _FOREVER if hold_ns is None else -(-hold_ns // 10**9)
        return known

    def look(self, names: Iterable[str], health: Mapping[str, Health], owing: set[str]) -> None:
        """Take down how those `names` fare; `owing` are those that are owed anything."""
        now_ns = self._uptime_ns()
        wanted = set(names)
        for name in self._records.keys() - wanted:
            del self._records[name]
        for name in wanted:
            record = self._records.setdefault(name, _Record())
            elapsed_ns = max(now_ns - (record.looked_ns or self._began_ns), 0)
            record.looked_ns = now_ns
            self._look_at(record, health.get(name), elapsed_ns, is_owed=name in owing)

    def _look_at(
        self, record: _Record, health: Health | None, elapsed_ns: int, *, is_owed: bool
    ) -> None:
        record.failing_since_ns = health.failing_since_ns if health is not None else 0
        if health is not None:
            record.hold_ns = health.hold_ns
            if health.last_success_ns != record.success_ns:
                record.success_ns = health.last_success_ns
                if health.last_success_ns:
                    record.failing_ns, record.is_failing = 0, False
            if not health.failing_since_ns:
                # After a start everybody looks well; who had something to prove has not yet.
                record.is_healthy = bool(health.last_success_ns) or not is_owed
                record.is_failing = False
                if record.is_healthy:
                    record.failing_ns = 0
                return
        if record.is_failing:
            record.failing_ns += elapsed_ns
        elif health is not None:
            record.failing_ns += min(elapsed_ns, max(self._clock_ns() - health.failing_since_ns, 0))
        record.is_failing, record.is_healthy = True, False

    def evictable(self, *, drops_oldest: bool) -> list[frozenset[str]]:
        """Whose rows may go undelivered, the first group before the second; empty ones are out.

        First those who failed for longer than their hold, while another is healthy. With
        `drops_oldest` then all who are known to fail and do not hold for ever.
        """
        records = self._records
        groups = []
        if any(map(self._is_well, records)):
            groups.append(frozenset(n for n, record in records.items() if record.is_expired))
        if drops_oldest:
            groups.append(
                frozenset(n for n, r in records.items() if r.is_failing and r.hold_ns is not None)
            )
        return [group for group in groups if group]

    def _is_well(self, name: str) -> bool:
        """Whether it is healthy, and does not only seem so: of a destination that takes nothing any
        more, a signal of which nothing came meanwhile is owed nothing.
        """
        record, destination = self._records[name], backlog_name(name).destination
        return record.is_healthy and not any(
            other.failing_since_ns > record.success_ns
            for key, other in self._records.items()
            if backlog_name(key).destination == destination
        )


def _named(counters: Mapping[str, int]) -> set[str]:
    return {
        name.removeprefix(prefix)
        for name in counters
        for prefix in (FAILING, HOLD)
        if name.startswith(prefix)
    }
