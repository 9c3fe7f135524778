"""Builders for the fleet's tests: topics, readers of a relay, requests on their way."""

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from relay.buffer import api
from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.history import FILE, History
from relay.buffer.kafka.readers import Readers
from relay.buffer.kafka.records import Decoder, Outgoing, records_of
from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable
from relay.model.records import Encoding, Piece, Request, Taken
from relay.process.foreign import PrepareForeign
from relay.process.prepare import PrepareSettings
from tests.support.kafka import Brokers
from tests.support.relay_process import eventually
from tests.unit.buffer.making import piece, request

_names = itertools.count(1)
SECONDS = 40.0
PREPARE = PrepareForeign(lambda: (PrepareSettings(), None))


def settings_of(brokers: Brokers, *, relay_id: str = "r1", name: str = "") -> KafkaSettings:
    """A fleet of its own; with `name` another relay of the fleet of that name."""
    name = name or f"t{next(_names)}"
    fleet = FleetConfig(
        name=name,
        brokers=tuple(brokers.bootstrap),
        topic=f"{name}_spans",
        topic_json=f"{name}_spans_json",
        relay_id=relay_id,
    )
    return KafkaSettings(fleet, relay_id)


def make_topics(settings: KafkaSettings, partitions: int = 4, replication: int = 1) -> None:
    """What a fleet has on its brokers."""
    admin = AdminClient(dict(settings.client()))
    letters = {"cleanup.policy": "compact,delete", "max.message.bytes": "2097152"}
    own = (settings.dead_letters_topic, settings.control_topic)
    told = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
    stamped = {"message.timestamp.type": "LogAppendTime"}
    wanted = [
        NewTopic(topic, partitions, replication, config=stamped) for topic in settings.rows_topics
    ]
    wanted += [NewTopic(topic, 1, replication, config={**letters, **stamped}) for topic in own]
    wanted.append(NewTopic(settings.history_topic, 1, replication, config=told))
    for made in admin.create_topics(wanted).values():
        made.result(30)


def fleet_on(brokers: Brokers, partitions: int = 4, replication: int = 1) -> KafkaSettings:
    """A fleet of its own that has its topics."""
    settings = settings_of(brokers)
    make_topics(settings, partitions, replication)
    return settings


class Bridge:
    """Hands records to the brokers, one call after another."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._producer = Producer(
            {**settings.client(), "acks": "all", "message.max.bytes": 2097152, "linger.ms": 0}
        )

    async def send(self, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """Return when all are acknowledged."""
        return await anyio.to_thread.run_sync(self._send, records)

    def _send(self, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        done: list[tuple[int, int]] = []
        failed: list[str] = []

        def report(error: object, message: object) -> None:
            if error is not None:
                failed.append(str(error))
            else:
                done.append((message.partition(), message.offset()))  # type: ignore[attr-defined]

        try:
            for each in records:
                more = {"timestamp": each.timestamp_ms} if each.timestamp_ms else {}
                self._producer.produce(
                    each.topic,
                    each.value,
                    each.key,
                    partition=each.partition,
                    headers=list(each.headers),
                    on_delivery=report,
                    **more,  # type: ignore[arg-type]
                )
        except KafkaException as error:
            raise BufferUnavailable(str(error)) from error
        left = self._producer.flush(15)
        if failed or left:
            raise BufferUnavailable(f"{left} not sent, {failed[:1]}")
        return done


def now_request(made: Piece) -> Request:
    """A request of now."""
    return request(made, received_ns=time.time_ns())


def flip_a_bit_of_the_commit(settings: KafkaSettings, key: BacklogName, topic: str) -> int:
    """Damage what a destination committed for partition 0; the offset, which stays."""
    client = {**settings.client(), "group.id": settings.group(key), "enable.auto.commit": False}
    consumer = Consumer(client)
    (known,) = consumer.committed([TopicPartition(topic, 0)], 15)
    metadata = known.metadata or ""
    assert metadata
    damaged = metadata[:-1] + ("0" if metadata[-1] != "0" else "1")

    def is_done() -> bool:  # not while the relay's session goes on
        try:
            consumer.commit(
                offsets=[TopicPartition(topic, 0, known.offset, damaged)], asynchronous=False
            )
        except KafkaException:
            return False
        return True

    eventually(is_done, seconds=SECONDS)
    consumer.close()
    return known.offset


@dataclass
class Relay:
    """The reading half of one relay, and a way in."""

    settings: KafkaSettings
    readers: Readers
    bridge: Bridge
    counters: Counters = field(default_factory=Counters)

    async def append(self, *requests: Request, only: str = "") -> None:
        """Return when they are acknowledged."""
        records = [r for each in requests for r in records_of(each, self.settings, only)]
        await self.bridge.send(records)

    async def put(self, *numbers: int, encoding: Encoding = Encoding.PROTOBUF) -> None:
        """Requests that hold one number each as their body."""
        await self.append(
            *(now_request(piece(b"%d" % number, encoding=encoding)) for number in numbers)
        )


def make_relay(settings: KafkaSettings, state_dir: Path | None = None) -> Relay:
    """Not started; with a history where it has a folder for it."""
    bridge, counters, decode = Bridge(settings), Counters(), Decoder(settings, PREPARE)
    history = None
    if state_dir is not None:
        history = History(settings, bridge, decode, state_dir / FILE, 64 << 20)
    readers = Readers(settings, bridge, counters, decode, history)
    return Relay(settings, readers, bridge, counters)


@asynccontextmanager
async def running(settings: KafkaSettings, state_dir: Path | None = None) -> AsyncIterator[Relay]:
    """A relay that reads until the end of the block."""
    relay = make_relay(settings, state_dir)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(relay.readers.run)
        try:
            yield relay
        finally:
            with anyio.CancelScope(shield=True):
                await relay.readers.close()
            tasks.cancel_scope.cancel()


async def take(consumer: api.Consumer, *, max_items: int = 10_000, **how: bool) -> Taken:
    """What comes next, waited for."""
    with anyio.fail_after(SECONDS):
        while True:
            await consumer.wait()
            taken = await consumer.take(max_bytes=1 << 20, max_items=max_items, **how)
            if taken is not None:
                return taken


async def has_read(consumer: api.Consumer, rows: int) -> None:
    """Return when it would hand out so many rows of both encodings at once: brokers hand them out
    when they like to, so that who takes before may get fewer.
    """
    with anyio.fail_after(SECONDS):
        while True:
            await consumer.wait()
            taken = await consumer.take(max_bytes=1 << 20, max_items=10_000, one_encoding=False)
            if taken is not None:
                consumer.give_back(taken)
                if len(taken.rows) >= rows:
                    return
            await anyio.sleep(0.01)


def numbers_of(taken: Taken) -> list[int]:
    """What `Relay.put` put into its rows."""
    return [int(row.body) for row in taken.rows]


async def deliver_all(
    consumer: api.Consumer, wanted: set[int], *, max_items: int = 50
) -> list[int]:
    """Take and settle until all of `wanted` came; everything that came."""
    came: list[int] = []
    with anyio.fail_after(SECONDS):
        while not wanted <= set(came):
            taken = await take(consumer, max_items=max_items)
            came += numbers_of(taken)
            consumer.settle(taken, status=200, at_ns=1)
    return came
