"""What an id that somebody typed may mean: a trace id in any of its forms, or what an app wrote."""

import re
from typing import NamedTuple

from relay.process.check.ids import TRACE_ID_BYTES, derive

# In a traceparent, a URL or a line of a log: 32 digits, also with the dashes of a UUID.
_WITHIN = re.compile(
    r"(?<![0-9a-f])(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![0-9a-f])"
)
# Some tools cut leading zeros, or show the half that older formats have.
_SHORT = re.compile(r"[0-9a-f]{8,31}")
_SHORT_IN_URL = re.compile(r"/traces?/([0-9a-f]{8,31})(?![0-9a-f])")


class IdReading(NamedTuple):
    """An id that was typed, as it may be meant.

    `how`: "id" (it is one), "padded" (one without its leading zeros), "within" (it stands in a
    traceparent or a URL), "derived" (the sender's text was none and was mapped to it) or
    "derived_from_bytes" (the sender's bytes, shown as hex, were none).
    """

    trace_id: bytes
    how: str


def legible_id(text: str) -> str:
    """The trace id that `text` is or holds, as 32 hex digits; `text` itself where it is none."""
    first = readings(text)[:1]
    return first[0].trace_id.hex() if first and first[0].how in ("id", "within") else text


def readings(text: str) -> list[IdReading]:
    """What `text` may mean, the likeliest first; none for no text."""
    text = text.strip().strip("\"'`")
    digits = text.replace("-", "").lower().removeprefix("0x")
    found: list[IdReading] = []
    if len(digits) == 2 * TRACE_ID_BYTES and (trace_id := _from_hex(digits)):
        found.append(IdReading(trace_id, "id"))
    elif within := _WITHIN.search(text.lower()):
        found.append(IdReading(bytes.fromhex(within[0].replace("-", "")), "within"))
    elif short := _SHORT.fullmatch(digits) or _SHORT_IN_URL.search(text.lower()):
        padded = short[short.re.groups].zfill(2 * TRACE_ID_BYTES)
        found.append(IdReading(bytes.fromhex(padded), "padded"))
    if (text and len(text) != 2 * TRACE_ID_BYTES) or not found:
        found.append(IdReading(derive(text.encode(), TRACE_ID_BYTES), "derived"))
        # Protobuf has bytes where others have text: shown as hex they are another id.
        if raw := _from_hex(text):
            found.append(IdReading(derive(raw, TRACE_ID_BYTES), "derived_from_bytes"))
    return found


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text) if text.isalnum() else b""
    except ValueError:
        return b""
