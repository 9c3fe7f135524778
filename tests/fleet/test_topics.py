"""Topics are made as they are to be, and what they promise is read from the brokers."""

import re
from pathlib import Path
from typing import Any

import pytest

from relay.buffer.kafka.access import BrokersAway
from relay.buffer.kafka.client import import_client
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.topics import Topics
from relay.config.fleet import FleetConfig
from tests.support.kafka import Brokers
from tests.support.ports import free_port
from tests.support.relay_process import eventually

LIBRARY = import_client().admin


def fleet_on(brokers: Brokers, **changes: object) -> KafkaSettings:
    made = {"brokers": tuple(brokers.bootstrap), "partitions": 3, **changes}
    return KafkaSettings(FleetConfig(**made), "relay-1")  # type: ignore[arg-type]


def set_config(brokers: Brokers, topic: str, key: str, value: str) -> None:
    admin = LIBRARY.AdminClient({"bootstrap.servers": ",".join(brokers.bootstrap)})
    entry = LIBRARY.ConfigEntry(key, value, incremental_operation=LIBRARY.AlterConfigOpType.SET)
    kind = LIBRARY.ConfigResource.Type.TOPIC
    resource = LIBRARY.ConfigResource(kind, topic, incremental_configs=[entry])
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result()

    def is_set() -> bool:
        (answer,) = admin.describe_configs([LIBRARY.ConfigResource(kind, topic)]).values()
        return bool(answer.result()[key].value == value)

    eventually(is_set)  # brokers hear of it a moment later


def test_topics_are_made_and_promise_a_sync_on_two_of_three(brokers: Brokers) -> None:
    settings = fleet_on(brokers, topic="made", topic_json="made_json", name="made")
    promise = Topics(settings).make_ready()
    assert promise.words == "fsynced on 2 of 3 brokers"
    assert promise.remarks == ()
    wanted = {*settings.rows_topics, settings.dead_letters_topic, settings.control_topic}

    def made() -> Any:  # whichever broker is asked
        found = Topics(settings).metadata().topics
        return found if wanted <= found.keys() else None

    topics = eventually(made)
    assert len(topics["made"].partitions) == 3
    assert len(topics[settings.control_topic].partitions) == 1
    assert Topics(settings).lacking() == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("min.insync.replicas", "1", "min.insync.replicas=1, not 2"),
        ("unclean.leader.election.enable", "true", "unclean.leader.election.enable=false"),
        ("flush.messages", "1000", "flush.messages=1"),
        ("max.message.bytes", "1000", "max.message.bytes=8388608"),
    ],
)
def test_a_topic_of_others_that_promises_less_is_refused_and_ours_is_set_right(
    brokers: Brokers, key: str, value: str, words: str
) -> None:
    mine = fleet_on(brokers, topic="theirs", topic_json="theirs_json", name="theirs")
    Topics(mine).make_ready()
    set_config(brokers, "theirs", key, value)

    theirs = fleet_on(
        brokers, topic="theirs", topic_json="theirs_json", name="theirs", own_topics=False
    )

    def told() -> Any:
        promise = Topics(theirs).make_ready()
        return promise if re.search(words, promise.refusal(allow_weak=False)) else None

    promise = eventually(told, what=words)  # whichever broker is asked
    assert promise.refusal(allow_weak=True) == ""

    assert Topics(mine).make_ready().remarks == ()


def test_without_a_sync_the_promise_says_so(brokers: Brokers) -> None:
    names = {"topic": "fast", "topic_json": "fast_json", "name": "fast"}
    settings = fleet_on(brokers, **names, sync="replicated")
    Topics(settings).make_ready()
    set_config(brokers, "fast", "flush.messages", "1000")

    def promised() -> bool:  # whichever broker is asked
        promise = Topics(settings).make_ready()
        words = "replicated, not fsynced, on 2 of 3 brokers"
        return (promise.words, promise.remarks) == (words, ())

    eventually(promised)


def test_topics_that_nobody_made_are_told_with_the_command(brokers: Brokers) -> None:
    settings = fleet_on(brokers, topic="none", topic_json="none_json", own_topics=False)
    words = Topics(settings).make_ready().refusal(allow_weak=False)
    assert "there is no topic none: kafka-topics.sh " in words
    assert " --create --topic none --partitions 3 " in words


def test_one_broker_cannot_have_three_replicas(broker: Brokers) -> None:
    settings = fleet_on(broker, topic="lone", topic_json="lone_json")
    words = Topics(settings).make_ready().refusal(allow_weak=False)
    assert "topic lone cannot be created" in words


def test_a_compacted_topic_cannot_be_used(broker: Brokers) -> None:
    admin = LIBRARY.AdminClient({"bootstrap.servers": ",".join(broker.bootstrap)})
    new = LIBRARY.NewTopic("compacted", 1, config={"cleanup.policy": "compact"})
    admin.create_topics([new])["compacted"].result()
    settings = fleet_on(broker, topic="compacted", own_topics=False, allow_weak=True, replication=1)
    assert "compacted is compacted" in Topics(settings).make_ready().refusal(allow_weak=True)


def test_brokers_that_are_away_are_told_apart_from_wrong_ones(tmp_path: Path) -> None:
    settings = KafkaSettings(FleetConfig(brokers=(f"127.0.0.1:{free_port()}",)), "relay-1")
    with pytest.raises(BrokersAway):
        Topics(settings).metadata(1.0)
