"""The trace that `send-test-trace` posts: two spans that say what they are."""

import secrets
import time
from typing import Any

SERVICE = "otlp-relay-test"
NAME = "otlp-relay test trace"


def make_trace(trace_id: str, *, now_ns: int | None = None) -> dict[str, Any]:
    """An ExportTraceServiceRequest in OTLP/JSON: a parent and a child under `trace_id`."""
    end = now_ns if now_ns is not None else time.time_ns()
    parent_id, child_id = secrets.token_hex(8), secrets.token_hex(8)
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": [text("service.name", SERVICE)]},
                "scopeSpans": [
                    {
                        "scope": {"name": "otlp-relay"},
                        "spans": [
                            span(trace_id, parent_id, "", NAME, end - 50_000_000, end),
                            span(
                                trace_id, child_id, parent_id, "child", end - 40_000_000, end - 1000
                            ),
                        ],
                    }
                ],
            }
        ]
    }


def span(
    trace_id: str, span_id: str, parent: str, name: str, start: int, end: int
) -> dict[str, Any]:
    """One span in OTLP/JSON, of kind internal and status ok; times in nanoseconds."""
    return {
        "traceId": trace_id,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "attributes": [text("otlp_relay.test", "true")],
        "status": {"code": 1},
    }


def text(key: str, value: str) -> dict[str, Any]:
    """A string attribute in OTLP/JSON."""
    return {"key": key, "value": {"stringValue": value}}
