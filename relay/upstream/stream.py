"""A destination's settings go in; byte streams for its connection come out.

The streams note how far an exchange got (`Progress`): whether it connected, in which stage it is
and how much of the answer has come. That decides whether a lost connection is tried again at once
and what a timeout is called. They also send head and body of a request in one write where that is
small, and leave time limits to the one deadline around the whole exchange.
"""

import enum
import select
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpcore2
from anyio.streams.tls import TLSAttribute, TLSStream

from relay.upstream.settings import DestinationSettings

# Up to this size head and body are copied together: one system call and one packet less.
COALESCE_BYTES = 64 * 1024


class Stage(enum.Enum):
    """How far an exchange got; the value completes "gave up while …"."""

    CONNECTING = "connecting"
    TLS = "agreeing on TLS"
    SENDING = "sending the request"
    AWAITING = "waiting for the answer"
    READING = "reading the answer"


@dataclass(slots=True)
class Progress:
    """What an exchange has done up to now. `peer` is what was dialled, the proxy where used."""

    stage: Stage = Stage.CONNECTING
    peer: str = ""
    connects: int = 0
    bytes_read: int = 0
    first_bytes: bytes = b""  # of the answer: they tell HTTP from something else
    closed_by_peer: bool = False


class Network(httpcore2.AsyncNetworkBackend):
    """Dials for one upstream and notes the progress of the exchange that is under way."""

    def __init__(self) -> None:
        self.progress = Progress()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A stream to `host`; raises OSError when there is none."""
        self.progress.stage = Stage.CONNECTING
        self.progress.peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        # No time limit here nor below: an exchange has one deadline around all of it.
        stream = await anyio.connect_tcp(host, port, local_host=local_address)
        self.progress.connects += 1
        return _Stream(self, stream)


class _Stream(httpcore2.AsyncNetworkStream):
    """A byte stream that notes progress. `write` keeps a small head back for the body."""

    def __init__(self, network: Network, stream: anyio.abc.ByteStream) -> None:
        self._network = network
        self._stream = stream
        self._held = b""
        self._early = b""  # of an answer that came while the body was on its way
        self._early_error: ssl.SSLError | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        progress = self._network.progress
        if self._held:
            await self._flush()
        progress.stage = Stage.READING if progress.bytes_read else Stage.AWAITING
        try:
            data = await self._receive(max_bytes)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            progress.closed_by_peer = True
            return b""
        if not progress.bytes_read:
            progress.first_bytes = data[:4]
        progress.bytes_read += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        self._network.progress.stage = Stage.SENDING
        if not self._held and len(buffer) < COALESCE_BYTES:
            self._held = bytes(buffer)
            return
        if len(buffer) < COALESCE_BYTES:
            self._held += buffer
            await self._flush()
        else:
            await self._flush()
            await self._send(buffer)

    async def _flush(self) -> None:
        held, self._held = self._held, b""
        if held:
            await self._send(held)

    async def _receive(self, max_bytes: int) -> bytes:
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        if self._early_error is not None:
            raise self._early_error
        return await self._stream.receive(max_bytes)

    async def _send(self, data: bytes) -> None:
        """Raises WriteError, after which the engine goes on to read: there may be an answer."""
        failure: Exception | None = None
        if len(data) < COALESCE_BYTES:
            try:
                await self._stream.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                failure = error
        else:
            failure = await self._send_and_listen(data)
        if failure is not None:
            raise httpcore2.WriteError(str(failure)) from failure

    async def _send_and_listen(self, data: bytes) -> Exception | None:
        """An upstream may refuse a large body early and close: its answer would go with the
        connection if nobody read it while the body is on its way.
        """
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen)
            try:
                await self._stream.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                failure = error
            tasks.cancel_scope.cancel()
        return failure

    async def _listen(self) -> None:
        try:
            while len(self._early) < COALESCE_BYTES:
                self._early += await self._stream.receive(COALESCE_BYTES)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        except ssl.SSLError as error:
            self._early_error = error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        progress = self._network.progress
        progress.stage = Stage.TLS
        progress.bytes_read = 0  # what a proxy said before is no part of the answer
        try:
            stream = await TLSStream.wrap(
                self._stream,
                ssl_context=ssl_context,
                hostname=server_hostname,
                standard_compatible=False,
                server_side=False,
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.aclose()
            raise
        return _Stream(self._network, stream)

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610 - not Django's
        if info == "is_readable":
            raw = self._stream.extra(anyio.abc.SocketAttribute.raw_socket, None)  # noqa: S610
            return _is_readable(raw)
        return None


def _is_readable(raw: socket.socket | None) -> bool:
    """Whether an idle connection has something to read: it can only be its end."""
    if raw is None or raw.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def fingerprint(settings: DestinationSettings) -> tuple[object, ...]:
    """What a connection stands on; when it changes at a reload, the connection is made anew.

    Certificate files count with their time and size: renewed in place, they are read again.
    """
    files = tuple(
        (path, _stamp(path))
        for path in (settings.ca_file, settings.client_cert, settings.client_key)
    )
    return (settings.endpoint, settings.proxy, files)


def _stamp(path: str | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size)
