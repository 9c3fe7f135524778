"""`MockCollector`: a collector on a socket of its own, in a thread, for tests and the command.

It installs no signal handlers and configures no logging. uvicorn's protocol speaks HTTP; its
server does not run here, since its ticks would cost each test a fifth of a second to stop.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from mockcollector.app import TRANSPORT_EXTENSION, CollectorApp
from mockcollector.gate import Gate
from mockcollector.journal import Journal, Keep, Limits
from mockcollector.received import ReceivedRequest
from mockcollector.rules import MIB, Rules
from mockcollector.script import Answer, Script

START_TIMEOUT_SECONDS = 10.0
STOP_GRACE_SECONDS = 1.0
_TLS_CLOSE_SECONDS = 0.5
_KEEP_ALIVE_SECONDS = 75  # longer than exporters are idle, else they meet resets


class MockCollector:
    """A strict OTLP/HTTP trace receiver. Usable as a context manager, sync or async.

    - `host`, `port`: where to listen; port 0 takes a free one and keeps it over `restart`.
    - `path`: where traces go.
    - `required_headers`: name to value, or to None for any value.
    - `script`: what to answer, as a short text (`"503*3,ok"`) or as answers; then 200.
    - `keep`: `"counts"` keeps numbers and ids only, for load tests. `limits`: how much else.
    - `max_body_bytes`: of a body, before and after decompression.
    - `cert_file`, `key_file`: speak TLS. `client_ca_file`: ask clients for a certificate, too.
    - `on_request`: called in the collector's thread with every answered request.
    """

    def __init__(  # noqa: PLR0913 - each is a wish of its own, all by name
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = "/v1/traces",
        required_headers: Mapping[str, str | None] | None = None,
        script: Script | Iterable[Answer] | str = (),
        keep: Keep = "spans",
        limits: Limits | None = None,
        max_body_bytes: int = 64 * MIB,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        client_ca_file: str | Path | None = None,
        on_request: Callable[[ReceivedRequest], None] | None = None,
    ) -> None:
        self.host = host
        self.journal = Journal(keep=keep, limits=limits)
        self.script = script if isinstance(script, Script) else Script(script)
        rules = Rules(path, dict(required_headers or {}), max_body_bytes)
        self._app = CollectorApp(rules, self.script, self.journal, on_request)
        self._port = port
        self._tls = _tls_context(cert_file, key_file, client_ca_file)
        self._run: _Run | None = None

    @property
    def port(self) -> int:
        """The port; known from the first `start` on where 0 was asked for."""
        if self._port == 0:
            raise RuntimeError("the collector has no port before it was started")
        return self._port

    @property
    def base_url(self) -> str:
        """Scheme, host and port, as `OTEL_EXPORTER_OTLP_ENDPOINT` wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The URL of the traces, as `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` wants it."""
        return self.base_url + self._app.rules.path

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._run is not None and self._run.is_alive

    def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had, RuntimeError when it runs."""
        if self._run is not None:
            raise RuntimeError("the collector is running already")
        listener = _bind(self.host, self._port)
        self._port = listener.getsockname()[1]
        self._run = _Run(self._app, listener, self._tls)
        try:
            self._run.start()
        except BaseException:
            self._run = None
            listener.close()
            raise

    def stop(self) -> None:
        """Close the listener and every connection; hanging requests end without an answer.

        Journal and script stay as they are. Stopping what is stopped does nothing.
        """
        run, self._run = self._run, None
        if run is not None:
            run.stop()

    def restart(self) -> None:
        """Stop, if it runs, and listen on the same port again: an upstream that went and came."""
        self.stop()
        self.start()

    def release(self) -> None:
        """Let hanging and delayed requests be answered now."""
        if self._run is not None:
            self._run.call(self._app.gate.release)

    def ask_to_stop(self) -> None:
        """Begin to stop without waiting: for signal handlers. `stop` is still to be called."""
        if self._run is not None:
            self._run.ask_to_stop()

    def wait_until_ended(self, timeout: float | None = None) -> bool:
        """Block until the listener is gone; false when `timeout` seconds were not enough."""
        return self._run is None or self._run.wait_until_ended(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Without it a restart on the same port fails while old connections time out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _tls_context(
    cert_file: str | Path | None, key_file: str | Path | None, client_ca_file: str | Path | None
) -> ssl.SSLContext | None:
    if cert_file is None:
        if key_file is not None or client_ca_file is not None:
            raise ValueError("key_file and client_ca_file need a cert_file")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    if client_ca_file is not None:
        context.load_verify_locations(client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class _State(ServerState):
    """The open connections of a run, and an event for when there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.emptied = asyncio.Event()


class _HttpConnection(HttpToolsProtocol):
    """uvicorn's protocol, with the transport in the scope for answers that cut it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT_EXTENSION: {"transport": self.transport}}

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.connections and isinstance(self.server_state, _State):
            self.server_state.emptied.set()


class _Run:
    """One life of the listener, from `start` to `stop`, in a thread with an event loop."""

    def __init__(
        self, app: CollectorApp, listener: socket.socket, tls: ssl.SSLContext | None
    ) -> None:
        self._app = app
        self._listener = listener
        self._tls = tls
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="mockcollector", daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()
        self._ready.result(START_TIMEOUT_SECONDS)

    def call(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended: there is nothing left to call for
            self._ready.result().call_soon_threadsafe(function)

    def ask_to_stop(self) -> None:
        self.call(self._stopping.set)

    def stop(self) -> None:
        self.ask_to_stop()
        self._thread.join()
        if self._failure is not None:
            raise RuntimeError("the collector had died") from self._failure

    def wait_until_ended(self, timeout: float | None) -> bool:
        self._thread.join(timeout)
        return not self.is_alive

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - it is raised where `start` or `stop` waits
            self._failure = failure
            if not self._ready.done():
                self._ready.set_exception(failure)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._app.gate = Gate()
        state = _State()
        config = uvicorn.Config(
            self._app,
            http=_HttpConnection,
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
            return _HttpConnection(config=config, server_state=state, app_state={}, _loop=loop)

        options: dict[str, Any] = {}
        if self._tls is not None:
            options = {"ssl": self._tls, "ssl_shutdown_timeout": _TLS_CLOSE_SECONDS}
        server = await loop.create_server(connect, sock=self._listener, backlog=2048, **options)
        self._ready.set_result(loop)
        await self._stopping.wait()
        server.close()
        self._listener.close()
        await self._close_connections(state)

    async def _close_connections(self, state: _State) -> None:
        self._app.gate.close()
        state.emptied.clear()
        for connection in list(state.connections):
            connection.shutdown()  # idle ones close, the others after their answer
        if state.connections:
            with anyio.move_on_after(STOP_GRACE_SECONDS):
                await state.emptied.wait()
        for connection in list(state.connections):
            connection.transport.abort()
        while state.tasks:
            await asyncio.wait(state.tasks)
