"""A relay that may not see every group of its fleet deletes nothing, and says what it lacks."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.orders import Orders
from relay.buffer.kafka.settings import KafkaSettings
from relay.buffer.kafka.topics import Topics
from relay.buffer.kafka.trim import Trim
from tests.fleet.guarded import Guarded, guarded_broker
from tests.fleet.test_rights import COMMANDS, fleet_of
from tests.support.relay_process import eventually

pytestmark = pytest.mark.anyio
A, B = BacklogName("a"), BacklogName("b")
PLACE = ("otlp_spans", 0)
ROWS = 20


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A broker where the account `relay` has no right yet."""
    with guarded_broker(tmp_path_factory.mktemp("guarded")) as made:
        yield made


def commit(settings: KafkaSettings, key: BacklogName, offset: int) -> None:
    """As a member of that group would have done."""
    consumer = Consumer({**settings.client(), "group.id": settings.group(key)})
    places = [TopicPartition(PLACE[0], each, 0) for each in range(3)]
    places[0].offset = offset
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


async def test_what_a_group_that_is_out_of_sight_has_not_had_stays(
    guarded: Guarded, capsys: pytest.CaptureFixture[str]
) -> None:
    free, bound = fleet_of(guarded, "PLAIN"), fleet_of(guarded)
    Topics(free).make_ready()
    producer = Producer({**free.client(), "acks": "all"})
    for number in range(ROWS):
        producer.produce(PLACE[0], b"%d" % number, partition=0)
    assert producer.flush(30) == 0
    commit(free, A, ROWS)
    commit(free, B, 0)
    guarded.grant(*(each for each in COMMANDS if "--group" not in each))
    guarded.grant(
        "kafka-acls.sh --bootstrap-server x:1 --add --allow-principal User:relay "
        f"--operation Read --operation Delete --group {bound.group(A)}"
    )
    own = Topics(bound, [bound.group(A)])
    eventually(lambda: [each.brief for each in own.lacking()], what="the rights")
    trim = Trim(bound, 0.0, lambda: [A], Orders())
    for _ in range(3):
        assert await trim.look() == {}
    hidden = trim.hidden
    assert hidden is not None
    words = hidden.words(bound)
    assert "may not Describe group otlp-relay.prod.<any>" in words
    assert words in [each.words for each in own.examine().remarks]
    assert "fleet_trim_waits" in capsys.readouterr().out

    guarded.grant(words[words.index("kafka-acls.sh") :])

    for _ in range(3):
        assert await trim.look() == {}  # B is owed all of it, as is seen now
    assert trim.hidden is None
    commit(free, B, 5)
    assert (await trim.look())[PLACE] == 5
