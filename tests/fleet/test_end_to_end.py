"""Two relays on one log: what one acknowledged, the other delivers."""

import shutil
from pathlib import Path

from mockcollector.server import MockCollector
from tests.fleet.fleets import logged, relay_of
from tests.support.kafka import Brokers
from tests.support.load import MIXED, SIGNALS, arrived, nth_request
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually


def post(relay: Relay, rounds: int = 1) -> set[str]:
    """Requests of every signal in each encoding; the ids that were answered 200."""
    requests = [nth_request(number, 10) for number in range(len(MIXED) * rounds)]
    assert {relay.send(each)[0] for each in requests} == {200}
    return {item_id for each in requests for item_id in each.ids}


def test_relay_that_died_with_its_directory_is_outlived_by_what_it_acknowledged(
    brokers: Brokers, tmp_path: Path
) -> None:
    upstream = MockCollector(port=free_port())  # it comes back there
    with upstream:
        endpoint = upstream.endpoint
    keys = {"mock": {"endpoint": endpoint, "signals": SIGNALS}}
    with relay_of(brokers, tmp_path / "a", keys) as a, relay_of(brokers, tmp_path / "b", keys) as b:
        ids = post(a, 3)
        a.kill()
        shutil.rmtree(a.state_dir)
        assert arrived(upstream) == set()
        with upstream:
            eventually(lambda: ids <= arrived(upstream), seconds=60, what="all items, by b")
            eventually(lambda: b.owed("mock") == 0)
        assert logged(brokers) == ids
        assert len(upstream.journal.spans()) == len({i for i in ids if i.startswith("traces")})
        assert "log      Kafka, fsynced on 2 of 3 brokers" in b.run("status").stdout
        done = b.run("doctor")
        assert "what is acknowledged is fsynced on 2 of 3 brokers" in done.stdout, done.stdout
        assert "fail" not in done.stdout, done.stdout
