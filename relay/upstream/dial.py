"""The one way to connect to an upstream: name → TCP → proxy → TLS.

Delivery dials without looking; the connection test passes a `Watch`, which is told of each stage
as it is done and may put a limit on it. What fails is raised as it came: `explain` says what it
means by the `Progress` that was made.
"""

import contextlib
import ipaddress
import itertools
import socket
import ssl
from collections.abc import Iterator

import anyio
import anyio.abc
import anyio.to_thread
import httpcore2
from anyio.streams.tls import TLSStream

from relay.model.hosts import joined
from relay.upstream.routes import Place, Route
from relay.upstream.stream import DeadlinePassed, Progress, Stage, Stream
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


async def dial(route: Route, progress: Progress, watch: Watch) -> Stream:
    """A stream over which HTTP can be spoken with the upstream, or with a proxy that forwards.

    Raises ConfigError for certificates, DeadlinePassed for a stage, else what the network raised.
    """
    progress.stage, progress.peer = Stage.LOOKUP, route.proxy or route.place
    host = progress.peer.host if route.proxy else route.url.host.decode("ascii")
    with _limit(watch):
        progress.addresses = await _look_up(host, progress.peer.port)
    watch.resolved(route, progress)
    progress.stage = Stage.CONNECTING
    with _limit(watch):
        stream = Stream(await _connect(progress, progress.peer.port), progress)
    progress.connects += 1
    try:
        if route.proxy is not None:
            stream = await _pass_proxy(stream, route, route.proxy, watch)
        watch.connected(route, progress)
        if route.is_tls:
            if route.context is None:
                route.context = await anyio.to_thread.run_sync(tls_context, route.settings)
            progress.peer = route.place
            stream = await _agree_on_tls(
                stream, route.context, route.url.host.decode("ascii"), watch
            )
        watch.secured(route, stream.get_extra_info("ssl_object") if route.is_tls else None)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(stream)
        raise
    return stream


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


async def _connect(progress: Progress, port: int) -> anyio.abc.SocketStream:
    """The first connection that one of the addresses takes. Raises OSError if none does."""
    taken: list[anyio.abc.SocketStream] = []

    async def attempt(address: str, done: anyio.Event) -> None:
        try:
            stream = await anyio.connect_tcp(address, port)
        except OSError as error:
            progress.failures[address] = error
        else:
            taken.append(stream)
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
        for stream in taken:
            await anyio.aclose_forcefully(stream)
        raise
    for stream in taken[1:]:
        await anyio.aclose_forcefully(stream)
    if not taken:
        raise OSError("no address took the connection")
    return taken[0]


async def _pass_proxy(stream: Stream, route: Route, proxy: Place, watch: Watch) -> Stream:
    """Whatever the proxy wants before it carries: TLS to it, and CONNECT for a TLS target."""
    progress = stream.progress
    if route.is_proxy_tls:
        context = await anyio.to_thread.run_sync(httpcore2.default_ssl_context)
        stream = await _agree_on_tls(stream, context, proxy.host, watch)
    if route.is_forwarded:
        return stream
    progress.restart(Stage.PROXY)
    authority = joined(route.url.host.decode("ascii"), route.place.port).encode()
    origin = httpcore2.Origin(b"http", b"proxy", proxy.port)
    head = [(b"Host", authority), (b"Accept", b"*/*")]
    if route.proxy_authorization:
        head.append((b"Proxy-Authorization", route.proxy_authorization.encode("latin-1")))
    url = httpcore2.URL(scheme="http", host=origin.host, port=origin.port, target=authority)
    connection = httpcore2.AsyncHTTP11Connection(origin, stream)
    try:
        with _limit(watch):
            response = await connection.handle_async_request(
                httpcore2.Request("CONNECT", url, headers=head)
            )
    finally:
        progress.stage = Stage.PROXY
    if not 200 <= response.status < 300:
        phrase = response.extensions.get("reason_phrase", b"").decode("latin-1")
        raise ProxyRefused(response.status, phrase)
    return stream


async def _agree_on_tls(stream: Stream, context: ssl.SSLContext, host: str, watch: Watch) -> Stream:
    """TLS over the stream, in its place."""
    progress = stream.progress
    progress.restart(Stage.TLS)
    with _limit(watch):
        tls = await TLSStream.wrap(
            stream,
            ssl_context=context,
            hostname=host,
            standard_compatible=False,
            server_side=False,
        )
    # The handshake was looked at, for what the peer said instead; what follows needs no looking.
    tls.transport_stream = stream.below
    progress.restart(Stage.SENDING)
    return Stream(tls, progress)
