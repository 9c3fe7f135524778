"""The byte stream under an exchange, which remembers how far the exchange got.

`Progress` is what `explain` goes by when something fails: in which stage it was, with whom, what
came first. The stream also sends head and body of a request in one write where that is small, and
leaves time limits to the one deadline around the whole exchange.
"""

import enum
import select
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import httpcore2
from anyio.streams.tls import TLSAttribute

from relay.upstream.response_head import HeadReader, is_plain
from relay.upstream.routes import Place

# Up to this size head and body are copied together: one system call and one packet less.
COALESCE_BYTES = 64 * 1024
FIRST_BYTES = 64
_CLOSED = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Stage(enum.Enum):
    """How far an exchange got."""

    LOOKUP = enum.auto()
    CONNECTING = enum.auto()
    PROXY = enum.auto()  # it has the connection and is asked for the upstream
    TLS = enum.auto()
    SENDING = enum.auto()
    AWAITING = enum.auto()
    READING = enum.auto()


@dataclass(slots=True)
class Progress:
    """What one exchange has done up to now. `peer` is who is spoken to, the proxy where used."""

    stage: Stage = Stage.LOOKUP
    peer: Place | None = None
    addresses: list[str] = field(default_factory=list)
    address: str = ""  # the one that took the connection
    failures: dict[str, OSError] = field(default_factory=dict)  # by address
    connects: int = 0
    bytes_read: int = 0
    first_bytes: bytes = b""  # of the peer: they tell HTTP from something else
    closed_by_peer: bool = False
    mended: str = ""  # a line in the head of the response that broke a rule of HTTP

    def restart(self, stage: Stage) -> None:
        """What was read until now is no part of what comes: it was the proxy's, or TLS's."""
        self.stage, self.bytes_read, self.first_bytes = stage, 0, b""
        self.closed_by_peer = False

    def note(self, data: bytes) -> None:
        """`data` was read of the peer."""
        if len(self.first_bytes) < FIRST_BYTES:
            self.first_bytes = (self.first_bytes + data)[:FIRST_BYTES]
        self.bytes_read += len(data)


class DeadlinePassed(Exception):
    """The exchange, or one stage of it, took longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Stream(httpcore2.AsyncNetworkStream, anyio.abc.ByteStream):
    """A byte stream that notes progress; HTTP/1.1 is spoken over it, and TLS agreed on over it.

    For HTTP, `write` keeps a small head back for the body, and `read` mends the head of a response.
    `progress` is that of the exchange under way.
    """

    def __init__(self, below: anyio.abc.ByteStream, progress: Progress) -> None:
        self.below = below
        self.progress = progress
        self._held = b""
        self._early = b""  # of a response that came while the body was on its way
        self._early_error: ssl.SSLError | None = None
        self._is_in_head = True
        self._head: HeadReader | None = None

    def begin(self, progress: Progress) -> None:
        """A request is to be sent: what is read next is the head of its response."""
        self.progress = progress
        self._is_in_head, self._head = True, None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """For HTTP: an end is no bytes. An error of TLS is raised as it is, and EndlessHead."""
        if self._held:
            await self._flush()
        while True:
            data = await self._read(max_bytes)
            if not data or not self._is_in_head:
                return data
            if self._head is None and is_plain(data):
                self._is_in_head = False
                return data
            head = self._head = self._head or HeadReader()
            found = head.feed(data)
            if found is not None:
                self.progress.mended = head.mended
                self._is_in_head, self._head = False, None
                return found

    async def _read(self, max_bytes: int) -> bytes:
        progress = self.progress
        progress.stage = Stage.READING if progress.bytes_read else Stage.AWAITING
        try:
            if self._early:
                data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            elif self._early_error is not None:
                raise self._early_error
            else:
                data = await self.below.receive(max_bytes)
        except _CLOSED:
            progress.closed_by_peer = True
            return b""
        progress.note(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Raises WriteError, after which the engine goes on to read: there may be a response."""
        if not buffer:
            return
        self.progress.stage = Stage.SENDING
        if not self._held and len(buffer) < COALESCE_BYTES:
            self._held = bytes(buffer)
            return
        if len(buffer) < COALESCE_BYTES:
            self._held += buffer
            await self._flush()
        else:
            await self._flush()
            failure = await self._send_and_listen(buffer)
            if failure is not None:
                raise httpcore2.WriteError(str(failure)) from failure

    async def _flush(self) -> None:
        held, self._held = self._held, b""
        if not held:
            return
        try:
            await self.below.send(held)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise httpcore2.WriteError(str(error)) from error

    async def _send_and_listen(self, data: bytes) -> Exception | None:
        """An upstream may refuse a large body early and close: its response would go with the
        connection if nobody read it while the body is on its way.
        """
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen)
            try:
                await self.below.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                failure = error
            tasks.cancel_scope.cancel()
        return failure

    async def _listen(self) -> None:
        try:
            while len(self._early) < COALESCE_BYTES:
                self._early += await self.below.receive(COALESCE_BYTES)
        except _CLOSED:
            pass
        except ssl.SSLError as error:
            self._early_error = error

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """For TLS: what came, noted; an end is EndOfStream."""
        try:
            data = await self.below.receive(max_bytes)
        except _CLOSED:
            self.progress.closed_by_peer = True
            raise
        self.progress.note(data)
        return data

    async def send(self, item: bytes) -> None:
        """For TLS."""
        await self.below.send(item)

    async def send_eof(self) -> None:
        """For TLS."""
        await self.below.send_eof()

    async def aclose(self) -> None:
        """Close what is below."""
        await self.below.aclose()

    @property
    def extra_attributes(self) -> Any:
        """Those of the stream below."""
        return self.below.extra_attributes

    def get_extra_info(self, info: str) -> Any:
        """The TLS object, and whether an idle connection has come to its end."""
        if info == "ssl_object":
            return self.below.extra(TLSAttribute.ssl_object, None)  # noqa: S610 - not Django's
        if info == "is_readable":
            raw = self.below.extra(anyio.abc.SocketAttribute.raw_socket, None)  # noqa: S610
            return _is_readable(raw)
        return None


def _is_readable(raw: socket.socket | None) -> bool:
    """Whether an idle connection has something to read: it can only be its end."""
    if raw is None or raw.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN)
    return bool(poll.poll(0))
