"""Senders that post until told to stop, and remember exactly what was answered with 200.

Every item carries an id of its own in an attribute, the same text in JSON and in protobuf, so that
each can be found again wherever it ends up: `ids_in`, `arrived`.
"""

import http.client
import itertools
import json
import re
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from mockcollector.server import MockCollector
from mockcollector.signals import TRAITS, Signal
from tests.support.builders import protobuf_twin

SIGNALS = tuple(str(signal) for signal in Signal)
MEDIA_TYPES = {"json": "application/json", "protobuf": "application/x-protobuf"}
Kind = tuple[str, str]  # signal and encoding
SPANS: tuple[Kind, ...] = (("traces", "json"),)
MIXED: tuple[Kind, ...] = tuple(itertools.product(SIGNALS, MEDIA_TYPES))
_IDS = re.compile(rb"(?:%s)-[0-9a-f]{16}" % "|".join(SIGNALS).encode())


def span_ids(count: int) -> list[str]:
    """That many fresh span ids."""
    return [secrets.token_hex(8) for _ in range(count)]


def item_ids(signal: str, count: int) -> list[str]:
    """That many fresh ids of items of "traces", "logs" or "metrics"."""
    return [f"{signal}-{each}" for each in span_ids(count)]


def signal_of(item_id: str) -> str:
    """What signal an id is of; a span id without that word is of traces."""
    return item_id.rpartition("-")[0] or "traces"


def ids_in(body: bytes) -> list[str]:
    """The ids in a request, or in a part of one, in their order."""
    return [found.decode() for found in _IDS.findall(body)]


def arrived(upstream: MockCollector) -> set[str]:
    """The ids of all items that an upstream took."""
    journal = upstream.journal
    items = (*journal.spans(), *journal.log_records(), *journal.data_points())
    return {str(item.attributes.get("id")) for item in items}


def request_of(ids: list[str], *, service: str = "load", padding: str = "") -> bytes:
    """An OTLP/JSON request with one item for each id, all of one signal."""
    return json.dumps(_request(ids, service, padding)).encode()


def _request(ids: list[str], service: str, padding: str) -> dict[str, Any]:
    name, records, make = _MAKERS[signal_of(ids[0])]
    resource = {"attributes": [_attribute("service.name", service)]}
    items = [make(each, time.time_ns(), padding) for each in ids]
    within = {"resource": resource, f"scope{name}": [{records: items}]}
    return {f"resource{name}": [within]}


def _attribute(key: str, text: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": text}}


def _attributes(item_id: str, padding: str) -> list[dict[str, Any]]:
    return [_attribute("id", item_id), _attribute("padding", padding)]


def _span(item_id: str, now_ns: int, padding: str) -> dict[str, Any]:
    return {
        "traceId": secrets.token_hex(16),
        "spanId": item_id[-16:],
        "name": "load",
        "kind": 1,
        "startTimeUnixNano": str(now_ns),
        "endTimeUnixNano": str(now_ns + 5_000_000),
        "attributes": _attributes(item_id, padding),
    }


def _log_record(item_id: str, now_ns: int, padding: str) -> dict[str, Any]:
    return {
        "timeUnixNano": str(now_ns),
        "severityNumber": 9,
        "body": {"stringValue": "load"},
        "attributes": _attributes(item_id, padding),
    }


def _metric(item_id: str, now_ns: int, padding: str) -> dict[str, Any]:
    """One point of a series of its own."""
    point = {
        "startTimeUnixNano": str(now_ns - 10**9),
        "timeUnixNano": str(now_ns),
        "asInt": "1",
        "attributes": _attributes(item_id, padding),
    }
    total = {"dataPoints": [point], "aggregationTemporality": 2, "isMonotonic": True}
    return {"name": "load", "unit": "1", "sum": total}


_MAKERS = {
    "traces": ("Spans", "spans", _span),
    "logs": ("Logs", "logRecords", _log_record),
    "metrics": ("Metrics", "metrics", _metric),
}


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A request and the ids that its answer is about."""

    ids: list[str]
    path: str
    media_type: str
    body: bytes


def nth_request(
    number: int, items: int, *, kinds: Sequence[Kind] = MIXED, padding: str = ""
) -> LoadRequest:
    """The `number`-th request of a load that has each of `kinds` by turns."""
    signal, encoding = kinds[number % len(kinds)]
    traits = TRAITS[Signal(signal)]
    ids = item_ids(signal, items)
    if encoding == "json":
        body = request_of(ids, padding=padding)
    else:
        made = _request(ids, "load", padding)
        body = protobuf_twin(made, traits.request).SerializeToString()
    return LoadRequest(ids, traits.path, MEDIA_TYPES[encoding], body)


class Load:
    """`senders` threads that post to a port; a context manager, over when it is left.

    Each posts again as soon as it was answered or, with `per_second`, all of them together so many
    requests a second: then `reached` says how many it came to.
    """

    def __init__(
        self,
        port: int,
        *,
        senders: int = 4,
        items: int = 5,
        kinds: Sequence[Kind] = SPANS,
        token: str = "",
        per_second: float = 0.0,
    ) -> None:
        self._port = port
        self._per_second = per_second
        self._began = self._ended = 0.0
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._items = items
        self._kinds = kinds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._enough = threading.Condition(self._lock)
        self._numbers = itertools.count()
        self.acknowledged: set[str] = set()
        self.statuses: dict[int, int] = {}
        self.broken = 0  # requests without an answer: nothing is promised of them
        self._threads = [threading.Thread(target=self._run) for _ in range(senders)]

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stop.is_set():
            number = next(self._numbers)
            if self._per_second:
                due = self._began + number / self._per_second
                if self._stop.wait(max(due - time.monotonic(), 0.0)):
                    break
            made = nth_request(number, self._items, kinds=self._kinds)
            try:
                headers = {"Content-Type": made.media_type, **self._headers}
                connection.request("POST", made.path, made.body, headers)
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
                    self.acknowledged.update(made.ids)
                    self._enough.notify_all()
        connection.close()

    def wait_for_more(self, items: int, *, seconds: float = 30.0) -> None:
        """Until that many more items have been acknowledged."""
        with self._enough:
            goal = len(self.acknowledged) + items
            done = self._enough.wait_for(lambda: len(self.acknowledged) >= goal, seconds)
        assert done, f"{len(self.acknowledged)} of {goal} acknowledged; {self.statuses}"

    @property
    def reached(self) -> float:
        """Requests that were answered, a second."""
        seconds = (self._ended or time.monotonic()) - self._began
        return sum(self.statuses.values()) / seconds

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Post no more; safe twice."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._ended = self._ended or time.monotonic()
