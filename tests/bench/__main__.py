"""The benchmark: relay on one core, load and upstream on the other, all on this machine.

Prints, for each row of the budget: spans a second, CPU microseconds a span of the relay's whole
process (user and system, all threads, until everything is delivered), and the same as a ratio to
the null Starlette server of this run. Machines are noisy: compare ratios, not seconds.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench import load
from tests.bench.payloads import Bodies, to_protobuf
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
    spans: int
    requests: int
    goal_us: float
    encoding: str = "json"


ROWS = (
    Row("genai", 1, 20_000, 140),
    Row("service", 100, 5_000, 8),
    Row("service", 512, 1_200, 7),
    Row("service", 100, 5_000, 8, "protobuf"),
)


def main() -> None:
    """Run the rows asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual requests")
    parser.add_argument("--rows", default="", help="numbers from 1, e.g. 1,3; all without")
    parser.add_argument("--profile", action="store_true", help="keep a cProfile of the relay")
    options = parser.parse_args()
    chosen = [int(n) - 1 for n in options.rows.split(",")] if options.rows else range(len(ROWS))
    os.sched_setaffinity(0, {1})
    null_us = measure_null(int(8000 * options.scale))
    scale = null_us / YARDSTICK_US
    print(f"null Starlette server: {null_us:.1f} µs a request; goals are scaled by {scale:.2f}\n")
    print(f"{'row':28}{'spans/s':>10}{'CPU µs/span':>13}{'goal':>8}{'of goal':>9}"
          f"{'p50 ms':>9}{'p99 ms':>9}{'RSS MiB':>9}")  # fmt: skip
    for index in chosen:
        print(measure(ROWS[index], options.scale, scale, profile=options.profile), flush=True)


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


def measure(row: Row, share: float, scale: float, *, profile: bool) -> str:
    """One row, on a relay of its own."""
    total = max(50, int(row.requests * share))
    bodies = Bodies(row.kind, row.spans)
    made = [
        bodies.body() for _ in range(min(total, max(40, 40_000_000 // (row.spans * 1000 + 10_000))))
    ]
    media_type = "application/json"
    if row.encoding == "protobuf":
        made, media_type = [to_protobuf(body) for body in made], "application/x-protobuf"
    with tempfile.TemporaryDirectory() as folder:
        upstream = free_port()
        swallow = start([sys.executable, "-m", "tests.bench.servers", "swallow", str(upstream)], 1)
        profiler = ["-m", "cProfile", "-o", f"/tmp/relay-{row.kind}-{row.spans}.prof"]  # noqa: S108
        running = Relay(Path(folder), upstream, profiler=profiler if profile else [])
        try:
            wait_for_port(upstream, swallow)
            running.start()
            requests = [load.request_bytes(running.ingest, body, media_type) for body in made]
            asyncio.run(load.run(running.ingest, requests, total=total // 10, connections=16))
            wait_until_delivered(running, row.spans * (total // 10))
            before = cpu_seconds(running.pid)
            result = asyncio.run(load.run(running.ingest, requests, total=total, connections=16))
            wait_until_delivered(running, row.spans * (total + total // 10))
            used = cpu_seconds(running.pid) - before
            resident = resident_mib(running.pid)
        finally:
            running.stop()
            swallow.terminate()
            swallow.wait()
    assert result.statuses == {200: total}, result.statuses
    spans = total * row.spans
    each = used / spans * 1e6
    latencies = sorted(result.latencies)
    name = f"{row.spans} {row.kind} {row.encoding}"
    goal = row.goal_us * scale
    return (
        f"{name:28}{spans / result.seconds:>10,.0f}{each:>13.1f}{goal:>8.1f}{each / goal:>9.2f}"
        f"{latencies[len(latencies) // 2] * 1e3:>9.1f}"
        f"{latencies[len(latencies) * 99 // 100] * 1e3:>9.1f}"
        f"{resident:>9.0f}"
    )


def wait_until_delivered(running: Relay, spans: int) -> None:
    """Until the relay says that upstream has that many."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = running.ask("/api/status")
        if found["destinations"][0]["delivered_spans"] >= spans:
            return
        time.sleep(0.05)
    sys.exit(f"not delivered within a minute: {found['destinations']}")


if __name__ == "__main__":
    main()
