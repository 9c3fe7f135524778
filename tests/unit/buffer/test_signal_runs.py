"""Which rows are of which signal: stretches of ids, up and down, and a run that is not there."""

from itertools import groupby

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.buffer.sqlite import signal_runs
from relay.buffer.sqlite.signal_runs import Run, check, stretches, stretches_down
from relay.buffer.sqlite.types import Totals
from relay.model.records import Signal

some_signals = st.lists(st.sampled_from(Signal), min_size=1, max_size=30)


def runs_of(signals: list[Signal]) -> list[Run]:
    """Those of rows that hold these, from row 1 on."""
    runs: list[Run] = []
    before = dict.fromkeys(Signal, Totals())
    row = 1
    for signal, group in groupby(signals):
        runs.append(Run(row, signal, dict(before)))
        count = len(list(group))
        before[signal] = before[signal] + Totals(count, 2 * count, 30 * count)
        row += count
    return runs


def kept(runs: list[Run], rows: int) -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE TABLE signal_runs (first_row INTEGER PRIMARY KEY, signal, sums);"
        "CREATE TABLE tallies (name TEXT PRIMARY KEY, value);"
        "CREATE TABLE rows (id INTEGER PRIMARY KEY)"
    )
    connection.executemany("INSERT INTO rows VALUES (?)", [(row,) for row in range(1, rows + 1)])
    signal_runs.write(connection, runs)
    return connection


@given(some_signals, st.data())
def test_stretches_are_all_rows_of_a_signal_and_no_others(
    signals: list[Signal], data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, len(signals)))
    last = data.draw(st.integers(first, len(signals)))
    connection = kept(runs_of(signals), len(signals))

    for signal in Signal:
        rows = [row for row in range(first, last + 1) if signals[row - 1] is signal]
        groups = [[row for _at, row in group] for _, group in groupby(enumerate(rows), _distance)]
        wanted = [(group[0], group[-1]) for group in groups]
        assert list(stretches(connection, signal, first, last)) == wanted
        assert list(stretches_down(connection, signal, first, last)) == wanted[::-1]


def _distance(numbered: tuple[int, int]) -> int:
    return numbered[1] - numbered[0]


@pytest.mark.parametrize("step", [2, 3, 100])
@given(some_signals, st.data())
def test_run_that_is_not_there_is_noticed_however_many_are_looked_at_a_time(
    step: int, signals: list[Signal], data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal_runs, "_CHECK_RUNS", step)
        runs = runs_of(signals)
        connection = kept(runs, len(signals))
        check(connection)
        missing = data.draw(st.sampled_from(runs))
        connection.execute("DELETE FROM signal_runs WHERE first_row = ?", (missing.first_row,))
        with pytest.raises(apsw.CorruptError):
            check(connection)


@given(some_signals, st.data())
def test_rows_are_not_passed_over_by_a_run_that_is_not_there(
    signals: list[Signal], data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, len(signals)))
    last = data.draw(st.integers(first, len(signals)))
    runs = runs_of(signals)
    missing = data.draw(st.sampled_from(runs))
    signal = data.draw(st.sampled_from(Signal))
    connection = kept(runs, len(signals))
    wanted = list(stretches(connection, signal, first, last))
    connection.execute("DELETE FROM signal_runs WHERE first_row = ?", (missing.first_row,))

    for find, right in ((stretches, wanted), (stretches_down, wanted[::-1])):
        try:
            found = list(find(connection, signal, first, last))
        except apsw.CorruptError:
            continue
        assert found == right
