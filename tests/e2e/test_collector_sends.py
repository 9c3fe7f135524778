"""A real OpenTelemetry Collector as a sender: all that it sends arrives, in every form it has."""

import http.client
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mockcollector.server import MockCollector
from tests.e2e.collector import Collector
from tests.e2e.collector_configs import to_jaeger, to_port
from tests.e2e.jaeger import Jaeger, spans_of
from tests.e2e.requests import each_item
from tests.e2e.sent import SPANS, trace_of
from tests.e2e.tap import Tap
from tests.support.builders import protobuf_twin
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.e2e

MakeCollector = Callable[..., Collector]
FULL = Path(__file__).parent.parent / "fixtures" / "02_full_featured.json"
OURS = "token-of-the-relay"
ENVIRON = {"OURS": OURS}


def send(collector: Collector, body: bytes) -> int:
    """POST OTLP/JSON to a Collector: the status of its answer."""
    url = urlsplit(collector.endpoint)
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=30)
    try:
        connection.request("POST", url.path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def ask_for_token(relay: Relay) -> None:
    """Let the relay take spans from those only who know its token."""
    text = relay.config.read_text()
    assert "[ingest]\n" in text
    relay.config.write_text(text.replace("[ingest]\n", '[ingest]\ntokens = ["${env:OURS}"]\n'))


def sending_collector(collector: MakeCollector, port: int, **wishes: str) -> Collector:
    """A Collector that sends to the relay, at `port`, what it is sent."""
    listen_port = free_port()
    text = to_port(port, listen_port, token=OURS, **wishes)
    return collector(text, host_network=True, receiver_port=listen_port)


def each_span_id(message: ExportTraceServiceRequest) -> set[bytes]:
    """The ids of all spans."""
    return {
        one.span_id
        for entry in message.resource_spans
        for scope in entry.scope_spans
        for one in scope.spans
    }


def sent(bodies: list[bytes]) -> ExportTraceServiceRequest:
    """What these bodies say, with what the relay is to add."""
    message = ExportTraceServiceRequest()
    for body in bodies:
        message.MergeFrom(protobuf_twin(json.loads(body)))
    for entry in message.resource_spans:
        entry.resource.attributes.add(key="relay.name").value.string_value = "here"
    return message


def arrived(upstream: MockCollector) -> ExportTraceServiceRequest:
    """All that has come to `upstream`."""
    message = ExportTraceServiceRequest()
    for each in upstream.journal.requests():
        assert isinstance(each.message, ExportTraceServiceRequest)
        message.MergeFrom(each.message)
    return message


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("encoding", ["json", "proto"])
def test_what_a_collector_sends_arrives_field_for_field(
    tmp_path: Path,
    relay_command: tuple[str, ...],
    collector: MakeCollector,
    encoding: str,
    compression: str,
) -> None:
    bodies = [FULL.read_bytes(), *trace_of(secrets.token_hex(16))]
    added = '[enrich]\ndetect = []\nattributes = { "relay.name" = "here" }'
    with MockCollector() as upstream:
        destination = {"mock": {"endpoint": upstream.endpoint}}
        relay = Relay(
            tmp_path, destination, settings=added, environ=ENVIRON, executable=relay_command
        )
        ask_for_token(relay)
        with relay, Tap(relay.ingest_port) as tap:
            sender = sending_collector(
                collector, tap.port, encoding=encoding, compression=compression
            )
            assert [send(sender, body) for body in bodies] == [200] * len(bodies)
            upstream.journal.wait_for_spans(SPANS + 1, timeout=60)

            assert each_item(arrived(upstream)) == each_item(sent(bodies))
            assert set(relay.status()["ingest"]["requests"]) == {"200"}
        kind = "json" if encoding == "json" else "protobuf"
        media_type = "application/json" if encoding == "json" else "application/x-protobuf"
        assert {each.encoding for each in upstream.journal.requests()} == {kind}
        assert tap.values_of("Content-Type") == {media_type}
        assert tap.values_of("Content-Encoding") == ({"gzip"} if compression == "gzip" else set())


def test_collector_sends_again_what_it_could_not_while_the_relay_was_away(
    tmp_path: Path, relay_command: tuple[str, ...], collector: MakeCollector
) -> None:
    bodies = trace_of(secrets.token_hex(16))
    half = len(bodies) // 2
    with MockCollector() as upstream:
        destination = {"mock": {"endpoint": upstream.endpoint}}
        relay = Relay(tmp_path, destination, environ=ENVIRON, executable=relay_command)
        ask_for_token(relay)
        with relay:
            sender = sending_collector(collector, relay.ingest_port)
            assert [send(sender, body) for body in bodies[:half]] == [200] * half
            relay.kill()
            assert [send(sender, body) for body in bodies[half:]] == [200] * half
            eventually(lambda: "Will retry" in sender.logs())
            relay.start()
            upstream.journal.wait_for_spans(SPANS, timeout=60)

            assert each_span_id(arrived(upstream)) == each_span_id(sent(bodies))


def test_spans_go_from_a_collector_over_the_relay_and_another_collector_to_jaeger(
    tmp_path: Path, relay_command: tuple[str, ...], jaeger: Jaeger, collector: MakeCollector
) -> None:
    last = collector(to_jaeger(token="token-of-the-last"))
    headers = {"Authorization": "Bearer token-of-the-last"}
    destination = {"last": {"endpoint": last.endpoint, "headers": headers}}
    relay = Relay(tmp_path, destination, environ=ENVIRON, executable=relay_command)
    ask_for_token(relay)
    with relay:
        sender = sending_collector(collector, relay.ingest_port)
        trace_id = secrets.token_hex(16)
        for body in trace_of(trace_id):
            assert send(sender, body) == 200

        assert len(spans_of(jaeger.wait_for(trace_id, spans=SPANS, seconds=60))) == SPANS
        assert relay.status()["ingest"]["kept_spans"] == SPANS
