"""The answering half of one request: a refusal or the script's answer in, bytes and faults out.

Whatever is sent, the journal has the outcome before.
"""

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

import anyio

from mockcollector.answers import error_body, padded, success_body
from mockcollector.connection import Exchanged
from mockcollector.gate import Gate
from mockcollector.received import ReceivedRequest
from mockcollector.rules import Cause, Encoding, Refused, Rules
from mockcollector.script import OK
from mockcollector.script_values import Answer, Coding, Ending
from mockcollector.signals import Signal

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_DRIBBLED_PIECES = 50
_ENDLESS_PIECES_PER_SECOND = 20


class ClientLeftError(Exception):
    """The sender closed the connection before its request was complete."""


class Settle(Protocol):
    """Enters the outcome of a request in the journal."""

    def __call__(self, request: ReceivedRequest, **outcome: Any) -> None: ...  # noqa: D102


class Exchange:
    """The answering half of one request."""

    def __init__(
        self,
        gate: Gate,
        settle: Settle,
        rules: Rules,
        request: ReceivedRequest,
        exchanged: Exchanged,
        receive: Receive,
        send: Send,
    ) -> None:
        self._gate = gate
        self._settle = settle
        self._rules = rules
        self._request = request
        self._exchanged = exchanged
        self._receive = receive
        self._send = send
        # A Status for a request of unknown encoding is written in JSON.
        self._encoding = request.encoding or Encoding.JSON

    async def refuse(self, refusal: Refused) -> None:
        """Answer a request that broke a rule, in the vendor's words where it has its own."""
        self._request.is_rule_broken = True
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
        self._settle(
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
        gate = self._gate
        released = gate.current
        is_held = answer.delay_seconds > 0 or answer.ending is Ending.HANG
        if answer.delay_seconds:
            with anyio.move_on_after(answer.delay_seconds):
                await released.wait()
        if answer.ending is Ending.HANG and not gate.is_closed:
            if await self._is_left_before(released):
                self._settle(self._request, status=None, answer="hang: client left")
                return
            answer = OK
        if is_held and gate.is_closed:
            self._settle(self._request, status=None, answer="collector stopped")
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
        self._settle(
            request,
            status=answer.status if is_answered else None,
            answer=str(answer),
            accepted=range(taken),
            reason="" if answer.is_success else "by the script",
        )
        connection = self._exchanged.connection
        match answer.ending:
            case Ending.CUT:
                await self._close_connection(b"")
            case Ending.RESET:
                connection.reset()
                await self._client_leaves()
            case Ending.CUT_ANSWER:
                await self._close_connection(_part_of_answer(answer.status, headers, body))
            case Ending.ENDLESS:
                await self._answer_without_end(answer, headers, body)
            case _:
                if answer.idle_close_seconds is not None:
                    connection.close_after(answer.idle_close_seconds)
                if answer.closes_at_next:
                    connection.close_at_next_request()
                if answer.dribble_seconds:
                    await self._dribble(answer, headers, body)
                else:
                    await self._respond(answer.status, headers, body)

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
        if answer.size_bytes:
            body = padded(body, answer.size_bytes, content_type)
        headers = {"content-type": content_type}
        if answer.content_type is not None:
            headers["content-type"] = answer.content_type
        if not headers["content-type"]:
            headers = {}
        if self._rules.bare_success and answer.is_success and not body:
            headers = {}
        retry_after = answer.retry_after_text()
        if retry_after is not None:
            headers["retry-after"] = retry_after
        if answer.coding is not None:
            body = _PACKERS[answer.coding](body)
            headers["content-encoding"] = str(answer.coding).removeprefix("damaged-")
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
        body = await self._start(status, headers, body)
        await self._send({"type": "http.response.body", "body": body})

    async def _start(self, status: int, headers: dict[str, str], body: bytes) -> bytes:
        """Send the head; the body that goes with it out."""
        # These two have no body (RFC 9110 15.3.5, 15.4.5), whatever the script says.
        if status in {204, 304}:
            body = b""
            headers.pop("content-type", None)
        else:
            headers["content-length"] = str(len(body))
        headers.setdefault("date", formatdate(usegmt=True))
        await self._send(
            {"type": "http.response.start", "status": status, "headers": _raw(headers)}
        )
        return body

    async def _dribble(self, answer: Answer, headers: dict[str, str], body: bytes) -> None:
        """Send the answer piece by piece, its head included, and end it as any other."""
        held = self._exchanged.hold_answer()
        body = await self._start(answer.status, headers, body)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self._exchanged.let_go()
        data = bytes(held.data)
        size = -(-len(data) // _DRIBBLED_PIECES)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        released = self._gate.current
        for piece in pieces:
            if not self._exchanged.is_open:
                await self._client_leaves()
                return
            self._exchanged.connection.transport.write(piece)
            with anyio.move_on_after(answer.dribble_seconds / len(pieces)):
                await released.wait()
        await self._send({"type": "http.response.body", "body": b""})

    async def _answer_without_end(
        self, answer: Answer, headers: dict[str, str], body: bytes
    ) -> None:
        """Send until the sender leaves, or `release` or the end of the collector cuts it off."""
        released = self._gate.current
        headers = {"date": formatdate(usegmt=True), **headers}
        await self._send(
            {"type": "http.response.start", "status": answer.status, "headers": _raw(headers)}
        )
        filler = b" " * max(1, answer.bytes_per_second // _ENDLESS_PIECES_PER_SECOND)
        pause_seconds = len(filler) / answer.bytes_per_second
        piece = body or filler
        while self._exchanged.is_open and not released.is_set():
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            piece = filler
            with anyio.move_on_after(pause_seconds):
                await released.wait()
        await self._close_connection(b"")

    async def _close_connection(self, last_words: bytes) -> None:
        transport = self._exchanged.connection.transport
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

    async def _is_left_before(self, released: asyncio.Event) -> bool:
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


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


_PACKERS: Mapping[Coding, Callable[[bytes], bytes]] = {
    Coding.GZIP: gzip.compress,
    Coding.DEFLATE: zlib.compress,
    Coding.DAMAGED_GZIP: lambda body: b"\x1f\x8b\x08\x00 this is not gzip " + body,
}


def _part_of_answer(status: int, headers: dict[str, str], body: bytes) -> bytes:
    """The beginning of an answer, never the whole: it announces more than it has."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    lines += [f"content-length: {len(body) + 16}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body[: len(body) // 2]
