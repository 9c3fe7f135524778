"""The one way to connect to an upstream: name → TCP → proxy → TLS.

Delivery dials without looking; the connection test passes a `Watch`, which is told of each stage
as it is done and may put a limit on it. What fails is raised as it came: `explain` says what it
means by the `Progress` that was made.
"""

import asyncio
import contextlib
import functools
import ipaddress
import itertools
import socket
import ssl
from collections.abc import Iterator

import anyio
import anyio.to_thread
import httpcore2

from relay.model.hosts import joined
from relay.upstream.connection import Connection, DeadlinePassed, Progress, Stage
from relay.upstream.response_reader import ResponseReader
from relay.upstream.routes import Place, Route
from relay.upstream.tls import tls_context

MAX_ADDRESSES = 8
# One address is tried after the other has had so long, or has failed (RFC 8305).
NEXT_ADDRESS_SECONDS = 0.25


class Watch:
    """Is told of each stage of a connection. This one looks away."""

    stage_seconds: float | None = None  # how long each stage may take

    def resolved(self, route: Route, progress: Progress) -> None:
        """The host, or the proxy's, is `progress.addresses`. Nothing was sent; may raise."""

    def connected(self, route: Route, progress: Progress) -> None:
        """`progress.address` took the connection, and a proxy lets it through."""

    def secured(self, route: Route, tls: ssl.SSLObject | None) -> None:
        """TLS is agreed on; None where the endpoint is plain HTTP."""


class ProxyRefused(Exception):
    """The proxy answered CONNECT with another status than 2xx."""

    def __init__(self, status: int, phrase: str) -> None:
        super().__init__(status, phrase)
        self.status = status
        self.phrase = phrase


async def dial(route: Route, progress: Progress, watch: Watch) -> Connection:
    """A connection over which HTTP can be spoken with the upstream, or a proxy that forwards.

    Raises ConfigError for certificates, DeadlinePassed for a stage, else what the network raised.
    """
    progress.stage, progress.peer = Stage.LOOKUP, route.proxy or route.place
    host = progress.peer.host if route.proxy else route.name
    with _limit(watch):
        progress.addresses = await _look_up(host, progress.peer.port)
    watch.resolved(route, progress)
    progress.stage = Stage.CONNECTING
    with _limit(watch):
        connection = await _connect(progress, progress.peer.port)
    progress.connects += 1
    tls: ssl.SSLObject | None = None
    try:
        if route.proxy is not None:
            await _pass_proxy(connection, route, route.proxy, watch)
        watch.connected(route, progress)
        if route.is_tls:
            if route.context is None:
                route.context = await anyio.to_thread.run_sync(tls_context, route.settings)
            progress.peer = route.place
            with _limit(watch):
                tls = await connection.agree_on_tls(route.context, route.name)
        watch.secured(route, tls)
    except BaseException:
        connection.abort()
        raise
    return connection


@contextlib.contextmanager
def _limit(watch: Watch) -> Iterator[None]:
    with anyio.move_on_after(watch.stage_seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise DeadlinePassed(watch.stage_seconds or 0.0)


async def _look_up(host: str, port: int) -> list[str]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return _alternating(list(dict.fromkeys(str(address[0]) for *_, address in found)))
    return [host]


def _alternating(addresses: list[str]) -> list[str]:
    """IPv6 and IPv4 by turns, so that one of them that is dead costs one attempt, not the rest."""
    kinds: tuple[list[str], list[str]] = ([], [])
    for address in addresses:
        kinds[(":" in address) is not (":" in addresses[0])].append(address)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*kinds))
    return [address for address in turns if address][:MAX_ADDRESSES]


async def _connect(progress: Progress, port: int) -> Connection:
    """The first connection that one of the addresses takes. Raises OSError if none does."""
    taken: list[Connection] = []
    make = functools.partial(Connection, progress)

    async def attempt(address: str, done: anyio.Event) -> None:
        try:
            _, made = await asyncio.get_running_loop().create_connection(make, address, port)
        except OSError as error:
            progress.failures[address] = error
        else:
            taken.append(made)
            progress.address = progress.address or address
            attempts.cancel_scope.cancel()
        finally:
            done.set()

    try:
        async with anyio.create_task_group() as attempts:
            for address in progress.addresses:
                done = anyio.Event()
                attempts.start_soon(attempt, address, done)
                with anyio.move_on_after(NEXT_ADDRESS_SECONDS):
                    await done.wait()
    except BaseException:
        for connection in taken:
            connection.abort()
        raise
    for connection in taken[1:]:
        connection.abort()
    if not taken:
        raise OSError("no address took the connection")
    return taken[0]


async def _pass_proxy(connection: Connection, route: Route, proxy: Place, watch: Watch) -> None:
    """Whatever the proxy wants before it carries: TLS to it, and CONNECT for a TLS target."""
    progress = connection.progress
    if route.is_proxy_tls:
        context = await anyio.to_thread.run_sync(httpcore2.default_ssl_context)
        with _limit(watch):
            await connection.agree_on_tls(context, proxy.host)
    if route.is_forwarded:
        return
    authority = joined(route.name, route.place.port)
    head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\n"
    if route.proxy_authorization:
        head += f"Proxy-Authorization: {route.proxy_authorization}\r\n"
    progress.restart(Stage.PROXY)
    reader = ResponseReader(only_head=True)
    try:
        with _limit(watch):
            response = await connection.ask([f"{head}\r\n".encode("latin-1")], reader)
    finally:
        progress.stage = Stage.PROXY
    if not response.is_2xx:
        raise ProxyRefused(response.status, reader.phrase.decode("latin-1"))
