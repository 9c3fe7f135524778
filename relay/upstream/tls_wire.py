"""TLS between a transport and the protocol above it, which takes it for its transport.

Own, and not the event loop's: the first bytes of a peer that does not speak TLS are seen, an alert
comes through as it was meant, TLS goes inside TLS (a proxy's), and it is the same on every loop.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

# So much is encrypted at a time: more would wait in memory for the network, twice.
CHUNK_BYTES = 128 * 1024
_READ_BYTES = 64 * 1024


class Wire(Protocol):
    """What bytes are written to: a transport of the event loop's, or TLS over one."""

    def writelines(self, parts: Iterable[bytes], /) -> None:
        """Send `parts`; the protocol is told to pause while they are not all on their way."""

    def set_protocol(self, protocol: asyncio.BaseProtocol, /) -> None:
        """Who is told of what comes."""

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        ...

    def close(self) -> None:
        """Close, once what was written is sent."""

    def abort(self) -> None:
        """Close at once."""


class TlsWire(asyncio.Protocol):
    """TLS over `below` for `above`. `note` is told of what the peer says until TLS is agreed on.

    `object` knows the certificate and the version.
    """

    def __init__(
        self,
        below: Wire,
        above: asyncio.Protocol,
        context: ssl.SSLContext,
        host: str,
        note: Callable[[bytes], None],
    ) -> None:
        self._below = below
        self._above = above
        self._note = note
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._agreed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unsent: deque[memoryview] = deque()
        self._is_full = False

    async def agree(self) -> None:
        """The handshake. Raises ssl.SSLError, or EOFError when the peer ends it."""
        self._below.set_protocol(self)
        self._shake_hands()
        await self._agreed

    def _shake_hands(self) -> None:
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._agreed.set_exception(error)
        else:
            self._agreed.set_result(None)
        self._flush()

    # For the protocol above

    def writelines(self, parts: Iterable[bytes]) -> None:
        """Encrypt and send `parts`, as fast as they are taken."""
        self._unsent.extend(memoryview(part) for part in parts)
        self._pump()
        if self._unsent or self._is_full:
            self._above.pause_writing()

    def _pump(self) -> None:
        try:
            while self._unsent and not self._is_full:
                part = self._unsent.popleft()
                while part and self._outgoing.pending < CHUNK_BYTES:
                    part = part[self.object.write(part) :]
                if part:
                    self._unsent.appendleft(part)
                if part or not self._unsent:
                    self._flush()
        except ssl.SSLError as error:
            self._break(error)

    def _flush(self) -> None:
        if self._outgoing.pending:
            data = self._outgoing.read()
            if not self._below.is_closing():
                self._below.writelines((data,))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """TLS goes inside of this TLS."""
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError("a stream protocol is needed")
        self._above = protocol

    def is_closing(self) -> bool:
        """Whether it is at its end."""
        return self._below.is_closing()

    def close(self) -> None:
        """Say that it ends, which tells it from being cut off."""
        with contextlib.suppress(ssl.SSLError):
            self.object.unwrap()
        self._flush()
        self._below.close()

    def abort(self) -> None:
        """End without a word."""
        self._below.abort()

    # What the event loop calls, or TLS below

    def data_received(self, data: bytes) -> None:
        """Something encrypted."""
        self._incoming.write(data)
        if not self._agreed.done():
            self._note(data)
            self._shake_hands()
        if self._agreed.done() and self._agreed.exception() is None:
            self._read()

    def _read(self) -> None:
        try:
            while data := self.object.read(_READ_BYTES):
                self._above.data_received(data)
        except ssl.SSLWantReadError:
            self._flush()  # what TLS itself has to say, such as new keys
            return
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as error:
            self._break(error)
            return
        self._above.eof_received()
        self.close()

    def _break(self, error: ssl.SSLError) -> None:
        self._unsent.clear()
        self._above.connection_lost(error)
        self._below.abort()

    def pause_writing(self) -> None:
        """The network takes no more for now."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It does again."""
        self._is_full = False
        self._pump()
        if not self._unsent and not self._is_full:
            self._above.resume_writing()

    def eof_received(self) -> None:
        """The peer has ended it, or the connection under it: many do without a word in TLS."""
        if not self._agreed.done():
            self._agreed.set_exception(EOFError())
        else:
            self._above.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """As an end, and the last that is heard of it."""
        if not self._agreed.done():
            self._agreed.set_exception(error or EOFError())
        self._above.connection_lost(error)
        self._above = asyncio.Protocol()  # which knows this: both would wait for the collector
