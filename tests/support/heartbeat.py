"""`/healthz` a hundred times a second from a process of its own, and how long each answer took."""

import http.client
import json
import select
import sys
import time
from typing import Any

from tests.support.beside import Beside

PAUSE_SECONDS = 0.01


class Heartbeat(Beside):
    """A context manager; afterwards `seconds` are the times and `failures` what went wrong."""

    def __init__(self, port: int) -> None:
        super().__init__("tests.support.heartbeat", port)
        self.seconds: list[float] = []
        self.failures: list[str] = []

    def take(self, found: dict[str, Any]) -> None:
        self.seconds, self.failures = sorted(found["seconds"]), found["failures"]

    def quantile(self, share: float) -> float:
        """Within this many seconds that share of the answers came."""
        return self.seconds[min(len(self.seconds) - 1, int(len(self.seconds) * share))]

    def describe(self) -> str:
        """The times in one line, in milliseconds."""
        shares = (0.5, 0.9, 0.98, 0.99, 1.0)
        times = ", ".join(f"{share:.0%} {self.quantile(share) * 1e3:.1f}" for share in shares)
        return f"{len(self.seconds)} answers; ms within which came: {times}"


def main(port: int) -> None:
    """Ask until standard input ends; the times in JSON on standard output."""
    seconds: list[float] = []
    failures: list[str] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
        began = time.perf_counter()
        try:
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            response.read()
        except OSError as error:
            failures.append(repr(error))
            connection.close()
            continue
        seconds.append(time.perf_counter() - began)
        if response.status != 200:
            failures.append(str(response.status))
    connection.close()
    json.dump({"seconds": seconds, "failures": failures}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
