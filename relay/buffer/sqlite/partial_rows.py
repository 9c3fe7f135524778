"""Cuts rows that are owed or in flight in part, and keeps their sums exact.

Bytes of a part are its share of the row's bytes by spans, rounded so that the parts of a row always
add up to the row, however it is cut. A row counts as one until the last of its spans is settled.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import anyio.to_thread

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.types import DamagedRow, GoneRow, Totals
from relay.model.records import OwedRange, Position, StoredRow, Taken
from relay.otlp.split import slice_items

# A cut of more than this goes to a thread: the hop costs about as much as reading so many bytes.
_THREAD_FROM_BYTES = 32 * 1024


class PartialRows:
    """What is known of the whole of each row that was cut."""

    def __init__(self) -> None:
        self.wholes: dict[int, GoneRow] = {}

    def note(self, row: StoredRow | DamagedRow) -> None:
        """`row`, as it was read, is owed in part only."""
        self.wholes.setdefault(row.row, _whole(row))

    def forget_settled(self, still_owed: Ranges) -> None:
        """Keep what is known of rows that are owed in some part."""
        for row in list(self.wholes):
            if not owed_ranges.overlaps(still_owed, owed_ranges.row_range(row)):
                del self.wholes[row]

    def sums(self, gone: Ranges, rows: Sequence[StoredRow | DamagedRow], *, left: Ranges) -> Totals:
        """What leaves the sums with the places `gone` of `rows`, when `left` is owed after it."""
        wholes = {row.row: self.wholes.get(row.row) or _whole(row) for row in rows}
        return sums_of(gone, wholes.values(), left=left)


def sums_of(ranges: Ranges, rows: Iterable[GoneRow], *, left: Ranges) -> Totals:
    """What of `rows` lies in `ranges`; a row counts as one when nothing of it is in `left`.

    `rows` must be in order. In one pass over all three, since any may be thousands.
    """
    total = Totals()
    at, kept = 0, 0
    for row, items, raw_bytes in rows:
        start, end = Position(row), Position(row + 1)
        while at < len(ranges) and owed_ranges.ends_by(ranges[at], start):
            at += 1
        while kept < len(left) and owed_ranges.ends_by(left[kept], start):
            kept += 1
        here = at
        while here < len(ranges) and ranges[here].start < end:
            here += 1
        part = part_of(ranges[at:here], row, items, raw_bytes)
        if kept < len(left) and left[kept].start < end:
            part.rows = 0
        total += part
    return total


def part_of(ranges: Ranges, row: int, items: int, raw_bytes: int) -> Totals:
    """What of `row`, which has so many spans and bytes, lies in `ranges`."""
    total = Totals()
    for first, stop in stretches(ranges, row, items):
        total.rows = 1
        total.items += stop - first
        total.raw_bytes += share(raw_bytes, items, first, stop)
    return total


def _whole(row: StoredRow | DamagedRow) -> GoneRow:
    return GoneRow(row.row, row.items, len(row.body))


def share(raw_bytes: int, items: int, first: int, stop: int) -> int:
    """The bytes of spans `first`…`stop` (not included) in a row of so many."""
    if not items:
        return raw_bytes
    return raw_bytes * stop // items - raw_bytes * first // items


def stretches(ranges: Ranges, row: int, items: int) -> Iterator[tuple[int, int]]:
    """The stretches of spans of `row`, which has so many, that lie in `ranges`."""
    if not items:  # it has nothing but its place
        if owed_ranges.overlaps(ranges, owed_ranges.row_range(row)):
            yield 0, 0
        return
    for item in ranges:
        first, stop = items_of(item, row, items)
        if first < stop:
            yield first, stop


def items_of(item: OwedRange, row: int, items: int) -> tuple[int, int]:
    """First and end of the spans of `row`, which has so many, that lie in `item`."""
    first = 0
    if item.start.row >= row:
        first = min(item.start.item, items) if item.start.row == row else items
    stop = items
    if item.end is not None and item.end.row <= row:
        stop = min(item.end.item, items) if item.end.row == row else 0
    return first, max(first, stop)


async def cut(row: StoredRow, first: int, stop: int) -> StoredRow:
    """Spans `first`…`stop` (not included, counted in `row` itself). Raises TranscodeError."""
    if first <= 0 and stop >= row.items:
        return row
    if len(row.body) > _THREAD_FROM_BYTES:
        return await anyio.to_thread.run_sync(cut_here, row, first, stop)
    return cut_here(row, first, stop)


def cut_here(row: StoredRow, first: int, stop: int) -> StoredRow:
    """`cut` without threads."""
    if first <= 0 and stop >= row.items:
        return row
    body = slice_items(row.body, row.encoding, first, stop - first, row.signal)
    return replace(row, body=body, items=stop - first, first_item=row.first_item + first)


async def halve(taken: Taken, items: int) -> tuple[Taken, Taken]:
    """`taken` in two: at the row border nearest below `items`, or inside the row if it is one.

    Each half has at least one row, or one span. Raises ValueError when there is only one span,
    TranscodeError when the row cannot be read.
    """
    rows = taken.rows
    if len(rows) > 1:
        count, sent = 1, rows[0].items
        while count < len(rows) - 1 and sent + rows[count].items <= items:
            sent += rows[count].items
            count += 1
        left, right = rows[:count], rows[count:]
    else:
        (row,) = rows
        if row.items < 2:
            raise ValueError("a single span cannot be cut")
        border = min(max(items, 1), row.items - 1)
        left, right = (await cut(row, 0, border),), (await cut(row, border, row.items),)
    place = Position(right[0].row, right[0].first_item)
    return (
        Taken(left, owed_ranges.subtract(taken.ranges, (OwedRange(place, None),))),
        Taken(right, owed_ranges.subtract(taken.ranges, (OwedRange(Position(0), place),))),
    )
