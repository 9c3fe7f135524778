"""Warnings of times that no clock shows: a unit was mistaken, or a clock is wrong.

Nothing is rejected for it: only the sender can know. What upstreams refuse for its age, or show in
the year 1970, is told here first, with the unit that its times seem to be in.
"""

from collections.abc import Iterable
from typing import Final

from relay.otlp.json_values import Tally

SECOND_NS: Final = 10**9
OLD_NS: Final = 7 * 24 * 3600 * SECOND_NS
AHEAD_NS: Final = 3600 * SECOND_NS
YEAR_2000_NS: Final = 946_684_800 * SECOND_NS

# What a time would be multiplied with if it were in that unit.
_UNITS: Final = (("microseconds", 10**3), ("milliseconds", 10**6), ("seconds", 10**9))
# Half of them overlap: a time that would be in the future is in another unit.
_LATEST_NS: Final = 366 * 24 * 3600 * SECOND_NS


def warn_of_clocks(times_ns: Iterable[int], now_ns: int, warnings: Tally) -> None:
    """Count the times that are not near `now_ns`, by code. Zero is no time."""
    for time_ns in times_ns:
        code = _judge(time_ns, now_ns)
        if code:
            warnings[code] += 1


def are_near(least_ns: int, most_ns: int, now_ns: int) -> bool:
    """Whether times from `least_ns` to `most_ns` are all near now: nothing to warn of."""
    return least_ns >= now_ns - OLD_NS and most_ns <= now_ns + AHEAD_NS


def _judge(time_ns: int, now_ns: int) -> str:
    if now_ns - OLD_NS <= time_ns <= now_ns + AHEAD_NS or not time_ns:
        return ""
    if time_ns > now_ns:
        return "time_ahead"
    if time_ns >= YEAR_2000_NS:
        return "time_old"
    for unit, factor in _UNITS:
        if YEAR_2000_NS <= time_ns * factor <= now_ns + _LATEST_NS:
            return f"time_in_{unit}"
    return "time_before_2000"
