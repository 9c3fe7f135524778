"""What was answered with 200 is kept while upstream is away, and nobody waits for another.

Killing again and again, and on bad disks: `test_trials`.
"""

from pathlib import Path

from mockcollector.server import MockCollector
from tests.support.load import request_of, span_ids
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually


def arrived(upstream: MockCollector) -> set[str]:
    return {span.span_id for span in upstream.journal.spans()}


def test_spans_kept_while_upstream_is_away_arrive_once_it_is_back(tmp_path: Path) -> None:
    upstream = MockCollector(port=free_port())  # it comes back there
    with upstream:
        endpoint = upstream.endpoint
    ids = span_ids(50)
    with Relay(tmp_path, {"mock": {"endpoint": endpoint}}) as relay:
        for first in range(0, 50, 10):
            assert relay.post(request_of(ids[first : first + 10]))[0] == 200
        eventually(lambda: relay.destination("mock")["state"] == "waiting", what="waiting")
        relay.kill()
        relay.start()
        assert relay.destination("mock")["waiting_spans"] == 50
        with upstream:
            eventually(lambda: set(ids) <= arrived(upstream), seconds=45, what="all spans")
            eventually(lambda: relay.destination("mock")["waiting_spans"] == 0)


def test_destination_that_is_down_does_not_slow_the_other(tmp_path: Path) -> None:
    with MockCollector() as good, MockCollector(script="hang*") as hanging:
        destinations = {
            "good": {"endpoint": good.endpoint},
            "hanging": {"endpoint": hanging.endpoint},
            "refused": {"endpoint": "http://127.0.0.1:1/v1/traces"},
        }
        with Relay(tmp_path, destinations) as relay:
            ids = span_ids(200)
            for first in range(0, 200, 10):
                assert relay.post(request_of(ids[first : first + 10]))[0] == 200
            good.journal.wait_for_spans(200, timeout=10)

            assert arrived(good) == set(ids)
            assert relay.destination("hanging")["waiting_spans"] == 200
            assert relay.destination("refused")["waiting_spans"] == 200
