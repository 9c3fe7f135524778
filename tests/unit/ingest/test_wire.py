"""What the daemon and its offload process say to each other, over a socket that gives little."""

import socket
from typing import cast

import pytest

from relay.ingest.offload.wire import Channel, Ready


class Dribbling:
    """A socket whose reads end early, as signals make them."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def recv(self, size: int, _flags: int) -> bytes:
        return self._socket.recv(min(size, 7))


def test_a_message_that_comes_in_parts_is_read_whole_and_the_next_one_after_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5.0)
        sent, read = Channel(ours), Channel(cast("socket.socket", Dribbling(theirs)))
        for body in (b"x" * 1000, b"", b"y" * 20):
            sent.send(Ready(), body)
        for body in (b"x" * 1000, b"", b"y" * 20):
            assert read.receive() == (Ready(), body)


def test_a_message_that_breaks_off_is_the_end() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(b"12")
        with pytest.raises(EOFError, match="the other end is gone"):
            Channel(theirs).receive()
