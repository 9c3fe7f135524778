"""How much room there was at some moments in, when it will be used up out. Pure.

Room is what undelivered spans may still take: delivered ones give way, so they count as room. It
shrinks with what waits for a destination and with whatever else fills the file system; both are
in the rate, which is the slope over some minutes.
"""

from collections import deque
from typing import NamedTuple

SAMPLE_SECONDS = 5.0
_WINDOW_SECONDS = 300.0
# A slope over less is noise.
_LEAST_SECONDS = 30.0
_LEAST_SAMPLES = 4
# What would take longer than this is not filling.
_LONGEST_SECONDS = 10 * 365 * 86_400.0


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

    def clear(self) -> None:
        """The limits are others from now on: what was does not count."""
        self._samples.clear()

    def seconds_until_full(self) -> float | None:
        """At the rate of the last minutes; None: it is not filling, or that is not known yet."""
        samples = list(self._samples)
        return seconds_until_full(samples)


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


def seconds_until_full(samples: list[Sample]) -> float | None:
    """Until the room of the newest sample is used up; None: it does not shrink, or not known."""
    rate = bytes_per_second(samples)
    if rate is None or rate >= 0:
        return None
    seconds = max(samples[-1].room_bytes, 0) / -rate
    return seconds if seconds <= _LONGEST_SECONDS else None
