"""The benchmark: relay on one core, load and upstream on the other, all on this machine.

Prints, for each row of the budget: items (spans, log records, data points) a second, CPU
microseconds an item of the relay's whole process (user and system, all threads, until everything is
delivered), and the same as a ratio to the goal, which goes with the null Starlette server of this
run. Below it other relays with the same bodies, where their programs are given, and how many times
our CPU they take. Machines are noisy: compare ratios, not seconds.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import load
from tests.bench.payloads import Bodies, to_protobuf
from tests.bench.peers import Peer, Running, collector, rotel
from tests.bench.processes import (
    Relay,
    cpu_seconds,
    resident_mib,
    start,
    wait_for_port,
)
from tests.support.ports import free_port

YARDSTICK_US = 45.0  # what the null server cost where the goals were set


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    kind: str
    items: int
    requests: int
    goal_us: float
    encoding: str = "json"


ROWS = (
    Row("genai", 1, 20_000, 140),
    Row("service", 100, 5_000, 8),
    Row("service", 512, 1_200, 7),
    Row("service", 100, 5_000, 8, "protobuf"),
    Row("log", 100, 5_000, 8),
    Row("log", 100, 5_000, 8, "protobuf"),
    Row("point", 100, 5_000, 8),
    Row("point", 100, 5_000, 8, "protobuf"),
)
COLLECTORS = Path.home() / ".cache" / "otlp-relay" / "images"


def main() -> None:
    """Run the rows asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual requests")
    parser.add_argument("--rows", default="", help="numbers from 1, e.g. 1,3; all without")
    parser.add_argument("--profile", action="store_true", help="keep a cProfile of the relay")
    built = sorted(COLLECTORS.glob("collector-*[0-9a-f]"), key=lambda path: path.stat().st_mtime)
    parser.add_argument(
        "--collector", type=Path, default=built[-1] if built else None, help="its program"
    )
    parser.add_argument("--rotel", type=Path, help="its program")
    parser.add_argument("--alone", action="store_true", help="no other relays beside ours")
    options = parser.parse_args()
    peers = []
    if options.collector and not options.alone:
        peers.append(collector(options.collector))
    if options.rotel and not options.alone:
        peers.append(rotel(options.rotel))
    chosen = [int(n) - 1 for n in options.rows.split(",")] if options.rows else range(len(ROWS))
    os.sched_setaffinity(0, {1})
    null_us = measure_null(int(8000 * options.scale))
    scale = null_us / YARDSTICK_US
    print(f"null Starlette server: {null_us:.1f} µs a request; goals are scaled by {scale:.2f}\n")
    print(f"{'row':28}{'items/s':>10}{'CPU µs/item':>13}{'goal':>8}{'of goal':>9}"
          f"{'p50 ms':>9}{'p99 ms':>9}{'RSS MiB':>9}")  # fmt: skip
    for index in chosen:
        bench = Bench(ROWS[index], options.scale)
        ours = bench.relay(profile=options.profile)
        print(bench.line(ours, ROWS[index].goal_us * scale), flush=True)
        for peer in peers:
            print(bench.line_beside(peer.name, bench.peer(peer), ours), flush=True)


def measure_null(total: int) -> float:
    """CPU microseconds a request of a server that does nothing."""
    port = free_port()
    server = start([sys.executable, "-m", "tests.bench.servers", "null", str(port)], 0)
    try:
        wait_for_port(port, server)
        request = load.request_bytes(port, b'{"resourceSpans":[]}' * 10)
        asyncio.run(load.run(port, [request], total=total // 4, connections=16))
        before = cpu_seconds(server.pid)
        asyncio.run(load.run(port, [request], total=total, connections=16))
        return (cpu_seconds(server.pid) - before) / total * 1e6
    finally:
        server.terminate()
        server.wait()


@dataclass(frozen=True)
class Measured:
    """What one relay did with the requests of a row."""

    items_a_second: float
    cpu_us: float  # an item
    latencies: list[float]  # sorted
    resident_mib: float

    def columns(self) -> str:
        """Items a second and CPU, as a line has them."""
        return f"{self.items_a_second:>10,.0f}{self.cpu_us:>13.1f}"

    def last_columns(self) -> str:
        """Latencies and memory."""
        count = len(self.latencies)
        return (
            f"{self.latencies[count // 2] * 1e3:>9.1f}"
            f"{self.latencies[count * 99 // 100] * 1e3:>9.1f}"
            f"{self.resident_mib:>9.0f}"
        )


class Bench:
    """One row: its bodies are made once, and each relay gets the same."""

    def __init__(self, row: Row, share: float) -> None:
        self._row = row
        self._total = max(50, int(row.requests * share))
        bodies = Bodies(row.kind, row.items)
        many = min(self._total, max(40, 40_000_000 // (row.items * 1000 + 10_000)))
        self._made = [bodies.body() for _ in range(many)]
        self._wire = bodies.wire
        self._media_type = "application/json"
        if row.encoding == "protobuf":
            self._made = [to_protobuf(body, bodies.wire) for body in self._made]
            self._media_type = "application/x-protobuf"

    def relay(self, *, profile: bool) -> Measured:
        """Ours, on an upstream of its own."""
        row = self._row
        profiler = ["-m", "cProfile", "-o", f"/tmp/relay-{row.kind}-{row.items}.prof"]  # noqa: S108
        with tempfile.TemporaryDirectory() as folder, swallowing() as upstream:
            running = Relay(Path(folder), upstream, profiler=profiler if profile else [])
            try:
                running.start()
                warmed = row.items * (self._total // 10)
                return self._measure(
                    running.ingest,
                    running.pid,
                    lambda: wait_until_delivered(running, warmed),
                    lambda: wait_until_delivered(running, warmed + row.items * self._total),
                )
            finally:
                running.stop()

    def peer(self, peer: Peer) -> Measured:
        """Another, likewise."""
        with tempfile.TemporaryDirectory() as folder, swallowing() as upstream:
            running = Running(peer, Path(folder), upstream)
            try:
                wait = running.wait_until_idle
                return self._measure(running.ingest, running.pid, wait, wait)
            finally:
                running.stop()

    def _measure(
        self, port: int, pid: int, wait_warmed: Callable[[], None], wait: Callable[[], None]
    ) -> Measured:
        total, path = self._total, self._wire.path
        requests = [load.request_bytes(port, body, self._media_type, path) for body in self._made]
        asyncio.run(load.run(port, requests, total=total // 10, connections=16))
        wait_warmed()
        before = cpu_seconds(pid)
        result = asyncio.run(load.run(port, requests, total=total, connections=16))
        wait()
        used = cpu_seconds(pid) - before
        assert result.statuses == {200: total}, result.statuses
        items = total * self._row.items
        return Measured(
            items / result.seconds,
            used / items * 1e6,
            sorted(result.latencies),
            resident_mib(pid),
        )

    def line(self, ours: Measured, goal_us: float) -> str:
        """Of our relay."""
        name = f"{self._row.items} {self._row.kind} {self._row.encoding}"
        goal = f"{goal_us:>8.1f}{ours.cpu_us / goal_us:>9.2f}"
        return f"{name:28}{ours.columns()}{goal}{ours.last_columns()}"

    def line_beside(self, name: str, theirs: Measured, ours: Measured) -> str:
        """Of another, with its CPU as a multiple of ours."""
        ratio = f"{theirs.cpu_us / ours.cpu_us:>16.2f}x"
        return f"{'  ' + name:28}{theirs.columns()}{ratio}{theirs.last_columns()}"


@contextmanager
def swallowing() -> Iterator[int]:
    """The port of an upstream that takes everything."""
    port = free_port()
    process = start([sys.executable, "-m", "tests.bench.servers", "swallow", str(port)], 1)
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def wait_until_delivered(running: Relay, items: int) -> None:
    """Until the relay says that upstream has that many."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = running.ask("/api/status")["destinations"]
        if sum(each["delivered_spans"] for each in found) >= items:
            return
        time.sleep(0.05)
    sys.exit(f"not delivered within a minute: {found}")


if __name__ == "__main__":
    main()
