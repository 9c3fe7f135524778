"""The trace that `send-test-trace` posts: two spans that say what they are."""

import secrets
import time
from typing import Any

SERVICE = "otlp-relay-test"
NAME = "otlp-relay test trace"


def make_trace(trace_id: str) -> dict[str, Any]:
    """An ExportTraceServiceRequest in OTLP/JSON: a parent and a child under `trace_id`."""
    end = time.time_ns()
    shared = {
        "traceId": trace_id,
        "kind": 1,  # internal
        "attributes": [text("otlp_relay.test", "true")],
        "status": {"code": 1},  # ok
    }
    parent = {
        "spanId": secrets.token_hex(8),
        "parentSpanId": "",
        "name": NAME,
        "startTimeUnixNano": str(end - 50_000_000),
        "endTimeUnixNano": str(end),
    }
    child = {
        "spanId": secrets.token_hex(8),
        "parentSpanId": parent["spanId"],
        "name": "child",
        "startTimeUnixNano": str(end - 40_000_000),
        "endTimeUnixNano": str(end - 1000),
    }
    scope = {"scope": {"name": "otlp-relay"}, "spans": [shared | parent, shared | child]}
    resource = {"attributes": [text("service.name", SERVICE)]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def text(key: str, value: str) -> dict[str, Any]:
    """A string attribute in OTLP/JSON."""
    return {"key": key, "value": {"stringValue": value}}
