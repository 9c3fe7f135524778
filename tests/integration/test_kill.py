"""What was answered with 200 is kept while upstream is away, and nobody waits for another.

Killing again and again, and on bad disks: `test_trials`.
"""

from pathlib import Path

from mockcollector.server import MockCollector
from tests.support.load import MIXED, SIGNALS, arrived, nth_request
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually


def post(relay: Relay, items: int) -> set[str]:
    """One request of each signal in each encoding; the ids that were answered 200."""
    requests = [nth_request(number, items) for number in range(len(MIXED))]
    assert {relay.send(each)[0] for each in requests} == {200}
    return {item_id for each in requests for item_id in each.ids}


def test_items_kept_while_upstream_is_away_arrive_once_it_is_back(tmp_path: Path) -> None:
    upstream = MockCollector(port=free_port())  # it comes back there
    with upstream:
        endpoint = upstream.endpoint
    with Relay(tmp_path, {"mock": {"endpoint": endpoint, "signals": SIGNALS}}) as relay:
        ids = post(relay, 10)
        eventually(
            lambda: {each["state"] for each in relay.queues("mock")} == {"waiting"}, what="waiting"
        )
        relay.kill()
        relay.start()
        assert {each["waiting_spans"] for each in relay.queues("mock")} == {20}
        with upstream:
            eventually(lambda: ids <= arrived(upstream), seconds=45, what="all items")
            eventually(lambda: relay.owed("mock") == 0)


def test_destination_that_is_down_does_not_slow_the_other(tmp_path: Path) -> None:
    with MockCollector() as good, MockCollector(script="hang*") as hanging:
        destinations = {
            name: {"endpoint": endpoint, "signals": SIGNALS}
            for name, endpoint in (
                ("good", good.endpoint),
                ("hanging", hanging.endpoint),
                ("refused", "http://127.0.0.1:1/v1/traces"),
            )
        }
        with Relay(tmp_path, destinations) as relay:
            ids = set().union(*(post(relay, 10) for _ in range(4)))
            eventually(lambda: ids <= arrived(good), seconds=10, what="all items")

            assert arrived(good) == ids
            for name in ("hanging", "refused"):
                assert {each["waiting_spans"] for each in relay.queues(name)} == {80}


def test_signal_that_an_upstream_refuses_holds_up_no_other(tmp_path: Path) -> None:
    with MockCollector(profile="jaeger") as traces_only:
        keys = {"endpoint": traces_only.endpoint, "signals": SIGNALS}
        with Relay(tmp_path, {"mock": keys}) as relay:
            ids = {each for each in post(relay, 10) if each.startswith("traces")}
            eventually(lambda: ids <= arrived(traces_only), seconds=10, what="all spans")
            eventually(
                lambda: (
                    [each["state"] for each in relay.queues("mock")]
                    == ["idle", "blocked", "blocked"]
                )
            )
            assert [each["waiting_spans"] for each in relay.queues("mock")] == [0, 20, 20]
