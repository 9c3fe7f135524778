"""A target goes in; a byte stream to it comes out, by way of name, TCP, proxy and TLS.

Each stage is noted in a `Recorder`; what fails ends in `StepFailed` with its sentences. The rules
for proxies and trust are those of delivery (`relay.upstream`).
"""

import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

import anyio
import anyio.abc
import httpcore2
import httpx2
from anyio.streams.tls import TLSAttribute, TLSStream

from relay.config import DestinationConfig
from relay.config.secrets import Resolver, Secret
from relay.doctor import breakage
from relay.doctor.report import Recorder, StepFailed
from relay.doctor.streams import RecordedStream
from relay.model.errors import ConfigError
from relay.upstream.request_head import basic
from relay.upstream.routes import is_loopback_host, proxy_url, secrets_of, split_url
from relay.upstream.tls import tls_context

# A host that is there answers in far less; a firewall that drops packets never does.
CONNECT_SECONDS = 10.0
# After one address has answered, the others get this long to do so too.
LATER_ADDRESSES_SECONDS = 0.3
MAX_ADDRESSES = 8
EXPIRES_SOON_DAYS = 14
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, by which way and whom to trust; secrets stand in no repr."""

    name: str
    endpoint: str = field(repr=False)
    proxy: str = field(repr=False)
    ca_file: str | None
    client_cert: str | None
    client_key: str | None
    timeout_seconds: float

    @classmethod
    def of(cls, destination: DestinationConfig, environ: Mapping[str, str]) -> "Target":
        """The target of a destination. Raises ConfigError when it has none that can be used."""
        parts = split_url(destination.endpoint)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ConfigError("its endpoint is no http:// or https:// URL", key="endpoint")
        try:
            httpx2.URL(destination.endpoint)
        except httpx2.InvalidURL as error:
            raise ConfigError("its endpoint is no URL", key="endpoint") from error
        proxy: str
        if isinstance(destination.proxy, Secret):
            resolver = Resolver(environ, destination.folder)
            proxy = resolver.expand(destination.proxy.reveal())
        else:
            proxy = destination.proxy
        files = (destination.ca_file, destination.client_cert, destination.client_key)
        ca_file, client_cert, client_key = (str(path) if path else None for path in files)
        return cls(
            destination.name,
            destination.endpoint,
            proxy,
            ca_file,
            client_cert,
            client_key,
            destination.timeout_seconds,
        )

    @property
    def url(self) -> httpx2.URL:
        """The endpoint, its host in the form of IDNA."""
        return httpx2.URL(self.endpoint)

    @property
    def place(self) -> "Place":
        """Host and port of the endpoint."""
        return _place_of(self.endpoint)

    @property
    def is_tls(self) -> bool:
        """Whether it begins with https."""
        return self.url.scheme == "https"

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is this machine by its spelling."""
        return is_loopback_host(self.place.host)

    @property
    def authorization(self) -> str:
        """What the endpoint's own user and password make."""
        return basic(self.url.username, self.url.password)

    @property
    def connect_seconds(self) -> float:
        """How long each of name, TCP and TLS may take."""
        return min(self.timeout_seconds, CONNECT_SECONDS)

    @property
    def secrets(self) -> list[str]:
        """Users and passwords of its URLs."""
        return secrets_of(self.endpoint, self.proxy)


class Place(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(slots=True)
class Line:
    """A connection that stands. `proxy` is its place where one is used."""

    stream: RecordedStream
    proxy: Place | None = None
    is_forwarded: bool = False  # requests go to the proxy with the whole URL
    proxy_authorization: str = ""

    async def aclose(self) -> None:
        """Close it, whatever state it is in."""
        with anyio.CancelScope(shield=True):
            await self.stream.aclose()


Check = Callable[[Sequence[str], int], None]


async def dial(
    target: Target, record: Recorder, check: Check = lambda _addresses, _port: None
) -> Line:
    """A connection to `target`, each stage of it noted.

    `check` is told the addresses and the port before anything is sent, if there is no proxy
    between; it may raise StepFailed. Raises that, and ConfigError for certificates and proxies.
    """
    proxy = proxy_url(target)
    via = _place_of(proxy) if proxy else None
    what = "proxy" if via else "host"
    addresses = await _look_up(via or target.place, what, target.connect_seconds)
    if via is None:
        check(addresses, target.place.port)
    prefix = f"through the proxy {via}: " if via else ""
    record.ok("name", prefix + _named(via or target.place, addresses))
    socket_stream, found = await _connect(via or target.place, addresses, what, target)
    line = Line(RecordedStream(socket_stream), via)
    try:
        if proxy is not None and via is not None:
            await _pass_proxy(line, via, proxy, target)
            found = f"{prefix}{found}"
        record.ok("tcp", found)
        if target.is_tls:
            await _agree_on_tls(line, target, record)
        else:
            note = "the endpoint begins with http://: headers and spans travel in the clear"
            record.add("tls", "skipped", "this machine: not needed" if target.is_loopback else note)
    except BaseException:
        await line.aclose()
        raise
    return line


def _place_of(url: str) -> Place:
    parts = split_url(url if "://" in url else f"http://{url}")
    return Place(parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 80))


def _named(place: Place, addresses: Sequence[str]) -> str:
    if list(addresses) == [place.host]:
        return f"{place.host} is an address"
    return f"{place.host} is {', '.join(addresses)}"


async def _look_up(place: Place, what: str, limit: float) -> list[str]:
    try:
        with anyio.fail_after(limit):
            found = await anyio.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise StepFailed(
            "name",
            f"no name server answered within {limit:.0f} s for {place.host}",
            "check this machine's DNS (`resolvectl status`, /etc/resolv.conf) and its network",
        ) from None
    except (OSError, UnicodeError) as error:
        raise breakage.of_name(error, place.host, what) from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))[:MAX_ADDRESSES]


async def _connect(
    place: Place, addresses: Sequence[str], what: str, target: Target
) -> tuple[anyio.abc.SocketStream, str]:
    """The connection to the first address that took one, and what every address did."""
    streams: dict[str, anyio.abc.SocketStream] = {}
    failures: dict[str, BaseException] = {}

    async def attempt(address: str) -> None:
        try:
            streams[address] = await anyio.connect_tcp(address, place.port)
        except OSError as error:
            failures[address] = error
            return
        scope.deadline = min(scope.deadline, anyio.current_time() + LATER_ADDRESSES_SECONDS)

    try:
        with anyio.move_on_after(target.connect_seconds) as scope:
            async with anyio.create_task_group() as attempts:
                for address in addresses:
                    attempts.start_soon(attempt, address)
    except BaseException:
        for stream in streams.values():
            await anyio.aclose_forcefully(stream)
        raise
    chosen = next((address for address in addresses if address in streams), None)
    for address, stream in streams.items():
        if address != chosen:
            await anyio.aclose_forcefully(stream)
    if chosen is None:
        raise breakage.of_connection(place, what, addresses, failures, target.connect_seconds)
    found = [f"connected to {Place(chosen, place.port)}"]
    found += [
        f"{address} {breakage.words_of(failures.get(address))}"
        for address in addresses
        if address not in streams
    ]
    return streams[chosen], "; ".join(found)


async def _pass_proxy(line: Line, via: Place, proxy: str, target: Target) -> None:
    """Whatever the proxy wants before it carries: TLS to it, and CONNECT for a TLS target."""
    parts = split_url(proxy)
    line.proxy_authorization = basic(unquote(parts.username or ""), unquote(parts.password or ""))
    if parts.scheme == "https":
        context = httpcore2.default_ssl_context()
        await _wrap(line, context, via, target, has_client_certificate=False)
    if not target.is_tls:
        line.is_forwarded = True
        return
    await _open_tunnel(line, via, target)


async def _open_tunnel(line: Line, proxy: Place, target: Target) -> None:
    authority = str(target.place).encode()
    origin = httpcore2.Origin(b"http", proxy.host.encode(), proxy.port)
    head = [(b"Host", authority), (b"Accept", b"*/*")]
    if line.proxy_authorization:
        head.append((b"Proxy-Authorization", line.proxy_authorization.encode("latin-1")))
    url = httpcore2.URL(scheme="http", host=origin.host, port=origin.port, target=authority)
    connection = httpcore2.AsyncHTTP11Connection(origin, line.stream)
    response: httpcore2.Response | None = None
    try:
        with anyio.move_on_after(target.connect_seconds):
            response = await connection.handle_async_request(
                httpcore2.Request("CONNECT", url, headers=head)
            )
    except breakage.FOREIGN as error:
        raise breakage.of_proxy(proxy, line.stream) from error
    if response is None:
        raise StepFailed(
            "tcp",
            f"the proxy {proxy} took the connection and did not answer CONNECT "
            f"{target.place} within {target.connect_seconds:.0f} s",
            'check proxy (or HTTPS_PROXY), or set proxy = "none"',
        )
    if not 200 <= response.status < 300:
        phrase = response.extensions.get("reason_phrase", b"").decode("latin-1")
        raise breakage.of_tunnel(proxy, target.place, response.status, phrase)
    line.stream.forget()


async def _agree_on_tls(line: Line, target: Target, record: Recorder) -> None:
    context = await anyio.to_thread.run_sync(tls_context, target)
    context.set_alpn_protocols(["http/1.1"])
    found = await _wrap(
        line, context, target.place, target, has_client_certificate=target.client_cert is not None
    )
    certificate = found.getpeercert() or {}
    said = [str(found.version()), *_subject(certificate)]
    left = _days_left(certificate)
    if left is None:
        record.ok("tls", ", ".join(said))
        return
    said.append(f"expires in {left} days")
    record.add("tls", "warning" if left < EXPIRES_SOON_DAYS else "ok", ", ".join(said))


async def _wrap(
    line: Line,
    context: ssl.SSLContext,
    place: Place,
    target: Target,
    *,
    has_client_certificate: bool,
) -> ssl.SSLObject:
    """TLS over the line's stream, in its place."""
    plain = line.stream
    host = target.url.raw_host.decode("ascii") if place == target.place else place.host
    stream: TLSStream | None = None
    try:
        with anyio.move_on_after(target.connect_seconds):
            stream = await TLSStream.wrap(
                plain,
                ssl_context=context,
                hostname=host,
                standard_compatible=False,
                server_side=False,
            )
    except breakage.FOREIGN as error:
        raise breakage.of_tls(
            error, place, plain, has_client_certificate=has_client_certificate
        ) from error
    if stream is None:
        raise StepFailed(
            "tls",
            f"{place} took the connection and did not answer the TLS handshake within "
            f"{target.connect_seconds:.0f} s",
            "check the port: it may not speak TLS, or a firewall in between swallows it",
        )
    line.stream = RecordedStream(stream)
    return stream.extra(TLSAttribute.ssl_object)  # noqa: S610


def _subject(certificate: Mapping[str, object]) -> list[str]:
    """Whose certificate it is and who signed it."""
    said = []
    for key, words in (("subject", "certificate of"), ("issuer", "by")):
        names = dict(pair for part in certificate.get(key, ()) for pair in part)  # type: ignore[attr-defined]
        name = names.get("commonName") or names.get("organizationName")
        if name:
            said.append(f"{words} {name}")
    return [" ".join(said)] if said else []


def _days_left(certificate: Mapping[str, object]) -> int | None:
    ends = certificate.get("notAfter")
    if not isinstance(ends, str):
        return None
    return int((ssl.cert_time_to_seconds(ends) - time.time()) // 86_400)


async def speaks_tls(place: Place, limit: float) -> bool:
    """Whether a TLS server answers there. Nothing is sent but the handshake; nobody is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with anyio.fail_after(limit):
            stream = await anyio.connect_tcp(place.host, place.port)
            async with stream:
                secure = await TLSStream.wrap(
                    stream, ssl_context=context, hostname=place.host, standard_compatible=False
                )
                await anyio.aclose_forcefully(secure)
    except ssl.SSLError as error:
        # An alert is TLS too; what is no record at all is not.
        return "ALERT" in (error.reason or "").upper()
    except (*breakage.FOREIGN, TimeoutError):
        return False
    return True
