"""The house of one file, kept by a clock that is set: what is due when, and how long to sleep."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from relay.buffer import owed_ranges
from relay.buffer.settings import MIB
from relay.buffer.sqlite import housekeeping
from relay.buffer.sqlite.backlogs import Backlogs
from relay.buffer.sqlite.dead_letter_table import DeadLetterTable
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.housekeeping import BUSY_NS, Housekeeping
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.open import open_file
from relay.buffer.sqlite.pending_acks import PendingAck
from relay.buffer.sqlite.rows import Group, build_group
from relay.buffer.sqlite.space import history
from relay.buffer.sqlite.space.row_age import RowAges
from relay.buffer.sqlite.space.space import COMMIT_OVERHEAD_BYTES
from relay.buffer.sqlite.types import Persisted
from relay.model.counters import Counters
from relay.model.records import Health
from tests.unit.buffer.making import (
    NOW_NS,
    SETTINGS,
    a_letter,
    noise,
    piece,
    rejected_span,
    request,
    trace_id,
)

ROOM = replace(SETTINGS, max_size_bytes=64 * MIB)
ALL = owed_ranges.open_from(1)
AT_ONCE = 0.001


class Time:
    """Stands for `time` wherever the house asks it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def uptime(self) -> int:
        return round(self.now * 1e9)

    def wall(self) -> int:
        return NOW_NS + self.uptime()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    for module in ("counters_table", "high_water", "space.history", "space.eviction"):
        monkeypatch.setattr(f"relay.buffer.sqlite.{module}.time", made)
    monkeypatch.setattr("relay.buffer.sqlite.space.reserve.monotonic", made.monotonic)
    return made


class Kept:
    """A file and its house, as the writer's thread has them."""

    def __init__(self, state_dir: Path, time: Time) -> None:
        self.time = time
        self.directory = StateDirectory(state_dir)
        self.directory.enter()
        self.ledger = Ledger(ROOM, Counters(), time.wall)
        nobody: Any = None
        backlogs = Backlogs(self.ledger, nobody)
        backlogs.health = lambda: {"a": Health(0, None, NOW_NS)}  # type: ignore[method-assign]
        self.backlogs = backlogs
        self.file, _ = open_file(self.directory, ROOM, vfs=None)
        self.begin()

    def begin(self) -> None:
        """A house as a process has it that opens the file."""
        ages = RowAges(self.time.wall, self.time.uptime, lambda: 7)
        self.house = Housekeeping(self.directory, ages, self.ledger, self.backlogs)
        self.house.look(self.file)

    def close(self) -> None:
        self.file.close(checkpoint=True)
        self.directory.leave()

    def commit(self, *bodies: bytes, letters: int = 0, **acks: owed_ranges.Ranges) -> Group:
        """Requests and what destinations are owed, in one transaction."""
        sent = [request(piece(body), received_ns=self.time.wall()) for body in bodies]
        sent += [request(rejected=(rejected_span(),)) for _ in range(letters)]
        group = build_group(
            sent,
            after_row=self.file.last_row,
            totals=self.file.totals,
            settings=ROOM,
            uptime=self.time.uptime,
        )
        states = {name: PendingAck(ranges) for name, ranges in acks.items()}
        self.file.commit(group, states, now_ns=self.time.wall())
        self.house.committed(self.file, group, states)
        return group

    def step(self, *, is_idle: bool = True) -> bool:
        return self.house.step(self.file, is_idle=is_idle)

    def turn(self) -> float:
        """Sleep as long as the writer would, and keep house if that is due; how long it was."""
        seconds = self.house.wait_seconds(is_full=False)
        self.time.now += seconds
        if not self.house.postpones(is_full=False):
            self.step()
        return round(seconds, 3)

    def turns(self, count: int) -> list[float]:
        return [self.turn() for _ in range(count)]


@pytest.fixture
def kept(tmp_path: Path, time: Time) -> Iterator[Kept]:
    made = Kept(tmp_path, time)
    yield made
    made.close()


def test_with_nothing_to_do_it_wakes_once_a_minute(kept: Kept) -> None:
    assert kept.turns(2) == [AT_ONCE, 0.999]  # what it must know at the next start is written
    kept.turns(2)
    assert kept.turns(3) == [60.0, 60.0, 60.0]


def test_while_something_is_owed_it_looks_every_few_seconds(kept: Kept) -> None:
    kept.turns(4)
    kept.commit(b"one", a=ALL)
    assert kept.turns(4) == [AT_ONCE, 0.049, 5.0, 5.0]
    kept.time.now += 5
    assert kept.step()  # and what it found is told
    kept.commit(a=owed_ranges.open_from(2))
    kept.turns(12)
    assert kept.turns(2) == [60.0, 60.0]


def test_step_waits_for_a_moment_unless_somebody_needs_it(kept: Kept) -> None:
    kept.turns(4)

    def postpones(*, is_full: bool = False) -> bool:
        return kept.house.postpones(is_full=is_full)

    assert postpones()
    assert kept.house.wait_seconds(is_full=False) == pytest.approx(0.05)
    assert kept.house.wait_seconds(is_full=True) == pytest.approx(0.25)
    assert not postpones(is_full=True)
    for _ in range(20):
        kept.commit(b"small")
    assert postpones()
    kept.step()
    kept.commit(noise(ROOM.checkpoint_limit_bytes // 2))
    assert postpones()
    kept.commit(noise(ROOM.checkpoint_limit_bytes // 2))
    assert not postpones()
    kept.step()
    assert postpones()
    kept.time.now += BUSY_NS / 1e9 - 0.0001
    assert postpones()
    assert kept.house.wait_seconds(is_full=False) == AT_ONCE
    kept.time.now += 0.0001
    assert not postpones()


def test_delivered_row_goes_when_its_time_is_over(kept: Kept) -> None:
    kept.house.reload(replace(ROOM, keep_delivered_seconds=10), kept.file)
    kept.turns(4)
    kept.commit(b"one", b"two", a=ALL)
    kept.time.now += 3
    kept.commit(b"three", a=owed_ranges.open_from(2))
    began = kept.time.now
    while kept.file.kept.rows == 2:
        assert kept.turn() > 0
    assert kept.time.now - began == pytest.approx(7.0, abs=0.3)
    kept.commit(a=owed_ranges.open_from(3))
    while kept.file.kept.rows:
        assert kept.turn() > 0
    assert kept.time.now - began == pytest.approx(10.0, abs=0.3)


def test_old_letter_goes_once_a_minute_and_too_many_at_once(kept: Kept) -> None:
    kept.turns(4)
    settings = replace(ROOM, dead_letter_seconds=30)
    kept.file.letters.settings = settings
    began = kept.time.now
    kept.commit(letters=1)
    while kept.file.letters.counts:
        assert kept.turn() > 0
    assert kept.time.now - began == pytest.approx(60.0, abs=0.2)
    kept.commit(letters=3)
    kept.file.letters.settings = replace(settings, dead_letter_bytes=1)
    assert kept.step()
    assert not kept.file.letters.counts


def test_commits_are_told_whole_now_and_then_but_their_end_at_once(kept: Kept) -> None:
    ledger = kept.ledger
    kept.commit(b"one")
    assert (ledger.published.first_row, ledger.published.oldest_received_ns) == (
        1,
        kept.time.wall(),
    )
    kept.step()
    kept.house.publish(kept.file)
    assert not kept.step()  # all is told
    for _ in range(2):
        told = ledger.published
        kept.commit(b"more")
        kept.commit(b"more")
        assert ledger.published is told
        assert ledger.sums is not None
        assert ledger.sums.last_row == kept.file.last_row
        assert kept.step()  # there is more to tell
        kept.time.now += BUSY_NS / 1e9 - 0.0001
        kept.commit(b"more")
        assert ledger.published is told
        kept.time.now += 0.0001
        kept.commit(b"more")
        assert ledger.published is not told
    told = ledger.published
    kept.commit(letters=1)
    assert ledger.published is not told
    assert ledger.published.dead_letters[""].count == 1


def test_room_is_never_taken_for_larger_than_it_is(kept: Kept) -> None:
    space = kept.house.space
    for body in (b"small", noise(300_000), noise(1_000_000)):
        space.measure(kept.file.connection)
        kept.commit(body)
        estimated = space.room_bytes
        space.measure(kept.file.connection)
        assert estimated <= space.room_bytes


def test_limit_that_is_lowered_is_not_taken_for_a_buffer_that_fills(kept: Kept) -> None:
    kept.commit(b"one", a=ALL)
    kept.turns(16)
    kept.house.reload(replace(ROOM, max_size_bytes=32 * MIB), kept.file)
    kept.turns(4)
    kept.house.publish(kept.file)
    found = kept.ledger.published
    assert (found.owed_rows, found.full_in_seconds) == (1, None)


def test_log_is_written_back_after_so_many_small_commits(kept: Kept) -> None:
    kept.turns(4)
    need = kept.commit(b"small").need_bytes
    count = 1
    while kept.house.postpones(is_full=False):
        kept.commit(b"small")
        count += 1
    assert count == math.ceil(ROOM.checkpoint_limit_bytes / (need + COMMIT_OVERHEAD_BYTES / 4))


def test_row_that_nobody_is_owed_any_more_by_a_transaction_goes_as_any_other(kept: Kept) -> None:
    kept.house.reload(replace(ROOM, keep_delivered_seconds=10), kept.file)
    kept.commit(b"one", a=ALL)
    kept.commit(b"two")
    kept.turns(16)
    delivered = Persisted(owed_ranges.open_from(2), is_paused=False)
    kept.file.work(lambda it: it.write_destination("a", delivered))
    kept.house.transacted(kept.file, 0)
    kept.turns(32)
    assert kept.file.kept.rows == 1


def test_transaction_that_deletes_rows_tells_which_is_the_first(kept: Kept) -> None:
    kept.commit(b"one")
    kept.time.now += 1
    kept.commit(b"two")
    kept.file.work(lambda it: history.let_go(it, 1, 1))
    kept.house.transacted(kept.file, 0)
    published = kept.ledger.published
    assert (published.first_row, published.oldest_received_ns) == (2, kept.time.wall())
    assert kept.house.space.written_bytes == 0  # and by a fresh look at the disk
    assert kept.house._history.used_bytes(kept.file) > 0
    kept.file.work(lambda it: history.let_go(it, 2, 2))
    kept.house.transacted(kept.file, 0)
    published = kept.ledger.published
    assert (published.first_row, published.oldest_received_ns) == (0, 0)


def test_first_row_that_cannot_be_read_is_told_as_none(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise apsw.CorruptError("a page of the table")

    kept.commit(b"one")
    monkeypatch.setattr(housekeeping, "fetch", damaged)
    kept.house.transacted(kept.file, 0)
    published = kept.ledger.published
    assert (published.first_row, published.oldest_received_ns) == (0, 0)


def test_dead_letter_of_a_destination_is_told_at_once(kept: Kept) -> None:
    kept.commit(b"one")
    kept.commit(b"two")
    states = {"a": PendingAck(ALL, letters=[a_letter(trace_id(1))])}
    kept.file.commit(Group(), states, now_ns=kept.time.wall())
    kept.house.committed(kept.file, Group(), states)
    assert kept.ledger.published.dead_letters["a"].count == 1


def test_letter_that_stays_is_no_news(kept: Kept) -> None:
    kept.turns(4)
    kept.commit(letters=1)
    kept.turns(4)
    kept.time.now += 60
    assert not kept.step()
    assert kept.house.wait_seconds(is_full=False) > AT_ONCE


def test_file_that_is_opened_says_at_once_how_large_it_is(kept: Kept) -> None:
    kept.commit(noise(1_000_000))
    kept.house.look(kept.file)
    assert kept.house.space.database_bytes + kept.house.space.wal_bytes > 1_000_000


def test_reserve_that_is_missing_is_looked_after_every_few_seconds(kept: Kept) -> None:
    kept.turns(7)
    kept.house.space.reserve.give_back()
    assert kept.turns(1) == [5.0]
    assert kept.house.space.missing_reserve_bytes == 0


def delivered(kept: Kept, count: int) -> None:
    """So many rows of a MiB, delivered just now."""
    kept.commit(*[noise(MIB, number) for number in range(count)], a=ALL)
    kept.commit(a=owed_ranges.open_from(count + 1))


def test_room_is_made_for_what_would_fit_into_an_empty_buffer(kept: Kept) -> None:
    delivered(kept, 8)
    half = ROOM.max_size_bytes // 2
    assert kept.house.make_room(kept.file, half)
    assert kept.file.kept.rows == 8
    assert kept.house.make_room(kept.file, 22 * MIB)
    assert kept.house._history.used_bytes(kept.file) > 0
    assert kept.file.kept.rows < 8
    assert kept.house.space.fits(kept.file.connection, 22 * MIB)
    kept.house.make_room(kept.file, half - 1)
    assert kept.file.kept.rows == 0


def test_free_pages_are_given_up_where_it_is_the_disk_that_has_no_room(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(kept, 8)
    kept.house.make_room(kept.file, ROOM.max_size_bytes // 2 - 1)
    kept.house.fits_any(kept.file)
    space = kept.house.space
    free = space.freelist_bytes
    assert free > 4 * MIB
    assert space.database_bytes + free == Path(kept.file.connection.filename).stat().st_size
    rows = kept.house.make_room(kept.file, MIB)
    assert rows
    assert space.freelist_bytes == free
    monkeypatch.setattr(kept.directory, "free_bytes", lambda: 2 * MIB)
    kept.house.make_room(kept.file, MIB)
    assert space.freelist_bytes == 0


def test_while_nothing_else_is_to_be_done_free_pages_are_given_back_at_once(kept: Kept) -> None:
    delivered(kept, 12)
    kept.turns(4)
    kept.house.make_room(kept.file, ROOM.max_size_bytes // 2 - 1)
    before = kept.house.space.freelist_bytes
    kept.step(is_idle=False)
    assert kept.house.space.freelist_bytes == before
    turns = 0
    kept.turn()
    while kept.turn() == AT_ONCE:
        turns += 1
    assert turns >= (before - 5 * MIB) // MIB
    assert kept.house.space.freelist_bytes <= 5 * MIB


def test_reserve_is_given_up_for_a_file_only_where_the_disk_is_full(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept.directory, "free_bytes", lambda: MIB)
    assert not kept.house.open_on_full_disk()
    assert kept.house.space.reserve.bytes
    monkeypatch.setattr(kept.directory, "free_bytes", lambda: MIB - 1)
    assert kept.house.open_on_full_disk()
    assert not kept.house.space.reserve.bytes
    assert not kept.house.open_on_full_disk()


def test_what_filled_the_file_before_says_nothing_of_one_that_is_opened(kept: Kept) -> None:
    kept.commit(b"one", a=ALL)
    for number in range(12):
        kept.commit(noise(200_000, number))
        kept.time.now += 5
        kept.step()
    kept.house.publish(kept.file)
    assert kept.ledger.published.full_in_seconds is not None
    kept.house.look(kept.file)
    kept.step()
    kept.house.publish(kept.file)
    assert kept.ledger.published.full_in_seconds is None


def test_log_is_written_back_and_cut_once_it_is_long(kept: Kept) -> None:
    kept.turns(4)
    path = Path(kept.file.connection.filename)
    kept.commit(noise(ROOM.checkpoint_limit_bytes))
    written = kept.directory.wal_bytes()
    assert path.stat().st_size < ROOM.checkpoint_limit_bytes
    kept.step()
    assert path.stat().st_size > ROOM.checkpoint_limit_bytes
    assert kept.directory.wal_bytes() == written <= ROOM.truncate_limit_bytes
    kept.commit(noise(ROOM.truncate_limit_bytes))
    assert kept.directory.wal_bytes() > ROOM.truncate_limit_bytes
    kept.step()
    assert kept.directory.wal_bytes() == 0


def test_letters_that_could_not_be_trimmed_count_as_before(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.turns(4)
    kept.commit(letters=3)
    counts = kept.file.letters.counts

    def trim(self: DeadLetterTable, *, now_ns: int) -> int:
        self.remove([1])
        raise apsw.IOError("disk I/O error")

    monkeypatch.setattr(DeadLetterTable, "trim", trim)
    kept.time.now += 60
    with pytest.raises(apsw.IOError):
        kept.step()
    assert kept.file.letters.counts == counts
    assert kept.file.letters.having([1, 2, 3]) == [1, 2, 3]


def test_before_there_is_no_room_rows_go_that_are_young_but_delivered(kept: Kept) -> None:
    kept.turns(4)
    delivered(kept, 42)
    assert kept.house.space.room_bytes < 8 * MIB
    kept.turns(30)
    assert 30 < kept.file.kept.rows < 42
    assert not kept.house.space.is_low
    kept.house.publish(kept.file)
    published = kept.ledger.published
    assert published.first_row == 43 - kept.file.kept.rows


def test_reserve_is_given_back_where_the_disk_is_full_and_for_no_other_error(kept: Kept) -> None:
    assert not kept.house.no_space(apsw.IOError("disk I/O error"), kept.file)
    assert kept.house.space.reserve.bytes
    assert kept.house.no_space(apsw.FullError("database or disk is full"), kept.file)
    assert not kept.house.space.reserve.bytes


def test_counts_are_taken_up_by_the_next_process_as_they_are(kept: Kept) -> None:
    kept.file.add_counter("evicted:a", 7)
    kept.begin()
    for _ in range(2):
        kept.house.leave(kept.file)
        counters = kept.file.counters()
        assert (counters["evicted:a"], counters["boot"]) == (7, 7)
        kept.begin()
        kept.house.leave(kept.file)
        assert kept.file.counters() == counters
        assert kept.house.eviction.items == {"a": 7}


def test_time_of_failing_is_written_down_up_to_the_end(kept: Kept) -> None:
    kept.backlogs.health = lambda: {"a": Health(NOW_NS, None, 0)}  # type: ignore[method-assign]
    kept.commit(b"one", a=ALL)
    kept.step()
    kept.time.now += 4
    kept.house.leave(kept.file)
    assert kept.file.counters()["failing_seconds:a"] == 4


def test_limit_and_disk_are_those_of_now(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.house.reload(replace(ROOM, max_size_bytes=32 * MIB), kept.file)
    assert kept.house.space.reserve.bytes == 8 * MIB
    assert kept.house.fits_any(kept.file)
    monkeypatch.setattr(kept.directory, "free_bytes", lambda: 0)
    assert not kept.house.fits_any(kept.file)


def test_rows_that_are_old_go_step_by_step_without_a_pause(kept: Kept) -> None:
    kept.house.reload(replace(ROOM, keep_delivered_seconds=10), kept.file)
    delivered(kept, 5)
    kept.time.now += 11
    kept.house.publish(kept.file)
    assert kept.step()  # there is news
    assert kept.file.kept.rows == 4
    while kept.file.kept.rows:
        assert kept.turn() == AT_ONCE
    assert kept.house._history.used_bytes(kept.file) > 0
