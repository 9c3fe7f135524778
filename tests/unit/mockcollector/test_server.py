"""The life of a collector: start, stop, restart, TLS, and both ways to use it in a test."""

import datetime as dt
import http.client
import ipaddress
import json
import logging
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import anyio.to_thread
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from mockcollector import MockCollector
from tests.support.ports import free_port
from tests.unit.mockcollector.exchange import JSON, InThread, request_json, request_proto, send

# How long a stop may take when it waits for nobody: far below its grace of one second.
PROMPT_SECONDS = 0.9


def test_endpoint_is_known_once_it_listens() -> None:
    collector = MockCollector()
    with pytest.raises(RuntimeError, match="no port before"):
        _ = collector.endpoint

    with collector:
        assert collector.endpoint == f"http://127.0.0.1:{collector.port}/v1/traces"
        assert collector.base_url == f"http://127.0.0.1:{collector.port}"
        assert collector.is_running
    assert not collector.is_running


def test_stopped_collector_refuses_connections_and_keeps_its_journal() -> None:
    with MockCollector() as collector:
        send(collector, request_json())

    with pytest.raises(ConnectionRefusedError):
        send(collector, request_json())
    assert len(collector.journal.spans()) == 1
    collector.stop()


def test_restart_serves_on_the_same_port_with_the_same_journal_and_script() -> None:
    with MockCollector(port=free_port(), script="503,401") as collector:
        port = collector.port
        assert send(collector, request_json()).status == 503
        collector.stop()
        with pytest.raises(ConnectionRefusedError):
            send(collector, request_json())
        collector.start()
        assert send(collector, request_json()).status == 401
        collector.restart()
        assert send(collector, request_json()).status == 200

        assert collector.port == port
        assert len(collector.journal.requests()) == 3


def test_restart_does_not_wait_for_connections_that_it_closed() -> None:
    with MockCollector(port=free_port()) as collector:
        idle = http.client.HTTPConnection(collector.host, collector.port, timeout=10)
        idle.request("POST", "/v1/traces", b"{}", JSON)
        idle.getresponse().read()
        collector.stop()
        assert idle.sock is not None
        assert idle.sock.recv(1) == b""
        idle.close()

        collector.start()
        assert send(collector, request_json()).status == 200


def test_running_collector_cannot_be_started_again() -> None:
    with MockCollector() as collector, pytest.raises(RuntimeError, match="running already"):
        collector.start()


def test_address_in_use_is_an_os_error() -> None:
    with MockCollector() as first:
        second = MockCollector(port=first.port)
        with pytest.raises(OSError, match="Address already in use"):
            second.start()
        assert not second.is_running


def test_stop_cuts_hanging_requests_and_idle_connections_at_once() -> None:
    with MockCollector(script="ok,hang,delay=60") as collector:
        idle = http.client.HTTPConnection(collector.host, collector.port, timeout=10)
        idle.request("POST", "/v1/traces", b"{}", JSON)
        idle.getresponse().read()
        waiting = [InThread(lambda: send(collector, request_json())) for _ in range(2)]
        collector.journal.wait_for_requests(3)
        stopping = threading.Thread(target=collector.stop)
        stopping.start()
        stopping.join(PROMPT_SECONDS)
        assert not stopping.is_alive()

        for call in waiting:
            with pytest.raises(http.client.RemoteDisconnected):
                call.result()
        assert idle.sock is not None
        assert idle.sock.recv(1) == b""
        idle.close()
        assert collector.journal.counts.answers == {"200": 1, "collector stopped": 2}
        assert collector.journal.counts.spans_accepted == 0


def test_stop_ends_a_request_that_never_completes() -> None:
    with (
        MockCollector() as collector,
        socket.create_connection((collector.host, collector.port), timeout=10) as connection,
    ):
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100")  # the collector reads the body
        collector.stop()

        assert collector.journal.counts.answers == {"client left": 1}


def test_release_and_wait_on_a_stopped_collector_do_nothing() -> None:
    collector = MockCollector()
    collector.release()
    collector.ask_to_stop()
    assert collector.wait_until_ended()


def test_asking_to_stop_ends_it() -> None:
    with MockCollector() as collector:
        assert not collector.wait_until_ended(0)
        collector.ask_to_stop()
        assert collector.wait_until_ended(10)
        assert not collector.is_running


@pytest.mark.anyio
async def test_collector_serves_inside_an_async_test() -> None:
    async with MockCollector() as collector:
        reply = await anyio.to_thread.run_sync(lambda: send(collector, request_json()))
        assert reply.status == 200
        await collector.journal.wait_for_spans_async(1)
    assert not collector.is_running


def test_two_collectors_are_apart() -> None:
    with MockCollector() as one, MockCollector() as other:
        send(one, request_json())

        assert (len(one.journal.spans()), len(other.journal.spans())) == (1, 0)


def test_ipv6_address_is_written_with_brackets() -> None:
    with MockCollector(host="::1") as collector:
        assert collector.base_url == f"http://[::1]:{collector.port}"
        request = urllib.request.Request(collector.endpoint, b"{}", JSON)  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - our own
            assert response.status == 200


def test_collector_leaves_signals_and_logging_alone() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    loggers = {
        name: (logger.level, list(logger.handlers), logger.propagate)
        for name in ("", "uvicorn", "uvicorn.error", "uvicorn.access")
        for logger in [logging.getLogger(name)]
    }

    with MockCollector() as collector:
        send(collector, request_json())

        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    for name, before in loggers.items():
        logger = logging.getLogger(name)
        assert (logger.level, list(logger.handlers), logger.propagate) == before


def test_observer_sees_every_answered_request() -> None:
    seen: list[tuple[int, str]] = []
    with MockCollector(
        script="503", on_request=lambda request: seen.append((request.number, request.answer))
    ) as collector:
        send(collector, request_json())
        send(collector, b"{", headers=JSON)
        send(collector, request_json())

    assert seen == [(1, "503"), (2, "400"), (3, "200")]


def test_stock_exporter_delivers_with_its_headers() -> None:
    with MockCollector(required_headers={"x-key": "k"}) as collector:
        provider = TracerProvider(resource=Resource({"service.name": "app"}))
        exporter = OTLPSpanExporter(endpoint=collector.endpoint, headers={"x-key": "k"})
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with provider.get_tracer("lib").start_as_current_span("work") as span:
            span.set_attribute("n", 3)
        provider.shutdown()

        collector.journal.assert_span(
            name="work", scope="lib", attributes={"n": 3}, resource={"service.name": "app"}
        )


KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Certificates:
    """A throw-away authority, a certificate for 127.0.0.1, and one for a client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        usage = {name: name == "key_cert_sign" for name in KEY_USAGES}
        builder = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)  # Python 3.13 demands it
        )
        self.ca_file = self._write("ca.pem", builder.sign(self._key, hashes.SHA256()))
        self.server = self._issue("server")
        self.client = self._issue("client")

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def _issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = self._builder(subject, key).add_extension(
            x509.SubjectAlternativeName(addresses), critical=False
        )
        key_file = self._folder / f"{name}.key"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return self._write(f"{name}.pem", builder.sign(self._key, hashes.SHA256())), key_file

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self._folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def test_tls_serves_who_trusts_the_authority(certificates: Certificates) -> None:
    cert_file, key_file = certificates.server
    trusting = ssl.create_default_context(cafile=certificates.ca_file)
    with MockCollector(cert_file=cert_file, key_file=key_file) as collector:
        assert collector.endpoint.startswith("https://")
        assert send(collector, request_proto(), tls=trusting).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            send(collector, request_proto(), tls=ssl.create_default_context())


def test_tls_connection_can_be_cut_and_stopped(certificates: Certificates) -> None:
    cert_file, key_file = certificates.server
    trusting = ssl.create_default_context(cafile=certificates.ca_file)
    with MockCollector(cert_file=cert_file, key_file=key_file, script="cut,cut-answer,hang") as c:
        with pytest.raises((http.client.RemoteDisconnected, ssl.SSLEOFError)):
            send(c, request_proto(), tls=trusting)
        with pytest.raises(http.client.IncompleteRead):
            send(c, request_json(), tls=trusting)
        waiting = InThread(lambda: send(c, request_proto(), tls=trusting))
        c.journal.wait_for_requests(3)
        c.stop()

        with pytest.raises((http.client.RemoteDisconnected, ssl.SSLEOFError)):
            waiting.result()


def test_client_certificate_is_demanded_where_an_authority_is_named(
    certificates: Certificates,
) -> None:
    cert_file, key_file = certificates.server
    with MockCollector(
        cert_file=cert_file, key_file=key_file, client_ca_file=certificates.ca_file
    ) as collector:
        bare = ssl.create_default_context(cafile=certificates.ca_file)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            send(collector, request_proto(), tls=bare)

        known = ssl.create_default_context(cafile=certificates.ca_file)
        known.load_cert_chain(*certificates.client)
        assert send(collector, request_proto(), tls=known).status == 200


def test_key_without_certificate_is_refused(certificates: Certificates) -> None:
    with pytest.raises(ValueError, match="need a cert_file"):
        MockCollector(key_file=certificates.server[1])


def test_importing_the_plugin_and_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, json, mockcollector, mockcollector.pytest_plugin;"
        "heavy = {'google.protobuf', 'uvicorn', 'msgspec', 'anyio', 'mockcollector.server'};"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30)

    assert json.loads(done.stdout) == []
