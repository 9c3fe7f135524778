"""Heads of responses that break the rules of HTTP, and heads that never end."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.config import DestinationConfig
from relay.model.records import Encoding
from relay.upstream.exchange import Body, Upstream
from relay.upstream.outcomes import Blocked, Delivered, Outcome, Wait
from relay.upstream.response_head import MAX_BYTES, MAX_INTERIM, HeadReader, is_plain

Running = Callable[..., contextlib.AbstractAsyncContextManager[Any]]
Settings = Callable[..., DestinationConfig]

BODY = Body(encoding=Encoding.JSON, content=b"{}")
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
FINAL = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


async def send_twice(settings: DestinationConfig) -> list[Outcome]:
    upstream = Upstream(settings)
    try:
        return [await upstream.send(BODY, {}) for _ in range(2)]
    finally:
        await upstream.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("head", "line"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Cache : HIT\r\nContent-Length: 2\r\n", "X-Cache : HIT"),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n", "Content-Length : 2"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX Cache: HIT\r\n", "X Cache: HIT"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-C\xe4che: HIT\r\n", "X-Cäche: HIT"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon at all\r\n", "no colon at all"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n: no name\r\n", ": no name"),
        (b"HTTP/1.1 200 OK\r\n folded\r\nContent-Length: 2\r\n", "folded"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\x0bb\x00c\r\n", "X: a bc"),
        (b"HTTP/1.1 200 O\x0bK\r\nContent-Length: 2\r\n", "HTTP/1.1 200 O K"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n", "2, 9"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\nConnection: close\r\n", "two"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\nConnection: close\r\n", "-1"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nConnection: close\r\n", "identity"),
    ],
)
async def test_upstream_takes_a_response_whose_head_breaks_a_rule_and_says_it_once(
    raw_server: Running, settings: Settings, head: bytes, line: str
) -> None:
    with capture_logs() as logs:
        answer = head + b"\r\n{}"
        async with raw_server(answer) as server:
            assert await send_twice(settings(server.url)) == [Delivered(200), Delivered(200)]

    warned = [entry for entry in logs if entry["event"] == "answer_mended"]
    assert [entry["log_level"] for entry in warned] == ["warning"]
    assert warned[0]["line"] == line


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        b"\r\n\r\n" + FINAL,
        b"HTTP/1.1  200   OK\r\ncontent-length: 2\r\n\r\n{}",
        b"http/1.1 200 ok\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200\ncontent-length: 2\n\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
        INTERIM * MAX_INTERIM + FINAL,
        b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 20_000 + FINAL[17:],
    ],
)
async def test_upstream_takes_every_spelling_of_a_head_and_uses_the_connection_again(
    raw_server: Running, settings: Settings, answer: bytes
) -> None:
    with capture_logs() as logs:
        async with raw_server(answer) as server:
            assert await send_twice(settings(server.url)) == [Delivered(200), Delivered(200)]

    assert server.connections == 1
    assert not [entry for entry in logs if entry["event"] == "answer_mended"]


@pytest.mark.anyio
@pytest.mark.parametrize("coding", [b"identity", b"Identity, chunked", b""])
async def test_coding_that_is_none_leaves_the_length_of_the_body_as_it_is(
    raw_server: Running, settings: Settings, coding: bytes
) -> None:
    """A server of before 2014 may name it, and keeps the connection open behind the body."""
    framing = b"Content-Length: 2\r\n\r\n{}"
    if b"chunked" in coding:
        framing = b"\r\n2\r\n{}\r\n0\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + coding + b"\r\n" + framing
    async with raw_server(answer) as server:
        with anyio.fail_after(10):
            sent = await send_twice(settings(server.url, timeout_seconds=30))

    assert sent == [Delivered(200), Delivered(200)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (INTERIM * (MAX_INTERIM + 1) + FINAL, "sent more than 16 interim responses (1xx)"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * MAX_BYTES, "sent 256 KiB and no end of the head"),
        (b"\r\n" * MAX_BYTES, "sent 256 KiB and no end of the head"),
    ],
)
async def test_upstream_waits_for_one_whose_head_does_not_end(
    raw_server: Running, settings: Settings, answer: bytes, reason: str
) -> None:
    async with raw_server(answer) as server:
        with anyio.fail_after(10):
            first, _ = await send_twice(settings(server.url, timeout_seconds=30))

    assert isinstance(first, Wait)
    assert reason in first.reason
    assert not first.may_be_the_size  # less at once would fare no better


@pytest.mark.anyio
async def test_upstream_that_switches_protocols_unasked_is_blocked(
    raw_server: Running, settings: Settings
) -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n"
    async with raw_server(answer) as server:
        first, _ = await send_twice(settings(server.url))

    assert isinstance(first, Blocked)


def fed(data: bytes, size: int) -> tuple[bytes | None, bytes]:
    """What a reader gives on of `data` in pieces of `size`, and what it had not got by then."""
    reader, pieces = HeadReader(), [data[i : i + size] for i in range(0, len(data), size)]
    for number, piece in enumerate(pieces):
        found = reader.feed(piece)
        if found is not None:
            return found, b"".join(pieces[number + 1 :])
    return None, b""


LINES = st.lists(
    st.sampled_from([b"a: b", b"A : b", b"junk", b" fold", b"content-length: 2", b"x:\0", b""]),
    max_size=6,
)


@given(LINES, st.sampled_from([b"\r\n", b"\n"]), st.integers(1, 60))
def test_head_reader_gives_the_same_whatever_the_pieces(
    lines: list[bytes], end: bytes, size: int
) -> None:
    data = end.join([b"HTTP/1.1 100 Go", b"", b"HTTP/1.1 200 OK", *lines, b"", b"the body"])
    whole, _ = fed(data, len(data))
    found, rest = fed(data, size)

    assert whole is not None
    assert found is not None
    assert found + rest == whole


@given(LINES)
def test_plain_head_needs_no_mending(lines: list[bytes]) -> None:
    head = b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])
    reader = HeadReader()
    reader.feed(head)

    assert not is_plain(head) or not reader.mended


@pytest.mark.parametrize("data", [INTERIM * 5000, b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 60_000])
def test_head_without_an_end_is_done_with_in_little_time(data: bytes) -> None:
    seconds = []
    for _ in range(3):
        reader = HeadReader()
        began = time.thread_time()
        with contextlib.suppress(Exception):
            reader.feed(data + b"\r\n")
        seconds.append(time.thread_time() - began)

    assert min(seconds) < 0.2


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01", b"HTTP/2", b"h"])
def test_head_reader_gives_on_what_is_not_http(data: bytes) -> None:
    found = HeadReader().feed(data)

    assert found == (None if b"http/".startswith(data.lower()[:5]) else data)
