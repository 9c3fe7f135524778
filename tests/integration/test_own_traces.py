"""The relay's own spans: sent to the destination that is named, and to nobody else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mockcollector.items import ReceivedSpan
from mockcollector.server import MockCollector
from tests.support.builders import request, span
from tests.support.relay_process import Relay, eventually


@contextmanager
def two(folder: Path, own: MockCollector, other: MockCollector, **more: Any) -> Iterator[Relay]:
    """A relay that tells `own` of itself."""
    destinations = {
        "own": {"endpoint": own.endpoint, **more},
        "other": {"endpoint": other.endpoint},
    }
    with Relay(folder, destinations, settings='[telemetry]\ntraces_to = "own"\n') as relay:
        yield relay


def own_spans(upstream: MockCollector) -> list[ReceivedSpan]:
    return [
        each
        for each in upstream.journal.spans()
        if each.resource.attributes.get("service.name") == "otlp-relay"
    ]


def named(upstream: MockCollector, name: str) -> list[ReceivedSpan]:
    return [each for each in own_spans(upstream) if each.name == name]


def test_requests_in_and_out_are_told_to_the_named_destination_alone(tmp_path: Path) -> None:
    with MockCollector() as own, MockCollector(script="400:not today*") as other:
        with two(tmp_path, own, other) as relay:
            assert relay.post(request(span(), span()), headers={"User-Agent": "shop/1"})[0] == 200
            assert relay.post(b"{")[0] == 400
            eventually(lambda: len(named(own, "deliver other")) >= 2)
            eventually(lambda: len(named(own, "POST /v1/traces")) == 2)
            told, refused = named(own, "POST /v1/traces")
            assert told.attributes["user_agent.original"] == "shop/1"
            assert told.attributes["http.response.status_code"] == 200
            assert told.attributes["otlp_relay.signal"] == "traces"
            assert told.kind == 2
            assert refused.status_code == 2
            assert refused.attributes["http.response.status_code"] == 400
            assert "ends before its JSON is complete" in refused.status_message
            first = named(own, "deliver other")[0]
            assert first.kind == 3
            assert first.attributes["otlp_relay.items"] == 2
            assert first.attributes["http.response.status_code"] == 400
            assert first.attributes["otlp_relay.outcome"] == "blocked"
            assert "not today" in first.status_message
            assert named(own, "deliver own") == []
            assert own_spans(other) == []
            # They are not in the buffer either: nothing waits, and nothing was kept of them.
            assert relay.status()["ingest"]["received_spans"] == 2


def test_own_spans_that_are_refused_are_dropped_and_that_is_said(tmp_path: Path) -> None:
    with MockCollector(script="401*") as own, MockCollector() as other:
        with two(tmp_path, own, other) as relay:
            assert relay.post(request(span()))[0] == 200
            eventually(lambda: "own_spans_dropped" in relay.log())
            eventually(lambda: len(other.journal.spans()) == 1)


def test_requests_from_other_relays_make_no_spans(tmp_path: Path) -> None:
    with MockCollector() as own, MockCollector() as other:
        with two(tmp_path, own, other) as relay:
            hops = {"otlp-relay-hops": "0123456789abcdef"}
            assert relay.post(request(span()), headers=hops)[0] == 200
            assert relay.post(request(span()))[0] == 200
            eventually(lambda: named(own, "POST /v1/traces"))
            assert len(named(own, "POST /v1/traces")) == 1
