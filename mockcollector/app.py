"""An HTTP request in, the answer of a strict OTLP/HTTP receiver out, as an ASGI app.

The order of checks: path, method, required headers, Content-Type, Content-Encoding, length, body,
decompression, decoding, items. The first that fails answers; what passes all of them gets its
answer from the script. Before an answer is sent the journal has it, so whoever reads the answer
can ask.

The rules of a vendor change what is refused and the words of it, not the order.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from mockcollector.connection import CONNECTION_EXTENSION, Exchanged
from mockcollector.content import (
    check_host,
    check_length,
    check_required_headers,
    find_coding,
    find_encoding,
    too_large,
    unpack,
)
from mockcollector.decoding import decode, decode_counts
from mockcollector.exchange import ClientLeftError, Exchange, Receive, Scope, Send
from mockcollector.gate import Gate
from mockcollector.journal import Journal
from mockcollector.received import ReceivedRequest
from mockcollector.rules import Cause, Encoding, Payload, Refused, Rules
from mockcollector.script import Script
from mockcollector.script_values import Answer
from mockcollector.signals import Signal


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
        exchanged: Exchanged = scope["extensions"][CONNECTION_EXTENSION]["exchanged"]
        tls_version, tls_subject = exchanged.tls()
        request = ReceivedRequest(
            received_unix_nano=time.time_ns(),
            began_ns=time.monotonic_ns(),
            connection=exchanged.connection.number,
            nth_on_connection=exchanged.number,
            peer=exchanged.connection.peer,
            http_version=scope["http_version"],
            tls_version=tls_version,
            tls_subject=tls_subject,
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
        request.note_headers()
        exchange = Exchange(self.gate, self.settle, rules, request, exchanged, receive, send)
        reading = _Reading(self.script, exchanged)
        try:
            check_host(request.headers, request.http_version)
            if rules.is_coding_first:
                find_coding(request.headers, rules)
            if request.signal is None:
                raise Refused(404, self._where_signals_go(), cause=Cause.PATH)
            await self._take(request, request.signal, rules, receive, reading)
        except ClientLeftError:
            reading.give_back()
            self.journal.arrive(request)
            self.settle(request, status=None, answer="client left")
        except Refused as refusal:
            reading.give_back()
            self.journal.arrive(request)
            await exchange.refuse(refusal)
        else:
            self.journal.arrive(request)
            await exchange.give(reading.answer or self.script.take())

    def settle(self, request: ReceivedRequest, **outcome: Any) -> None:
        """Enter the outcome in the journal and tell the observer."""
        self.journal.settle(request, **outcome)
        if self._on_request is not None:
            self._on_request(request)

    def _where_signals_go(self) -> str:
        paths = ", ".join(f"{signal} to {rules.path}" for signal, rules in self.rules.items())
        return f"nothing is here; send {paths}"

    async def _take(
        self,
        request: ReceivedRequest,
        signal: Signal,
        rules: Rules,
        receive: Receive,
        reading: "_Reading",
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
        body = await _read_body(request, receive, limit_bytes, reading)
        request.read_ns = time.monotonic_ns()
        body = unpack(body, request.content_encoding, limit_bytes)
        request.decoded_bytes = len(body)
        is_kept = self.journal.keep == "spans"
        request.body = body
        read = decode if is_kept or rules.checks else decode_counts
        decoded = read(body, encoding, signal, rules)
        request.unknown_keys = decoded.unknown_keys
        request.flaws = decoded.flaws
        request.has_contents = is_kept
        request.is_plain = decoded.is_plain
        request.read = decoded.read if self.journal.is_searched else None
        request.services, request.names = decoded.services, decoded.names
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


class _Reading:
    """How the script wants a request's body read; the answer that says so is used up with it."""

    def __init__(self, script: Script, exchanged: Exchanged) -> None:
        self._script = script
        self._exchanged = exchanged
        self.answer: Answer | None = None

    def begin(self) -> None:
        """Ask the script."""
        self.answer = self._script.take_slow()
        if self.answer is not None:
            self._exchanged.connection.take_little()

    async def pause(self, size_bytes: int) -> None:
        """Wait as long as so many bytes take."""
        if self.answer is not None and self.answer.read_bytes_per_second:
            await anyio.sleep(size_bytes / self.answer.read_bytes_per_second)

    def give_back(self) -> None:
        """The request was itself wrong: the next one is read like that."""
        if self.answer is not None:
            self._script.give_back(self.answer)


async def _read_body(
    request: ReceivedRequest, receive: Receive, limit_bytes: int, reading: _Reading
) -> bytes:
    reading.begin()
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
        await reading.pause(len(chunk))
        if not event.get("more_body", False):
            return b"".join(chunks)
