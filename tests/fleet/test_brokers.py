"""The brokers of these tests are what a fleet is told to run."""

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.kafka import READY_SECONDS, Brokers
from tests.support.relay_process import eventually


def test_three_brokers_answer_and_one_that_was_wiped_comes_back(own_brokers: Brokers) -> None:
    admin = AdminClient({"bootstrap.servers": ",".join(own_brokers.bootstrap)})

    def answer(count: int) -> bool:
        try:
            return len(admin.list_topics(timeout=5).brokers) == count
        except KafkaException:  # it asked the one that is away
            return False

    eventually(lambda: answer(3), seconds=READY_SECONDS)
    own_brokers.wipe(2)
    eventually(lambda: answer(2), seconds=READY_SECONDS)
    own_brokers.restart(2)
    eventually(lambda: answer(3), seconds=READY_SECONDS)
