"""How long to pause after a failure. Pure: the random numbers are given."""

from collections.abc import Callable

BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_CAP_SECONDS = 30.0
PROBE_FIRST_SECONDS = 5.0
PROBE_CAP_SECONDS = 60.0
PROBE_SPREAD = 0.2
PARKED_FIRST_SECONDS = 60.0
PARKED_CAP_SECONDS = 600.0
# An upstream that says "now" time and again is not believed any more: it would be a hot loop.
BELIEVED_AT_ONCE = 3


def wait_seconds(
    retry_after_seconds: float | None, failures: int, random: Callable[[], float]
) -> float:
    """How long to wait after the `failures`-th failure in a row (from 1).

    What the upstream told, else full jitter: anything in 0…min(30 s, 1 s * 2^(failures - 1)), so
    that many relays do not come back together.
    """
    if retry_after_seconds is not None and (
        retry_after_seconds >= 1 or failures <= BELIEVED_AT_ONCE
    ):
        return retry_after_seconds
    return _doubled(BACKOFF_FIRST_SECONDS, BACKOFF_CAP_SECONDS, failures) * random()


def probe_seconds(probes: int, random: Callable[[], float]) -> float:
    """How long until the `probes`-th probe in a row (from 1): 5 s doubling to 60 s, ±20 %."""
    return _spread(_doubled(PROBE_FIRST_SECONDS, PROBE_CAP_SECONDS, probes), random)


def parked_seconds(tries: int, random: Callable[[], float]) -> float:
    """How long until a parked span is tried for the `tries`-th time (from 1).

    1 min doubling to 10 min, ±20 %.
    """
    return _spread(_doubled(PARKED_FIRST_SECONDS, PARKED_CAP_SECONDS, tries), random)


def _doubled(first: float, cap: float, tries: int) -> float:
    # The exponent is bounded because tries are not: 2.0**1024 raises.
    return min(cap, first * 2.0 ** min(tries - 1, 16))


def _spread(pause: float, random: Callable[[], float]) -> float:
    return pause * (1 - PROBE_SPREAD + 2 * PROBE_SPREAD * random())
