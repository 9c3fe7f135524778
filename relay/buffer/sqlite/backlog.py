"""What one destination is owed of one signal, and what of it its courier holds: the engine's
`api.Consumer`.

Its ranges may cover rows of other signals, which mean nothing here: they are passed over, and
settled with what stands around them, so that ranges stay few however signals mix.

A row may be owed in part: then only that part is handed out, as a row of its own.

The ranges in memory are the truth; the disk follows with the next commit, after 200 ms at the
latest. What is in flight is known only here: after a crash it is owed again. Everything runs in
the event loop, nothing here blocks it.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import partial_rows
from relay.buffer.sqlite.batch_builder import BatchBuilder
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.look_ahead import SqliteLookAhead
from relay.buffer.sqlite.parked import ParkedRanges
from relay.buffer.sqlite.partial_rows import PartialRows, sums_of
from relay.buffer.sqlite.reader import Reader
from relay.buffer.sqlite.types import DamagedRow, GoneRow, Totals
from relay.buffer.values import BacklogStatistics
from relay.model.records import (
    DeadLetter,
    Encoding,
    Health,
    OwedRange,
    Position,
    Signal,
    StoredRow,
    Taken,
)

# How many of the newest rows are looked at for one that is there and in the encoding asked for.
_NEWEST_LOOKS = 16


class Backlog:
    """What one destination is owed of one signal, and what of it is in flight."""

    def __init__(
        self,
        ledger: Ledger,
        reader: Reader,
        key: BacklogName,
        ranges: Ranges,
        *,
        sums: Totals,
        is_paused: bool,
    ) -> None:
        self.name = key.destination
        self.signal = key.signal
        self.key = key.text  # as on disk
        # Newer points before older ones would make these out of order.
        self._keeps_order = key.signal is Signal.METRICS
        self.is_paused = is_paused
        self.is_removed = False
        self._ledger = ledger
        self._reader = reader
        self.ranges = ranges  # owed, in flight included: what the disk is to hold
        self.in_flight: Ranges = ()  # taken and neither settled nor given back
        self.parked = ParkedRanges()
        self._sums = sums
        self._in_flight_items = 0
        self._flying: dict[int, StoredRow] = {}
        self._parts = PartialRows()
        self._health: Callable[[], Health] | None = None
        self.news = asyncio.Event()  # of rows, and of what is free again
        self.look_ahead = SqliteLookAhead(self, ledger, reader)
        self._taking = asyncio.Lock()

    # -- what couriers call -------------------------------------------------------------------

    @property
    def has_more(self) -> bool:
        """Whether anything is owed that is neither in flight nor parked."""
        return bool(self._free())

    async def wait(self) -> None:
        """Return as soon as there is something to take. Ignores `is_paused`."""
        while not self._free():
            await self.news.wait()

    async def take(
        self, *, max_bytes: int, max_items: int, one_encoding: bool = True
    ) -> Taken | None:
        """The next owed rows in order, now in flight; None when there are none (see `api`)."""
        async with self._taking:
            while free := self._free():
                batch = BatchBuilder(
                    max_bytes=max_bytes, max_items=max_items, one_encoding=one_encoding
                )
                for item in free:
                    if await self._gather(batch, item):
                        break
                taken = self._claim(batch)
                if taken is not None:
                    return taken
            return None

    async def take_newest(self, encoding: Encoding | None = None) -> Taken | None:
        """The last row that `take` would come to, alone; None: none among the newest few, or they
        are to go in their order.
        """
        async with self._taking:
            before: OwedRange | None = None
            for _ in range(_NEWEST_LOOKS):
                free = owed_ranges.subtract(self._free(), (before,) if before is not None else ())
                if not free or self._keeps_order:
                    return None
                start, end = free[-1]
                newest = (end.row if end.item else end.row - 1) if end is not None else start.row
                if before is not None:
                    newest = await self._reader.last_row(self.signal, start.row, newest)
                    if not newest:  # all of it is of other signals
                        before = OwedRange(start, None)
                        continue
                item = OwedRange(max(start, Position(newest)), end)
                batch = BatchBuilder.of_one_row()
                await self._gather(batch, item)
                if batch.damaged or (batch.rows and encoding in (None, batch.rows[0].encoding)):
                    taken = self._claim(batch)
                    if taken is not None:
                        return taken
                before = OwedRange(item.start, None)
            return None

    async def split(self, taken: Taken, items: int) -> tuple[Taken, Taken]:
        """`taken` in two parts that stay in flight; raises as `api.Consumer` says."""
        if len(taken.rows) == 1:
            self._parts.note(taken.rows[0])
        return await partial_rows.halve(taken, items)

    def settle(self, taken: Taken, *, status: int, at_ns: int) -> None:
        """Delivered, answered with `status`: no longer owed. Never blocks."""
        self.settle_with(taken, (), status=status, at_ns=at_ns)

    def settle_with(
        self, taken: Taken, dead: Sequence[DeadLetter], *, status: int, at_ns: int
    ) -> None:
        """As `settle`, with dead letters that are written in the same transaction."""
        if self._land(taken):
            self._settle(taken.ranges, taken.rows, dead, status=status, at_ns=at_ns)

    def give_back(self, taken: Taken) -> None:
        """Not delivered: owed again, at its old place, parked no more."""
        if self._land(taken):
            self.parked.keep(self.ranges, without=taken.ranges)
            self.wake()

    def park(self, taken: Taken, trace_ids: bytes) -> None:
        """Not delivered: owed still, and handed out by `take_parked` alone."""
        if self._land(taken):
            self.parked.add(owed_ranges.intersection(taken.ranges, self.ranges), trace_ids)

    async def take_parked(self, place: Position) -> Taken | None:
        """What is parked at `place`, now in flight; None when that is owed no more."""
        async with self._taking:
            item = self.parked.at(place)
            if item is None or owed_ranges.overlaps(self.in_flight, item):
                return None
            batch = BatchBuilder.of_one_row()
            await self._gather(batch, item)
            return self._claim(batch)

    def unpark(self) -> None:
        """Hand out in its turn what was parked."""
        self.parked.clear()
        self.wake()

    @property
    def sums(self) -> Totals:
        """Over what it is owed."""
        return self._sums

    def statistics(self) -> BacklogStatistics:
        """Where it stands; `oldest_owed_ns` may be that of a look before after a long backlog,
        unless `find_oldest` was called just now.
        """
        free = self._there(self.ranges)
        oldest_ns = 0
        if free:
            head = free[0].start.row
            row = self._flying.get(head)
            if row is not None:
                found: int | None = row.received_ns
            else:
                found = self._reader.received_ns(self.signal, head)
            oldest_ns = found or 0
        return BacklogStatistics(
            self.name,
            max(self._sums.items, 0),
            max(self._sums.rows, 0),
            max(self._sums.raw_bytes, 0),
            oldest_ns,
            self._in_flight_items,
            self.is_paused,
            self.signal,
        )

    async def find_oldest(self) -> None:
        """Look up when the oldest of what it is owed was received. Raises BufferUnavailable."""
        free = self._there(self.ranges)
        if free and free[0].start.row not in self._flying:
            await self._reader.find_oldest(self.signal, free[0].start.row)

    def attach(self, health: Callable[[], Health], on_pause: object = None) -> None:
        """A courier serves it from now on; how it fares, any thread may ask by `health`."""
        self._health = health

    def detach(self) -> None:
        """No courier serves it any more: what it is owed waits."""
        self._health = None

    def health(self) -> Health | None:
        """How its courier fares; None when there is none."""
        report = self._health
        return report() if report is not None else None

    # -- what the log calls -------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it is owed what comes."""
        return bool(self.ranges) and self.ranges[-1].end is None

    @property
    def is_over(self) -> bool:
        """Whether it is owed nothing, and nothing of what comes: it may begin as a new one does."""
        return not self.ranges

    def close(self) -> None:
        """Owe it nothing new; what it is owed stays so."""
        to_come = owed_ranges.open_from(self._ledger.last_row + 1)
        self.ranges = owed_ranges.subtract(self.ranges, to_come)
        self.changed()

    def set_paused(self, is_paused: bool) -> None:  # noqa: FBT001 - a setter
        """Keep the flag with the next commit."""
        self.is_paused = is_paused
        self.changed()

    def remove(self) -> None:
        """Drop what it is owed, for good, with the next commit. Dead letters stay."""
        if not self.is_removed:
            self._ledger.pending.remove(self.key)
        self.is_removed, self._health = True, None
        self.ranges, self.in_flight = (), ()
        self._forget()
        self._sums, self._in_flight_items = Totals(), 0

    def changed(
        self,
        settled: Ranges = (),
        dead_letters: Sequence[DeadLetter] = (),
        *,
        status: int = 0,
        at_ns: int = 0,
    ) -> None:
        """Have what is owed now, and what was settled of it, written with the next commit."""
        self._ledger.pending.update(
            self.key,
            self.ranges,
            is_paused=self.is_paused,
            settled=settled,
            at_ns=at_ns,
            status=status,
            letters=dead_letters,
        )
        self._ledger.changed(dead_letters)

    def wake(self) -> None:
        """Let who waits look again."""
        news, self.news = self.news, asyncio.Event()
        news.set()

    def rows_added(self, sums: Totals) -> None:
        """Rows of its signal were committed; an open range owes them."""
        if self.is_open:
            self.wake()
            self._sums += sums

    def evict(self, ranges: Ranges, rows: Iterable[GoneRow]) -> None:
        """`rows` have gone, of which `ranges` were owed until then; what was settled stays so.

        What of it is in flight may still be delivered, which then changes nothing here.
        """
        gone = owed_ranges.intersection(self.ranges, ranges)
        if not gone:
            return
        self.ranges = owed_ranges.subtract(self.ranges, gone)
        self.parked.keep(self.ranges)
        self._sums -= sums_of(gone, rows, left=self.ranges)
        self._mend_sums()
        self.changed()

    def owe(self, ranges: Ranges, sums: Totals) -> None:
        """Owe `ranges` again, or for the first time; `sums` is what of them was not owed yet."""
        if self.is_removed:
            return
        self.ranges = owed_ranges.union((*self.ranges, *ranges))
        self._sums += sums
        self.changed()
        self.wake()

    def hold(self, ranges: Ranges) -> Ranges:
        """Owe `ranges` again or for the first time, to nobody's hands yet: `release` must follow.

        Returns what of it was not owed already. Once that is on disk (`flush`) no row of it goes,
        so that its sums can be looked up; a crash before `release` leaves it owed.
        """
        held = owed_ranges.subtract(self._there(owed_ranges.union(ranges)), self.ranges)
        if held:
            self.ranges = owed_ranges.union((*self.ranges, *held))
            self.in_flight = owed_ranges.union((*self.in_flight, *held))
            self.changed()
        return held

    def release(self, held: Ranges, there: Ranges, sums: Totals) -> bool:
        """Hand out what `hold` returned; `there` is what of it exists, `sums` its sums.

        False when it is not owed any more: the destination was removed, or the file replaced.
        """
        if self.is_removed or owed_ranges.subtract(held, self.in_flight):
            return False
        self.in_flight = owed_ranges.subtract(self.in_flight, held)
        self.ranges = owed_ranges.subtract(self.ranges, owed_ranges.subtract(held, there))
        self._sums += sums
        self._mend_sums()
        self.changed()
        self.wake()
        return True

    def skip(self, item: OwedRange) -> None:
        """Rows of another destination alone: not owed, and not settled either.

        To be called instead of `rows_added`, before anything can have taken them. What is before
        them, back to the last row of this signal, is of others.
        """
        start = Position(self._ledger.last_rows[self.signal] + 1)
        self.ranges = owed_ranges.subtract(self.ranges, (OwedRange(start, item.end),))
        self.changed()

    def readmitted(self, item: OwedRange, sums: Totals) -> None:
        """Rows were committed that are owed to this destination by name, and not to every one."""
        if self.is_open:
            self.rows_added(sums)
        else:
            self.owe((item,), sums)

    def restart_after(self, last_row: int) -> None:
        """The file was replaced: what it owed lies in the old one; rows to come are owed, unless
        it is closed.
        """
        self.ranges = owed_ranges.open_from(last_row + 1) if self.is_open else ()
        self.in_flight = ()
        self._forget()
        self._sums, self._in_flight_items = Totals(), 0
        self.changed()

    # -- inside -------------------------------------------------------------------------------

    def _free(self) -> Ranges:
        if self.is_removed or (self._keeps_order and self.in_flight):
            return ()
        held = (*self.in_flight, *self.parked.ranges, *self.look_ahead.held)
        free = owed_ranges.subtract(self.ranges, held)
        return owed_ranges.clip(free, self._ledger.last_rows[self.signal])

    def _there(self, ranges: Ranges) -> Ranges:
        """What of `ranges` can hold rows of this signal."""
        return owed_ranges.clip(ranges, self._ledger.last_rows[self.signal])

    def _forget(self) -> None:
        """What was known of rows that are not owed any more."""
        self._flying, self._parts = {}, PartialRows()
        self.parked.clear()

    async def _gather(self, batch: BatchBuilder, item: OwedRange) -> bool:
        """Fill `batch` from one range; returns whether it is full."""
        end = item.end or Position(self._ledger.last_rows[self.signal] + 1)
        last_row = end.row if end.item else end.row - 1
        position = item.start
        while position < end:
            chunk = await self._reader.read_chunk(
                self.signal, position.row, last_row, batch.budget()
            )
            if chunk is None:
                return True
            await batch.add(chunk, item, self._parts)
            stop = min(end, max(position, Position(chunk.next_row)))
            batch.covered.append(OwedRange(position, stop))
            position = stop
            if chunk.is_full:
                return True
        return False

    def _claim(self, batch: BatchBuilder) -> Taken | None:
        """Put what was read in flight, settle what was damaged or is not there any more."""
        # While rows were read, the backlog may have been removed or the file replaced.
        still_owed = owed_ranges.subtract(self.ranges, self.in_flight)
        covered = owed_ranges.union(batch.covered)
        if self.is_removed or owed_ranges.subtract(covered, still_owed):
            return None
        bad = tuple(owed_ranges.row_range(row.row) for row in batch.damaged)
        if not batch.rows and not batch.damaged:
            # It has gone, or is of other signals.
            self.ranges = owed_ranges.subtract(self.ranges, covered)
            self._mend_sums()
            self.changed()
            return None
        if not batch.rows:
            self._settle_damaged(covered, batch.damaged)
            return None
        ranges = owed_ranges.subtract(covered, bad)
        if bad:
            self._settle_damaged(owed_ranges.intersection(covered, bad), batch.damaged)
        taken = Taken(tuple(batch.rows), ranges)
        self.in_flight = owed_ranges.union((*self.in_flight, *ranges))
        self._in_flight_items += taken.items
        self._flying.update((row.row, row) for row in batch.rows)
        return taken

    def _settle_damaged(self, ranges: Ranges, damaged: list[DamagedRow]) -> None:
        letters = [
            DeadLetter(
                destination=self.name,
                reason=row.reason,
                words=row.words,
                items=row.items,
                affected=row.items,
                encoding=row.encoding,
                body=row.body,
                row=row.row,
                received_ns=row.received_ns,
                signal=row.signal,
            )
            for row in damaged
        ]
        self._settle(ranges, damaged, letters, status=0, at_ns=self._ledger.now_ns())

    def _land(self, taken: Taken) -> bool:
        """Take it out of flight; False when it is not in flight (settled before, or removed)."""
        if not taken.ranges or owed_ranges.subtract(taken.ranges, self.in_flight):
            return False
        self.in_flight = owed_ranges.subtract(self.in_flight, taken.ranges)
        self._in_flight_items -= taken.items
        for row in taken.rows:
            self._flying.pop(row.row, None)
        if self._keeps_order:
            self.wake()
        return True

    def _settle(
        self,
        ranges: Ranges,
        rows: Sequence[StoredRow | DamagedRow],
        dead_letters: Sequence[DeadLetter],
        *,
        status: int,
        at_ns: int,
    ) -> None:
        # What was evicted while it was in flight has left the sums already.
        gone = owed_ranges.intersection(ranges, self.ranges)
        self.ranges = owed_ranges.subtract(self.ranges, ranges)
        self.parked.keep(self.ranges)
        if gone == ranges and not self._parts.wholes:
            self._sums -= Totals(
                len(rows), sum(row.items for row in rows), sum(len(row.body) for row in rows)
            )
        else:
            self._sums -= self._parts.sums(gone, rows, left=self.ranges)
            self._parts.forget_settled(self.ranges)
        self._mend_sums()
        if self.look_ahead.held:
            self.wake()
        self.changed(ranges, dead_letters, status=status, at_ns=at_ns)

    def _mend_sums(self) -> None:
        if not self._there(self.ranges):
            self._sums = Totals()
