"""Heads that come again on a connection are not parsed again: nothing may be told apart by that."""

import asyncio
import gzip
import socket
import struct
import threading
from itertools import count

import pytest

from relay.model.errors import BufferFull
from relay.model.records import Signal
from relay.server.connection import Limits
from relay.server.exchange import Exchange, Handler
from tests.support.edge_server import (
    FAST,
    PATIENCE_SECONDS,
    Run,
    Settings,
    post,
    runner,
    running_listener,
)
from tests.support.relay_process import eventually

RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return runner(request.param)


def test_repeated_head_takes_bodies_of_any_length_however_they_come(run: Run) -> None:
    large = bytes(range(256)) * 200
    bodies = [b"{}", b"", b"1", large, b"22", large, b"{}"]
    with run() as edge, edge.connect() as client:
        for body in bodies:
            assert client.ask(post(body)).status == 200
        for size in (1, 7, 100, 150):  # head in pieces, body in pieces, head alone
            request = post(large)
            for at in range(0, 600, size):
                client.send(request[at : min(at + size, 600)])
            client.send(request[600:])
            assert client.read().status == 200
        head, body = post(large)[: -len(large)], large
        assert client.send(head).send(body).read().status == 200

        assert edge.acceptor.bodies == bodies + [large] * 5
        assert edge.ingest.in_flight_bytes == 0


def test_repeated_heads_in_one_piece_are_answered_in_order(run: Run) -> None:
    bodies = [b"%d" % number for number in range(30)]
    with run() as edge, edge.connect() as client:
        client.ask(post())
        client.send(b"".join(post(body) for body in bodies))
        replies = [client.read().status for _ in bodies]

        assert replies == [200] * 30
        assert edge.acceptor.bodies == [b"{}", *bodies]


def test_repeated_heads_that_are_refused_in_one_piece_are_all_answered(run: Run) -> None:
    with run() as edge, edge.connect() as client:
        client.ask(post())
        edge.acceptor.answer = BufferFull("full")
        client.send(post(b"7") * 60)
        replies = [client.read().status for _ in range(60)]

        assert replies == [503] * 60


def test_repeated_head_is_judged_anew_after_a_reload(run: Run) -> None:
    authorization = "Authorization: Bearer old"
    with run(tokens=("old",)) as edge, edge.connect() as client:
        taken = [client.ask(post(b"{}", authorization)).status for _ in range(2)]
        edge.ingest.reload(Settings(), tokens=("new",), signals=Signal)
        refused = [client.ask(post(b"{}", authorization)).status for _ in range(2)]
        edge.ingest.reload(Settings(), tokens=("old",), signals=(Signal.LOGS,))
        not_taken = client.ask(post(b"{}", authorization)).status
        edge.ingest.reload(Settings(max_body_bytes=10), tokens=("old",), signals=Signal)
        small, large = (client.ask(post(bytes(size), authorization)).status for size in (10, 11))
        edge.ingest.reload(Settings(max_body_bytes=1), tokens=("old",), signals=Signal)
        smaller = client.ask(post(b"1", authorization)).status
        edge.ingest.close()
        stopping = client.ask(post(b"{}", authorization))

        assert (taken, refused, not_taken) == ([200, 200], [403, 403], 404)
        assert (small, large, smaller) == (200, 413, 200)
        assert (stopping.status, stopping.headers["connection"]) == (503, "close")


def test_repeated_head_that_announces_too_much_is_refused_before_the_body(run: Run) -> None:
    with run() as edge, edge.connect() as client:
        client.ask(post())
        refused = client.ask(post(b"", length=10_000_000))
        after = client.send(bytes(10_000_000)).ask(post(b"9"))

        assert (refused.status, after.status) == (413, 200)
        assert edge.acceptor.bodies == [b"{}", b"9"]


def test_repeated_head_holds_to_the_limits_of_a_body(run: Run) -> None:
    with run(body_bytes_per_second=1_000_000, body_grace_seconds=0.05) as edge:
        with edge.connect() as client:
            client.ask(post())
            client.send(post(b"0123", length=1000))

            assert client.is_closed()
        assert edge.counters.connections_closed == {"body_bytes_per_second": 1}
        assert edge.acceptor.bodies == [b"{}"]
        eventually(lambda: edge.ingest.in_flight_bytes == 0)


def test_repeated_head_whose_sender_goes_leaves_nothing(run: Run) -> None:
    with run() as edge:
        with edge.connect() as client:
            client.ask(post())
            client.send(post(b"0123", length=1000))
            eventually(lambda: edge.ingest.in_flight_bytes == 4)
        eventually(lambda: edge.ingest.in_flight_bytes == 0)
        with edge.connect() as client:
            client.ask(post())
            edge.acceptor.hold()
            client.send(post(b"kept"))
            for _ in range(3):
                edge.acceptor.wait_entered()
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        eventually(lambda: edge.listening.listener.open_connections == 0)
        assert edge.ingest.in_flight_bytes == 4  # it is on its way to the disk
        edge.acceptor.release(edge.listening.portal)

        eventually(lambda: edge.ingest.in_flight_bytes == 0)
        assert edge.acceptor.bodies == [b"{}", b"{}", b"kept"]


def test_stop_answers_a_repeated_head_and_closes(run: Run) -> None:
    with run(parting_seconds=PATIENCE_SECONDS) as edge:
        with edge.connect() as whole, edge.connect() as halfway:
            whole.ask(post())
            halfway.ask(post())
            halfway.send(post(b"0123", length=8))
            eventually(lambda: edge.ingest.in_flight_bytes == 4)
            stopped = edge.listening.begin_stop(600.0)
            eventually(lambda: not edge.listening.listener._servers[0].is_serving())
            replies = [whole.ask(post()), halfway.send(b"4567").read()]

            assert [reply.status for reply in replies] == [200, 200]
            assert [reply.headers["connection"] for reply in replies] == ["close"] * 2
            assert whole.is_closed()
            assert halfway.is_closed()
            stopped.result(PATIENCE_SECONDS)


def test_repeated_head_of_a_zipped_body_is_unzipped(run: Run) -> None:
    zipped = [gzip.compress(b"[%d]" % number) for number in range(3)]
    with run() as edge, edge.connect() as client:
        for body in zipped:
            assert client.ask(post(body, "Content-Encoding: gzip")).status == 200
        bad = client.ask(post(b"no gzip", "Content-Encoding: gzip")).status

        assert edge.acceptor.bodies == [b"[0]", b"[1]", b"[2]"]
        assert bad == 400


class Broken(Handler):
    """Fails before it has answered."""

    async def answer(self, exchange: Exchange) -> None:
        await exchange.read()
        raise ZeroDivisionError


def test_handler_that_fails_leaves_no_sender_waiting(caplog: pytest.LogCaptureFixture) -> None:
    with running_listener(Broken()) as listening, listening.connect() as client:
        client.send(post())

        assert client.is_closed()
        eventually(lambda: "a handler of requests failed" in caplog.text)


class Stubborn(Handler):
    """Answers nothing until it has been cancelled twice."""

    def __init__(self) -> None:
        self.entered = threading.Event()

    async def answer(self, exchange: Exchange) -> None:
        for _ in range(2):
            try:
                self.entered.set()
                for _ in count():
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                continue
        exchange.respond(503, b"content-length: 0\r\n", b"")


def test_handler_that_gives_others_their_turn_can_be_cancelled() -> None:
    handler = Stubborn()
    with running_listener(handler, limits=Limits(**FAST)) as listening:
        with listening.connect() as client:
            client.send(post())
            assert handler.entered.wait(PATIENCE_SECONDS)
            listening.stop(0.05)

            assert client.is_closed()
