"""Counts that outlive the process (table `tallies`): spans evicted, seconds of failing and more."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields

import apsw

from relay.buffer.sqlite.schema import fetch
from relay.buffer.sqlite.types import Totals
from relay.model.records import Signal

# Each is followed by the name of a destination; nothing after the colon: what ingest refused.
DROPPED_LETTERS = "dead_letters_dropped:"  # given up for space or age
EVICTED = "evicted:"
# Rows, items and bytes of a signal that have gone, where it is not spans: `gone:logs:rows`.
_GONE = "gone:"
# Those that say something without the rows of their file.
WITHOUT_ROWS = (EVICTED, DROPPED_LETTERS)
FAILING = "failing_seconds:"
HOLD = "hold_seconds:"
# What they say of a destination that was removed is of no use to a later one of its name.
_REMOVABLE = (FAILING, HOLD)
_SUMS = [each.name for each in fields(Totals)]
_WRITE_SECONDS = 60.0
_FIRST_SECONDS = 1.0

# What each count lacks, and its new value; None: it is to go.
Changes = Mapping[str, tuple[int, int | None]]


def add(connection: apsw.Connection, name: str, more: int) -> None:
    """Add to a count, inside the caller's transaction."""
    connection.execute(
        "INSERT INTO tallies VALUES (?,?) ON CONFLICT DO UPDATE SET value = value + ?",
        (name, more, more),
    )


def read(connection: apsw.Connection, prefix: str = "") -> dict[str, int]:
    """Every count whose name begins with `prefix`, by the rest of its name."""
    found = fetch(connection, "SELECT name, value FROM tallies")
    return {
        str(name)[len(prefix) :]: value
        for name, value in found
        if str(name).startswith(prefix) and isinstance(value, int)
    }


def add_gone(connection: apsw.Connection, signal: Signal, sums: Totals) -> None:
    """Count rows of `signal` that have gone, inside the caller's transaction."""
    for what, more in asdict(sums).items():
        add(connection, f"{_GONE}{signal.name.lower()}:{what}", more)


def gone_by_signal(connection: apsw.Connection) -> dict[Signal, Totals]:
    """Of each signal but spans, what has gone."""
    counts = read(connection, _GONE)
    return {
        signal: Totals(**{what: counts.get(f"{name}:{what}", 0) for what in _SUMS})
        for signal in Signal
        if f"{(name := signal.name.lower())}:rows" in counts
    }


def write(connection: apsw.Connection, changes: Changes) -> None:
    """Write what changed, inside the caller's transaction."""
    for name, (more, value) in changes.items():
        if value is None:
            connection.execute("DELETE FROM tallies WHERE name = ?", (name,))
        else:
            add(connection, name, more)


class CounterSchedule:
    """What is to be written when: once a minute what changed. What is in memory counts."""

    def __init__(self, wanted: Callable[[], dict[str, int]]) -> None:
        self._wanted = wanted
        self._written: dict[str, int] = {}
        self._next = time.monotonic() + _FIRST_SECONDS

    def opened(self, counters: Mapping[str, int]) -> None:
        """A file was opened that holds these."""
        self._written = dict(counters)

    def wait_seconds(self) -> float:
        """Until it is time to look what is to be written."""
        return max(self._next - time.monotonic(), 0.0)

    def due(self, *, is_last: bool = False) -> Changes:
        """What is to be written now; with `is_last` whatever the time. `written` must follow."""
        if not is_last and time.monotonic() < self._next:
            return {}
        self._next = time.monotonic() + _WRITE_SECONDS
        return self._changes()

    def written(self, changes: Changes) -> None:
        """These stand on disk."""
        for name, (_, value) in changes.items():
            if value is None:
                del self._written[name]
            else:
                self._written[name] = value

    def counted(self, name: str, value: int) -> None:
        """That one stands on disk already."""
        self._written[name] = value

    def _changes(self) -> dict[str, tuple[int, int | None]]:
        wanted = self._wanted()
        changes: dict[str, tuple[int, int | None]] = {
            name: (value - self._written.get(name, 0), value)
            for name, value in wanted.items()
            if self._written.get(name) != value
        }
        for name in self._written.keys() - wanted.keys():
            if name.startswith(_REMOVABLE):
                changes[name] = (0, None)
        return changes
