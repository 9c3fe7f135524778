"""Reads a topic whole, by a client of its own: the oracle of what the brokers have."""

from confluent_kafka import Consumer, Message, TopicPartition

from tests.support.kafka import Brokers


def messages_in(brokers: Brokers, topic: str) -> list[Message]:
    """Every record of a topic, partition by partition."""
    told = {
        "bootstrap.servers": ",".join(brokers.bootstrap),
        "group.id": "oracle",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "check.crcs": True,
    }
    consumer = Consumer(told)
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    found: list[Message] = []
    at_end: set[int | None] = set()
    while len(at_end) < len(partitions):
        message = consumer.poll(30)
        assert message is not None, "the brokers did not answer"
        error = message.error()
        if error is None:
            found.append(message)
        elif error.name() == "_PARTITION_EOF":
            at_end.add(message.partition())
        else:
            raise AssertionError(error.str())
    consumer.close()
    return found


def ids_in(brokers: Brokers, topic: str) -> set[bytes]:
    """The values of a topic's records."""
    return {bytes(message.value() or b"") for message in messages_in(brokers, topic)}
