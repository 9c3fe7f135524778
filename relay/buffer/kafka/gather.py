"""Reads the rows of one batch out of several streams: the oldest first, as far as they fit."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import anyio.to_thread
import structlog

from relay.buffer.kafka.lane import Lane
from relay.buffer.kafka.records import (
    CRC,
    DamagedRecord,
    Incoming,
    NotOtlp,
    Record,
    header_of,
)
from relay.buffer.kafka.streams import Streams, items_of
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import partial_rows
from relay.buffer.sqlite.rows import rejected_letters
from relay.buffer.sqlite.types import Budget
from relay.model.errors import BufferUnavailable
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, OwedRange, Position, RejectedItem, Request, StoredRow
from relay.otlp.transcode import TranscodeError
from relay.process.foreign import FOREIGN

log = structlog.stdlib.get_logger(__name__)

REST_SECONDS = 1.0
_LEAST_FETCH_BYTES = 256 * 1024
_LOOP_BYTES = 32 * 1024  # of a foreign record: more than this is prepared in a thread
Decode = Callable[[Record], Incoming]


@dataclass(slots=True)
class Gathered:
    """Rows of a batch, what of the owed places was gone through for it, and what is no row.

    `dead` are letters that must be safe before what they are about is settled: of `spoiled` places
    nothing is delivered, of others (`partly`) the rest is.
    """

    rows: list[StoredRow] = field(default_factory=list)
    covered: list[OwedRange] = field(default_factory=list)
    spoiled: list[OwedRange] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    partly: list[OwedRange] = field(default_factory=list)


class Cursor:
    """Goes through what of one lane is free. `head` is the record it stands at, once read."""

    def __init__(self, lane: Lane, free: Ranges) -> None:
        self.lane = lane
        self.head: Record | None = None
        self._free = list(reversed(free))
        self.place = self._free[-1].start

    @property
    def item(self) -> OwedRange:
        """The range that it stands in."""
        return self._free[-1]

    @property
    def row(self) -> int:
        """The row of the head, or the one that it is looked for at."""
        return self.place.row

    def pass_to(self, place: Position) -> tuple[OwedRange | None, bool]:
        """Go on to `place`: what of the range was passed, and whether there is more."""
        self.head = None
        start, end = self.place, self._free[-1].end
        if end is None:
            raise ValueError("what is free has an end")
        stop = min(end, place)
        passed = OwedRange(start, stop) if stop > start else None
        self.place = max(stop, place)
        while self._free and (end := self._free[-1].end) is not None and end <= self.place:
            self._free.pop()
        if self._free:
            self.place = max(self.place, self._free[-1].start)
        return passed, bool(self._free)


class Gatherer:
    """Fills batches for one destination."""

    def __init__(self, streams: Streams, decode: Decode, destination: str) -> None:
        self._streams = streams
        self._decode = decode
        self._destination = destination

    async def gather(
        self, cursors: Sequence[Cursor], budget: Budget, *, keeps_order: bool
    ) -> Gathered:
        """Rows from all of `cursors`, the oldest first; with `keeps_order` from one of them only.

        A stream that no broker hands out rests for a moment, and the others go on.
        """
        found = Gathered()
        going = list(cursors)
        while going:
            going = [each for each in going if each.head or await self._find_head(found, each)]
            if not going:
                break
            cursor = min(going, key=_age)
            is_full, goes_on = await self._take_head(found, cursor, budget)
            if is_full:
                break
            if not goes_on:
                going.remove(cursor)
            if found.rows and keeps_order:
                going = [each for each in going if each is cursor]
            elif budget.one_encoding and budget.encoding is not None:
                going = [e for e in going if e.lane.stream.encoding is budget.encoding]
        found.rows.sort(key=lambda row: (row.row, row.first_item))
        return found

    async def _find_head(self, found: Gathered, cursor: Cursor) -> bool:
        """Stand at the next record; whether there is one."""
        stream = cursor.lane.stream
        while True:
            if cursor.row < stream.first_row:
                return False  # gone: the backlog evicts it
            seen = self._streams.look(stream, cursor.row)
            if isinstance(seen, Record):
                cursor.head = seen
                return True
            if seen is None:
                before = stream.damaged
                try:
                    await self._streams.fetch(stream, cursor.row, _LEAST_FETCH_BYTES)
                except BufferUnavailable as error:
                    _rest(cursor.lane, error)
                    return False
                if stream.damaged != before:
                    return False  # it is not free any more
                continue
            if seen <= cursor.row:
                return False
            passed, goes_on = cursor.pass_to(Position(seen))
            if passed is not None:
                found.covered.append(passed)
            if not goes_on:
                return False

    async def _take_head(
        self, found: Gathered, cursor: Cursor, budget: Budget
    ) -> tuple[bool, bool]:
        """Add the record that `cursor` stands at: whether it was too much, and if there is more."""
        record, row, item = cursor.head, cursor.row, cursor.item
        if record is None:
            raise ValueError("there is no head")
        encoding = cursor.lane.stream.encoding
        if not budget.takes(encoding, len(record.value or b""), items_of(record)):
            return True, True
        incoming: Incoming | None = None
        words = ""
        rejected: tuple[RejectedItem, ...] = ()
        try:
            if record.value is not None:
                incoming = await self._read(record)
                rejected = incoming.rejected
                self._streams.processed(row, incoming.processed)
        except DamagedRecord as error:
            words = str(error)
        except NotOtlp as error:
            rejected = error.rejected
            self._streams.processed(row, error.processed)
        passed, goes_on = cursor.pass_to(Position(row + 1))
        if passed is None:
            return False, goes_on
        found.covered.append(passed)
        if incoming is not None and incoming.only in ("", self._destination):
            first, stop = partial_rows.items_of(item, row, incoming.row.items)
            try:
                if first < stop or not incoming.row.items:
                    found.rows.append(await partial_rows.cut(incoming.row, first, stop))
            except TranscodeError as error:
                incoming, words = None, f"{error}: it is set aside whole, to be looked at"
        if rejected:
            found.dead += rejected_of(record, rejected, row)
            (found.partly if incoming is not None else found.spoiled).append(passed)
        elif words:
            found.dead.append(self._damaged(record, cursor, row, words))
            found.spoiled.append(passed)
        return False, goes_on

    async def _read(self, record: Record) -> Incoming:
        if len(record.value or b"") > _LOOP_BYTES and not header_of(record, CRC):
            return await anyio.to_thread.run_sync(self._decode, record)
        return self._decode(record)

    def _damaged(self, record: Record, cursor: Cursor, row: int, words: str) -> DeadLetter:
        items = items_of(record)
        return DeadLetter(
            destination=self._destination,
            reason=Reason.DAMAGED_ON_DISK,
            words=words,
            items=items,
            affected=items,
            encoding=cursor.lane.stream.encoding,
            body=record.value or b"",
            row=row,
            received_ns=record.timestamp_ms * 1_000_000,
            signal=cursor.lane.stream.signal,
        )


def rejected_of(record: Record, rejected: tuple[RejectedItem, ...], row: int) -> list[DeadLetter]:
    """Dead letters of what of a foreign record is not OTLP: of ingest, as over HTTP."""
    request = Request((), FOREIGN, record.timestamp_ms * 1_000_000, rejected)
    return [replace(letter, row=row) for letter in rejected_letters(request)]


def _age(cursor: Cursor) -> tuple[int, int]:
    head = cursor.head
    return (head.timestamp_ms if head is not None else 0), cursor.row


def _rest(lane: Lane, error: BufferUnavailable) -> None:
    lane.rests_until = time.monotonic() + REST_SECONDS
    log.warning(
        "fleet_partition_waits",
        topic=lane.stream.topic,
        partition=lane.stream.partition,
        error=error.message,
    )
