"""One request body goes in, one HTTP exchange with an upstream happens, its outcome comes out.

The only file that knows the HTTP client. It drives httpx2 through its engine, httpcore2, one
connection an upstream: the client object on top costs half as much again a request (cookies,
redirects, auth flows, a URL parsed each time), and none of that is wanted here. What an exchange
never does: follow a redirect, keep a cookie, read more than 64 KiB of an answer, or go through a
proxy to this machine.

Foreign exceptions end here. Header values are masked in every word of an upstream that leaves.
"""

import contextlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

import anyio
import anyio.to_thread
import httpcore2
import httpx2
import structlog

from relay.deliver.batches import Batch
from relay.model.errors import ConfigError
from relay.otlp import answers
from relay.otlp.words import clean, mask
from relay.upstream import explain, outcomes
from relay.upstream.request_head import (
    MAX_ANSWER_BYTES,
    MAX_WORDS_CHARACTERS,
    basic,
    decoder,
    request_head,
)
from relay.upstream.routes import proxy_url, secrets_of, split_url, without_query
from relay.upstream.settings import DestinationSettings
from relay.upstream.stream import Network, Progress, fingerprint
from relay.upstream.tls import tls_context

log = structlog.stdlib.get_logger(__name__)

SECONDS_PER_MIB = 1.0
# Common servers close idle connections after 60 s or more; a connection that one with less has
# closed is noticed before it is used again.
KEEP_ALIVE_SECONDS = 50.0

# What the engine, TLS and the resolver raise; UnicodeError is a host that IDNA does not know.
_FOREIGN = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    OSError,
    UnicodeError,
)


@dataclass(slots=True)
class _Reply:
    """An answer whose head is there; `body` is filled as far as it came."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


@dataclass(slots=True)
class _Line:
    """What connections to an upstream stand on, made from `settings` when `mark` was so."""

    settings: DestinationSettings
    mark: tuple[object, ...]
    url: httpcore2.URL
    host: str
    pool: httpcore2.AsyncConnectionPool
    authorization: str
    is_proxied: bool


class Upstream:
    """Exchanges with one destination over one connection, one exchange at a time."""

    def __init__(
        self,
        settings: DestinationSettings,
        *,
        hops: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._hops = hops
        self._now = now
        self._network = Network()
        self._connection: httpcore2.AsyncConnectionInterface | None = None
        self._line: _Line | None = None

    def update(self, settings: DestinationSettings) -> None:
        """Use `settings` from the next exchange on.

        The connection lives on unless endpoint, proxy or TLS changed.
        """
        self._settings = settings

    async def aclose(self) -> None:
        """Close the connection. The next exchange opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with anyio.CancelScope(shield=True):
                await connection.aclose()

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> outcomes.Outcome:
        """Send `batch` with `headers` and say what came of it.

        Takes at most the destination's timeout and a second a MiB of body. Whatever the network,
        TLS or the answer do is an outcome; what is raised is a mistake of ours. When the task is
        cancelled, the connection is closed.
        """
        settings = self._settings
        progress = self._network.progress = Progress()
        try:
            outcome = await self._send(batch, headers)
        except ConfigError as error:
            outcome = outcomes.Blocked(f"{settings.name}: {error.message}")
        except httpcore2.ProxyError as error:
            said = _shown(str(error), headers, settings)
            outcome = explain.explain_proxy(said, self._way(), progress)
        except httpcore2.LocalProtocolError:
            # Its text may hold a header's value.
            outcome = outcomes.Blocked(
                f"{settings.name}: the request breaks a rule of HTTP: check its headers, "
                "then reload"
            )
        except _FOREIGN as error:
            outcome = explain.explain(error, self._way(), progress)
        if isinstance(outcome, outcomes.Blocked) and not outcome.status:
            # Files and the environment are read again by the next probe.
            await self._forget()
        return outcome

    async def _send(self, batch: Batch, headers: Mapping[str, str]) -> outcomes.Outcome:
        """The exchange under its deadline; raises what is met before an answer's head."""
        line = await self._prepare(self._settings)
        limit = line.settings.timeout_seconds + SECONDS_PER_MIB * len(batch.content) / 2**20
        request = httpcore2.Request(
            "POST",
            line.url,
            headers=_headers(batch, headers, line, self._hops),
            content=batch.content,
        )
        reply: _Reply | None = None
        with anyio.move_on_after(limit):
            response = await self._exchange(line, request)
            reply = _reply(response)
            await self._read(response, reply)
        if self._connection is not None and not self._connection.is_available():
            await self.aclose()
        if reply is None:
            return explain.timed_out(self._way(), self._network.progress, limit)
        return outcomes.classify(
            _said(reply, headers, line.settings),
            name=line.settings.name,
            header_names=tuple(headers),
            now=self._now(),
        )

    async def _exchange(self, line: _Line, request: httpcore2.Request) -> httpcore2.Response:
        """The answer's head. A reused connection that was closed meanwhile is tried once more.

        Only before the first byte of an answer: our request and the server's closing of an idle
        connection crossed on the way.
        """
        progress = self._network.progress
        try:
            return await self._ask(line, request)
        except (httpcore2.NetworkError, httpcore2.RemoteProtocolError):
            if progress.connects or progress.bytes_read:
                raise
        progress.closed_by_peer = False
        return await self._ask(line, request)

    async def _ask(self, line: _Line, request: httpcore2.Request) -> httpcore2.Response:
        """One try, on the connection of the last exchange if that still stands."""
        connection = self._connection
        if connection is None or not connection.is_available() or connection.has_expired():
            await self.aclose()
            connection = self._connection = line.pool.create_connection(line.url.origin)
        try:
            return await connection.handle_async_request(request)
        except BaseException:
            await self.aclose()
            raise

    async def _read(self, response: httpcore2.Response, reply: _Reply) -> None:
        """Fill `reply.body`, unzipped, up to the cap. A body that breaks off is as far as it came.

        The status has been said: what happens to the body does not change it.
        """
        unzip = decoder(reply.headers.get("content-encoding", ""))
        arrived = 0
        try:
            async with contextlib.aclosing(response.aiter_stream()) as chunks:
                async for chunk in chunks:
                    arrived += len(chunk)
                    reply.body += unzip(chunk, MAX_ANSWER_BYTES - len(reply.body))
                    if max(arrived, len(reply.body)) >= MAX_ANSWER_BYTES:
                        break
        except (httpcore2.NetworkError, httpcore2.ProtocolError, zlib.error, OSError) as error:
            log.debug("answer_broken_off", destination=self._settings.name, error=str(error)[:200])
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _prepare(self, settings: DestinationSettings) -> _Line:
        """What connections stand on, made anew when there is none or it changed.

        Raises ConfigError. Certificates are looked at again when the settings are new.
        """
        line = self._line
        if line is not None and line.settings is settings:
            return line
        mark = fingerprint(settings)
        if line is not None and line.mark == mark:
            line.settings = settings
            return line
        await self._forget()
        try:
            url = httpx2.URL(settings.endpoint)
        except httpx2.InvalidURL as error:
            raise ConfigError("its endpoint is no URL", key="endpoint") from error
        if url.scheme not in ("http", "https") or not split_url(settings.endpoint).hostname:
            raise ConfigError("its endpoint is no http:// or https:// URL", key="endpoint")
        proxy = proxy_url(settings)
        context = None
        if url.scheme == "https":
            context = await anyio.to_thread.run_sync(tls_context, settings)
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            proxy=_proxy(proxy) if proxy else None,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=self._network,
        )
        self._line = _Line(
            settings,
            mark,
            httpcore2.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            url.netloc.decode("ascii"),
            pool,
            basic(url.username, url.password),
            proxy is not None,
        )
        return self._line

    async def _forget(self) -> None:
        await self.aclose()
        self._line = None

    def _way(self) -> explain.Way:
        settings = self._settings
        return explain.Way(
            settings.name,
            settings.endpoint,
            is_proxied=self._line is not None and self._line.is_proxied,
            has_client_certificate=settings.client_cert is not None,
        )


def _headers(
    batch: Batch, configured: Mapping[str, str], line: _Line, hops: str
) -> list[tuple[bytes, bytes]]:
    """The head of the request. Raises ConfigError that names a header HTTP does not allow."""
    return request_head(
        configured,
        host=line.host,
        authorization=line.authorization,
        media_type=batch.encoding.media_type,
        length_bytes=len(batch.content),
        content_encoding=batch.content_encoding,
        hops=",".join(hop for hop in (batch.hops, hops) if hop),
    )


def _proxy(url: str) -> httpcore2.Proxy:
    parts = split_url(url)
    auth = None
    if parts.username is not None:
        auth = (unquote(parts.username), unquote(parts.password or ""))
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path or "/")
    return httpcore2.Proxy(bare.geturl(), auth=auth)


def _reply(response: httpcore2.Response) -> _Reply:
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }
    return _Reply(response.status, headers)


def _said(
    reply: _Reply, headers: Mapping[str, str], settings: DestinationSettings
) -> outcomes.Said:
    """What the answer says, for `policy`. Nothing in a body can make it fail."""
    content_type = reply.headers.get("content-type", "")
    words, rejected = "", 0
    try:
        if 200 <= reply.status < 300:
            success = answers.read_success(reply.body, content_type)
            if success is not None:
                words, rejected = success.message, success.rejected
        else:
            words = answers.read_words(reply.body, content_type)
    except Exception:
        # The upstream has decided; that we cannot read its words must not undo it.
        log.exception("answer_not_readable", status=reply.status)
    return outcomes.Said(
        status=reply.status,
        words=_shown(words, headers, settings),
        retry_after=reply.headers.get("retry-after", ""),
        location=_shown(without_query(reply.headers.get("location", "")), headers, settings),
        rejected=rejected,
    )


def _shown(words: str, headers: Mapping[str, str], settings: DestinationSettings) -> str:
    """Words of an upstream or a proxy in one short line, this destination's secrets masked."""
    if not words:
        return ""  # as with every plain success: masking costs a third of an exchange
    secrets = [*headers.values(), *secrets_of(settings.endpoint, settings.proxy)]
    return mask(clean(words, MAX_WORDS_CHARACTERS), secrets)
