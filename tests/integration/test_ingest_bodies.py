"""Bodies that come in pieces, too large, too many at once or not whole; and noise."""

import gzip
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.model.records import Signal
from tests.support.edge_server import (
    PATIENCE_SECONDS,
    Edge,
    Settings,
    chunked,
    post,
    running_edge,
)
from tests.support.examples import examples
from tests.support.relay_process import eventually


@pytest.fixture(params=["asyncio", "uvloop"])
def edge(request: pytest.FixtureRequest) -> Iterator[Edge]:
    with running_edge(use_uvloop=request.param == "uvloop") as edge:
        yield edge


@pytest.fixture(scope="module")
def shared_edge() -> Iterator[Edge]:
    with running_edge() as edge:
        yield edge


def test_ingest_takes_chunked_bodies_whole(edge: Edge) -> None:
    assert edge.ask(chunked(b'{"a"', b":", b"1}")).status == 200
    assert edge.acceptor.bodies == [b'{"a":1}']


def test_ingest_takes_a_body_larger_than_a_socket_buffer_in_pieces(edge: Edge) -> None:
    edge.ingest.reload(Settings(max_body_bytes=8_000_000), tokens=(), signals=Signal)
    body = bytes(range(256)) * 30_000

    reply = edge.ask(post(body))

    assert reply.status == 200  # also with less allowed in flight: it is alone
    assert edge.acceptor.bodies == [body]
    assert edge.ingest.in_flight_bytes == 0


def test_ingest_asks_for_the_body_when_the_sender_waits_for_100(edge: Edge) -> None:
    with edge.connect() as client:
        client.send(post(b"", "Expect: 100-continue", length=2))
        interim, _ = client.read_head()
        reply = client.ask(b"{}")

    assert (interim, reply.status) == (100, 200)


def test_ingest_answers_413_instead_of_100_when_too_much_is_announced(edge: Edge) -> None:
    with edge.connect() as client:
        reply = client.ask(post(b"", "Expect: 100-continue", length=10_000_000))

    assert reply.status == 413


@pytest.mark.parametrize("length", [65_537, 10**18, 2**64 - 1])
def test_ingest_answers_413_as_soon_as_too_much_is_announced(edge: Edge, length: int) -> None:
    with edge.connect() as client:
        assert client.ask(post(b"", length=length)).status == 413


def test_ingest_answers_pipelined_requests_in_order(edge: Edge) -> None:
    with edge.connect() as client:
        client.send(b"".join(post(b"%d" % n) for n in range(20)) + post(path="/x") + post())
        replies = [client.read().status for _ in range(22)]

    assert replies == [200] * 20 + [404, 200]
    assert edge.acceptor.bodies == [b"%d" % n for n in range(20)] + [b"{}"]


def test_ingest_answers_a_sender_that_has_shut_down_its_writing_side(edge: Edge) -> None:
    edge.acceptor.hold()
    with edge.connect() as client:
        client.send(post())
        edge.acceptor.wait_entered()
        client.sock.shutdown(1)
        edge.acceptor.release(edge.listening.portal)

        assert client.read().status == 200
        assert client.is_closed()


def test_ingest_keeps_nothing_of_a_body_that_is_cut(edge: Edge) -> None:
    with edge.connect() as client:
        client.send(post(b'{"resource', length=100))
        client.sock.shutdown(1)

        assert client.is_closed()

    assert edge.ask(post()).status == 200
    assert edge.acceptor.bodies == [b"{}"]
    assert edge.counters.requests == {200: 1}
    assert edge.ingest.in_flight_bytes == 0


def test_ingest_finishes_what_it_accepted_when_the_sender_has_gone(edge: Edge) -> None:
    edge.acceptor.hold()
    with edge.connect() as client:
        client.send(post())
        edge.acceptor.wait_entered()
    edge.acceptor.release(edge.listening.portal)
    edge.listening.stop(PATIENCE_SECONDS)

    assert edge.counters.requests == {200: 1}


def test_ingest_serves_on_after_a_413_while_the_sender_still_writes(edge: Edge) -> None:
    """The stock Python client writes all of its body before it reads: it must meet no reset."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.listening.port, PATIENCE_SECONDS)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/traces", bytes(20_000_000), headers)
    refused = connection.getresponse()
    refused.read()
    sock = connection.sock
    connection.request("POST", "/v1/traces", b"{}", headers)
    taken = connection.getresponse()
    taken.read()

    assert (refused.status, taken.status) == (413, 200)
    assert connection.sock is sock  # it did not connect again
    connection.close()


def test_ingest_lets_a_sender_that_wants_to_close_read_its_413(edge: Edge) -> None:
    """Urllib asks for `Connection: close`: closing before its body has come would reset it."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{edge.listening.port}/v1/traces", bytes(20_000_000), method="POST"
    )
    request.add_header("Content-Type", "application/json")

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE_SECONDS)  # noqa: S310 - loopback

    assert refused.value.code == 413
    refused.value.close()


def test_ingest_answers_413_to_an_endless_chunked_body(edge: Edge) -> None:
    with edge.connect() as client:
        client.send(chunked()[:-5])
        for _ in range(9):
            client.send(b"2000\r\n" + bytes(0x2000) + b"\r\n")
        reply = client.read()
        after = client.ask(b"0\r\n\r\n" + post())

    assert (reply.status, after.status) == (413, 200)


def test_ingest_refuses_more_in_flight_than_allowed_and_recovers(edge: Edge) -> None:
    edge.ingest.reload(Settings(max_in_flight_bytes=100_000), tokens=(), signals=Signal)
    edge.acceptor.hold()
    with edge.connect() as first, edge.connect() as second:
        first.send(post(bytes(60_000)))
        edge.acceptor.wait_entered()
        refused = second.ask(post(bytes(60_000)))
        in_flight_bytes = edge.ingest.in_flight_bytes
        edge.acceptor.release(edge.listening.portal)
        taken = first.read()
        again = second.ask(post(bytes(60_000)))

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert in_flight_bytes == 60_000
    assert (taken.status, again.status) == (200, 200)
    assert edge.ingest.in_flight_bytes == 0


def test_ingest_cuts_an_unfinished_body_off_for_whole_ones(edge: Edge) -> None:
    """It holds 90 kB for 100 bytes on the wire, and its sender takes its time."""
    edge.ingest.reload(
        Settings(max_body_bytes=100_000, max_in_flight_bytes=100_000), tokens=(), signals=Signal
    )
    zipped = gzip.compress(bytes(90_000))
    with edge.connect() as slow, edge.connect() as other:
        slow.send(post(zipped[:-8], "Content-Encoding: gzip", length=len(zipped)))
        eventually(lambda: edge.ingest.in_flight_bytes > 80_000)
        small = other.ask(post(bytes(5000)))
        assert edge.ingest.in_flight_bytes > 80_000  # there was room for both
        large = other.ask(post(bytes(60_000)))
        cut_off = slow.read()
        again = slow.ask(zipped[-8:] + post())

    assert (small.status, large.status) == (200, 200)
    assert (cut_off.status, cut_off.headers["retry-after"]) == (503, "1")
    assert b"cut off" in cut_off.body
    assert again.status == 200  # the rest of the body is read and dropped, the connection lives
    assert edge.ingest.in_flight_bytes == 0


def test_ingest_takes_one_request_larger_than_what_may_be_in_flight(edge: Edge) -> None:
    edge.ingest.reload(Settings(max_in_flight_bytes=10), tokens=(), signals=Signal)

    assert edge.ask(post(bytes(60_000))).status == 200


def test_ingest_counts_unzipped_bytes_as_in_flight(edge: Edge) -> None:
    zipped = gzip.compress(bytes(60_000))
    edge.acceptor.hold()
    with edge.connect() as client:
        client.send(post(zipped, "Content-Encoding: gzip"))
        edge.acceptor.wait_entered()
        in_flight_bytes = edge.ingest.in_flight_bytes
        edge.acceptor.release(edge.listening.portal)
        client.read()

    assert in_flight_bytes == 60_000 + len(zipped)
    assert edge.ingest.in_flight_bytes == 0


def test_ingest_takes_requests_that_offer_an_upgrade(edge: Edge) -> None:
    """Java's own client offers HTTP/2 on its first request."""
    headers = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")

    with edge.connect() as client:
        whole = client.ask(post(b'{"a":1}', *headers))
        client.send(post(b"", *headers, length=3)).send(b"tw").send(b"o")
        in_pieces = client.read()
        together = client.send(post(b"3", *headers) + post(b"4", *headers) + post(b"5"))
        more = [together.read().status for _ in range(3)]
        empty = client.ask(post(b"", *headers))
        sliced = chunked(b"6", b"7", headers=headers)

        assert client.ask(sliced).status == 200
    assert (whole.status, in_pieces.status, more, empty.status) == (200, 200, [200] * 3, 200)
    assert edge.acceptor.bodies == [b'{"a":1}', b"two", b"3", b"4", b"5", b"", b"67"]


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),  # TLS to a plain port
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /v1/traces HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/traces\xff HTTP/1.1\r\n\r\n",
    ],
)
def test_ingest_survives_noise(edge: Edge, noise: bytes) -> None:
    with edge.connect() as client:
        try:
            status = client.ask(noise).status
        except (EOFError, ConnectionResetError):
            status = 0

    assert status in (0, 400, 404, 405)
    assert edge.ask(post()).status == 200


HEADER_NAMES = st.sampled_from(
    [
        "Content-Type", "Content-Encoding", "Authorization", "Expect", "Origin", "Connection",
        "X-Test-Connection", "otlp-relay-hops", "User-Agent", "Forwarded", "Upgrade",
        "Transfer-Encoding", "Content-Length", "Access-Control-Request-Method", "Accept-Encoding",
    ]
)  # fmt: skip
HEADER_VALUES = st.one_of(
    st.sampled_from(
        [
            "application/json", "application/x-protobuf", "gzip", "deflate", "zstd", "identity",
            "100-continue", "close", "keep-alive", "Upgrade", "true", "chunked", "0", "7", "Bearer",
        ]
    ),
    st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=40),
)  # fmt: skip


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    method=st.sampled_from(["POST", "PUT", "GET", "OPTIONS", "HEAD", "X"]),
    path=st.one_of(
        st.sampled_from(["/v1/traces", "/v1/traces/", "/", "/v1/logs"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=20),
    ),
    headers=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=6),
    body=st.binary(max_size=200),
)
def test_ingest_never_fails_on_fuzzed_requests_and_takes_the_next(
    shared_edge: Edge, method: str, path: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    with shared_edge.connect() as client:
        client.send(head.encode("latin-1") + body)
        client.sock.shutdown(1)
        try:
            status = client.read(is_head=method == "HEAD").status
        except (EOFError, ConnectionResetError):
            status = 0

    assert status != 500
    assert shared_edge.ask(post()).status == 200
    assert shared_edge.ingest.in_flight_bytes == 0


@settings(max_examples=examples(100), deadline=None)
@given(noise=st.binary(min_size=1, max_size=300))
def test_ingest_takes_the_next_request_after_any_bytes(shared_edge: Edge, noise: bytes) -> None:
    with shared_edge.connect() as client:
        client.send(noise)
        client.sock.shutdown(1)

    assert shared_edge.ask(post()).status == 200
    assert 500 not in shared_edge.counters.requests
