"""Every row of the table of outcomes against scripted upstreams, all at once and in any order."""

import pytest

from tests.trials import faults
from tests.trials.rows import table

pytestmark = [pytest.mark.proofs, pytest.mark.timeout(120)]


def test_each_fault_ends_as_the_table_says_and_the_healthy_destination_does_not_notice() -> None:
    row = faults.matrix(seed=4318)

    assert row.is_good, "\n" + table([row])
    assert row.total.dead


def test_random_faults_at_two_destinations_at_once_lose_nothing() -> None:
    row = faults.mixed(seed=4318)

    assert row.is_good, "\n" + table([row])


@pytest.mark.parametrize("status", [401, 404, 500])
def test_upstream_that_refuses_for_a_while_loses_nothing_and_holds_up_nobody(status: int) -> None:
    row = faults.away(status, seed=4318, seconds=0.5)

    assert row.is_good, "\n" + table([row])
    assert row.total.delivered == row.total.acknowledged


def test_a_load_that_does_not_come_to_its_rate_is_told_of_as_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faults, "PER_SECOND", 1_000_000.0)
    row = faults.away(404, seed=4318, seconds=0.2)

    (problem,) = row.problems
    assert problem.endswith("requests a second of 1e+06: too slow to prove anything")


def test_slow_upstream_loses_nothing() -> None:
    row = faults.slow(seed=4318, seconds=0.5)

    assert row.is_good, "\n" + table([row])
