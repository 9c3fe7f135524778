"""Other relays, to stand beside ours in one run: the Collector with a queue on disk, and rotel.

Neither is part of the project. The Collector is the one that `make test-e2e` builds; rotel comes
as a Python package of that name. Where one is missing its rows are left out.
"""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import cpu_seconds, start, wait_for_port
from tests.support.ports import free_port

QUIET_SECONDS = 1.0  # without work for so long: everything is delivered
IDLE_SHARE = 0.05  # of a core, which it uses anyway
MOST_SECONDS = 120.0


@dataclass(frozen=True)
class Peer:
    """How one is started: folder, port to listen on and upstream's port in, command line out."""

    name: str
    command: Callable[[Path, int, int], list[str]]


def collector(program: Path) -> Peer:
    """The Collector, whose queue is on disk and synced, as our buffer is."""

    def command(folder: Path, port: int, upstream: int) -> list[str]:
        (folder / "queue").mkdir()
        exporter = {
            "endpoint": f"http://127.0.0.1:{upstream}",
            "compression": "none",
            "sending_queue": {"storage": "file_storage", "queue_size": 100_000},
        }
        pipeline = {"receivers": ["otlp"], "exporters": ["otlp_http"]}
        storage = {"directory": str(folder / "queue"), "fsync": True}
        config = {
            "extensions": {"file_storage": storage},
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
            "exporters": {"otlp_http": exporter},
            "service": {
                "extensions": ["file_storage"],
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
                "pipelines": dict.fromkeys(("traces", "logs", "metrics"), pipeline),
            },
        }
        (folder / "config.json").write_text(json.dumps(config))
        return [str(program), "--config", str(folder / "config.json")]

    return Peer("collector", command)


def rotel(program: Path) -> Peer:
    """rotel, which keeps everything in memory alone."""

    def command(_folder: Path, port: int, upstream: int) -> list[str]:
        options = {
            "otlp-http-endpoint": f"127.0.0.1:{port}",
            "otlp-grpc-endpoint": f"127.0.0.1:{free_port()}",
            "exporter": "otlp",
            "otlp-exporter-endpoint": f"http://127.0.0.1:{upstream}",
            "otlp-exporter-protocol": "http",
            "otlp-exporter-compression": "none",
        }
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [str(program), "start", *flags]

    return Peer("rotel", command)


class Running:
    """One of them on core 0."""

    def __init__(self, peer: Peer, folder: Path, upstream: int) -> None:
        self.ingest = free_port()
        self._process: subprocess.Popen[bytes] = start(
            peer.command(folder, self.ingest, upstream), 0, stdout=subprocess.DEVNULL
        )
        wait_for_port(self.ingest, self._process)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def wait_until_idle(self) -> None:
        """Until it has had nothing to do for a while."""
        deadline = time.monotonic() + MOST_SECONDS
        before = -1.0
        while time.monotonic() < deadline:
            used = cpu_seconds(self.pid)
            if used - before < QUIET_SECONDS * IDLE_SHARE:
                return
            before = used
            time.sleep(QUIET_SECONDS)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()
        self._process.wait()
