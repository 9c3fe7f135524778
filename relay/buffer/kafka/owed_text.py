"""What a destination is owed of one partition, as it stands beside the offset that is committed.

The committed offset is that of the lowest row that is owed, so that every Kafka tool shows how far
a destination is behind. What of the rows above it is settled, and which spans of a row, is told in
the metadata of the commit: text that a broker keeps up to some 4,000 characters. It is base85 of a
CRC-32, then the borders between owed and settled places, each as the distance to the one before it,
in varints of seven bits. An odd number of borders: everything from the last one on is owed, also
what comes. An even number: nothing that comes is.

What does not fit is told less exactly: of the stretches that are settled the shortest become owed.
What cannot be read (somebody set the offset by hand, bits have flipped) means that everything from
the offset on is owed. Either way spans come twice, and none is left out. Pure.
"""

import base64
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.model.records import OwedRange, Position

MOST_CHARACTERS = 4000
"""Apache Kafka refuses 4,096 (`offset.metadata.max.bytes`)."""

_CHECKSUM_BYTES = 4


class OwedText(NamedTuple):
    """What is committed: the row whose offset it is, and the metadata."""

    row: int
    metadata: str


class ReadBack(NamedTuple):
    """What is owed; `is_exact` is false where the metadata could not be read."""

    ranges: Ranges
    is_exact: bool


def encode(ranges: Ranges, next_row: int, most_characters: int = MOST_CHARACTERS) -> OwedText:
    """`ranges` as they are committed: what is read back owes the same places or more.

    `next_row` is the row of the next record to come, committed where nothing is owed.
    """
    row = ranges[0].start.row if ranges else next_row
    if ranges == owed_ranges.open_from(row):
        return OwedText(row, "")
    text = _text(ranges, row)
    if len(text) > most_characters:
        ranges, text = _fitting(ranges, row, most_characters)
    return OwedText(row, text)


def decode(row: int, metadata: str) -> ReadBack:
    """What is owed when `metadata` was committed with the offset of `row`."""
    if not metadata:
        return ReadBack(owed_ranges.open_from(row), is_exact=True)
    try:
        packed = base64.b85decode(metadata)
        if base64.b85encode(packed).decode() != metadata:  # bits that say nothing have flipped
            raise ValueError
        checksum, packed = packed[:_CHECKSUM_BYTES], packed[_CHECKSUM_BYTES:]
        if checksum != _checksum(packed, row):
            raise ValueError
        borders = list(_borders(packed, row))
    except ValueError:
        return ReadBack(owed_ranges.open_from(row), is_exact=False)
    ends: list[Position | None] = [*borders[1::2]]
    if len(borders) % 2:
        ends.append(None)
    ranges = tuple(OwedRange(*each) for each in zip(borders[::2], ends, strict=True))
    return ReadBack(ranges, is_exact=True)


def _text(ranges: Ranges, row: int) -> str:
    packed = bytearray()
    before = row
    for place in (place for item in ranges for place in item if place is not None):
        _put(packed, (place.row - before) << 1 | bool(place.item))
        if place.item:
            _put(packed, place.item)
        before = place.row
    return base64.b85encode(_checksum(packed, row) + packed).decode()


def _checksum(packed: bytes | bytearray, row: int) -> bytes:
    """Of the row, too: with another offset the same borders would mean other places."""
    return zlib.crc32(packed, row & 0xFFFFFFFF).to_bytes(_CHECKSUM_BYTES, "little")


def _fitting(ranges: Ranges, row: int, most_characters: int) -> tuple[Ranges, str]:
    """`ranges` with as many of the shortest gaps owed, too, as it takes, and their text."""
    by_length = sorted(range(1, len(ranges)), key=lambda at: _gap(ranges[at - 1], ranges[at]))
    low, high = 1, len(by_length)
    while low < high:
        middle = (low + high) // 2
        if len(_text(_joined(ranges, by_length[:middle]), row)) <= most_characters:
            high = middle
        else:
            low = middle + 1
    joined = _joined(ranges, by_length[:low])
    return joined, _text(joined, row)


def _gap(left: OwedRange, right: OwedRange) -> tuple[int, int]:
    """How much is settled between two ranges: rows, then spans."""
    end = left.end or right.start
    return right.start.row - end.row, right.start.item - end.item


def _joined(ranges: Ranges, at: Iterable[int]) -> Ranges:
    """`ranges`, where each of those numbers is one with what stands before it."""
    joins = frozenset(at)
    joined: list[OwedRange] = []
    for number, item in enumerate(ranges):
        if number in joins:
            joined[-1] = OwedRange(joined[-1].start, item.end)
        else:
            joined.append(item)
    return tuple(joined)


def _put(packed: bytearray, number: int) -> None:
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)


def _borders(packed: bytes, row: int) -> Iterator[Position]:
    """Raises ValueError where they are not such as `_text` writes."""
    numbers = _numbers(packed)
    last: Position | None = None
    for number in numbers:
        row += number >> 1
        place = Position(row, next(numbers, 0) if number & 1 else 0)
        if last is not None and place <= last:
            raise ValueError("borders that do not rise")
        yield place
        last = place


def _numbers(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("the last number has no end")
