"""Finds rows by time and has them owed again, whichever relay has their partitions."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka import owed_text
from relay.buffer.kafka.control import Control
from relay.buffer.kafka.fetch import ASK_SECONDS, Seeker, make_consumer, reader_settings
from relay.buffer.kafka.lane import streams_of, within
from relay.buffer.kafka.orders import Order
from relay.buffer.kafka.places import first_row, stream_number
from relay.buffer.kafka.settings import ClientSettings, KafkaSettings
from relay.buffer.kafka.streams import Streams
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.partial_rows import items_of, share
from relay.buffer.sqlite.replay_query import stretch
from relay.buffer.sqlite.types import Totals
from relay.buffer.values import KeptRows, OwedAgain
from relay.model.errors import BufferUnavailable
from relay.model.records import Encoding, OwedRange, Position, Signal, StoredRow
from relay.otlp.ids import stretches_of_trace

T = TypeVar("T")
_READ_ROWS = 50
Topics = dict[str, tuple[Signal, Encoding]]


class Replays:
    """What a fleet keeps, found by time (`api.ReplayIndex`)."""

    def __init__(
        self,
        settings: KafkaSettings,
        seeker: Seeker,
        streams: Streams,
        control: Control,
        places_of: Callable[[bytes, Signal], Awaitable[list[int]]] | None,
        read_rows: Callable[[Iterable[int]], Awaitable[list[StoredRow]]],
    ) -> None:
        """`places_of` says which rows hold a trace; None: nobody knows."""
        self._settings = settings
        self._seeker = seeker
        self._streams = streams
        self._control = control
        self._places_of = places_of
        self._read_rows = read_rows

    async def since(self, since_ns: int, signal: Signal) -> KeptRows:
        """Rows of a signal that were appended at `since_ns` or later, by the brokers' clocks."""
        topics = self._topics(signal)
        found = await self._seeker.ask(lambda consumer: _since(consumer, topics, since_ns))
        ranges = owed_ranges.union(
            OwedRange(Position(first), Position(stop)) for first, stop in found if first < stop
        )
        rows = sum(end.row - start.row for start, end in ranges if end is not None)
        return KeptRows(ranges, rows=rows)

    async def of_trace(self, trace_id: bytes, signal: Signal) -> KeptRows:
        """What of a signal is of a trace (16 bytes), and nothing else of the rows that hold it."""
        if self._places_of is None:
            raise BufferUnavailable(
                "this fleet remembers no traces: history = 0", hint="replay by time: --since"
            )
        places = await self._places_of(trace_id, signal)
        ranges: list[OwedRange] = []
        for at in range(0, len(places), _READ_ROWS):
            for row in await self._read_rows(places[at : at + _READ_ROWS]):
                runs = await asyncio.to_thread(
                    stretches_of_trace, row.body, row.encoding, row.signal, trace_id
                )
                ranges += [stretch(row, first, stop) for first, stop in runs]
        rows = len({item.start.row for item in ranges})
        return KeptRows(owed_ranges.union(ranges), rows=rows)

    async def not_owed(self, key: BacklogName, kept: KeptRows) -> Ranges:
        """What of it is not owed already, as far as the group has committed."""
        topics = self._topics(key.signal)
        settings = self._client(key)
        owed = await asyncio.to_thread(_in_client, settings, lambda c: _owed(c, topics))
        return owed_ranges.union(
            part
            for number in streams_of(kept.ranges)
            for part in owed_ranges.subtract(within(kept.ranges, number), owed.get(number, ()))
        )

    async def owe(self, key: BacklogName, kept: KeptRows, *, is_dry_run: bool) -> OwedAgain | None:
        """Order that what of it is not owed already is; items are guessed where nothing here read
        them. Every relay knows the order when this returns.
        """
        new = await self.not_owed(key, kept)
        sums = await self._sums(new)
        if new and not is_dry_run:
            await self._control.order(secrets.token_hex(8), Order(key, new))
        return OwedAgain(sums.rows, sums.items, sums.raw_bytes)

    async def _sums(self, ranges: Ranges) -> Totals:
        """What there is in `ranges`: of few rows as they are, of many as far as it is known."""
        rows = {
            row
            for start, end in ranges
            if end is not None
            for row in range(start.row, min(end.row + bool(end.item), start.row + _READ_ROWS + 1))
        }
        if len(rows) <= _READ_ROWS:
            return _exact(await self._read_rows(rows), ranges)
        sums = Totals()
        for number in streams_of(ranges):
            stream, own = self._streams.get(number), within(ranges, number)
            if stream is not None:
                sums += stream.sums.of(own)
            else:
                count = sum(end.row - start.row for start, end in own if end is not None)
                sums += Totals(count, count)
        return sums

    async def begin(self, key: BacklogName, since_ns: int) -> None:
        """Commit a beginning for a group that has none. Raises BufferUnavailable."""
        topics = self._topics(key.signal)
        settings = self._client(key)
        await asyncio.to_thread(_in_client, settings, lambda c: _begin(c, topics, since_ns))

    def _client(self, key: BacklogName) -> ClientSettings:
        return {**reader_settings(self._settings), "group.id": self._settings.group(key)}

    def _topics(self, signal: Signal) -> Topics:
        return {
            topic: kind for topic, kind in self._settings.rows_topics.items() if kind[0] is signal
        }


def _exact(rows: Iterable[StoredRow], ranges: Ranges) -> Totals:
    """Sums over what of `ranges` is in `rows`."""
    sums = Totals()
    for row in rows:
        own = owed_ranges.intersection(ranges, (owed_ranges.row_range(row.row),))
        parts = [items_of(item, row.row, row.items) for item in own]
        items = sum(stop - first for first, stop in parts)
        raw_bytes = sum(share(len(row.body), row.items, *each) for each in parts)
        sums += Totals(1, items, raw_bytes)
    return sums


def _in_client(settings: ClientSettings, question: Callable[[Consumer], T]) -> T:
    consumer = make_consumer(settings)
    try:
        return question(consumer)
    except KafkaException as error:
        raise BufferUnavailable(error.args[0].str()) from error
    finally:
        consumer.close()


def _places(consumer: Consumer, topics: Topics) -> list[TopicPartition]:
    known = consumer.list_topics(timeout=ASK_SECONDS).topics
    return [
        TopicPartition(topic, partition)
        for topic in topics
        if topic in known
        for partition in known[topic].partitions
    ]


def _stream(topics: Topics, place: TopicPartition) -> int:
    return stream_number(*topics[place.topic], place.partition)


def _since(consumer: Consumer, topics: Topics, since_ns: int) -> list[tuple[int, int]]:
    """The first row of each partition that was appended since then, and the next to come."""
    asked = [
        TopicPartition(each.topic, each.partition, max(since_ns // 1_000_000, 0))
        for each in _places(consumer, topics)
    ]
    found = []
    for each in consumer.offsets_for_times(asked, ASK_SECONDS):
        low, high = consumer.get_watermark_offsets(
            TopicPartition(each.topic, each.partition), ASK_SECONDS
        )
        base = first_row(_stream(topics, each))
        first = max(each.offset, low) if each.offset >= 0 else high
        found.append((base + first, base + high))
    return found


def _owed(consumer: Consumer, topics: Topics) -> dict[int, Ranges]:
    """What the group of `consumer` is owed of each stream, as far as it has committed."""
    owed: dict[int, Ranges] = {}
    for each in consumer.committed(_places(consumer, topics), ASK_SECONDS):
        number = _stream(topics, each)
        if each.offset >= 0:
            row = first_row(number) + each.offset
            owed[number] = owed_text.decode(row, each.metadata or "").ranges
    return owed


def _begin(consumer: Consumer, topics: Topics, since_ns: int) -> None:
    places = _places(consumer, topics)
    if any(each.offset >= 0 for each in consumer.committed(places, ASK_SECONDS)):
        return
    starts = [row for row, _high in _since(consumer, topics, since_ns)]
    begins = [
        TopicPartition(each.topic, each.partition, row - first_row(_stream(topics, each)))
        for each, row in zip(places, starts, strict=True)
    ]
    if begins:
        consumer.commit(offsets=begins, asynchronous=False)
