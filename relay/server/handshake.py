"""Begins TLS on a connection once its first bytes are TLS; what else came is told apart by them.

A server that is given a TLS context drops whoever speaks something else without a word to anybody,
above all the sender with http:// in its endpoint. Here it is seen, and from whom it came.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

from relay.server import strangers

HANDSHAKE_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 1.0


class Handshakes:
    """Those under way on one listener, at most `most`: for one more the oldest gives way.

    Not the newest: who means it is through in a moment, who only holds a place is old.
    `on_full` is told each time.
    """

    def __init__(self, most: int, on_full: Callable[[], None]) -> None:
        self._most = most
        self._on_full = on_full
        self._under_way: dict[Handshake, None] = {}  # in the order in which they began
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> list[str]:
        """Whose they are."""
        return [each.address for each in self._under_way]

    def begin(self, handshake: "Handshake") -> None:
        """One more."""
        self._under_way[handshake] = None
        if len(self._under_way) > self._most:
            oldest = next(iter(self._under_way))
            self.end(oldest)
            self._on_full()
            oldest.give_way()

    def end(self, handshake: "Handshake") -> None:
        """TLS is agreed, or nothing came of it."""
        self._under_way.pop(handshake, None)


class _Early(asyncio.Protocol):
    """Keeps what comes after TLS was agreed and before it was handed on."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.has_ended = False
        self.lost: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def eof_received(self) -> None:
        self.has_ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def hand_on(self, transport: asyncio.Transport, connection: asyncio.Protocol) -> None:
        transport.set_protocol(connection)
        connection.connection_made(transport)
        for piece in self.pieces:
            connection.data_received(piece)
        if self.has_ended:
            connection.eof_received()
        for error in self.lost:
            connection.connection_lost(error)


class Handshake(asyncio.Protocol):
    """One connection until TLS is agreed; `new_connection` makes the protocol that goes on.

    `on_stranger` is told the kind of what came instead and from where. The work is a task of
    `handshakes`.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        new_connection: Callable[[], asyncio.Protocol],
        on_stranger: Callable[[str, str], None],
        handshakes: Handshakes,
    ) -> None:
        self._context = context
        self._new_connection = new_connection
        self._on_stranger = on_stranger
        self._handshakes = handshakes
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first bytes, for as long as a handshake may take."""
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else "unix"
        self._patience = self._loop.call_later(HANDSHAKE_SECONDS, transport.abort)
        self._handshakes.begin(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._patience.cancel()
        self._handshakes.end(self)

    def give_way(self) -> None:
        """Close, since there are too many."""
        self._on_stranger(strangers.CONNECTIONS, self.address)
        if self._task is None:
            self._transport.abort()
        else:  # to uvloop, TLS on an aborted transport is TLS that was agreed
            self._task.add_done_callback(lambda _task: self._transport.abort())
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Judge by the first bytes."""
        self._patience.cancel()
        self._transport.pause_reading()
        if kind := strangers.kind_on_tls(data):
            self._on_stranger(kind, self.address)
        if not strangers.is_tls(data):
            self._transport.close()
            return
        task = self._task = self._loop.create_task(self._begin(data))
        self._handshakes.tasks.add(task)
        task.add_done_callback(self._handshakes.tasks.discard)

    async def _begin(self, first: bytes) -> None:
        early, transport = _Early(), self._transport
        starting = self._loop.create_task(
            self._loop.start_tls(
                transport,
                early,
                self._context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )
        )
        await asyncio.sleep(0)  # its first step: it has put itself in our place
        self._loop.call_soon(self._give, first)
        try:
            secured = await starting
        except ssl.SSLError as error:
            if kind := strangers.kind_of_failure(error):
                self._on_stranger(kind, self.address)
        except OSError:
            pass  # it went away, or took too long
        else:
            early.hand_on(cast("asyncio.Transport", secured), self._new_connection())
        finally:
            self._handshakes.end(self)

    def _give(self, first: bytes) -> None:
        """Let TLS read what we have read, before anything else."""
        # Either loop's; uvloop's has its methods and not its type.
        reader = cast("asyncio.BufferedProtocol", self._transport.get_protocol())
        while first and not self._transport.is_closing():
            room = memoryview(reader.get_buffer(len(first)))
            size = min(len(room), len(first))
            room[:size] = first[:size]
            reader.buffer_updated(size)
            first = first[size:]
