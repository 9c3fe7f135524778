"""Processes pinned to a core, and what they have used: CPU seconds, resident MiB."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port

TICKS = os.sysconf("SC_CLK_TCK")
RELAY_CORE, LOAD_CORE = 0, 1


def start(
    arguments: list[str],
    core: int,
    *,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """A process pinned to one core."""
    return subprocess.Popen(
        arguments,
        cwd=folder,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def first_thread_seconds(pid: int) -> float:
    """User and system time of its first thread alone; of the relay that is the event loop's."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def threads_seconds(pid: int) -> float:
    """As `cpu_seconds`, to the microsecond, of the threads that there are: for what is little."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def resident_mib(pid: int, kind: str = "VmRSS") -> float:
    """Memory that a process holds now, or held at most (`VmHWM`)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(kind + ":")[2].split()[0]) / 1024


def forget_peak(pid: int) -> None:
    """What it holds at most (`VmHWM`) counts from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until it accepts."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    sys.exit(f"nothing came up on port {port}")


@contextmanager
def server(kind: str, core: int, *options: str, port: int = 0) -> Iterator[tuple[int, int]]:
    """Port and pid of one of `servers`, while it runs."""
    port = port or free_port()
    process = start([sys.executable, "-m", "tests.bench.servers", kind, str(port), *options], core)
    try:
        wait_for_port(port, process)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()
