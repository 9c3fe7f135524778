"""Looking for traces a window of rows at a time, so that no statement holds the log up."""

import apsw
import pytest

from relay.buffer.sqlite import trace_queries
from relay.buffer.sqlite.trace_queries import batches, count_kept

ONE, TWO, OTHER = (bytes([number]) * 16 for number in (1, 2, 3))


def test_kept_rows_of_traces_are_counted_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_queries, "_COUNTED_ROWS", 2)
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE traces (row INTEGER PRIMARY KEY, ids BLOB)")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY)")
    held = [(11, OTHER + ONE), (12, OTHER), (13, ONE + TWO), (14, ONE), (15, TWO)]
    connection.executemany("INSERT INTO traces VALUES (?,?)", held)
    connection.executemany("INSERT INTO rows VALUES (?)", [(11,), (12,), (13,), (15,)])

    traces = frozenset((ONE, TWO))
    assert count_kept(connection, traces, 0) == (1, 12)
    assert count_kept(connection, traces, 12) == (1, 14)  # 14 has gone, its ids have not
    assert count_kept(connection, traces, 14) == (1, None)
    assert count_kept(connection, frozenset((ONE,)), 14) == (0, None)
    assert count_kept(connection, frozenset((ONE,)), 12) == (1, 14)


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 1000])
def test_rows_are_asked_for_in_runs_that_hold_each_once(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(trace_queries, "_PLACES", 200)
    runs = batches(range(count))

    assert [row for run in runs for row in run] == list(range(count))
    assert all(0 < len(run) <= 200 for run in runs)
    assert len(runs) == -(-count // 200)


@pytest.mark.parametrize(
    ("step", "took", "wanted"),
    [
        (4_000, 20, 2_000),  # slow: half of it next time
        (4_000, 15, 4_000),  # as long as it may take
        (4_000, 10, 4_000),
        (4_000, 6, 4_000),
        (4_000, 1, 8_000),  # fast: twice as much
        (700, 20, 500),  # never less than what is worth a statement
        (30_000, 1, 40_000),  # nor more than what one may take
    ],
)
def test_window_of_a_search_follows_how_long_the_last_one_took(
    monkeypatch: pytest.MonkeyPatch, step: int, took: int, wanted: int
) -> None:
    monkeypatch.setattr(trace_queries, "_SLOW_SECONDS", 15)
    monkeypatch.setattr(trace_queries, "_FAST_SECONDS", 6)
    monkeypatch.setattr("relay.buffer.sqlite.trace_queries.time.monotonic", lambda: 100.0 + took)

    assert trace_queries._next_step(step, 100.0) == wanted
