"""Rows that are to be sent again, as orders to whoever has their partitions. Pure but for a clock.

An order stands in the control topic under `replay/ID`. Whoever has one of its streams owes what it
says, commits that, and writes `done/ID/STREAM`; when all streams are done, whoever sees it takes
the order away. So an order outlives the relay that was given it and the one that was to carry it
out.
"""

from typing import NamedTuple

import msgspec

from relay.buffer.backlog_name import BacklogName, backlog_name
from relay.buffer.kafka.lane import streams_of, within
from relay.buffer.owed_ranges import Ranges
from relay.model.records import OwedRange, Position

REPLAY = b"replay/"
DONE = b"done/"

_Range = tuple[int, int, int, int]


class _Written(msgspec.Struct, array_like=True, frozen=True):
    version: int
    backlog: str
    ranges: list[_Range]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Written).decode


class Order(NamedTuple):
    """Owe `ranges`, each with an end, to that backlog."""

    backlog: BacklogName
    ranges: Ranges

    @property
    def value(self) -> bytes:
        """As it is written."""
        ranges = [(*start, *end) for start, end in self.ranges if end is not None]
        return _encode(_Written(1, self.backlog.text, ranges))

    @classmethod
    def of(cls, value: bytes) -> "Order | None":
        """What `value` says; None where nobody can read it."""
        try:
            written = _decode(value)
        except msgspec.MsgspecError:
            return None
        ranges = tuple(
            OwedRange(Position(row, item), Position(end_row, end_item))
            for row, item, end_row, end_item in written.ranges
        )
        return cls(backlog_name(written.backlog), ranges)


class Orders:
    """Orders that are not done yet in every stream."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}
        self._done: dict[str, set[int]] = {}

    def heard(self, key: bytes, value: bytes | None) -> None:
        """A record of the control topic."""
        if key.startswith(REPLAY):
            name = key.removeprefix(REPLAY).decode("ascii", "replace")
            order = Order.of(value) if value is not None else None
            if order is None:
                self._orders.pop(name, None)
            else:
                self._orders[name] = order
        elif key.startswith(DONE):
            name, _, stream = key.removeprefix(DONE).decode("ascii", "replace").partition("/")
            if stream.isdigit():
                done = self._done.setdefault(name, set())
                (done.discard if value is None else done.add)(int(stream))
                if not done:
                    del self._done[name]

    def __contains__(self, name: str) -> bool:
        return name in self._orders

    def due(self, backlog: BacklogName, stream: int) -> dict[str, Ranges]:
        """What of each order is to be owed in that stream, and was not yet."""
        return {
            name: own
            for name, order in self._orders.items()
            if order.backlog == backlog
            and stream not in self._done.get(name, ())
            and (own := within(order.ranges, stream))
        }

    def lowest(self) -> list[int]:
        """Of each stream that an order is not done in the lowest row that it is about."""
        found: dict[int, int] = {}
        for name, order in self._orders.items():
            for stream in streams_of(order.ranges) - self._done.get(name, set()):
                row = within(order.ranges, stream)[0].start.row
                found[stream] = min(row, found.get(stream, row))
        return list(found.values())

    def finished(self) -> list[bytes]:
        """Keys of what may be taken away: orders that are done everywhere, with their marks."""
        keys = []
        for name, done in self._done.items():
            order = self._orders.get(name)
            if order is None or streams_of(order.ranges) <= done:
                keys += [done_key(name, stream) for stream in sorted(done)]
                keys += [REPLAY + name.encode()] if order is not None else []
        return keys


def done_key(name: str, stream: int) -> bytes:
    """Marks an order as done in a stream."""
    return DONE + f"{name}/{stream}".encode()
