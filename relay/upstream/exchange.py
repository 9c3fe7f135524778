"""One exchange with an upstream: a request, its response or why there was none, under one deadline.

Delivery sends batches by it, one after the other over one connection; the connection test asks by
it. What an exchange never does: follow a redirect, keep a cookie, read more than 64 KiB of a
response, or go through a proxy to this machine.

Head and body are handed to the event loop as they are, over one connection an upstream. Foreign
exceptions end here. Header values are masked in every word of an upstream that leaves.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
import structlog

from relay.config import DestinationConfig
from relay.config.presets import PRESETS
from relay.model.errors import ConfigError
from relay.model.records import Encoding
from relay.upstream import outcomes
from relay.upstream.connection import Connection, ConnectionEnded, DeadlinePassed, Progress
from relay.upstream.dial import Watch, dial
from relay.upstream.explain import FOREIGN, Fault, explain
from relay.upstream.explain_response import Asked
from relay.upstream.request_head import request_head
from relay.upstream.response import FULL_SUCCESS, Response
from relay.upstream.response_reader import ResponseReader
from relay.upstream.routes import Route, fingerprint

log = structlog.stdlib.get_logger(__name__)

SECONDS_PER_MIB = 1.0
# Common servers close idle connections after 60 s or more; a connection that one with less has
# closed is noticed before it is used again.
KEEP_ALIVE_SECONDS = 50.0
# A name may have moved to another server meanwhile; the old one answers as long as it is asked.
MAX_AGE_SECONDS = 300.0
# After a refusal that may be meant for the content: the next parts of it follow at once.
REFUSED_AGE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is posted: `content` and all of `rest`, which large ones are sent from where they are.

    `hops` are the relays that it came through, this one not among them. `items` are the spans, log
    records or data points in it; 0 where nobody has counted.
    """

    encoding: Encoding
    content: bytes
    content_encoding: str = ""
    hops: str = ""
    items: int = 0
    rest: Sequence[bytes] = ()
    size: int = field(init=False)
    """In bytes."""

    def __post_init__(self) -> None:
        """Add up the size."""
        object.__setattr__(self, "size", len(self.content) + sum(map(len, self.rest)))


class ExchangeFailed(Exception):
    """There was no response; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.cause)
        self.fault = fault


class Upstream:
    """Exchanges with one destination over one connection, one exchange at a time.

    The connection is made anew after a failure, after `renew`, and every five minutes.

    `hops` is what this relay adds to `otlp-relay-hops`; `watch` is told of each connection.
    """

    def __init__(
        self,
        settings: DestinationConfig,
        *,
        hops: str = "",
        watch: Watch | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._hops = hops
        self._watch = watch or Watch()
        self._now = now
        self._route: Route | None = None
        self._connection: Connection | None = None
        self._ends_at = 0.0  # monotonic: from then on the connection is not used again
        self._rests_since = 0.0  # monotonic
        self._made_of: tuple[object, ...] = ()
        self._head = b""
        self._secrets: tuple[str, ...] = ()
        self._has_warned = False
        self.progress = Progress()

    def update(self, settings: DestinationConfig) -> None:
        """Use `settings` from the next exchange on, over a new connection."""
        self._settings = settings
        self.renew()

    def renew(self) -> None:
        """Connect anew for the next exchange: what the name, the files or the proxy lead to may
        have changed.
        """
        self._ends_at = 0.0

    async def aclose(self) -> None:
        """Close the connection. The next exchange opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def send(self, body: Body, headers: Mapping[str, str]) -> outcomes.Outcome:
        """Post `body` with `headers`, which must not change after, and say what came of it.

        Takes at most the destination's timeout and a second a MiB of body. Whatever the network,
        TLS or the response do is an outcome; what is raised is a mistake of ours. When the task is
        cancelled, the connection is closed.
        """
        name = self._settings.name
        try:
            response = await self.exchange(body, headers)
        except ConfigError as error:
            outcome: outcomes.Outcome = outcomes.Blocked(
                f"{name}: {error.message}; correct it, then reload"
            )
        except ExchangeFailed as failed:
            outcome = outcomes.of_fault(failed.fault, name)
        else:
            if response.mended and not self._has_warned:
                # Whoever runs the upstream, or the proxy in between, should hear of it; once.
                self._has_warned = True
                log.warning(
                    "answer_mended",
                    destination=name,
                    signal=self._settings.signal.word,
                    line=response.mended,
                )
            if response.cut_by:
                log.debug(
                    "answer_broken_off",
                    destination=name,
                    signal=self._settings.signal.word,
                    error=response.cut_by,
                )
            if response.is_success and response.success is FULL_SUCCESS:
                return outcomes.Delivered(response.status)
            asked = Asked(
                who=name,
                endpoint=self._settings.endpoint,
                encoding=body.encoding,
                signal=self._settings.signal,
                preset=PRESETS.get(self._settings.preset or ""),
                header_names=tuple(headers),
                proxy=str(self._route.proxy or "") if self._route else "",
                items=body.items,
            )
            outcome = outcomes.classify(response, asked, self._now())
            if not response.is_success:
                is_content = outcomes.is_of_the_batch(outcome)
                age = REFUSED_AGE_SECONDS if is_content else 0.0
                self._ends_at = min(self._ends_at, time.monotonic() + age)
            return outcome
        if isinstance(outcome, outcomes.Blocked):
            # Files and the environment are read again by the next probe.
            await self._forget()
        return outcome

    async def exchange(self, body: Body | None, headers: Mapping[str, str]) -> Response:
        """Post `body`, or get where it is None, and read the response as far as it comes in time.

        Raises ExchangeFailed when there is none, ConfigError for settings that cannot be used.
        """
        size = body.size if body is not None else 0
        limit = self._settings.timeout_seconds + SECONDS_PER_MIB * size / 2**20
        route = self._route
        if route is None or time.monotonic() >= self._ends_at:
            route = await self._prepare()
        self.progress = Progress()
        head = self._head_of(route, body, headers)
        request: tuple[bytes, ...] = (head + b"\r\n",)
        if body is not None:
            head += b"Content-Length: %d\r\n\r\n" % size
            request = (head, body.content, *body.rest)
        try:
            return await self._ask(route, request, limit)
        except FOREIGN as error:
            raise ExchangeFailed(explain(error, route, self.progress)) from error

    async def connect(self) -> Route:
        """Connect for the next exchange, under the limits of the watch alone.

        Raises as `exchange` does.
        """
        route = await self._prepare()
        self.progress = Progress()
        try:
            await self._connect(route)
        except FOREIGN as error:
            raise ExchangeFailed(explain(error, route, self.progress)) from error
        return route

    async def _ask(self, route: Route, request: tuple[bytes, ...], limit: float) -> Response:
        """The response. A reused connection that was closed meanwhile is tried once more.

        Only before the first byte of a response: our request and the server's closing of an idle
        connection crossed on the way.
        """
        ends_at, progress = anyio.current_time() + limit, self.progress
        reader = ResponseReader(self._secrets)
        while True:
            connection, now = self._connection, time.monotonic()
            if (
                connection is None
                or now >= self._ends_at
                or now > self._rests_since + KEEP_ALIVE_SECONDS
                or not connection.is_usable
            ):
                with anyio.CancelScope(deadline=ends_at) as scope:
                    connection = await self._connect(route)
                if connection is None or scope.cancelled_caught:
                    raise DeadlinePassed(limit)
            connection.progress = progress
            progress.peer = route.proxy if route.is_forwarded else route.place
            try:
                response = await connection.ask(request, reader, ends_at=ends_at, limit=limit)
            except ConnectionEnded:
                if progress.connects or progress.bytes_read:
                    raise
                progress.closed_by_peer = False
                await self.aclose()
            else:
                self._rests_since = time.monotonic()
                return response

    async def _connect(self, route: Route) -> Connection:
        await self.aclose()
        self._ends_at = self._rests_since = time.monotonic()
        self._ends_at += MAX_AGE_SECONDS
        connection = self._connection = await dial(route, self.progress, self._watch)
        return connection

    async def _prepare(self) -> Route:
        """The route, made anew when there is none or it changed. Raises ConfigError."""
        route, settings = self._route, self._settings
        if route is not None and route.mark == fingerprint(settings):
            route.settings = settings
            return route
        await self._forget()
        route = self._route = Route.of(settings)
        return route

    async def _forget(self) -> None:
        await self.aclose()
        self._route = None

    def _head_of(self, route: Route, body: Body | None, headers: Mapping[str, str]) -> bytes:
        """The head but for the length, kept as long as what it was made of stays.

        Raises ConfigError that names a header HTTP does not allow.
        """
        made_of = (route, headers, body and (body.encoding, body.content_encoding, body.hops))
        if made_of == self._made_of:
            return self._head
        more = {"proxy-authorization": route.proxy_authorization if route.is_forwarded else ""}
        if body is not None:
            more |= {
                "content-type": body.encoding.media_type,
                "content-encoding": body.content_encoding,
                "otlp-relay-hops": ",".join(hop for hop in (body.hops, self._hops) if hop),
            }
        self._head = request_head(
            ("GET" if body is None else "POST", route.target),
            headers,
            host=route.host,
            authorization=route.authorization,
            media_type=body.encoding.media_type if body is not None else "application/json",
            more=more,
        )
        self._secrets = (*headers.values(), *route.secrets)
        self._made_of = made_of
        return self._head
