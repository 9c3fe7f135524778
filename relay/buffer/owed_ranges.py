"""The arithmetic of owed ranges: tuples of half-open ranges in, sorted disjoint tuples out. Pure.

A range is (row, span)-(row, span), its end not included; an end of None is open and also means
every row to come. The place behind a whole row is (row + 1, 0). On disk a list is msgpack with a
CRC-32 in front: a list that was damaged must not quietly stop owing.
"""

import zlib
from collections.abc import Iterable

import msgspec

from relay.model.records import OwedRange, Position

Ranges = tuple[OwedRange, ...]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[int, int, int | None, int]]).decode


class DamagedRanges(ValueError):
    """A list of ranges whose bytes are not those that were written."""


def row_range(row: int) -> OwedRange:
    """The range of one whole row."""
    return OwedRange(Position(row), Position(row + 1))


def before(row: int) -> OwedRange:
    """Every row before `row`."""
    return OwedRange(Position(0), Position(row))


def open_from(row: int) -> Ranges:
    """Row `row` and every row after it."""
    return (OwedRange(Position(row), None),)


def is_open(ranges: Ranges) -> bool:
    """Whether rows to come are among them."""
    return bool(ranges) and ranges[-1].end is None


def union(ranges: Iterable[OwedRange]) -> Ranges:
    """The same places, sorted, merged where they touch, without empty ranges."""
    merged: list[OwedRange] = []
    for item in sorted(ranges, key=lambda item: item.start):
        if item.end is not None and item.end <= item.start:
            continue
        if merged and (merged[-1].end is None or item.start <= merged[-1].end):
            last = merged[-1]
            if last.end is not None and (item.end is None or item.end > last.end):
                merged[-1] = OwedRange(last.start, item.end)
        else:
            merged.append(item)
    return tuple(merged)


def subtract(ranges: Ranges, gone: Iterable[OwedRange]) -> Ranges:
    """`ranges` without the places of `gone`."""
    holes = tuple(gone)
    if len(holes) > 1:
        return _swept(ranges, union(holes))
    kept = list(ranges)
    for hole in holes:
        kept = [part for item in kept for part in _without(item, hole)]
    return tuple(kept)


def _swept(ranges: Ranges, holes: Ranges) -> Ranges:
    """The same in one pass over both, since either may be thousands."""
    kept: list[OwedRange] = []
    first = 0
    for start, end in ranges:
        # Holes behind this range are behind the next ones, too: both are sorted.
        while first < len(holes) and ends_by(holes[first], start):
            first += 1
        at, place = first, start
        is_over = False
        while not is_over and at < len(holes) and (end is None or holes[at].start < end):
            hole = holes[at]
            if place < hole.start:
                kept.append(OwedRange(place, hole.start))
            if hole.end is None:
                is_over = True
            else:
                place = hole.end
            at += 1
        if not is_over and (end is None or place < end):
            kept.append(OwedRange(place, end))
    return tuple(kept)


def ends_by(item: OwedRange, place: Position) -> bool:
    """Whether nothing of `item` is at `place` or behind it."""
    return item.end is not None and item.end <= place


def _without(item: OwedRange, hole: OwedRange) -> list[OwedRange]:
    if hole.end is not None and hole.end <= hole.start:
        return [item]
    parts: list[OwedRange] = []
    before_end = hole.start if item.end is None else min(item.end, hole.start)
    if before_end > item.start:
        parts.append(OwedRange(item.start, before_end))
    if hole.end is not None:
        after_start = max(item.start, hole.end)
        if item.end is None or after_start < item.end:
            parts.append(OwedRange(after_start, item.end))
    return parts


def only_if(ranges: Ranges, item: OwedRange, *, is_owed: bool) -> Ranges:
    """`ranges` with `item` wholly in it, or without any of it."""
    return union((*ranges, item)) if is_owed else subtract(ranges, (item,))


def clip(ranges: Ranges, last_row: int) -> Ranges:
    """What of `ranges` exists when `last_row` is the newest row: every end is a place."""
    end = Position(last_row + 1)
    clipped = (
        OwedRange(item.start, end if item.end is None else min(item.end, end)) for item in ranges
    )
    return tuple(item for item in clipped if item.end is not None and item.start < item.end)


def overlaps(ranges: Ranges, wanted: OwedRange) -> bool:
    """Whether any place of `wanted` is in `ranges`."""
    return any(
        (item.end is None or wanted.start < item.end)
        and (wanted.end is None or item.start < wanted.end)
        for item in ranges
    )


def row_gaps(ranges: Ranges, end_row: int) -> list[tuple[int, int]]:
    """Half-open intervals of whole rows below `end_row` that no range touches, lowest first."""
    gaps: list[tuple[int, int]] = []
    first = 0
    for start, end in ranges:
        gaps.append((first, min(start.row, end_row)))
        if end is None:
            break
        first = end.row + bool(end.item)
    else:
        gaps.append((first, end_row))
    return [gap for gap in gaps if gap[0] < gap[1]]


def encode(ranges: Ranges) -> bytes:
    """The list as it is on disk."""
    packed = _encode(
        [
            (*item.start, None, 0) if item.end is None else (*item.start, *item.end)
            for item in ranges
        ]
    )
    return zlib.crc32(packed).to_bytes(4, "little") + packed


def decode(stored: bytes) -> Ranges:
    """The list that `encode` wrote. Raises DamagedRanges when the bytes are not those."""
    packed = stored[4:]
    if len(stored) < 5 or zlib.crc32(packed) != int.from_bytes(stored[:4], "little"):
        raise DamagedRanges("the checksum of a list of owed ranges is wrong")
    return tuple(
        OwedRange(Position(row, span), None if end_row is None else Position(end_row, end_span))
        for row, span, end_row, end_span in _decode(packed)
    )


def intersection(ranges: Ranges, wanted: Ranges) -> Ranges:
    """The places that are in both."""
    return subtract(ranges, subtract(ranges, wanted))
