"""Senders that post until told to stop, and remember exactly what was answered with 200."""

import http.client
import json
import secrets
import threading
import time
from types import TracebackType
from typing import Self


def span_ids(count: int) -> list[str]:
    """That many fresh span ids."""
    return [secrets.token_hex(8) for _ in range(count)]


def request_of(ids: list[str], *, service: str = "load", padding: str = "") -> bytes:
    """An OTLP/JSON request with one span for each id."""
    now_ns = time.time_ns()
    spans = [
        {
            "traceId": secrets.token_hex(16),
            "spanId": span_id,
            "name": "load",
            "kind": 1,
            "startTimeUnixNano": str(now_ns),
            "endTimeUnixNano": str(now_ns + 5_000_000),
            "attributes": [{"key": "padding", "value": {"stringValue": padding}}],
        }
        for span_id in ids
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps(
        {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
    ).encode()


class Load:
    """`senders` threads that post to a port; a context manager, over when it is left."""

    def __init__(self, port: int, *, senders: int = 4, spans: int = 5) -> None:
        self._port = port
        self._spans = spans
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._enough = threading.Condition(self._lock)
        self.acknowledged: set[str] = set()
        self.statuses: dict[int, int] = {}
        self.broken = 0  # requests without an answer: nothing is promised of them
        self._threads = [threading.Thread(target=self._run) for _ in range(senders)]

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stop.is_set():
            ids = span_ids(self._spans)
            try:
                connection.request(
                    "POST", "/v1/traces", request_of(ids), {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                with self._lock:
                    self.broken += 1
                self._stop.wait(0.02)  # the relay is away: come again soon
                continue
            with self._enough:
                self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
                if response.status == 200:
                    self.acknowledged.update(ids)
                    self._enough.notify_all()
        connection.close()

    def wait_for_more(self, spans: int, *, seconds: float = 30.0) -> None:
        """Until that many more spans have been acknowledged."""
        with self._enough:
            goal = len(self.acknowledged) + spans
            done = self._enough.wait_for(lambda: len(self.acknowledged) >= goal, seconds)
        assert done, f"{len(self.acknowledged)} of {goal} acknowledged; {self.statuses}"

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
