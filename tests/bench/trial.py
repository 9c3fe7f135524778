"""One trial: a program is started, warmed, loaded, and waited for until everything is delivered."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import load
from tests.bench.processes import (
    LOAD_CORE,
    RELAY_CORE,
    cpu_seconds,
    first_thread_seconds,
    resident_mib,
    server,
    threads_seconds,
)
from tests.bench.programs import Plan, Program, RefusedError, Running
from tests.bench.rows import Row
from tests.bench.tab import ALL_SCREENS, LIVE_SCREENS
from tests.support.certificates import make_authority
from tests.support.ports import free_port

CONNECTIONS = 16  # to each relay
WARM_SHARE = 0.15  # of a trial's seconds, before it
IDLE_SECONDS = 4.0  # nothing comes, where relays work by the clock
PACED_TIMES = 10  # of a trial's seconds, where there is a pace: a screen is looked at once a second


@dataclass(frozen=True)
class Measured:
    """What one program did in one trial."""

    items_a_second: float  # until everything was answered
    cpu_us: float  # an item, of the whole process, until everything was delivered
    loop_us: float  # of that, the first thread's
    p50_ms: float  # of an acknowledgement
    p99_ms: float
    resident_mib: float  # at most, since it was started
    requests: int
    delivered_a_second: float = 0.0  # items, until all of them were upstream
    brokers_us: float = 0.0  # CPU an item of Kafka's brokers, all together, where there are any
    relays: int = 1
    idle_cores: float = 0.0  # what they take while nothing comes, all together
    clock_us: float = 0.0  # so much of `cpu_us` is that
    # How long each screen of the page took, each time in milliseconds, where it was open.
    screens: dict[str, list[float]] = field(default_factory=dict)

    @property
    def on_own_cores(self) -> float:
        """Items a second with a core for each relay: what goes by the clock is taken off the core
        once, not from each item.
        """
        return (self.relays - self.idle_cores) / (self.cpu_us - self.clock_us) * 1e6

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@contextmanager
def upstream(row: Row, folder: Path) -> Iterator[Plan]:
    """What takes everything, and how a program reaches it."""
    with ExitStack() as stack:
        pair: tuple[str, ...] = ()
        ca_file = ""
        if row.has_tls:
            authority = make_authority(folder)
            pair, ca_file = authority.issue("upstream"), authority.file
        port, _ = stack.enter_context(server("swallow", LOAD_CORE, *pair))
        scheme = "https" if row.has_tls else "http"
        urls = tuple(f"{scheme}://127.0.0.1:{port}/{number}" for number in range(row.upstreams))
        down = (f"http://127.0.0.1:{free_port()}",) if row.is_one_down else ()
        yield Plan(row, urls, down, ca_file)


def measure(program: Program, row: Row, requests: list[bytes], seconds: float) -> Measured:
    """Raises RefusedError when a request is not answered with 200."""
    with tempfile.TemporaryDirectory() as name, upstream(row, Path(name)) as plan:
        return measure_with(program, Path(name), plan, requests, seconds)


def measure_with(
    program: Program, folder: Path, plan: Plan, requests: list[bytes], seconds: float
) -> Measured:
    """The same with an upstream that is there, or none."""
    items = plan.row.items
    running = program.start(folder, plan)
    try:
        warm = _warmed(running.ports, plan.row, requests, seconds)
        running.wait_until_delivered(warm.requests * items)
        idle_cores = _idle_cores(running)
        before, began = _used(running), time.perf_counter()
        screens = ALL_SCREENS if plan.row.pace else LIVE_SCREENS
        tab = running.open_tab(folder, screens) if plan.row.is_watched else None
        if plan.row.pace:
            result = _paced(running.ports, plan.row, requests, seconds=seconds * PACED_TIMES)
        else:
            result = _loaded(running.ports, requests, seconds)
        shown = tab.close() if tab else {}
        took = running.wait_until_delivered((warm.requests + result.requests) * items) - began
        latencies, done = sorted(result.latencies), result.requests * items
        cpu, loop, brokers = (
            (now - then) / done * 1e6 for now, then in zip(_used(running), before, strict=True)
        )
        return Measured(
            items_a_second=done / result.seconds,
            cpu_us=cpu,
            loop_us=loop,
            p50_ms=latencies[len(latencies) // 2] * 1e3,
            p99_ms=latencies[len(latencies) * 99 // 100] * 1e3,
            resident_mib=max(resident_mib(pid, "VmHWM") for pid in running.pids),
            requests=result.requests,
            delivered_a_second=done / took,
            brokers_us=brokers,
            relays=len(running.pids),
            idle_cores=idle_cores,
            clock_us=idle_cores * took / done * 1e6,
            screens=shown,
        )
    finally:
        running.stop()


def _used(running: Running) -> tuple[float, float, float]:
    """CPU seconds until now: of relays, of their first threads, of brokers."""
    return (
        sum(map(cpu_seconds, running.pids)),
        sum(map(first_thread_seconds, running.pids)),
        sum(map(cpu_seconds, running.broker_pids)),
    )


def _idle_cores(running: Running) -> float:
    """What relays of a fleet take of a core while nothing comes; 0 for others, where it is next to
    nothing.
    """
    if not running.broker_pids:
        return 0.0
    before, began = sum(map(threads_seconds, running.pids)), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (sum(map(threads_seconds, running.pids)) - before) / (time.monotonic() - began)


def _warmed(ports: Sequence[int], row: Row, requests: list[bytes], seconds: float) -> load.Result:
    """What is there before: some load, or what the row wants to be kept."""
    if not row.kept:
        return _loaded(ports, requests, seconds * WARM_SHARE)
    return _paced(ports, row, requests, total=row.kept // row.items, pace=10 * row.pace)


def _paced(
    ports: Sequence[int],
    row: Row,
    requests: list[bytes],
    *,
    pace: float = 0.0,
    total: int | None = None,
    seconds: float = float("inf"),
) -> load.Result:
    result = load.run_paced(
        ports,
        load.with_own_traces(requests),
        a_second=(pace or row.pace) / row.items,
        connections=CONNECTIONS * len(ports),
        total=total,
        seconds=seconds,
    )
    return _answered(result)


def _loaded(ports: Sequence[int], requests: list[bytes], seconds: float) -> load.Result:
    result = load.run(ports, requests, connections=CONNECTIONS * len(ports), seconds=seconds)
    return _answered(result)


def _answered(result: load.Result) -> load.Result:
    if set(result.statuses) != {200}:
        raise RefusedError(f"answered {result.statuses}")
    return result


def loads_own_limit(row: Row, requests: list[bytes], seconds: float) -> float:
    """Items a second that the load reaches against a server that only reads."""
    with server("swallow", RELAY_CORE) as (port, _):
        _loaded([port], requests, seconds * WARM_SHARE)
        result = _loaded([port], requests, seconds)
        return result.requests * row.items / result.seconds


def null_server_us(seconds: float) -> float:
    """CPU microseconds a request of a Starlette server that does nothing: the yardstick."""
    with server("null", RELAY_CORE) as (port, pid):
        requests = [load.request_bytes(port, b'{"resourceSpans":[]}' * 10)]
        _loaded([port], requests, seconds * WARM_SHARE)
        before = cpu_seconds(pid)
        result = _loaded([port], requests, seconds)
        return (cpu_seconds(pid) - before) / result.requests * 1e6
