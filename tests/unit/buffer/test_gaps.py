"""Rows that nobody needs are found again each time until they have gone, and holes only once."""

from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from relay.buffer.sqlite import signal_runs
from relay.buffer.sqlite.space.gaps import Gaps
from relay.model.records import OwedRange, Position, Signal

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
