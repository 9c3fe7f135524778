"""Responses that are cut, doubled, early, late or without an end, and requests that nobody may
smuggle a line into.
"""

import asyncio
import contextlib
import gc
import gzip
import json
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs

from relay.config import DestinationConfig
from relay.model.records import Encoding
from relay.upstream.connection import Connection
from relay.upstream.exchange import Body, Upstream
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from tests.support.certificates import make_authority

pytestmark = pytest.mark.anyio

Running = Callable[..., contextlib.AbstractAsyncContextManager[Any]]
Answer = Callable[..., bytes]
Settings = Callable[..., DestinationConfig]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

BODY = Body(encoding=Encoding.JSON, content=b"{}")
LARGE = Body(encoding=Encoding.JSON, content=b" " * 8_000_000)
SHORT_SECONDS = -7.0  # with what a body as large is given more, 0.6 s
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
SAID = json.dumps({"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too old"}}).encode()
JSON = b"Content-Type: application/json\r\n"
PARTIAL = Delivered(200, 3, "too old")
CHUNKED = b"HTTP/1.1 200 OK\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextlib.asynccontextmanager
async def serving(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that does as it likes with each connection: its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        ends = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError)
        with contextlib.suppress(*ends):
            await serve(reader, writer)
        writer.close()
        with contextlib.suppress(*ends):
            await writer.wait_closed()
        writer.transport.abort()  # TLS waits long for a word of goodbye

    # So that what nobody reads is soon too much for the network.
    with socket.socket() as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        small.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(each, sock=small.dup(), ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        while tasks:
            task = tasks.pop()
            task.cancel()
            await asyncio.wait([task], timeout=10)
        await anyio.wait_all_tasks_blocked()


async def send(
    settings: DestinationConfig, times: int = 1, body: Body = BODY, **headers: str
) -> list[Outcome]:
    upstream = Upstream(settings)
    try:
        with anyio.fail_after(20):
            return [await upstream.send(body, headers) for _ in range(times)]
    finally:
        await upstream.aclose()


@pytest.fixture(params=["plain", "TLS"])
def wire(
    request: pytest.FixtureRequest, tmp_path: Path, settings: Settings
) -> tuple[ssl.SSLContext | None, Callable[[int], DestinationConfig]]:
    """How a server speaks, and the settings to reach it."""
    if request.param == "plain":
        return None, lambda port: settings(f"http://127.0.0.1:{port}/")
    authority = make_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    return context, lambda port: settings(f"https://127.0.0.1:{port}/", ca_file=authority.file)


Wire = tuple[ssl.SSLContext | None, Callable[[int], DestinationConfig]]


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(SAID), SAID),
        (CHUNKED, chunk(SAID[:9]) + chunk(SAID[9:]) + b"0\r\nTrailer: of no use\r\n\r\n"),
        (CHUNKED, b"%x \r\n%b\r\n0\r\n\r\n" % (len(SAID), SAID)),
        (b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\n", SAID),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
            + JSON
            + b"Content-Encoding: gzip\r\n\r\n",
            gzip.compress(SAID),
        ),
    ],
    ids=["length", "chunked", "blank behind a size", "1.0 to the end", "zipped to the end"],
)
async def test_response_that_is_cut_anywhere_is_taken_for_what_it_says_until_there(
    settings: Settings, head: bytes, body: bytes
) -> None:
    cuts = iter(range(len(head + body) + 1))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write((head + body)[: next(cuts)])

    async with serving(serve) as port:
        sent = await send(settings(f"http://127.0.0.1:{port}/"), times=len(head + body) + 1)

    before, behind = sent[: len(head)], sent[len(head) :]
    assert all(isinstance(each, Wait) for each in before)
    assert "closed the connection without a response" in str(before[0])
    assert all("in the middle of its response" in str(each) for each in before[1:])
    assert all(isinstance(each, Delivered) for each in behind)
    assert behind[-1] == PARTIAL


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_response_is_the_same_in_whatever_pieces_it_comes(wire: Wire, size: int) -> None:
    context, settings_for = wire
    answer = CHUNKED + chunk(SAID[:9]) + chunk(SAID[9:]) + b"0\r\n\r\n"
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await reader.readuntil(b"{}")
            for at in range(0, len(answer), size):
                writer.write(answer[at : at + size])
                await writer.drain()
                await asyncio.sleep(0)

    async with serving(serve, context) as port:
        assert await send(settings_for(port), times=2) == [PARTIAL, PARTIAL]
    assert connections == 1


@pytest.mark.parametrize(
    "behind",
    [b"junk", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", OK, b"\0"],
)
async def test_what_comes_behind_a_response_is_not_taken_for_that_of_the_next_request(
    raw_server: Running, settings: Settings, behind: bytes
) -> None:
    async with raw_server(OK + behind, OK) as server:
        assert await send(settings(server.url), times=2) == [Delivered(200)] * 2

    assert [each.connection for each in server.requests] == [1, 2]


async def test_what_is_said_unasked_on_an_idle_connection_is_no_response(
    raw_server: Running, settings: Settings
) -> None:
    """Some say 408 before they close a connection that nobody uses."""
    async with raw_server(OK) as server:
        upstream = Upstream(settings(server.url))
        assert await upstream.send(BODY, {}) == Delivered(200)
        server.writers[0].write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await anyio.wait_all_tasks_blocked()
        assert await upstream.send(BODY, {}) == Delivered(200)
        await upstream.aclose()

    assert server.connections == 2


async def test_body_that_is_longer_than_it_was_said_to_be_ends_where_it_was_said_to(
    raw_server: Running, settings: Settings
) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + JSON
    too_long = head + b"Content-Length: 2\r\n\r\n{}{}{}"
    no_body = b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}"
    async with raw_server(too_long, no_body, OK) as server:
        sent = await send(settings(server.url), times=3)

    assert sent == [Delivered(200), Delivered(204), Delivered(200)]
    assert [each.connection for each in server.requests] == [1, 2, 3]


@pytest.mark.parametrize(
    ("connection", "connections"), [(b"", 2), (b"Connection: keep-alive\r\n", 1)]
)
async def test_connection_of_http_1_0_is_used_again_only_where_it_is_offered(
    raw_server: Running, settings: Settings, connection: bytes, connections: int
) -> None:
    answer = b"HTTP/1.0 200 OK\r\n" + connection + b"Content-Length: 2\r\n\r\n{}"
    async with raw_server(answer) as server:
        assert await send(settings(server.url), times=2) == [Delivered(200)] * 2

    assert server.connections == connections


@pytest.mark.parametrize("endless", [b"1;" + b"x" * 2**21, b"0\r\nT: " + b"x" * 2**21])
async def test_framing_without_an_end_is_not_read_on(
    raw_server: Running, settings: Settings, endless: bytes
) -> None:
    async with raw_server(CHUNKED + endless) as server:
        (outcome,) = await send(settings(server.url, timeout_seconds=60))

    assert isinstance(outcome, Blocked)
    assert "a body without an end" in outcome.reason


async def test_who_speaks_no_http_is_told_at_once_however_it_goes_on(
    raw_server: Running, settings: Settings
) -> None:
    async with raw_server(b"220 mail.example ready\r\n") as server:
        (outcome,) = await send(settings(server.url, timeout_seconds=60))

    assert isinstance(outcome, Blocked)
    assert "answered something that is not HTTP/1.1" in outcome.reason


@pytest.mark.parametrize("line", [b"HTTP/1.1 099 What", b"HTTP/1.1 101 Go", b"HTTP/1.1 abc"])
async def test_who_says_what_is_no_response_and_closes_is_not_taken_for_one_who_broke_off(
    wire: Wire, line: bytes
) -> None:
    context, settings_for = wire

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(line + b"\r\n\r\n")

    async with serving(serve, context) as port:
        (outcome,) = await send(settings_for(port))

    assert isinstance(outcome, Blocked)
    assert "answered something that is not HTTP/1.1" in outcome.reason


async def test_success_that_is_said_before_the_body_was_read_counts_when_all_of_it_was_sent(
    wire: Wire,
) -> None:
    context, settings_for = wire
    bodies: list[int] = []
    all_read = asyncio.Event()
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await writer.drain()
            bodies.append(len(await reader.readexactly(len(LARGE.content))))
            if len(bodies) == 2:
                all_read.set()

    async with serving(serve, context) as port:
        upstream = Upstream(settings_for(port))
        assert [await upstream.send(LARGE, {}) for _ in range(2)] == [Delivered(200)] * 2
        with anyio.fail_after(10):
            await all_read.wait()
        await upstream.aclose()
    assert bodies == [len(LARGE.content)] * 2
    assert connections == 1


async def test_success_that_is_said_before_the_body_was_read_does_not_count_when_it_never_is(
    settings: Settings,
) -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(OK)
        await release.wait()

    async with serving(serve) as port:
        slow = settings(f"http://127.0.0.1:{port}/", timeout_seconds=SHORT_SECONDS)
        (outcome,) = await send(slow, body=LARGE)
        release.set()

    assert isinstance(outcome, Wait)
    assert "within 0.6 s" in outcome.reason


async def test_success_of_a_server_that_closes_without_reading_the_body_does_not_count(
    wire: Wire,
) -> None:
    context, settings_for = wire

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()

    async with serving(serve, context) as port:
        (outcome,) = await send(settings_for(port), body=LARGE)

    assert isinstance(outcome, Wait)
    assert outcome.may_be_the_size


async def test_refusal_before_the_body_was_read_is_heard_though_the_server_reads_no_more(
    wire: Wire,
) -> None:
    context, settings_for = wire
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await release.wait()

    async with serving(serve, context) as port:
        with anyio.fail_after(10):
            (outcome,) = await send(settings_for(port), body=LARGE)
        release.set()

    assert isinstance(outcome, Blocked)
    assert outcome.status == 413


async def test_server_that_does_not_read_is_said_not_to_have_taken_the_request(
    wire: Wire,
) -> None:
    context, settings_for = wire
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await release.wait()

    async with serving(serve, context) as port:
        slow = structs.replace(settings_for(port), timeout_seconds=SHORT_SECONDS)
        (outcome,) = await send(slow, body=LARGE)
        release.set()

    assert isinstance(outcome, Wait)
    assert "did not take the whole request within 0.6 s" in outcome.reason


@pytest.mark.parametrize("how", ["lost", "ended"])
async def test_connection_that_was_lost_a_moment_ago_is_not_written_to(
    wire: Wire, how: str
) -> None:
    context, settings_for = wire

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"{}")
            writer.write(OK)

    async with serving(serve, context) as port:
        upstream = Upstream(settings_for(port))
        assert await upstream.send(BODY, {}) == Delivered(200)
        connection = upstream._connection
        assert connection is not None
        # As the event loop does it, before it tells.
        connection._wire.abort() if how == "lost" else connection._wire.close()
        assert await upstream.send(BODY, {}) == Delivered(200)
        await upstream.aclose()


async def test_end_without_a_word_in_tls_ends_a_response_that_has_no_length(
    settings: Settings, tmp_path: Path
) -> None:
    authority = make_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n" + SAID)
        await writer.drain()
        writer.transport.abort()

    async with serving(serve, context) as port:
        there = settings(f"https://127.0.0.1:{port}/", ca_file=authority.file)
        assert await send(there, times=3) == [PARTIAL] * 3


async def test_interim_responses_without_an_end_end_in_tls_too(wire: Wire) -> None:
    context, settings_for = wire

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
            await writer.drain()

    async with serving(serve, context) as port:
        (outcome,) = await send(settings_for(port))

    assert isinstance(outcome, Wait)
    assert "more than 16 interim responses" in outcome.reason


@pytest.mark.parametrize("hops", ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\0"])
async def test_hops_of_others_bring_no_line_of_their_own(
    raw_server: Running, settings: Settings, hops: str
) -> None:
    async with raw_server() as server:
        body = Body(encoding=Encoding.JSON, content=b"{}", hops=hops)
        (outcome,) = await send(settings(server.url), body=body)

    assert isinstance(outcome, Blocked)
    assert "'otlp-relay-hops' has a name or a value that HTTP does not allow" in outcome.reason
    assert not server.requests


@pytest.mark.parametrize(
    "path", ["/v1 HTTP/1.1\r\nX-Evil: 1\r\n", "/a b", "/caf\xe9", "/%0d%0aX-Evil:1"]
)
async def test_path_of_the_endpoint_brings_no_line_of_its_own(
    raw_server: Running, settings: Settings, path: str
) -> None:
    async with raw_server() as server:
        await send(settings(f"http://127.0.0.1:{server.port}{path}"))

    for request in server.requests:
        assert request.line.startswith("POST /")
        assert request.line.count(" ") == 2
        assert request.line.isascii()
        assert "x-evil" not in request.headers


async def test_nothing_of_an_exchange_or_a_connection_waits_for_the_garbage_collector(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, settings_for = wire
    made: list[weakref.ref[Connection]] = []
    gone: list[weakref.ref[Connection]] = []
    all_gone = asyncio.Event()
    init = Connection.__init__

    def forget(one: weakref.ref[Connection]) -> None:
        gone.append(one)
        if len(gone) == 3:
            all_gone.set()

    def noted(self: Connection, *arguments: Any) -> None:
        init(self, *arguments)
        made.append(weakref.ref(self, forget))

    monkeypatch.setattr(Connection, "__init__", noted)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(OK)

    gc.collect()
    gc.disable()
    try:
        async with serving(serve, context) as port:
            assert await send(settings_for(port), times=3) == [Delivered(200)] * 3
            with anyio.fail_after(10):
                await all_gone.wait()
    finally:
        gc.enable()
    assert len(made) == 3
