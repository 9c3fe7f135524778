"""What one destination is owed of one signal by the streams that are this relay's: the engine's
`api.Consumer`.

It is a member of a consumer group of its own, which shares the streams among the relays of the
fleet (`member`). What comes and goes with that are its lanes. Couriers notice nothing of it: what
is in flight when a stream goes to another relay may still be settled for a moment, and what is
settled later was delivered twice.

The ranges in memory are the truth; what is committed owes the same places or more, and follows
after 200 ms. Everything runs in the event loop, nothing here blocks it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import structlog

from relay.buffer import owed_ranges
from relay.buffer.api import LookAhead
from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.gather import REST_SECONDS, Cursor, Decode, Gathered, Gatherer
from relay.buffer.kafka.lane import Lane, streams_of, within
from relay.buffer.kafka.places import stream_of
from relay.buffer.kafka.streams import Stream, Streams
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import partial_rows
from relay.buffer.sqlite.parked import ParkedRanges
from relay.buffer.sqlite.types import Budget, Totals
from relay.buffer.values import BacklogStatistics
from relay.model.records import (
    DeadLetter,
    Encoding,
    Health,
    OwedRange,
    Position,
    Signal,
    Taken,
)

log = structlog.stdlib.get_logger(__name__)

# How many of the newest rows are looked at for one that is there.
_NEWEST_LOOKS = 16

WriteLetters = Callable[[Sequence[DeadLetter], Callable[[], None]], None]
"""Writes dead letters, then calls that, in the event loop; tries until it succeeds."""


class Backlog:
    """The lanes of one destination and signal, and what of them is in flight."""

    def __init__(
        self, key: BacklogName, streams: Streams, decode: Decode, write_letters: WriteLetters
    ) -> None:
        self.name = key.destination
        self.signal = key.signal
        self.key = key
        self.is_paused = False
        self.lanes: dict[int, Lane] = {}
        self.delivered: Callable[[Taken, int, int], None] = lambda _taken, _status, _at: None
        self.may_read: Callable[[], bool] = lambda: True
        self.evicted_items = 0
        # Newer points before older ones would make these out of order.
        self._keeps_order = key.signal is Signal.METRICS
        self._streams = streams
        self._gatherer = Gatherer(streams, decode, key.destination)
        self._write_letters = write_letters
        # Also of streams that are another relay's by now: a courier may hold rows of them.
        self._in_flight: dict[int, Ranges] = {}
        self._in_flight_items = 0
        self._parked = ParkedRanges()
        self._health: Callable[[], Health] | None = None
        self._on_pause: Callable[[bool], None] | None = None
        self._changed = asyncio.Event()
        self._landed = asyncio.Event()
        self._taking = asyncio.Lock()

    # -- what couriers call -------------------------------------------------------------------

    @property
    def has_more(self) -> bool:
        """Whether anything is owed that is neither in flight nor parked."""
        return any(True for _ in self._cursors())

    @property
    def look_ahead(self) -> LookAhead | None:
        """None: what comes is another relay's as soon as it has the partition."""
        return None

    async def wait(self) -> None:
        """Return as soon as there is something to take. Ignores `is_paused`."""
        while not self.has_more:
            changed, resting = self._changed, self._seconds_of_rest()
            try:
                await asyncio.wait_for(changed.wait(), resting)
            except TimeoutError:
                continue

    async def take(
        self, *, max_bytes: int, max_items: int, one_encoding: bool = True
    ) -> Taken | None:
        """The next owed rows, now in flight; None when there are none (see `api`).

        Of several streams the oldest first. What no broker hands out now counts as not there.
        """
        async with self._taking:
            while cursors := list(self._cursors()):
                budget = Budget(
                    max_bytes, max_items, None, one_encoding=one_encoding, is_first=True
                )
                found = await self._gatherer.gather(cursors, budget, keeps_order=self._keeps_order)
                self._evict()
                taken = self._claim(found)
                if taken is not None:
                    return taken
            return None

    async def take_newest(self, encoding: Encoding | None = None) -> Taken | None:
        """The last row that `take` would come to, alone; None: none among the newest few, or they
        are to go in their order.
        """
        if self._keeps_order:
            return None
        async with self._taking:
            for _ in range(_NEWEST_LOOKS):
                last = [
                    (lane, lane_free[-1])
                    for lane, lane_free in self._free()
                    if encoding in (None, lane.stream.encoding)
                ]
                if not last:
                    return None
                lane, (start, end) = max(last, key=self._newness)
                if end is None:
                    return None
                row = end.row if end.item else end.row - 1
                item = OwedRange(max(start, Position(row)), end)
                budget = Budget(0, 0, None, one_encoding=False, is_first=True)
                cursors = [Cursor(lane, (item,))]
                found = await self._gatherer.gather(cursors, budget, keeps_order=False)
                self._evict()
                taken = self._claim(found)
                if taken is not None:
                    return taken
            return None

    async def split(self, taken: Taken, items: int) -> tuple[Taken, Taken]:
        """`taken` in two parts that stay in flight; raises as `api.Consumer` says."""
        return await partial_rows.halve(taken, items)

    def settle(self, taken: Taken, *, status: int, at_ns: int) -> None:
        """Delivered, answered with `status`: no longer owed. Never blocks."""
        self.settle_with(taken, (), status=status, at_ns=at_ns)

    def settle_with(
        self, taken: Taken, dead: Sequence[DeadLetter], *, status: int, at_ns: int
    ) -> None:
        """As `settle`; committed only when the dead letters are safe."""
        if not self._land(taken):
            return
        self._settle(taken.ranges, dead)
        self.delivered(taken, status, at_ns)

    def give_back(self, taken: Taken) -> None:
        """Not delivered: owed again, at its old place, parked no more."""
        if self._land(taken):
            self._parked.keep(self._owed_of(self._parked.ranges), without=taken.ranges)
            self._wake()

    def park(self, taken: Taken, trace_ids: bytes) -> None:
        """Not delivered: owed still, and handed out by `take_parked` alone."""
        if self._land(taken):
            self._parked.add(self._owed_of(taken.ranges), trace_ids)

    async def take_parked(self, place: Position) -> Taken | None:
        """What is parked at `place`, now in flight; None when that is owed no more."""
        async with self._taking:
            item = self._parked.at(place)
            lane = self.lanes.get(stream_of(place.row))
            if item is None or lane is None or lane.is_leaving:
                return None
            if owed_ranges.overlaps(self._in_flight.get(lane.number, ()), item):
                return None
            budget = Budget(0, 0, None, one_encoding=False, is_first=True)
            cursors = [Cursor(lane, (item,))]
            found = await self._gatherer.gather(cursors, budget, keeps_order=False)
            return self._claim(found)

    def unpark(self) -> None:
        """Hand out in its turn what was parked."""
        self._parked.clear()
        self._wake()

    def attach(
        self, health: Callable[[], Health], on_pause: Callable[[bool], None] | None = None
    ) -> None:
        """A courier serves it from now on; how it fares, any thread may ask by `health`.

        `on_pause` hears when a command, here or at another relay, pauses or resumes it.
        """
        self._health, self._on_pause = health, on_pause

    def detach(self) -> None:
        """No courier serves it any more: what it is owed waits."""
        self._health = self._on_pause = None

    def statistics(self) -> BacklogStatistics:
        """Where it stands as far as this relay delivers. Items of rows that it has not read yet are
        guessed by the mean of those that it has.
        """
        sums, oldest_ms = Totals(), 0
        for lane in self.lanes.values():
            there = lane.there(lane.ranges)
            sums += lane.stream.sums.of(there)
            if there:
                seen = self._streams.look(lane.stream, there[0].start.row)
                if seen is not None and not isinstance(seen, int):
                    oldest_ms = min(oldest_ms or seen.timestamp_ms, seen.timestamp_ms)
        return BacklogStatistics(
            self.name,
            sums.items,
            sums.rows,
            sums.raw_bytes,
            oldest_ms * 1_000_000,
            self._in_flight_items,
            self.is_paused,
            self.signal,
        )

    # -- what the fleet's side calls ----------------------------------------------------------

    def gain(self, lane: Lane) -> None:
        """Deliver of that stream from now on."""
        self.lanes[lane.number] = lane
        self._evict()
        self._wake()

    def set_paused(self, *, is_paused: bool) -> None:
        """Hand out nothing, or again, since a command said so, here or at another relay."""
        self.is_paused = is_paused
        if self._on_pause is not None:
            self._on_pause(is_paused)
        self._wake()

    async def release(self, numbers: Iterable[int], seconds: float) -> list[Lane]:
        """Take no more of those streams, and wait until nothing of them is in flight or to be
        written, but not longer than so.
        """
        lanes = [lane for each in numbers if (lane := self.lanes.get(each)) is not None]
        for lane in lanes:
            lane.is_leaving = True
        until = time.monotonic() + seconds
        while any(self._in_flight.get(lane.number) or lane.unwritten for lane in lanes):
            try:
                await asyncio.wait_for(self._landed.wait(), until - time.monotonic())
            except TimeoutError:
                break
        return [lane for lane in lanes if self.lanes.get(lane.number) is lane]

    @property
    def in_flight(self) -> Ranges:
        """What couriers hold."""
        return owed_ranges.union(item for each in self._in_flight.values() for item in each)

    @property
    def has_parked(self) -> bool:
        """Whether anything of it is tried alone."""
        return bool(self._parked.ranges)

    def parked_of(self, trace_id: bytes) -> tuple[Ranges, Ranges]:
        """What is parked that may be of the trace, and what is of others."""
        return self._parked.of_trace(trace_id)

    def forget(self, numbers: Iterable[int]) -> None:
        """Those streams are another relay's, or nobody's."""
        for each in numbers:
            self.lanes.pop(each, None)
        self._parked.keep(self._owed_of(self._parked.ranges))
        self._landed_some()

    def owe(self, ranges: Ranges) -> int:
        """Owe those again, as far as their streams are here; how many lanes that changed."""
        count = 0
        for number in streams_of(ranges):
            lane = self.lanes.get(number)
            if lane is not None:
                lane.owe(within(ranges, number))
                count += 1
        self._wake()
        return count

    def grew(self, stream: Stream | None = None) -> None:
        """More is kept of a stream, or more may be read."""
        if stream is None or stream.number in self.lanes:
            self._evict()
            self._wake()

    # -- inside -------------------------------------------------------------------------------

    def _free(self) -> Iterable[tuple[Lane, Ranges]]:
        if (
            self.is_paused
            or not self.may_read()
            or (self._keeps_order and any(self._in_flight.values()))
        ):
            return
        now, parked = time.monotonic(), self._parked.ranges
        for lane in self.lanes.values():
            free = lane.free((*self._in_flight.get(lane.number, ()), *parked), now)
            if free:
                yield lane, free

    def _cursors(self) -> Iterable[Cursor]:
        return (Cursor(lane, free) for lane, free in self._free())

    def _seconds_of_rest(self) -> float | None:
        """How long until a stream may be asked for again; None: none rests."""
        now = time.monotonic()
        if any(lane.rests_until > now for lane in self.lanes.values()):
            return REST_SECONDS
        return None

    def _newness(self, each: tuple[Lane, OwedRange]) -> tuple[int, int]:
        lane, (_start, end) = each
        row = end.row - (not end.item) if end is not None else 0
        seen = self._streams.look(lane.stream, row)
        return (0 if seen is None or isinstance(seen, int) else seen.timestamp_ms), row

    def _owed_of(self, ranges: Ranges) -> Ranges:
        """What of `ranges` is owed here."""
        owed: list[OwedRange] = []
        for number in sorted(streams_of(ranges)):
            lane = self.lanes.get(number)
            if lane is not None:
                owed += owed_ranges.intersection(within(ranges, number), lane.bounded)
        return tuple(owed)

    def _claim(self, found: Gathered) -> Taken | None:
        """Put what was read in flight, settle what was nothing."""
        # While rows were read, streams may have gone elsewhere.
        covered = owed_ranges.union(found.covered)
        if owed_ranges.subtract(covered, self._owed_of(covered)) or any(
            owed_ranges.overlaps(covered, item)
            for number in streams_of(covered)
            for item in self._in_flight.get(number, ())
        ):
            return None
        spoiled = owed_ranges.union(found.spoiled)
        if found.dead:
            self._hold_until_written((*spoiled, *found.partly), found.dead)
        if not found.rows:
            self._settle(covered, ())
            return None
        ranges = owed_ranges.subtract(covered, spoiled)
        self._settle(spoiled, ())
        taken = Taken(tuple(found.rows), ranges)
        for number in streams_of(ranges):
            own = within(ranges, number)
            self._in_flight[number] = owed_ranges.union((*self._in_flight.get(number, ()), *own))
        self._in_flight_items += taken.items
        return taken

    def _land(self, taken: Taken) -> bool:
        """Take it out of flight; False when it is not in flight (settled before)."""
        numbers = streams_of(taken.ranges)
        if not numbers or any(
            owed_ranges.subtract(within(taken.ranges, each), self._in_flight.get(each, ()))
            for each in numbers
        ):
            return False
        for each in numbers:
            left = owed_ranges.subtract(self._in_flight[each], within(taken.ranges, each))
            if left:
                self._in_flight[each] = left
            else:
                del self._in_flight[each]
        self._in_flight_items -= taken.items
        if self._keeps_order:
            self._wake()
        self._landed_some()
        return True

    def _settle(self, ranges: Ranges, dead: Sequence[DeadLetter]) -> None:
        if dead:
            self._hold_until_written(ranges, dead)
        for number in streams_of(ranges):
            lane = self.lanes.get(number)
            if lane is not None:
                lane.settle(within(ranges, number))
        self._parked.keep(self._owed_of(self._parked.ranges))

    def _hold_until_written(self, ranges: Iterable[OwedRange], dead: Sequence[DeadLetter]) -> None:
        """Commit nothing of `ranges` as settled before those dead letters are safe."""
        held = owed_ranges.union(ranges)
        lanes = [self.lanes[each] for each in streams_of(held) if each in self.lanes]
        for lane in lanes:
            lane.hold(within(held, lane.number))

        def written() -> None:
            for lane in lanes:
                lane.let_go(within(held, lane.number))
            self._landed_some()
            self._wake()

        self._write_letters(dead, written)

    def _evict(self) -> None:
        """What the brokers do not keep any more is owed no longer."""
        for lane in self.lanes.values():
            lost = lane.evict()
            if lost:
                sums = lane.stream.sums.of(lost)
                # Of rows that went before anybody here read them nothing else is known.
                self.evicted_items += max(sums.items, sums.rows)
                log.error(
                    "fleet_rows_evicted",
                    destination=self.name,
                    signal=self.signal.word,
                    topic=lane.stream.topic,
                    partition=lane.stream.partition,
                    rows=sums.rows,
                    hint="the brokers' retention deleted them before they were delivered",
                )

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _landed_some(self) -> None:
        landed, self._landed = self._landed, asyncio.Event()
        landed.set()
