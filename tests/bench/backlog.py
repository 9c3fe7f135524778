"""A long backlog: `python -m tests.bench.backlog --items 10000000`, some minutes and GB of disk.

An upstream is away while so many items come in; then it is back, while more come in; after a
restart the rest is delivered. Prints how long each step takes, what questions take meanwhile, and
what the daemon holds in memory, now and at most in that step. Fails above 120 MiB.
"""

import argparse
import dataclasses
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import load
from tests.bench.processes import LOAD_CORE, forget_peak, resident_mib, server
from tests.bench.programs import Plan, Relay, RunningRelay
from tests.bench.rows import MOST_MIB, ROWS
from tests.support.ports import free_port

STEPS = 5
NORMAL_ROW = 5  # of `make bench`: 512 spans in protobuf


def main() -> None:
    """Fill, ask, drain under load, restart, drain."""
    parser = argparse.ArgumentParser(prog="tests.bench.backlog", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--row", type=int, default=NORMAL_ROW, help="of make bench, from 1")
    parser.add_argument("--destinations", type=int, default=1)
    options = parser.parse_args()
    row = dataclasses.replace(ROWS[options.row - 1], max_size="8GiB", is_one_down=False)
    print(f"{row.name}, {options.destinations} destination(s)")
    print(f"{'':32}{'items':>12}{'seconds':>9}{'RSS MiB':>9}{'at most':>9}{'disk MiB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        upstream = free_port()
        urls = [f"http://127.0.0.1:{upstream}/{at}" for at in range(options.destinations)]
        running = Relay("relay").start(Path(folder), Plan(row, tuple(urls)))
        trial = Trial(running, upstream, row.requests(running.port), row.items)
        try:
            trial.run(options.items)
        finally:
            running.stop()
    if trial.peak_mib > MOST_MIB:
        sys.exit(f"the daemon held {trial.peak_mib:.0f} MiB, allowed are {MOST_MIB:.0f}")


class Trial:
    """All of it, on a relay that runs; its upstream does not."""

    def __init__(
        self, running: RunningRelay, upstream: int, requests: list[bytes], items: int
    ) -> None:
        """`items` are those in a request."""
        self.peak_mib = 0.0
        self._running = running
        self._upstream = upstream
        self._requests = requests
        self._items = items

    def run(self, items: int) -> None:
        """Step after step."""
        running = self._running
        step = items // STEPS // self._items
        total = STEPS * step * self._items
        for number in range(1, STEPS + 1):
            seconds = timed(lambda: self._load(step))
            self._report("come in", number * step * self._items, seconds)
        self._report("status", total, timed(lambda: running.ask("/api/status")))
        where = timed(lambda: running.ask(f"/api/traces/{'1' * 32}"))
        self._report("where (in none)", total, where)
        with server("swallow", LOAD_CORE, port=self._upstream):
            more = threading.Thread(target=self._load, args=(step,))
            more.start()
            seconds = timed(more.join)
            self._report("as much again, drained", self._waiting(), seconds)
            began = time.perf_counter()
            left = self._wait_until_waiting(total // 2)
            self._report("still to be delivered", left, time.perf_counter() - began)
        self._report("start again", left, timed(running.restart))
        with server("swallow", LOAD_CORE, port=self._upstream):
            began = time.perf_counter()
            left = self._wait_until_waiting(0)
            self._report("still to be delivered", left, time.perf_counter() - began)

    def _load(self, requests: int) -> None:
        result = load.run(self._running.port, self._requests, total=requests)
        assert result.statuses == {200: requests}, result.statuses

    def _waiting(self) -> int:
        """Of the destination that has most."""
        destinations = self._running.ask("/api/status")["destinations"]
        return max(int(each["waiting_spans"]) for each in destinations)

    def _wait_until_waiting(self, at_most: int) -> int:
        """Until no more than that many items are owed; how many are."""
        deadline = time.monotonic() + 1200
        while time.monotonic() < deadline:
            waiting = self._waiting()
            if waiting <= at_most:
                return waiting
            time.sleep(0.2)
        sys.exit("not delivered within twenty minutes")

    def _report(self, what: str, items: int, seconds: float) -> None:
        """One line."""
        running = self._running
        size = sum(each.stat().st_blocks * 512 for each in running.state_dir.glob("re*"))
        now, most = resident_mib(running.pid), resident_mib(running.pid, "VmHWM")
        forget_peak(running.pid)
        self.peak_mib = max(self.peak_mib, most)
        print(
            f"{what:32}{items:>12,}{seconds:>9.2f}{now:>9.0f}{most:>9.0f}{size / 2**20:>10,.0f}",
            flush=True,
        )


def timed(call: Callable[[], object]) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
