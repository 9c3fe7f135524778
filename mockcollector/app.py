"""An HTTP request in, the answer of a strict OTLP/HTTP receiver out, as an ASGI app.

The order of checks: path, method, required headers, Content-Type, Content-Encoding, length, body,
decompression, decoding, items. The first that fails answers; what passes all of them gets its
answer from the script. Before an answer is sent the journal has it, so whoever reads the answer
can ask.

The rules of a vendor change what is refused and the words of it, not the order.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

import anyio

from mockcollector.answers import error_body, success_body
from mockcollector.content import (
    check_length,
    check_required_headers,
    find_coding,
    find_encoding,
    too_large,
    unpack,
)
from mockcollector.decoding import decode, decode_counts
from mockcollector.gate import Gate
from mockcollector.journal import Journal
from mockcollector.received import ReceivedRequest
from mockcollector.rules import Cause, Encoding, Payload, Refused, Rules
from mockcollector.script import OK, Script
from mockcollector.script_values import Answer, Ending
from mockcollector.signals import Signal

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

TRANSPORT_EXTENSION = "mockcollector.transport"
"""The ASGI extension by which the server hands over the connection, for answers that cut it."""


class ClientLeftError(Exception):
    """The sender closed the connection before its request was complete."""


class Connection(Protocol):
    """What cutting needs of a transport."""

    def write(self, data: bytes, /) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def abort(self) -> None: ...  # noqa: D102


class CollectorApp:
    """The collector without its server. `gate` is set by the server for each of its runs.

    `rules` are those of each signal that is taken; the path says which one a request is of.
    `on_request` is called in the server's thread for every request once its answer is known.
    """

    def __init__(
        self,
        rules: Mapping[Signal, Rules],
        script: Script,
        journal: Journal,
        on_request: Callable[[ReceivedRequest], None] | None = None,
    ) -> None:
        self.rules = dict(rules)
        self.script = script
        self.journal = journal
        self.gate = Gate()
        self._on_request = on_request
        self._by_path = {
            path: signal
            for signal, each in rules.items()
            for path in (each.path, *each.protobuf_paths)
        }

    async def wait_until_stopping(self) -> None:
        """Return when this run of the server ends."""
        await self.gate.wait_until_closed()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request: the ASGI interface. Raises RuntimeError for other protocols."""
        if scope["type"] != "http":
            raise RuntimeError(f"not an HTTP request: {scope['type']}")
        request = ReceivedRequest(
            received_unix_nano=time.time_ns(),
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]),
        )
        request.signal = self._by_path.get(request.path)
        rules = self.rules[request.signal or next(iter(self.rules))]
        # What the sender meant, also where this vendor does not take it.
        request.encoding = find_encoding(request.headers, rules) or find_encoding(
            request.headers, Rules()
        )
        exchange = _Exchange(self, rules, request, scope, receive, send)
        try:
            if request.signal is None:
                raise Refused(404, self._where_signals_go(), cause=Cause.PATH)
            await self._take(request, request.signal, rules, receive)
        except ClientLeftError:
            self.journal.arrive(request)
            self.settle(request, status=None, answer="client left")
        except Refused as refusal:
            self.journal.arrive(request)
            await exchange.refuse(refusal)
        else:
            self.journal.arrive(request)
            await exchange.give(self.script.take())

    def settle(self, request: ReceivedRequest, **outcome: Any) -> None:
        """Enter the outcome in the journal and tell the observer."""
        self.journal.settle(request, **outcome)
        if self._on_request is not None:
            self._on_request(request)

    def _where_signals_go(self) -> str:
        paths = ", ".join(f"{signal} to {rules.path}" for signal, rules in self.rules.items())
        return f"nothing is here; send {paths}"

    async def _take(
        self, request: ReceivedRequest, signal: Signal, rules: Rules, receive: Receive
    ) -> None:
        if rules.closed is not None:
            raise Refused(404, f"{signal} are not taken here").worded(rules.closed)
        if request.method != "POST":
            raise Refused(
                405,
                f"{request.method} is not POST, the one method here",
                cause=Cause.METHOD,
                headers={"allow": "POST"},
            )
        check_required_headers(request.headers, rules)
        encoding = find_encoding(request.headers, rules)
        if encoding is None or (request.path in rules.protobuf_paths and encoding is Encoding.JSON):
            raise Refused(415, _type_demand(rules, request.path), cause=Cause.MEDIA_TYPE)
        request.content_encoding = find_coding(request.headers, rules)
        limit_bytes = rules.max_body_bytes
        check_length(request.headers, limit_bytes)
        body = await _read_body(request, receive, limit_bytes)
        body = unpack(body, request.content_encoding, limit_bytes)
        request.decoded_bytes = len(body)
        is_kept = self.journal.keep == "spans"
        request.body = body
        read = decode if is_kept or rules.checks else decode_counts
        decoded = read(body, encoding, signal, rules)
        request.unknown_keys = decoded.unknown_keys
        request.flaws = decoded.flaws
        if is_kept:
            request.message = decoded.message
        request.span_ids = decoded.span_ids
        request.item_count = decoded.count
        if decoded.message is not None:
            payload = Payload(body, encoding, decoded.count, decoded.message)
            for check in rules.checks:
                check(payload)


def _type_demand(rules: Rules, path: str) -> str:
    """What a Content-Type must be; the one that came is not quoted."""
    types = [
        name
        for name, encoding in rules.media_types.items()
        if encoding is Encoding.PROTOBUF or path not in rules.protobuf_paths
    ]
    return (
        f"Content-Type is not {types[0]}"
        if len(types) == 1
        else (f"Content-Type is neither {' nor '.join(types)}")
    )


async def _read_body(request: ReceivedRequest, receive: Receive, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientLeftError
        chunk = event.get("body", b"")
        request.wire_bytes += len(chunk)
        if request.wire_bytes > limit_bytes:
            raise too_large(limit_bytes)
        chunks.append(chunk)
        if not event.get("more_body", False):
            return b"".join(chunks)


class _Exchange:
    """The answering half of one request."""

    def __init__(
        self,
        app: CollectorApp,
        rules: Rules,
        request: ReceivedRequest,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._app = app
        self._rules = rules
        self._request = request
        self._scope = scope
        self._receive = receive
        self._send = send
        # A Status for a request of unknown encoding is written in JSON.
        self._encoding = request.encoding or Encoding.JSON

    async def refuse(self, refusal: Refused) -> None:
        """Answer a request that broke a rule, in the vendor's words where it has its own."""
        if refusal.cause is not Cause.HEADER:  # a header's rule has said it already
            refusal = refusal.worded(self._rules.wordings.get(refusal.cause))
        match refusal.body:
            case None:
                body, content_type = error_body(
                    self._rules.errors,
                    self._encoding,
                    refusal.status,
                    refusal.message,
                    refusal.violations,
                )
            case str():
                body, content_type = refusal.body.encode(), "text/plain; charset=utf-8"
            case _:
                body, content_type = json.dumps(refusal.body).encode(), "application/json"
        self._app.settle(
            self._request,
            status=refusal.status,
            answer=str(refusal.status),
            accepted=refusal.stored,
            reason=refusal.message,
        )
        headers = {"content-type": content_type, **refusal.headers}
        await self._respond(refusal.status, headers, body)

    async def give(self, answer: Answer) -> None:
        """Do what the script says."""
        gate = self._app.gate
        released = gate.current
        is_held = answer.delay_seconds > 0 or answer.ending is Ending.HANG
        if answer.delay_seconds:
            with anyio.move_on_after(answer.delay_seconds):
                await released.wait()
        if answer.ending is Ending.HANG and not gate.is_closed:
            if await self._is_left_before(released):
                self._app.settle(self._request, status=None, answer="hang: client left")
                return
            answer = OK
        if is_held and gate.is_closed:
            self._app.settle(self._request, status=None, answer="collector stopped")
            await self._close_connection(b"")
            return
        await self._finish(answer)

    async def _finish(self, answer: Answer) -> None:
        request, rules = self._request, self._rules
        if answer.status == 200 and rules.success_status != 200:
            answer = replace(answer, status=rules.success_status)  # how this vendor says 200
        taken = max(0, request.item_count - answer.rejected_spans) if answer.is_success else 0
        headers, body = self._render(answer)
        is_answered = answer.ending is Ending.ANSWER
        self._app.settle(
            request,
            status=answer.status if is_answered else None,
            answer=str(answer),
            accepted=range(taken),
            reason="" if answer.is_success else "by the script",
        )
        if is_answered:
            await self._respond(answer.status, headers, body)
        elif answer.ending is Ending.CUT:
            await self._close_connection(b"")
        else:
            await self._close_connection(_part_of_answer(answer.status, headers, body))

    def _render(self, answer: Answer) -> tuple[dict[str, str], bytes]:
        content_type = self._encoding.media_type
        match answer.body:
            case None if answer.is_success:
                body = self._success(answer)
            case None:
                message = answer.message or f"scripted answer {answer.status}"
                body, content_type = error_body(
                    self._rules.errors, self._encoding, answer.status, message
                )
            case bytes():
                body = answer.body
            case str():
                body = answer.body.encode()
            case _:
                body, content_type = json.dumps(answer.body).encode(), "application/json"
        headers = {"content-type": answer.content_type or content_type}
        if self._rules.bare_success and answer.is_success and not body:
            headers = {}
        retry_after = answer.retry_after_text()
        if retry_after is not None:
            headers["retry-after"] = retry_after
        headers |= {name.lower(): value for name, value in answer.headers.items()}
        return headers, body

    def _success(self, answer: Answer) -> bytes:
        is_full = not answer.rejected_spans and not answer.message
        if self._rules.bare_success and is_full:
            return b""
        return success_body(
            self._encoding,
            self._request.signal or Signal.TRACES,
            rejected=answer.rejected_spans,
            message=answer.message,
            empty_partial=self._rules.empty_partial,
        )

    async def _respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
        # These two have no body (RFC 9110 15.3.5, 15.4.5), whatever the script says.
        if status in {204, 304}:
            body = b""
            headers.pop("content-type", None)
        else:
            headers["content-length"] = str(len(body))
        headers.setdefault("date", formatdate(usegmt=True))
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        await self._send({"type": "http.response.body", "body": body})

    async def _close_connection(self, last_words: bytes) -> None:
        transport: Connection = self._scope["extensions"][TRANSPORT_EXTENSION]["transport"]
        if last_words:
            transport.write(last_words)
            transport.close()
        else:
            transport.abort()
        # The server takes it for a fault of ours when we return before it knows of the end.
        await self._client_leaves()

    async def _client_leaves(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _is_left_before(self, released: anyio.Event) -> bool:
        is_left = False

        async def watch() -> None:
            nonlocal is_left
            await self._client_leaves()
            is_left = True
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await released.wait()
            group.cancel_scope.cancel()
        return is_left


def _part_of_answer(status: int, headers: dict[str, str], body: bytes) -> bytes:
    """The beginning of an answer, never the whole: it announces more than it has."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    lines += [f"content-length: {len(body) + 16}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body[: len(body) // 2]
