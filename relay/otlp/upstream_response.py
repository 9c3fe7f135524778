"""What an upstream says in the body of a response. Pure.

Every form seen in the field is read, and nothing an upstream may send can raise here.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from relay.otlp.words import clean, decode_text, strip_tags

_MAX_READ_BYTES = 65536
_MAX_WORDS = 1000


@dataclass(frozen=True, slots=True)
class UpstreamPartial:
    """What an upstream said of a 2xx: it refused `rejected` spans, or it only warns (0)."""

    rejected: int
    message: str


def read_success(body: bytes, content_type: str) -> UpstreamPartial | None:
    """Read a partial success out of a 2xx body; None for full success and for what is unreadable.

    Only a body of one of OTLP's two media types is looked at, parameters or not. Never raises.
    """
    media_type = _media_type(content_type)
    if not body or media_type not in _JSON_TYPES | _PROTOBUF_TYPES:
        return None
    read = _read_json_partial if media_type in _JSON_TYPES else _read_protobuf_partial
    found = read(body)
    return found if found and (found.rejected or found.message) else None


_JSON_TYPES = frozenset({"application/json"})
_PROTOBUF_TYPES = frozenset({"application/x-protobuf", "application/protobuf"})


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _read_protobuf_partial(body: bytes) -> UpstreamPartial | None:
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return None
    return UpstreamPartial(max(0, partial.rejected_spans), clean(partial.error_message, _MAX_WORDS))


def _read_json_partial(body: bytes) -> UpstreamPartial | None:
    document = _decode_json(body)
    partial = document.get("partialSuccess") if isinstance(document, dict) else None
    if not isinstance(partial, dict):
        return None
    message = partial.get("errorMessage")
    words = clean(message, _MAX_WORDS) if isinstance(message, str) else ""
    return UpstreamPartial(_read_count(partial.get("rejectedSpans")), words)


def _read_count(value: Any) -> int:
    """An int64 as JSON has it: a decimal string or a number; 0 for anything else."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
    if isinstance(value, float):
        value = int(value) if value.is_integer() else 0
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 0 < value < 2**63 else 0


def _decode_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def read_words(body: bytes, content_type: str, limit: int = _MAX_WORDS) -> str:
    """Give an upstream's own words out of the body of an error: at most `limit` characters in
    one line, without control characters; empty when there are none to read. Never raises.

    Mask secrets before showing them to anyone (`words.mask`).
    """
    body = body[:_MAX_READ_BYTES]
    media_type = _media_type(content_type)
    if media_type in _PROTOBUF_TYPES:
        status = _read_status(body)
        if status is not None:
            return clean(status, limit)
    text = decode_text(body)
    if "json" in media_type or text[:1] in {"{", "["}:
        document = _decode_json(body)
        if document is not None:
            return clean(_find_words(document) or text, limit)
    if "html" in media_type or text[:1] == "<":
        text = strip_tags(text)
    return clean(text, limit)


def _read_status(body: bytes) -> str | None:
    try:
        return ExportTracePartialSuccess.FromString(body).error_message
    except DecodeError:
        return None


# Where backends put their words, the most telling first.
_WORD_KEYS = ("message", "error", "detail", "errors", "error_description", "msg", "title", "reason")


def _find_words(document: Any, depth: int = 0) -> str:
    if isinstance(document, str):
        return document
    if depth > 4:
        return ""
    if isinstance(document, list):
        found = [_find_words(item, depth + 1) for item in document[:20]]
        return "; ".join(words for words in found if words)
    if isinstance(document, dict):
        for key in _WORD_KEYS:
            words = _find_words(document.get(key), depth + 1)
            if words:
                return words
    return ""
