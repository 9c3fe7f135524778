"""The spans or log records of one trace out of a kept row, as OTLP/JSON."""

from typing import Any

import msgspec

from relay.model.records import Encoding, Signal, StoredRow
from relay.otlp import messages, transcode
from relay.otlp.signals import WIRE


def entries_of_trace(row: StoredRow, trace_id: bytes) -> list[dict[str, Any]]:
    """The `resourceSpans` or `resourceLogs` of a row with only what belongs to one trace.

    Empty for metrics, which belong to none.
    """
    if row.signal is Signal.METRICS:
        return []
    lists = WIRE[row.signal].lists[Encoding.JSON]
    wanted = trace_id.hex()
    found = []
    for entry in transcode.decode_entries(json_fragment(row), row.signal):
        scopes = []
        for scope in getattr(entry, lists.scopes):
            records = [each for each in getattr(scope, lists.records) if each.traceId == wanted]
            setattr(scope, lists.records, records)
            if records:
                scopes.append(scope)
        setattr(entry, lists.scopes, scopes)
        if scopes:
            found.append(msgspec.json.decode(messages.encode(entry)))
    return found


def json_fragment(row: StoredRow) -> bytes:
    """The row's fragment as JSON. Raises TranscodeError."""
    return row.body if row.encoding is Encoding.JSON else transcode.to_json(row.body, row.signal)
