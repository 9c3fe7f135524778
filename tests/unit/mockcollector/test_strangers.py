"""What reaches the port and is no request, and requests that other receivers lose."""

import json
import logging
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from mockcollector import MockCollector
from mockcollector.strangers import Stranger, StrangerKind
from tests.support.certificates import make_authority
from tests.unit.mockcollector.exchange import request_json, request_proto, send

UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAA\r\n"
)


def exchange(collector: MockCollector, data: bytes, *more: bytes) -> bytes:
    with socket.create_connection((collector.host, collector.port), timeout=10) as sender:
        for piece in (data, *more):
            sender.sendall(piece)
        return sender.recv(65536)


def post(body: bytes, media_type: str, headers: bytes = UPGRADE) -> bytes:
    return (
        b"POST /v1/traces HTTP/1.1\r\nHost: mock\r\n"
        + f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n".encode()
        + headers
        + b"\r\n"
        + body
    )


@pytest.mark.parametrize("is_in_pieces", [False, True])
@pytest.mark.parametrize("is_json", [False, True])
def test_request_that_offers_an_upgrade_keeps_its_spans(
    collector: MockCollector, is_in_pieces: bool, is_json: bool
) -> None:
    body = json.dumps(request_json()).encode() if is_json else request_proto(3).SerializeToString()
    data = post(body, "application/json" if is_json else "application/x-protobuf")
    pieces = [data[at : at + 50] for at in range(0, len(data), 50)] if is_in_pieces else [data]

    assert exchange(collector, *pieces).startswith(b"HTTP/1.1 200 ")
    assert len(collector.journal.spans()) == (1 if is_json else 3)
    assert collector.journal.requests()[0].body == body


JAVA = """
import java.net.URI;
import java.net.http.*;

public class Send {
    public static void main(String[] args) throws Exception {
        var client = HttpClient.newHttpClient();
        for (int i = 0; i < 2; i++) {
            var request = HttpRequest.newBuilder(URI.create(args[0]))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(args[1])).build();
            var response = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(response.statusCode() + " " + response.body());
        }
    }
}
"""


@pytest.mark.skipif(shutil.which("java") is None, reason="needs a JDK")
def test_the_jdks_own_client_delivers(collector: MockCollector, tmp_path: Path) -> None:
    source = tmp_path / "Send.java"
    source.write_text(JAVA)
    ran = subprocess.run(
        ["java", str(source), collector.endpoint, json.dumps(request_json())],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert ran.stdout == "200 {}\n200 {}\n"
    assert [len(request.spans) for request in collector.journal.requests()] == [1, 1]
    assert "upgrade" in collector.journal.requests()[0].header_names


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "tls", "use http://"),
        (b"NONSENSE\r\n\r\n", "malformed", "not HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "malformed", ""),
    ],
)  # fmt: skip
def test_what_is_no_request_is_in_the_journal_with_what_to_do(
    collector: MockCollector, data: bytes, kind: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = exchange(collector, data)

    assert answer.startswith(b"HTTP/1.1 400 ")
    (stranger,) = collector.journal.strangers()
    assert stranger.kind == kind
    assert words in stranger.reason
    assert stranger.peer.startswith("127.0.0.1:")
    assert collector.journal.counts.strangers == {kind: 1}
    assert collector.journal.counts.requests == 0
    assert caplog.records == []


def test_failed_wait_tells_of_a_grpc_exporter(collector: MockCollector) -> None:
    exchange(collector, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    with pytest.raises(AssertionError, match="set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"):
        collector.journal.wait_for_spans(1, timeout=0)


def test_head_that_is_cut_off_is_told_of() -> None:
    seen: list[Stranger] = []
    with MockCollector(on_stranger=seen.append) as collector:
        with socket.create_connection((collector.host, collector.port)) as sender:
            sender.sendall(b"POST /v1/traces HT")
        collector.journal._watched.wait(lambda: bool(collector.journal._strangers), 10)
    assert [stranger.kind for stranger in seen] == [StrangerKind.CUT_OFF]


def test_failed_handshakes_are_told_of(tmp_path: Path) -> None:
    cert, key = make_authority(tmp_path).issue("server")
    with MockCollector(cert_file=cert, key_file=key) as collector:
        with socket.create_connection((collector.host, collector.port), timeout=10) as sender:
            sender.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: mock\r\n\r\n")
            while sender.recv(1000):
                pass
        with pytest.raises(ssl.SSLCertVerificationError):
            send(collector, request_json(), tls=ssl.create_default_context())
        collector.journal._watched.wait(lambda: len(collector.journal._strangers) >= 2, 10)
        reasons = [stranger.reason for stranger in collector.journal.strangers()]
    assert "use https://" in reasons[0]
    assert "does not trust this certificate" in reasons[1]


def test_a_request_is_logged_nowhere(
    collector: MockCollector, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert send(collector, request_json()).status == 200
    assert [record for record in caplog.records if "uvicorn" in record.name] == []


def test_http_1_1_without_a_host_is_refused(collector: MockCollector) -> None:
    body = json.dumps(request_json()).encode()
    data = post(body, "application/json", b"").replace(b"Host: mock\r\n", b"")
    assert exchange(collector, data).startswith(b"HTTP/1.1 400 ")
    assert collector.journal.requests()[0].reason == "HTTP/1.1 needs exactly one Host header"
    assert exchange(collector, data.replace(b"HTTP/1.1", b"HTTP/1.0")).startswith(b"HTTP/1.1 200 ")


def test_early_refusal_still_says_how_the_body_was_packed() -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "GZIP"}
    with MockCollector(required_headers={"x-key": "k"}) as collector:
        assert send(collector, b"x" * 77, headers=headers).status == 401
        (request,) = collector.journal.requests()
    assert (request.content_encoding, request.announced_bytes) == ("gzip", 77)


def test_requests_say_on_which_connection_and_when_they_came(collector: MockCollector) -> None:
    body = json.dumps(request_json()).encode()
    data = post(body, "application/json", b"")
    with socket.create_connection((collector.host, collector.port), timeout=10) as sender:
        for _ in range(2):
            sender.sendall(data)
            sender.recv(65536)
        peer = "{}:{}".format(*sender.getsockname())
    send(collector, request_json())

    requests = collector.journal.requests()
    assert [(r.connection, r.nth_on_connection) for r in requests] == [(1, 1), (1, 2), (2, 1)]
    assert requests[0].peer == requests[1].peer == peer
    assert {r.http_version for r in requests} == {"1.1"}
    for request in requests:
        assert 0 < request.began_ns <= request.read_ns <= request.settled_ns
    assert collector.journal.counts.connections == 2


def test_request_over_tls_says_who_sent_it(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    cert, key = authority.issue("server")
    context = ssl.create_default_context(cafile=authority.file)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(*authority.issue("shop"))
    with MockCollector(cert_file=cert, key_file=key, client_ca_file=authority.file) as collector:
        assert send(collector, request_json(), tls=context).status == 200
        (request,) = collector.journal.requests()
    assert request.tls_version.startswith("TLSv1.")
    assert request.tls_subject == "CN=shop"
