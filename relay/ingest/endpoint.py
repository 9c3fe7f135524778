"""OTLP over HTTP: one request is answered exactly once, in the sender's encoding.

`Ingest` handles exchanges, not ASGI's messages: a task for each request, and making objects of its
head and its response, would cost more than everything that is done here.
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

import structlog

from relay.config import IngestConfig
from relay.ingest.browsers import HeaderList, grants
from relay.ingest.head import (
    Gate,
    Head,
    HttpRefusal,
    encoding_of,
    joined,
    too_long,
    wrong_type,
)
from relay.ingest.in_flight import UNLISTED_BYTES, Body, InFlight, cut_off_refusal
from relay.ingest.refusals import Refusals
from relay.ingest.slips import collapsed, not_found
from relay.model.counters import Counters
from relay.model.errors import BufferFailure, Refusal
from relay.model.reasons import UNREADABLE_BODY_BYTES
from relay.model.records import SUCCESS, Encoding, Sender, SenderResponse, Signal
from relay.otlp.compression import Inflater
from relay.otlp.responses import encode_response
from relay.otlp.signals import TRACES, WIRE, SignalWire
from relay.process.check.rejections import AllItemsRejected
from relay.server.exchange import Exchange, Handler, SenderGone

log = structlog.stdlib.get_logger(__name__)

Accept = Callable[[bytes, Encoding, Sender, Signal], Awaitable[SenderResponse]]
KeepUnreadable = Callable[[bytes, Encoding, Sender, str, Signal], Awaitable[None]]

SIGNALS: Final = {wire.path: wire.signal for wire in WIRE.values()}
_METHODS: Final = ("POST", "PUT")
_ALLOW: Final = ((b"allow", b"POST, PUT"),)
# Always one second: stock exporters drop the batch at once when told to wait longer than they may.
_RETRY_AFTER: Final = b"retry-after: 1\r\n"
_RETRYABLE: Final = frozenset({429, 503})
# A message without any member: an empty request, and what nearly every request is answered.
_EMPTY: Final = {Encoding.JSON: b"{}", Encoding.PROTOBUF: b""}
_STOPPING: Final = SenderResponse(503, "the relay is stopping; retry", grpc_code=14)
_PROFILES: Final = "/v1development/profiles"


class _Verdict(NamedTuple):
    """What was made of a head that was admitted, by the gate that holds until a reload."""

    gate: Gate
    head: Head
    signal: Signal


class Ingest(Handler):
    """The way in over HTTP: the handler for the listener.

    `accept` is told each whole body, unzipped; it answers, or raises Refusal (its status) or
    BufferFailure (503). `keep_unreadable` is told the first bytes of a body that cannot be
    unzipped, and why. `own_id` is what this relay adds to `otlp-relay-hops`. A request that is
    cancelled while it is being read or accepted is answered 503.
    """

    def __init__(
        self,
        settings: IngestConfig,
        accept: Accept,
        counters: Counters,
        own_id: str,
        *,
        tokens: Iterable[str] = (),
        signals: Iterable[Signal] = Signal,
        keep_unreadable: KeepUnreadable | None = None,
    ) -> None:
        self._accept = accept
        self._keep_unreadable = keep_unreadable
        self._counters = counters
        self._own_id = own_id.encode()
        self._is_closed = False
        self._inflating = 0  # bodies that wait between two steps of unzipping
        self._in_flight = InFlight(settings.max_in_flight_bytes)
        self.refusals = Refusals(counters)
        self.reload(settings, tokens=tokens, signals=signals)

    @property
    def in_flight_bytes(self) -> int:
        """Bytes that have arrived of requests not yet answered, unzipped ones included."""
        return self._in_flight.bytes

    def reload(
        self, settings: IngestConfig, *, tokens: Iterable[str], signals: Iterable[Signal]
    ) -> None:
        """From the next request on, use these settings and these tokens, and take these signals."""
        self._taken = frozenset(signals)
        self._max_body_bytes = settings.max_body_bytes
        self._in_flight.max_bytes = settings.max_in_flight_bytes
        self._gate = Gate(settings, tokens=tokens, own_id=self._own_id)

    def close(self) -> None:
        """Answer every request from now on with 503: the relay stops and waits for none of them."""
        self._is_closed = True

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request with what becomes of it, or with why nothing does."""
        scope = exchange.head.scope
        if scope["method"] == "OPTIONS" and self._answer_preflight(exchange):
            return
        extra: HeaderList = ()
        arrived = Body()
        arrived.task = exchange
        try:
            response, encoding = await self._take(exchange, arrived)
        except SenderGone:
            return
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - one request's own
            if arrived.is_cut_off and isinstance(error, asyncio.CancelledError):
                error = cut_off_refusal()
            response, extra = _response_to(error)
            headers = joined(scope["headers"])
            encoding = encoding_of(headers) or Encoding.JSON
            self._note(error, response, self._gate.sender(scope, headers), scope["path"])
        finally:
            if arrived.owner:
                self._in_flight.release(arrived)
            else:
                self._in_flight.bytes -= arrived.bytes
        self._counters.requests[response.status] += 1
        if self._gate.has_origins:
            extra = (*extra, *self._gate.origins.headers(joined(scope["headers"])))
        if response.status == 503 and response == _STOPPING:
            exchange.keep_alive = False
        await exchange.drain()
        if response is SUCCESS and not extra:
            exchange.respond(200, _PLAIN[encoding], _EMPTY[encoding])
            return
        body = encode_response(response, encoding, _signal_of(scope["path"]))
        lines = _head_of(encoding, body) + _lines(extra)
        if response.status in _RETRYABLE:
            lines += _RETRY_AFTER
        exchange.respond(response.status, lines, body)

    def _note(
        self, error: BaseException, response: SenderResponse, sender: Sender, path: str
    ) -> None:
        """Tell whoever looks at the relay of a refused request."""
        message, address, agent = response.message, sender.address, sender.user_agent
        self.refusals.note(response.status, address, message, path=path, user_agent=agent)
        if response.status == 400 and not isinstance(error, AllItemsRejected):
            self.refusals.note_body(address, message, user_agent=agent)

    async def _take(self, exchange: Exchange, arrived: Body) -> tuple[SenderResponse, Encoding]:
        """Judge the request by its head, read it and hand it on. Raises Refusal."""
        verdict: _Verdict | None = exchange.head.verdict
        if verdict is None or verdict.gate is not self._gate or self._is_closed:
            exchange.head.verdict = None
            verdict = exchange.head.verdict = self._judge(exchange.head.scope)
        if exchange.announced_bytes > self._max_body_bytes:
            raise too_long(self._max_body_bytes)
        head, signal = verdict.head, verdict.signal
        arrived.sender = head.sender
        encoding = head.encoding
        try:
            body = await self._read(exchange, head.coding, arrived)
        except Refusal as refusal:
            if refusal.status == 400 and self._keep_unreadable:
                why = f"{refusal.message} (its bytes are kept as they came)"
                kept_as = encoding or Encoding.JSON
                await self._keep_unreadable(arrived.first, kept_as, head.sender, why, signal)
            raise
        if head.sender.is_connection_test and body.strip() in (b"", b"{}"):
            encoding = encoding or Encoding.JSON
            body = _EMPTY[encoding]
        elif encoding is None:
            raise wrong_type()
        self._counters.received_bytes += len(body)
        response = self._accept(body, encoding, head.sender, signal)
        del body  # `accept` lets go of it as soon as it can: large ones would be in memory twice
        return await response, encoding

    def _judge(self, scope: Any) -> _Verdict:
        """Whether a request with this head may send its body. Raises Refusal."""
        signal = _signal_at(scope)
        if signal not in self._taken:
            raise _not_taken(signal)
        if scope["method"] not in _METHODS:
            raise _wrong_method(WIRE[signal])
        if self._is_closed:
            raise Refusal(_STOPPING.message, status=503, grpc_code=14)
        return _Verdict(self._gate, self._gate.admit(scope), signal)

    async def _read(self, exchange: Exchange, coding: str, arrived: Body) -> bytes:
        """The whole body, unzipped. Raises Refusal 413, 503 or 400, and SenderGone."""
        cap_bytes = self._max_body_bytes
        body_bytes = 0
        inflater = Inflater(coding, cap_bytes) if coding else None
        while True:
            piece, exchange.at_once = exchange.at_once, b""
            if not piece:
                piece = await exchange.read()
            arrived.is_whole = is_whole = exchange.is_whole
            body_bytes += len(piece)
            if body_bytes > cap_bytes:
                raise too_long(cap_bytes)
            self._hold(arrived, len(piece))
            if coding and not arrived.first:
                arrived.first = piece[:UNREADABLE_BODY_BYTES]
            if inflater is None:
                if is_whole:
                    return piece  # nearly always: a body that came in one piece is not copied
                inflater = Inflater("", cap_bytes)
            await self._inflate(inflater, piece, arrived, is_plain=not coding)
            if is_whole:
                return inflater.finish()

    async def _inflate(
        self, inflater: Inflater, piece: bytes, arrived: Body, *, is_plain: bool
    ) -> None:
        """Unzip a piece; what comes out counts as in memory, and others have their turn.

        Those have half of the time at least, however many large bodies are being unzipped: 65 kB
        take 0.2 s.
        """
        known_bytes = inflater.inflated_bytes
        began = time.perf_counter()
        for _ in inflater.steps(piece):
            self._hold(arrived, inflater.inflated_bytes - known_bytes)
            known_bytes = inflater.inflated_bytes
            self._inflating += 1
            try:
                await asyncio.sleep((time.perf_counter() - began) * self._inflating)
            finally:
                self._inflating -= 1
            began = time.perf_counter()
        if not is_plain:
            self._hold(arrived, inflater.inflated_bytes - known_bytes)

    def _hold(self, arrived: Body, more_bytes: int) -> None:
        """Count `more_bytes` of a request as in memory. Raises Refusal 503 if there is no room."""
        in_flight = self._in_flight
        held_bytes = arrived.bytes + more_bytes
        is_passing = arrived.is_whole and held_bytes <= UNLISTED_BYTES and not arrived.owner
        if is_passing and in_flight.bytes + more_bytes <= in_flight.max_bytes // 2:
            arrived.bytes = held_bytes
            in_flight.bytes += more_bytes
        else:
            in_flight.hold(arrived, more_bytes)

    def _answer_preflight(self, exchange: Exchange) -> bool:
        """Answer a CORS preflight, if this is one and CORS is on; whether it was."""
        scope = exchange.head.scope
        headers = joined(scope["headers"])
        allowed = self._gate.origins.preflight(scope["method"], headers)
        if allowed is None:
            return False
        if not grants(allowed):
            sender = self._gate.sender(scope, headers)
            self.refusals.note_origin(sender.address, headers[b"origin"].decode("latin-1"))
        exchange.respond(204, _lines(allowed), b"")
        return True


def _lines(headers: HeaderList) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def _head_of(encoding: Encoding, body: bytes) -> bytes:
    media_type = encoding.media_type.encode()
    return _lines(((b"content-type", media_type), (b"content-length", b"%d" % len(body))))


_PLAIN: Final = {encoding: _head_of(encoding, body) for encoding, body in _EMPTY.items()}


def _signal_at(scope: Any) -> Signal:
    """What is posted to the request's path. Raises Refusal where that is none of the three."""
    path = scope["path"]
    signal = SIGNALS.get(path)
    if signal is not None:
        return signal
    path = collapsed(path)
    signal = SIGNALS.get(path.removesuffix("/"))
    if signal is not None:
        return signal
    if path == "/" and scope["method"] not in _METHODS:
        raise _wrong_method(TRACES)
    if path.rstrip("/") == _PROFILES:
        message = "this relay takes no profiles; turn their exporter off in the sender"
        raise Refusal(message, status=404, grpc_code=12)
    raise Refusal(not_found(path), status=404, grpc_code=12)


def _signal_of(path: str) -> Signal:
    """What is posted to a path; traces where it is none of the three."""
    return SIGNALS.get(path) or SIGNALS.get(collapsed(path).removesuffix("/"), Signal.TRACES)


def _not_taken(signal: Signal) -> Refusal:
    word = signal.word
    return Refusal(
        f'no destination of this relay takes {word}: add "{word}" to the signals of one, or to '
        f"ingest.signals, or turn the exporter off with OTEL_{word.upper()}_EXPORTER=none",
        status=404,
        grpc_code=12,
    )


def _wrong_method(wire: SignalWire) -> Refusal:
    return HttpRefusal(
        f"send {wire.items} by POST (or PUT) to {wire.path}; web pages need their origin in "
        "ingest.cors_origins",
        status=405,
        grpc_code=12,
        headers=_ALLOW,
    )


def _response_to(error: BaseException) -> tuple[SenderResponse, HeaderList]:
    """What the sender is told when nothing of the request was kept, and the headers it needs."""
    if isinstance(error, Refusal):
        response = SenderResponse(error.status, error.message, grpc_code=error.grpc_code)
        return response, error.headers if isinstance(error, HttpRefusal) else ()
    if isinstance(error, BufferFailure):
        return SenderResponse(503, error.message, grpc_code=14), ()
    if isinstance(error, asyncio.CancelledError):
        # Only the listener cancels, when it can wait no longer; the sender sends once more.
        return _STOPPING, ()
    # Where it happened, but not the error's text: that may quote the body.
    frames = "".join(traceback.format_tb(error.__traceback__))
    if isinstance(error, MemoryError):
        log.error("out_of_memory", frames=frames)
        return SenderResponse(503, "the relay is out of memory; retry", grpc_code=14), ()
    log.error("request_failed", error=type(error).__name__, frames=frames)
    return SenderResponse(500, "internal error; see the relay's log", grpc_code=13), ()
