"""A byte stream of anyio goes in; one for the HTTP engine comes out that remembers what it saw."""

from typing import Any

import anyio
import anyio.abc
import httpcore2
from anyio.streams.tls import TLSAttribute

FIRST_BYTES = 64
_CLOSED = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class RecordedStream(httpcore2.AsyncNetworkStream, anyio.abc.ByteStream):
    """Both interfaces over one stream: TLS is wrapped around it, HTTP/1.1 is spoken over it.

    `first_bytes` are what came first since the last `forget`: they tell HTTP from gRPC and TLS.
    """

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream
        self.first_bytes = b""
        self.bytes_read = 0
        self.closed_by_peer = False

    def forget(self) -> None:
        """What came until now was the proxy's."""
        self.first_bytes, self.bytes_read = b"", 0

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """As anyio wants it: an end is EndOfStream."""
        try:
            data = await self._stream.receive(max_bytes)
        except _CLOSED:
            self.closed_by_peer = True
            raise
        if len(self.first_bytes) < FIRST_BYTES:
            self.first_bytes = (self.first_bytes + data)[:FIRST_BYTES]
        self.bytes_read += len(data)
        return data

    async def send(self, item: bytes) -> None:
        """All of `item`."""
        await self._stream.send(item)

    async def send_eof(self) -> None:
        """No more comes from us."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """At once, without a farewell."""
        await anyio.aclose_forcefully(self._stream)

    @property
    def extra_attributes(self) -> Any:
        """Those of the stream below."""
        return self._stream.extra_attributes

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As the engine wants it: an end is no bytes. An error of TLS below is raised as it is."""
        try:
            return await self.receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            if error.__cause__ is not None and not isinstance(error.__cause__, ConnectionError):
                raise
            return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Raises WriteError, after which the engine goes on to read: there may be an answer."""
        if not buffer:
            return
        try:
            await self.send(buffer)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise httpcore2.WriteError(str(error)) from error

    def get_extra_info(self, info: str) -> Any:
        """The TLS object, for the engine."""
        if info == "ssl_object":
            return self._stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610 - not Django's
        return None
