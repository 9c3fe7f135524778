"""How fast the mock collector is: `python -m tests.bench.mock [--old CHECKOUT] [--seconds 3]`.

It runs `mockcollector serve` as a process, sends requests on four connections from this one, and
prints a line of a Markdown table for each row: accepted items a second and the CPU of an item, with
one item a request, 100 and 512; of the last the 99th percentile of a request, and the most memory,
before and after a question that looks at all that is kept. With `--old`, a checkout with an older
`mockcollector/`, each row is followed by the same of that one. While a wait is open, 100,000 spans
are kept, and what is waited for never comes. `--only TEXT` takes the rows whose name contains it.
"""

import argparse
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mockcollector.otlp_json import decode_request
from mockcollector.signals import TRAITS, Signal
from tests.bench.load import request_bytes, run
from tests.bench.payloads import Bodies
from tests.bench.processes import cpu_seconds, resident_mib

HERE: Final = Path(__file__).resolve().parents[2]
BATCHES: Final = (1, 100, 512)
CONNECTIONS: Final = 4
KEPT_SPANS: Final = 100_000
COMMAND: Final = "import sys; sys.path.insert(0, {!r}); from mockcollector.cli import main; main()"
BY_NAME: Final = {"name": "never"}
BY_ATTRIBUTE: Final = {"name": {"$pattern": "^GET "}, "attributes": {"http.route": "/never"}}


@dataclass(frozen=True)
class Row:
    """What is sent, what is kept of it, and what is waited for meanwhile."""

    name: str
    encoding: str
    kind: str = "service"
    keep: str = "spans"
    waits_for: Any = None
    is_spaced: bool = False

    @property
    def signal(self) -> Signal:
        """Of what is sent."""
        return {"log": Signal.LOGS, "point": Signal.METRICS}.get(self.kind, Signal.TRACES)

    def requests(self, port: int, batch: int) -> list[bytes]:
        """Whole requests of that many items."""
        made = Bodies(self.kind, batch)
        bodies = [made.body() for _ in range(8)]
        if self.is_spaced:
            bodies = [json.dumps(json.loads(body)).encode() for body in bodies]
        media_type = "application/json"
        if self.encoding == "protobuf":
            media_type, kind = "application/x-protobuf", TRAITS[self.signal].request
            bodies = [decode_request(body, kind)[0].SerializeToString() for body in bodies]
        path = TRAITS[self.signal].path
        return [request_bytes(port, body, media_type, path) for body in bodies]


ROWS: Final = (
    Row("spans, protobuf", "protobuf"),
    Row("spans, protobuf, a wait open (name)", "protobuf", waits_for=BY_NAME),
    Row("spans, JSON", "json"),
    Row("spans, JSON, a wait open (name)", "json", waits_for=BY_NAME),
    Row("spans, JSON, a wait open (pattern, attribute)", "json", waits_for=BY_ATTRIBUTE),
    Row("spans, JSON as json.dumps writes it", "json", is_spaced=True),
    Row("spans with prompts of 10 KB, JSON", "json", "genai"),
    Row("log records, JSON", "json", "log"),
    Row("data points, JSON", "json", "point"),
    Row("counts, protobuf", "protobuf", keep="counts"),
    Row("counts, JSON", "json", keep="counts"),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    checkouts = {"": HERE} | ({"before": options.old} if options.old else {})
    print("| mode | " + " | ".join(f"batch {n}" for n in BATCHES) + " | p99 | memory |")
    print("|---|---|---|---|---|---|")
    for row in ROWS:
        if options.only not in row.name:
            continue
        for when, checkout in checkouts.items():
            measured = [measure(checkout, row, batch, options.seconds) for batch in BATCHES]
            rates = " | ".join(f"{each['rate']:,.0f}/s, {each['cpu']:.1f} µs" for each in measured)
            last = f"{measured[-1]['p99']:.0f} ms | {measured[-1]['mib']:.0f} MiB"
            if row.keep == "spans":
                last += f", {measured[-1]['asked']:.0f} MiB"
            print(f"| {when or row.name} | {rates} | {last} |", flush=True)


def measure(checkout: Path, row: Row, batch: int, seconds: float) -> dict[str, float]:
    """Accepted items a second, microseconds of CPU for one, milliseconds of a request, most MiB."""
    with _serving(checkout, row.keep) as (process, port, control):
        requests = row.requests(port, batch)
        if row.waits_for is not None:
            _wait_open(control, row)
            filling = row.requests(port, BATCHES[-1])
            run(port, filling, connections=CONNECTIONS, total=KEPT_SPANS // BATCHES[-1])
        before = cpu_seconds(process.pid)
        result = run(port, requests, connections=CONNECTIONS, seconds=seconds)
        used = cpu_seconds(process.pid) - before
        assert set(result.statuses) == {200}, result.statuses
        kept_mib = resident_mib(process.pid, "VmHWM")
        if row.keep == "spans":
            _ask(control, "GET", f"/{TRAITS[row.signal].items.replace(' ', '-')}?attribute=no=1")
        asked_mib = resident_mib(process.pid, "VmHWM")
    items = result.requests * batch
    return {
        "rate": items / result.seconds,
        "cpu": used * 1e6 / items,
        "p99": statistics.quantiles(result.latencies, n=100)[98] * 1000,
        "mib": kept_mib,
        "asked": asked_mib,
    }


@contextmanager
def _serving(checkout: Path, keep: str) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """A collector: its process, its port, and the URL of its control API."""
    command = [sys.executable, "-c", COMMAND.format(str(checkout)), "serve", "--json"]
    command += ["--listen", "127.0.0.1:0", "--keep", keep, "--control", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=checkout) as process:
        assert process.stdout is not None
        started, lines = json.loads(process.stdout.readline()), process.stdout
        threading.Thread(target=lambda: all(lines), daemon=True).start()  # until it ends
        try:
            yield process, int(started["endpoint"].split("/")[2].split(":")[1]), started["control"]
        finally:
            process.terminate()
            process.wait()


def _wait_open(control: str, row: Row) -> None:
    """Wait in another thread, and return once the collector knows of it."""
    body = json.dumps({TRAITS[row.signal].item: row.waits_for, "timeout": 600}).encode()
    is_asked = threading.Event()

    def wait() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):  # the collector ends first
            _ask(control, "POST", "/wait", body, is_asked)

    threading.Thread(target=wait, daemon=True).start()
    is_asked.wait(10)


def _ask(
    control: str,
    method: str,
    path: str,
    body: bytes = b"",
    is_asked: threading.Event | None = None,
) -> None:
    """A question to the control API, until it is answered."""
    connection = http.client.HTTPConnection(control.removeprefix("http://"), timeout=600)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    if is_asked is not None:
        is_asked.set()
    connection.getresponse().read()
    connection.close()


if __name__ == "__main__":
    main()
