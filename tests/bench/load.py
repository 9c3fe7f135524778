"""A load generator that costs little: prepared requests over kept connections, answers checked.

One thread and one epoll, no framework: it shares its core with the upstream, and must never be
what a measurement shows.
"""

import itertools
import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

SEND_BUFFER_BYTES = 4 << 20
RECEIVE_BYTES = 64 << 10
MOST_SECONDS_QUIET = 30.0
_TRACE_ID = re.compile(rb'(?<="traceId":")[0-9a-f]{32}')


@dataclass
class Result:
    """What one run of load saw."""

    requests: int = 0
    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)


class Connection:
    """Sends one request after the other, each when the last was answered."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.sent_at = 0.0
        self._received = b""
        self.unsent: memoryview | None = None

    def send(self, request: bytes) -> bool:
        """Begin a request; whether all of it went."""
        self.sent_at = time.perf_counter()
        self.unsent = memoryview(request)
        return self.go_on()

    def go_on(self) -> bool:
        """Send what did not go yet; whether all of it has gone."""
        assert self.unsent is not None
        try:
            gone = self.socket.send(self.unsent)
        except BlockingIOError:
            return False
        self.unsent = self.unsent[gone:] if gone < len(self.unsent) else None
        return self.unsent is None

    def answer(self) -> int:
        """The status of a response that is whole by now, else 0. Raises OSError when it closed."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the relay closed a connection of the load")
        if self._received:
            data = self._received + data
        head, separator, body = data.partition(b"\r\n\r\n")
        if not separator or len(body) < content_length(head):
            self._received = data
            return 0
        self._received = b""
        return int(head[9:12])


def content_length(head: bytes) -> int:
    """What a head says, 0 where it says nothing."""
    at = head.lower().find(b"content-length: ")
    return int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def request_bytes(
    port: int,
    body: bytes,
    media_type: str = "application/json",
    path: str = "/v1/traces",
    *,
    extra: str = "",
) -> bytes:
    """A POST, whole; `extra` is lines of its head."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {media_type}\r\n"
        f"{extra}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def run(
    port: int | Sequence[int],
    requests: list[bytes],
    *,
    connections: int = 16,
    total: int | None = None,
    seconds: float = float("inf"),
) -> Result:
    """Send `requests` in turn, `total` of them or for so long, over that many connections; those go
    to several ports by turns.
    """
    source = itertools.islice(itertools.cycle(requests), total)
    with _Connections([port] if isinstance(port, int) else port, connections) as made:
        started = time.perf_counter()
        end = started + seconds
        busy = sum(_begin(made, each, source, end) for each in made.all)
        while busy:
            for each in made.answered():
                busy -= 1 - _begin(made, each, source, end)
        return made.result(started)


def run_paced(
    ports: Sequence[int],
    requests: Iterator[bytes],
    *,
    a_second: float,
    connections: int = 16,
    total: int | None = None,
    seconds: float = float("inf"),
) -> Result:
    """Send so many requests a second, `total` of them or for so long; less where the answers do not
    come in time.
    """
    with _Connections(ports, connections) as made:
        idle = deque(made.all)
        started = time.perf_counter()
        sent = 0
        while True:
            now = time.perf_counter() - started
            is_over = now >= seconds or sent == total
            if is_over and len(idle) == len(made.all):
                return made.result(started)
            if not is_over and idle and sent < now * a_second:
                made.send(idle.popleft(), next(requests))
                sent += 1
                continue
            next_at = min((sent + 1) / a_second, seconds)
            idle.extend(made.answered(next_at - now if idle and not is_over else None))


def with_own_traces(requests: list[bytes]) -> Iterator[bytes]:
    """The same again and again, with other ids of traces each time."""
    numbers = itertools.count(1)
    for request in itertools.cycle(requests):
        yield _TRACE_ID.sub(lambda _found: b"%032x" % next(numbers), request)


class _Connections:
    """Connections that wait for answers together, closed at the end."""

    def __init__(self, ports: Sequence[int], count: int) -> None:
        """They go to `ports` by turns."""
        to = itertools.cycle(ports)
        self.all = [Connection(next(to)) for _ in range(count)]
        self._by_number = {each.socket.fileno(): each for each in self.all}
        self._result = Result()
        self._poll = select.epoll()
        for number in self._by_number:
            self._poll.register(number, select.EPOLLIN)

    def send(self, connection: Connection, request: bytes) -> None:
        """Begin a request on one of them; what does not go at once goes while others answer."""
        if not connection.send(request):
            self._poll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def answered(self, seconds: float | None = None) -> Iterator[Connection]:
        """Those that are answered next, each noted; maybe none within `seconds`.

        Without it raises TimeoutError after half a minute of silence.
        """
        events = self._poll.poll(MOST_SECONDS_QUIET if seconds is None else seconds)
        if not events and seconds is None:
            raise TimeoutError(f"no answer for {MOST_SECONDS_QUIET:.0f} s")
        for number, event in events:
            connection = self._by_number[number]
            if event & select.EPOLLOUT and connection.unsent and connection.go_on():
                self._poll.modify(number, select.EPOLLIN)
            if event & ~select.EPOLLOUT and (status := connection.answer()):
                self._result.latencies.append(time.perf_counter() - connection.sent_at)
                self._result.statuses[status] = self._result.statuses.get(status, 0) + 1
                yield connection

    def result(self, started: float) -> Result:
        """What came since then, by the clock of `perf_counter`."""
        self._result.seconds = time.perf_counter() - started
        self._result.requests = len(self._result.latencies)
        return self._result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._poll.close()
        for each in self.all:
            each.socket.close()


def _begin(
    made: _Connections, connection: Connection, source: "itertools.islice[bytes]", end: float
) -> int:
    """Send the next request, if there is one: how many were begun."""
    request = next(source, None) if time.perf_counter() < end else None
    if request is None:
        return 0
    made.send(connection, request)
    return 1
