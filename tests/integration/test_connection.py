"""The connection test against every kind of wrong: one sentence what it is, one what to do."""
# ruff: noqa: E501 - a table reads best with a row a line

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result

from mockcollector.server import MockCollector
from relay.cli import main
from relay.config import DestinationConfig, ListenAddress
from relay.config.presets import PRESETS
from relay.doctor import connection
from relay.doctor.report import Report
from relay.model.records import Encoding, Signal
from relay.upstream.exchange import Body, Upstream
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from tests.support.certificates import DAY, NOW, make_authority
from tests.support.ports import free_port
from tests.support.relay_process import Relay

CANARY = "canary-7f3a9c"
HTML = b"<html><head><title>Welcome to nginx</title></head><body>hello</body></html>"


@dataclass
class Raw:
    """A server that reads a request and answers with these bytes, or hangs with None."""

    answer: Callable[[bytes], bytes | None]
    context: ssl.SSLContext | None = None
    port: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)

    @contextmanager
    def run(self) -> Iterator["Raw"]:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._sockets.append(listener)
        thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            for sock in self._sockets:
                sock.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            self._sockets.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
                self._sockets.append(connection)
            answer = self.answer(read_request(connection))
            if answer is not None:
                connection.sendall(answer)
                connection.close()
        except OSError:
            connection.close()


def read_request(connection: socket.socket) -> bytes:
    """A request with its body; what there is when the other side stops."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        more = connection.recv(65536)
        if not more:
            return seen
        seen += more
    head, _, body = seen.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
         if line.startswith(b"content-length:")), 0
    )  # fmt: skip
    while len(body) < length:
        more = connection.recv(65536)
        if not more:
            break
        body += more
    return head + b"\r\n\r\n" + body


def http(
    status: str, body: bytes = b"", media_type: str = "application/json", more: str = ""
) -> bytes:
    """An answer in HTTP/1.1."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n{more}\r\n"
    )
    return head.encode() + body


def always(answer: bytes | None) -> Callable[[bytes], bytes | None]:
    return lambda _request: answer


def by_path(path: bytes, there: bytes, elsewhere: bytes) -> Callable[[bytes], bytes | None]:
    return lambda request: there if request.split(b" ")[1:2] == [path] else elsewhere


def only_protobuf(status: str) -> Callable[[bytes], bytes | None]:
    def answer(request: bytes) -> bytes:
        if b"application/x-protobuf" in request.lower():
            return http("200 OK", b"", "application/x-protobuf")
        return http(status, b'{"message":"unsupported"}')

    return answer


def check(endpoint: str, *, preset: str | None = None, **more: Any) -> Report:
    """One connection test, with a canary for a token."""
    keys = {"timeout_seconds": 2.0, **more.pop("keys", {})}
    destination = DestinationConfig(name="up", endpoint=endpoint, preset=preset, **keys)
    headers = more.pop("headers", {"Authorization": f"Bearer {CANARY}"})

    async def run() -> Report:
        return await connection.test_connection(destination, headers=headers, **more)

    return anyio.run(run)


def doctor(folder: Path, endpoint: str) -> Result:
    """The command that a user types, in this process."""
    config = folder / "relay.toml"
    config.write_text('state_dir = "state"\n')
    return CliRunner().invoke(
        main,
        ["doctor", "--config", str(config), "--endpoint", endpoint, "--timeout", "2s",
         "--header", f"Authorization=Bearer {CANARY}"],
    )  # fmt: skip


def assert_failed(report: Report, step: str, *words: str) -> None:
    """It failed at `step`, and both sentences together say `words`; no secret in any of it."""
    said = f"{report.wrong} | {report.remedy}"
    assert not report.passed
    assert report.steps[-1].name == step, (report.steps, said)
    assert report.steps[-1].state == "failed"
    assert report.wrong
    assert report.remedy
    for word in words:
        assert word.lower() in said.lower(), said
    assert CANARY not in repr(report)


OK = http("200 OK", b"{}")
ANSWERS = [
    ("401", always(http("401 Unauthorized", b'{"message":"missing token"}')), "auth", ("401", "missing token")),
    ("401 that prints the token", always(http("401 Unauthorized", b'{"message":"bad ' + CANARY.encode() + b'"}')), "auth", ("401",)),
    ("403", always(http("403 Forbidden", b'{"message":"Forbidden"}')), "auth", ("403",)),
    ("404, and the path is meant", by_path(b"/v1/traces", OK, http("404 Not Found")), "http", ("404", "did you mean", "/v1/traces")),
    ("405", by_path(b"/v1/traces", OK, http("405 Method Not Allowed")), "http", ("405", "/v1/traces")),
    ("413", always(http("413 Content Too Large")), "request", ("413",)),
    ("429", always(http("429 Too Many Requests", more="Retry-After: 7\r\n")), "request", ("429",)),
    ("3xx", always(http("301 Moved Permanently", more="Location: https://elsewhere.example/v1/traces\r\n")), "http", ("301", "elsewhere.example")),
    ("HTML page", always(http("200 OK", HTML, "text/html")), "http", ("web page",)),
    ("200 from something else", always(http("200 OK", b'{"status":"up"}')), "http", ("OTLP",)),
    ("gRPC's port", always(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18), "http", ("gRPC",)),
    ("a proxy's page", always(http("403 Forbidden", b"<html>Access blocked by proxy</html>", "text/html", "Via: 1.1 squid\r\n")), "http", ("proxy",)),
    ("answer that never ends", always(None), "http", ("2 s",)),
    ("500", always(http("500 Internal Server Error", b'{"message":"broken"}')), "http", ("500", "broken")),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "step", "words"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])  # fmt: skip
def test_connection_says_what_an_answer_means(
    tmp_path: Path, answer: Callable[[bytes], bytes | None], step: str, words: tuple[str, ...]
) -> None:
    with Raw(answer).run() as server:
        path = "/otlp" if "/v1/traces" in words else "/v1/traces"
        endpoint = f"http://127.0.0.1:{server.port}{path}"
        report = check(endpoint)
        shown = doctor(tmp_path, endpoint)

    assert_failed(report, step, *words)
    assert shown.exit_code == 1
    assert report.wrong in shown.output
    assert report.remedy in shown.output
    assert CANARY not in shown.output


SAID_BY_BOTH = [
    always(http("401 Unauthorized", b'{"message":"bad token"}')),
    always(http("403 Forbidden", b"no")),
    always(http("402 Payment Required")),
    always(http("429 Too Many Requests")),
    always(http("500 Internal Server Error", b"broken")),
    always(http("502 Bad Gateway")),
    always(http("503 Service Unavailable")),
    always(http("415 Unsupported Media Type")),
    always(http("422 Unprocessable Content")),
    always(http("301 Moved Permanently", more="Location: https://elsewhere.example/v1/traces\r\n")),
    always(http("404 Not Found")),
    always(http("200 OK", HTML, "text/html")),
    always(http("200 OK", b'{"status":"up"}')),
    always(http("200 OK", b'{"error":"no such project"}')),
    always(http("200 OK", b'{"code":16,"message":"bad token"}')),
    always(http("202 Accepted", b"\x08\x07\x12\x02no", "application/x-protobuf")),
    always(http("200 OK", b"", "application/grpc", "grpc-status: 12\r\n")),
    always(http("200 OK", b"x" * 70_000, "text/plain")),
    always(b"SSH-2.0-OpenSSH_9.2\r\n"),
    always(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18),
    always(b"HTTP/1.1 200 OK\r\nContent-"),
    always(b"\x15\x03\x01\x00\x02\x02\x46"),
    always(None),
    None,
]


@pytest.mark.parametrize("answer", SAID_BY_BOTH)
def test_delivery_says_of_a_fault_what_the_test_says(
    answer: Callable[[bytes], bytes | None] | None,
) -> None:
    """But for what it calls the upstream: delivery names the destination."""
    headers = {"Authorization": f"Bearer {CANARY}"}

    async def deliver(endpoint: str) -> Outcome:
        upstream = Upstream(DestinationConfig(name="up", endpoint=endpoint, timeout_seconds=2.0))
        try:
            return await upstream.send(Body(encoding=Encoding.JSON, content=b"{}"), headers)
        finally:
            await upstream.aclose()

    def both(port: int) -> tuple[Report, Outcome]:
        endpoint = f"http://127.0.0.1:{port}/v1/traces"
        return check(endpoint), anyio.run(deliver, endpoint)

    if answer is None:
        report, outcome = both(port := free_port())
    else:
        with Raw(answer).run() as server:
            report, outcome = both(port := server.port)

    assert isinstance(outcome, Wait | Blocked)
    wrong = report.wrong.replace(f"127.0.0.1:{port} answered ", "up answered ", 1)
    if outcome.status:
        assert outcome.reason.startswith(wrong)
    else:
        assert outcome.reason.startswith(f"up: {report.wrong}; {report.remedy}")
    if isinstance(outcome, Blocked):
        assert outcome.reason.endswith(f"; {report.remedy}, then reload")


def test_connection_passes_and_tells_every_step_with_its_time() -> None:
    told: list[str] = []
    with MockCollector(required_headers={"authorization": f"Bearer {CANARY}"}) as upstream:
        report = check(upstream.endpoint, on_step=lambda step: told.append(step.name))

    assert report.passed
    assert told == [step.name for step in report.steps]
    assert {"tcp", "http", "auth", "encoding", "request"} <= set(told)
    assert all(step.seconds >= 0 for step in report.steps)
    assert upstream.journal.counts.spans_accepted == 0  # an empty request made no data set


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", "application/json"),
        (b"\x0a\x00", "application/json"),
        (b'{"partialSuccess":{}}', "text/plain"),
        (b'{"message":"Trace received"}', "application/json"),
        (b'{"status":"ok"}', "application/json"),
        (b"OK", "text/plain"),
    ],
)
def test_connection_and_delivery_pass_what_does_not_say_the_contrary(
    body: bytes, media_type: str
) -> None:
    async def deliver(endpoint: str) -> Outcome:
        upstream = Upstream(DestinationConfig(name="up", endpoint=endpoint, timeout_seconds=2.0))
        try:
            return await upstream.send(Body(encoding=Encoding.JSON, content=b"{}"), {})
        finally:
            await upstream.aclose()

    with Raw(always(http("200 OK", body, media_type))).run() as server:
        endpoint = f"http://127.0.0.1:{server.port}/v1/traces"
        report, outcome = check(endpoint), anyio.run(deliver, endpoint)

    assert report.passed, report
    assert outcome == Delivered(200)
    is_odd = body.startswith((b'{"m', b'{"s', b"OK"))
    assert report.steps[-1].state == ("warning" if is_odd else "ok")
    assert ("in a format of its own" in report.steps[-1].found) is is_odd


def test_connection_says_by_which_variable_it_goes_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Raw(always(OK)).run() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        through = check("http://up.example/v1/traces")
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
        refused = check("http://up.example/v1/traces")
        monkeypatch.setenv("HTTP_PROXY", "http://no-such-proxy.invalid:3128")
        unknown = check("http://up.example/v1/traces")

    said = 'HTTP_PROXY names it; proxy = "none" turns it off'
    assert through.passed
    assert said in through.steps[0].found
    assert_failed(refused, "tcp", "refused", "HTTP_PROXY", 'proxy = "none"')
    assert_failed(unknown, "name", "no-such-proxy.invalid", "HTTP_PROXY", 'proxy = "none"')


def test_connection_passes_and_warns_of_a_head_that_breaks_a_rule_of_http() -> None:
    odd = http("200 OK", b"{}", more=f"X-Cache : {CANARY}\r\n")
    with Raw(always(odd)).run() as server:
        report = check(f"http://127.0.0.1:{server.port}/v1/traces")

    assert report.passed
    (step,) = (step for step in report.steps if step.name == "http")
    assert step.state == "warning"
    assert "breaks the rules of HTTP" in step.found
    assert "X-Cache : ***" in step.found


def test_connection_sends_a_span_only_when_asked_to() -> None:
    with MockCollector() as upstream:
        report = check(upstream.endpoint, send_span=True)
        upstream.journal.wait_for_spans(1)

    assert report.passed


@pytest.mark.parametrize("status", ["415 Unsupported Media Type", "400 Bad Request"])
def test_connection_settles_on_protobuf_where_json_is_refused(status: str) -> None:
    with Raw(only_protobuf(status)).run() as server:
        endpoint = f"http://127.0.0.1:{server.port}/v1/traces"
        auto = check(endpoint)
        as_set = check(endpoint, keys={"encoding": "json"})

    assert (auto.passed, auto.encoding) == (True, "protobuf")
    assert_failed(as_set, "encoding", "JSON", 'encoding = "protobuf"')


def test_connection_says_that_nothing_listens() -> None:
    report = check(f"http://127.0.0.1:{free_port()}/v1/traces")

    assert_failed(report, "tcp", "refused", "nothing listens")


def test_connection_says_that_the_host_is_unknown() -> None:
    report = check("http://no-such-host.invalid/v1/traces")

    assert_failed(report, "name", "no-such-host.invalid")


def test_connection_says_that_a_port_is_filtered() -> None:
    """A listener whose queue is full drops what comes, as a firewall does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(8)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(address)
            report = check(f"http://127.0.0.1:{address[1]}/v1/traces")
        finally:
            for sock in waiting:
                sock.close()

    assert_failed(report, "tcp", "did not answer", "firewall")


@pytest.mark.parametrize("path", ["/v1/traces/v1/traces", "/v1/traces/v1/traces/"])
def test_connection_says_that_the_path_is_doubled(path: str) -> None:
    with Raw(by_path(b"/v1/traces", OK, http("404 Not Found"))).run() as server:
        report = check(f"http://127.0.0.1:{server.port}{path}")

    assert_failed(report, "http", "twice", "/v1/traces")


def test_connection_tells_tls_from_plain_both_ways(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    with MockCollector() as plain:
        to_plain = check(f"https://127.0.0.1:{plain.port}/v1/traces")
    with Raw(always(OK), context).run() as tls:
        to_tls = check(f"http://127.0.0.1:{tls.port}/v1/traces")

    assert_failed(to_plain, "tls", "http://")
    assert_failed(to_tls, to_tls.steps[-1].name, "https://")


@pytest.mark.parametrize(
    ("issued", "trusts", "words"),
    [
        ({}, False, ("ca_file",)),
        ({"ends": NOW - DAY / 2}, True, ("expired",)),
        ({"host": "other.example"}, True, ("another name",)),
    ],
    ids=["unknown authority", "expired", "wrong name"],
)
def test_connection_says_what_is_wrong_with_a_certificate(
    tmp_path: Path, issued: dict[str, Any], trusts: bool, words: tuple[str, ...]
) -> None:
    authority = make_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server", **issued))
    keys = {"ca_file": Path(authority.file)} if trusts else {}
    with Raw(always(OK), context).run() as server:
        report = check(f"https://127.0.0.1:{server.port}/v1/traces", keys=keys)

    assert_failed(report, "tls", *words)


def test_connection_trusts_its_own_authority_and_warns_of_a_near_expiry(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    with Raw(always(OK), context).run() as server:
        report = check(
            f"https://127.0.0.1:{server.port}/v1/traces", keys={"ca_file": Path(authority.file)}
        )

    assert report.passed, report
    tls = next(step for step in report.steps if step.name == "tls")
    assert tls.state == "warning"  # it ends tomorrow


def test_connection_knows_our_own_listener_by_its_address() -> None:
    report = check(
        "http://localhost:4318/v1/traces", own_addresses=[ListenAddress("localhost", 4318)]
    )

    assert_failed(report, report.steps[-1].name, "this relay")


@pytest.mark.parametrize("name", ["axiom", "honeycomb", "langfuse", "phoenix"])
def test_connection_explains_a_wrong_token_by_the_preset(name: str) -> None:
    preset = PRESETS[name]
    headers = {field.name: field.fill("wrong-token-value") for field in preset.headers}
    with MockCollector(profile=name) as upstream:
        report = check(upstream.endpoint, preset=name, headers=headers)

    assert not report.passed
    assert report.steps[-1].name == "auth", report
    assert "wrong-token-value" not in repr(report)


OF_SIGNALS = [
    (Signal.LOGS, "/v1/logs", "log record", b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"no"}}'),
    (Signal.METRICS, "/v1/metrics", "data point", b'{"partialSuccess":{"rejectedDataPoints":"1","errorMessage":"no"}}'),
]  # fmt: skip


@pytest.mark.parametrize(("signal", "path", "item", "_refusal"), OF_SIGNALS)
def test_connection_says_which_path_of_the_signal_was_meant(
    signal: Signal, path: str, item: str, _refusal: bytes
) -> None:
    with Raw(by_path(path.encode(), OK, http("404 Not Found"))).run() as server:
        base = f"http://127.0.0.1:{server.port}"
        for wrong in ("/v1/traces", "", path * 2, "/v1"):
            report = check(base + wrong, keys={"signal": signal})
            assert_failed(report, "http", f"did you mean {base}{path}? There it answers 200")
        passed = check(base + path, keys={"signal": signal})

    assert passed.steps[-1].found == f"the test {item} was accepted: 200"


def test_connection_knows_a_path_that_is_refused_with_400() -> None:
    words = b'unsupported path requested: "/insert/opentelemetry"'
    path = "/insert/opentelemetry/v1/logs"
    no_path = http("400 Bad Request", words, "text/plain")
    with Raw(by_path(path.encode(), OK, no_path)).run() as server:
        base = f"http://127.0.0.1:{server.port}"
        keys = {"signal": Signal.LOGS}
        report = check(f"{base}/insert/opentelemetry", preset="victoria-logs", keys=keys)

    assert_failed(report, "http", "unsupported path", f"did you mean {base}{path}?")


@pytest.mark.parametrize(("signal", "path", "item", "refusal"), OF_SIGNALS)
def test_connection_fails_when_the_item_is_refused_with_200(
    signal: Signal, path: str, item: str, refusal: bytes
) -> None:
    with Raw(always(http("200 OK", refusal))).run() as server:
        report = check(f"http://127.0.0.1:{server.port}{path}", keys={"signal": signal})

    assert_failed(report, "request", f"refused the test {item}", "“no”")


@pytest.mark.parametrize("signal", [Signal.LOGS, Signal.METRICS])
def test_connection_explains_a_missing_header_by_what_the_preset_knows_of_the_signal(
    signal: Signal,
) -> None:
    with MockCollector(profile="axiom") as upstream:
        report = check(
            upstream.endpoint_of(signal.word),
            preset="axiom",
            headers={"Authorization": "Bearer xaat-mock"},
            keys={"signal": signal},
        )

    name = "X-Axiom-Metrics-Dataset" if signal is Signal.METRICS else "X-Axiom-Dataset"
    assert not report.passed
    assert report.wrong.endswith(f"({name} is not set)")


def test_connection_knows_what_a_collector_lacks_that_answers_404_for_one_signal() -> None:
    with Raw(by_path(b"/v1/traces", OK, http("404 Not Found"))).run() as server:
        endpoint = f"http://127.0.0.1:{server.port}/v1/logs"
        report = check(endpoint, preset="otel-collector", keys={"signal": Signal.LOGS})

    assert_failed(report, "http", "no pipeline for logs", "take logs out of signals")


def test_doctor_shows_each_step_and_ends_with_0_or_1(tmp_path: Path) -> None:
    with MockCollector(required_headers={"authorization": f"Bearer {CANARY}"}) as upstream:
        good = {"endpoint": upstream.endpoint, "headers": {"Authorization": f"Bearer {CANARY}"}}
        with Relay(tmp_path, {"good": good}) as relay:
            passed = relay.run("doctor")
            as_json = relay.run("doctor", "--json")
            relay.write_config({"good": good, "bad": {"endpoint": upstream.endpoint}})
            failed = relay.run("doctor")
            one = relay.run("doctor", "good")
            unknown = relay.run("doctor", "godo")

    assert passed.returncode == 0, passed.stdout
    for word in ("config", "state", "daemon", "ingest", "tcp", "auth", "passed"):
        assert word in passed.stdout
    assert json.loads(as_json.stdout)["passed"] is True
    assert failed.returncode == 1
    assert "401" in failed.stdout
    assert one.returncode == 0
    assert unknown.returncode == 1
    assert "good" in unknown.stderr
    assert CANARY not in passed.stdout + as_json.stdout + failed.stdout + one.stdout


def test_admin_api_tests_a_configured_destination_and_no_other(tmp_path: Path) -> None:
    required = {"authorization": f"Bearer {CANARY}"}
    with MockCollector(required_headers=required) as upstream:
        good = {"endpoint": upstream.endpoint, "headers": {"Authorization": "Bearer ${env:TOKEN}"}}
        bad = {"endpoint": upstream.endpoint}
        relay = Relay(tmp_path, {"good": good, "bad": bad}, environ={"TOKEN": CANARY})
        with relay:
            passed = relay.ask("POST", "/api/destinations/good/test")
            failed = relay.ask("POST", "/api/destinations/bad/test")
            unknown = relay.ask("POST", "/api/destinations/other/test")

    assert (passed[0], passed[1]["passed"]) == (200, True)
    assert (failed[0], failed[1]["passed"]) == (200, False)
    assert "401" in failed[1]["wrong"]
    assert unknown[0] == 404
    assert CANARY not in repr((passed, failed)) + relay.log()


def test_connection_says_that_the_dataset_header_is_missing() -> None:
    preset = PRESETS["axiom"]
    token = {"Authorization": preset.headers[0].fill("xaat-mock")}
    with MockCollector(profile="axiom") as upstream:
        report = check(upstream.endpoint, preset="axiom", headers=token)

    assert not report.passed
    assert "dataset" in (report.wrong + report.remedy).lower()


def test_destination_test_is_the_same_test_for_one(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        relay = Relay(tmp_path, {"up": {"endpoint": upstream.endpoint}})
        passed = relay.run("destination test", "up")
        usage = relay.run("doctor", "up", "--endpoint", upstream.endpoint)

    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "passed" in passed.stdout
    assert usage.returncode == 2


def test_doctor_shows_nothing_but_its_report_when_a_response_breaks_off(tmp_path: Path) -> None:
    cut = b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 50\r\nConnection: close\r\n\r\n{}"
    with Raw(lambda _request: cut).run() as server:
        endpoint = f"http://127.0.0.1:{server.port}/v1/traces"
        shown = Relay(tmp_path, {"up": {"endpoint": endpoint}}).run("doctor", "--json")

    assert json.loads(shown.stdout)["destinations"]["up"]["steps"]
    assert not shown.stderr
