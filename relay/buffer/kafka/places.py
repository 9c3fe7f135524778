"""What number a record has as a row, from its topic, partition and offset, and back.

A row must be known by one number, ordered within a partition. From the lowest bit: 40 bits for
offset + 1, three for signal and encoding, ten for the partition: below 2**53, which JSON carries.
"""

from typing import Final, NamedTuple

from relay.model.records import Encoding, Signal

OFFSET_BITS: Final = 40
MOST_OFFSET: Final = (1 << OFFSET_BITS) - 2
_KINDS: Final = [(signal, encoding) for signal in Signal for encoding in Encoding]
_KIND_BITS: Final = 3
# Partitions end at 1000. From here on numbers are those of a relay's own index of records, which
# are in the order in which the brokers took them in: see `history_file`.
INDEXED: Final = 1001 << _KIND_BITS << OFFSET_BITS


class Place(NamedTuple):
    """Where a record of ours is; its topic follows from signal and encoding."""

    signal: Signal
    encoding: Encoding
    partition: int
    offset: int


def stream_number(signal: Signal, encoding: Encoding, partition: int) -> int:
    """Names a partition of a topic of rows."""
    return partition << _KIND_BITS | _KINDS.index((signal, encoding))


def row_of(signal: Signal, encoding: Encoding, partition: int, offset: int) -> int:
    """The number of a record as a row, from 1 upwards. Raises ValueError past 2**40 records."""
    if not 0 <= offset <= MOST_OFFSET:
        raise ValueError(f"no row can have offset {offset}")
    return stream_number(signal, encoding, partition) << OFFSET_BITS | offset + 1


def stream_of(row: int) -> int:
    """Which partition of which topic a row is in."""
    return row >> OFFSET_BITS


def first_row(stream: int) -> int:
    """The lowest number of a row in that stream."""
    return stream << OFFSET_BITS | 1


def place_of(row: int) -> Place:
    """Where a row is. Raises ValueError for a number that is none of ours."""
    stream, rest = row >> OFFSET_BITS, row & (1 << OFFSET_BITS) - 1
    kind = stream & (1 << _KIND_BITS) - 1
    if row <= 0 or not rest or kind >= len(_KINDS):
        raise ValueError(f"row {row} is none of a fleet")
    return Place(*_KINDS[kind], stream >> _KIND_BITS, rest - 1)
