"""Finds rows by time and has them owed again, whichever relay has their partitions."""

import asyncio
import secrets
from collections.abc import Callable
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
from relay.buffer.sqlite.types import Totals
from relay.buffer.values import KeptRows, OwedAgain
from relay.model.errors import BufferUnavailable
from relay.model.records import Encoding, OwedRange, Position, Signal

T = TypeVar("T")
Topics = dict[str, tuple[Signal, Encoding]]


class Replays:
    """What a fleet keeps, found by time (`api.ReplayIndex`)."""

    def __init__(
        self, settings: KafkaSettings, seeker: Seeker, streams: Streams, control: Control
    ) -> None:
        self._settings = settings
        self._seeker = seeker
        self._streams = streams
        self._control = control

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
        """Raises BufferUnavailable: a fleet's log has no index of traces."""
        del trace_id, signal
        raise BufferUnavailable(
            "a fleet's log cannot be searched for a trace", hint="replay by time: --since"
        )

    async def owe(self, key: BacklogName, kept: KeptRows, *, is_dry_run: bool) -> OwedAgain | None:
        """Order that what of it is not owed already is; items are guessed where nothing here read
        them. Every relay knows the order when this returns.
        """
        topics = self._topics(key.signal)
        settings = self._client(key)
        owed = await asyncio.to_thread(_in_client, settings, lambda c: _owed(c, topics))
        new = owed_ranges.union(
            part
            for number in streams_of(kept.ranges)
            for part in owed_ranges.subtract(within(kept.ranges, number), owed.get(number, ()))
        )
        sums = Totals()
        for number in streams_of(new):
            stream = self._streams.get(number)
            own = within(new, number)
            if stream is not None:
                sums += stream.sums.of(own)
            else:
                rows = sum(end.row - start.row for start, end in own if end is not None)
                sums += Totals(rows, rows)
        if new and not is_dry_run:
            await self._control.order(secrets.token_hex(8), Order(key, new))
        return OwedAgain(sums.rows, sums.items, sums.raw_bytes)

    async def begin(self, key: BacklogName, since_ns: int) -> None:
        """Commit a beginning for a group that has none. Raises BufferUnavailable."""
        topics = self._topics(key.signal)
        settings = self._client(key)
        await asyncio.to_thread(_in_client, settings, lambda c: _begin(c, topics, since_ns))

    def _client(self, key: BacklogName) -> ClientSettings:
        return {**reader_settings(self._settings.client()), "group.id": self._settings.group(key)}

    def _topics(self, signal: Signal) -> Topics:
        return {
            topic: kind for topic, kind in self._settings.rows_topics.items() if kind[0] is signal
        }


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
