"""The real receivers that the mock collector is compared with, each on a port of its own."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import programs
from tests.bench.processes import wait_for_port
from tests.support.ports import free_port
from tests.support.relay_process import Relay

# Nobody answers there: what is taken stays on disk.
_NOWHERE = {
    "endpoint": "http://127.0.0.1:1/v1/traces",
    "signals": ["traces", "logs", "metrics"],
}


@contextmanager
def relay(folder: Path) -> Iterator[int]:
    """The port of a relay with its state in that folder."""
    made = Relay(folder, {"nowhere": _NOWHERE})
    # Ids are judged alone: those of a sender that looks like OpenRouter would be mended.
    settings = made.config.read_text()
    made.config.write_text(
        settings.replace("[ingest]\n", '[ingest]\nmalformed_ids = "reject"\n', 1)
    )
    with made:
        yield made.ingest_port


@contextmanager
def collector(folder: Path) -> Iterator[int]:
    """The port of an OpenTelemetry Collector that throws away what it takes.

    It is the one of the end-to-end tests, built if it is not there. Raises RuntimeError without Go.
    """
    found = programs.collector()
    if found is None:
        raise RuntimeError("the Collector is built with Go: install it, or put it on the PATH")
    port = free_port()
    pipeline = {"receivers": ["otlp"], "exporters": ["debug"]}
    config = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": {"debug": {}},
        "service": {
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "fatal"}},
            "pipelines": dict.fromkeys(("traces", "logs", "metrics"), pipeline),
        },
    }
    path = folder / "collector.json"
    path.write_text(json.dumps(config))
    process = subprocess.Popen(
        [str(found.program), "--config", str(path)], stdout=subprocess.DEVNULL
    )
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()
