"""Bodies of less than a megabyte that are made of what costs most, and yet do not look heavy."""

import time
from typing import Final

from relay.model.records import Encoding, Sender, Signal
from relay.otlp.protobuf_writer import delimited
from relay.process.prepare import Prepare, PrepareSettings
from tests.bench.payloads import Bodies

NOW_NS: Final = 1767225605 * 10**9
_BYTES: Final = 900_000
_IDS: Final = b'"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"'
_SPACED: Final = b"{                    }"  # so that there are no more than usual spans have


def many(part: bytes) -> bytes:
    """A list of it."""
    return b",".join([part] * (_BYTES // (len(part) + 1)))


def request(records: bytes) -> bytes:
    """In protobuf, of one scope."""
    return delimited(b"\x0a", delimited(b"\x12", records))


def spans(inside: bytes) -> bytes:
    """A request in JSON."""
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[%b]}]}]}' % inside


def points(inside: bytes) -> bytes:
    """A request in JSON, of one metric."""
    metric = b'{"name":"m","gauge":{"dataPoints":[%b]}}' % inside
    return b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[%b]}]}]}' % metric


def records(inside: bytes) -> bytes:
    """A request in JSON."""
    return b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}' % inside


def histogram(member: str, number: str, count: int) -> bytes:
    """A request in JSON, of one point with so many numbers."""
    point = f'{{"timeUnixNano":"{NOW_NS}","{member}":[{",".join([number] * count)}]}}'
    metric = f'{{"name":"m","histogram":{{"aggregationTemporality":2,"dataPoints":[{point}]}}}}'
    return f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}'.encode()


DENSE: Final[dict[str, tuple[bytes, Encoding, Signal]]] = {
    "points without a value": (
        points(many(b'{"timeUnixNano":"1"}') + b',{"timeUnixNano":"1","asInt":1}'),
        Encoding.JSON,
        Signal.METRICS,
    ),
    "points": (points(many(b'{"timeUnixNano":"1","asInt":1}')), Encoding.JSON, Signal.METRICS),
    "bare spans": (spans(many(_SPACED)), Encoding.JSON, Signal.TRACES),
    "events": (spans(b'{%b,"events":[%b]}' % (_IDS, many(_SPACED))), Encoding.JSON, Signal.TRACES),
    "empty records": (records(many(_SPACED)), Encoding.JSON, Signal.LOGS),
    "numbers": (histogram("explicitBounds", "1", 450_000), Encoding.JSON, Signal.METRICS),
    "unknown numbers": (spans(b'{"x":[%b]}' % many(b"1e5")), Encoding.JSON, Signal.TRACES),
    "unknown keys": (spans(b"{%b}" % many(b'"x":1')), Encoding.JSON, Signal.TRACES),
    "empty spans in protobuf": (request(b"\x12\x00" * 250_000), Encoding.PROTOBUF, Signal.TRACES),
    "empty records in protobuf": (request(b"\x12\x00" * 250_000), Encoding.PROTOBUF, Signal.LOGS),
}
"""By name."""

MOST_TIMES: Final = 2.75
"""So much longer than usual spans, the Python path's, may any body have the event loop.

In one run on one machine: usual spans took 5.5 ms, what was mended up to 23 ms.
"""
_USUAL: Final = Bodies("service", 1000).body()


def seconds_of_usual_spans() -> float:
    """What this thread needs for a megabyte of them just now."""
    prepare = Prepare(PrepareSettings(), native_pass=None)
    began = time.thread_time()
    prepare(_USUAL, Encoding.JSON, Sender("192.0.2.1"), is_bounded=True)
    return time.thread_time() - began
