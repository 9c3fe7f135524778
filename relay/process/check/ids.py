"""What an id must be, and what becomes of one that is not.

Trace ids are 16 bytes and span ids 8, not all zero (OTLP trace.proto; trace API "SpanContext").
"""

import hashlib
from collections.abc import Mapping
from typing import Final, Literal

from relay.model.reasons import Reason

MalformedIds = Literal["reject", "derive", "auto"]

# Its documentation shows ids such as `app_trace_001`, and it never sends again: for this sender
# "auto" derives.
DERIVED_FOR: Final = "openrouter"

TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8

# What a sender is told of a reason.
REASON_WORDS: Final[Mapping[str, str]] = {
    Reason.VALUE_MALFORMED: "a member that cannot be read",
    Reason.TRACE_ID_MISSING: "trace id missing",
    Reason.TRACE_ID_ZERO: "trace id all zero",
    Reason.TRACE_ID_MALFORMED: "trace id not 32 hex digits (16 bytes)",
    Reason.SPAN_ID_MISSING: "span id missing",
    Reason.SPAN_ID_ZERO: "span id all zero",
    Reason.SPAN_ID_MALFORMED: "span id not 16 hex digits (8 bytes)",
    Reason.PARENT_SPAN_ID_MALFORMED: "parent span id neither empty nor 16 hex digits (8 bytes)",
    Reason.VALUE_MISSING: "no value, and not marked as without one",
    Reason.TIME_MISSING: "no time",
    Reason.METRIC_NAME_EMPTY: "metric without a name",
}


def derive(original: bytes, size: int) -> bytes:
    """An id of `size` bytes from one that is none: the same for the same original, everywhere."""
    return hashlib.sha256(original).digest()[:size]


def is_derived(mode: MalformedIds, service: str, scope: str) -> bool:
    """Whether malformed ids of this scope become derived ones, or else reject their span."""
    return mode == "derive" or (mode == "auto" and DERIVED_FOR in (service, scope))
