"""When the buffer will be full, and what of it is owed: looked at every few seconds.

Room is what undelivered spans may still take: delivered ones give way, so they count as room. It
shrinks with what waits for a destination and with whatever else fills the file system; both are
in the rate, which is the slope over some minutes.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.buffer import owed_ranges
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.space.space import Space
from relay.buffer.sqlite.types import Totals

SAMPLE_SECONDS = 5.0
_WINDOW_SECONDS = 300.0
# A slope over less is noise.
_LEAST_SECONDS = 30.0
# What has not filled for so long does not: the slope alone would go on for minutes.
_RECENT_SECONDS = 60.0
_LEAST_SAMPLES = 4
# What would take longer than this is not filling.
_LONGEST_SECONDS = 10 * 365 * 86_400.0
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
        self.found = Outlook()
        self.restart()

    def restart(self) -> None:
        """The file is new or its limits: what was measured of the old ones says nothing."""
        self._forecast = Forecast()
        self._next = 0.0
        self.is_changed = True  # something was written since the last look

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
    """Sums over rows that a backlog of their signal is owed, but those."""
    total = Totals()
    for signal, lists in file.owed_by_signal(but).items():
        ranges = owed_ranges.union(item for each in lists for item in each)
        if len(ranges) > _MOST_RANGES:
            ranges = (ranges[0]._replace(end=ranges[-1].end),)  # with its holes: at most so much
        total += file.sums(ranges, signal)
    return total


class Sample(NamedTuple):
    """`at_seconds` by a clock that does not jump."""

    at_seconds: float
    room_bytes: int


class Forecast:
    """Keeps the samples of the last minutes."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, at_seconds: float, room_bytes: int) -> None:
        """So much room there was at that time."""
        self._samples.append(Sample(at_seconds, room_bytes))
        while self._samples[0].at_seconds < at_seconds - _WINDOW_SECONDS:
            self._samples.popleft()

    def seconds_until_full(self) -> float | None:
        """At the rate of the last minutes; None: it is not filling, or that is not known yet."""
        return seconds_until_full(list(self._samples))


def bytes_per_second(samples: list[Sample]) -> float | None:
    """The rate at which room grows (negative: shrinks), by least squares; None: too few samples."""
    if len(samples) < _LEAST_SAMPLES:
        return None
    if samples[-1].at_seconds - samples[0].at_seconds < _LEAST_SECONDS:
        return None
    count = len(samples)
    mean_at = sum(sample.at_seconds for sample in samples) / count
    mean_room = sum(sample.room_bytes for sample in samples) / count
    spread = sum((sample.at_seconds - mean_at) ** 2 for sample in samples)
    together = sum((s.at_seconds - mean_at) * (s.room_bytes - mean_room) for s in samples)
    return together / spread


def _shrinks_still(samples: list[Sample]) -> bool:
    newest = samples[-1]
    recent = (each for each in samples if each.at_seconds >= newest.at_seconds - _RECENT_SECONDS)
    return next(recent).room_bytes > newest.room_bytes


def seconds_until_full(samples: list[Sample]) -> float | None:
    """Until the room of the newest sample is used up; None: it does not shrink, or not known."""
    rate = bytes_per_second(samples)
    if rate is None or rate >= 0 or not _shrinks_still(samples):
        return None
    seconds = max(samples[-1].room_bytes, 0) / -rate
    return seconds if seconds <= _LONGEST_SECONDS else None
