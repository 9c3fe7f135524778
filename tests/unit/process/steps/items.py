"""Items of every signal in both encodings, to run steps over."""

import json
from typing import Any

from relay.model.records import Encoding, Signal
from relay.otlp.transcode import to_json, to_protobuf

Json = dict[str, Any]
BOTH = tuple(Encoding)


def text(key: str, value: str) -> Json:
    return {"key": key, "value": {"stringValue": value}}


def span(number: int = 1, *attributes: Json, **members: Any) -> Json:
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "GET /",
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": "4000000000",
        "attributes": list(attributes),
        **members,
    }


def spans(*made: Json, resource: Json | None = None, scope: Json | None = None) -> bytes:
    around = {"resource": resource or {"attributes": [text("service.name", "shop")]}}
    return fragment(around | {"scopeSpans": [{"scope": scope or {"name": "lib"}, "spans": made}]})


def logs(*made: Json) -> bytes:
    return fragment({"scopeLogs": [{"logRecords": made}]})


def metrics(*made: Json) -> bytes:
    return fragment({"scopeMetrics": [{"metrics": made}]})


def fragment(*entries: Json) -> bytes:
    return b",".join(json.dumps(each, separators=(",", ":")).encode() for each in entries)


def encoded(made: bytes, encoding: Encoding, signal: Signal = Signal.TRACES) -> bytes:
    """A JSON fragment in `encoding`, in normal form."""
    in_protobuf = to_protobuf(made, signal)
    return in_protobuf if encoding is Encoding.PROTOBUF else to_json(in_protobuf, signal)


def entries(body: bytes, encoding: Encoding, signal: Signal = Signal.TRACES) -> list[Json]:
    """What a fragment holds, as JSON."""
    if encoding is Encoding.PROTOBUF:
        body = to_json(body, signal)
    found: list[Json] = json.loads(b"[%b]" % body)
    return found
