"""The reading half of a fleet's log: every backlog of this relay, and what they share.

One `Tail` and one `Seeker` read for all of them; each backlog has a membership of its own. Here is
also the clock by which commits go out.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby

import anyio
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from relay.buffer.api import Start
from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.backlog import Backlog
from relay.buffer.kafka.control import Control
from relay.buffer.kafka.coordinator import NOT_EMPTY, NOT_THERE, delete_groups
from relay.buffer.kafka.delivery import Delivery, Followed
from relay.buffer.kafka.fetch import ASK_SECONDS, CHUNK_BYTES, Seeker, Tail, leader_of
from relay.buffer.kafka.gather import Decode
from relay.buffer.kafka.history import History
from relay.buffer.kafka.history_views import FleetBrowse, FleetTraces
from relay.buffer.kafka.letters import Letters, Sends
from relay.buffer.kafka.places import INDEXED, first_row, stream_of
from relay.buffer.kafka.processed import ProcessedForeign
from relay.buffer.kafka.records import DamagedRecord, NotOtlp, Record
from relay.buffer.kafka.replays import Replays
from relay.buffer.kafka.rights import REFUSED, Lacking
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.streams import Stream, Streams
from relay.buffer.values import BufferStatistics
from relay.model.counters import Counters
from relay.model.errors import BufferFailure, BufferUnavailable
from relay.model.records import Signal, StoredRow

COMMIT_SECONDS = 0.2
_LOOK_SECONDS = 10.0
_FLUSH_SECONDS = 15.0
_STOP_SECONDS = 20.0
_TELL_SECONDS = 5.0
_MOST_ROWS_BEFORE = 64


class Readers:
    """What this relay reads of a fleet's log. Belongs to the event loop."""

    def __init__(
        self,
        settings: KafkaSettings,
        bridge: Sends,
        counters: Counters,
        decode: Decode,
        history: History | None = None,
    ) -> None:
        """Without a `history` nothing can be looked through by trace or time."""
        self._settings = settings
        self._decode = decode
        self._seeker = Seeker(settings)
        self._tail: Tail | None = None
        self._streams = Streams(settings, self._seeker, ProcessedForeign(counters))
        self._followed: Followed | None = None
        self._deliveries: dict[BacklogName, Delivery] = {}
        self._leaving: list[Delivery] = []
        self.control = Control(settings, bridge, self._on_paused, self._grew, self._heed_orders)
        self.dead_letters = Letters(settings, bridge, self._seeker, counters)
        self._rows_before = _MOST_ROWS_BEFORE // 2
        self.history = history
        self.browse: FleetBrowse | None = None
        self.traces: FleetTraces | None = None
        if history is not None:
            history.backlogs = self.consumers
            self.browse = FleetBrowse(history, self.dead_letters, self.read_rows)
            self.traces = FleetTraces(history, self.dead_letters)
        self.replays = Replays(
            settings,
            self._seeker,
            self._streams,
            self.control,
            self.traces.places if self.traces is not None else None,
            self.read_rows,
        )

    # -- life ---------------------------------------------------------------------------------

    def _begin(self) -> Followed:
        """Start what reads, with the first that wants it; the event loop must run."""
        if self._tail is None or self._followed is None:
            self._tail = Tail(self._settings, asyncio.get_running_loop())
            self._followed = Followed(self._streams, self._tail)
            self._tail.start()
            self._seeker.start()
            self._tail.follow(self.control.place, self.control)
            self._tail.follow(self.dead_letters.place, self.dead_letters)
            if self.history is not None:
                self.history.start()
        return self._followed

    async def run(self) -> None:
        """Commit, tell of deliveries, look after what the brokers keep, until cancelled."""
        self._begin()
        async with anyio.create_task_group() as tasks:
            if self.history is not None:
                tasks.start_soon(self.history.told.run)
            await self._commit()

    async def _commit(self) -> None:
        looked = time.monotonic()
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            for each in self._deliveries.values():
                each.commit()
            with suppress(BufferFailure):
                await self._tell_done()
            if time.monotonic() - looked > _LOOK_SECONDS:
                with suppress(BufferFailure):
                    await self._look()
                    await self.control.tidy()
                looked = time.monotonic()

    async def _tell_done(self) -> None:
        """Which orders are carried out, once that is committed."""
        for each in list(self._deliveries.values()):
            while each.finished:
                stream, names = each.finished.popitem()
                try:
                    await self.control.done(names, stream)
                except BufferFailure:
                    each.finished.setdefault(stream, set()).update(names)
                    raise

    def _heed_orders(self) -> None:
        for each in self._deliveries.values():
            each.heed_orders()

    async def close(self) -> None:
        """Commit what was settled, leave the groups, and end; safe twice."""
        deliveries = [*self._deliveries.values(), *self._leaving]
        for each in deliveries:
            each.stop()
        with suppress(TimeoutError):
            ended = asyncio.gather(*(each.member.ended.wait() for each in deliveries))
            await asyncio.wait_for(ended, _STOP_SECONDS)
        with suppress(BufferFailure, TimeoutError):
            await asyncio.wait_for(self._tell_done(), _TELL_SECONDS)
        if self.history is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.history.told.tell(), _TELL_SECONDS)
            self.history.stop()
        self.dead_letters.stop()
        if self._tail is not None:
            self._tail.stop()
            self._seeker.stop()
        self._deliveries.clear()

    async def _look(self) -> None:
        """Which rows are gone, and whether those that were damaged may be read by now."""
        for stream in self._streams:
            low = await self._seeker.ask(
                lambda consumer, s=stream: low_of(consumer, s.topic, s.partition)  # type: ignore[misc]
            )
            stream.first_row = max(stream.first_row, stream.row_at(low))
            if stream.damaged:
                leader = await self._seeker.ask(
                    lambda consumer, s=stream: leader_of(consumer, s.topic, s.partition)  # type: ignore[misc]
                )
                stream.forget_damaged(leader, time.monotonic())
            self._grew(stream)
        topic = self._settings.dead_letters_topic
        low = await self._seeker.ask(lambda consumer: low_of(consumer, topic, 0))
        self.dead_letters.expired(low)

    def _grew(self, stream: Stream | None = None) -> None:
        for each in self._deliveries.values():
            each.backlog.grew(stream)

    # -- backlogs -----------------------------------------------------------------------------

    def consumer(self, key: BacklogName, start: Start = "auto") -> Backlog:
        """The backlog of that name, a member of its group from now on."""
        known = self._deliveries.get(key)
        if known is not None:
            return known.backlog
        followed = self._begin()
        backlog = Backlog(key, self._streams, self._decode, self.dead_letters.write)
        backlog.is_paused = key.destination in self.control.paused
        backlog.may_read = lambda: self.control.has_read
        if self.history is not None:
            backlog.delivered = partial(self.history.told.delivered, key)
        delivery = Delivery(
            self._settings,
            backlog,
            self._streams,
            followed,
            start=start,
            orders=self.control.orders,
            is_first=lambda: self._is_first(key),
        )
        self._deliveries[key] = delivery
        delivery.member.start()
        return backlog

    def _is_first(self, key: BacklogName) -> bool:
        """Whether no other destination of the fleet has a group of that signal. In its thread."""
        admin = AdminClient(dict(self._settings.client()))
        found = admin.list_consumer_groups(request_timeout=ASK_SECONDS).result()
        prefix = self._settings.group(BacklogName(""))
        own = self._settings.group(key)
        return not any(
            each.group_id != own
            and each.group_id.startswith(prefix)
            and _signal_of(each.group_id.removeprefix(prefix)) is key.signal
            for each in found.valid
        )

    def consumers(self) -> Mapping[BacklogName, Backlog]:
        """Every backlog that this relay is a member for."""
        return {key: each.backlog for key, each in self._deliveries.items()}

    def owe_only(self, wanted: Collection[BacklogName]) -> None:
        """Leave the groups of all others. What they are owed waits there, also what comes: the
        brokers delete it by age alone.
        """
        self._leaving = [each for each in self._leaving if not each.member.ended.is_set()]
        for key in [each for each in self._deliveries if each not in wanted]:
            delivery = self._deliveries.pop(key)
            delivery.stop()
            self._leaving.append(delivery)

    async def set_paused(self, destination: str, *, is_paused: bool) -> None:
        """For every relay. Raises BufferUnavailable."""
        await self.control.set_paused(destination, is_paused=is_paused)

    def _on_paused(self, destination: str, is_paused: bool) -> None:  # noqa: FBT001 - heard so
        for key, each in self._deliveries.items():
            if key.destination == destination:
                each.backlog.set_paused(is_paused=is_paused)

    async def remove(self, destination: str, signal: Signal | None = None) -> bool:
        """Delete the groups of a destination, and with them what it is owed; whether any was there.

        Raises BufferUnavailable, also while another relay still delivers to it.
        """
        signals = Signal if signal is None else (signal,)
        keys = [BacklogName(destination, each) for each in signals]
        left = [each for key in keys if (each := self._deliveries.pop(key, None)) is not None]
        for each in left:
            each.stop()
        for each in left:
            await each.member.ended.wait()
        groups = [self._settings.group(key) for key in keys]
        failed = await asyncio.to_thread(delete_groups, self._settings, groups)
        for group, why in failed.items():
            if why.error in REFUSED:
                raise BufferUnavailable(
                    Lacking("group", ("Delete",), (group,)).words(self._settings)
                )
            if why.error != NOT_THERE:
                hint = "does another relay still have the destination in its configuration?"
                raise BufferUnavailable(
                    f"group {group} cannot be deleted: {why.words}",
                    hint=hint if why.error == NOT_EMPTY else None,
                )
        return len(failed) < len(groups)

    # -- rows ---------------------------------------------------------------------------------

    async def read_rows(self, rows: Iterable[int]) -> list[StoredRow]:
        """Those that are kept and whole, in order, by their places or by the numbers that the
        history gave. Raises BufferUnavailable.
        """
        self._begin()
        wanted = sorted(set(rows))
        numbers = [each for each in wanted if each >= INDEXED]
        places = {each: each for each in wanted if each < INDEXED}
        if numbers and self.history is not None:
            places |= await asyncio.to_thread(self.history.file.places, numbers)
        await self._bring(places.values())
        found = []
        for number, place in sorted(places.items()):
            record = await self._record(place)
            if record is not None and record.value is not None:
                with suppress(DamagedRecord, NotOtlp):
                    row = await asyncio.to_thread(self._decode, record)
                    found.append(replace(row.row, row=number))
        return found

    async def _bring(self, places: Iterable[int]) -> None:
        """Have what is not in memory read in as few requests as may be, with what is before it:
        who looks from the newest down comes to that next.
        """
        for number, rows in groupby(sorted(places), key=stream_of):
            own = list(rows)
            stream = self._stream(number, own[-1])
            reached = 0
            for row in own:
                if row < reached or self._streams.look(stream, row) is not None:
                    continue
                first = max(row - self._rows_before, first_row(number), stream.first_row)
                reached = await self._streams.fetch(stream, first, CHUNK_BYTES)
                if reached > row:
                    self._rows_before = min(self._rows_before + 1, _MOST_ROWS_BEFORE)
                elif first < row:  # rows are large, or the brokers have deleted the first
                    self._rows_before //= 2
                    reached = await self._streams.fetch(stream, row, CHUNK_BYTES)

    async def _record(self, row: int) -> Record | None:
        stream = self._stream(stream_of(row), row)
        seen = self._streams.look(stream, row)
        if seen is None:
            await self._streams.fetch(stream, row, 1)
            seen = self._streams.look(stream, row)
        is_it = isinstance(seen, Record) and stream.row_at(seen.offset) == row
        return seen if is_it and isinstance(seen, Record) else None

    def _stream(self, number: int, last_row: int) -> Stream:
        """That stream, also where no backlog of this relay has it."""
        stream = self._streams.get(number)
        if stream is None:
            topic = self._streams.topic_of(number)
            stream = Stream(number, topic, 0, last_row - first_row(number) + 1)
        return stream

    async def find_oldest(self) -> None:
        """Read the head of each stream that a backlog is owed. Raises BufferUnavailable."""
        for each in self._deliveries.values():
            for lane in list(each.backlog.lanes.values()):
                there = lane.there(lane.ranges)
                if there and self._streams.look(lane.stream, there[0].start.row) is None:
                    await self._streams.fetch(lane.stream, there[0].start.row, 1)

    # -- the whole ----------------------------------------------------------------------------

    async def flush(self) -> None:
        """Return when everything that was settled is committed. Raises BufferUnavailable."""
        until = time.monotonic() + _FLUSH_SECONDS
        while True:
            for each in self._deliveries.values():
                each.commit()
            if all(each.is_safe for each in self._deliveries.values()):
                return
            if time.monotonic() > until:
                raise BufferUnavailable("the brokers did not accept what was settled in time")
            await asyncio.sleep(0.01)

    @property
    def is_forbidden(self) -> bool:
        """Whether a group does not take this relay, for want of a right."""
        return any(each.member.is_forbidden for each in self._deliveries.values())

    def lowest_owed(self) -> dict[tuple[str, int], int]:
        """The lowest offset that a backlog here is owed, of each partition that one has."""
        found: dict[tuple[str, int], int] = {}
        for each in self._deliveries.values():
            for lane in each.backlog.lanes.values():
                stream = lane.stream
                key = stream.topic, stream.partition
                offset = stream.offset_of(lane.to_commit.row)
                found[key] = min(offset, found.get(key, offset))
        return found

    def fill(self, statistics: BufferStatistics) -> BufferStatistics:
        """`statistics` with what is known here."""
        owed = [each.backlog.statistics() for each in self._deliveries.values()]
        evicted = {
            key: each.backlog.evicted_items
            for key, each in self._deliveries.items()
            if each.backlog.evicted_items
        }
        return replace(
            statistics,
            dead_letters=self.dead_letters.counts,
            owed_rows=max((each.owed_rows for each in owed), default=0),
            owed_items=max((each.owed_items for each in owed), default=0),
            evicted_items=evicted,
        )


def low_of(consumer: Consumer, topic: str, partition: int) -> int:
    """The first offset that is kept."""
    low, _high = consumer.get_watermark_offsets(TopicPartition(topic, partition), ASK_SECONDS)
    return int(low)


def _signal_of(name: str) -> Signal:
    """The signal of a group, by what follows the fleet's name in its own."""
    _, _, word = name.partition(".")
    return next((each for each in Signal if each.word == word), Signal.TRACES)
