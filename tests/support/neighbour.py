"""A sender in a process of its own, and how long each of its requests took."""

import http.client
import json
import select
import statistics
import sys
import time
from typing import Any

from tests.support.beside import Beside
from tests.support.load import request_of, span_ids


class Neighbour(Beside):
    """Posts `spans` spans of so many bytes every `pause` seconds; a context manager.

    Afterwards `seconds` are the times of its requests and `statuses` what they were answered, 0
    where the connection was lost.
    """

    def __init__(
        self, port: int, *, spans: int = 5, padding: int = 100, pause: float = 0.02, token: str = ""
    ) -> None:
        super().__init__("tests.support.neighbour", port, spans, padding, pause, token)
        self.seconds: list[float] = []
        self.statuses: list[int] = []

    @property
    def median(self) -> float:
        """Half of the requests took no longer."""
        return statistics.median(self.seconds)

    @property
    def share_kept(self) -> float:
        """Of its requests that were answered 200."""
        return self.statuses.count(200) / len(self.statuses)

    def take(self, found: dict[str, Any]) -> None:
        self.seconds, self.statuses = found["seconds"], found["statuses"]


def main(port: int, spans: int, padding: int, pause: float, token: str) -> None:
    """Post until standard input ends; the times in JSON on standard output."""
    body = request_of(span_ids(spans), padding="x" * padding)
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    seconds: list[float] = []
    statuses: list[int] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], pause)[0]:
        began = time.perf_counter()
        status = 0
        try:
            connection.request("POST", "/v1/traces", body, headers)
            response = connection.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException):
            connection.close()
        seconds.append(time.perf_counter() - began)
        statuses.append(status)
    connection.close()
    json.dump({"seconds": seconds, "statuses": statuses}, sys.stdout)


if __name__ == "__main__":
    port, spans, padding, pause, token = sys.argv[1:]
    main(int(port), int(spans), int(padding), float(pause), token)
