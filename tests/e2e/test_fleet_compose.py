"""The compose file of docs/fleet.md: a fleet on one machine that outlives a broker and a relay."""

import http.client
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.containers import Ground
from tests.e2e.fleet_compose import TOKEN, FleetCompose
from tests.support.builders import request, span, to_body
from tests.support.relay_process import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400, method="signal", func_only=True)]


@pytest.fixture
def fleet(ground: Ground, tmp_path: Path) -> Iterator[FleetCompose]:
    """All its services; both relays are healthy."""
    with FleetCompose(tmp_path) as up:
        for relay in up.ports:
            eventually(lambda r=relay: up.is_healthy(r), seconds=240, what=f"{relay} healthy")  # type: ignore[misc]
        yield up


def post(port: int) -> tuple[int, str]:
    """The status of one span, and its trace."""
    trace = secrets.token_hex(16)
    body = to_body(request(span(traceId=trace)))
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/v1/traces", body, headers)
        response = connection.getresponse()
        response.read()
        return response.status, trace
    finally:
        connection.close()


def kept(fleet: FleetCompose, relay: str) -> str:
    """The trace of a span that the relay answered with 200."""
    return eventually(
        lambda: next((trace for status, trace in [post(fleet.ports[relay])] if status == 200), ""),
        seconds=30,
        what=f"200 from {relay}",
    )


def test_fleet_of_the_compose_file_delivers_with_a_broker_less_and_for_a_relay_that_is_gone(
    fleet: FleetCompose,
) -> None:
    status = json.loads(fleet.otlp_relay("status", "--json", service="relay-a"))
    assert status["buffer"]["promise"] == "fsynced on 2 of 3 brokers"
    traces = [kept(fleet, "relay-a"), kept(fleet, "relay-b")]
    fleet.run("kill", "k1")
    traces += [kept(fleet, "relay-a"), kept(fleet, "relay-b")]
    fleet.run("kill", "relay-a")
    traces.append(kept(fleet, "relay-b"))
    for trace in traces:
        eventually(lambda t=trace: fleet.jaeger.find(t), seconds=60, what=f"trace {trace}")  # type: ignore[misc]
    shown = json.loads(fleet.otlp_relay("where", traces[0], "--json", service="relay-b"))
    assert [each["state"] for each in shown["destinations"]] == ["delivered"]
