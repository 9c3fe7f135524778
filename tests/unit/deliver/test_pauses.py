"""How long it pauses: tables."""

import pytest

from relay.deliver.pauses import parked_seconds, probe_seconds, wait_seconds


@pytest.mark.parametrize(
    ("failures", "ceiling"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (9999, 30)]
)
def test_backoff_is_full_jitter_below_a_doubling_ceiling(failures: int, ceiling: float) -> None:
    assert wait_seconds(None, failures, lambda: 0.0) == 0.0
    assert wait_seconds(None, failures, lambda: 0.5) == ceiling / 2
    assert wait_seconds(None, failures, lambda: 1.0) == ceiling


@pytest.mark.parametrize("failures", [1, 3, 4, 100])
def test_backoff_honours_retry_after_exactly(failures: int) -> None:
    assert wait_seconds(17.5, failures, lambda: 0.9) == 17.5
    assert wait_seconds(1.0, failures, lambda: 0.9) == 1.0


def test_backoff_believes_retry_after_zero_three_times_only() -> None:
    """Else an upstream that always says "now" would be asked in a hot loop."""
    pauses = [wait_seconds(0.0, failures, lambda: 1.0) for failures in (1, 2, 3, 4, 5)]

    assert pauses == [0, 0, 0, 8, 16]


@pytest.mark.parametrize(
    ("probes", "pause"), [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60), (9999, 60)]
)
def test_probes_double_to_a_minute_with_a_fifth_either_way(probes: int, pause: float) -> None:
    assert probe_seconds(probes, lambda: 0.0) == pytest.approx(pause * 0.8)
    assert probe_seconds(probes, lambda: 0.5) == pytest.approx(pause)
    assert probe_seconds(probes, lambda: 1.0) == pytest.approx(pause * 1.2)


@pytest.mark.parametrize(("tries", "pause"), [(1, 60), (2, 120), (4, 480), (5, 600), (9999, 600)])
def test_tries_of_what_is_parked_double_to_ten_minutes(tries: int, pause: float) -> None:
    assert parked_seconds(tries, lambda: 0.0) == pytest.approx(pause * 0.8)
    assert parked_seconds(tries, lambda: 1.0) == pytest.approx(pause * 1.2)
