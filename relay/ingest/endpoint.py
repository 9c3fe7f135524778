"""OTLP over HTTP: one request is answered exactly once, in the sender's encoding.

The endpoints are ASGI callables, not functions of Starlette's Request: making Request and
Response objects would cost more than everything that is done here.
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from relay.config import IngestConfig
from relay.ingest.browsers import HeaderList, grants
from relay.ingest.head import (
    Gate,
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

log = structlog.stdlib.get_logger(__name__)

Accept = Callable[[bytes, Encoding, Sender, Signal], Awaitable[SenderResponse]]
KeepUnreadable = Callable[[bytes, Encoding, Sender, str, Signal], Awaitable[None]]

SIGNALS: Final = {wire.path: wire.signal for wire in WIRE.values()}
_METHODS: Final = ("POST", "PUT")
_ALLOW: Final = ((b"allow", b"POST, PUT"),)
_CLOSE: Final = ((b"connection", b"close"),)
# Always one second: stock exporters drop the batch at once when told to wait longer than they may.
_RETRY_AFTER: Final = (b"retry-after", b"1")
_RETRYABLE: Final = frozenset({429, 503})
# A message without any member: an empty request, and what nearly every request is answered.
_EMPTY: Final = {Encoding.JSON: b"{}", Encoding.PROTOBUF: b""}
_PLAIN_START: Final = {
    encoding: {
        "type": "http.response.start",
        "status": 200,
        "headers": (
            (b"content-type", encoding.media_type.encode()),
            (b"content-length", b"%d" % len(body)),
        ),
    }
    for encoding, body in _EMPTY.items()
}
_PROFILES: Final = "/v1development/profiles"


class SenderGone(Exception):
    """The connection ended before the body was whole: there is nobody to response."""


class Ingest:
    """The way in over HTTP: itself the ASGI app for the listener; `app` are its routes.

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
        endpoint = _Endpoint(self, self._take)
        self.app = Starlette(routes=[Route(path, endpoint) for path in SIGNALS])
        self.app.router.redirect_slashes = False
        self.app.router.default = _Endpoint(self, self._take_elsewhere)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app for the listener.

        What nearly every request is goes past the router and the middleware around it: they cost
        a tenth of a small request, and `respond` answers for every exception by itself.
        """
        if scope["type"] == "http" and scope["path"] in SIGNALS and scope["method"] == "POST":
            await self.respond(self._take, scope, receive, send)
        else:
            await self.app(scope, receive, send)

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

    async def respond(self, take: "Take", scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with what `take` returns or raises."""
        extra: HeaderList = ()
        arrived = Body()
        try:
            response, encoding = await take(scope, receive, arrived)
        except SenderGone:
            return
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - one request's own
            if arrived.is_cut_off and isinstance(error, asyncio.CancelledError):
                error = _cut_off()
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
        if response is SUCCESS and not extra:
            await send(_PLAIN_START[encoding])
            await send({"type": "http.response.body", "body": _EMPTY[encoding]})
            return
        await _send(send, response, encoding, extra, _signal_of(scope["path"]))

    def _note(
        self, error: BaseException, response: SenderResponse, sender: Sender, path: str
    ) -> None:
        """Tell whoever looks at the relay of a refused request."""
        message, address, agent = response.message, sender.address, sender.user_agent
        self.refusals.note(response.status, address, message, path=path, user_agent=agent)
        if response.status == 400 and not isinstance(error, AllItemsRejected):
            self.refusals.note_body(address, message, user_agent=agent)

    async def _take(
        self, scope: Scope, receive: Receive, arrived: Body
    ) -> tuple[SenderResponse, Encoding]:
        """Judge the request by its head, read it and hand it on. Raises Refusal."""
        signal = _signal_of(scope["path"])
        if signal not in self._taken:
            raise _not_taken(signal)
        if scope["method"] not in _METHODS:
            raise _wrong_method(WIRE[signal])
        if self._is_closed:
            stopping = _stopping()
            raise HttpRefusal(stopping.message, status=503, grpc_code=14, headers=_CLOSE)
        head = self._gate.admit(scope)
        arrived.sender = head.sender
        encoding = head.encoding
        try:
            body = await self._read(receive, head.coding, arrived)
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

    async def _read(self, receive: Receive, coding: str, arrived: Body) -> bytes:
        """The whole body, unzipped. Raises Refusal 413, 503 or 400, and SenderGone."""
        cap_bytes = self._max_body_bytes
        body_bytes = 0
        inflater = Inflater(coding, cap_bytes) if coding else None
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise SenderGone
            piece: bytes = message.get("body", b"")
            has_more = message.get("more_body", False)
            body_bytes += len(piece)
            if body_bytes > cap_bytes:
                raise too_long(cap_bytes)
            arrived.is_whole = not has_more
            self._hold(arrived, len(piece))
            if coding and not arrived.first:
                arrived.first = piece[:UNREADABLE_BODY_BYTES]
            if inflater is None:
                if not has_more:
                    return piece  # nearly always: a body that came in one piece is not copied
                inflater = Inflater("", cap_bytes)
            await self._inflate(inflater, piece, arrived, is_plain=not coding)
            if not has_more:
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

    async def _take_elsewhere(
        self, scope: Scope, receive: Receive, arrived: Body
    ) -> tuple[SenderResponse, Encoding]:
        """Any path but a right one, which may be meant. Raises Refusal."""
        path = collapsed(scope["path"])
        if path.removesuffix("/") in SIGNALS:
            return await self._take(scope, receive, arrived)
        if path == "/" and scope["method"] not in _METHODS:
            raise _wrong_method(TRACES)
        if path.rstrip("/") == _PROFILES:
            message = "this relay takes no profiles; turn their exporter off in the sender"
            raise Refusal(message, status=404, grpc_code=12)
        raise Refusal(not_found(path), status=404, grpc_code=12)

    async def answer_preflight(self, scope: Scope, send: Send) -> bool:
        """Answer a CORS preflight, if this is one and CORS is on; whether it was."""
        headers = joined(scope["headers"])
        allowed = self._gate.origins.preflight(scope["method"], headers)
        if allowed is None:
            return False
        if not grants(allowed):
            sender = self._gate.sender(scope, headers)
            self.refusals.note_origin(sender.address, headers[b"origin"].decode("latin-1"))
        await send({"type": "http.response.start", "status": 204, "headers": list(allowed)})
        await send({"type": "http.response.body"})
        return True


Take = Callable[[Scope, Receive, Body], Awaitable[tuple[SenderResponse, Encoding]]]


class _Endpoint:
    """An ASGI callable for Starlette's router."""

    def __init__(self, ingest: Ingest, take: Take) -> None:
        self._ingest = ingest
        self._take = take

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS" and await self._ingest.answer_preflight(scope, send):
            return
        await self._ingest.respond(self._take, scope, receive, send)


async def _send(
    send: Send, response: SenderResponse, encoding: Encoding, extra: HeaderList, signal: Signal
) -> None:
    body = encode_response(response, encoding, signal)
    headers = [
        (b"content-type", encoding.media_type.encode()),
        (b"content-length", b"%d" % len(body)),
        *extra,
    ]
    if response.status in _RETRYABLE:
        headers.append(_RETRY_AFTER)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _cut_off() -> Refusal:
    """What a request is answered that was cancelled to make room, not since the relay stops."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
    return cut_off_refusal()


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


def _stopping() -> SenderResponse:
    return SenderResponse(503, "the relay is stopping; retry", grpc_code=14)


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
        # Only the listener cancels, when it can wait no longer: uvicorn would write a 500,
        # which is final for the sender; after this it sends once more.
        return _stopping(), _CLOSE
    # Where it happened, but not the error's text: that may quote the body.
    frames = "".join(traceback.format_tb(error.__traceback__))
    if isinstance(error, MemoryError):
        log.error("out_of_memory", frames=frames)
        return SenderResponse(503, "the relay is out of memory; retry", grpc_code=14), ()
    log.error("request_failed", error=type(error).__name__, frames=frames)
    return SenderResponse(500, "internal error; see the relay's log", grpc_code=13), ()
