"""One request and its response without ASGI: its handler runs from where the request came.

An ASGI app has a task for each request, which starts in a later turn of the event loop, and hears
of the body and tells its response by messages in dictionaries: that costs more than everything that
is done with a small request. Here the handler's coroutine is begun by the connection as soon as a
head has come, with what came of the body, and goes on from the callback of the future that it
waits for.

A sender says the same head again and again, but for its Content-Length. So a connection remembers
the last one byte by byte: while the same comes, nothing is parsed and nothing judged again.

`ExchangeConnection` holds every limit of `LimitedProtocol`, to which an exchange is what uvicorn
calls a cycle.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, MutableMapping
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from relay.server.connection import LimitedProtocol, LimitPassed, Phase
from relay.server.shares import SharedState

Scope = MutableMapping[str, Any]

_WAITING: Final = Phase.WAITING
_MOST_REMEMBERED_BYTES: Final = 2048  # of a head; thousands of connections remember one each
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: ?([0-9]{1,15})\r\n")
_MOST_DIGITS: Final = 15


class SenderGone(Exception):
    """The connection ended before the body was whole: there is nobody to answer."""


class Handler(ABC):
    """Answers requests. Given to a listener in place of an ASGI app."""

    @abstractmethod
    async def answer(self, exchange: "Exchange") -> None:
        """Read the exchange's request and `respond` to it.

        No task runs it: it may await futures of the event loop, locks and sleeping, and nothing
        that asks for the current task. When it is cancelled it may still respond.
        """


class Head:
    """What stands before a body: ASGI's `scope`. One for all requests of a connection that repeat
    it byte by byte but for its length; `verdict` is for the handler, which may keep there what it
    made of an earlier one.
    """

    __slots__ = ("is_continue_awaited", "is_kept_alive", "scope", "verdict")

    def __init__(self, scope: Scope, *, is_kept_alive: bool, is_continue_awaited: bool) -> None:
        self.scope = scope
        self.is_kept_alive = is_kept_alive
        self.is_continue_awaited = is_continue_awaited
        self.verdict: Any = None


class Exchange:
    """One request, what has come of its body, and its response."""

    # `keep_alive`, `disconnected`, `response_started`, `response_complete`, `transport` and
    # `message_event` are uvicorn's words: its connection reads and sets them.
    __slots__ = (
        "_callbacks",
        "_connection",
        "_coroutine",
        "_is_cancelled",
        "_is_continue_awaited",
        "_news",
        "_pieces",
        "_waits_for",
        "announced_bytes",
        "at_once",
        "disconnected",
        "head",
        "is_whole",
        "keep_alive",
        "response_complete",
        "transport",
        "unread_bytes",
    )

    response_started: Final = False  # it is written whole, and is complete then

    def __init__(self, connection: "ExchangeConnection", head: Head, announced_bytes: int) -> None:
        self.head = head
        self.announced_bytes = announced_bytes
        """Its Content-Length, 0 without one. A `head` that is repeated has the first one's."""
        self.keep_alive = head.is_kept_alive
        self.disconnected = False
        self.response_complete = False
        self.transport = connection.transport
        self.is_whole = False
        """Whether the last byte of the body has come."""
        self.at_once = b""
        """A body that came in one piece with its head: who takes it from here need not `read`."""
        self.unread_bytes = 0
        self._connection = connection
        self._is_continue_awaited = head.is_continue_awaited
        self._pieces: list[bytes] = []
        self._news: asyncio.Future[None] | None = None
        self._coroutine: Coroutine[Any, None, None] | None = None
        self._waits_for: asyncio.Future[Any] | None = None
        self._is_cancelled = False
        self._callbacks: list[Callable[[Any], object]] = []

    # -- for the handler ----------------------------------------------------------------------

    async def read(self) -> bytes:
        """What has come of the body since the last call; `is_whole` tells whether that is the end.

        Raises SenderGone.
        """
        flow = self._connection.flow
        if self._is_continue_awaited and not self.transport.is_closing():
            self._is_continue_awaited = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._pieces and not self.is_whole and not self.disconnected:
            flow.resume_reading()
            self._news = self._connection.loop.create_future()
            await self._news
        if self.disconnected:
            raise SenderGone
        pieces, self._pieces, self.unread_bytes = self._pieces, [], 0
        if flow.read_paused:
            flow.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def drain(self) -> None:
        """Return once the sender reads its responses: before that there should be no more."""
        flow = self._connection.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Write the response: `headers` are whole lines, its Content-Length among them."""
        connection = self._connection
        if self.disconnected or connection.transport.is_closing():
            return
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        if self.head.scope["method"] == "HEAD":
            body = b""
        date = connection.server_state.date
        self.transport.write(b"".join((STATUS_LINE[status], date, headers, end, body)))
        self.response_complete = True
        self._pieces, self.unread_bytes = [], 0  # what was not read is not wanted
        if not self.keep_alive:
            self.transport.close()
        connection.on_response_complete()

    # -- for the connection -------------------------------------------------------------------

    def begin(self, handler: Handler) -> None:
        """Have it answered, as far as that goes without waiting."""
        if self.disconnected:
            return
        self._coroutine = handler.answer(self)
        self._go_on()
        if self._coroutine is not None:
            tasks = cast("set[Exchange]", self._connection.tasks)
            tasks.add(self)
            self._callbacks.append(tasks.discard)

    def take(self, piece: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(piece)
        self.unread_bytes += len(piece)
        self.set()

    def end(self) -> None:
        """The body is whole."""
        self.is_whole = True
        self.set()

    @property
    def message_event(self) -> "Exchange":
        """What uvicorn's connection tells that there is news."""
        return self

    def set(self) -> None:
        """There is news for who waits in `read`."""
        news = self._news
        if news is not None:
            self._news = None
            if not news.done():
                news.set_result(None)

    # -- as much of a task as the listener and `InFlight` ask for -------------------------------

    def cancel(self) -> None:
        """Raise CancelledError where the handler waits."""
        waits_for = self._waits_for
        if self._coroutine is not None and not (waits_for is not None and waits_for.cancel()):
            self._is_cancelled = True

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call it when the handler has returned."""
        self._callbacks.append(callback)

    def _go_on(self, _done: object = None) -> None:
        coroutine = self._coroutine
        if coroutine is None:
            return
        self._waits_for = None
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                waits_for = coroutine.throw(asyncio.CancelledError())
            else:
                waits_for = coroutine.send(None)
        except StopIteration:
            self._finish()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - one request's own
            self._finish(error)
        else:
            if waits_for is None:  # so a coroutine gives others their turn
                self._connection.loop.call_soon(self._go_on)
                return
            waits_for._asyncio_future_blocking = False  # noqa: SLF001 - that it was awaited, as a task says it
            waits_for.add_done_callback(self._go_on)
            self._waits_for = waits_for

    def _finish(self, error: BaseException | None = None) -> None:
        self._coroutine = None
        for callback in self._callbacks:
            callback(self)
        transport = self._connection.transport
        if not self.response_complete and not self.disconnected and not transport.is_closing():
            transport.abort()  # else its sender would wait for ever
        if isinstance(error, Exception):
            said = {"message": "a handler of requests failed", "exception": error}
            self._connection.loop.call_exception_handler(said)


class _Remembered:
    """A head as it stood on the wire, without the digits of its Content-Length."""

    __slots__ = ("after", "before", "head", "is_repeated")

    def __init__(self, head: Head, before: bytes, after: bytes) -> None:
        self.head = head
        self.before = before
        self.after = after
        self.is_repeated = False

    def match(self, data: bytes, start: int) -> tuple[int, int]:
        """Where the body begins if this head stands at `start`, and its length; else 0, 0."""
        if data.startswith(self.before, start):
            start += len(self.before)
            end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
            if end > start and data.startswith(self.after, end) and data[start:end].isdigit():
                self.is_repeated = True
                return end + len(self.after), int(data[start:end])
        return 0, 0


class ExchangeConnection(LimitedProtocol):
    """One connection whose requests are exchanges that `config.app`, a `Handler`, answers."""

    server_state: SharedState
    cycle: Exchange  # type: ignore[assignment]  # uvicorn makes others; None until the first

    def __init__(self, config: Config, server_state: SharedState, **named: Any) -> None:
        super().__init__(config, server_state, **named)
        self._handler = cast("Handler", config.app)
        self._begun: Exchange | None = None  # its head came in the piece that is being parsed
        self._remembered: _Remembered | None = None
        self._left_bytes = 0  # of a body behind a remembered head

    def data_received(self, data: bytes) -> None:
        """Take what needs no parser, and have the rest parsed."""
        if self._remembered is not None:
            data = self._take_remembered(self._remembered, data)
        if data:
            is_at_rest = self._phase is _WAITING
            super().data_received(data)
            exchange, self._begun = self._begun, None
            if exchange is not None:
                if is_at_rest and exchange is self.cycle:
                    self._note_head(data, exchange)
                self._begin(exchange)
        latest: Exchange | None = self.cycle
        if latest is not None and latest.unread_bytes > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the exchanges, which hold it: a ring would wait for the collector."""
        super().connection_lost(exc)
        self.cycle = self._answering = self._begun = None  # type: ignore[assignment]
        self.pipeline.clear()

    def _note_head(self, data: bytes, exchange: Exchange) -> None:
        """Remember the head at the beginning of `data`, but not each of a sender that never repeats
        one.
        """
        remembered = self._remembered
        if exchange.announced_bytes and (remembered is None or remembered.is_repeated):
            self._remembered = _remember(data, exchange.head)

    def _begin(self, exchange: Exchange) -> None:
        """Begin an exchange, where more of its body may come at once in the loop's next turn."""
        if exchange.is_whole:
            exchange.begin(self._handler)
        else:
            self.loop.call_soon(exchange.begin, self._handler)

    def _take_remembered(self, remembered: _Remembered, data: bytes) -> bytes:
        """Take the rest of a body, and one request behind the head that came before; what is left
        for the parser, which queues what comes in a row.
        """
        at = self._take_piece(data, 0) if self._left_bytes else 0
        is_answered = self._phase is _WAITING and self.cycle.response_complete
        if not is_answered or remembered.head.verdict is None or self.transport.is_closing():
            return data[at:]
        body_at, length = remembered.match(data, at)
        if not body_at:
            return data[at:]
        exchange = self.cycle = Exchange(self, remembered.head, length)
        at = body_at + length
        if at <= len(data):
            self._answering = exchange
            exchange.keep_alive = not self._is_parting
            exchange.at_once, exchange.is_whole = data[body_at:at], True
        else:
            self._enter_body()
            self._left_bytes = length
            self._take_piece(data, body_at)
        self._begin(exchange)
        return data[at:]

    def _take_piece(self, data: bytes, at: int) -> int:
        """Take what stands at `at` of a body behind a remembered head; where it ends."""
        piece = data[at : at + self._left_bytes]
        self._left_bytes -= len(piece)
        try:
            if piece:
                self.on_body(piece)
            if not self._left_bytes:
                self.on_message_complete()
        except LimitPassed:
            return len(data)  # it is closed
        return at + len(piece)

    def _make_cycle(self) -> None:
        """Begin an exchange, or queue it behind the one that is being answered."""
        version, url = self.parser.get_http_version(), httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope = cast("Scope", self.scope)
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["query_string"] = url.query or b""
        head = Head(
            scope,
            is_kept_alive=version != "1.0" and self.parser.should_keep_alive(),
            is_continue_awaited=self.expect_100_continue,
        )
        before: Exchange | None = self.cycle
        self.cycle = Exchange(self, head, _announced_bytes(scope))
        if before is None or before.response_complete:
            self._begun = self.cycle
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cast("Any", self.cycle), self.app))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Begin an exchange that was queued: in the loop's next turn, for there may be many."""
        del app
        self.loop.call_soon(cycle.begin, self._handler)

    def _take_body(self, body: bytes) -> None:
        self.cycle.take(body)

    def _end_body(self) -> None:
        self.cycle.end()


def _remember(data: bytes, head: Head) -> _Remembered | None:
    """The head at the beginning of `data`, if its lines are those that the parser read, one by one:
    whatever only looks like one must not decide where a body ends.
    """
    raw = data[: data.find(b"\r\n\r\n") + 4]
    lengths = list(_LENGTH.finditer(raw))
    headers = head.scope["headers"]
    if (
        len(raw) > _MOST_REMEMBERED_BYTES
        or len(lengths) != 1
        or not head.is_kept_alive
        or head.is_continue_awaited
        or [_header(line) for line in raw[:-4].split(b"\r\n")[1:]] != headers
        or [value for name, value in headers if name == b"content-length"] != [lengths[0][1]]
        or any(name == b"transfer-encoding" for name, _ in headers)
    ):
        return None
    return _Remembered(head, raw[: lengths[0].start(1)], raw[lengths[0].end(1) :])


def _announced_bytes(scope: Scope) -> int:
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")
