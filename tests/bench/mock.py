"""How fast the mock collector is: `python -m tests.bench.mock [--old CHECKOUT] [--seconds 5]`.

It runs `mockcollector serve` as a process, sends batches of 512 spans on four connections from
another one, and prints accepted spans a second, the median time of a request, and the most memory.
With `--old`, a checkout with an older `mockcollector/`, both run in turn, and the ratio is printed.
The rows: both encodings in either mode, and JSON while somebody waits for a span that never comes
with 100,000 spans kept.
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from mockcollector.otlp_json import decode_request
from tests.bench.payloads import Bodies

SPANS: Final = 512
CONNECTIONS: Final = 4
ROWS: Final = (
    ("json", "spans", False),
    ("protobuf", "spans", False),
    ("json", "counts", False),
    ("protobuf", "counts", False),
    ("json", "spans", True),
)
COMMAND: Final = "import sys; sys.path.insert(0, {!r}); from mockcollector.cli import main; main()"


def main() -> None:
    """Print a line a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    here = Path(__file__).resolve().parents[2]
    bodies = {"json": [Bodies("service", SPANS).body() for _ in range(8)]}
    bodies["protobuf"] = [decode_request(body)[0].SerializeToString() for body in bodies["json"]]
    for encoding, keep, is_waiting in ROWS:
        new = measure(here, encoding, keep, bodies[encoding], options.seconds, is_waiting)
        line = f"{encoding:9}{keep:7}{'a wait open  ' if is_waiting else ''}{_shown(new)}"
        if options.old:
            old = measure(
                options.old, encoding, keep, bodies[encoding], options.seconds, is_waiting
            )
            line += f"  before: {_shown(old)}  {new['spans'] / old['spans']:.1f} times"
        print(line, flush=True)


def _shown(figures: dict[str, float]) -> str:
    return (
        f"{figures['spans']:9,.0f} spans/s  p50 {figures['p50']:5.1f} ms  {figures['mib']:4.0f} MiB"
    )


def measure(
    checkout: Path, encoding: str, keep: str, bodies: list[bytes], seconds: float, is_waiting: bool
) -> dict[str, float]:
    """Spans a second, median milliseconds of a request, most MiB."""
    command = [sys.executable, "-c", COMMAND.format(str(checkout)), "serve", "--json"]
    command += ["--listen", "127.0.0.1:0", "--keep", keep, "--control", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=checkout) as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        lines = process.stdout
        threading.Thread(target=lambda: all(lines), daemon=True).start()  # until it ends
        host, port = started["endpoint"].split("/")[2].split(":")
        address = (host, int(port))
        if is_waiting:
            _send(address, encoding, bodies, requests=200)
            threading.Thread(target=_wait, args=(started["control"],), daemon=True).start()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            sent, took = pool.apply(_load, (address, encoding, bodies, seconds))
        memory = Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        process.terminate()
        process.wait()
    median = statistics.median(took) * 1000
    return {"spans": sent * SPANS / seconds, "p50": median, "mib": int(memory) / 1024}


def _wait(control: str) -> None:
    body = json.dumps({"span": {"name": "never"}, "timeout": 600}).encode()
    host, port = control.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("POST", "/wait", body, {"Content-Type": "application/json"})
    with contextlib.suppress(OSError, http.client.HTTPException):  # the collector ends first
        connection.getresponse()


def _load(
    address: tuple[str, int], encoding: str, bodies: list[bytes], seconds: float
) -> tuple[int, list[float]]:
    took: list[float] = []
    ends = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_send, args=(address, encoding, bodies), kwargs=options)
        for options in [{"until": ends, "took": took}] * CONNECTIONS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(took), took


def _send(
    address: tuple[str, int],
    encoding: str,
    bodies: list[bytes],
    *,
    requests: int = 10**9,
    until: float = float("inf"),
    took: list[float] | None = None,
) -> None:
    media_type = "application/json" if encoding == "json" else "application/x-protobuf"
    with socket.create_connection(address) as connection:
        for number in range(requests):
            began = time.monotonic()
            if began > until:
                return
            body: Any = bodies[number % len(bodies)]
            head = f"POST /v1/traces HTTP/1.1\r\nHost: mock\r\nContent-Type: {media_type}\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = b""
            while not answer.endswith(b"{}" if encoding == "json" else b"\r\n\r\n"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
            if took is not None:
                took.append(time.monotonic() - began)


if __name__ == "__main__":
    main()
