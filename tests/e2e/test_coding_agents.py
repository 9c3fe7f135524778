"""What coding agents send, as their exporters write it, through the relay to real receivers."""

import http.client
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mockcollector.signals import TRAITS, Signal
from tests.e2e.received import (
    FIXTURES,
    HOUR,
    NO_DETECTION,
    SIGNALS,
    Json,
    Kept,
    fixture,
    items_of,
    letters,
    lines_of,
    nanoseconds,
    of_today,
    post,
    settle,
    to,
)
from tests.e2e.receivers import Receiver
from tests.e2e.tap import Tap
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.e2e


AGENTS = {
    path.name.removesuffix(".json"): path.name.split(".")[-2]
    for path in sorted(FIXTURES.glob("7*.json"))
    if not path.name.endswith(".expect.json")
}


def post_chunked(relay: Relay, path: str, body: bytes) -> int:
    """Send it as the exporters of JavaScript do, without saying how long it is."""
    connection = http.client.HTTPConnection("127.0.0.1", relay.ingest_port, timeout=30)
    try:
        chunks = iter((body[:1000], body[1000:]))
        connection.request("POST", path, chunks, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_all_that_coding_agents_send_is_kept_by_a_collector(
    tmp_path: Path, relay_command: tuple[str, ...], kept: Kept
) -> None:
    expected: dict[str, list[tuple[bytes, ...]]] = {name: [] for name in SIGNALS}
    destinations = {"collector": kept.destination}
    with Relay(tmp_path, destinations, settings=NO_DETECTION, executable=relay_command) as relay:
        for name, signal_name in AGENTS.items():
            body = (FIXTURES / f"{name}.json").read_bytes()
            assert post_chunked(relay, TRAITS[Signal(signal_name)].path, body) == 200
            expected[signal_name] += items_of(without_null(json.loads(body)), signal_name)
        settle(relay)
        assert letters(relay) == []

    for name, items in expected.items():
        assert kept.items(name, len(items)) == sorted(items)


def without_null(made: Any) -> Any:
    """Numbers that JavaScript could not write are null: an empty value, to the classes."""
    if isinstance(made, list):
        return [without_null(each) for each in made]
    if isinstance(made, dict):
        return {key: without_null(each) for key, each in made.items() if each is not None}
    return made


def test_log_records_of_coding_agents_are_found_in_victoria_logs(
    tmp_path: Path, relay_command: tuple[str, ...], victoria_logs: Receiver, service: str
) -> None:
    sent = {name: fixture(name) for name, of in AGENTS.items() if of == "logs"}
    destinations = to(victoria_logs, "victoria-logs")
    with Relay(tmp_path, destinations, settings=NO_DETECTION, executable=relay_command) as relay:
        for name, made in sent.items():
            body = of_today(made, service=f"{service}_{name[:2]}")
            assert relay.post(body, path="/v1/logs")[0] == 200
        settle(relay)
        assert letters(relay) == []

    since = time.time_ns() - HOUR
    for name in sent:
        accepted = fixture(f"{name.partition('.')[0]}.expect")["accepted"]
        lines = lines_of(victoria_logs, f"{service}_{name[:2]}", accepted)
        assert len(lines) == accepted
        assert all(nanoseconds(line["_time"]) > since for line in lines)  # also Codex', with time 0
    claude = victoria_logs.lines(
        f'"service.name":="{service}_70" "event.name":="api_request" | stats sum(output_tokens) n'
    )
    assert claude == [
        {"n": str(fixture("70_claude_code_events.expect")["summary"]["output_tokens"])}
    ]


def token_usage(made: Json) -> dict[tuple[str, str], float]:
    """By type and model, what Claude Code's metric says."""
    (metric,) = (
        each
        for each in made["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
        if each["name"] == "claude_code.token.usage"
    )
    found = {}
    for point in metric["sum"]["dataPoints"]:
        said = {each["key"]: each["value"].get("stringValue") for each in point["attributes"]}
        found[said["type"], said["model"]] = float(point["asDouble"])
    return found


def test_delta_metrics_of_a_coding_agent_are_found_in_victoria_metrics(
    tmp_path: Path, relay_command: tuple[str, ...], victoria_metrics: Receiver, service: str
) -> None:
    made = fixture("71_claude_code_usage.metrics")
    destinations = to(victoria_metrics, "victoria-metrics")
    with Relay(tmp_path, destinations, settings=NO_DETECTION, executable=relay_command) as relay:
        post(relay, of_today(made, service=service), "metrics")
        settle(relay)
        assert letters(relay) == []
    victoria_metrics.flush()

    query = f'{{__name__="claude_code.token.usage","service.name"="{service}"}}'
    found = eventually(lambda: victoria_metrics.samples(query, time.time()))
    labelled = {(s["type"], s["model"]): v for text, v in found.items() for s in [json.loads(text)]}
    assert labelled == token_usage(made)


def test_delta_metrics_of_a_coding_agent_are_dead_letters_before_prometheus_is_asked(
    tmp_path: Path, relay_command: tuple[str, ...], prometheus: Receiver
) -> None:
    made = fixture("71_claude_code_usage.metrics")
    with (
        Tap(int(urlsplit(prometheus.endpoint).port or 0)) as tap,
        Relay(tmp_path, to(prometheus, "prometheus", tap), executable=relay_command) as relay,
    ):
        post(relay, of_today(made), "metrics")
        settle(relay)
        found = letters(relay, 14)

    assert sum(letter["spans"] for letter in found) == 14
    for letter in found:
        assert "takes only cumulative" in letter["words"]
        assert "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative" in letter["words"]
    assert tap.requests() == 0
