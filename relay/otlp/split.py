"""Takes a stretch of spans out of a kept fragment, with the resources and scopes around them.

Spans are counted in the order in which they stand, over all resources and scopes. What is left
without a span is left out. JSON spans are copied as text, so they stay what they were byte for
byte. Protobuf goes through the official classes, which keep the fields that they do not know.
"""

import re
from collections.abc import Sized

import msgspec
from google.protobuf.message import DecodeError
from msgspec import UNSET, Raw, Struct, UnsetType
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.model.records import Encoding
from relay.otlp.folding import MAX_PROTOBUF_LEVELS, replace_below
from relay.otlp.protobuf import drop_empty
from relay.otlp.transcode import TranscodeError, describe_error


class _Scope(Struct, omit_defaults=True, forbid_unknown_fields=True, rename="camel"):
    scope: Raw | UnsetType = UNSET
    spans: list[Raw] = []
    schema_url: Raw | UnsetType = UNSET


class _Entry(Struct, omit_defaults=True, forbid_unknown_fields=True, rename="camel"):
    resource: Raw | UnsetType = UNSET
    scope_spans: list[_Scope] = []
    schema_url: Raw | UnsetType = UNSET


_decode_entries = msgspec.json.Decoder(list[_Entry]).decode
_encode = msgspec.json.Encoder().encode
# No number in normal form begins with @, and inside a text the quotation marks would be escaped.
_HIDDEN = re.compile(rb'\{"intValue":"@([0-9]+)"\}')


def slice_items(fragment: bytes, encoding: Encoding, first: int, count: int) -> bytes:
    """The `count` spans of `fragment` from number `first` (from 0) on, as a fragment.

    Fewer where it holds fewer. Raises TranscodeError, and nothing else, when the fragment is not
    what this relay writes.
    """
    stretch = _Stretch(first, first + count)
    if encoding is Encoding.PROTOBUF:
        return _slice_protobuf(fragment, stretch)
    try:
        try:
            return _slice_json(fragment, stretch)
        except RecursionError:
            return _slice_deep(fragment, stretch)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise TranscodeError(describe_error("JSON", error)) from None


class _Stretch:
    """Counts spans as lists of them go by."""

    def __init__(self, first: int, end: int) -> None:
        self._first = first
        self._end = end
        self._seen = 0

    def of(self, spans: Sized) -> slice:
        """Which of the next list of spans belong to the stretch."""
        begin, self._seen = self._seen, self._seen + len(spans)
        return slice(max(self._first - begin, 0), max(self._end - begin, 0))


def _slice_json(fragment: bytes, stretch: _Stretch) -> bytes:
    entries = _decode_entries(b"[%b]" % fragment)
    for entry in entries:
        for scope in entry.scope_spans:
            scope.spans = scope.spans[stretch.of(scope.spans)]
        entry.scope_spans = [scope for scope in entry.scope_spans if scope.spans]
    return _encode([entry for entry in entries if entry.scope_spans])[1:-1]


def _slice_deep(fragment: bytes, stretch: _Stretch) -> bytes:
    """As `_slice_json`, with deep values put aside meanwhile: no decoder is to recurse there."""
    hidden: list[bytes] = []

    def hide(value: bytes) -> bytes:
        hidden.append(value)
        return b'{"intValue":"@%d"}' % (len(hidden) - 1)

    flat = replace_below(fragment, MAX_PROTOBUF_LEVELS, hide)
    return _HIDDEN.sub(lambda found: hidden[int(found[1])], _slice_json(flat, stretch))


def _slice_protobuf(fragment: bytes, stretch: _Stretch) -> bytes:
    try:
        request = ExportTraceServiceRequest.FromString(fragment)
    except DecodeError as error:
        raise TranscodeError(describe_error("protobuf", error)) from None
    for entry in request.resource_spans:
        for scope in entry.scope_spans:
            wanted = stretch.of(scope.spans)
            del scope.spans[wanted.stop :]
            del scope.spans[: wanted.start]
    drop_empty(request)
    return request.SerializeToString()
