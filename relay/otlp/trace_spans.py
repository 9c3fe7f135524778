"""The spans of one trace out of a kept row, as OTLP/JSON."""

from typing import Any

import msgspec

from relay.model.records import Encoding, StoredRow
from relay.otlp import messages, transcode


def resource_spans_of_trace(row: StoredRow, trace_id: bytes) -> list[dict[str, Any]]:
    """The `resourceSpans` of a row with only the spans of one trace, as OTLP/JSON."""
    fragment = row.body if row.encoding is Encoding.JSON else transcode.to_json(row.body)
    wanted = trace_id.hex()
    found = []
    for entry in transcode.decode_entries(b"[%b]" % fragment):
        for scope in entry.scopeSpans:
            scope.spans = [span for span in scope.spans if span.traceId == wanted]
        entry.scopeSpans = [scope for scope in entry.scopeSpans if scope.spans]
        if entry.scopeSpans:
            found.append(msgspec.json.decode(messages.encode(entry)))
    return found
