"""Stock exporters of five languages to the relay to a mock collector: it all arrives as it was.

Each program under `senders/` knows nothing but `OTEL_EXPORTER_OTLP_ENDPOINT`, `_PROTOCOL` and its
service's name. All five have exporters of all three signals. Java's have no JSON; those of Go have
it for spans alone and go on with protobuf for the others. The mock collector decodes with the
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

from mockcollector.items import ReceivedDataPoint, ReceivedItem, ReceivedSpan
from mockcollector.server import MockCollector
from mockcollector.signals import Signal
from tests.e2e.requests import merged, of_any_run, resource_keys
from tests.e2e.sender_builds import ENVIRON, SenderBuildError, command_of
from tests.support.relay_process import Relay, eventually

pytestmark = pytest.mark.e2e

RUN_SECONDS = 60
ARRIVAL_SECONDS = 20
SERVICE = "shop"
SECOND = 1_000_000_000
FRACTION = 123456789  # of the second in which the child span begins
EARLIER_TRACE, EARLIER_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT, ERROR = 2, 3, 2
INFO, CUMULATIVE = 9, 2
SIGNALS = [signal.value for signal in Signal]
# What is the host's own goes to spans and logs alone: a metric that it changes is another series.
ADDED = {
    "/v1/traces": {"host.name", "host.arch", "os.type"},
    "/v1/logs": {"host.name", "host.arch", "os.type"},
    "/v1/metrics": {"host.name", "os.type"},
}
SCOPE = ("shop.checkout", "1.2.3")


@dataclass(frozen=True)
class Sender:
    """What is particular to one program; `json_paths` are those that it sends JSON to."""

    program: str
    language: str
    json_paths: frozenset[str] = frozenset()
    big: int = 2**53 + 1
    environ: tuple[tuple[str, str], ...] = ()

    @property
    def protocol(self) -> str:
        """What `OTEL_EXPORTER_OTLP_PROTOCOL` is for it."""
        return "http/json" if self.json_paths else "http/protobuf"

    def encodings(self) -> dict[str, set[str]]:
        """By path, what is to arrive there."""
        return {path: {"json" if path in self.json_paths else "protobuf"} for path in ADDED}


EVERYWHERE = frozenset(ADDED)
NODE_BIG = 2**53 + 2  # 2**53 + 1 is no number of JavaScript
SENDERS = [
    Sender("python", "python"),
    Sender("python-json", "python", EVERYWHERE),
    Sender("node", "nodejs", big=NODE_BIG),
    Sender("node", "nodejs", EVERYWHERE, big=NODE_BIG),
    Sender("go", "go"),
    Sender("go", "go", frozenset({"/v1/traces"})),
    Sender("java", "java"),
    Sender("rust", "rust"),
    Sender("rust", "rust", EVERYWHERE),
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
PYTHON, GO, JAVA = (next(s for s in SENDERS if s.program == n) for n in ("python", "go", "java"))


def senders(*chosen: Sender) -> pytest.MarkDecorator:
    """Runs a test with each of these, which the fixture `program` then builds and starts."""
    ids = [f"{sender.language}-{sender.protocol.partition('/')[2]}" for sender in chosen]
    return pytest.mark.parametrize("sender", chosen, ids=ids)


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
                "OTEL_EXPORTER_OTLP_PROTOCOL": self.sender.protocol,
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

    def waiting(self) -> dict[str, int]:
        """How many items of each signal are still owed."""
        return {each["signal"]: each["waiting_spans"] for each in self.status()["destinations"]}

    @property
    def url(self) -> str:
        """The endpoint for senders."""
        (port,) = {address.rpartition(":")[2] for address in self.listening()}
        return f"http://localhost:{port}"


@pytest.fixture(scope="module")
def mock() -> Iterator[MockCollector]:
    with MockCollector() as collector:
        yield collector


@pytest.fixture
def upstream(mock: MockCollector) -> MockCollector:
    """The one upstream of all, as if nothing had come to it."""
    mock.journal.clear()
    return mock


@pytest.fixture(scope="module")
def relay_of_all(
    tmp_path_factory: pytest.TempPathFactory, mock: MockCollector, relay_command: tuple[str, ...]
) -> Iterator[LocalhostRelay]:
    folder = tmp_path_factory.mktemp("relay")
    destinations = {"mock": {"endpoint": mock.endpoint, "signals": SIGNALS}}
    with LocalhostRelay(folder, destinations, executable=relay_command) as running:
        yield running


@pytest.fixture
def relay(relay_of_all: LocalhostRelay, upstream: MockCollector) -> LocalhostRelay:
    """The one relay of all, with nothing owed to `upstream`."""
    eventually(lambda: relay_of_all.waiting() == dict.fromkeys(SIGNALS, 0))
    upstream.journal.clear()
    return relay_of_all


@pytest.fixture
def traces_relay(
    tmp_path: Path, upstream: MockCollector, relay_command: tuple[str, ...]
) -> Iterator[LocalhostRelay]:
    """Its destination is as one was before there were other signals."""
    destinations = {"mock": {"endpoint": upstream.endpoint}}
    with LocalhostRelay(tmp_path, destinations, executable=relay_command) as running:
        yield running


@pytest.fixture
def program(sender: Sender) -> Program:
    """The program of the test's `sender`; built here, since a test's own time is short."""
    try:
        return Program(sender, command_of(sender.program))
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
    began = child.start_time_unix_nano
    assert began % SECOND == FRACTION
    assert (event.time_unix_nano, child.end_time_unix_nano) == (
        began + 1_000_001,
        began + 2_000_003,
    )
    for span in (parent, child):
        assert_origin(sender, span)


def assert_origin(sender: Sender, item: ReceivedItem) -> None:
    """Its scope and resource are the program's."""
    assert (item.scope.name, item.scope.version) == SCOPE
    assert item.resource.attributes["service.name"] == SERVICE
    assert item.resource.attributes["telemetry.sdk.language"] == sender.language


def assert_complete_logs(
    sender: Sender, collector: MockCollector, parent: ReceivedSpan, child: ReceivedSpan
) -> None:
    """A line and an event of the parent, each once, at the time of the child."""
    line, event = collector.journal.wait_for_log_records(2, timeout=ARRIVAL_SECONDS)
    assert len(collector.journal.log_records()) == 2
    assert (line.severity_number, line.severity_text, line.event_name) == (INFO, "INFO", "")
    assert line.body == "Grüße, 世界 🚀"
    assert typed(line.attributes) == typed({"big": sender.big})
    assert (event.severity_number, event.event_name) == (0, "order.declined")
    assert typed(event.body) == typed({"reason": "no funds", "total": 75.5})
    for record in (line, event):
        assert record.time_unix_nano == child.start_time_unix_nano
        assert (record.trace_id, record.span_id) == (parent.trace_id, parent.span_id)
        assert record.flags & 1  # the trace was sampled
        assert_origin(sender, record)


def assert_complete_metrics(sender: Sender, collector: MockCollector) -> None:
    """A counter and a histogram, as often as the SDK sends them, the same each time."""

    def found() -> dict[str, list[ReceivedDataPoint]]:
        named: dict[str, list[ReceivedDataPoint]] = {}
        for point in collector.journal.data_points():
            if point.scope.name == SCOPE[0]:  # Java's SDK has some of its own
                named.setdefault(point.name, []).append(point)
        return named if len(named) == 2 else {}

    points = eventually(found, seconds=ARRIVAL_SECONDS, what="both metrics")
    for order in points["orders"]:
        assert (order.kind, order.unit, order.is_monotonic) == ("sum", "1", True)
        assert (order.value, order.metric.description) == (3, "Orders taken")
        assert typed(order.attributes) == typed({"region": "eu", "express": True})
    for value in points["order.value"]:
        assert (value.kind, value.unit, value.count) == ("histogram", "EUR", 2)
        assert (value.sum, value.min, value.max) == (75.5, 5.5, 70.0)
        assert value.explicit_bounds is not None
        assert value.bucket_counts is not None
        for bound in (5.0, 10.0, 50.0, 75.0):
            assert bound in value.explicit_bounds
        counted = dict(zip([*value.explicit_bounds, None], value.bucket_counts, strict=True))
        assert {bound for bound, count in counted.items() if count} == {10.0, 75.0}
    for each in (*points["orders"], *points["order.value"]):
        assert each.temporality == CUMULATIVE
        assert 0 < each.start_time_unix_nano <= each.time_unix_nano
        assert_origin(sender, each)


def typed(attributes: dict[str, Any]) -> dict[str, tuple[type, Any]]:
    """The same with the types beside the values: in Python 1 == 1.0 == True."""
    return {key: (type(value), value) for key, value in attributes.items()}


@senders(*SENDERS)
def test_all_signals_of_a_stock_exporter_arrive_complete_in_its_own_encoding(
    program: Program, relay: LocalhostRelay, upstream: MockCollector
) -> None:
    began = time.time_ns()
    ran = program.run(relay.url, "signals")
    ended = time.time_ns()
    parent, child = trace_of(upstream, ran.stdout)

    assert ran.stderr == ""
    assert_complete(program.sender, parent, child)
    assert began - 2 * SECOND <= child.start_time_unix_nano <= ended
    # A millisecond on either side: JavaScript begins its spans at whole ones.
    assert began - 1_000_000 <= parent.start_time_unix_nano
    assert parent.start_time_unix_nano <= parent.end_time_unix_nano <= ended + 1_000_000
    assert_complete_logs(program.sender, upstream, parent, child)
    assert_complete_metrics(program.sender, upstream)
    encodings: dict[str, set[str]] = {}
    for request in upstream.journal.requests():
        encodings.setdefault(request.path, set()).add(str(request.encoding))
        for item in request.items:
            assert item.resource.attributes.keys() >= ADDED[request.path]
    assert encodings == program.sender.encodings()


@senders(*SENDERS)
def test_relay_adds_its_attributes_and_changes_nothing_else_of_what_an_exporter_sends(
    program: Program, relay: LocalhostRelay, upstream: MockCollector
) -> None:
    with MockCollector() as direct:
        program.run(direct.base_url, "signals")
        sent = {path: merged(direct, path) for path in ADDED}
    program.run(relay.url, "signals")
    eventually(lambda: relay.waiting() == dict.fromkeys(SIGNALS, 0))

    for path, before in sent.items():
        after = merged(upstream, path)
        added = resource_keys(after) - resource_keys(before)
        assert added >= ADDED[path]
        assert {key.partition(".")[0] for key in added} == {"host", "os"}
        assert of_any_run(after, scope=SCOPE[0], without=added) == of_any_run(
            before, scope=SCOPE[0]
        )


@senders(JAVA, PYTHON)
def test_metrics_and_logs_that_no_destination_takes_are_refused_and_the_trace_after_them_arrives(
    program: Program, traces_relay: LocalhostRelay, upstream: MockCollector
) -> None:
    ran = program.run(traces_relay.url, "signals")
    parent, child = trace_of(upstream, ran.stdout)

    assert_complete(program.sender, parent, child)
    assert ran.stderr.count("404") >= 2, ran.stderr
    for signal in ("metrics", "logs"):
        assert f"OTEL_{signal.upper()}_EXPORTER=none" in traces_relay.log(), traces_relay.log()
    assert {request.path for request in upstream.journal.requests()} == {"/v1/traces"}


@senders(JAVA)
def test_java_exporters_print_the_words_of_the_relays_refusal(
    program: Program, traces_relay: LocalhostRelay
) -> None:
    ran = program.run(traces_relay.url)

    for signal in ("metrics", "logs"):
        assert f"no destination of this relay takes {signal}" in ran.stderr, ran.stderr
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
    signal: str, traces_relay: LocalhostRelay
) -> None:
    host, _, port = traces_relay.listening()[0].rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=10)
    connection.request("POST", f"/v1/{signal}", b"", {"Content-Type": "application/x-protobuf"})
    answer = connection.getresponse()
    status = Status.FromString(answer.read())
    connection.close()

    assert answer.status == 404
    assert answer.getheader("Content-Type") == "application/x-protobuf"
    assert f'add "{signal}" to the signals of one' in status.message
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
