"""What an upstream sends without an end costs its own destination, and nobody else."""

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.load import request_of, span_ids
from tests.support.relay_process import Relay, eventually

# Alone, since what is asserted is how soon the relay answers.
pytestmark = pytest.mark.alone

POSTS = 60
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "interim responses": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 4000),
    "fields of a head": (b"HTTP/1.1 200 OK\r\n", b"a:b\r\n" * 20_000),
    "pieces of a body": (CHUNKED, b"1\r\n \r\n" * 20_000),
}


@contextmanager
def flooding(begin: bytes, piece: bytes) -> Iterator[tuple[int, Callable[[], int]]]:
    """A server that answers with `begin` and `piece` for as long as anybody reads: its port, and
    how many requests it had.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(begin)
            while True:
                connection.sendall(piece)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connections.append(listener.accept()[0])
                threading.Thread(target=serve, args=connections[-1:], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], lambda: len(connections)
    finally:
        for each in (listener, *connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def took(relay: Relay) -> float:
    """How long the relay takes for one small request."""
    since = time.monotonic()
    assert relay.post(request_of(span_ids(1)))[0] == 200
    return time.monotonic() - since


@pytest.mark.parametrize("flood", FLOODS)
def test_upstream_that_sends_without_an_end_leaves_others_their_turn(
    tmp_path: Path, flood: str
) -> None:
    folders = tmp_path / "hostile", tmp_path / "quiet"
    for folder in folders:
        folder.mkdir()
    with flooding(*FLOODS[flood]) as (port, asked), Relay(folders[1]) as quiet:
        endpoint = f"http://127.0.0.1:{port}/v1/traces"
        with Relay(folders[0], {f"hostile{n}": {"endpoint": endpoint} for n in range(3)}) as relay:
            took(relay)
            eventually(lambda: asked() >= 3, what="a request to each of them")
            # By turns, so that whatever else the machine has to do costs both the same.
            pairs = [(took(relay), took(quiet)) for _ in range(POSTS)]
            states = {each["state"] for each in relay.status()["destinations"]}

    beside, alone = (statistics.median(times) for times in zip(*pairs, strict=True))
    said = f"median {beside * 1000:.1f} ms beside it, {alone * 1000:.1f} ms without"
    print(said)
    # With the relay reading on for its 30 s, 446 ms.
    assert beside < 3 * alone + 0.02, said
    assert states <= {"waiting", "blocked"}
