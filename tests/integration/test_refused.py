"""Whoever looks at the relay is told of what it refused: by status, doctor, metrics and the log."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builders import request, span
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
TOKEN = {"Authorization": "Bearer t"}


def relay_with(folder: Path, ingest: str = "", admin: str = "") -> Relay:
    """A relay that is not started, with more keys in these tables."""
    relay = Relay(folder)
    text = relay.config.read_text()
    text = text.replace("[ingest]\n", f"[ingest]\n{ingest}\n")
    relay.config.write_text(text.replace("[admin]\n", f"[admin]\n{admin}\n"))
    return relay


def say_to(port: int, data: bytes, host: str = "127.0.0.1") -> bytes:
    """What comes back until the connection is closed."""
    with socket.create_connection((host, port), 10) as client:
        client.sendall(data)
        found = b""
        while piece := client.recv(4096):
            found += piece
        return found


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with relay_with(tmp_path, "tokens = ['t']") as relay:
        yield relay


def test_what_was_refused_is_told_everywhere_with_what_to_do(relay: Relay) -> None:
    assert relay.post(request(span()), headers={"User-Agent": "sdk/1"})[0] == 401
    assert relay.post(b"{", headers=TOKEN | {"User-Agent": "\x9b31mevil"})[0] == 400
    assert b" 404 " in say_to(
        relay.ingest_port, b"GET /v1/trace HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert b"http/protobuf" in say_to(relay.ingest_port, PREFACE)

    ingest = relay.status()["ingest"]
    assert [(e["reason"], e["path"], e["times"]) for e in ingest["refused_last_hour"]] == [
        ("grpc", "", 1),
        ("404", "/v1/trace", 1),
        ("400", "/v1/traces", 1),
        ("401", "/v1/traces", 1),
    ]
    assert ingest["refused"] == {"401": 1, "400": 1, "404": 1, "grpc": 1}
    assert ingest["refused_bodies"]["times"] == 1
    assert ingest["refused_bodies"]["last_sender"] == "127.0.0.1"
    shown = relay.run("status").stdout
    assert "refused  4 requests in the last hour" in shown
    assert "401 /v1/traces from 127.0.0.1 (sdk/1): this relay requires a token" in shown
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in shown
    assert "1 could not be read at all" in shown
    assert "\x9b" not in shown + relay.log()
    doctor = relay.run("doctor", "--json")
    findings = json.loads(doctor.stdout)["relay"]
    refused = [each for each in findings if each["name"] == "refused"]
    assert [each["state"] for each in refused] == ["failed"] * 4
    assert doctor.returncode == 1
    metrics = relay.get("/metrics", parse=False)[1]
    assert 'otlp_relay_refused_total{reason="grpc"} 1.0' in metrics
    logged = [json.loads(line) for line in relay.log().splitlines() if '_refused"' in line]
    assert [(each["event"], each["level"]) for each in logged] == [
        ("request_refused", "warning"),
        ("request_refused", "warning"),
        ("request_refused", "warning"),
        ("connection_refused", "warning"),
    ]
    assert (logged[0]["path"], logged[0]["user_agent"]) == ("/v1/traces", "sdk/1")


def test_grpc_exporters_are_told_on_their_own_port(tmp_path: Path) -> None:
    relay = relay_with(tmp_path, "grpc_hint = true")
    # An address of its own, since 4317 of the usual one may be in use on the host of the tests.
    relay.config.write_text(relay.config.read_text().replace("127.0.0.1:", "127.0.0.117:", 1))
    with relay:
        assert b"http/protobuf" in say_to(4317, PREFACE, "127.0.0.117")
        (refused,) = relay.status()["ingest"]["refused_last_hour"]

    assert (refused["reason"], refused["sender"]) == ("grpc", "127.0.0.1")


def test_port_of_grpc_that_is_taken_stops_nothing(tmp_path: Path) -> None:
    relay = relay_with(tmp_path, "grpc_hint = true")
    relay.config.write_text(relay.config.read_text().replace("127.0.0.1:", "127.0.0.118:", 1))
    with socket.create_server(("127.0.0.118", 4317)), relay:
        assert "hint_not_given" in relay.log()


def test_probes_reach_health_and_nothing_else_on_an_open_address(tmp_path: Path) -> None:
    port = free_port()
    with relay_with(tmp_path, admin=f"health_listen = '0.0.0.0:{port}'") as relay:

        def ask(path: str) -> bytes:
            head = f"GET {path} HTTP/1.1\r\nHost: pod.example\r\nConnection: close\r\n\r\n"
            return say_to(port, head.encode())

        assert ask("/healthz").startswith(b"HTTP/1.1 200")
        assert ask("/readyz").endswith(b"\r\n\r\nready\n")
        for path in ("/", "/metrics", "/api/status", "/healthz/"):
            assert ask(path).startswith(b"HTTP/1.1 404"), path
        assert f"0.0.0.0:{port}" in relay.log()
        assert relay.get("/readyz", parse=False)[0] == 200
        eventually(lambda: relay.stop() == 0)
