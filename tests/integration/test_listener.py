"""The listener's limits and its end, over real sockets and with small limits."""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.model.records import Signal
from relay.server.connection import LimitedProtocol, Limits
from relay.server.listener import tls_context
from tests.support.certificates import DAY, NOW, make_authority
from tests.support.edge_server import (
    FAST,
    PATIENCE_SECONDS,
    Edge,
    Run,
    RunningListener,
    Settings,
    chunked,
    post,
    runner,
    running_edge,
    running_listener,
)

RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return runner(request.param)


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


def assert_closed_for(edge: Edge, limit: str) -> None:
    assert edge.counters.connections_closed == {limit: 1}
    assert edge.counters.requests == {}
    assert edge.acceptor.received == []


def test_listener_keeps_connections_open_between_requests(run: Run) -> None:
    with run() as edge, edge.connect() as client:
        replies = [client.ask(post()) for _ in range(3)]

    assert [reply.status for reply in replies] == [200] * 3
    assert all("date" in reply.headers for reply in replies)
    assert all("server" not in reply.headers for reply in replies)


def test_listener_closes_when_headers_come_too_slowly(run: Run) -> None:
    with run(header_seconds=0.05) as edge, edge.connect() as client:
        client.send(b"POST /v1/traces HTTP/1.1\r\nHost: ")

        assert client.is_closed()
        assert_closed_for(edge, "header_seconds")


def test_listener_closes_when_a_body_takes_too_long(run: Run) -> None:
    with run(body_seconds=0.05) as edge, edge.connect() as client:
        client.send(post(b'{"a":', length=10))

        assert client.is_closed()
        assert_closed_for(edge, "body_seconds")


def test_listener_closes_when_a_body_comes_too_slowly(run: Run) -> None:
    with run(body_grace_seconds=0.05, body_bytes_per_second=1000) as edge, edge.connect() as client:
        client.send(post(b'{"a":', length=10))

        assert client.is_closed()
        assert_closed_for(edge, "body_bytes_per_second")


def test_listener_lets_a_body_pass_that_is_fast_enough(run: Run) -> None:
    with run(body_grace_seconds=0.0, body_bytes_per_second=1) as edge, edge.connect() as client:
        client.send(post(bytes(1000), length=1001))
        wait_for_sweeps(edge)

        assert client.ask(b"x").status == 200


def test_listener_does_not_count_the_time_that_the_app_takes(run: Run) -> None:
    limits = {"body_seconds": 0.03, "idle_seconds": 0.03, "header_seconds": 0.03}
    with run(**limits) as edge, edge.connect() as client:
        edge.acceptor.hold()
        client.send(post())
        edge.acceptor.wait_entered()
        wait_for_sweeps(edge, 10)
        edge.acceptor.release(edge.listening.portal)

        assert client.read().status == 200


def test_listener_does_not_count_the_time_in_which_it_does_not_read(run: Run) -> None:
    with run(body_seconds=0.3) as edge, edge.connect() as client:
        edge.acceptor.hold()
        edge.ingest.reload(Settings(max_body_bytes=200_000), tokens=(), signals=Signal)
        large = post(bytes(200_000))  # not read to its end while the first awaits its answer
        client.send(post() + large[:-1])
        edge.acceptor.wait_entered()
        held_until = time.monotonic() + 0.4
        wait_until(lambda: time.monotonic() > held_until)
        edge.acceptor.release(edge.listening.portal)
        first = client.read()
        wait_for_sweeps(edge)

        assert (first.status, client.ask(large[-1:]).status) == (200, 200)


def test_listener_counts_idle_time_from_the_answer(run: Run) -> None:
    with run(idle_seconds=0.3) as edge, edge.connect() as client:
        edge.acceptor.hold()
        client.send(post())
        edge.acceptor.wait_entered()
        held_until = time.monotonic() + 0.4
        wait_until(lambda: time.monotonic() > held_until)
        edge.acceptor.release(edge.listening.portal)
        assert client.read().status == 200
        wait_for_sweeps(edge)

        assert client.ask(post()).status == 200


def test_listener_takes_headers_that_begin_behind_a_large_body(run: Run) -> None:
    with run(header_bytes=200) as edge, edge.connect() as client:
        following = post(b"{}")
        client.send(post(bytes(5000)) + following[:30])
        first = client.read()

        assert (first.status, client.ask(following[30:]).status) == (200, 200)


def test_listener_reads_on_after_an_early_answer_to_a_large_piece(run: Run) -> None:
    with run() as edge, edge.connect() as client:
        client.send(post(bytes(3_000_000)))

        assert (client.read().status, client.ask(post()).status) == (413, 200)


def test_listener_closes_after_the_body_when_the_sender_wants_it(run: Run) -> None:
    with run(drain_seconds=600.0) as edge, edge.connect() as client:
        assert client.ask(post(b"", "Connection: close", length=90_000)).status == 413
        client.send(bytes(90_000))

        assert client.is_closed()
        assert edge.counters.connections_closed == {}


def test_listener_closes_idle_connections_and_those_that_never_asked(run: Run) -> None:
    with run(idle_seconds=0.05) as edge, edge.connect() as used, edge.connect() as unused:
        assert used.ask(post()).status == 200
        assert used.is_closed()
        assert unused.is_closed()
        assert edge.counters.connections_closed == {"idle_seconds": 2}


@pytest.mark.parametrize(
    "headers",
    [b"X-Large: " + b"x" * 300_000, b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(30_000))],
    ids=["one", "many"],
)
def test_listener_closes_at_large_headers_without_keeping_them(run: Run, headers: bytes) -> None:
    with run() as edge, edge.connect() as client:
        try:
            client.send(b"POST /v1/traces HTTP/1.1\r\n" + headers)
            is_closed = client.is_closed()
        except (BrokenPipeError, ConnectionResetError):
            is_closed = True

        assert is_closed
        assert_closed_for(edge, "header_bytes")


def test_listener_closes_at_large_headers_that_come_at_once(run: Run) -> None:
    """A piece of socket buffer can hold them whole: they must not pass for it."""
    with run(header_bytes=1000) as edge, edge.connect() as client:
        client.send(post(b"{}", *[f"X-{n}: {n}" for n in range(300)]))

        assert client.is_closed()
        assert_closed_for(edge, "header_bytes")


def test_listener_takes_small_headers_beside_a_large_body(run: Run) -> None:
    with run(header_bytes=200) as edge, edge.connect() as client:
        client.send(post(bytes(5000)) + post(bytes(5000)))

        assert (client.read().status, client.read().status) == (200, 200)


def test_listener_closes_at_endless_trailers(run: Run) -> None:
    with run() as edge, edge.connect() as client:
        try:
            client.send(chunked(b"{}")[:-2])
            for _ in range(40):
                client.send(b"X-Trailer: 1\r\n" * 2000)
            is_closed = client.is_closed()
        except (BrokenPipeError, ConnectionResetError):
            is_closed = True

        assert is_closed
        assert_closed_for(edge, "framing_bytes")


def test_listener_drops_trailers(run: Run) -> None:
    with run() as edge, edge.connect() as client:
        reply = client.ask(chunked(b"{}")[:-2] + b"Content-Type: text/plain\r\n\r\n")

        assert reply.status == 200


def test_listener_closes_connections_above_the_limit(run: Run) -> None:
    with run(connections=2) as edge, edge.connect() as first, edge.connect() as second:
        assert (first.ask(post()).status, second.ask(post()).status) == (200, 200)
        with edge.connect() as third:
            assert third.is_closed()

        assert first.ask(post()).status == 200
        assert edge.counters.connections_closed == {"connections": 1}


def test_listener_takes_an_idle_connection_of_who_has_most_for_another_peer(
    tmp_path: Path,
) -> None:
    """All but one of this host's are busy or came later; on the Unix socket is somebody else."""
    path = str(tmp_path / "socket")
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(path)
    unix.listen()
    limits = Limits(connections=4)
    with running_listener(hello, limits=limits, more_sockets=[unix]) as listening:
        clients = [listening.connect() for _ in range(4)]
        clients[0].send(post(b"", length=10))  # its answer comes, but not the rest of its body
        for client in clients[1:]:
            client.ask(post())
        with socket.socket(socket.AF_UNIX) as other, contextlib.ExitStack() as stack:
            for client in clients:
                stack.enter_context(client)
            other.connect(path)
            other.sendall(post())
            answer = other.recv(1000)
            assert clients[1].is_closed()
            with listening.connect() as fifth:
                assert fifth.is_closed()
            assert clients[2].ask(post()).status == 200

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert listening.counters.connections_closed == {"connections": 2}


def test_listener_closes_when_too_many_requests_are_queued(run: Run) -> None:
    with run(pipelined_requests=3) as edge, edge.connect() as client:
        edge.acceptor.hold()
        client.send(post() * 10)

        assert client.is_closed()
        assert edge.counters.connections_closed == {"pipelined_requests": 1}
        edge.acceptor.release(edge.listening.portal)


def test_listener_loses_pipelined_requests_quietly(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with run() as edge:
        edge.acceptor.hold()
        with edge.connect() as client:
            client.send(post() * 3)
            edge.acceptor.wait_entered()
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        wait_until(lambda: edge.listening.listener.open_connections == 0)
        edge.acceptor.release(edge.listening.portal)
        edge.listening.stop(PATIENCE_SECONDS)

    assert caplog.records == []


def test_listener_drops_only_so_much_of_a_refused_body(run: Run) -> None:
    with run(drain_bytes=100_000) as edge, edge.connect() as client:
        assert client.ask(post(b"", length=50_000_000)).status == 413
        try:
            for _ in range(100):
                client.send(bytes(65536))
            is_closed = client.is_closed()
        except (BrokenPipeError, ConnectionResetError):
            is_closed = True

        assert is_closed
        assert edge.counters.connections_closed == {"drain_bytes": 1}


def test_listener_waits_only_so_long_for_the_rest_of_a_refused_body(run: Run) -> None:
    with run(drain_seconds=0.05) as edge, edge.connect() as client:
        assert client.ask(post(b"", length=50_000_000)).status == 413

        assert client.is_closed()
        assert edge.counters.connections_closed == {"drain_seconds": 1}


def test_listener_answers_400_to_what_is_no_http(run: Run) -> None:
    with run() as edge, edge.connect() as client:
        assert client.ask(b"what is this\r\n\r\n").status == 400
        assert client.is_closed()
        assert edge.counters.connections_closed == {"malformed": 1}


def test_listener_closes_when_nobody_reads_the_answers() -> None:
    async def flood(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
            await asyncio.sleep(0)
            if not listening.listener.open_connections:
                return

    limits = Limits(write_seconds=0.05, **FAST)
    with running_listener(flood, limits=limits) as listening, listening.connect() as client:
        client.send(post())
        wait_until(lambda: listening.counters.connections_closed["write_seconds"] == 1)


def test_stop_answers_what_is_in_flight_and_closes_the_rest(run: Run) -> None:
    with run() as edge, edge.connect() as idle, edge.connect() as busy:
        idle.ask(post())
        edge.acceptor.hold()
        edge.acceptor.wait_entered()
        busy.send(post())
        edge.acceptor.wait_entered()
        stopped = edge.listening.begin_stop(PATIENCE_SECONDS)
        assert idle.is_closed()
        assert not stopped.done()
        with pytest.raises(ConnectionRefusedError):
            edge.connect()
        edge.acceptor.release(edge.listening.portal)

        assert busy.read().status == 200
        stopped.result(PATIENCE_SECONDS)
        assert busy.is_closed()
        edge.listening.served.result(PATIENCE_SECONDS)


def test_stop_answers_requests_that_are_on_their_way(run: Run) -> None:
    """Closing a connection just then would be a reset for its sender."""
    with run(parting_seconds=PATIENCE_SECONDS) as edge:
        with edge.connect() as fresh, edge.connect() as idle, edge.connect() as halfway:
            idle.ask(post())
            halfway.send(post()[:20])
            wait_until(lambda: edge.listening.listener.open_connections == 3)
            stopped = edge.listening.begin_stop(600.0)
            servers = edge.listening.listener._servers
            wait_until(lambda: not any(server.is_serving() for server in servers))
            replies = [fresh.ask(post()), idle.ask(post()), halfway.send(post()[20:]).read()]

            assert [reply.status for reply in replies] == [200] * 3
            assert [reply.headers["connection"] for reply in replies] == ["close"] * 3
            assert fresh.is_closed()
            stopped.result(PATIENCE_SECONDS)


@pytest.mark.parametrize("turns", [0, 1])  # of the loop, between the stop and the connection
def test_stop_answers_a_connection_that_the_kernel_took_just_before(turns: int) -> None:
    """Only uvloop takes it then: asyncio leaves it to the kernel."""
    connected = threading.Event()

    with running_edge(use_uvloop=True, limits=Limits(**FAST)) as edge:

        async def stop_with_a_connection_in_the_queue() -> None:
            task = asyncio.get_running_loop().create_task(edge.listening.listener.stop(600.0))
            for _ in range(turns):
                await asyncio.sleep(0)
            stopping.append(task)
            connected.wait(PATIENCE_SECONDS)  # the loop is held: nobody accepts meanwhile

        stopping: list[asyncio.Task[None]] = []
        held = edge.listening.portal.start_task_soon(stop_with_a_connection_in_the_queue)
        wait_until(lambda: bool(stopping))
        with edge.connect() as client:
            client.send(post())
            connected.set()
            held.result(PATIENCE_SECONDS)

            assert client.read().status == 200
        edge.listening.served.result(PATIENCE_SECONDS)


@pytest.mark.parametrize("deadline_seconds", [0.0, 0.2])
def test_stop_has_a_hanging_request_answered_503(run: Run, deadline_seconds: float) -> None:
    """A text 500, as uvicorn gives it, would be final for the sender."""
    with run() as edge, edge.connect() as client:
        edge.acceptor.hold()
        client.send(post())
        edge.acceptor.wait_entered()
        edge.listening.stop(deadline_seconds)
        reply = client.read()

        assert reply.status == 503
        assert json.loads(reply.body)["code"] == 14
        assert reply.headers["retry-after"] == "1"
        assert reply.headers["content-type"] == "application/json"
        assert client.is_closed()
    assert edge.counters.requests == {503: 1}
    assert edge.ingest.in_flight_bytes == 0


def test_stop_does_not_wait_for_a_body_that_never_comes(run: Run) -> None:
    with run() as edge, edge.connect() as client:
        client.send(post(b"", "Expect: 100-continue", length=10))
        assert client.read_head()[0] == 100
        edge.listening.stop(0.1)

        assert client.read().status == 503


def test_stop_holds_senders_to_the_limits_meanwhile(run: Run) -> None:
    with run(body_seconds=0.05) as edge, edge.connect() as client:
        client.send(post(b"", "Expect: 100-continue", length=10))
        assert client.read_head()[0] == 100
        edge.listening.begin_stop(600.0).result(PATIENCE_SECONDS)

        assert edge.counters.connections_closed == {"body_seconds": 1}


def test_stop_waits_for_an_accepted_request_whose_sender_has_gone(run: Run) -> None:
    with run(sweep_seconds=600.0) as edge:
        edge.acceptor.hold()
        with edge.connect() as client:
            client.send(post())
            edge.acceptor.wait_entered()
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        wait_until(lambda: edge.listening.listener.open_connections == 0)
        stopped = edge.listening.begin_stop(600.0)
        edge.acceptor.release(edge.listening.portal)

        stopped.result(PATIENCE_SECONDS)
        assert edge.counters.requests == {200: 1}


def test_stop_goes_on_at_once_when_asked_a_second_time(run: Run) -> None:
    with run() as edge, edge.connect() as client:
        edge.acceptor.hold()
        client.send(post())
        edge.acceptor.wait_entered()
        first = edge.listening.begin_stop(600.0)
        edge.listening.stop(0.0)
        first.result(PATIENCE_SECONDS)

        assert client.read().status == 503


def test_stop_cuts_off_an_app_that_answers_nothing(run: Run) -> None:
    entered = threading.Event()

    async def mute(_scope: Any, receive: Any, _send: Any) -> None:
        entered.set()
        message = {"type": ""}
        while message["type"] != "http.disconnect":
            with contextlib.suppress(asyncio.CancelledError):
                message = await receive()

    with running_listener(mute) as listening, listening.connect() as client:
        client.send(post(b"{}", length=3))
        assert entered.wait(PATIENCE_SECONDS)
        listening.stop(0.0)
        listening.served.result(PATIENCE_SECONDS)

        assert listening.listener.open_connections == 0


def test_serve_raises_when_its_socket_is_lost() -> None:
    with running_listener(hello, limits=Limits(**FAST)) as listening:
        listening.portal.call(listening.listener._servers[0].close)

        with pytest.raises(RuntimeError, match="ingest listener has lost a socket"):
            listening.served.result(PATIENCE_SECONDS)


def test_serve_closes_everything_when_cancelled() -> None:
    with running_listener(hello) as listening, listening.connect() as client:
        assert client.ask(post()).body == b"hello"
        listening.served.cancel()

        assert client.is_closed()


def test_listener_sweeps_only_once_a_second_by_default() -> None:
    assert Limits().sweep_seconds == 1.0


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return write_certificate(tmp_path / "first")


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, folder.name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, private


@pytest.mark.parametrize("use_uvloop", [False, True])
def test_listener_speaks_tls_and_takes_a_new_certificate_without_a_stop(
    certificate: tuple[Path, Path], tmp_path: Path, use_uvloop: bool
) -> None:
    context = tls_context(*certificate)
    renewed = write_certificate(tmp_path / "second")
    with running_listener(hello, tls=context, use_uvloop=use_uvloop) as listening:
        first = ask_over_tls(listening, certificate[0])
        context.load_cert_chain(*renewed)
        second = ask_over_tls(listening, renewed[0])

    assert (first, second) == (b"hello", b"hello")


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.mark.parametrize("use_uvloop", [False, True])
@pytest.mark.parametrize(
    ("has_tls", "first", "kind"),
    [
        (False, PREFACE, "grpc"),
        (False, HELLO, "tls"),
        (False, b"\0\1\2", "malformed"),
        (True, PREFACE, "grpc"),
        (True, post(), "plain_http"),
        (True, b"\0\1\2", "malformed"),
    ],
)
def test_listener_tells_what_comes_that_is_not_its_protocol(
    certificate: tuple[Path, Path], has_tls: bool, first: bytes, kind: str, use_uvloop: bool
) -> None:
    tls = tls_context(*certificate) if has_tls else None
    with running_edge(tls=tls, use_uvloop=use_uvloop) as edge:
        with edge.connect() as client:
            client.send(first)
            while not client.is_closed():  # behind words of HTTP that it may understand
                pass
        (refused,) = edge.ingest.refusals.last_hour()

    assert (refused["reason"], refused["sender"], refused["times"]) == (kind, "127.0.0.1", 1)
    assert refused["message"]


@pytest.mark.parametrize("use_uvloop", [False, True])
def test_listener_tells_of_senders_that_do_not_trust_its_certificate(
    certificate: tuple[Path, Path], tmp_path: Path, use_uvloop: bool
) -> None:
    other, _ = write_certificate(tmp_path / "other")
    with running_edge(tls=tls_context(*certificate), use_uvloop=use_uvloop) as edge:
        with pytest.raises(ssl.SSLError):
            ask_over_tls(edge.listening, other)
        wait_until(lambda: bool(edge.ingest.refusals.last_hour()))
        (refused,) = edge.ingest.refusals.last_hour()
        kept = ask_over_tls(edge.listening, certificate[0])

    assert (refused["reason"], kept) == ("distrust", b"{}")


@pytest.mark.parametrize("use_uvloop", [False, True])
@pytest.mark.parametrize(
    ("host", "ends", "reason", "advice"),
    [
        ("localhost", NOW - DAY / 2, "expired", "renew"),
        ("elsewhere.example", NOW + DAY, "distrust", "for the name in its endpoint"),
    ],
)
def test_listener_tells_why_its_certificate_is_not_taken(
    tmp_path: Path, host: str, ends: datetime, reason: str, advice: str, use_uvloop: bool
) -> None:
    authority = make_authority(tmp_path)
    pem, key = authority.issue("relay", host=host, ends=ends)
    tls = tls_context(Path(pem), Path(key))
    with running_edge(tls=tls, use_uvloop=use_uvloop) as edge:
        with pytest.raises(ssl.SSLError):
            ask_over_tls(edge.listening, Path(authority.file))
        wait_until(lambda: bool(edge.ingest.refusals.last_hour()))
        (refused,) = edge.ingest.refusals.last_hour()

    assert refused["reason"] == reason
    assert advice in refused["message"]


@pytest.mark.parametrize("has_tls", [False, True])
@pytest.mark.parametrize(("offer", "is_grpc"), [(["h2"], True), (["h2", "http/1.1"], False)])
def test_listener_knows_grpc_over_tls_by_what_it_offers(
    certificate: tuple[Path, Path], has_tls: bool, offer: list[str], is_grpc: bool
) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    context.set_alpn_protocols(offer)
    tls = tls_context(*certificate) if has_tls else None
    with running_edge(tls=tls, use_uvloop=True) as edge:
        with (
            contextlib.nullcontext() if has_tls else pytest.raises(ssl.SSLError),
            edge.listening.connect(context),
        ):
            pass
        wait_until(lambda: edge.listening.listener.open_connections == 0)
        reasons = [each["reason"] for each in edge.ingest.refusals.last_hour()]

    assert reasons == (["grpc"] if is_grpc else [] if has_tls else ["tls"])


@pytest.mark.parametrize("use_uvloop", [False, True])
def test_listener_loses_nothing_of_many_that_begin_tls_at_once(
    certificate: tuple[Path, Path], use_uvloop: bool
) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with running_edge(tls=tls_context(*certificate), use_uvloop=use_uvloop) as edge:

        def ask(number: int) -> int:
            with edge.listening.connect(context) as client:
                return client.ask(post(b"x" * number * 500)).status

        with ThreadPoolExecutor(16) as pool:
            statuses = set(pool.map(ask, range(100)))

    assert statuses == {200}
    assert sorted(map(len, edge.acceptor.bodies)) == [number * 500 for number in range(100)]


@pytest.mark.parametrize("use_uvloop", [False, True])
@pytest.mark.parametrize("said", [b"", HELLO], ids=["silent", "half a handshake"])
def test_listener_bounds_connections_that_never_agree_on_tls_and_takes_who_does(
    certificate: tuple[Path, Path], said: bytes, use_uvloop: bool
) -> None:
    """They are no connections of HTTP yet, and so many files would leave none for the buffer."""
    limits, tls = Limits(connections=4), tls_context(*certificate)
    with (
        capture_logs() as events,
        running_edge(tls=tls, limits=limits, use_uvloop=use_uvloop) as edge,
        contextlib.ExitStack() as opened,
    ):
        idle = [opened.enter_context(edge.connect()).send(said) for _ in range(12)]
        for each in idle[:8]:  # the oldest give way
            assert each.is_closed()
        kept = ask_over_tls(edge.listening, certificate[0])
        (refused,) = edge.ingest.refusals.last_hour()

    assert kept == b"{}"
    assert (refused["reason"], refused["sender"], refused["times"]) == (
        "connections",
        "127.0.0.1",
        9,
    )
    (event,) = [each for each in events if each["event"] == "connections_full"]
    assert (event["busiest"], event["theirs"]) == ("127.0.0.1", 4)


def test_listener_stops_at_once_while_a_sender_begins_tls(
    certificate: tuple[Path, Path],
) -> None:
    with running_edge(tls=tls_context(*certificate), use_uvloop=True) as edge:
        with edge.connect() as silent, edge.connect() as half:
            half.send(HELLO)
            began = time.monotonic()
            edge.listening.stop(5.0)
            assert time.monotonic() - began < 5.0
            assert half.is_closed()
            silent.sock.close()


def test_listener_logs_once_a_minute_that_all_connections_are_taken(run: Run) -> None:
    with capture_logs() as events, run(connections=1) as edge, edge.connect() as first:
        assert first.ask(post()).status == 200
        for _ in range(3):
            with edge.connect() as more:
                assert more.is_closed()
        (refused,) = edge.ingest.refusals.last_hour()

    (event,) = [each for each in events if each["log_level"] == "warning"]
    assert (event["event"], event["busiest"]) == ("connections_full", "127.0.0.1")
    assert (refused["reason"], refused["times"]) == ("connections", 3)


def ask_over_tls(listening: RunningListener, trusted: Path) -> bytes:
    client_context = ssl.create_default_context(cafile=str(trusted))
    with listening.connect(client_context) as client:
        return client.ask(post()).body


def wait_until(is_true: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.01)):
        if is_true():
            return
        done.wait(0.01)
    raise AssertionError("did not happen in time")


def wait_for_sweeps(edge: Edge, times: int = 3) -> None:
    """Return after the listener has looked at its connections that often."""
    swept = threading.Semaphore(0)
    enforce = LimitedProtocol.enforce

    def counted(self: LimitedProtocol, now: float, elapsed_seconds: float) -> None:
        enforce(self, now, elapsed_seconds)
        swept.release()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LimitedProtocol, "enforce", counted)
        for _ in range(times):
            assert swept.acquire(timeout=PATIENCE_SECONDS)
