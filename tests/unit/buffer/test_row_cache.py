"""The newest rows in memory: always as many as fit, of all signals together."""

import sys
from dataclasses import replace
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from relay.buffer.sqlite.row_cache import RowCache
from relay.buffer.sqlite.types import Budget
from relay.model.records import BodyFlag, Encoding, Signal, StoredRow

LIMIT_BYTES = 100


def row_of(number: int, signal: Signal, size: int) -> StoredRow:
    return StoredRow(number, 0, Encoding.JSON, BodyFlag.NONE, 1, bytes(size), signal=signal)


def everything() -> Budget:
    return Budget(sys.maxsize, sys.maxsize, None, one_encoding=False, is_first=True)


@given(st.lists(st.tuples(st.sampled_from(Signal), st.integers(0, 60)), min_size=1, max_size=40))
def test_the_newest_rows_that_fit_are_there_and_older_ones_are_elsewhere(
    made: list[tuple[Signal, int]],
) -> None:
    cache = RowCache(LIMIT_BYTES)
    rows = [row_of(number, *each) for number, each in enumerate(made, 1)]
    for row in rows:
        cache.add(row)

    sizes = accumulate(len(row.body) for row in reversed(rows))
    kept = rows[len(rows) - sum(size <= LIMIT_BYTES for size in sizes) :]
    assert cache.stored_bytes == sum(len(row.body) for row in kept)
    for signal in Signal:
        own = [row for row in rows if row.signal is signal]
        there = [row for row in own if cache.get(row.row) is row]
        # A row of no bytes at the edge may stay or go.
        assert [row for row in there if row.body] == [
            row for row in own if row in kept and row.body
        ]
        gone = max((row.row for row in own if row not in there), default=0)
        chunk = cache.read(signal, gone + 1, len(rows), everything())
        assert chunk is not None
        assert chunk.rows == there
        if gone:
            assert cache.read(signal, gone, len(rows), everything()) is None


def test_of_what_came_before_a_row_that_does_not_follow_nothing_is_there() -> None:
    cache = RowCache(LIMIT_BYTES)
    for number, signal in ((1, Signal.TRACES), (2, Signal.LOGS), (5, Signal.TRACES)):
        cache.add(row_of(number, signal, 1))

    assert [number for number in range(1, 9) if cache.get(number) is not None] == [5]
    assert cache.stored_bytes == 1
    for signal in Signal:
        assert cache.first(signal, 4) is None
        assert cache.read(signal, 4, 5, everything()) is None
    assert cache.read(Signal.LOGS, 5, 5, everything()) is not None
    cache.add(row_of(6, Signal.LOGS, 1))
    assert [number for number in range(1, 9) if cache.get(number) is not None] == [5, 6]
    for number in (7, 8, 9):
        cache.add(row_of(number, Signal.TRACES, 60))
        assert [each for each in range(1, 10) if cache.get(each) is not None][-1] == number
    assert [number for number in range(1, 10) if cache.get(number) is not None] == [9]


def test_the_oldest_time_is_that_of_the_first_row_of_a_signal() -> None:
    cache = RowCache(LIMIT_BYTES)
    for number, signal in enumerate((Signal.LOGS, Signal.TRACES, Signal.TRACES), start=1):
        cache.add(replace(row_of(number, signal, 1), received_ns=number))

    assert [cache.oldest_received_ns(signal) for signal in Signal] == [2, 1, 0]
