"""Relays and brokers are killed, frozen and wiped: what was answered 200 is in the log."""

import http.client
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fleet.fleets import logged, relay_of
from tests.support.kafka import Brokers
from tests.support.load import MIXED, Load, nth_request
from tests.support.relay_process import Relay, eventually


def is_ready(relay: Relay) -> bool:
    return bool(relay.get("/readyz", parse=False)[0] == 200)


def test_relay_killed_again_and_again_in_flight_loses_nothing(
    own_brokers: Brokers, tmp_path: Path
) -> None:
    relay = relay_of(own_brokers, tmp_path / "a")
    with relay, Load(relay.ingest_port, kinds=MIXED) as load:
        for _ in range(4):
            load.wait_for_more(300)
            relay.kill()
            relay.start()
        load.wait_for_more(300)
    assert load.statuses.keys() <= {200, 503}
    assert load.acknowledged <= logged(own_brokers)


def kill_and_restart(brokers: Brokers, number: int) -> None:
    brokers.kill(number)
    brokers.restart(number)


def freeze_for_a_while(brokers: Brokers, number: int) -> None:
    brokers.freeze(number)
    time.sleep(6)  # longer than its session: the others go on without it
    brokers.thaw(number)


def wipe_and_restart(brokers: Brokers, number: int) -> None:
    brokers.wipe(number)
    brokers.restart(number)


@pytest.mark.parametrize("fault", [kill_and_restart, freeze_for_a_while, wipe_and_restart])
def test_one_broker_of_three_may_go_and_come_back(
    own_brokers: Brokers, tmp_path: Path, fault: Callable[[Brokers, int], None]
) -> None:
    with (
        relay_of(own_brokers, tmp_path / "a") as relay,
        Load(relay.ingest_port, kinds=MIXED) as load,
    ):
        for number in own_brokers.numbers:
            load.wait_for_more(200)
            fault(own_brokers, number)
            load.wait_for_more(200, seconds=60)
            own_brokers.wait_in_sync()
    assert load.statuses.keys() <= {200, 503}
    assert load.acknowledged <= logged(own_brokers)


def post_once(relay: Relay) -> tuple[int, str | None]:
    """The status of one request, and its Retry-After."""
    made = nth_request(0, 1)
    connection = http.client.HTTPConnection("127.0.0.1", relay.ingest_port, timeout=30)
    connection.request("POST", made.path, made.body, {"Content-Type": made.media_type})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.getheader("Retry-After")


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_two_brokers_of_three_away_nothing_is_acknowledged_until_they_are_back(
    own_brokers: Brokers, tmp_path: Path, how: str
) -> None:
    with (
        relay_of(own_brokers, tmp_path / "a") as relay,
        Load(relay.ingest_port, kinds=MIXED) as load,
    ):
        load.wait_for_more(300)
        if how == "kill":
            own_brokers.kill(1, 2)
        else:
            own_brokers.freeze(1, 2)
        eventually(lambda: not is_ready(relay), seconds=30, what="not ready")
        began, before = time.monotonic(), len(load.acknowledged)
        assert post_once(relay) == (503, "1")
        assert time.monotonic() - began < 9
        refused = load.statuses.get(503, 0)
        eventually(lambda: load.statuses.get(503, 0) > refused + 20, what="503 at once")
        assert len(load.acknowledged) == before
        assert "broker" in relay.status()["not_ready_reason"]
        if how == "kill":
            own_brokers.restart(1, 2)
        else:
            own_brokers.thaw(1, 2)
        load.wait_for_more(300, seconds=90)
        eventually(lambda: is_ready(relay), seconds=30, what="ready")
    assert load.acknowledged <= logged(own_brokers)


def test_relay_starts_while_brokers_are_away_and_takes_requests_once_they_are_there(
    own_brokers: Brokers, tmp_path: Path
) -> None:
    own_brokers.kill(1, 2, 3)
    relay = relay_of(own_brokers, tmp_path / "a")
    try:
        relay.start(wait=False)
        eventually(lambda: '"ready"' in relay.log(), seconds=40, what="listening")
        assert post_once(relay) == (503, "1")
        own_brokers.restart(1, 2, 3)
        eventually(lambda: is_ready(relay), seconds=60, what="ready")
        assert post_once(relay)[0] == 200
    finally:
        relay.kill()


def test_spool_keeps_what_comes_while_the_brokers_are_away_and_hands_it_over(
    own_brokers: Brokers, tmp_path: Path
) -> None:
    relay = relay_of(own_brokers, tmp_path / "a", when_engine_away="spool")
    with relay, Load(relay.ingest_port, kinds=MIXED) as load:
        load.wait_for_more(200)
        own_brokers.kill(1, 2)
        load.wait_for_more(600, seconds=60)
        words = eventually(lambda: relay.status()["buffer"]["promise"], what="the promise")
        assert "on this relay's own disk alone" in words
        relay.kill()
        relay.start()
        own_brokers.restart(1, 2)
        load.wait_for_more(200, seconds=90)
        load.stop()
        whole = "fsynced on 2 of 3 brokers"
        eventually(
            lambda: relay.status()["buffer"]["promise"] == whole, seconds=120, what="handed over"
        )
    assert load.acknowledged <= logged(own_brokers)
