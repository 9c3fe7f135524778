"""One HTTP/1.1 connection under limits: requests from it for an app, or it is closed in time.

uvicorn's HTTP/1.1 protocol keeps headers of any size in memory before anybody was asked for a
token, waits for headers and bodies for ever, and arms a timer after each answer. `LimitedProtocol`
adds the limits and uses no timers: the listener calls `enforce` on each connection once a second.

::

    WAITING ──first byte──▶ HEADERS ──blank line──▶ BODY ──last byte──▶ WAITING
    idle_seconds            header_seconds          body_seconds, body_bytes_per_second
                            header_bytes            answered already: drain_seconds, drain_bytes

WAITING while the app prepares its answer has no limit: that time is ours, not the sender's. A
limit that is passed closes the connection without an answer, since a status such as 408 is final
for a sender of OTLP, whereas a lost connection makes it send again.
"""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from relay.model.hosts import network_of
from relay.server import strangers
from relay.server.shares import SharedState

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take of our memory and patience."""

    header_bytes: int = 64 * 1024
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    body_bytes_per_second: int = 1000
    body_grace_seconds: float = 10.0  # only after it is the average rate looked at
    framing_bytes: int = 64 * 1024  # chunk extensions and trailers, between two bytes of body
    drain_bytes: int = 128 * _MIB  # of a body whose answer is already given
    drain_seconds: float = 10.0
    idle_seconds: float = 75.0
    write_seconds: float = 60.0  # for the sender to read our answer
    pipelined_requests: int = 64
    connections: int = 4096
    sweep_seconds: float = 1.0
    parting_seconds: float = 0.5  # at a stop, for a request that is on its way to us


class Phase(enum.Enum):
    """How far the parser is in the request that is arriving."""

    WAITING = 0
    HEADERS = 1
    BODY = 2


# Names of the module: an enum's attribute costs more, several times a request.
_WAITING, _HEADERS, _BODY = Phase


class _Nothing(list[tuple[bytes, bytes]]):
    """A list that stays empty: trailers come without end, and nobody reads them."""

    def append(self, _item: tuple[bytes, bytes]) -> None:
        pass


_TRAILERS: Final = _Nothing()


class LimitPassed(Exception):
    """A limit was passed inside a callback of the parser; the connection is closed already."""


class _ClosesAfterBody:
    """A transport for the answer to a sender that asked for `Connection: close`.

    Closing while the body still arrives would reset the connection, and the sender would never
    read our answer: so it is closed once the rest has been read.
    """

    def __init__(self, protocol: "LimitedProtocol") -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.close_after_body()


class LimitedProtocol(HttpToolsProtocol):
    """One connection under `limits`. `on_limit` is told the name of a limit that was passed,
    `on_stranger` the kind of what is no HTTP/1.1 (`strangers`) and from where it came.

    `on_lost` is called whenever a connection has ended, `is_closed_to_new` asked for each new one.
    """

    def __init__(
        self,
        config: Config,
        server_state: SharedState,
        *,
        limits: Limits,
        on_limit: Callable[[str], None],
        on_stranger: Callable[[str, str], None],
        on_lost: Callable[[], None],
        is_closed_to_new: Callable[[], bool],
    ) -> None:
        super().__init__(config, server_state, {})
        self._limits = limits
        self._on_limit = on_limit
        self._on_stranger = on_stranger
        self._on_lost = on_lost
        self._is_closed_to_new = is_closed_to_new
        self._shares = server_state.shares
        self.peer = ""
        """Whose share it counts in: `unix`, or what one host can connect from."""
        self._phase = _WAITING
        self._phase_since = self.loop.time()
        self._chunk_bytes = 0  # of the piece that the parser is reading
        self._has_begun_in_chunk = False
        self._header_bytes = 0  # of earlier pieces, while in HEADERS
        self._body_bytes = 0
        self._framing_bytes = 0
        self._drained_bytes = 0
        self._write_paused_since = 0.0
        self._is_closing_after_body = False
        self._is_parting = False
        self._has_upgrade_offer = False
        self._answering: Any = None  # others are queued behind it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; when there are too many close it at once, or another one for it."""
        is_full = len(self.connections) >= self._limits.connections
        super().connection_made(transport)
        self.peer = network_of(self.client[0]) if self.client else "unix"
        self._shares.add(self.peer)
        if is_full:
            connections = cast("set[LimitedProtocol]", self.connections)
            self._shares.to_close(self, connections).give_way()
        if self._is_closed_to_new():
            self.part()  # the kernel took it before we stopped listening: it is owed an answer

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; a request whose body did not arrive whole leaves nothing."""
        super().connection_lost(exc)  # it tells the latest request only, not one before it
        self._shares.remove(self.peer)
        answering = self._answering
        if answering is not None and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Parse `data` and count what of it has to be kept in memory."""
        self._chunk_bytes = len(data)
        self._has_begun_in_chunk = False
        body_bytes = self._body_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._go_on_without_upgrade(data[offer.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._turn_away(strangers.kind_of(data, str(error)))
            return
        if self._phase is _HEADERS:
            if self._has_begun_in_chunk:  # the piece may also hold the end of another request
                self._header_bytes = self._measured_header_bytes()
            else:
                self._header_bytes += len(data)
            if self._header_bytes > self._limits.header_bytes:
                self._close_for("header_bytes")
        elif self._phase is _BODY:
            is_framing = body_bytes == self._body_bytes
            self._framing_bytes = self._framing_bytes + len(data) if is_framing else 0
            if self._framing_bytes > self._limits.framing_bytes:
                self._close_for("framing_bytes")

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a whole request even if the sender has shut down its writing side.

        An answer that has begun and goes on, a stream of events, has lost its reader: to go on with
        it would be noticed at the second write only.
        """
        is_answer_owed = (
            self._phase is _WAITING
            and not self._is_answered
            and not self.cycle.response_started
            and self.scheme == "http"  # TLS has no half-closed connections
        )
        if is_answer_owed:
            self.cycle.keep_alive = False
        return is_answer_owed

    def on_message_begin(self) -> None:
        """Start the clock of the headers."""
        super().on_message_begin()
        self._phase = _HEADERS
        self._phase_since = self.loop.time()
        self._has_begun_in_chunk = True
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """Hand the request to the app and start the clock of the body."""
        limits = self._limits
        if (
            self._header_bytes + self._chunk_bytes > limits.header_bytes
            and self._measured_header_bytes() > limits.header_bytes
        ):
            self._refuse("header_bytes")
        if len(self.pipeline) >= limits.pipelined_requests:
            self._refuse("pipelined_requests")
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._has_upgrade_offer = True
            return
        if self.expect_100_continue and self.parser.get_http_version() != "1.1":
            self.expect_100_continue = False  # older clients take a 1xx for the answer itself
        self._make_cycle()
        self._enter_body()

    def _make_cycle(self) -> None:
        """Make of the head a request that is answered now, or queued behind others."""
        super().on_headers_complete()

    def _enter_body(self) -> None:
        """Start the clock of the body."""
        if self._is_parting:
            self.cycle.keep_alive = False
        self.headers = _TRAILERS  # the app has the list that was filled until now
        if not self.pipeline:
            self._answering = self.cycle
        if not self.cycle.keep_alive:
            self.cycle.transport = cast("asyncio.Transport", _ClosesAfterBody(self))
        self._phase = _BODY
        self._phase_since = self.loop.time()
        self._body_bytes = 0
        self._framing_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Pass a piece of body on, or drop it when the answer has been given."""
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._drained_bytes += len(body)
            if self._drained_bytes > self._limits.drain_bytes:
                self._refuse("drain_bytes")
        else:
            self._take_body(body)

    def _take_body(self, body: bytes) -> None:
        """Let the request have a piece of its body."""
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the answer, and then for the next request."""
        if self._has_upgrade_offer:
            return  # the parser thinks that no HTTP follows; it will be read by another
        self._end_body()
        self._phase = _WAITING
        self._phase_since = self.loop.time()
        if self._is_closing_after_body:
            self.transport.close()

    def _end_body(self) -> None:
        """Tell the request that its body is whole."""
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with a request that is queued; without one, wait without arming a timer."""
        if self._phase is not _HEADERS and self.cycle.response_complete:
            self._phase_since = self.loop.time()
        self._drained_bytes = 0
        if self.pipeline or self.transport.is_closing():
            self._answering = self.pipeline[-1][0] if self.pipeline else None
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.flow.resume_reading()

    def _turn_away(self, kind: str) -> None:
        """Close on what is no HTTP/1.1 and say so, unless a limit of ours stopped the parser."""
        if self.transport.is_closing():
            return
        self._on_limit("malformed")
        self._on_stranger(kind, self.client[0] if self.client else "unix")
        is_grpc = kind == strangers.GRPC
        self.send_400_response(
            strangers.GRPC_ANSWER if is_grpc else "Invalid HTTP request received."
        )

    def pause_writing(self) -> None:
        """Note since when the sender does not read."""
        super().pause_writing()
        self._write_paused_since = self.loop.time()

    def part(self) -> None:
        """End with the next answer: the one that is owed, or to a request on its way to us."""
        self._is_parting = True
        if not self._is_answered:
            self.cycle.keep_alive = False

    @property
    def dispensable(self) -> tuple[int, float] | None:
        """The lower, the less is lost with this connection; None if an answer is owed."""
        if (self._phase is _WAITING and not self._is_answered) or self.transport.is_closing():
            return None
        return self._phase.value, self._phase_since

    def give_way(self) -> None:
        """Close, since there are too many connections."""
        self._on_stranger(strangers.CONNECTIONS, self.client[0] if self.client else "unix")
        self._close_for("connections")

    def close_if_idle(self) -> None:
        """Close unless a request is arriving or an answer is owed."""
        if self._phase is _WAITING and self._is_answered:
            self.transport.close()

    def close_after_body(self) -> None:
        """Close now, or as soon as the rest of the body that is arriving has been read."""
        if self._phase is _BODY:
            self._is_closing_after_body = True
        else:
            self.transport.close()

    def enforce(self, now: float, elapsed_seconds: float) -> None:
        """Close the connection if a limit of time has passed at `now`, the loop's time.

        `elapsed_seconds` is the time since the last call: it is not held against the sender if
        it was we who did not read.
        """
        if self.flow.write_paused:
            if now - self._write_paused_since > self._limits.write_seconds:
                self._close_for("write_seconds")
        elif self.flow.read_paused:
            self._phase_since += elapsed_seconds
        elif limit := self._passed_limit(now - self._phase_since):
            self._close_for(limit)

    @property
    def _is_answered(self) -> bool:
        """Whether the latest request that came this far, if any, has its whole answer."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn begins with None
        return cycle is None or cycle.response_complete

    def _passed_limit(self, seconds: float) -> str:
        """The name of the limit that is passed after `seconds` in this phase, or nothing."""
        limits = self._limits
        is_answered = self._is_answered
        if self._phase is _HEADERS:
            return "header_seconds" if seconds > limits.header_seconds else ""
        if self._phase is _WAITING:
            return "idle_seconds" if is_answered and seconds > limits.idle_seconds else ""
        if is_answered:
            return "drain_seconds" if seconds > limits.drain_seconds else ""
        if seconds > limits.body_seconds:
            return "body_seconds"
        is_slow = self._body_bytes < limits.body_bytes_per_second * seconds
        return "body_bytes_per_second" if is_slow and seconds > limits.body_grace_seconds else ""

    def _measured_header_bytes(self) -> int:
        """Bytes of the request line and of the headers so far, as they stood on the wire."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read the request again as one that offers no other protocol, and then its body.

        The parser skips the body of a request with an Upgrade header, which some clients send
        along with every first request: its spans would be lost with an answer of 200.
        """
        self._has_upgrade_offer = False
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                kept = b", ".join(o for o in options if o.lower() != b"upgrade")
                lines.append(b"%s: %s" % (name, kept))
            elif name != b"upgrade":
                lines.append(b"%s: %s" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _refuse(self, limit: str) -> None:
        """Close, and stop the parser that called us."""
        self._close_for(limit)
        raise LimitPassed(limit)

    def _close_for(self, limit: str) -> None:
        if self.transport.is_closing() and limit != "write_seconds":
            return  # closing ends by itself unless the sender does not read
        self._on_limit(limit)
        if limit == "idle_seconds" or (limit == "connections" and self._phase is _WAITING):
            self.transport.close()  # nothing is under way: part in good order
        else:
            self.transport.abort()


def uvicorn_config(app: Any) -> Config:
    """Settings of uvicorn for an app of ours: everything that we do ourselves is off."""
    return Config(
        app,
        interface="asgi3",
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
