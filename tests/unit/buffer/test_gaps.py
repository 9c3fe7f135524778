"""Rows that nobody needs are found again each time until they have gone, and holes only once."""

from types import SimpleNamespace
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.buffer import owed_ranges
from relay.buffer.sqlite import signal_runs
from relay.buffer.sqlite.signal_runs import Run
from relay.buffer.sqlite.space import gaps as gaps_module
from relay.buffer.sqlite.space.gaps import Gaps
from relay.buffer.sqlite.types import Totals
from relay.model.records import OwedRange, Position, Signal

FAR = OwedRange(Position(202), Position(4900))
OWED = {Signal.TRACES: [(OwedRange(Position(4), Position(5)),)]}


@pytest.fixture
def file() -> Any:
    """A log of spans alone with rows 1 to 6."""
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, received_ns, monotonic_ns, parts, body, spans,"
        " raw_bytes)"
    )
    values = [(row, 10, 20, b"parts", b"body", 3, 40) for row in range(1, 7)]
    connection.executemany("INSERT INTO rows VALUES (?,?,?,?,?,?,?)", values)
    return SimpleNamespace(connection=connection, run=SimpleNamespace(first_row=0), last_row=6)


def found(gaps: Gaps, file: Any, at_once: int) -> list[int]:
    return [free.row for _gap, free in gaps.rows(file, OWED, at_once)]  # type: ignore[arg-type]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_rows_that_nobody_is_owed_are_found_until_they_have_gone(file: Any, at_once: int) -> None:
    gaps = Gaps()
    for _ in range(2):
        assert found(gaps, file, at_once) == [1, 2, 3, 5, 6]

    file.connection.execute("DELETE FROM rows WHERE id IN (1, 2, 5)")
    for _ in range(2):
        assert found(gaps, file, at_once) == [3, 6]


def test_rows_of_a_log_of_many_signals_are_found_so_too_without_passing_holes_again(
    file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def stretches(_file: Any, _signal: Signal, first: int, last: int) -> list[tuple[int, int]]:
        asked.append(first)
        return [(first, last)] if first <= last else []

    monkeypatch.setattr(signal_runs, "stretches", stretches)
    file.run.first_row = 1
    gaps = Gaps()
    for _ in range(2):
        assert found(gaps, file, 100) == [1, 2, 3, 5, 6]
    file.connection.execute("DELETE FROM rows WHERE id IN (1, 2, 5)")
    for _ in range(2):
        assert found(gaps, file, 100) == [3, 6]

    assert asked == [0, 5, 1, 5, 1, 5, 3, 6]


def test_row_tells_what_it_takes_on_disk(file: Any) -> None:
    _gap, free = next(Gaps().rows(file, OWED, 100))  # type: ignore[arg-type]

    assert (free.received_ns, free.monotonic_ns, free.stored_bytes) == (10, 20, 9)
    assert (free.items, free.raw_bytes) == (3, 40)


def test_signal_without_a_list_is_left_alone(file: Any) -> None:
    assert list(Gaps().rows(file, {}, 100)) == []


def test_whoever_stops_at_the_first_row_has_not_read_many(file: Any) -> None:
    file.last_row = 10_000
    values = [(row, 10, 20, b"parts", b"body", 3, 40) for row in range(7, 10_001)]
    file.connection.executemany("INSERT INTO rows VALUES (?,?,?,?,?,?,?)", values)
    asked: list[int] = []

    def note(_cursor: Any, _statement: str, bindings: Any) -> bool:
        asked.append(bindings[-1])
        return True

    file.connection.exec_trace = note
    next(Gaps().rows(file, OWED, 512))  # type: ignore[arg-type]
    assert sum(asked) <= 8

    asked.clear()
    assert len(found(Gaps(), file, 512)) == 9_999
    assert len(asked) <= 22  # and whoever goes on asks for many at once


def test_gaps_that_lie_close_are_looked_into_at_once_and_those_far_apart_alone(file: Any) -> None:
    file.last_row = 5000
    owed = {Signal.TRACES: [(*map(owed_ranges.row_range, range(2, 201, 2)), FAR)]}
    asked: list[tuple[int, int]] = []

    def note(_cursor: Any, _statement: str, bindings: Any) -> bool:
        asked.append(bindings[:2])
        return True

    file.connection.exec_trace = note
    assert [free.row for _gap, free in Gaps().rows(file, owed, 512)] == [1, 3, 5]
    assert len(asked) <= 5
    assert max(end - start for start, end in asked) <= 200


@given(st.data())
def test_rows_found_are_those_that_are_kept_and_that_nobody_of_their_signal_is_owed(
    data: st.DataObject,
) -> None:
    signals = data.draw(st.lists(st.sampled_from(Signal), min_size=1, max_size=20))
    rows = range(1, len(signals) + 1)
    some_rows = st.sets(st.sampled_from(rows))
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, received_ns, monotonic_ns, parts, body, spans,"
        " raw_bytes);"
        "CREATE TABLE signal_runs (first_row INTEGER PRIMARY KEY, signal, sums);"
        "CREATE TABLE tallies (name TEXT PRIMARY KEY, value)"
    )
    before = {signal: Totals() for signal in Signal}
    runs: list[Run] = []
    for row, signal in zip(rows, signals, strict=True):
        if not runs or runs[-1].signal is not signal:
            runs.append(Run(row, signal, dict(before)))
        before[signal] = before[signal] + Totals(1, 3, 40)
    signal_runs.write(connection, runs)
    kept = data.draw(some_rows)
    connection.executemany("INSERT INTO rows VALUES (?,1,2,'','',3,40)", [(row,) for row in kept])
    owed_rows = {
        signal: data.draw(some_rows) for signal in data.draw(st.sets(st.sampled_from(Signal)))
    }
    owed = {
        signal: [tuple(map(owed_ranges.row_range, sorted(owes)))]
        for signal, owes in owed_rows.items()
    }
    file: Any = SimpleNamespace(connection=connection, run=runs[-1], last_row=len(signals))
    gaps = Gaps()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaps_module, "_AT_ONCE", data.draw(st.integers(1, 3)))
        patch.setattr(gaps_module, "_APART_ROWS", data.draw(st.integers(0, 3)))
        for _ in range(3):
            pairs = list(gaps.rows(file, owed, data.draw(st.integers(1, 5))))
            wanted = [
                row
                for row in sorted(kept)
                if signals[row - 1] in owed and row not in owed_rows[signals[row - 1]]
            ]
            assert [free.row for _gap, free in pairs] == wanted
            for gap, free in pairs:
                assert gap.of <= gap.first <= free.row < gap.end
                assert gap.signal is signals[free.row - 1]
            gone = set(wanted) & data.draw(some_rows)
            connection.executemany("DELETE FROM rows WHERE id = ?", [(row,) for row in gone])
            kept -= gone
