"""When counts are written: rarely, since each write is a row of the log; at the end, all."""

import apsw
import pytest

from relay.buffer.sqlite import counters_table
from relay.buffer.sqlite.counters_table import CounterSchedule


class Clock:
    """Stands for `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(counters_table, "time", made)
    return made


def test_counts_are_written_once_a_minute_and_at_the_end(clock: Clock) -> None:
    counts = {"evicted:axiom": 5}
    schedule = CounterSchedule(lambda: counts)
    assert (schedule.due(), schedule.wait_seconds()) == ({}, 1.0)

    clock.now += 1.0
    assert schedule.wait_seconds() == 0.0
    changes = schedule.due()
    assert changes == {"evicted:axiom": (5, 5)}
    schedule.written(changes)

    counts["evicted:axiom"] = 7
    assert (schedule.due(), schedule.wait_seconds()) == ({}, 60.0)
    assert schedule.due(is_last=True) == {"evicted:axiom": (2, 7)}


def test_nothing_is_written_when_all_counts_stand_on_disk(clock: Clock) -> None:
    schedule = CounterSchedule(lambda: {"evicted:axiom": 5, "hold_seconds:axiom": 3})
    schedule.opened({"evicted:axiom": 5})
    schedule.counted("hold_seconds:axiom", 3)
    clock.now += 1.0

    assert schedule.due() == {}


def test_times_of_a_destination_that_is_gone_are_taken_off_the_disk(clock: Clock) -> None:
    """A later destination of its name begins anew; what was given up stays counted."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE tallies (name TEXT PRIMARY KEY, value INTEGER NOT NULL)")
    schedule = CounterSchedule(dict)
    held = {"failing_seconds:axiom": 4, "evicted:axiom": 5}
    counters_table.write(connection, {name: (value, value) for name, value in held.items()})
    schedule.opened(counters_table.read(connection))

    changes = schedule.due(is_last=True)
    counters_table.write(connection, changes)
    schedule.written(changes)

    assert counters_table.read(connection) == {"evicted:axiom": 5}
    assert schedule.due(is_last=True) == {}
