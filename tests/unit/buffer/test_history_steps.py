"""What is remembered of rows that have gone: its account, to the byte, and each step of forgetting.

By a clock that is set.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from relay.buffer import owed_ranges
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.open import open_file
from relay.buffer.sqlite.rows import build_group
from relay.buffer.sqlite.schema import fetch, fetch_value
from relay.buffer.sqlite.space import history
from relay.buffer.sqlite.space.history import (
    DELIVERY_BYTES,
    ROW_BYTES,
    History,
    erase,
    forget_deliveries,
    let_go,
)
from tests.unit.buffer.making import NOW_NS, SETTINGS, piece, request

SECOND = 10**9
LATER_NS = NOW_NS + 2 * 3600 * SECOND


class Kept:
    """A file and its history, by a clock that stands still until it is set."""

    def __init__(self, directory: StateDirectory) -> None:
        self.file, _ = open_file(directory, SETTINGS, vfs=None)
        self.history = History(SETTINGS)
        self.history.look(self.file)
        self.now = 1000.0

    def append(self, count: int) -> None:
        group = build_group(
            [request(piece(traces=tuple(range(1, 2 + number)))) for number in range(count)],
            after_row=self.file.last_row,
            totals=self.file.totals,
            settings=replace(SETTINGS, row_bytes=1),
        )
        self.file.commit(group, {}, now_ns=NOW_NS)

    def remember(self, first: int, last: int) -> None:
        self.file.work(lambda it: let_go(it, first, last))
        self.history.note_remembered(self.file)

    def deliver(self, row: int, at_ns: int = NOW_NS, *, status: int = 200) -> None:
        row_range = owed_ranges.row_range(row)
        self.file.work(lambda it: it.settle("a", (row_range,), at_ns=at_ns, status=status))

    def limit(self, size: int) -> None:
        self.history.settings = replace(SETTINGS, history_bytes=size)

    def step(self, now_ns: int = NOW_NS) -> bool:
        return self.history.step(self.file, now_ns=now_ns)

    @property
    def used(self) -> int:
        return self.history.used_bytes(self.file)

    @property
    def used_on_disk(self) -> int:
        """The same, as the next process will find it."""
        found = History(SETTINGS)
        found.look(self.file)
        return found.used_bytes(self.file)

    def sizes(self) -> list[int]:
        """Of each row that is remembered."""
        query = "SELECT length(parts) + length(ids) FROM history JOIN traces USING (row)"
        return [size + ROW_BYTES for (size,) in fetch(self.file.connection, query)]

    def count(self, table: str) -> int:
        return int(fetch_value(self.file.connection, f"SELECT count(*) FROM {table}"))  # noqa: S608

    def deliveries(self) -> list[tuple[int, ...]]:
        """First row, row behind it, and seconds of each."""
        query = "SELECT start_row, end_row, at_ns FROM deliveries ORDER BY id"
        found = fetch(self.file.connection, query)
        return [(start, end, (at_ns - NOW_NS) // SECOND) for start, end, at_ns in found]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    directory = StateDirectory(tmp_path)
    directory.enter()
    made = Kept(directory)
    monkeypatch.setattr(history, "time", SimpleNamespace(monotonic=lambda: made.now))
    yield made
    made.file.close(checkpoint=True)
    directory.leave()


def test_rows_and_deliveries_count_to_the_byte(kept: Kept) -> None:
    kept.append(4)
    assert (kept.used, kept.used_on_disk) == (0, 0)
    kept.remember(1, 3)
    sizes = kept.sizes()
    assert sizes[1] - sizes[0] == 16
    assert kept.used == kept.used_on_disk == sum(sizes)
    for row in (1, 3):
        kept.deliver(row)
    assert kept.used == kept.used_on_disk == sum(sizes) + 2 * DELIVERY_BYTES
    for row in (2, 4, 9):  # of the fourth there is everything still
        kept.file.work(lambda it, row=row: erase(it, row))  # type: ignore[misc]
    kept.history.note_remembered(kept.file)
    assert kept.used == kept.used_on_disk == sizes[0] + sizes[2] + 2 * DELIVERY_BYTES
    assert (kept.count("history"), kept.count("traces"), kept.count("rows")) == (2, 3, 1)


def test_deliveries_go_with_the_oldest_that_is_kept_or_remembered(kept: Kept) -> None:
    kept.append(3)
    for row in (1, 2, 3):
        kept.deliver(row, NOW_NS + row * 2 * SECOND)
    kept.file.work(forget_deliveries)
    assert [first for first, *_ in kept.deliveries()] == [1, 2, 3]
    kept.file.letters.settings = replace(SETTINGS, history_bytes=0)
    kept.remember(1, 1)
    kept.file.work(forget_deliveries)
    assert [first for first, *_ in kept.deliveries()] == [2, 3]
    assert (kept.count("history"), kept.count("traces")) == (0, 2)
    kept.remember(2, 3)
    kept.file.work(forget_deliveries)
    assert kept.deliveries() == []


def test_the_last_eighth_of_the_limit_stays(kept: Kept) -> None:
    kept.append(2)
    kept.remember(1, 2)
    kept.limit(8 * kept.used)
    assert not kept.history.make_room(kept.file)
    kept.limit(8 * kept.used - 1)
    assert kept.history.make_room(kept.file)
    assert kept.used == kept.used_on_disk == 0


def test_over_its_limit_the_oldest_go_step_by_step_at_the_next_look(kept: Kept) -> None:
    kept.append(6)
    kept.remember(1, 6)
    for row in range(1, 7):
        kept.deliver(row, NOW_NS + row * 2 * SECOND)
    kept.limit(kept.used)
    assert not kept.step()
    kept.limit(sum(kept.sizes()[4:]) + 2 * DELIVERY_BYTES)
    kept.now += 0.125
    assert not kept.step()
    assert kept.count("history") == 6
    kept.now += 0.125
    assert [kept.step() for _ in range(5)] == [True, True, True, True, False]
    assert [first for first, *_ in kept.deliveries()] == [5, 6]
    assert (kept.count("history"), kept.count("traces")) == (2, 2)
    assert kept.used == kept.used_on_disk == sum(kept.sizes()) + 2 * DELIVERY_BYTES


def test_a_step_ends_with_the_row_that_makes_it_long_enough(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.append(5)
    kept.remember(1, 5)
    kept.limit(1)
    one, two, three, *_ = kept.sizes()
    monkeypatch.setattr(history, "_TRIM_BYTES", one + two)
    assert kept.history.make_room(kept.file)
    assert kept.count("history") == 3
    monkeypatch.setattr(history, "_TRIM_BYTES", three + 1)
    assert kept.history.make_room(kept.file)
    assert kept.count("history") == 1
    assert kept.used == kept.used_on_disk == kept.sizes()[0]


def test_a_step_takes_a_sixteenth_of_a_small_limit(kept: Kept) -> None:
    kept.append(20)
    kept.remember(1, 20)
    sizes = kept.sizes()
    kept.limit(16 * (sizes[0] + 1))
    assert kept.history.make_room(kept.file)
    assert kept.sizes() == sizes[2:]


def test_bytes_of_nothing_are_put_right(kept: Kept) -> None:
    kept.file.add_counter("history_bytes", 500)
    kept.history.look(kept.file)
    kept.limit(0)
    assert kept.used == 500
    assert not kept.history.make_room(kept.file)
    assert kept.used == kept.used_on_disk == 0
    assert not kept.history.make_room(kept.file)


def test_deliveries_of_one_minute_that_touch_are_joined_once_they_are_an_hour_old(
    kept: Kept,
) -> None:
    kept.append(11)
    seconds = {1: 0, 2: 2, 3: 19, 4: 59, 5: 20, 6: 60, 7: 62, 8: 119, 9: 120, 11: 121}
    for row, second in seconds.items():
        kept.deliver(row, NOW_NS + second * SECOND, status=400 if row == 6 else 200)
    before = kept.deliveries()
    assert len(before) == 10
    assert not kept.step(NOW_NS + 3600 * SECOND)
    kept.now += 59.5
    assert not kept.step(LATER_NS)
    assert kept.deliveries() == before
    kept.now += 0.5
    assert not kept.step(LATER_NS)
    assert kept.deliveries() == [(1, 6, 59), (6, 7, 60), (7, 9, 119), (9, 10, 120), (11, 12, 121)]
    assert kept.used == kept.used_on_disk == 5 * DELIVERY_BYTES


def test_deliveries_are_swept_a_few_at_a_time_and_those_of_nothing_known_go(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_SWEEP_ROWS", 2)
    kept.append(5)
    for row in range(1, 6):
        kept.deliver(row, NOW_NS + row * 100 * SECOND)
    kept.file.connection.execute("DELETE FROM rows WHERE id IN (1, 3)")
    assert [kept.step(LATER_NS) for _ in range(3)] == [True, True, False]
    assert [first for first, *_ in kept.deliveries()] == [2, 4, 5]
    assert kept.used == kept.used_on_disk == 3 * DELIVERY_BYTES
    kept.file.connection.execute("DELETE FROM rows WHERE id = 2")
    assert not kept.step(LATER_NS)
    assert len(kept.deliveries()) == 3  # the next time is in a minute
    kept.now += 60
    assert kept.step(LATER_NS)
    assert [first for first, *_ in kept.deliveries()] == [4, 5]
