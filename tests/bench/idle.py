"""How soon one span is there: `python -m tests.bench.idle [--requests 300]`.

A relay that has nothing else to do takes one request with one span at a time. Told are the
milliseconds until it is acknowledged, and until all of it is at the upstream, from the moment in
which it is sent; beside them what the disk takes to sync a page, and a plain exchange with that
upstream. The relay has a core of its own; the upstream is a thread of this process.
"""

import argparse
import http.client
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tests.bench.load import content_length
from tests.bench.processes import LOAD_CORE
from tests.bench.programs import Plan, Relay
from tests.bench.rows import Row

ROWS: Final = (
    Row("1 service JSON", "service", 1),
    Row("1 service protobuf", "service", 1, "protobuf"),
    Row("1 genai JSON", "genai", 1),
)
PAUSE_SECONDS: Final = 0.05  # between two, so that nothing is under way
WARM: Final = 20
MOST_SECONDS: Final = 10.0
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Upstream:
    """Answers 200, and tells when it had the whole of each request."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.arrived: SimpleQueue[float] = SimpleQueue()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            held = b""
            while chunk := connection.recv(1 << 16):
                held += chunk
                head, separator, body = held.partition(b"\r\n\r\n")
                if separator and len(body) >= content_length(head):
                    self.arrived.put(time.perf_counter())
                    connection.sendall(ANSWER)
                    held = b""


@contextmanager
def client(port: int) -> Iterator[Callable[[bytes], None]]:
    """Sends a request and waits for its answer, over one connection."""
    with socket.create_connection(("127.0.0.1", port)) as made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def exchange(request: bytes) -> None:
            made.sendall(request)
            answer = http.client.HTTPResponse(made)
            answer.begin()
            if answer.status != 200:
                raise SystemExit(f"answered {answer.status}: {answer.read()!r}")
            answer.read()

        yield exchange


def told(name: str, seconds: list[float]) -> str:
    """Median and 99th percentile."""
    seconds = sorted(seconds)
    p50, p99 = seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100]
    return f"{name:48}p50 {p50 * 1e3:7.2f} ms   p99 {p99 * 1e3:7.2f} ms"


def syncs(folder: Path, many: int) -> list[float]:
    """How long a page takes to be written and synced."""
    found = []
    with (folder / "page").open("wb", buffering=0) as page:
        for _ in range(many):
            started = time.perf_counter()
            page.write(bytes(4096))
            os.fdatasync(page.fileno())
            found.append(time.perf_counter() - started)
    return found


def exchanges(port: int, requests: list[bytes], upstream: Upstream) -> tuple[list[float], ...]:
    """Seconds to the answer of each request, and to its arrival upstream."""
    acknowledged, arrived = [], []
    with client(port) as exchange:
        for request in requests:
            time.sleep(PAUSE_SECONDS)
            started = time.perf_counter()
            exchange(request)
            acknowledged.append(time.perf_counter() - started)
            arrived.append(upstream.arrived.get(timeout=MOST_SECONDS) - started)
    return acknowledged[WARM:], arrived[WARM:]


def measured(row: Row, many: int) -> list[str]:
    """The lines of one row."""
    upstream = Upstream()
    requests = row.requests(0)[: many + WARM]
    direct, _ = exchanges(upstream.port, requests, upstream)
    with tempfile.TemporaryDirectory() as name:
        plan = Plan(row, (f"http://127.0.0.1:{upstream.port}",))
        disk = syncs(Path(name), many)
        relay = Relay("relay").start(Path(name), plan)
        try:
            acknowledged, arrived = exchanges(relay.port, requests, upstream)
        finally:
            relay.stop()
    return [
        told("a page synced", disk),
        told(f"{row.name}: an exchange without a relay", direct),
        told(f"{row.name}: acknowledged", acknowledged),
        told(f"{row.name}: at the upstream", arrived),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle", description=__doc__)
    parser.add_argument("--requests", type=int, default=300, help="of each kind")
    given = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    for row in ROWS:
        print("\n".join(measured(row, given.requests)), flush=True)


if __name__ == "__main__":
    main()
