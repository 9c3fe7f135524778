"""An ingest on a listener in a thread of its own, and a client that writes raw bytes to it."""

import asyncio
import contextlib
import io
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from relay.config import IngestConfig
from relay.ingest.endpoint import Ingest
from relay.model.counters import Counters
from relay.model.records import Encoding, Sender, SenderResponse, Signal
from relay.server.connection import Limits
from relay.server.listener import Listener
from relay.server.sockets import bind

PATIENCE_SECONDS = 10.0
FAST: dict[str, Any] = {"sweep_seconds": 0.01}
OWN_ID = "relay-under-test"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection. Whatever is waited for comes within ten seconds or fails the test."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self.sock = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        self._file: io.BufferedReader = self.sock.makefile("rb")

    def send(self, data: bytes) -> Self:
        self.sock.sendall(data)
        return self

    def read_head(self) -> tuple[int, dict[str, str]]:
        line = self._file.readline()
        if not line:
            raise EOFError("closed without an answer")
        headers = {}
        while (header := self._file.readline().strip()) != b"":
            name, _, value = header.decode().partition(":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers

    def read(self, *, is_head: bool = False) -> Reply:
        """The next answer. Raises EOFError when the connection is closed instead."""
        status, headers = self.read_head()
        length = 0 if is_head else int(headers.get("content-length", "0"))
        return Reply(status, headers, self._file.read(length))

    def ask(self, data: bytes) -> Reply:
        return self.send(data).read()

    def is_closed(self) -> bool:
        """Wait until the server closes; False if bytes come instead."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self.sock.close()


class RunningListener:
    def __init__(
        self,
        portal: BlockingPortal,
        listener: Listener,
        port: int,
        served: "Future[None]",
        counters: Counters,
    ) -> None:
        self.portal = portal
        self.listener = listener
        self.port = port
        self.served = served
        self.counters = counters

    def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        return Client(self.port, tls)

    def ask(self, data: bytes) -> Reply:
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.ask(data)

    def stop(self, deadline_seconds: float) -> None:
        self.portal.call(self.listener.stop, deadline_seconds)

    def begin_stop(self, deadline_seconds: float) -> "Future[None]":
        return self.portal.start_task_soon(self.listener.stop, deadline_seconds)


@contextlib.contextmanager
def running_listener(
    app: Any,
    *,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    use_uvloop: bool = False,
    counters: Counters | None = None,
    on_stranger: Callable[[str, str], None] = lambda _kind, _address: None,
    more_sockets: Sequence[socket.socket] = (),
) -> Iterator[RunningListener]:
    (sock,) = bind("127.0.0.1:0")
    port = sock.getsockname()[1]
    counters = counters or Counters()
    with start_blocking_portal("asyncio", {"use_uvloop": use_uvloop}) as portal:
        listener = Listener(
            app,
            [sock, *more_sockets],
            counters,
            limits=limits,
            ssl_context=tls,
            on_stranger=on_stranger,
        )
        served, _ = portal.start_task(listener.serve)
        try:
            yield RunningListener(portal, listener, port, served, counters)
        finally:
            if not served.done():
                portal.call(listener.stop, 0.2)


Settings = partial(IngestConfig, max_body_bytes=64 * 1024, max_in_flight_bytes=256 * 1024)


@dataclass
class Acceptor:
    """Stands for the pipeline: keeps what it is given; `answer` is returned, or raised."""

    answer: SenderResponse | BaseException = field(default_factory=SenderResponse)
    received: list[tuple[bytes, Encoding, Sender]] = field(default_factory=list, repr=False)
    signals: list[Signal] = field(default_factory=list, repr=False)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _gate: asyncio.Event | None = None

    async def __call__(
        self, body: bytes, encoding: Encoding, sender: Sender, signal: Signal
    ) -> SenderResponse:
        self.received.append((body, encoding, sender))
        self.signals.append(signal)
        self.entered.release()
        if self._gate is not None:
            await self._gate.wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def hold(self) -> None:
        """From now on, wait for `release` before answering."""
        self._gate = asyncio.Event()

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_SECONDS)

    def release(self, portal: BlockingPortal) -> None:
        assert self._gate is not None
        portal.call(self._gate.set)

    @property
    def bodies(self) -> list[bytes]:
        return [body for body, _, _ in self.received]

    @property
    def sender(self) -> Sender:
        return self.received[-1][2]


@dataclass
class Edge:
    listening: RunningListener
    ingest: Ingest
    acceptor: Acceptor
    counters: Counters

    def connect(self) -> Client:
        return self.listening.connect()

    def ask(self, data: bytes) -> Reply:
        return self.listening.ask(data)


EdgeMaker = Callable[..., Edge]


Run = Callable[..., AbstractContextManager[Edge]]


@contextlib.contextmanager
def running_edge(
    *,
    settings: IngestConfig | None = None,
    tokens: tuple[str, ...] = (),
    limits: Limits | None = None,
    use_uvloop: bool = False,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Edge]:
    acceptor, counters = Acceptor(), Counters()
    ingest = Ingest(settings or Settings(), acceptor, counters, OWN_ID, tokens=tokens)
    with running_listener(
        ingest,
        limits=limits,
        tls=tls,
        use_uvloop=use_uvloop,
        counters=counters,
        on_stranger=ingest.refusals.note_stranger,
    ) as listening:
        yield Edge(listening, ingest, acceptor, counters)


def runner(loop: str) -> Run:
    """Runs an edge with the limits that are named, on asyncio or on uvloop."""

    def run(*, tokens: tuple[str, ...] = (), **limits: Any) -> AbstractContextManager[Edge]:
        return running_edge(
            use_uvloop=loop == "uvloop", tokens=tokens, limits=Limits(**FAST | limits)
        )

    return run


def post(
    body: bytes = b"{}",
    *headers: str,
    path: str = "/v1/traces",
    method: str = "POST",
    content_type: str | None = "application/json",
    length: int | None = None,
) -> bytes:
    """The bytes of a request; `headers` are whole lines."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*chunks: bytes, headers: tuple[str, ...] = ()) -> bytes:
    lines = [
        "POST /v1/traces HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        *headers,
    ]
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body + b"0\r\n\r\n"
