"""What is committed owes what was owed, or more where it does not fit or was damaged."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.buffer import owed_ranges
from relay.buffer.kafka import owed_text
from relay.buffer.owed_ranges import Ranges
from relay.model.records import OwedRange, Position

BASE = 37 << 40
rows = st.integers(BASE + 1, BASE + 2_000_000)
positions = st.builds(Position, rows, st.integers(0, 3) | st.integers(0, 5_000))
owed = st.builds(OwedRange, positions, st.none() | positions)
lists = st.lists(owed, max_size=40).map(owed_ranges.union)


@given(lists, rows)
def test_what_is_committed_comes_back_the_same(ranges: Ranges, next_row: int) -> None:
    row, metadata = owed_text.encode(ranges, next_row)

    assert row == (ranges[0].start.row if ranges else next_row)
    assert owed_text.decode(row, metadata) == (ranges, True)


@given(lists, st.integers(20, 120))
def test_what_does_not_fit_owes_more_and_never_less(ranges: Ranges, limit: int) -> None:
    row, metadata = owed_text.encode(ranges, BASE + 1, limit)
    read = owed_text.decode(row, metadata)

    assert len(metadata) <= limit
    assert read.is_exact
    assert owed_ranges.subtract(ranges, read.ranges) == ()
    assert owed_ranges.is_open(read.ranges) == owed_ranges.is_open(ranges)
    if ranges:
        assert read.ranges[0].start == ranges[0].start
        assert read.ranges[-1].end == ranges[-1].end


def test_the_shortest_settled_stretch_is_the_first_to_be_owed_again() -> None:
    near = tuple(owed_ranges.row_range(BASE + 1 + 1000 * n + m) for n in range(20) for m in (0, 2))

    row, metadata = owed_text.encode(near, BASE + 1, 79)
    read = owed_text.decode(row, metadata).ranges

    assert len(read) <= 20
    assert all(end is not None for _start, end in read)
    settled_far = owed_ranges.row_range(BASE + 500)
    assert not owed_ranges.overlaps(read, settled_far)


def test_a_thousand_and_a_half_runs_fit_into_what_a_broker_keeps() -> None:
    choose = random.Random(7)
    ranges = owed_ranges.union(
        OwedRange(Position(start), Position(start + choose.randint(1, 20)))
        for start in range(BASE + 1, BASE + 1 + 750 * 50, 50)
    )

    row, metadata = owed_text.encode(ranges, BASE + 1)

    assert len(metadata) < 4000
    assert owed_text.decode(row, metadata).ranges == ranges


@given(lists, st.data())
def test_one_flipped_bit_owes_everything_from_the_offset_on(
    ranges: Ranges, data: st.DataObject
) -> None:
    row, metadata = owed_text.encode(ranges, BASE + 1)
    if not metadata:
        return
    at = data.draw(st.integers(0, len(metadata) - 1))
    flipped = chr(ord(metadata[at]) ^ 1 << data.draw(st.integers(0, 6)))
    damaged = metadata[:at] + flipped + metadata[at + 1 :]

    assert owed_text.decode(row, damaged) == (owed_ranges.open_from(row), False)


@pytest.mark.parametrize("metadata", ["by hand", "é", "\0", "0" * 3000])
def test_foreign_metadata_owes_everything_from_the_offset_on(metadata: str) -> None:
    assert owed_text.decode(BASE + 9, metadata) == (owed_ranges.open_from(BASE + 9), False)


@given(lists)
def test_metadata_beside_another_offset_owes_everything_from_there_on(ranges: Ranges) -> None:
    row, metadata = owed_text.encode(ranges, BASE + 1)
    if metadata:
        assert owed_text.decode(row + 1, metadata) == (owed_ranges.open_from(row + 1), False)
