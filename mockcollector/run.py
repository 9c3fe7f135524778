"""Sockets and the apps behind them in; a thread with an event loop that serves them out.

uvicorn's protocol speaks HTTP; its server does not run here, since its ticks would cost each test
a fifth of a second to stop.
"""

import asyncio
import itertools
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio
import uvicorn
from uvicorn.server import ServerState

from mockcollector.app import CollectorApp
from mockcollector.connection import HttpConnection
from mockcollector.gate import Gate
from mockcollector.strangers import OnStranger

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop

START_TIMEOUT_SECONDS = 10.0
STOP_GRACE_SECONDS = 1.0
_TLS_CLOSE_SECONDS = 0.5
_KEEP_ALIVE_SECONDS = 75  # longer than exporters are idle, else they meet resets


class _State(ServerState):
    """The open connections of a run, and an event for when there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.emptied = asyncio.Event()


class _Connection(HttpConnection):
    """A connection that tells when it was the last one."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.connections and isinstance(self.server_state, _State):
            self.server_state.emptied.set()


@dataclass(frozen=True, slots=True)
class Door:
    """An ASGI app and where it is reached; `on_stranger` is told of what is no request."""

    app: Any
    listener: socket.socket
    tls: ssl.SSLContext | None
    numbers: "itertools.count[int]"
    on_stranger: OnStranger


class Run:
    """One life of the listener, from `start` to `stop`, in a thread with an event loop."""

    def __init__(self, app: CollectorApp, doors: Sequence[Door]) -> None:
        self._app = app
        self._doors = doors
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="mockcollector", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Serve; returns once every door is open, and raises what kept one shut."""
        self._thread.start()
        self._ready.result(START_TIMEOUT_SECONDS)

    def call(self, function: Callable[[], None]) -> None:
        """Call `function` in the loop."""
        with suppress(RuntimeError):  # the loop has ended: there is nothing left to call for
            self._ready.result().call_soon_threadsafe(function)

    def ask_to_stop(self) -> None:
        """Begin to stop, without waiting."""
        self.call(self._stopping.set)

    def stop(self) -> None:
        """Stop and wait for it. Raises RuntimeError when the thread had died."""
        self.ask_to_stop()
        self._thread.join()
        if self._failure is not None:
            raise RuntimeError("the collector had died") from self._failure

    def wait_until_ended(self, timeout: float | None) -> bool:
        """Block until it ended; false when `timeout` seconds were not enough."""
        self._thread.join(timeout)
        return not self.is_alive

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - it is raised where `start` or `stop` waits
            self._failure = failure
            if not self._ready.done():
                self._ready.set_exception(failure)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._app.gate = Gate()
        self._opened = [await _Opened.open(loop, door) for door in self._doors]
        self._ready.set_result(loop)
        await self._stopping.wait()
        for opened in self._opened:
            opened.close()
        self._app.gate.close()
        for opened in self._opened:
            await opened.close_connections()

    async def shut(self, place: int) -> None:
        """Close a door and its connections; the others stay open. To be called in the loop."""
        self._opened[place].close()
        await self._opened[place].close_connections(grace_seconds=0)

    async def open_again(self, place: int, door: Door) -> None:
        """Open a door that was shut, with a new listener."""
        self._opened[place] = await _Opened.open(asyncio.get_running_loop(), door)


class _Opened:
    """A door while it is open, and the connections through it."""

    def __init__(self, door: Door, state: _State, server: asyncio.Server) -> None:
        self._door = door
        self._state = state
        self._server = server

    @classmethod
    async def open(cls, loop: asyncio.AbstractEventLoop, door: Door) -> "_Opened":
        """Listen."""
        state = _State()
        config = uvicorn.Config(
            door.app,
            http=_Connection,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        config.load()

        def connect() -> asyncio.Protocol:
            return _Connection(config, state, numbers=door.numbers, on_stranger=door.on_stranger)

        options: dict[str, Any] = {}
        if door.tls is not None:
            options = {"ssl": door.tls, "ssl_shutdown_timeout": _TLS_CLOSE_SECONDS}
        server = await loop.create_server(connect, sock=door.listener, backlog=2048, **options)
        return cls(door, state, server)

    def close(self) -> None:
        """Listen no more."""
        self._server.close()
        self._door.listener.close()

    async def close_connections(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """Let what is being answered end within that time, then abort."""
        state = self._state
        state.emptied.clear()
        for connection in list(state.connections):
            connection.shutdown()  # idle ones close, the others after their answer
        if state.connections and grace_seconds:
            with anyio.move_on_after(grace_seconds):
                await state.emptied.wait()
        for connection in list(state.connections):
            connection.transport.abort()
        while state.tasks:
            await asyncio.wait(state.tasks)
