"""Short forms of what `make soak` does for long: nothing acknowledged is lost, whatever happens.

A row's `problems` and numbers say what went wrong; its trial prints the seed and the relay's log.
"""

import pytest

from tests.support.load import SIGNALS
from tests.trials import damage, every_fault, relays, sampling, space
from tests.trials.rows import Row, table

pytestmark = [pytest.mark.proofs, pytest.mark.timeout(120)]


def assert_good(row: Row) -> None:
    """Nothing is lost, what came twice is explained, and nothing else went wrong."""
    assert row.is_good, "\n" + table([row])
    assert row.signals.keys() == set(SIGNALS)


def test_nothing_is_lost_when_the_relay_is_killed_under_load_with_two_destinations() -> None:
    assert_good(relays.kills(seed=4318, times=6))


def test_nothing_is_lost_or_doubled_when_the_relay_is_stopped_and_started_under_load() -> None:
    row = relays.restarts(seed=4318, times=2)

    assert_good(row)
    assert row.total.duplicates == row.total.bound == 0


def test_nothing_is_lost_when_the_disk_forgets_tears_reorders_and_fails() -> None:
    assert_good(relays.bad_disk(seed=4318, times=5))


def test_bad_disk_shows_the_loss_when_sync_is_off() -> None:
    """The test above means something only because this one loses."""
    assert relays.bad_disk(seed=4318, times=1, is_sync_off=True, has_faults=False).total.lost


def test_nothing_is_lost_when_the_wall_clock_jumps() -> None:
    assert_good(relays.clock_jumps(seed=4318, times=2))


def test_nothing_is_lost_whichever_write_or_sync_fails() -> None:
    assert_good(every_fault.trial(seed=4318, stride=16))


def test_failing_syncs_show_the_loss_when_sync_is_off() -> None:
    """The test above means something only because this one loses."""
    assert every_fault.without_sync(seed=4318).total.lost


def test_overwritten_bytes_cost_the_row_that_they_hit_and_the_relay_names_it() -> None:
    row = damage.trial(seed=4318, is_anywhere=False)

    assert_good(row)
    assert row.total.dead == 4  # two spans, owed to two destinations


@pytest.fixture
def small_disk() -> None:
    """A file system can be mounted here."""
    reason = space.why_not()
    if reason:
        pytest.skip(f"no small ext4 can be mounted here: {reason}")


@pytest.mark.usefixtures("small_disk")
def test_full_disk_refuses_drains_and_takes_spans_again_by_itself() -> None:
    assert_good(space.full_disk(seed=4318))


@pytest.mark.alone  # the relay writes tens of megabytes, against a deadline
@pytest.mark.usefixtures("small_disk")
def test_full_disk_that_the_relay_fills_alone_drains_and_takes_spans_again() -> None:
    assert_good(space.full_disk(seed=4318, is_alone=True))


@pytest.mark.usefixtures("small_disk")
def test_disk_that_turns_read_only_refuses_and_keeps_what_was_kept() -> None:
    assert_good(space.read_only(seed=4318))


def test_no_kill_changes_which_traces_are_sent_whole() -> None:
    row = sampling.trial(seed=4318, times=4)

    assert row.is_good, "\n" + table([row])
    assert row.total.filtered
    assert row.total.sampled
