"""A long backlog: `python -m tests.bench.backlog --spans 10000000`, a few minutes, some GB of disk.

An upstream is away while so many spans come in; then it is back. Prints what the daemon holds in
memory on the way, now and at most, how long questions and a restart take with that backlog, and how
fast it drains.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import load
from tests.bench.processes import LOAD_CORE, resident_mib, server
from tests.bench.programs import Plan, Relay, RunningRelay
from tests.bench.rows import Row
from tests.support.ports import free_port

ROW = Row("backlog", "service", 512, "protobuf", max_size="8GiB")
STEPS = 5


def main() -> None:
    """Fill, ask, restart, drain."""
    parser = argparse.ArgumentParser(prog="tests.bench.backlog", description=__doc__)
    parser.add_argument("--spans", type=int, default=10_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        upstream = free_port()
        plan = Plan(ROW, (f"http://127.0.0.1:{upstream}",))
        running = Relay("relay").start(Path(folder), plan)
        try:
            measure(running, upstream, ROW.requests(running.port), options.spans)
        finally:
            running.stop()


def measure(running: RunningRelay, upstream: int, requests: list[bytes], spans: int) -> None:
    """All of it, on a relay that runs; its upstream does not."""
    print(f"{'':32}{'spans':>12}{'seconds':>9}{'RSS MiB':>9}{'at most':>9}{'disk MiB':>10}")
    step = spans // STEPS // ROW.items
    for number in range(1, STEPS + 1):
        result = load.run(running.port, requests, total=step)
        assert result.statuses == {200: step}, result.statuses
        report(running, "come in", number * step * ROW.items, result.seconds)
    total = STEPS * step * ROW.items
    known = first_trace(requests[0]).hex()
    report(
        running,
        f"where (in 1 of {len(requests)} requests)",
        total,
        timed(lambda: running.ask(f"/api/traces/{known}")),
    )
    report(running, "where (in none)", total, timed(lambda: running.ask(f"/api/traces/{'1' * 32}")))
    report(running, "status", total, timed(lambda: running.ask("/api/status")))
    report(running, "start again", total, timed(running.restart))
    with server("swallow", LOAD_CORE, port=upstream):
        began = time.perf_counter()
        for share in range(STEPS - 1, -1, -1):
            left = wait_until_waiting(running, total * share // STEPS)
            report(running, "still to be delivered", left, time.perf_counter() - began)


def first_trace(request: bytes) -> bytes:
    """The trace id of the first span of a protobuf request of ours: field 1, 16 bytes."""
    at = request.index(b"\x0a\x10")
    return request[at + 2 : at + 18]


def timed(call: Callable[[], object]) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def wait_until_waiting(running: RunningRelay, at_most: int) -> int:
    """Until no more than that many spans are owed; how many are."""
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline:
        waiting = int(running.ask("/api/status")["destinations"][0]["waiting_spans"])
        if waiting <= at_most:
            return waiting
        time.sleep(0.2)
    sys.exit("not delivered within twenty minutes")


def report(running: RunningRelay, what: str, spans: int, seconds: float) -> None:
    """One line."""
    size = sum(each.stat().st_blocks * 512 for each in running.state_dir.glob("re*"))
    now, most = resident_mib(running.pid), resident_mib(running.pid, "VmHWM")
    print(
        f"{what:32}{spans:>12,}{seconds:>9.2f}{now:>9.0f}{most:>9.0f}{size / 2**20:>10,.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
