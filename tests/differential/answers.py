"""A request to a server in; its answer out, as what can be compared of it."""

import http.client
import json
from dataclasses import dataclass
from typing import Any, Final, Self

from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.differential.requests import JSON, PROTOBUF, Made

_SECONDS: Final = 30


@dataclass(frozen=True)
class Answer:
    """What a server answered. `message` is what it says in words, not compared but told."""

    status: int
    shape: str
    rejected: int = 0
    message: str = ""

    def __str__(self) -> str:
        rejected = f", {self.rejected} rejected" if self.rejected else ""
        words = f": {' '.join(self.message.split())[:160]}" if self.message else ""
        return f"{self.status} {self.shape}{rejected}{words}"

    @property
    def compared(self) -> tuple[int, str, int]:
        """What two servers have in common where they agree."""
        return self.status, self.shape, self.rejected


class Server:
    """A connection to one server, kept as long as that keeps it; a context manager."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)

    def answer(self, made: Made) -> Answer:
        """Send it and read the answer."""
        headers = {name: value for name, value in made.headers.items() if value}
        self._connection.request(made.method, made.path, made.body, headers)
        response = self._connection.getresponse()
        body, status = response.read(), response.status
        media_type = (response.getheader("Content-Type") or "").partition(";")[0]
        return _read(status, media_type, body)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _read(status: int, media_type: str, body: bytes) -> Answer:
    """Raises ValueError for a body that is not what its Content-Type says."""
    is_success = 200 <= status < 300
    if media_type == JSON:
        document = json.loads(body)
        if is_success:
            return _success(status, "success in JSON", document.pop("partialSuccess", {}), document)
        return Answer(status, "Status in JSON", message=str(document.get("message", "")))
    if media_type == PROTOBUF:
        if is_success:
            # Alike for all signals: only the names differ.
            partial = ExportTraceServiceResponse.FromString(body).partial_success
            found = {"rejected": partial.rejected_spans, "errorMessage": partial.error_message}
            return _success(status, "success in protobuf", found, {})
        return Answer(status, "Status in protobuf", message=Status.FromString(body).message)
    if media_type == "text/plain":
        return Answer(status, "text", message=body.decode())
    return Answer(status, f"{media_type or 'no type'}, {'a' if body else 'no'} body")


def _success(status: int, shape: str, partial: dict[str, Any], others: dict[str, Any]) -> Answer:
    if others:
        raise ValueError(f"a success holds {sorted(others)}")
    message = str(partial.pop("errorMessage", ""))
    rejected = [int(count) for count in partial.values()]
    return Answer(status, shape, sum(rejected), message)
