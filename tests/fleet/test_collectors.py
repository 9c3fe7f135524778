"""A real Collector on the topics of relays: it reads what they wrote, they deliver what it wrote.

Its configurations are those of docs/fleet.md.
"""

import http.client
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mockcollector.server import MockCollector
from mockcollector.signals import TRAITS, Signal
from tests.fleet.collectors import (
    Writing,
    in_json,
    in_protobuf,
    json_among_protobuf,
    protobuf_among_json,
    reading,
)
from tests.fleet.fleets import relay_of
from tests.fleet.test_end_to_end import post
from tests.support.builders import protobuf_twin
from tests.support.kafka import Brokers
from tests.support.load import MIXED, SIGNALS, LoadRequest, arrived, ids_in, nth_request
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

ENRICHED = '[enrich]\nattributes = { "deployment.environment.name" = "fleet" }'
Change = Callable[[str], str]
ENCODINGS = pytest.mark.parametrize("change", [in_protobuf, in_json])


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Brokers]:
    """One broker whose topics are this test's."""
    folder = tmp_path / "kafka"
    folder.mkdir()
    with Brokers(folder, 1) as broker:
        yield broker


def post_to(collector: Writing, made: LoadRequest) -> int:
    """The status that the Collector answers a request with."""
    connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=30)
    try:
        connection.request("POST", made.path, made.body, {"Content-Type": made.media_type})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def items_of(upstream: MockCollector) -> list[Any]:
    """Everything that an upstream took, of all signals."""
    journal = upstream.journal
    return [*journal.spans(), *journal.log_records(), *journal.data_points()]


def letters_of(relay: Relay) -> list[dict[str, Any]]:
    """The dead letters that a relay lists."""
    status, found = relay.get("/api/dead-letters?limit=100")
    assert status == 200, found
    return list(found["letters"])


def test_collector_hands_on_everything_that_relays_wrote(
    own_broker: Brokers, tmp_path: Path
) -> None:
    a, b = (relay_of(own_broker, tmp_path / name) for name in "ab")
    with MockCollector() as backend, a, b:
        ids = post(a, 2) | post(b, 2)
        with reading(tmp_path / "collector", own_broker, backend.base_url):
            eventually(lambda: ids <= arrived(backend), seconds=60, what="what was there")
            ids |= post(a) | post(b)
            eventually(lambda: ids <= arrived(backend), seconds=60, what="what came since")
    assert Counter(str(each.attributes["id"]) for each in items_of(backend)) == Counter(ids)


def test_collector_that_is_killed_while_its_backend_is_away_hands_on_everything_afterwards(
    own_broker: Brokers, tmp_path: Path
) -> None:
    backend = MockCollector(port=free_port())
    with backend:
        url = backend.base_url  # it comes back there
    with relay_of(own_broker, tmp_path / "a") as relay:
        ids = post(relay, 2)
        collector = reading(tmp_path / "collector", own_broker, url)
        with collector:
            eventually(
                lambda: "connection refused" in collector.log(), seconds=60, what="an attempt"
            )
            collector.kill()
        assert arrived(backend) == set()
        with backend, collector:
            eventually(lambda: ids <= arrived(backend), seconds=90, what="all of it")


@ENCODINGS
def test_relays_check_enrich_and_deliver_what_a_collector_wrote(
    own_broker: Brokers, tmp_path: Path, change: Change
) -> None:
    with MockCollector() as upstream:
        keys = {"mock": {"endpoint": upstream.endpoint, "signals": SIGNALS}}
        a, b = (relay_of(own_broker, tmp_path / name, keys, more=ENRICHED) for name in "ab")
        with a, b, Writing(tmp_path / "collector", own_broker, change) as collector:
            requests = [nth_request(number, 10) for number in range(len(MIXED) * 3)]
            assert {post_to(collector, each) for each in requests} == {200}
            ids = {item_id for each in requests for item_id in each.ids}
            eventually(lambda: ids <= arrived(upstream), seconds=60, what="all items")
            eventually(lambda: a.owed("mock") == b.owed("mock") == 0)
            assert letters_of(a) == []
        found = items_of(upstream)
        assert Counter(str(each.attributes["id"]) for each in found) == Counter(ids)
        names = {each.resource.attributes["deployment.environment.name"] for each in found}
        assert names == {"fleet"}


def broken(made: LoadRequest) -> tuple[LoadRequest, str]:
    """A request whose first item cannot be delivered, though a Collector takes it; its id."""
    signal = Signal(made.path.removeprefix("/v1/"))
    message = protobuf_twin({}, TRAITS[signal].request)
    message.ParseFromString(made.body)
    if signal is Signal.TRACES:
        message.resource_spans[0].scope_spans[0].spans[0].ClearField("trace_id")
    else:
        metric = message.resource_metrics[0].scope_metrics[0].metrics[0]
        metric.sum.data_points[0].ClearField("time_unix_nano")
    return LoadRequest(made.ids, made.path, made.media_type, message.SerializeToString()), made.ids[
        0
    ]


@ENCODINGS
@pytest.mark.parametrize(
    ("kind", "reason"), [("traces", "trace_id_missing"), ("metrics", "time_missing")]
)
def test_what_is_broken_of_a_collectors_record_is_a_dead_letter_and_the_rest_is_delivered(
    own_broker: Brokers, tmp_path: Path, kind: str, reason: str, change: Change
) -> None:
    with MockCollector() as upstream:
        keys = {"mock": {"endpoint": upstream.endpoint, "signals": SIGNALS}}
        relay = relay_of(own_broker, tmp_path / "a", keys)
        with relay, Writing(tmp_path / "collector", own_broker, change) as collector:
            made, bad = broken(nth_request(0, 5, kinds=((kind, "protobuf"),)))
            assert post_to(collector, made) == 200
            good = set(made.ids) - {bad}
            eventually(lambda: good <= arrived(upstream), seconds=60, what="the rest of it")
            (letter,) = eventually(lambda: letters_of(relay), what="a dead letter")
            assert (letter["reason"], letter["signal"]) == (reason, kind)
            shown = relay.run("dead-letter show", str(letter["id"]), "--json")
            assert ids_in(shown.stdout.encode()) == [bad]
            assert arrived(upstream) == good


@pytest.mark.parametrize(
    ("mistaken", "right"), [(json_among_protobuf, in_protobuf), (protobuf_among_json, in_json)]
)
def test_records_in_the_topics_of_another_encoding_are_dead_letters_and_hold_up_nothing(
    own_broker: Brokers, tmp_path: Path, mistaken: Change, right: Change
) -> None:
    with MockCollector() as upstream:
        keys = {"mock": {"endpoint": upstream.endpoint, "signals": SIGNALS}}
        with relay_of(own_broker, tmp_path / "a", keys) as relay:
            with Writing(tmp_path / "wrong", own_broker, mistaken) as wrong:
                for kind in SIGNALS:
                    assert post_to(wrong, nth_request(0, 5, kinds=((kind, "json"),))) == 200
            eventually(lambda: len(letters_of(relay)) == 3, seconds=60, what="dead letters")
            assert {(each["signal"], each["reason"]) for each in letters_of(relay)} == {
                (kind, "body_unreadable") for kind in SIGNALS
            }
            assert arrived(upstream) == set()
            with Writing(tmp_path / "right", own_broker, right) as collector:
                requests = [nth_request(number, 5) for number in range(len(MIXED))]
                assert {post_to(collector, each) for each in requests} == {200}
            ids = {item_id for each in requests for item_id in each.ids}
            eventually(lambda: ids == arrived(upstream), seconds=60, what="what is right")
            eventually(lambda: relay.owed("mock") == 0)
