"""The benchmark: relay on one core, load and upstream on the other, all on this machine.

Prints, for each row of the budget: spans a second, CPU microseconds a span of the relay's whole
process (user and system, all threads, until everything is delivered), and the same as a ratio to
the null Starlette server of this run. Machines are noisy: compare ratios, not seconds.
"""

import argparse
import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench import load
from tests.bench.payloads import Bodies

YARDSTICK_US = 45.0  # what the null server cost where the goals were set
TICKS = os.sysconf("SC_CLK_TCK")


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


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(arguments: list[str], core: int) -> subprocess.Popen[bytes]:
    """A process pinned to one core."""
    return subprocess.Popen(arguments, preexec_fn=lambda: os.sched_setaffinity(0, {core}))  # noqa: PLW1509


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    """Memory that a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until it accepts."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    sys.exit(f"nothing came up on port {port}")


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


def to_protobuf(body: bytes) -> bytes:
    """The same request in the other encoding."""
    from relay.otlp import messages, transcode

    request = messages.decode_request(body)
    return transcode.to_protobuf(b",".join(messages.encode(r) for r in request.resourceSpans))


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
        ingest, admin, upstream = free_port(), free_port(), free_port()
        config = Path(folder, "relay.toml")
        config.touch(mode=0o600)
        config.write_text(
            f'state_dir = "state"\n[ingest]\nlisten = "127.0.0.1:{ingest}"\n'
            f'[admin]\nlisten = "127.0.0.1:{admin}"\n[buffer]\nmax_size = "8GiB"\n'
            f'min_free = "64MiB"\n'
            f'[destinations.up]\nendpoint = "http://127.0.0.1:{upstream}/v1/traces"\n'
            f'headers = {{ Authorization = "Bearer x" }}\n'
        )
        swallow = start([sys.executable, "-m", "tests.bench.servers", "swallow", str(upstream)], 1)
        serve = ["-m", "relay.cli", "serve", "--config", str(config), "--log-level", "warning"]
        if profile:
            serve = ["-m", "cProfile", "-o", f"/tmp/relay-{row.kind}-{row.spans}.prof", *serve]  # noqa: S108
        relay = start([sys.executable, *serve], 0)
        try:
            wait_for_port(upstream, swallow)
            wait_for_port(ingest, relay)
            requests = [load.request_bytes(ingest, body, media_type) for body in made]
            asyncio.run(load.run(ingest, requests, total=total // 10, connections=16))
            wait_until_delivered(admin, Path(folder, "state"), row.spans * (total // 10))
            before = cpu_seconds(relay.pid)
            result = asyncio.run(load.run(ingest, requests, total=total, connections=16))
            wait_until_delivered(admin, Path(folder, "state"), row.spans * (total + total // 10))
            used = cpu_seconds(relay.pid) - before
            resident = resident_mib(relay.pid)
        finally:
            for process in (relay, swallow):
                process.terminate()
                process.wait()
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


def wait_until_delivered(admin: int, state_dir: Path, spans: int) -> None:
    """Until the relay says that upstream has that many."""
    token = (state_dir / "admin-token").read_text().strip()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=10)
        connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {token}"})
        found = json.loads(connection.getresponse().read())
        connection.close()
        if found["destinations"][0]["delivered_spans"] >= spans:
            return
        time.sleep(0.05)
    sys.exit(f"not delivered within a minute: {found['destinations']}")


if __name__ == "__main__":
    main()
