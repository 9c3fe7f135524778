"""A load generator that costs little: prepared requests over kept connections, answers checked."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast


@dataclass
class Result:
    """What one run of load saw."""

    requests: int = 0
    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """Sends one request after the other, each when the last was answered."""

    def __init__(self, next_request: Callable[[], bytes | None], result: Result) -> None:
        self._next = next_request
        self._result = result
        self._received = b""
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        request = self._next()
        if request is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head, separator, body = received.partition(b"\r\n\r\n")
        if not separator:
            self._received = received
            return
        at = head.lower().find(b"content-length: ")
        length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            self._received = received
            return
        self._received = b""
        result = self._result
        status = int(head[9:12])
        result.statuses[status] = result.statuses.get(status, 0) + 1
        result.requests += 1
        result.latencies.append(time.perf_counter() - self._sent_at)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def request_bytes(
    port: int, body: bytes, media_type: str = "application/json", path: str = "/v1/traces"
) -> bytes:
    """A POST, whole."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def run(port: int, requests: list[bytes], *, total: int, connections: int) -> Result:
    """Send `total` requests, taking `requests` in turn, over that many connections."""
    result = Result()
    source = _in_turn(requests, total)
    started = time.perf_counter()
    made = []
    for _ in range(connections):
        _transport, protocol = await asyncio.get_running_loop().create_connection(
            lambda: Connection(lambda: next(source, None), result), "127.0.0.1", port
        )
        made.append(protocol)
    await asyncio.gather(*(protocol.done for protocol in made))
    result.seconds = time.perf_counter() - started
    return result


def _in_turn(requests: list[bytes], total: int) -> Iterator[bytes]:
    for number in range(total):
        yield requests[number % len(requests)]
