"""Rows owed in part: only those spans go out, and every sum stays right."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.buffer import owed_ranges
from relay.buffer.sqlite.backlog import Backlog
from relay.buffer.sqlite.buffer import Buffer
from relay.buffer.sqlite.partial_rows import (
    PartialRows,
    items_of,
    part_of,
    share,
    stretches,
    sums_of,
)
from relay.buffer.sqlite.types import GoneRow, Totals
from relay.model.records import BodyFlag, Encoding, OwedRange, Position, Signal, StoredRow, Taken
from relay.otlp.transcode import TranscodeError, to_protobuf
from tests.support.builders import request as otlp
from tests.support.builders import span, to_body
from tests.support.examples import examples
from tests.unit.buffer.making import NOW_NS, opened, piece, request, take

pytestmark = pytest.mark.anyio


def fragment(*names: str) -> bytes:
    return to_body(otlp(*(span(name=name) for name in names))["resourceSpans"])[1:-1]


def names(rows: Sequence[StoredRow]) -> list[str]:
    return [
        one["name"]
        for row in rows
        for entry in json.loads(b"[%b]" % row.body)
        for scope in entry["scopeSpans"]
        for one in scope["spans"]
    ]


def stretch(row: int, first: int, end: int | None) -> OwedRange:
    stop = Position(row + 1) if end is None else Position(row, end)
    return OwedRange(Position(row, first), stop)


async def keep(buffer: Buffer, *rows: Sequence[str]) -> int:
    """Keep these rows; returns their bytes."""
    total = 0
    for row in rows:
        body = fragment(*row)
        total += len(body)
        await buffer.append(request(piece(body, spans=len(row))))
    return total


def sums(backlog: Backlog) -> tuple[int, int, int, int]:
    found = backlog.statistics()
    return found.owed_rows, found.owed_items, found.owed_bytes, found.in_flight_items


async def test_split_cuts_at_the_row_border_nearest_below(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer, "ab", "cde", "f")
        taken = await take(backlog)

        left, right = await backlog.split(taken, 4)

        assert (names(left.rows), names(right.rows)) == (["a", "b"], ["c", "d", "e", "f"])
        assert backlog.statistics().in_flight_items == 6
        first, rest = await backlog.split(right, 1)
        assert (names(first.rows), names(rest.rows)) == (["c", "d", "e"], ["f"])
        backlog.settle(first, status=200, at_ns=NOW_NS)
        backlog.give_back(left)
        assert (await take(backlog)).rows == left.rows


@pytest.mark.parametrize("items", range(1, 8))
async def test_split_of_many_small_rows_is_as_near_to_what_was_asked(
    tmp_path: Path, items: int
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer, *"abcdefgh")
        left, right = await backlog.split(await take(backlog), items)

        assert names(left.rows) == list("abcdefgh")[:items]
        assert names(right.rows) == list("abcdefgh")[items:]


@pytest.mark.parametrize(
    ("rows", "items", "left"),
    [
        (("abc", "d", "e", "f"), 4, "abcd"),
        (("a", "bcd", "e", "f"), 4, "abcd"),
        (("a", "bcd", "e"), 3, "a"),
        (("ab", "c"), 9, "ab"),  # each half has a row
        (("ab", "c"), 1, "ab"),
        (("abcd",), 9, "abc"),  # or an item
        (("abcd",), 3, "abc"),
        (("abcd",), 0, "a"),
    ],
)
async def test_left_half_is_as_large_as_was_asked_at_most_unless_one_would_be_empty(
    tmp_path: Path, rows: tuple[str, ...], items: int, left: str
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer, *rows)
        halves = await backlog.split(await take(backlog), items)

    assert names(halves[0].rows) == list(left)
    assert names(halves[1].rows) == list("".join(rows).removeprefix(left))


async def test_sums_are_exact_when_a_part_in_the_middle_of_a_row_is_all_that_was_owed_of_it(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        size = await keep(buffer, "abc", "d") - len(fragment("d"))
        backlog.evict((stretch(1, 0, 1), stretch(1, 2, None)), [GoneRow(1, 3, size)])
        assert sums(backlog)[:3] == (2, 2, share(size, 3, 1, 2) + len(fragment("d")))
        backlog.settle(await take(backlog, max_items=1), status=200, at_ns=NOW_NS)
        assert sums(backlog) == (1, 1, len(fragment("d")), 0)


async def test_split_inside_a_row_leaves_the_rest_owed_over_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        size = await keep(buffer, "abcde")
        taken = await take(backlog)
        left, right = await backlog.split(taken, 2)
        middle, last = await backlog.split(right, 2)
        assert [names(part.rows) for part in (left, middle, last)] == [
            ["a", "b"],
            ["c", "d"],
            ["e"],
        ]

        backlog.settle(middle, status=200, at_ns=NOW_NS)
        backlog.give_back(left)
        backlog.give_back(last)
        expected = (1, 3, size - share(size, 5, 2, 4), 0)
        assert sums(backlog) == expected
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        assert sums(backlog) == expected

        taken = await take(backlog)
        assert names(taken.rows) == ["a", "b", "e"]
        assert [(row.first_item, row.items) for row in taken.rows] == [(0, 2), (4, 1)]
        backlog.settle(taken, status=200, at_ns=NOW_NS)
        assert (sums(backlog), backlog.has_more) == ((0, 0, 0, 0), False)


async def test_row_counts_until_its_last_span_is_settled(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer, "abc", "d")
        taken = await take(backlog, max_items=3)
        left, right = await backlog.split(taken, 1)

        backlog.settle(right, status=200, at_ns=NOW_NS)
        assert sums(backlog)[:2] == (2, 2)
        backlog.settle(left, status=200, at_ns=NOW_NS)
        assert sums(backlog)[:3] == (1, 1, len(fragment("d")))
        assert backlog._parts.wholes == {}, "nothing is remembered of what is settled"


async def test_split_of_a_single_span_or_of_what_cannot_be_read_changes_nothing(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"not otlp", spans=2)))
        taken = await take(backlog)
        with pytest.raises(TranscodeError):
            await backlog.split(taken, 1)

        backlog.settle(taken, status=200, at_ns=NOW_NS)
        await keep(buffer, "a")
        with pytest.raises(ValueError, match="single span"):
            await backlog.split(await take(backlog), 1)


async def test_split_cuts_protobuf_and_large_rows_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        large = fragment("a" * 40_000, "b" * 40_000)
        await buffer.append(request(piece(large, spans=2)))
        small = to_protobuf(fragment("x", "y"), Signal.TRACES)
        await buffer.append(request(piece(small, spans=2, encoding=Encoding.PROTOBUF)))

        halves = await backlog.split(await take(backlog), 1)
        assert [len(names(half.rows)[0]) for half in halves] == [40_000, 40_000]
        halves = await backlog.split(await take(backlog), 1)
        assert [half.rows[0].body for half in halves] == [
            to_protobuf(fragment("x"), Signal.TRACES),
            to_protobuf(fragment("y"), Signal.TRACES),
        ]


async def test_part_of_a_row_that_cannot_be_cut_is_set_aside_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(b"not otlp", spans=3)))
        await keep(buffer, "d")
        backlog.evict((stretch(1, 0, 1),), [GoneRow(1, 3, 8)])

        assert names((await take(backlog)).rows) == ["d"]
        await buffer.flush()
        (letter,) = await buffer.dead_letters.newest()
        assert (letter.letter.reason, letter.letter.body) == ("relay_error", b"not otlp")
        assert sums(backlog)[:2] == (1, 1)


async def test_newest_row_is_taken_alone_and_of_the_encoding_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer, "a", "b")
        proto = to_protobuf(fragment("c"), Signal.TRACES)
        await buffer.append(request(piece(proto, encoding=Encoding.PROTOBUF)))

        newest = await backlog.take_newest()
        assert newest is not None
        assert newest.rows[0].row == 3
        backlog.give_back(newest)
        newest = await backlog.take_newest(Encoding.JSON)
        assert newest is not None
        assert names(newest.rows) == ["b"]
        head = await take(backlog, max_items=1)
        assert names(head.rows) == ["a"]
        assert await backlog.take_newest(Encoding.JSON) is None
        backlog.give_back(head)
        assert names((await take(backlog, max_items=1)).rows) == ["a"]


async def test_newest_row_owed_in_part_is_that_part(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer, "a", "bcd")
        backlog.evict((stretch(2, 0, 1), stretch(2, 2, None)), [GoneRow(2, 3, 90)])

        newest = await backlog.take_newest()
        assert newest is not None
        assert names(newest.rows) == ["c"]


async def test_rows_that_gave_way_in_flight_leave_the_sums_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        size = await keep(buffer, "ab", "cd", "e")
        taken = await take(backlog, max_items=4)
        backlog.evict((owed_ranges.row_range(1),), [GoneRow(1, 2, len(fragment("a", "b")))])
        assert sums(backlog) == (2, 3, size - len(fragment("a", "b")), 4)

        backlog.settle(taken, status=200, at_ns=NOW_NS)
        assert sums(backlog) == (1, 1, len(fragment("e")), 0)
        backlog.evict((owed_ranges.row_range(1),), [GoneRow(1, 2, 3)])
        assert sums(backlog)[:2] == (1, 1)
        assert names((await take(backlog)).rows) == ["e"]


async def test_rows_that_gave_way_in_flight_are_not_owed_when_given_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer, "a", "b")
        taken = await take(backlog)
        backlog.evict((owed_ranges.row_range(1),), [GoneRow(1, 1, 1)])
        backlog.give_back(taken)

        assert names((await take(backlog)).rows) == ["b"]


async def test_settled_spans_are_owed_again_when_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        await keep(buffer, "abc")
        backlog.settle(await take(backlog), status=200, at_ns=NOW_NS)
        backlog.owe((stretch(1, 1, 2),), Totals(1, 1, 7))

        taken = await take(backlog)
        assert (names(taken.rows), sums(backlog)) == (["b"], (1, 1, 7, 1))
        backlog.settle(taken, status=200, at_ns=NOW_NS)
        assert sums(backlog) == (0, 0, 0, 0)


async def test_skipped_rows_are_neither_owed_nor_settled(tmp_path: Path) -> None:
    async with opened(tmp_path) as buffer:
        backlog = buffer.consumer("a")
        backlog.skip(owed_ranges.row_range(1))
        await keep(buffer, "a", "b")

        assert names((await take(backlog)).rows) == ["b"]
        assert not buffer._ledger.pending.deliveries("a")
    async with opened(tmp_path) as buffer:
        assert names((await take(buffer.consumer("a"))).rows) == ["b"]


ROWS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 999)), min_size=1, max_size=5)


@given(ROWS, st.data())
@settings(max_examples=examples(200))
def test_sums_of_parts_add_up_however_rows_are_cut(
    rows: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Pieces of random rows are settled in random order: what is left is exact all the way."""
    known = PartialRows()
    left = owed_ranges.union([owed_ranges.row_range(n) for n in range(1, len(rows) + 1)])
    stored = {}
    for number, (spans, size) in enumerate(rows, 1):
        stored[number] = StoredRow(number, 0, Encoding.JSON, BodyFlag.NONE, spans, b"x" * size)
        known.note(stored[number])
    pieces: list[tuple[int, int, int]] = []
    for number, (spans, _) in enumerate(rows, 1):
        borders = sorted({0, spans, *data.draw(st.lists(st.integers(0, spans), max_size=3))})
        pieces += [(number, a, b) for a, b in itertools.pairwise(borders)]
    total = Totals(len(rows), sum(spans for spans, _ in rows), sum(size for _, size in rows))
    for number, first, stop in data.draw(st.permutations(pieces)):
        spans = rows[number - 1][0]
        gone = (stretch(number, first, None if stop == spans else stop),)
        left = owed_ranges.subtract(left, gone)
        part = StoredRow(number, 0, Encoding.JSON, BodyFlag.NONE, stop - first, b"cut", first)
        total -= known.sums(gone, [part], left=left)
        rows_left = {n for n in stored if owed_ranges.overlaps(left, owed_ranges.row_range(n))}
        assert total.rows == len(rows_left)
        known.forget_settled(left)
        assert known.wholes.keys() == rows_left
    assert total == Totals()


@given(ROWS, st.data())
@settings(max_examples=examples(200))
def test_sums_of_many_rows_are_those_of_each(
    rows: list[tuple[int, int]], data: st.DataObject
) -> None:
    places = st.builds(Position, st.integers(1, len(rows) + 1), st.integers(0, 9))
    drawn = st.lists(st.builds(OwedRange, places, places), max_size=6)
    ranges, left = (owed_ranges.union(data.draw(drawn)) for _ in range(2))
    known = [GoneRow(number, *each) for number, each in enumerate(rows, 1)]
    wanted = Totals()
    for row in known:
        part = part_of(ranges, *row)
        is_left = owed_ranges.overlaps(left, owed_ranges.row_range(row.row))
        wanted += Totals(0 if is_left else part.rows, part.items, part.raw_bytes)

    assert sums_of(ranges, known, left=left) == wanted


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        ((1, 0), None, (0, 3)),
        ((2, 1), None, (1, 3)),
        ((3, 0), None, (3, 3)),
        ((1, 0), (2, 0), (0, 0)),
        ((1, 0), (2, 2), (0, 2)),
        ((1, 0), (1, 5), (0, 0)),
        ((2, 1), (2, 2), (1, 2)),
        ((2, 5), (2, 9), (3, 3)),
        ((1, 0), (3, 0), (0, 3)),
    ],
)
def test_items_of_a_row_that_lie_in_a_range(
    start: tuple[int, int], end: tuple[int, int] | None, wanted: tuple[int, int]
) -> None:
    item = OwedRange(Position(*start), Position(*end) if end else None)
    first, stop = wanted

    assert items_of(item, 2, 3) == wanted
    assert list(stretches((item,), 2, 3)) == ([wanted] if first < stop else [])
    assert part_of((item,), 2, 3, 30) == Totals(
        int(first < stop), stop - first, 10 * (stop - first)
    )


def test_row_without_items_has_its_place_alone() -> None:
    assert part_of((owed_ranges.row_range(2),), 2, 0, 7) == Totals(1, 0, 7)
    assert part_of((owed_ranges.row_range(1),), 2, 0, 7) == Totals()


def test_taken_counts_the_spans_of_parts() -> None:
    part = StoredRow(1, 0, Encoding.JSON, BodyFlag.NONE, 2, b"", 3)

    assert Taken((part,), (stretch(1, 3, 5),)).items == 2
