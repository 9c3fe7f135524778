"""Somebody changes topics or relays behind a fleet's back: what is kept is delivered still."""

from collections import Counter

import anyio
import anyio.to_thread
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.backlog import Backlog
from relay.model.records import Encoding, Signal
from tests.fleet.making import (
    SECONDS,
    deliver_all,
    fleet_on,
    now_request,
    numbers_of,
    running,
    take,
)
from tests.support.kafka import Brokers
from tests.support.relay_process import eventually
from tests.unit.buffer.making import piece

pytestmark = pytest.mark.anyio
A = BacklogName("a")


async def test_rows_that_the_brokers_deleted_undelivered_are_counted_as_evicted(
    broker: Brokers,
) -> None:
    settings = fleet_on(broker, partitions=1)
    topic = settings.rows_topic(Signal.TRACES, Encoding.PROTOBUF)
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        for number in range(6):
            body = b"%d" % number
            await relay.append(now_request(piece(body, encoding=Encoding.PROTOBUF, spans=3)))
        held = await take(a, max_items=3)
        assert numbers_of(held) == [0]
        admin = AdminClient(dict(settings.client()))
        for answer in admin.delete_records([TopicPartition(topic, 0, 4)]).values():
            answer.result(20)
        # It looks after what the brokers keep every ten seconds.
        await anyio.to_thread.run_sync(lambda: eventually(lambda: a.evicted_items, seconds=SECONDS))
        a.settle(held, status=200, at_ns=1)
        assert await deliver_all(a, {4, 5}) == [4, 5]
        assert 4 <= a.evicted_items <= 4 * 3  # as far as it had read them
        assert relay.readers.lowest_owed()[topic, 0] == 6


async def test_partitions_that_were_added_are_delivered_of_from_their_beginning(
    broker: Brokers,
) -> None:
    settings = fleet_on(broker, partitions=1)
    topic = settings.rows_topic(Signal.TRACES, Encoding.PROTOBUF)
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        await relay.put(0)
        assert await deliver_all(a, {0}) == [0]
        admin = AdminClient(dict(settings.client()))
        for answer in admin.create_partitions([NewPartitions(topic, 3)]).values():
            answer.result(20)
        await relay.put(*range(1, 40))  # the members have not heard of them yet
        assert sorted(await deliver_all(a, set(range(1, 40)))) == list(range(1, 40))


async def test_two_relays_under_one_id_lose_nothing_and_say_what_is_wrong(
    broker: Brokers, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = fleet_on(broker)
    came: Counter[int] = Counter()
    wanted = set(range(60))
    async with running(settings) as first, running(settings) as second:
        a = first.readers.consumer(A)
        await first.put(*range(30))
        b = second.readers.consumer(A)
        await second.put(*range(30, 60))
        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as tasks:
                for each in (a, b):
                    tasks.start_soon(deliver, each, came, wanted)
        await anyio.to_thread.run_sync(
            lambda: eventually(
                lambda: "same `fleet.relay_id`" in capsys.readouterr().out, seconds=SECONDS
            )
        )

    assert came.keys() == wanted


async def deliver(consumer: Backlog, came: Counter[int], wanted: set[int]) -> None:
    """Take and settle until all of `wanted` came to somebody."""
    while not wanted <= came.keys():
        with anyio.move_on_after(0.2):
            await consumer.wait()
        taken = await consumer.take(max_bytes=1 << 20, max_items=5)
        if taken is not None:
            came.update(numbers_of(taken))
            consumer.settle(taken, status=200, at_ns=1)
