"""How much one step of retention takes, and where it ends."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import apsw
import pytest

from relay.buffer import owed_ranges
from relay.buffer.settings import MIB
from relay.buffer.sqlite import counters_table
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.space import retention
from relay.buffer.sqlite.space.gaps import FreeRow, Gap, Gaps
from relay.buffer.sqlite.space.retention import SHRINK_BYTES, Retention, shrink
from relay.buffer.sqlite.space.row_age import RowAges
from relay.model.records import Signal
from tests.unit.buffer.log_files import append, log_file
from tests.unit.buffer.making import NOW_NS, SETTINGS

LARGE = replace(SETTINGS, max_size_bytes=1024 * MIB)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets rows of these sizes be all that nobody needs, from row 1 on."""

    def put(*sizes: int) -> None:
        gap = Gap(1, len(sizes) + 1, Signal.TRACES, 1)
        rows = [
            (gap, FreeRow(row, NOW_NS, 0, size, 1, size)) for row, size in enumerate(sizes, start=1)
        ]
        monkeypatch.setattr(Gaps, "rows", lambda *_: iter(rows))

    return put


def taken(by: Retention, is_old: Callable[[int, int, int], bool] | None = None) -> list[int]:
    chosen = by.choose(cast("LogFile", None), {}, is_old)
    return [each.row for each in chosen.rows.get(Signal.TRACES, [])]


@pytest.mark.parametrize(
    ("row_bytes", "count"), [(100, 512), (300_000, 3), (2 * MIB, 1)], ids=["rows", "bytes", "one"]
)
def test_a_step_takes_so_many_rows_or_bytes(
    free: Callable[..., None], row_bytes: int, count: int
) -> None:
    free(*[row_bytes] * 999)
    assert taken(Retention(LARGE, RowAges())) == list(range(1, count + 1))


@pytest.mark.parametrize(("max_size", "count"), [(MIB, 2), (8 * MIB, 2), (16 * MIB, 4)])
def test_a_step_takes_no_large_share_of_a_small_buffer(
    free: Callable[..., None], max_size: int, count: int
) -> None:
    free(*[MIB // 8] * 99)
    by = Retention(replace(SETTINGS, max_size_bytes=max_size), RowAges())
    assert len(taken(by)) == count


def test_a_step_takes_what_fits_to_the_byte_and_nothing_behind_what_does_not(
    free: Callable[..., None],
) -> None:
    by = Retention(LARGE, RowAges())
    free(MIB - 100, 100, 1)
    assert taken(by) == [1, 2]
    free(MIB - 100, 101, 1)
    assert taken(by) == [1]


def test_a_step_ends_at_the_first_row_that_is_too_young(free: Callable[..., None]) -> None:
    """By a clock that was set back a later one may look older: rows go in their order."""
    free(1, 1, 1, 1)
    assert taken(Retention(LARGE, RowAges()), lambda row, *_: row != 3) == [1, 2]


def test_a_step_grows_while_the_disk_is_fast_and_shrinks_while_it_is_slow(
    free: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(*[100_000] * 99)
    by = Retention(LARGE, RowAges())
    now = [0.0]
    monkeypatch.setattr(retention, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def count_after(seconds: float) -> int:
        now[0] = 0.0
        with by.timed():
            now[0] = seconds
        return len(taken(by))

    assert [count_after(0.0049) for _ in range(3)] == [20, 41, 41]
    assert [count_after(0.005), count_after(0.01), count_after(0.015)] == [41, 41, 41]
    assert [count_after(0.0151) for _ in range(5)] == [20, 10, 5, 2, 2]


def test_free_pages_are_given_back_when_there_are_more_than_the_next_rows_need() -> None:
    connection = apsw.Connection(":memory:")

    def gives_back(freelist_bytes: int, **named: int) -> bool:
        return shrink(connection, freelist_bytes=freelist_bytes, **named)

    assert not gives_back(4 * MIB + SHRINK_BYTES)
    assert gives_back(4 * MIB + SHRINK_BYTES + 1)
    assert not gives_back(0, keep_bytes=0)
    assert gives_back(1, keep_bytes=0)


def test_sums_of_a_signal_follow_each_step_that_takes_some_of_its_rows(tmp_path: Path) -> None:
    with log_file(tmp_path) as file:
        for _ in range(3):
            append(file, b"{}", signal=Signal.LOGS)
        for kept in (2, 1):
            owed = {Signal.LOGS: [owed_ranges.open_from(4 - kept)]}
            chosen = Retention(SETTINGS, RowAges()).choose(file, owed)
            file.work(partial(retention.remove, chosen=chosen))
            assert file.standing.kept(Signal.LOGS).rows == kept
        assert file.gone_by_signal == counters_table.gone_by_signal(file.connection)
