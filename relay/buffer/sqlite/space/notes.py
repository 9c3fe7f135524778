"""Counts that must outlive the process in, rows of table `tallies` out, once a minute."""

import time
from collections.abc import Callable, Mapping

from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.space.hold_timers import FAILING, HOLD

_NOTE_SECONDS = 60.0
_FIRST_SECONDS = 1.0
# Of destinations: what they say of one that was removed is of no use to a later one of its name.
_REMOVABLE = (FAILING, HOLD)


class Notes:
    """Writes what changed. What is in memory counts; the disk follows, for the next process."""

    def __init__(self, wanted: Callable[[], dict[str, int]]) -> None:
        self._wanted = wanted
        self._written: dict[str, int] = {}
        self._next = time.monotonic() + _FIRST_SECONDS

    def opened(self, tallies: Mapping[str, int]) -> None:
        """A file was opened that holds these."""
        self._written = dict(tallies)

    def wait_seconds(self) -> float | None:
        """Until it is time to look what is to be written; None: it was, and nothing is."""
        left = self._next - time.monotonic()
        return left if left > 0 else (0.0 if self._changes() else None)

    def write(self, file: LogFile, *, is_last: bool = False) -> None:
        """Write what changed, if it is time; with `is_last` whatever the time. Raises as SQLite."""
        if not is_last and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _NOTE_SECONDS
        changes = self._changes()
        if not changes:
            return
        file.work(lambda it: _write(it, changes))
        for name, (_, value) in changes.items():
            if value is None:
                del self._written[name]
            else:
                self._written[name] = value

    def counted(self, name: str, value: int) -> None:
        """That one stands on disk already."""
        self._written[name] = value

    def _changes(self) -> dict[str, tuple[int, int | None]]:
        """What each lacks, and its new value; None: it is to go."""
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


def _write(file: LogFile, changes: Mapping[str, tuple[int, int | None]]) -> None:
    for name, (more, value) in changes.items():
        if value is None:
            file.connection.execute("DELETE FROM tallies WHERE name = ?", (name,))
        else:
            file.tally(name, more)
