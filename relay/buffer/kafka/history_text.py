"""What relays tell each other of deliveries, as records of the history topic. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec

from relay.buffer.sqlite.trace_queries import DeliveredEntry

MOST_ENTRIES: Final = 5_000  # of one record: a quarter of a megabyte
_Entry = tuple[str, tuple[int, int], tuple[int, int], int, int]


class _Written(msgspec.Struct, array_like=True, frozen=True):
    version: int
    deliveries: list[_Entry]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Written).decode


def values_of(entries: Sequence[DeliveredEntry]) -> list[bytes]:
    """As they are written, in as few records as hold them."""
    return [
        _encode(
            _Written(
                1,
                [
                    (each.destination, each.start, each.end, each.at_ns, each.status)
                    for each in entries[at : at + MOST_ENTRIES]
                ],
            )
        )
        for at in range(0, len(entries), MOST_ENTRIES)
    ]


def deliveries_of(value: bytes) -> list[DeliveredEntry]:
    """What a record says; nothing where nobody can read it."""
    try:
        written = _decode(value)
    except msgspec.MsgspecError:
        return []
    return [DeliveredEntry(*each) for each in written.deliveries]
