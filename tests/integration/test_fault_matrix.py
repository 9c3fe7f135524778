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


def test_slow_upstream_loses_nothing() -> None:
    row = faults.slow(seed=4318, seconds=0.5)

    assert row.is_good, "\n" + table([row])
