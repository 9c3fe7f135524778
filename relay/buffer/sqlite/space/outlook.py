"""An open file in, what of it is owed and when it will be full out; looked at now and then."""

from dataclasses import dataclass, field

from relay.buffer import owed_ranges
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.space.space import Space
from relay.buffer.sqlite.space.time_to_full import SAMPLE_SECONDS, Forecast
from relay.buffer.sqlite.types import Totals

# Sums over more ranges than this would take longer than a step may.
_MOST_RANGES = 256


@dataclass(frozen=True, slots=True)
class Outlook:
    """`owed` is what somebody has not had, each row once; `full_in_seconds` None: not filling."""

    owed: Totals = field(default_factory=Totals)
    owed_bytes: int = 0  # its share of the pages in use
    full_in_seconds: float | None = None


class Lookout:
    """Takes a sample every few seconds while something is owed."""

    def __init__(self) -> None:
        self._forecast = Forecast()
        self._next = 0.0
        self.is_changed = True
        self.found = Outlook()

    def changed(self) -> None:
        """Something was written since the last look."""
        self.is_changed = True

    def restart(self) -> None:
        """Limits are new: what was measured under the old ones says nothing."""
        self._forecast.clear()
        self._next, self.is_changed = 0.0, True

    def wait_seconds(self, now_seconds: float) -> float | None:
        """Until the next look; None: nothing can have changed."""
        if self.is_changed or self.found.owed.rows:
            return max(self._next - now_seconds, 0.0)
        return None

    def look(
        self, file: LogFile, space: Space, now_seconds: float, may_lose: frozenset[str]
    ) -> bool:
        """Take a sample if it is time for one; returns whether it was.

        `may_lose` are destinations that keep the buffer from nothing: what they alone are owed goes
        when room is needed.
        """
        wait = self.wait_seconds(now_seconds)
        if wait is None or wait > 0:
            return False
        self._next, self.is_changed = now_seconds + SAMPLE_SECONDS, False
        space.measure(file.connection)
        found = sums_owed(file)
        held = sums_owed(file, but=may_lose) if may_lose else found
        self._forecast.add(now_seconds, room_bytes(space, _on_disk(held, file, space)))
        seconds = self._forecast.seconds_until_full() if held.rows else None
        self.found = Outlook(found, _on_disk(found, file, space), seconds)
        return True


def _on_disk(sums: Totals, file: LogFile, space: Space) -> int:
    """The share of the pages in use that rows with these sums have."""
    kept_bytes = file.kept.raw_bytes
    share = min(sums.raw_bytes / kept_bytes, 1.0) if kept_bytes > 0 else 0.0
    return int(space.database_bytes * share)


def room_bytes(space: Space, owed_bytes: int) -> int:
    """What undelivered rows may still take, when delivered ones have given way."""
    settings = space.settings
    by_size = settings.max_size_bytes - settings.reserve_bytes - owed_bytes
    ours = space.freelist_bytes + space.wal_bytes + space.database_bytes - owed_bytes
    kept = max(settings.min_free_bytes, space.missing_reserve_bytes)
    return min(by_size, space.free_bytes + ours - kept)


def sums_owed(file: LogFile, *, but: frozenset[str] = frozenset()) -> Totals:
    """Sums over rows that somebody but those is owed; without any destination all are."""
    if not file.destinations:
        return file.kept
    lists = [found.ranges for name, found in file.destinations.items() if name not in but]
    ranges = owed_ranges.union(item for each in lists for item in each)
    if len(ranges) > _MOST_RANGES:
        ranges = (ranges[0]._replace(end=ranges[-1].end),)  # with its holes: at most so much
    return file.sums(ranges)
