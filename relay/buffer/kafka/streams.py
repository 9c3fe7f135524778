"""What this relay knows of the partitions of rows, for all of its destinations together.

How far each goes, what of it is in memory, how many items its rows hold, and which of them its
leader cannot read. Everything here belongs to the event loop.
"""

import time
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator

import structlog

from relay.buffer import owed_ranges
from relay.buffer.kafka.fetch import Place, Seeker
from relay.buffer.kafka.fetched import Fetched
from relay.buffer.kafka.places import first_row, place_of
from relay.buffer.kafka.processed import ProcessedForeign
from relay.buffer.kafka.records import ITEMS, Record, header_of
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.types import Totals

log = structlog.stdlib.get_logger(__name__)

CACHE_BYTES = 16 * 1024 * 1024
_MOST_SUMS = 65_536
# A damaged record is tried again after so long, and when another broker leads its partition.
DAMAGED_AGAIN_SECONDS = 60.0


class Sums:
    """Running sums over the newest rows of a stream; of those before them a guess by the mean."""

    def __init__(self, row: int) -> None:
        self._first = row  # of which the first entry is the sum before it
        self._items = array("q", [0])
        self._bytes = array("q", [0])

    def add(self, row: int, items: int, raw_bytes: int) -> None:
        """Row `row`, which follows on those before; what lies between them is nothing."""
        at = row - self._first
        if at < len(self._items) - 1:
            return
        if at > len(self._items) - 1 + _MOST_SUMS:
            self.__init__(row)  # type: ignore[misc]
            at = 0
        for _ in range(at - len(self._items) + 1):
            self._items.append(self._items[-1])
            self._bytes.append(self._bytes[-1])
        self._items.append(self._items[-1] + items)
        self._bytes.append(self._bytes[-1] + raw_bytes)
        if len(self._items) > 2 * _MOST_SUMS:
            del self._items[:_MOST_SUMS], self._bytes[:_MOST_SUMS]
            self._first += _MOST_SUMS

    def of(self, ranges: Ranges) -> Totals:
        """Sums over whole rows of `ranges`, each with an end."""
        known = len(self._items) - 1
        total, unknown = Totals(), 0
        for start, end in ranges:
            if end is None:
                continue
            stop = end.row + bool(end.item)
            total.rows += stop - start.row
            low = min(max(start.row - self._first, 0), known)
            high = min(max(stop - self._first, 0), known)
            unknown += stop - start.row - (high - low)
            total.items += self._items[high] - self._items[low]
            total.raw_bytes += self._bytes[high] - self._bytes[low]
        if unknown:
            seen = max(known, 1)
            total.items += max(unknown * (self._items[-1] - self._items[0]) // seen, unknown)
            total.raw_bytes += unknown * (self._bytes[-1] - self._bytes[0]) // seen
        return total


class Stream:
    """One partition of a topic of rows. `next_row`: the row of what comes next, as far as known."""

    def __init__(self, number: int, topic: str, first: int, end: int) -> None:
        self.number = number
        self.topic = topic
        self.partition = place_of(first_row(number)).partition
        self.signal = place_of(first_row(number)).signal
        self.encoding = place_of(first_row(number)).encoding
        self.first_row = self.row_at(first)  # nothing is kept before it
        self.next_row = self.row_at(end)
        self.sums = Sums(self.next_row)
        self.damaged: Ranges = ()
        self._damaged_by = -1
        self._damaged_until = 0.0

    def begin_sums(self, row: int) -> None:
        """Every row from `row` on will be told."""
        self.sums = Sums(row)

    def row_at(self, offset: int) -> int:
        """The row of an offset."""
        return first_row(self.number) + offset

    def offset_of(self, row: int) -> int:
        """The offset of a row."""
        return row - first_row(self.number)

    def note_damaged(self, rows: Iterable[int], leader: int, now: float) -> None:
        """The broker `leader` cannot read those rows: they wait."""
        new = owed_ranges.subtract(
            owed_ranges.union(map(owed_ranges.row_range, rows)), self.damaged
        )
        if new:
            log.error(
                "fleet_record_damaged",
                topic=self.topic,
                partition=self.partition,
                offset=self.offset_of(new[0].start.row),
                broker=leader,
                hint="it stays owed, and is tried again when another broker leads the partition",
            )
        self.damaged = owed_ranges.union((*self.damaged, *new))
        self._damaged_by, self._damaged_until = leader, now + DAMAGED_AGAIN_SECONDS

    def forget_damaged(self, leader: int, now: float) -> bool:
        """Try them again if `leader` (-1: nobody says) is another one, or it is time."""
        if not self.damaged:
            return False
        if leader in {-1, self._damaged_by} and now < self._damaged_until:
            return False
        self.damaged = ()
        return True


class Streams:
    """Those that a destination of this relay reads, and the newest of their rows in memory."""

    def __init__(
        self, settings: KafkaSettings, seeker: Seeker, processed: ProcessedForeign
    ) -> None:
        self._settings = settings
        self._seeker = seeker
        self.processed = processed
        self._streams: dict[int, Stream] = {}
        self._rows: OrderedDict[int, Record] = OrderedDict()
        self._skips: OrderedDict[int, int] = OrderedDict()
        self._cached_bytes = 0

    def topic_of(self, stream: int) -> str:
        """The topic that a stream is a partition of."""
        place = place_of(first_row(stream))
        return self._settings.rows_topic(place.signal, place.encoding)

    def open(self, number: int, low: int, high: int) -> Stream:
        """That stream, of which offsets from `low` up to `high` are kept."""
        stream = self._streams.get(number)
        if stream is None:
            stream = self._streams[number] = Stream(number, self.topic_of(number), low, high)
        stream.first_row = max(stream.first_row, stream.row_at(low))
        stream.next_row = max(stream.next_row, stream.row_at(high))
        return stream

    def close(self, number: int) -> None:
        """Nobody reads it any more."""
        self._streams.pop(number, None)

    def get(self, number: int) -> Stream | None:
        """That stream, if it is open."""
        return self._streams.get(number)

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    # -- rows ---------------------------------------------------------------------------------

    def look(self, stream: Stream, row: int) -> Record | int | None:
        """The record of `row`, or the row to go on at where there is none; None: not in memory."""
        if row >= stream.next_row:
            return row
        return self._rows.get(row) or self._skips.get(row)

    async def fetch(self, stream: Stream, row: int, most_bytes: int) -> int:
        """Read from `row` on into memory; up to which row. Raises BufferUnavailable."""
        place = Place(stream.topic, stream.partition, stream.offset_of(row))
        found = await self._seeker.fetch(place, most_bytes)
        self.keep(stream, row, found)
        return stream.row_at(found.next_offset)

    def keep(self, stream: Stream, row: int, found: Fetched) -> None:
        """What was found from `row` on."""
        if found.first_offset:
            stream.first_row = max(stream.first_row, stream.row_at(found.first_offset))
            return
        if found.damaged:
            rows = (stream.row_at(offset) for offset in found.damaged)
            stream.note_damaged(rows, found.leader, time.monotonic())
        damaged = set(found.damaged)
        for record in found.records:
            row = self._put(stream, row, record, damaged)
        end = stream.row_at(found.next_offset)
        self._skip(stream, row, end, damaged)
        stream.next_row = max(stream.next_row, end)

    def came(self, stream: Stream, records: list[Record]) -> None:
        """The newest records of a stream."""
        for record in records:
            row = stream.row_at(record.offset)
            size = len(record.value or b"")
            stream.sums.add(row, items_of(record), size)
            if stream.next_row <= row:
                # What is between was never there, or cannot be read: `fetch` will say.
                stream.next_row = row + 1
            self._put(stream, row, record, ())

    def _put(self, stream: Stream, row: int, record: Record, damaged: Iterable[int]) -> int:
        own = stream.row_at(record.offset)
        self._skip(stream, row, own, damaged)
        if own not in self._rows:
            self._rows[own] = record
            self._cached_bytes += len(record.value or b"")
            while self._cached_bytes > CACHE_BYTES and len(self._rows) > 1:
                _row, oldest = self._rows.popitem(last=False)
                self._cached_bytes -= len(oldest.value or b"")
        return own + 1

    def _skip(self, stream: Stream, row: int, end: int, damaged: Iterable[int]) -> None:
        """There is nothing from `row` up to `end`, but for what is damaged."""
        for each in sorted(stream.row_at(offset) for offset in damaged):
            if row <= each < end:
                if row < each:
                    self._skips[row] = each
                row = each + 1
        if row < end:
            self._skips[row] = end
        while len(self._skips) > _MOST_SUMS:
            self._skips.popitem(last=False)


def items_of(record: Record) -> int:
    """How many items a record holds as its headers say; a foreign one counts as one."""
    digits = header_of(record, ITEMS)
    return int(digits) if digits.isdigit() else 1
