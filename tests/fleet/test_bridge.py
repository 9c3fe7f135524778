"""The bridge to real brokers: what was acknowledged is there, what is not is refused in time."""

import random
import time
from collections.abc import AsyncIterator
from typing import Literal

import anyio
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from relay.buffer.kafka.bridge import Bridge
from relay.buffer.kafka.records import Outgoing
from relay.buffer.kafka.settings import KafkaSettings
from relay.config.fleet import FleetConfig
from relay.model.errors import BufferUnavailable, Refusal
from tests.fleet.reading import ids_in
from tests.support.kafka import Brokers

pytestmark = pytest.mark.anyio
_ATTRIBUTES_AT = 22  # the low byte of a batch's attributes, from its beginning; format 2


def settings_of(brokers: Brokers) -> KafkaSettings:
    return KafkaSettings(FleetConfig(brokers=tuple(brokers.bootstrap)), "relay-1")


def make_topic(brokers: Brokers, topic: str, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": ",".join(brokers.bootstrap)})
    new = NewTopic(topic, 3, config={key.replace("_", "."): it for key, it in config.items()})
    admin.create_topics([new])[topic].result()


@pytest.fixture
async def bridge(broker: Brokers) -> AsyncIterator[Bridge]:
    made = Bridge(settings_of(broker))
    made.start()
    yield made
    await made.close()


async def test_returns_where_each_record_is(broker: Brokers, bridge: Bridge) -> None:
    make_topic(broker, "where")
    first = await bridge.send([Outgoing("where", b"a", partition=p) for p in (2, 0, 2)])
    assert [kept.partition for kept in first] == [2, 0, 2]
    assert [kept.offset for kept in first] == [0, 0, 1]
    assert bridge.waiting == 0


@pytest.mark.parametrize(("compression", "codec"), [("lz4", 3), ("zstd", 4)])
async def test_records_are_kept_compressed_as_the_configuration_says(
    broker: Brokers, compression: Literal["lz4", "zstd"], codec: int
) -> None:
    topic = f"packed_{compression}"
    make_topic(broker, topic)
    brokers = tuple(broker.bootstrap)
    bridge = Bridge(KafkaSettings(FleetConfig(brokers=brokers, compression=compression), "r1"))
    bridge.start()
    try:
        await bridge.send([Outgoing(topic, b"a span like the one before, " * 100, partition=0)])
    finally:
        await bridge.close()
    segment = broker.node(1).folder / f"{topic}-0" / f"{0:020}.log"
    attributes = segment.read_bytes()[_ATTRIBUTES_AT]
    assert attributes & 7 == codec


async def test_many_requests_at_once_are_all_there(broker: Brokers, bridge: Bridge) -> None:
    make_topic(broker, "many")

    async def send(number: int) -> None:
        await bridge.send([Outgoing("many", b"%d" % number, partition=number % 3)])

    async with anyio.create_task_group() as group:
        for number in range(500):
            group.start_soon(send, number)
    assert ids_in(broker, "many") == {b"%d" % number for number in range(500)}


async def test_what_is_larger_than_the_topic_takes_is_refused_for_good(
    broker: Brokers, bridge: Bridge
) -> None:
    make_topic(broker, "small", max_message_bytes="2000")
    with pytest.raises(Refusal, match=r"max\.message\.bytes") as caught:
        await bridge.send([Outgoing("small", random.Random(0).randbytes(1_000_000), partition=0)])
    assert caught.value.status == 413
    assert (await bridge.send([Outgoing("small", b"fits", partition=0)]))[0].offset == 0


async def test_what_the_client_refuses_without_asking_is_a_failure_like_any_other(
    broker: Brokers, bridge: Bridge
) -> None:
    make_topic(broker, "three")
    await bridge.send([Outgoing("three", b"x", partition=0)])
    with pytest.raises(BufferUnavailable, match="Unknown partition"):
        await bridge.send([Outgoing("three", b"x", partition=99)])
    assert not bridge.waiting
    assert (await bridge.send([Outgoing("three", b"y", partition=0)]))[0].offset == 1


async def test_brokers_that_do_not_answer_are_told_of_in_time_then_at_once_and_come_back(
    own_brokers: Brokers,
) -> None:
    make_topic(own_brokers, "away")
    bridge = Bridge(settings_of(own_brokers), patience_seconds=4.0)
    bridge.start()
    await bridge.send([Outgoing("away", b"before", partition=0)])
    own_brokers.freeze(1, 2, 3)
    began = time.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(refused, bridge, b"waits")
        with anyio.fail_after(10):
            while not bridge.is_silent:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        again = time.monotonic()
        await refused(bridge, b"at once")
        assert time.monotonic() - again < 2
    assert 3.5 < time.monotonic() - began < 8
    own_brokers.thaw(1, 2, 3)
    with anyio.fail_after(60):
        while True:
            try:
                await bridge.send([Outgoing("away", b"after", partition=0)])
                break
            except BufferUnavailable:
                await anyio.sleep(0.1)
    assert {b"before", b"after"} <= ids_in(own_brokers, "away") <= {b"before", b"after", b"waits"}
    await bridge.close()


async def refused(bridge: Bridge, value: bytes) -> None:
    with pytest.raises(BufferUnavailable):
        await bridge.send([Outgoing("away", value, partition=0)])
