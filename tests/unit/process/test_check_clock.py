"""Which times are told of as those of a wrong clock."""

import pytest

from relay.otlp.json_values import Tally
from relay.process.check.clock import AHEAD_NS, OLD_NS, YEAR_2000_NS, are_near, warn_of_clocks
from tests.unit.buffer.making import NOW_NS

OLDEST, NEWEST = NOW_NS - OLD_NS, NOW_NS + AHEAD_NS


def codes(*times_ns: int, now_ns: int = NOW_NS) -> dict[str, int]:
    warnings = Tally()
    warn_of_clocks(times_ns, now_ns, warnings)
    return dict(warnings)


def test_times_are_near_from_the_oldest_to_the_newest_that_nobody_is_told_of() -> None:
    assert are_near(OLDEST, NEWEST, NOW_NS)
    assert not are_near(OLDEST - 1, NEWEST, NOW_NS)
    assert not are_near(OLDEST, NEWEST + 1, NOW_NS)


def test_what_is_near_is_what_is_counted_as_nothing() -> None:
    assert codes(OLDEST, NOW_NS, NEWEST, 0) == {}
    assert codes(OLDEST - 1, NEWEST + 1) == {"time_old": 1, "time_ahead": 1}


def test_times_before_2000_are_those_of_another_unit_or_of_none() -> None:
    assert codes(YEAR_2000_NS, YEAR_2000_NS + 1) == {"time_old": 2}
    assert codes(YEAR_2000_NS - 1) == {"time_before_2000": 1}


@pytest.mark.parametrize(
    ("factor", "unit"), [(10**3, "microseconds"), (10**6, "milliseconds"), (10**9, "seconds")]
)
def test_unit_is_the_one_in_which_the_time_is_between_2000_and_a_year_from_now(
    factor: int, unit: str
) -> None:
    first, year_ns = YEAR_2000_NS // factor, 366 * 24 * 3600 * 10**9
    now_ns = NOW_NS // 10**9 * 10**9
    latest = (now_ns + year_ns) // factor

    assert codes(first, latest, now_ns=now_ns) == {f"time_in_{unit}": 2}
    assert codes(first - 1, latest + 1, now_ns=now_ns) == {"time_before_2000": 2}
