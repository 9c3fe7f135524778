"""Bodies for the benchmark: varied prose and unique ids, as in life, from a fixed seed."""

import json
import random
import time
from typing import Any

from relay.model.records import Encoding
from relay.otlp import transcode
from relay.otlp.signals import LOGS, METRICS, TRACES, SignalWire

SEED = 4318
KINDS = {"service": TRACES, "genai": TRACES, "log": LOGS, "point": METRICS}
POINTS_A_METRIC = 10


class Prose:
    """Text with the letter and word statistics of prose, so that zstd has honest work."""

    def __init__(self, rng: random.Random) -> None:
        letters = "eeeeeetttttaaaaooooiiiinnnnssshhhrrrdddllluuccmmwwffggyyppbbvk"
        self._words = sorted(
            {"".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(6000)}
        )
        self._weights = [1 / (rank + 3) for rank in range(len(self._words))]
        self._rng = rng

    def text(self, size: int) -> str:
        """About `size` characters."""
        words = self._rng.choices(self._words, self._weights, k=size // 5)
        return (" ".join(words))[:size]


def attribute(key: str, value: str | float) -> dict[str, Any]:
    """A key with a value in OTLP/JSON."""
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": key, "value": {"doubleValue": value}}
    return {"key": key, "value": {"stringValue": value}}


class Bodies:
    """Makes request bodies of one kind."""

    def __init__(self, kind: str, items: int) -> None:
        self.wire = KINDS[kind]
        self._rng = random.Random(SEED)
        self._now_ns = time.time_ns()
        self._prose = Prose(self._rng)
        self._kind = kind
        self._items = items

    def body(self) -> bytes:
        """One request, never the same twice."""
        entries, scopes, records = self.wire.lists[Encoding.JSON]
        scope = {"scope": {"name": "bench", "version": "1.0"}, records: self._records()}
        entry = {"resource": {"attributes": self._resource()}, scopes: [scope]}
        return json.dumps({entries: [entry]}, separators=(",", ":")).encode()

    def _records(self) -> list[dict[str, Any]]:
        match self._kind:
            case "genai":
                return [self._span(self._genai()) for _ in range(self._items)]
            case "service":
                return [self._span(self._service()) for _ in range(self._items)]
            case "log":
                return [self._log_record() for _ in range(self._items)]
            case _:
                return [self._metric(at) for at in range(0, self._items, POINTS_A_METRIC)]

    def _resource(self) -> list[dict[str, Any]]:
        instance = f"i-{self._rng.getrandbits(48):012x}" if self._kind == "genai" else "i-1"
        return [
            attribute("service.name", "openrouter" if self._kind == "genai" else "shop"),
            attribute("service.version", "1.0.0"),
            attribute("openrouter.trace.id", f"gen-{instance}"),
        ]

    def _span(self, attributes: list[dict[str, Any]]) -> dict[str, Any]:
        start = self._now_ns - self._rng.randrange(10**14)  # of this day, as spans are
        return {
            "traceId": f"{self._rng.getrandbits(128) | 1:032x}",
            "spanId": f"{self._rng.getrandbits(64) | 1:016x}",
            "parentSpanId": f"{self._rng.getrandbits(64) | 1:016x}",
            "name": "GET /orders/{id}" if self._kind == "service" else "LLM Generation",
            "kind": 2,
            "startTimeUnixNano": str(start),
            "endTimeUnixNano": str(start + self._rng.randrange(10**9)),
            "attributes": attributes,
            "status": {"code": 1},
        }

    def _log_record(self) -> dict[str, Any]:
        at_ns = self._now_ns - self._rng.randrange(10**14)
        return {
            "timeUnixNano": str(at_ns),
            "observedTimeUnixNano": str(at_ns + 10**6),
            "severityNumber": self._rng.choice([5, 9, 9, 9, 13, 17]),
            "severityText": "INFO",
            "body": {"stringValue": self._prose.text(150)},
            "attributes": self._service()[:6],
            "traceId": f"{self._rng.getrandbits(128) | 1:032x}",
            "spanId": f"{self._rng.getrandbits(64) | 1:016x}",
        }

    def _metric(self, at: int) -> dict[str, Any]:
        """Every fifth is a histogram, the others are sums."""
        is_histogram = at // POINTS_A_METRIC % 5 == 4
        make = self._histogram_point if is_histogram else self._number_point
        data: dict[str, Any] = {
            "dataPoints": [
                {
                    "startTimeUnixNano": str(self._now_ns - 10**13),
                    "timeUnixNano": str(self._now_ns - self._rng.randrange(10**9)),
                    "attributes": self._service()[:5],
                    **make(),
                }
                for _ in range(min(POINTS_A_METRIC, self._items - at))
            ],
            "aggregationTemporality": 2,
        }
        if is_histogram:
            return {"name": f"http.server.{at}", "unit": "s", "histogram": data}
        return {"name": f"http.server.{at}", "unit": "1", "sum": {**data, "isMonotonic": True}}

    def _number_point(self) -> dict[str, Any]:
        return {"asInt": str(self._rng.randrange(10**6))}

    def _histogram_point(self) -> dict[str, Any]:
        counts = [self._rng.randrange(1000) for _ in range(16)]
        return {
            "count": str(sum(counts)),
            "sum": self._rng.random() * 1000,
            "bucketCounts": [str(count) for count in counts],
            "explicitBounds": [2.0**power / 100 for power in range(15)],
        }

    def _service(self) -> list[dict[str, Any]]:
        rng = self._rng
        return [
            attribute("http.request.method", rng.choice(["GET", "POST", "PUT"])),
            attribute("url.path", f"/orders/{rng.randrange(10**6)}"),
            attribute("http.route", "/orders/{id}"),
            attribute("http.response.status_code", rng.choice([200, 200, 200, 404, 500])),
            attribute("server.address", "shop.example.com"),
            attribute("client.address", f"10.0.{rng.randrange(256)}.{rng.randrange(256)}"),
            attribute(
                "user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) " + self._prose.text(30)
            ),
            attribute("user.id", f"user-{rng.randrange(10**6)}"),
            attribute("thread.id", rng.randrange(10**5)),
            attribute("note", self._prose.text(120)),
        ]

    def _genai(self) -> list[dict[str, Any]]:
        rng = self._rng
        return [
            attribute("gen_ai.operation.name", "chat"),
            attribute("gen_ai.system", "example"),
            attribute("gen_ai.request.model", "example/tiny-chat"),
            attribute("gen_ai.response.model", "example/tiny-chat"),
            attribute("gen_ai.response.id", f"gen-{rng.getrandbits(64):016x}"),
            attribute("gen_ai.usage.input_tokens", rng.randrange(10**4)),
            attribute("gen_ai.usage.output_tokens", rng.randrange(10**4)),
            attribute("gen_ai.usage.total_cost", rng.random() / 100),
            attribute("session.id", f"sess-{rng.randrange(10**6)}"),
            attribute("user.id", f"user-{rng.randrange(10**6)}"),
            attribute("span.type", "generation"),
            attribute("span.level", "DEFAULT"),
            attribute("gen_ai.response.finish_reason", "stop"),
            attribute("gen_ai.prompt", self._prose.text(5000)),
            attribute("gen_ai.completion", self._prose.text(5000)),
        ]


def to_protobuf(body: bytes, wire: SignalWire) -> bytes:
    """The same request in the other encoding."""
    before, _, after = wire.json_request.partition(b"%b")
    return transcode.to_protobuf(body[len(before) : -len(after)], wire.signal)
