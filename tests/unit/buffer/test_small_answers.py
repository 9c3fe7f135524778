"""What single parts of the engine answer: pages of letters, counts, sums by signal, statistics."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.buffer.settings import MIB
from relay.buffer.sqlite import counters_table, dead_letter_queries
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.counters_table import CounterSchedule
from relay.buffer.sqlite.signal_runs import FileSums, Run
from relay.buffer.sqlite.space.eviction import Eviction
from relay.buffer.sqlite.space.gaps import FreeRow, Gap
from relay.buffer.sqlite.space.retention import Chosen
from relay.buffer.sqlite.types import GoneRow, Totals
from relay.buffer.values import DeadLetterFilter, packed_index
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable
from relay.model.records import DeadLetter, Encoding, OwedRange, Position, Signal
from tests.unit.buffer.making import (
    NOW_NS,
    SETTINGS,
    eventually,
    opened,
    piece,
    rejected_span,
    request,
    take,
)

pytestmark = pytest.mark.anyio
TRACES, LOGS, METRICS = Signal


async def test_page_of_letters_is_a_window_and_says_where_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_queries, "WINDOW", 3)
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        letters = [DeadLetter("a", "other", f"{n}", 1, Encoding.JSON, b"") for n in range(7)]
        letters[3] = replace(letters[3], signal=LOGS)
        assert await buffer.dead_letters.newest_id() == 0
        backlog.changed((), letters)
        await buffer.flush()
        read = buffer.dead_letters

        async def down(before: int, **wanted: Any) -> tuple[list[int], int | None]:
            page = await read.newest_first(DeadLetterFilter(**wanted), before)
            return [each.letter_id for each in page.entries], page.edge

        async def up(after: int, **wanted: Any) -> tuple[list[int], int | None]:
            page = await read.oldest_first(DeadLetterFilter(**wanted), after)
            return [each.letter_id for each in page.entries], page.edge

        assert await read.newest_id() == 7
        assert await down(100) == ([7, 6, 5], 5)
        assert await down(5) == ([4, 3, 2], 2)
        assert await down(4) == ([3, 2, 1], 1)
        assert await down(2) == ([1], None)
        assert await down(100, until=6) == ([6, 5], 5)
        assert await down(100, until=4) == ([], 5)
        assert await down(5, until=6) == ([4, 3, 2], 2)
        assert await down(4, ids=(5, 1, 4, 3)) == ([3, 1], None)
        assert await up(0) == ([1, 2, 3], 3)
        assert await up(3) == ([4, 5, 6], 6)
        assert await up(6) == ([7], None)
        assert await up(0, until=3) == ([1, 2, 3], None)
        assert await up(0, until=2) == ([1, 2], None)
        assert await up(0, until=4) == ([1, 2, 3], 3)
        assert await up(2, until=5, ids=(6, 5, 3, 2, 3)) == ([3, 5], None)
        assert await up(0, signal=LOGS) == ([], 3)
        assert await up(3, signal=LOGS) == ([4], 6)
        assert [each.letter_id for each in await read.bodies([6, 9, 2])] == [6, 2]


def test_counts_of_what_was_evicted_only_grow() -> None:
    nobody: Any = None
    eviction = Eviction(nobody, nobody, nobody)
    assert eviction.counters() == {}
    eviction.load({"evicted:a": 5, "evicted:b:logs": 1, "failing_seconds:a": 9})
    eviction.load({"evicted:a": 3, "evicted:b:logs": 2})
    assert eviction.items == {"a": 5, "b:logs": 2}
    assert eviction.counters() == {"evicted:a": 5, "evicted:b:logs": 2}


@pytest.fixture
def tallies() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE tallies (name TEXT PRIMARY KEY, value)")
    return connection


def test_counts_are_added_up_and_read_by_what_they_begin_with(tallies: apsw.Connection) -> None:
    counters_table.add(tallies, "evicted:a", 5)
    counters_table.add(tallies, "evicted:a", 2)
    counters_table.add(tallies, "evicted:b", 1)
    tallies.execute("INSERT INTO tallies VALUES ('evicted:c', 'hit')")
    counters_table.write(tallies, {"evicted:b": (3, 4), "hold_seconds:b": (0, None)})

    assert counters_table.read(tallies, "evicted:") == {"a": 7, "b": 4}
    assert counters_table.read(tallies) == {"evicted:a": 7, "evicted:b": 4}


def test_sums_of_what_has_gone_are_kept_by_signal(tallies: apsw.Connection) -> None:
    assert counters_table.gone_by_signal(tallies) == {}
    counters_table.add_gone(tallies, LOGS, Totals(1, 20, 300))
    counters_table.add_gone(tallies, LOGS, Totals(1, 2, 3))
    assert counters_table.gone_by_signal(tallies) == {LOGS: Totals(2, 22, 303)}


def test_counts_that_went_are_counted_no_more() -> None:
    wanted = {"hold_seconds:a": 3}
    schedule = CounterSchedule(lambda: wanted)
    schedule.opened({"hold_seconds:a": 3, "failing_seconds:b": 7, "evicted:b": 1})
    changes = schedule.due(is_last=True)
    assert changes == {"failing_seconds:b": (0, None)}
    schedule.written(changes)
    assert schedule.due(is_last=True) == {}
    wanted["hold_seconds:a"] = 4
    assert schedule.due(is_last=True) == {"hold_seconds:a": (1, 4)}
    schedule.counted("hold_seconds:a", 4)
    assert schedule.due(is_last=True) == {}


def test_sums_of_a_signal_are_those_ever_without_those_that_have_gone() -> None:
    before = {TRACES: Totals(4, 40, 400), LOGS: Totals(2, 20, 200)}
    run = Run(7, LOGS, before)
    totals = Totals(9, 90, 900)
    assert run.sums_at(totals) == {TRACES: Totals(4, 40, 400), LOGS: Totals(5, 50, 500)}

    sums = FileSums(9, run, totals, Totals(3, 30, 300), {LOGS: Totals(1, 10, 100)})
    assert sums.all_kept == Totals(6, 60, 600)
    assert sums.kept(TRACES) == Totals(2, 20, 200)
    assert sums.kept(LOGS) == Totals(4, 40, 400)
    assert sums.kept(METRICS) == Totals()


def test_run_follows_where_only_its_forerunners_signal_grew() -> None:
    run = Run(1, TRACES, {LOGS: Totals(1, 1, 1)})
    grown = {TRACES: Totals(5, 5, 5), LOGS: Totals(1, 1, 1)}
    assert run.is_followed_by(Run(6, LOGS, grown))
    assert not run.is_followed_by(Run(6, TRACES, grown))
    assert not run.is_followed_by(Run(6, LOGS, {**grown, LOGS: Totals(2, 2, 2)}))
    assert not run.is_followed_by(Run(6, LOGS, {**grown, METRICS: Totals(1, 1, 1)}))


def test_chosen_rows_are_told_by_runs_holes_and_sums() -> None:
    chosen = Chosen()
    first, second = Gap(2, 5, TRACES, 1), Gap(8, 10, LOGS, 7)
    for row, gap in ((2, first), (4, first), (8, second)):
        chosen.add(FreeRow(row, NOW_NS, 0, 100 + row, row, 10 * row), gap)

    assert chosen.runs == [(2, 4), (8, 8)]
    assert chosen.rows == {
        TRACES: [GoneRow(2, 2, 20), GoneRow(4, 4, 40)],
        LOGS: [GoneRow(8, 8, 80)],
    }
    assert chosen.ranges(TRACES) == (OwedRange(Position(1), Position(5)),)
    assert chosen.ranges(LOGS) == (OwedRange(Position(7), Position(9)),)
    assert chosen.ranges(METRICS) == ()
    assert chosen.sums() == {TRACES: Totals(2, 6, 60), LOGS: Totals(1, 8, 80)}
    assert (chosen.count, chosen.stored_bytes) == (3, 314)


async def test_statistics_tell_of_every_part_of_the_buffer(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size_bytes=64 * MIB) as buffer:
        empty = buffer.statistics()
        buffer.consumer("a")
        for number in range(1, 4):
            made = piece(b"x" * 10, spans=number)
            await buffer.append(request(made, received_ns=NOW_NS + number))
        await buffer.append(request(rejected=(rejected_span(),)))
        await eventually(lambda: "" in buffer.statistics().dead_letters)
        least = (tmp_path / "relay.db-wal").stat().st_size
        found = buffer.statistics()
        most = (tmp_path / "relay.db-wal").stat().st_size
        disk = os.statvfs(tmp_path)
    closed = buffer.statistics()

    assert (empty.rows, empty.first_row, empty.last_row, empty.oldest_received_ns) == (0, 0, 0, 0)
    assert (found.rows, found.items, found.raw_bytes) == (3, 6, 30)
    assert (found.first_row, found.last_row, found.oldest_received_ns) == (1, 3, NOW_NS + 1)
    assert found.dead_letters[""].count == 1
    assert 0 < least <= found.wal_bytes <= most
    assert abs(found.file_system_free_bytes - disk.f_bavail * disk.f_frsize) < 1 << 30
    assert found.disk_bytes == found.database_bytes + found.wal_bytes + found.reserve_bytes
    assert (found.max_size_bytes, found.reserve_bytes) == (64 * MIB, 16 * MIB)
    assert (found.is_writable, found.is_full, found.is_stalled) == (True, False, False)
    assert not closed.is_writable


def test_request_is_refused_at_once_while_a_write_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Buffer(tmp_path, SETTINGS, Counters())._writer  # its thread does not run
    monkeypatch.setattr("relay.buffer.sqlite.writer.time", Now())
    assert writer.busy_seconds == 0.0
    writer.refuse_early(0.0)
    writer.busy_since = 994.0
    assert writer.busy_seconds == 6.0
    writer.refuse_early(6.0)
    with pytest.raises(BufferUnavailable, match="for 6 s"):
        writer.refuse_early(5.9)


class Now:
    """Stands for `time`."""

    def monotonic(self) -> float:
        return 1000.0


async def test_reload_leaves_what_holds_from_the_opening_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        wanted = replace(
            SETTINGS, sync="normal", tail_bytes=1, max_size_bytes=8 * MIB, flush_seconds=0.01
        )
        buffer.reload(wanted)
        assert buffer.settings == replace(
            wanted, sync=SETTINGS.sync, tail_bytes=SETTINGS.tail_bytes
        )
        await buffer.flush()
        assert buffer.statistics().max_size_bytes == 8 * MIB


async def test_rows_are_read_by_their_ids_and_aged_by_the_clock_that_runs_on(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, tail_bytes=0) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(3):
            await buffer.append(request(piece()))
        assert buffer.last_row == 3
        await buffer.find_oldest()
        assert backlog.statistics().oldest_owed_ns == NOW_NS
        rows = await buffer.read_rows([1, 3, 9])
        (first, *_) = (await take(backlog)).rows
        age_ns = buffer.age_ns(first)

    assert [row.row for row in rows] == [1, 3]
    assert 0 < age_ns < 60 * 10**9


@given(st.lists(st.text("ab", min_size=16, max_size=16), max_size=4), st.integers(0, 63))
def test_a_packed_id_is_found_where_one_begins_and_nowhere_else(ids: list[str], at: int) -> None:
    packed = "".join(ids).encode()
    wanted = packed[at : at + 16].ljust(16, b"a")  # often across two of them

    whole = [packed[first : first + 16] for first in range(0, len(packed), 16)]
    assert packed_index(packed, wanted) == (whole.index(wanted) if wanted in whole else None)


def test_a_packed_id_is_found_behind_the_same_bytes_at_an_odd_place() -> None:
    assert packed_index(b"b" + b"a" * 15 + b"a" * 16, b"a" * 16) == 1
