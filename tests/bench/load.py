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
    result = Result()
    source = itertools.islice(itertools.cycle(requests), total)
    poll = select.epoll()
    ports = itertools.cycle([port] if isinstance(port, int) else port)
    made = [Connection(next(ports)) for _ in range(connections)]
    by_number = {each.socket.fileno(): each for each in made}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    started = time.perf_counter()
    end = started + seconds
    busy = 0
    try:
        for each in made:
            busy += _begin(poll, each, source, end)
        while busy:
            events = poll.poll(MOST_SECONDS_QUIET)
            if not events:
                raise TimeoutError(f"no answer for {MOST_SECONDS_QUIET:.0f} s")
            for number, event in events:
                connection = by_number[number]
                if event & select.EPOLLOUT and connection.unsent and connection.go_on():
                    poll.modify(number, select.EPOLLIN)
                if event & ~select.EPOLLOUT and (status := connection.answer()):
                    result.latencies.append(time.perf_counter() - connection.sent_at)
                    result.statuses[status] = result.statuses.get(status, 0) + 1
                    busy -= 1 - _begin(poll, connection, source, end)
        result.seconds = time.perf_counter() - started
    finally:
        poll.close()
        for each in made:
            each.socket.close()
    result.requests = len(result.latencies)
    return result


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
    result = Result()
    poll = select.epoll()
    to = itertools.cycle(ports)
    made = [Connection(next(to)) for _ in range(connections)]
    by_number = {each.socket.fileno(): each for each in made}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    idle = deque(made)
    started = time.perf_counter()
    sent = 0
    try:
        while True:
            now = time.perf_counter() - started
            is_over = now >= seconds or sent == total
            if is_over and len(idle) == len(made):
                break
            if not is_over and idle and sent < now * a_second:
                connection = idle.popleft()
                if not connection.send(next(requests)):
                    poll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
                sent += 1
                continue
            next_at = min((sent + 1) / a_second, seconds)
            is_due = idle and not is_over
            for number, event in poll.poll(next_at - now if is_due else MOST_SECONDS_QUIET):
                connection = by_number[number]
                if event & select.EPOLLOUT and connection.unsent and connection.go_on():
                    poll.modify(number, select.EPOLLIN)
                if event & ~select.EPOLLOUT and (status := connection.answer()):
                    result.latencies.append(time.perf_counter() - connection.sent_at)
                    result.statuses[status] = result.statuses.get(status, 0) + 1
                    idle.append(connection)
        result.seconds = time.perf_counter() - started
    finally:
        poll.close()
        for each in made:
            each.socket.close()
    result.requests = len(result.latencies)
    return result


def with_own_traces(requests: list[bytes]) -> Iterator[bytes]:
    """The same again and again, with other ids of traces each time."""
    numbers = itertools.count(1)
    for request in itertools.cycle(requests):
        yield _TRACE_ID.sub(lambda _found: b"%032x" % next(numbers), request)


def _begin(
    poll: select.epoll, connection: Connection, source: "itertools.islice[bytes]", end: float
) -> int:
    """Send the next request, if there is one: how many were begun."""
    request = next(source, None) if time.perf_counter() < end else None
    if request is None:
        return 0
    if not connection.send(request):
        poll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
    return 1
