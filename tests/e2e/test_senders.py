"""Stock exporters of five languages to the relay to a mock collector: it all arrives as it was.

Each program under `senders/` knows nothing but `OTEL_EXPORTER_OTLP_ENDPOINT` and its service's name
(Java also the protocol, since its own default is gRPC). The mock collector decodes with the
official protobuf classes.
"""

import http.client
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mockcollector.items import ReceivedSpan
from mockcollector.server import MockCollector
from tests.e2e.sender_builds import ENVIRON, SenderBuildError, command_of
from tests.support.relay_process import Relay

pytestmark = pytest.mark.e2e

RUN_SECONDS = 60
ARRIVAL_SECONDS = 20
SERVICE = "shop"
BEGAN_UNIX_NANO = 1767225600_123456789
EARLIER_TRACE, EARLIER_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT, ERROR = 2, 3, 2
ADDED = {"host.name", "host.arch", "os.type"}
# Other in each run of a program, so left out when two runs are compared.
OF_THE_RUN = {"service.instance.id"}


@dataclass(frozen=True)
class Sender:
    """What is particular to one program."""

    name: str
    language: str
    encoding: str = "protobuf"
    big: int = 2**53 + 1
    environ: tuple[tuple[str, str], ...] = ()
    with_signals: tuple[str, ...] = ()


SENDERS = [
    Sender("python", "python", with_signals=("signals",)),
    # 2**53 + 1 is no number of JavaScript; its neighbour is.
    Sender("node-json", "nodejs", encoding="json", big=2**53 + 2),
    Sender("node-proto", "nodejs", big=2**53 + 2),
    Sender("go", "go"),
    Sender("java", "java", environ=(("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),)),
    Sender("rust", "rust"),
]
# The exporter that many languages have by default: its protocol is not ours.
OVER_GRPC = [
    Sender(
        "python-grpc",
        "python",
        environ=(("OTEL_EXPORTER_OTLP_INSECURE", "true"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "2")),
    ),
    Sender(
        "java",
        "java",
        environ=(
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ),
    ),
]
PYTHON, GO, JAVA = (next(s for s in SENDERS if s.name == name) for name in ("python", "go", "java"))


def senders(*chosen: Sender) -> pytest.MarkDecorator:
    """Runs a test with each of these, which the fixture `program` then builds and starts."""
    return pytest.mark.parametrize("sender", chosen, ids=lambda sender: sender.name)


class Program:
    """A sender that is built."""

    def __init__(self, sender: Sender, command: tuple[str, ...]) -> None:
        self.sender = sender
        self._command = command

    def run(self, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it against this endpoint; fails when it is not content."""
        ran = subprocess.run(
            [*self._command, *arguments],
            env={
                "PATH": ENVIRON.get("PATH", ""),
                "OTEL_EXPORTER_OTLP_ENDPOINT": url,
                "OTEL_SERVICE_NAME": SERVICE,
                **dict(self.sender.environ),
            },
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran


class LocalhostRelay(Relay):
    """A relay on `localhost:PORT`, as it listens by default, but on a free port."""

    def write_config(self, destinations: Any, more: str = "") -> None:
        """As for any relay, with the listener that is tested here."""
        super().write_config(destinations, more)
        text = self.config.read_text()
        addressed = f'listen = "127.0.0.1:{self.ingest_port}"'
        assert addressed in text
        self.config.write_text(text.replace(addressed, 'listen = "localhost:0"'))

    def listening(self) -> list[str]:
        """The addresses that it takes spans on, such as `127.0.0.1:4318`."""
        return list(self.status()["ingest"]["listening"])

    @property
    def url(self) -> str:
        """The endpoint for senders."""
        (port,) = {address.rpartition(":")[2] for address in self.listening()}
        return f"http://localhost:{port}"


@pytest.fixture
def upstream() -> Iterator[MockCollector]:
    with MockCollector() as collector:
        yield collector


@pytest.fixture
def relay(
    tmp_path: Path, upstream: MockCollector, relay_command: tuple[str, ...]
) -> Iterator[LocalhostRelay]:
    destinations = {"mock": {"endpoint": upstream.endpoint}}
    with LocalhostRelay(tmp_path, destinations, executable=relay_command) as running:
        yield running


@pytest.fixture
def program(sender: Sender) -> Program:
    """The program of the test's `sender`; built here, since a test's own time is short."""
    try:
        return Program(sender, command_of(sender.name))
    except SenderBuildError as error:
        why = str(error)
    pytest.fail(why, pytrace=False)


def trace_of(collector: MockCollector, printed: str) -> tuple[ReceivedSpan, ReceivedSpan]:
    """The parent and the child that arrived; there is nothing else."""
    collector.journal.wait_for_spans(2, timeout=ARRIVAL_SECONDS)
    (parent,), (child,) = (collector.journal.by_name(n) for n in ("POST /orders", "charge card"))
    assert len(collector.journal.spans()) == 2
    assert {parent.trace_id, child.trace_id} == {printed.strip()}
    return parent, child


def assert_complete(sender: Sender, parent: ReceivedSpan, child: ReceivedSpan) -> None:
    """Every field is what the program set."""
    assert (parent.kind, parent.parent_span_id) == (SERVER, "")
    assert (child.kind, child.parent_span_id) == (CLIENT, parent.span_id)
    assert typed(parent.attributes) == typed(
        {
            "text": "Grüße, 世界 🚀",
            "big": sender.big,
            "ratio": 0.1,
            "paid": True,
            "items": ["tea", "cup"],
        }
    )
    assert (parent.status_code, parent.events, parent.links) == (0, (), ())
    assert (child.status_code, child.status_message) == (ERROR, "card declined")
    assert child.attributes == {}
    (event,), (link,) = child.events, child.links
    assert event.name == "declined"
    assert typed(event.attributes) == typed({"reason": "no funds", "attempt": 2})
    assert (link.trace_id, link.span_id) == (EARLIER_TRACE, EARLIER_SPAN)
    assert link.attributes == {"why": "second try"}
    assert (child.start_time_unix_nano, event.time_unix_nano, child.end_time_unix_nano) == (
        BEGAN_UNIX_NANO,
        BEGAN_UNIX_NANO + 1_000_001,
        BEGAN_UNIX_NANO + 2_000_003,
    )
    for span in (parent, child):
        assert (span.scope.name, span.scope.version) == ("shop.checkout", "1.2.3")
        assert span.resource.attributes["service.name"] == SERVICE
        assert span.resource.attributes["telemetry.sdk.language"] == sender.language


def typed(attributes: dict[str, Any]) -> dict[str, tuple[type, Any]]:
    """The same with the types beside the values: in Python 1 == 1.0 == True."""
    return {key: (type(value), value) for key, value in attributes.items()}


@senders(*SENDERS)
def test_trace_of_a_stock_exporter_arrives_complete_in_its_own_encoding(
    program: Program, relay: LocalhostRelay, upstream: MockCollector
) -> None:
    began = time.time_ns()
    ran = program.run(relay.url)
    ended = time.time_ns()
    parent, child = trace_of(upstream, ran.stdout)

    assert_complete(program.sender, parent, child)
    # A millisecond on either side: JavaScript begins its spans at whole ones.
    assert began - 1_000_000 <= parent.start_time_unix_nano
    assert parent.start_time_unix_nano <= parent.end_time_unix_nano <= ended + 1_000_000
    assert parent.resource.attributes.keys() >= ADDED
    assert {request.encoding for request in upstream.journal.requests()} == {
        program.sender.encoding
    }


@senders(*SENDERS)
def test_relay_adds_its_attributes_and_changes_nothing_else_of_what_an_exporter_sends(
    program: Program, relay: LocalhostRelay, upstream: MockCollector
) -> None:
    with MockCollector() as direct:
        as_sent = trace_of(direct, program.run(direct.base_url).stdout)
        (sent,) = (r for r in direct.journal.requests() if r.path == "/v1/traces")
    relayed = trace_of(upstream, program.run(relay.url).stdout)
    (arrived,) = upstream.journal.requests()

    assert isinstance(sent.message, ExportTraceServiceRequest)
    assert isinstance(arrived.message, ExportTraceServiceRequest)
    added = relayed[0].resource.attributes.keys() - as_sent[0].resource.attributes.keys()
    assert added >= ADDED
    assert {key.partition(".")[0] for key in added} == {"host", "os"}
    assert of_any_run(arrived.message, without=added) == of_any_run(sent.message)


def of_any_run(
    message: ExportTraceServiceRequest, *, without: frozenset[str] | set[str] = frozenset()
) -> ExportTraceServiceRequest:
    """A copy without what differs from run to run, and without these resource attributes."""
    copy = ExportTraceServiceRequest()
    copy.CopyFrom(message)
    for resource_spans in copy.resource_spans:
        kept = [a for a in resource_spans.resource.attributes if a.key not in without | OF_THE_RUN]
        del resource_spans.resource.attributes[:]
        # A map in some SDKs: its order is another in each run of Rust.
        resource_spans.resource.attributes.extend(sorted(kept, key=lambda a: a.key))
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                for field in ("trace_id", "span_id", "parent_span_id"):
                    span.ClearField(field)
                if span.name == "POST /orders":  # its times are those of the SDK's clock
                    span.ClearField("start_time_unix_nano")
                    span.ClearField("end_time_unix_nano")
    return copy


@senders(JAVA, PYTHON)
def test_metrics_and_logs_exporters_are_refused_and_the_trace_after_them_arrives(
    program: Program, relay: LocalhostRelay, upstream: MockCollector
) -> None:
    """Java's autoconfigured SDK has both on by default; the Python program is told to."""
    ran = program.run(relay.url, *program.sender.with_signals)
    parent, child = trace_of(upstream, ran.stdout)

    assert_complete(program.sender, parent, child)
    assert ran.stderr.count("404") >= 2, ran.stderr
    for signal in ("metrics", "logs"):
        assert f"OTEL_{signal.upper()}_EXPORTER=none" in relay.log(), relay.log()
    assert {request.path for request in upstream.journal.requests()} == {"/v1/traces"}


@senders(JAVA)
def test_java_exporters_print_the_words_of_the_relays_refusal(
    program: Program, relay: LocalhostRelay
) -> None:
    ran = program.run(relay.url)

    assert "accepts traces only" in ran.stderr
    for signal in ("metrics", "logs"):
        assert f"OTEL_{signal.upper()}_EXPORTER=none" in ran.stderr, ran.stderr


@senders(*OVER_GRPC)
@pytest.mark.parametrize("is_hinted", [False, True], ids=["4318", "4317"])
def test_grpc_exporter_is_told_of_everywhere_before_it_has_given_up(
    program: Program, is_hinted: bool, relay_command: tuple[str, ...], tmp_path: Path
) -> None:
    """It gives up after the 2 s that it is given; then log, `status` and `doctor` have told."""
    # An address of its own, since 4317 of the usual one may be in use on the host of the tests.
    address = "127.0.0.119"
    relay = Relay(tmp_path, executable=relay_command)
    text = relay.config.read_text().replace("127.0.0.1:", f"{address}:", 1)
    relay.config.write_text(text.replace("[ingest]\n", "[ingest]\ngrpc_hint = true\n"))
    with relay:
        program.run(f"http://{address}:{4317 if is_hinted else relay.ingest_port}")
        log, status, doctor = relay.log(), relay.run("status"), relay.run("doctor")

    (refused,) = [line for line in log.splitlines() if '"connection_refused"' in line]
    for told in (refused, status.stdout, doctor.stdout):
        assert "a gRPC exporter connected" in told
        assert "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in told


@pytest.mark.parametrize("signal", ["metrics", "logs"])
def test_other_signal_is_answered_404_with_a_status_that_says_what_to_do(
    signal: str, relay: LocalhostRelay
) -> None:
    host, _, port = relay.listening()[0].rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=10)
    connection.request("POST", f"/v1/{signal}", b"", {"Content-Type": "application/x-protobuf"})
    answer = connection.getresponse()
    status = Status.FromString(answer.read())
    connection.close()

    assert answer.status == 404
    assert answer.getheader("Content-Type") == "application/x-protobuf"
    assert "traces" in status.message
    assert f"OTEL_{signal.upper()}_EXPORTER=none" in status.message


@senders(GO)
def test_relay_on_localhost_takes_spans_on_each_of_its_addresses(
    program: Program, relay: LocalhostRelay, upstream: MockCollector
) -> None:
    """SDKs differ in which address of `localhost` they try first, and some try no second."""
    addresses = relay.listening()
    families = {address.rpartition(":")[0] for address in addresses}
    assert families == ({"127.0.0.1", "[::1]"} if has_ipv6_loopback() else {"127.0.0.1"})

    trace_ids = {program.run(f"http://{address}").stdout.strip() for address in addresses}
    upstream.journal.wait_for_spans(2 * len(addresses), timeout=ARRIVAL_SECONDS)

    assert {span.trace_id for span in upstream.journal.spans()} == trace_ids


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
