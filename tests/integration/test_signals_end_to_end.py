"""Logs, metrics and traces through a real relay to an upstream, in each encoding in and out.

What each fixture's `.expect.json` says holds at the outside: the answer to its sender, and the tree
that arrives. The mock collector's own reading of it is written back as OTLP/JSON by its own rules.
"""

import http.client
import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from mockcollector.received import ReceivedRequest
from mockcollector.server import MockCollector
from mockcollector.signals import TRAITS, Signal
from tests.support.builders import json_twin, protobuf_twin
from tests.support.fixtures import Fixture, as_of_now, fixtures_of
from tests.support.load import MEDIA_TYPES, SIGNALS, item_ids, request_of
from tests.support.relay_process import Relay, eventually

ENCODINGS = tuple(MEDIA_TYPES)
# What protobuf cannot say: names of enums, keys that are not of the schema.
NAMES = {"SEVERITY_NUMBER_WARN2": 14, "AGGREGATION_TEMPORALITY_DELTA": 1}
WARNED_FOR_A_NAME = {"46_log_severities"}
# Nothing in these is to be mended: what arrives is what was sent, field for field.
UNCHANGED = {
    "40_log_minimal",
    "41_log_full",
    "45_log_bodies",
    "50_metric_full",
    "52_metric_special_values",
    "59_metric_same_series",
}
WITHOUT_TWIN = {"48_spans_at_logs"}  # protobuf has no keys of other signals
FIXTURES = [
    (signal, fixture)
    for signal in SIGNALS
    for fixture in fixtures_of(signal)
    if signal != "traces" or fixture.name[0] == "7"  # the others: test_end_to_end
]
SENDERS = [(signal, fixture) for signal, fixture in FIXTURES if fixture.name[0] == "7"]
PARTIAL = {
    "traces": "rejectedSpans",
    "logs": "rejectedLogRecords",
    "metrics": "rejectedDataPoints",
}


def destination(upstream: MockCollector, **more: object) -> dict[str, dict[str, object]]:
    return {"mock": {"endpoint": upstream.endpoint, "signals": SIGNALS, **more}}


def encoded(body: bytes, signal: str, encoding: str) -> bytes:
    """The request in that encoding."""
    if encoding == "json":
        return body
    for name, number in NAMES.items():
        body = body.replace(b'"%s"' % name.encode(), b"%d" % number)
    twin = protobuf_twin(json.loads(body), TRAITS[Signal(signal)].request)
    return bytes(twin.SerializeToString())


def answered(answer: bytes, signal: str, encoding: str, status: int) -> dict[str, Any]:
    """What an answer says: `rejected` and `errorMessage`, or `message`."""
    if encoding == "json":
        found = json.loads(answer)
        partial = found.get("partialSuccess", {})
        told = {"rejected": int(partial.get(PARTIAL[signal], 0))}
        return {**told, "errorMessage": partial.get("errorMessage", ""), **found}
    if status != 200:
        return {"message": answer.decode(errors="replace")}
    traits = TRAITS[Signal(signal)]
    partial = traits.response.FromString(answer).partial_success
    return {
        "rejected": getattr(partial, traits.rejected),
        "errorMessage": partial.error_message,
    }


def in_bytes(message: Message) -> bytes:
    """A message as bytes that compare; NaN equals itself."""
    return bytes(message.SerializeToString(deterministic=True))


def at(tree: Any, path: str) -> Any:
    """What stands there; None if nothing does."""
    for step in re.findall(r"\w+", path):
        try:
            tree = tree[int(step)] if step.isdigit() else tree[step]
        except (KeyError, IndexError):
            return None
    return tree


def is_as_expected(found: Any, expected: Any, *, moved_ns: int, posted_ns: int) -> bool:
    """Whether that stands there; `moved_ns`: how much later a fixture's times were made."""
    if expected == "arrival":
        return posted_ns <= int(found) <= time.time_ns()
    if isinstance(expected, str) and re.fullmatch(r"1767225[67]\d{11}", expected):
        return bool(found == str(int(expected) + moved_ns))
    if expected in ("", 0, "0") and not isinstance(expected, bool):
        return found in (expected, None)  # a default may be said or not
    return bool(found == expected)


@pytest.fixture(scope="module", params=ENCODINGS)
def way(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Relay, MockCollector]]:
    """A relay and its upstream, which is sent JSON or protobuf alone."""
    with MockCollector() as upstream:
        destinations = destination(upstream, encoding=request.param)
        folder = tmp_path_factory.mktemp(f"out-{request.param}")
        settings = "[enrich]\ndetect = []\n"
        with Relay(folder, destinations, settings=settings) as relay:
            yield relay, upstream


def arrives(upstream: MockCollector, count: int) -> ReceivedRequest:
    """The one request to come, which has so many items."""
    (found,) = eventually(lambda: upstream.journal.requests(status=200), what="a request")
    assert found.item_count == count
    return found


@pytest.mark.parametrize(
    ("signal", "fixture", "came_in"),
    [
        (signal, fixture, came_in)
        for signal, fixture in FIXTURES
        for came_in in ENCODINGS
        if came_in == "json" or fixture.name not in WITHOUT_TWIN
    ],
    ids=str,
)
def test_fixture_is_answered_and_arrives_as_it_says(
    way: tuple[Relay, MockCollector], signal: str, fixture: Fixture, came_in: str
) -> None:
    relay, upstream = way
    upstream.journal.clear()
    expected = fixture.expected
    json_body = as_of_now(fixture.body)
    first_time = re.compile(rb"1767225[67]\d{11}")
    moved_ns = 0
    if before := first_time.search(fixture.body):
        moved_ns = int(json_body[before.start() : before.end()]) - int(before[0])
    posted_ns = time.time_ns()
    status, answer = relay.post(
        encoded(json_body, signal, came_in),
        path=f"/v1/{signal}",
        headers={"Content-Type": MEDIA_TYPES[came_in]},
    )
    told = answered(answer, signal, came_in, status)

    assert status == expected["status"], told
    if status != 200:
        assert told["message"]
        return
    assert told["rejected"] == expected["rejected"]
    is_named = came_in == "protobuf" and fixture.name in WARNED_FOR_A_NAME
    is_warned = bool(expected["rejected"] or expected.get("warning", False)) and not is_named
    assert bool(told["errorMessage"]) is is_warned, told
    if not expected["accepted"]:
        return
    received = arrives(upstream, expected["accepted"])
    assert received.message is not None
    assert not received.unknown_keys
    if fixture.name in UNCHANGED:
        twin = protobuf_twin(json.loads(json_body), type(received.message))
        assert in_bytes(received.message) == in_bytes(twin)
    tree = json_twin(received.message)
    for path, value in expected.get("relayed", {}).items():
        found = at(tree, path)
        assert is_as_expected(found, value, moved_ns=moved_ns, posted_ns=posted_ns), (path, found)


@pytest.mark.parametrize(("signal", "fixture"), SENDERS, ids=str)
def test_what_agents_write_arrives_chunked_and_pretty_printed(
    way: tuple[Relay, MockCollector], signal: str, fixture: Fixture
) -> None:
    relay, upstream = way
    upstream.journal.clear()
    pretty = json.dumps(json.loads(as_of_now(fixture.body)), indent=2, ensure_ascii=False).encode()
    sizes = itertools.cycle((1, 7, 100, 1, 1000))
    connection = http.client.HTTPConnection("127.0.0.1", relay.ingest_port, timeout=30)
    at_byte = 0
    chunks = []
    while at_byte < len(pretty):
        chunks.append(pretty[at_byte : (at_byte := at_byte + next(sizes))])
    headers = {"Content-Type": "application/json; charset=utf-8", "Transfer-Encoding": "chunked"}
    connection.request("POST", f"/v1/{signal}", iter(chunks), headers, encode_chunked=True)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()

    assert (response.status, answer) == (200, {})
    arrives(upstream, fixture.expected["accepted"])


# --- configurations that know traces alone --------------------------------------------------------


def events(relay: Relay, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in relay.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def test_old_configuration_takes_traces_alone_and_says_once_how_to_take_more(
    tmp_path: Path,
) -> None:
    with MockCollector() as upstream:
        with Relay(tmp_path, {"mock": {"endpoint": upstream.endpoint}}) as relay:
            eventually(lambda: events(relay, "ready"))
            assert relay.post(request_of(item_ids("traces", 1)))[0] == 200
            for signal in ("logs", "metrics"):
                status, answer = relay.post(request_of(item_ids(signal, 1)), path=f"/v1/{signal}")
                assert status == 404
                assert "signals" in json.loads(answer)["message"]
            upstream.journal.wait_for_spans(1, timeout=20)
            assert [each["signal"] for each in relay.queues("mock")] == ["traces"]
            relay.signal(1)
            eventually(lambda: events(relay, "reloaded"))
            (line,) = events(relay, "only_traces_taken")
            assert line["level"] == "info"
            assert 'signals = ["traces", "logs", "metrics"]' in line["hint"]

            relay.stop()
            relay.write_config(destination(upstream))
            relay.start()
            status, _ = relay.post(request_of(item_ids("logs", 1)), path="/v1/logs")
            assert status == 200
            upstream.journal.wait_for_log_records(1, timeout=20)
            assert len(events(relay, "only_traces_taken")) == 1


@pytest.mark.parametrize("keys", [{"signals": ["traces"]}, None], ids=["said", "no destination"])
def test_configuration_that_says_signals_or_takes_all_is_told_nothing(
    tmp_path: Path, keys: dict[str, object] | None
) -> None:
    endpoint = {"endpoint": "http://127.0.0.1:1/v1/traces"}
    with Relay(tmp_path, {} if keys is None else {"mock": {**endpoint, **keys}}) as relay:
        eventually(lambda: events(relay, "ready"))
        assert relay.stop() == 0
    assert not events(relay, "only_traces_taken")
