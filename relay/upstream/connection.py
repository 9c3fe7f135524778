"""One connection to an upstream or its proxy, and how far the exchange over it got.

`Progress` is what `explain` goes by when something fails: in which stage it was, with whom, what
came first. Everything here happens in callbacks of the event loop: a response that comes while the
body is still on its way is read like any other, and one timer is the deadline of the exchange.
"""

import asyncio
import enum
import select
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from relay.upstream.response import Response
from relay.upstream.response_reader import ResponseReader
from relay.upstream.routes import Place
from relay.upstream.tls_wire import TlsWire, Wire

FIRST_BYTES = 64


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


class ConnectionEnded(Exception):
    """The peer closed the connection, or it was lost, before the head of a response was there."""


class Connection(asyncio.Protocol):
    """Asks one request at a time; made by `dial`, over a transport or over TLS on top of one."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._is_open = True
        self._is_sending = False
        self._reader: ResponseReader | None = None
        self._answered: asyncio.Future[Response] | None = None
        self._wire: Wire
        self._socket: socket.socket

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent over it. What an idle connection has to say can only
        be its end, though the event loop may not have come to it.
        """
        if not self._is_open or self._wire.is_closing():
            return False
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    async def ask(
        self,
        request: Sequence[bytes],
        reader: ResponseReader,
        *,
        ends_at: float | None = None,
        limit: float = 0.0,
    ) -> Response:
        """Send the parts of `request`; the response as far as it came by `ends_at`, in the loop's
        time, which is after `limit` seconds.

        Raises ConnectionEnded, NoHttp, EndlessHead, DeadlinePassed, or what TLS says. The
        connection is closed then, and when it cannot be used again.
        """
        if self._wire.is_closing():
            raise ConnectionEnded
        loop = asyncio.get_running_loop()
        timer = None if ends_at is None else loop.call_at(ends_at, self._expire, limit)
        self._reader, self._answered = reader, loop.create_future()
        self.progress.stage = Stage.SENDING
        try:
            self._wire.writelines(request)
            if self.progress.stage is Stage.SENDING and not self._is_sending:
                self.progress.stage = Stage.AWAITING
            response = await self._answered
        except BaseException:
            self.abort()
            raise
        finally:
            self._reader = self._answered = None
            if timer is not None:
                timer.cancel()
        if self._is_sending:
            self.abort()
        elif not reader.is_reusable:
            self.close()
        return response

    async def agree_on_tls(self, context: ssl.SSLContext, host: str) -> ssl.SSLObject:
        """From now on everything goes through TLS. Raises what TLS says, or ConnectionEnded."""
        self.progress.restart(Stage.TLS)
        tls = TlsWire(self._wire, self, context, host, self.progress.note)
        try:
            await tls.agree()
        except EOFError as error:
            self.progress.closed_by_peer = True
            raise ConnectionEnded from error
        self._wire = tls
        # The handshake was looked at, for what the peer said instead.
        self.progress.restart(Stage.SENDING)
        return tls.object

    def close(self) -> None:
        """Nothing is sent any more."""
        self._is_open = False
        self._wire.close()

    def abort(self) -> None:
        """As `close`, and what is not sent yet is not sent at all."""
        self._is_open = False
        self._wire.abort()

    # What the event loop calls, or TLS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """To be told when the last byte is on its way, whatever the size of the body."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        transport.set_write_buffer_limits(high=0)
        self._wire = transport
        self._socket = transport.get_extra_info("socket")

    def pause_writing(self) -> None:
        """Not all of the request is on its way."""
        self._is_sending = True

    def resume_writing(self) -> None:
        """All of it is."""
        self._is_sending = False
        if self.progress.stage is Stage.SENDING:
            self.progress.stage = Stage.AWAITING
        self._settle_if_done()

    def data_received(self, data: bytes) -> None:
        """A piece of the response."""
        reader = self._reader
        if reader is None:
            # Nobody asked: a server that says so before it closes an idle connection.
            self.abort()
            return
        self.progress.note(data)
        self.progress.stage = Stage.READING
        try:
            reader.feed(data)
        except Exception as error:  # noqa: BLE001 - raised by `ask`
            if self._answered is not None and not self._answered.done():
                self._answered.set_exception(error)
        else:
            self._settle_if_done()

    def eof_received(self) -> None:
        """The peer says nothing more: so the response is whole, or never will be."""
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        """As an end of the stream, but for an error that TLS explains."""
        self._end(error)
        self._is_sending = False

    def _end(self, error: Exception | None) -> None:
        self._is_open = False
        reader, answered = self._reader, self._answered
        if reader is None or answered is None or answered.done():
            return
        if reader.response is None and isinstance(error, ssl.SSLError):
            self._settle(error)
        else:
            self.progress.closed_by_peer = True
            reader.end_of_stream()
            self._settle(ConnectionEnded())

    def _expire(self, limit: float) -> None:
        if self._reader is not None:
            self._reader.end("too slow")
            self._settle(DeadlinePassed(limit))

    def _settle_if_done(self) -> None:
        if self._reader is not None and self._reader.is_done:
            self._settle(None)

    def _settle(self, error: Exception | None) -> None:
        """Let `ask` return the response, or raise `error` where there is none that counts.

        Who refuses before the body is there needs no more of it. Who takes it gets it all: what was
        not sent is not delivered, whatever was said before.
        """
        reader, answered = self._reader, self._answered
        if reader is None or answered is None or answered.done():
            return
        response = reader.response
        if response is not None and not (self._is_sending and response.is_2xx):
            answered.set_result(response)
        elif error is not None:
            answered.set_exception(error)
