"""Splitting at span borders: a large request into rows, a kept fragment into parts of it.

Both encodings are split the same way; what is around a span (its resource, its scope) comes along
with every part that holds one of it.

Spans are counted in the order in which they stand, over all resources and scopes. What is left
without a span is left out.

JSON spans are copied as text, so they stay what they were byte for byte. Protobuf goes through the
official classes, which keep the fields that they do not know.
"""

import re
from collections.abc import Iterable, Sized
from typing import NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from msgspec import UNSET, Raw, Struct, UnsetType
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.model.records import Encoding
from relay.otlp.folding import MAX_PROTOBUF_LEVELS, replace_below
from relay.otlp.transcode import TranscodeError, describe_error


class SizedSpan(NamedTuple):
    """Where a span stands (entry of resourceSpans, of scopeSpans, of spans) and what it takes.

    Sizes are bytes, framing included, and may be too large but not too small.
    """

    resource: int
    scope: int
    span: int
    span_bytes: int
    scope_bytes: int
    resource_bytes: int


def group_spans(spans: Iterable[SizedSpan], limit_bytes: int) -> list[list[SizedSpan]]:
    """Groups in order, each within the limit; a single larger span is a group of its own.

    What is around the spans is no more than half of a group, save the last: under a resource of a
    megabyte, groups are larger than the limit. Repeated for each span it would be gigabytes.
    """
    groups: list[list[SizedSpan]] = []
    size = 0
    before: SizedSpan | None = None
    for span in spans:
        added = span.span_bytes
        around_bytes = span.scope_bytes + span.resource_bytes
        if before is None or span.resource != before.resource:
            added += around_bytes
        elif span.scope != before.scope:
            added += span.scope_bytes
        if before is None or size + added > max(limit_bytes, 2 * around_bytes):
            groups.append([])
            size = 0
            added = span.span_bytes + around_bytes
        groups[-1].append(span)
        size += added
        before = span
    return groups


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


def slice_spans(fragment: bytes, encoding: Encoding, first: int, count: int) -> bytes:
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
    for i in range(len(request.resource_spans)):
        scopes = request.resource_spans[i].scope_spans
        for scope in scopes:
            wanted = stretch.of(scope.spans)
            del scope.spans[wanted.stop :]
            del scope.spans[: wanted.start]
        for j in reversed(range(len(scopes))):
            if not scopes[j].spans:
                del scopes[j]
    for i in reversed(range(len(request.resource_spans))):
        if not request.resource_spans[i].scope_spans:
            del request.resource_spans[i]
    return request.SerializeToString()
