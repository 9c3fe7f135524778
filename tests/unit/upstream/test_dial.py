"""Which of a host's addresses is connected to, and what is said when none of them takes it."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from relay.config import DestinationConfig
from relay.model.records import Encoding
from relay.upstream import dial, exchange
from relay.upstream.exchange import Body, ExchangeFailed, Upstream
from relay.upstream.outcomes import Delivered, Outcome, Wait

pytestmark = pytest.mark.anyio

Running = Callable[..., contextlib.AbstractAsyncContextManager[Any]]
Settings = Callable[..., DestinationConfig]
BODY = Body(encoding=Encoding.JSON, content=b"{}")


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let every name have these addresses."""

    def resolve(*addresses: str) -> None:
        async def answer(_host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
            families = (socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses)
            return [
                (family, socket.SOCK_STREAM, 6, "", (each, port))
                for family, each in zip(families, addresses, strict=True)
            ]

        monkeypatch.setattr(anyio, "getaddrinfo", answer)

    return resolve


@contextlib.contextmanager
def swallowing(host: str, port: int) -> Iterator[None]:
    """A listener whose queue is full: what comes is dropped, as a firewall does."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(8):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex((host, port))
        yield


async def send_once(settings: DestinationConfig) -> Outcome:
    upstream = Upstream(settings)
    try:
        return await upstream.send(BODY, {})
    finally:
        await upstream.aclose()


async def test_next_address_is_tried_where_one_refuses(
    raw_server: Running, settings: Settings, resolve: Callable[..., None]
) -> None:
    resolve("127.0.0.9", "127.0.0.1")
    async with raw_server() as server:
        outcome = await send_once(settings(f"http://up.example:{server.port}/"))

    assert outcome == Delivered(200)


async def test_next_address_is_tried_where_one_does_not_answer(
    raw_server: Running, settings: Settings, resolve: Callable[..., None]
) -> None:
    resolve("127.0.0.9", "127.0.0.1")
    async with raw_server() as server:
        with swallowing("127.0.0.9", server.port), anyio.fail_after(5):
            outcome = await send_once(settings(f"http://up.example:{server.port}/"))

    assert outcome == Delivered(200)
    assert server.connections == 1


async def test_dead_ipv6_does_not_keep_ipv4_waiting(
    raw_server: Running, settings: Settings, resolve: Callable[..., None]
) -> None:
    # As content delivery networks have it: more addresses of one kind than are ever tried.
    resolve(*(f"2001:db8::{number}" for number in range(1, 9)), "127.0.0.1")
    async with raw_server() as server:
        upstream = Upstream(settings(f"http://up.example:{server.port}/"))
        assert await upstream.send(BODY, {}) == Delivered(200)
        await upstream.aclose()

    assert upstream.progress.addresses[:3] == ["2001:db8::1", "127.0.0.1", "2001:db8::2"]


async def test_only_the_connection_that_is_used_stays_open(
    raw_server: Running, settings: Settings, resolve: Callable[..., None]
) -> None:
    resolve("127.0.0.1", "127.0.0.1")
    async with raw_server() as server:
        upstream = Upstream(settings(f"http://up.example:{server.port}/"))
        for _ in range(3):
            assert await upstream.send(BODY, {}) == Delivered(200)
        await upstream.aclose()

    assert server.connections == 1


async def test_what_became_of_each_address_is_told(
    settings: Settings, resolve: Callable[..., None]
) -> None:
    resolve("127.0.0.8", "127.0.0.9")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        upstream = Upstream(settings(f"http://up.example:{unused.getsockname()[1]}/"))
        with pytest.raises(ExchangeFailed, match="refused the connection"):
            await upstream.connect()

    assert list(upstream.progress.failures) == ["127.0.0.8", "127.0.0.9"]


async def test_address_that_never_answers_ends_with_the_deadline(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "NEXT_ADDRESS_SECONDS", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.9", 0))
        port = free.getsockname()[1]
    with swallowing("127.0.0.9", port):
        outcome = await send_once(settings(f"http://127.0.0.9:{port}/", timeout_seconds=0.3))

    assert isinstance(outcome, Wait)
    assert outcome.reason.startswith(
        f"axiom: 127.0.0.9:{port} did not answer within 0.3 s: a firewall drops what is sent there"
    )


async def test_host_that_is_gone_when_a_connection_is_made_anew_is_said_to_be(
    raw_server: Running,
    settings: Settings,
    resolve: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "MAX_AGE_SECONDS", 0.0)
    resolve("127.0.0.1")
    async with raw_server() as server:
        there = settings(f"http://up.example:{server.port}/", timeout_seconds=0.3)
        upstream = Upstream(there)
        assert await upstream.send(BODY, {}) == Delivered(200)
        resolve("127.0.0.9")
        with swallowing("127.0.0.9", server.port):
            outcome = await upstream.send(BODY, {})
        await upstream.aclose()

    assert isinstance(outcome, Wait)
    assert f"up.example:{server.port} did not answer within 0.3 s: a firewall" in outcome.reason
