"""Traces to send, for tests that look for them elsewhere."""

import secrets

from tests.support.builders import request, span, to_body
from tests.support.relay_process import Relay

SPANS, SPANS_A_REQUEST = 50, 5


def trace_of(trace_id: str) -> list[bytes]:
    """Bodies of requests that hold `SPANS` spans of one trace."""
    made = [span(traceId=trace_id, spanId=secrets.token_hex(8)) for _ in range(SPANS)]
    return [
        to_body(request(*made[start : start + SPANS_A_REQUEST]))
        for start in range(0, SPANS, SPANS_A_REQUEST)
    ]


def post_trace(relay: Relay) -> str:
    """Post a trace of `SPANS` spans, each request answered with 200. Its id."""
    trace_id = secrets.token_hex(16)
    for body in trace_of(trace_id):
        assert relay.post(body)[0] == 200
    return trace_id
