"""What an id must be, and what becomes of one that is not.

Trace ids are 16 bytes and span ids 8, not all zero (OTLP trace.proto; trace API "SpanContext").
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Final, Literal

from relay.model.reasons import Reason

MalformedIds = Literal["reject", "derive", "auto"]

# Its documentation shows ids such as `app_trace_001`, and it never sends again: for this sender
# "auto" derives.
DERIVED_FOR: Final = "openrouter"

TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_FROM_URL_SAFE: Final = str.maketrans("-_", "+/")

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
    """An id of `size` bytes from one that is none: the same for the same original, everywhere.

    It is what the original says where that is an id in another spelling, so that the spans of
    others meet it; of anything else it is a hash. It may be all zero.
    """
    return _read(original, size) or hashlib.sha256(original).digest()[:size]


def _read(original: bytes, size: int) -> bytes | None:
    """An id in another spelling than OTLP's: a UUID, base64, hex behind 0x, half a trace id."""
    try:
        text = original.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    digits = text[2:] if text[:2] in ("0x", "0X") else text
    if _UUID.fullmatch(digits):
        digits = digits.replace("-", "")
    if _HEX.fullmatch(digits):
        if size == TRACE_ID_BYTES and len(digits) == 2 * SPAN_ID_BYTES:
            digits = digits.zfill(2 * TRACE_ID_BYTES)  # of 64 bits, as Zipkin and Jaeger had them
        return bytes.fromhex(digits) if len(digits) == 2 * size else None
    if not text.endswith("="):  # without padding many a word could be base64
        return None
    try:
        found = base64.b64decode(text.translate(_FROM_URL_SAFE), validate=True)
    except binascii.Error:
        return None
    return found if len(found) == size else None


def is_derived(mode: MalformedIds, service: str, scope: str) -> bool:
    """Whether malformed ids of this scope become derived ones, or else reject their span."""
    return mode == "derive" or (mode == "auto" and DERIVED_FOR in (service, scope))
