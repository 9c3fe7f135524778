"""Processes pinned to a core, and what they have used: CPU seconds, resident MiB."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from relay.model.records import Signal
from tests.support.ports import free_port

TICKS = os.sysconf("SC_CLK_TCK")


def start(arguments: list[str], core: int, *, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """A process pinned to one core."""
    return subprocess.Popen(
        arguments,
        stdout=stdout,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509
    )


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


class Relay:
    """One relay on core 0 with one destination, `up`, on that port of this host."""

    def __init__(self, folder: Path, upstream: int, *, profiler: list[str] | None = None) -> None:
        self.ingest, self._admin = free_port(), free_port()
        self.state_dir = folder / "state"
        self.config = folder / "relay.toml"
        self.config.touch(mode=0o600)
        signals = ", ".join(f'"{signal.word}"' for signal in Signal)
        self.config.write_text(
            f'state_dir = "state"\n[ingest]\nlisten = "127.0.0.1:{self.ingest}"\n'
            f'[admin]\nlisten = "127.0.0.1:{self._admin}"\n[buffer]\nmax_size = "16GiB"\n'
            f'min_free = "64MiB"\n'
            f'[destinations.up]\nendpoint = "http://127.0.0.1:{upstream}/v1/traces"\n'
            f"signals = [{signals}]\n"
            f'headers = {{ Authorization = "Bearer x" }}\n'
        )
        self._profiler = profiler or []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it accepts."""
        serve = ["-m", "relay.cli", "serve", "--config", str(self.config), "--log-level", "warning"]
        self._process = start([sys.executable, *self._profiler, *serve], 0)
        wait_for_port(self.ingest, self._process)

    @property
    def pid(self) -> int:
        """Of the daemon."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def ask(self, path: str) -> Any:
        """GET from the admin API."""
        token = (self.state_dir / "admin-token").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=30)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        found = json.loads(connection.getresponse().read())
        connection.close()
        return found
