"""A response that goes on: named server-sent events, each as soon as it happens.

A page reads it by `fetch`, since a browser's own `EventSource` cannot send a token. A comment every
15 seconds shows that the connection lives. It ends when its source does, or when whoever reads has
gone; a watcher that does not read is dropped (`view.events`).
"""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

import anyio
import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relay.admin.api import SECURITY_HEADERS
from relay.doctor.report import Step
from relay.model.errors import RelayError
from relay.model.records import Signal
from relay.view.events import Event, EventSink, EventSource, Hub, Watcher, pipe

KEEP_ALIVE_SECONDS: Final = 15.0


class EventStream(Response):
    """Everything that comes out of `source`; `work` fills it, if it is given, and then ends it."""

    media_type = "text/event-stream"

    def __init__(
        self, source: EventSource, work: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        super().__init__(headers=SECURITY_HEADERS)
        del self.headers["content-length"]
        self._source = source
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until whoever reads has gone."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with self._source:
            is_whole = scope["method"] == "HEAD" or await self._stream(receive, send)
        if is_whole:  # else nobody reads, and to send would wait
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, receive: Receive, send: Send) -> bool:
        """Whether the source came to its end."""
        is_whole = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
            self._begin(tasks.cancel_scope)
            if self._work is not None:
                tasks.start_soon(self._work)
            await self._send_all(send)
            is_whole = True
            tasks.cancel_scope.cancel()
        return is_whole

    def _begin(self, scope: anyio.CancelScope) -> None:
        """Called before the first event; `scope` ends the stream."""

    async def _send_all(self, send: Send) -> None:
        number = 0
        while True:
            event = None
            try:
                with anyio.move_on_after(KEEP_ALIVE_SECONDS):
                    event = await self._source.receive()
            except anyio.EndOfStream:
                return
            number += 1
            body = encoded(event, number) if event else b": still here\n\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})


class Watching(EventStream):
    """What happens from now on, for as long as the watcher reads. Raises TooManyStreams."""

    def __init__(self, hub: Hub, first: Event) -> None:
        self._watcher: Watcher = hub.watch()
        super().__init__(self._watcher.source)
        self._watcher.tell(first)

    def _begin(self, scope: anyio.CancelScope) -> None:
        self._watcher.drop = scope.cancel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As any; afterwards there is room for another."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._watcher.end()


def encoded(event: Event, number: int) -> bytes:
    """An event as it goes over the wire: JSON has no line breaks of its own."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (
        number,
        event.name.encode(),
        msgspec.json.encode(event.data),
    )


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def streamed(work: Callable[[EventSink], Awaitable[Any]]) -> EventStream:
    """A stream of what `work` tells, with its result as the event `done`, or as `failed` why."""
    sink, source = pipe()
    return EventStream(source, partial(_work, work, sink))


def tell_step(sink: EventSink, signal: Signal, step: Step) -> None:
    """A step of a test, as an event."""
    sink.send_nowait(Event("step", {"signal": signal.word, **msgspec.to_builtins(step)}))


async def _work(work: Callable[[EventSink], Awaitable[Any]], sink: EventSink) -> None:
    with sink:
        try:
            sink.send_nowait(Event("done", await work(sink)))
        except RelayError as error:
            sink.send_nowait(Event("failed", {"error": str(error)}))
