"""Bodies for the benchmark: varied prose and unique ids, as in life, from a fixed seed."""

import json
import random
import time
from typing import Any

import msgspec

from relay.model.records import Signal
from relay.otlp import messages, transcode

SEED = 4318
KINDS = ("service", "genai")


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

    def __init__(self, kind: str, spans: int) -> None:
        assert kind in KINDS
        self._rng = random.Random(SEED)
        self._now_ns = time.time_ns()
        self._prose = Prose(self._rng)
        self._kind = kind
        self._spans = spans

    def body(self) -> bytes:
        """One request, never the same twice."""
        make = self._genai if self._kind == "genai" else self._service
        entry = {
            "resource": {"attributes": self._resource()},
            "scopeSpans": [
                {
                    "scope": {"name": "bench", "version": "1.0"},
                    "spans": [self._span(make()) for _ in range(self._spans)],
                }
            ],
        }
        return json.dumps({"resourceSpans": [entry]}, separators=(",", ":")).encode()

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


def to_protobuf(body: bytes) -> bytes:
    """The same request in the other encoding."""
    request = msgspec.json.decode(body, type=messages.ExportTraceServiceRequest)
    return transcode.to_protobuf(
        b",".join(messages.encode(r) for r in request.resourceSpans), Signal.TRACES
    )
