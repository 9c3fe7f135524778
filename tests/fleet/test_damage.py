"""One bit has flipped on one broker's disk: the record stays owed until another broker leads."""

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from relay.buffer.backlog_name import BacklogName
from relay.model.records import Encoding, Signal
from tests.fleet.making import (
    deliver_all,
    make_relay,
    make_topics,
    numbers_of,
    running,
    settings_of,
    take,
)
from tests.support.kafka import Brokers

pytestmark = pytest.mark.anyio
A = BacklogName("a")


def leader_of(brokers: Brokers, topic: str) -> int:
    """The node that leads partition 0."""
    admin = AdminClient({"bootstrap.servers": ",".join(brokers.bootstrap)})
    return int(admin.list_topics(topic, timeout=20).topics[topic].partitions[0].leader)


def flip_a_bit(folder: Path, marker: bytes) -> None:
    """Of the one place where `marker` stands in a segment."""
    (segment,) = folder.glob("*.log")
    content = bytearray(segment.read_bytes())
    at = content.index(marker)
    assert content.count(marker) == 1
    content[at] ^= 1
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(content[at : at + 1])


async def test_a_damaged_record_is_never_settled_and_arrives_when_another_broker_leads(
    own_brokers: Brokers,
) -> None:
    settings = settings_of(own_brokers)
    make_topics(settings, partitions=1, replication=3)
    topic = settings.rows_topic(Signal.TRACES, Encoding.PROTOBUF)
    writer = make_relay(settings)
    for number in range(1000, 1006):  # a batch each
        await writer.put(number)
    leader = leader_of(own_brokers, topic)
    flip_a_bit(own_brokers.node(leader).folder / f"{topic}-0", b"1002")
    others = {1000, 1001, 1003, 1004, 1005}
    async with running(settings) as relay:
        a = relay.readers.consumer(A)
        assert sorted(await deliver_all(a, others)) == sorted(others)
        await relay.readers.flush()
        assert a.statistics().owed_rows == 1
        assert await a.take(max_bytes=1, max_items=1) is None
        assert not a.has_more  # it rests for a second after each try
        own_brokers.kill(leader)
        taken = await take(a, max_items=1)
        assert numbers_of(taken) == [1002]
        a.settle(taken, status=200, at_ns=1)
        await relay.readers.flush()
        assert not a.statistics().owed_rows
