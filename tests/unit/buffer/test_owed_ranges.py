"""The arithmetic of ranges against plain sets of places."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.buffer import owed_ranges
from relay.model.records import OwedRange, Position

ROWS, SPANS = 6, 3
ALL = {Position(row, span) for row in range(1, ROWS + 1) for span in range(SPANS)}

positions = st.builds(Position, st.integers(1, ROWS), st.integers(0, SPANS - 1))
ranges = st.builds(OwedRange, positions, st.none() | positions)
lists = st.lists(ranges, max_size=5)


def places(items: tuple[OwedRange, ...] | list[OwedRange]) -> set[Position]:
    return {
        place
        for place in ALL
        for item in items
        if item.start <= place and (item.end is None or place < item.end)
    }


@given(lists)
def test_union_is_the_same_places_sorted_and_apart(items: list[OwedRange]) -> None:
    merged = owed_ranges.union(items)

    assert places(merged) == places(items)
    assert all(item.end is None or item.start < item.end for item in merged)
    for before, after in itertools.pairwise(merged):
        assert before.end is not None
        assert before.end < after.start


@given(lists, lists)
def test_subtract_leaves_what_is_in_the_first_only(
    items: list[OwedRange], gone: list[OwedRange]
) -> None:
    left = owed_ranges.subtract(owed_ranges.union(items), gone)

    assert places(left) == places(items) - places(gone)
    assert left == owed_ranges.union(left)


def test_holes_before_in_and_behind_each_range_are_left_out() -> None:
    def rows(*ends: tuple[int, int]) -> tuple[OwedRange, ...]:
        return tuple(OwedRange(Position(first), Position(end)) for first, end in ends)

    before = (*rows((2, 6), (8, 9)), *owed_ranges.open_from(20))
    holes = rows((0, 1), (3, 4), (8, 9), (10, 11), (12, 13))
    left = (*rows((2, 3), (4, 6)), *owed_ranges.open_from(20))
    assert owed_ranges.subtract(before, holes) == left
    assert owed_ranges.subtract(rows((2, 6)), rows((0, 1), (3, 4))) == rows((2, 3), (4, 6))


def test_every_border_is_kept_to() -> None:
    grid = [Position(row, span) for row in (1, 2, 3) for span in (0, 1)]
    every = [OwedRange(first, end) for first in grid for end in (*grid, None)]
    whole = [item for item in every if item.end is None or item.start < item.end]
    for one, other in itertools.product(whole, every):
        left = owed_ranges.subtract((one,), (other,))
        assert places(left) == places([one]) - places([other])
        assert left == owed_ranges.union(left)
        if other in whole:
            assert owed_ranges.overlaps((one,), other) == bool(places([one]) & places([other]))
        two = owed_ranges.subtract((one,), (other, OwedRange(Position(2), Position(2, 1))))
        assert places(two) == places(left) - {Position(2)}
        assert two == owed_ranges.union(two)
        owed = {place.row for place in places([one])}
        gaps = owed_ranges.row_gaps((one,), 5)
        assert {row for first, end in gaps for row in range(first, end)} == set(range(5)) - owed


@given(lists, ranges)
def test_overlaps_says_whether_any_place_is_common(
    items: list[OwedRange], wanted: OwedRange
) -> None:
    if places([wanted]):
        assert owed_ranges.overlaps(owed_ranges.union(items), wanted) == bool(
            places(items) & places([wanted])
        )


@given(lists, st.integers(0, ROWS))
def test_clip_keeps_places_up_to_the_last_row(items: list[OwedRange], last_row: int) -> None:
    clipped = owed_ranges.clip(owed_ranges.union(items), last_row)

    assert places(clipped) == {place for place in places(items) if place.row <= last_row}
    assert all(item.end is not None for item in clipped)
    assert clipped == owed_ranges.union(clipped)


@given(lists, st.integers(0, ROWS + 1))
def test_row_gaps_are_the_rows_without_any_owed_place(items: list[OwedRange], end_row: int) -> None:
    gaps = owed_ranges.row_gaps(owed_ranges.union(items), end_row)
    free = {row for first, end in gaps for row in range(first, end)}

    assert free == set(range(end_row)) - {place.row for place in places(items)}
    assert all(first < end for first, end in gaps)


@given(lists)
def test_encoded_ranges_come_back_the_same(items: list[OwedRange]) -> None:
    merged = owed_ranges.union(items)

    assert owed_ranges.decode(owed_ranges.encode(merged)) == merged


def test_ranges_are_on_disk_as_they_always_were() -> None:
    stored = bytes.fromhex("be55383091940100c000")
    assert owed_ranges.encode(owed_ranges.open_from(1)) == stored
    assert owed_ranges.decode(stored) == owed_ranges.open_from(1)


def test_rows_are_named_as_ranges() -> None:
    two = owed_ranges.row_range(2)
    assert two == OwedRange(Position(2), Position(3))
    assert owed_ranges.before(3) == OwedRange(Position(0), Position(3))
    assert owed_ranges.ends_by(two, Position(3))
    assert not owed_ranges.ends_by(two, Position(2, 5))
    assert not owed_ranges.ends_by(owed_ranges.open_from(2)[0], Position(9))
    assert [owed_ranges.is_open(each) for each in ((), (two,), owed_ranges.open_from(1))] == [
        False,
        False,
        True,
    ]
    assert owed_ranges.is_open((two, *owed_ranges.open_from(5)))


@given(lists, ranges, st.booleans())
def test_range_is_wholly_owed_or_not_at_all(
    items: list[OwedRange], wanted: OwedRange, is_owed: bool
) -> None:
    before = owed_ranges.union(items)
    found = places(owed_ranges.only_if(before, wanted, is_owed=is_owed))
    assert found == (
        places(before) | places([wanted]) if is_owed else places(before) - places([wanted])
    )


@given(lists, lists)
def test_intersection_is_what_both_hold(items: list[OwedRange], others: list[OwedRange]) -> None:
    one, other = owed_ranges.union(items), owed_ranges.union(others)
    assert places(owed_ranges.intersection(one, other)) == places(one) & places(other)


@given(st.binary(max_size=30))
def test_other_bytes_are_not_taken_for_ranges(stored: bytes) -> None:
    with pytest.raises(owed_ranges.DamagedRanges):
        owed_ranges.decode(stored)
