"""A long backlog: `python -m tests.bench.backlog --spans 10000000`, a few minutes, some GB of disk.

An upstream is away while so many spans come in; then it is back. Prints what the daemon holds in
memory on the way, how long questions and a restart take with that backlog, and how fast it drains.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import load
from tests.bench.payloads import Bodies, to_protobuf
from tests.bench.processes import Relay, resident_mib, start, wait_for_port
from tests.support.ports import free_port

SPANS_A_REQUEST = 512
STEPS = 5


def main() -> None:
    """Fill, ask, restart, drain."""
    parser = argparse.ArgumentParser(prog="tests.bench.backlog", description=__doc__)
    parser.add_argument("--spans", type=int, default=10_000_000)
    options = parser.parse_args()
    bodies = Bodies("service", SPANS_A_REQUEST)
    made = [to_protobuf(bodies.body(), bodies.wire) for _ in range(60)]
    with tempfile.TemporaryDirectory() as folder:
        upstream = free_port()
        running = Relay(Path(folder), upstream)
        running.start()
        try:
            measure(running, upstream, made, options.spans)
        finally:
            running.stop()


def measure(running: Relay, upstream: int, made: list[bytes], spans: int) -> None:
    """All of it, on a relay that runs; its upstream does not."""
    print(f"{'':32}{'spans':>12}{'seconds':>9}{'RSS MiB':>9}{'disk MiB':>10}")
    kind = "application/x-protobuf"
    requests = [load.request_bytes(running.ingest, body, kind) for body in made]
    step = spans // STEPS // SPANS_A_REQUEST
    for number in range(1, STEPS + 1):
        result = asyncio.run(load.run(running.ingest, requests, total=step, connections=8))
        assert result.statuses == {200: step}, result.statuses
        report(running, "come in", number * step * SPANS_A_REQUEST, result.seconds)
    total = STEPS * step * SPANS_A_REQUEST
    known = first_trace(made[0]).hex()
    report(
        running,
        "where (in 1 of 60 requests)",
        total,
        timed(lambda: running.ask(f"/api/traces/{known}")),
    )
    report(running, "where (in none)", total, timed(lambda: running.ask(f"/api/traces/{'1' * 32}")))
    report(running, "status", total, timed(lambda: running.ask("/api/status")))
    running.stop()
    report(running, "start again", total, timed(running.start))
    collector = start([sys.executable, "-m", "tests.bench.servers", "swallow", str(upstream)], 1)
    try:
        wait_for_port(upstream, collector)
        began = time.perf_counter()
        for share in range(STEPS - 1, -1, -1):
            left = wait_until_waiting(running, total * share // STEPS)
            report(running, "still to be delivered", left, time.perf_counter() - began)
    finally:
        collector.terminate()
        collector.wait()


def first_trace(body: bytes) -> bytes:
    """The trace id of the first span of a protobuf request of ours: field 1, 16 bytes."""
    at = body.index(b"\x0a\x10")
    return body[at + 2 : at + 18]


def timed(call: Callable[[], object]) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def wait_until_waiting(running: Relay, at_most: int) -> int:
    """Until no more than that many spans are owed; how many are."""
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline:
        waiting = int(running.ask("/api/status")["destinations"][0]["waiting_spans"])
        if waiting <= at_most:
            return waiting
        time.sleep(0.2)
    sys.exit("not delivered within twenty minutes")


def report(running: Relay, what: str, spans: int, seconds: float) -> None:
    """One line."""
    size = sum(each.stat().st_blocks * 512 for each in running.state_dir.glob("re*"))
    print(
        f"{what:32}{spans:>12,}{seconds:>9.2f}{resident_mib(running.pid):>9.0f}"
        f"{size / 2**20:>10,.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
