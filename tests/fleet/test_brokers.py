"""The brokers of these tests are what a fleet is told to run."""

from confluent_kafka.admin import AdminClient

from tests.support.kafka import Brokers
from tests.support.relay_process import eventually


def test_three_brokers_answer_and_one_that_was_wiped_comes_back(own_brokers: Brokers) -> None:
    admin = AdminClient({"bootstrap.servers": ",".join(own_brokers.bootstrap)})
    eventually(lambda: len(admin.list_topics(timeout=5).brokers) == 3)
    own_brokers.wipe(2)
    eventually(lambda: len(admin.list_topics(timeout=5).brokers) == 2)
    own_brokers.restart(2)
    eventually(lambda: len(admin.list_topics(timeout=5).brokers) == 3)
