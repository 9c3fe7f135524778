"""Serves an ASGI app on sockets, until `stop`.

The listener is a child of our own task group and never its owner: signals, logging and the
lifespan stay ours. It takes uvicorn's protocol and none of its server, whose loop wakes ten times
a second and which, at the end, either waits for ever or answers 500, final for a sender of OTLP.

::

    bind ──▶ sockets ──▶ Listener.serve ──stop──▶ no new connections
                         sweep each second        idle ones closed after half a second: a
                                                  request may be on its way
                                                  requests in flight are answered …
                                                  … or cancelled: the app answers 503
                                                  what is left is cut off
"""

import asyncio
import functools
import gc
import logging
import resource
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final, cast

import anyio
import structlog
from anyio.abc import TaskStatus

from relay.model.counters import Counters
from relay.model.errors import ConfigError
from relay.server.connection import LimitedProtocol, Limits, uvicorn_config
from relay.server.exchange import ExchangeConnection, Handler
from relay.server.handshake import Handshake, Handshakes
from relay.server.shares import SharedState
from relay.server.sockets import BACKLOG

log = structlog.stdlib.get_logger(__name__)

# Of the time for `stop`, the end belongs to writing the 503s: a quarter, at most this.
_FAREWELL_SECONDS: Final = 1.0
_FULL_LOG_SECONDS: Final = 60.0


def raise_open_files_limit(wanted: int = 16_384) -> int:
    """Raise this process's limit of open files to `wanted` where it may; the limit now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < goal:
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
        return goal
    return soft


def calm_garbage_collector() -> None:
    """Look for cycles less often, and never in what was made by now.

    Decoded spans are trees, freed by their reference counts; looking through them for cycles
    after every 700 objects cost 8 % of the time in ingest and found nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context. `load_cert_chain` on it again renews the certificate without a stop.

    Raises ConfigError when the files cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{certificate} and {key} cannot be used: {error.strerror or type(error).__name__}",
            key="ingest.tls_cert",
        ) from None
    return context


class Listener:
    """One ASGI app on `sockets`, which it closes at the end. For a task group's `start`.

    A request that `stop` cannot wait for is cancelled: an app that catches the cancellation can
    still answer, as ingest does. `on_stranger` is told of each connection that brought no HTTP/1.1,
    or one too many: its kind (`strangers`) and its peer's address. `name` stands in errors.
    """

    def __init__(
        self,
        app: Any,
        sockets: Sequence[socket.socket],
        counters: Counters,
        *,
        limits: Limits | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_stranger: Callable[[str, str], None] = lambda _kind, _address: None,
        name: str = "ingest",
    ) -> None:
        self._app = app
        self._sockets = tuple(sockets)
        self._counters = counters
        self._limits = limits or Limits()
        self._ssl_context = ssl_context
        self._on_stranger = on_stranger
        self._name = name
        self._full_logged_at = -_FULL_LOG_SECONDS
        # Apart from those that speak HTTP: senders known so far lose nothing to a flood of them.
        self._handshakes = Handshakes(
            self._limits.connections, lambda: self._count_limit("connections")
        )
        self._state = SharedState()
        self._servers: list[asyncio.Server] = []
        self._stop_at: float | None = None  # the loop's time
        self._changed = anyio.Event()
        self._ended = anyio.Event()

    @property
    def open_connections(self) -> int:
        """How many senders are connected now."""
        return len(self._state.connections)

    @property
    def _connections(self) -> tuple[LimitedProtocol, ...]:
        return cast("tuple[LimitedProtocol, ...]", tuple(self._state.connections))

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Accept and answer until `stop`; ready when accepting.

        Raises RuntimeError when a socket stops listening although nobody asked for it.
        """
        try:
            await self._open()
            task_status.started()
            await self._sweep_until_stop()
            self._close_to_new()
            await self._let_finish()
        finally:
            with anyio.CancelScope(shield=True):
                await self._cut_off()
            self._ended.set()

    async def stop(self, deadline_seconds: float) -> None:
        """Answer what is in flight, close everything and return, within about that time.

        A second call may shorten the time. `serve` must have been started.
        """
        stop_at = asyncio.get_running_loop().time() + deadline_seconds
        self._stop_at = stop_at if self._stop_at is None else min(self._stop_at, stop_at)
        self._changed.set()
        await self._ended.wait()

    async def _open(self) -> None:
        # Its warnings are one line for each bit of noise on the port; those are counted instead.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = uvicorn_config(self._app)
        config.load()
        self._set_date()
        new_connection = functools.partial(
            ExchangeConnection if isinstance(self._app, Handler) else LimitedProtocol,
            config,
            self._state,
            limits=self._limits,
            on_limit=self._count_limit,
            on_stranger=self._on_stranger,
            on_lost=self._connection_lost,
            is_closed_to_new=self._is_stopping,
        )
        accept: Callable[[], asyncio.Protocol] = new_connection
        if (context := self._ssl_context) is not None:
            accept = functools.partial(
                Handshake, context, new_connection, self._on_stranger, self._handshakes
            )
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            sock.setblocking(False)
            is_unix = sock.family == socket.AF_UNIX
            make = loop.create_unix_server if is_unix else loop.create_server
            self._servers.append(await make(accept, sock=sock, backlog=BACKLOG))

    async def _sweep_until_stop(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        while not self._is_stopping():
            with anyio.move_on_after(self._limits.sweep_seconds):
                await self._changed.wait()
            now = loop.time()
            self._sweep(now, now - before)
            before = now
            if not all(server.is_serving() for server in self._servers):
                raise RuntimeError(f"the {self._name} listener has lost a socket")

    def _sweep(self, now: float, elapsed_seconds: float) -> None:
        self._set_date()
        for connection in self._connections:
            connection.enforce(now, elapsed_seconds)

    def _close_to_new(self) -> None:
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        for connection in self._connections:
            connection.part()  # each ends with the next answer
        for task in self._state.tasks:
            task.add_done_callback(self._task_done)

    async def _let_finish(self) -> None:
        """Wait for answers; cancel what is left in time for it to say 503."""
        loop = asyncio.get_running_loop()
        # What the kernel took just before is told to us only at the loop's next turn.
        for _ in range(2):
            await asyncio.sleep(0)
        begun = before = loop.time()
        parted = begun + self._limits.parting_seconds
        while not self._is_done():
            left = self._seconds_left(begun)
            if left <= 0:
                return
            pause = min(left, self._limits.sweep_seconds)
            if before < parted:
                pause = min(pause, parted - before)
            self._changed = anyio.Event()
            with anyio.move_on_after(pause):
                await self._changed.wait()
            now = loop.time()
            self._sweep(now, now - before)  # a sender that stalls must not use up our deadline
            if now >= parted:
                for connection in self._connections:
                    connection.close_if_idle()
            before = now

    def _seconds_left(self, begun: float) -> float:
        """Until requests are cancelled."""
        stop_at = self._stop_at or begun
        farewell = min(_FAREWELL_SECONDS, max(0.0, stop_at - begun) / 4)
        return stop_at - farewell - asyncio.get_running_loop().time()

    async def _cut_off(self) -> None:
        """Whatever happened: nothing listens, no request runs and no connection is open."""
        self._stop_at = self._stop_at or 0.0
        self._close_to_new()
        for task in tuple(self._handshakes.tasks):
            task.cancel()
        await asyncio.sleep(0)  # a task that never ran could not catch its cancellation
        for task in tuple(self._state.tasks):
            task.cancel()
        await self._wait_until_done(_FAREWELL_SECONDS)
        for connection in self._connections:
            connection.transport.abort()
        await self._wait_until_done(_FAREWELL_SECONDS)

    async def _wait_until_done(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            while not self._is_done():
                self._changed = anyio.Event()
                await self._changed.wait()

    def _is_done(self) -> bool:
        return not self._state.connections and not self._state.tasks

    def _is_stopping(self) -> bool:
        return self._stop_at is not None

    def _count_limit(self, limit: str) -> None:
        self._counters.connections_closed[limit] += 1
        now = asyncio.get_running_loop().time()
        if limit == "connections" and now - self._full_logged_at >= _FULL_LOG_SECONDS:
            self._full_logged_at = now
            peers = Counter(self._handshakes.addresses)
            peers.update(each.client[0] if each.client else "unix" for each in self._connections)
            busiest, theirs = peers.most_common(1)[0]
            log.warning(
                "connections_full",
                listener=self._name,
                connections=peers.total(),
                busiest=busiest,
                theirs=theirs,
            )

    def _connection_lost(self) -> None:
        if self._is_stopping():
            self._changed.set()

    def _task_done(self, _task: "asyncio.Task[None]") -> None:
        self._changed.set()

    def _set_date(self) -> None:
        date = formatdate(time.time(), usegmt=True).encode()
        self._state.default_headers = [(b"date", date)]
        self._state.date = b"date: %b\r\n" % date
