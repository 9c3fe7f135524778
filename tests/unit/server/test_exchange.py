"""A head that is remembered is taken without the parser: it must not be told apart by anything."""

import asyncio
import gc
import weakref
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.ingest.endpoint import Ingest
from relay.model.counters import Counters
from relay.model.records import Encoding, Sender, SenderResponse, Signal
from relay.server.connection import Limits, uvicorn_config
from relay.server.exchange import ExchangeConnection
from relay.server.shares import SharedState
from tests.support.edge_server import Acceptor, Settings
from tests.support.examples import examples

pytestmark = pytest.mark.anyio
HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
# What looks like the head that is remembered, but for where a body ends, and what follows it.
TWISTS = [
    HEAD + b"Content-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Length: 02\r\n\r\n{}",
    HEAD + b"Content-Length: 2 \r\n\r\n{}",
    HEAD + b"Content-Length: +2\r\n\r\n{}",
    HEAD + b"Content-Length: -2\r\n\r\n{}",
    HEAD + b"Content-Length: 0x2\r\n\r\n{}",
    HEAD + b"Content-Length: 2,2\r\n\r\n{}",
    HEAD + b"Content-Length: \r\n\r\n",
    HEAD + b"Content-Length:\r\n\r\n",
    HEAD + b"Content-Length: \xb2\r\n\r\n{}",
    HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
    HEAD + b"Content-Length: 2\r\n Content-Length: 40\r\n\r\n{}",
    HEAD + b"X: a\r\n content-length: 40\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"X: \r\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"X: a\nContent-Length: 40\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Length: 2\n\n{}",
    HEAD + b"Content-Length: 2\r\n\n{}\r\n\r\n",
    b"\r\n" + HEAD + b"Content-Length: 2\r\n\r\n{}",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
    HEAD.replace(b"1.1", b"1.0") + b"Content-Length: 2\r\n\r\n{}",
    HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Length: 49\r\n\r\nPOST /v1/traces HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Length: 9\r\n\r\nPOST /v1/traces HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
]


# Repeated, they are taken, too, but for how the parser reads their length.
ODD_BUT_TAKEN = [
    HEAD + b"X: a: content-length: 40\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"X-Content-Length: 40\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"CONTENT-LENGTH:2\r\n\r\n{}",
    HEAD + b"Content-Length:  2\t\r\nX:  b \r\n\r\n{}",
    b"\r\n" + HEAD + b"Content-Length: 2\r\n\r\n{}",
]
TWISTS += ODD_BUT_TAKEN


class Wire(asyncio.Transport):
    """The relay's end of a connection: what it writes, until it closes."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)})
        self.written = b""
        self.end = ""

    def write(self, data: Any) -> None:
        assert not self.end
        self.written += data

    def is_closing(self) -> bool:
        return bool(self.end)

    def close(self) -> None:
        self.end = self.end or "closed"

    def abort(self) -> None:
        self.end = self.end or "aborted"

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Forgetful(ExchangeConnection):
    """Has every head parsed."""

    @property
    def _remembered(self) -> None:
        return None

    @_remembered.setter
    def _remembered(self, _value: object) -> None:
        pass


class Later(Acceptor):
    """Answers in another turn of the loop, as every disk does."""

    async def __call__(
        self, body: bytes, encoding: Encoding, sender: Sender, signal: Signal
    ) -> SenderResponse:
        await asyncio.sleep(0)
        return await super().__call__(body, encoding, sender, signal)


async def turns() -> None:
    """Until everything that was begun is done: the loop has nothing else to do."""
    for _ in range(16):
        await asyncio.sleep(0)


class Connected:
    """One connection, and what it does."""

    def __init__(self, kind: type[ExchangeConnection]) -> None:
        self.acceptor = Later()
        self.ingest = Ingest(Settings(), self.acceptor, Counters(), "id")
        config = uvicorn_config(self.ingest)
        config.load()
        self.connection = kind(
            config,
            SharedState(),
            limits=Limits(),
            on_limit=lambda _: None,
            on_stranger=lambda _, __: None,
            on_lost=lambda: None,
            is_closed_to_new=lambda: False,
        )
        self.wire = Wire()
        self.connection.connection_made(self.wire)

    async def send(self, pieces: list[bytes]) -> tuple[bytes, list[bytes], str]:
        """What it writes, which bodies it keeps, and how it ends."""
        for piece in pieces:
            if not self.wire.end:
                self.connection.data_received(piece)
            await turns()
        self.connection.connection_lost(None)
        await turns()
        assert self.ingest.in_flight_bytes == 0
        return self.wire.written, self.acceptor.bodies, self.wire.end


async def compare(pieces: list[bytes]) -> None:
    remembering, forgetful = Connected(ExchangeConnection), Connected(Forgetful)

    assert await remembering.send(pieces) == await forgetful.send(pieces), pieces


async def test_connection_that_remembers_a_head_does_as_one_that_does_not() -> None:
    """Every one as the head that is remembered, and every one behind it."""
    for first in TWISTS:
        for second in TWISTS:
            await compare([first, second])


@settings(max_examples=examples(400), deadline=None)
@given(
    requests=st.lists(st.sampled_from(TWISTS), min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 400), max_size=3),
)
def test_connection_that_remembers_a_head_takes_pieces_alike(
    requests: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(requests)
    places = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]

    asyncio.run(compare([TWISTS[0], *(data[start:end] for start, end in pairwise(places))]))


async def test_usual_head_is_remembered() -> None:
    connected = Connected(ExchangeConnection)
    await connected.send(TWISTS[:1])

    assert connected.connection._remembered is not None


async def test_repeated_head_waits_until_the_request_before_it_is_answered() -> None:
    connected = Connected(ExchangeConnection)
    acceptor = connected.acceptor
    for _ in range(2):  # the first is remembered, the second repeats it
        connected.connection.data_received(TWISTS[0])
        await turns()
    acceptor.hold()
    for _ in range(2):
        connected.connection.data_received(TWISTS[0])
        await turns()
    begun = len(acceptor.received)
    assert acceptor._gate is not None
    acceptor._gate.set()
    await turns()

    assert (begun, len(acceptor.received)) == (3, 4)


async def test_heads_that_differ_each_time_are_not_all_remembered() -> None:
    connected = Connected(ExchangeConnection)
    seen = set()
    for number in [*range(5), 0, *range(5, 9)]:  # the first one comes again
        other = HEAD + b"traceparent: %d\r\nContent-Length: 2\r\n\r\n{}" % number
        connected.connection.data_received(other)
        await turns()
        assert connected.connection._remembered is not None
        seen.add(connected.connection._remembered.before[-20:-16])

    assert len(connected.acceptor.received) == 10
    assert len(seen) == 2


@pytest.mark.parametrize("sent", TWISTS[:1] + TWISTS[-2:] + [HEAD + b"Connection: close\r\n\r\n"])
async def test_connection_that_has_ended_goes_without_the_garbage_collector(
    sent: bytes,
) -> None:
    connected = Connected(ExchangeConnection)
    await connected.send([sent, sent])
    connection = weakref.ref(connected.connection)
    gc.disable()
    try:
        del connected
        await turns()

        assert connection() is None
    finally:
        gc.enable()
