"""Decoded protobuf traces in, rejected spans out; what stays has good ids and links.

As `json_spans`, over the official messages. There every look at a field costs as much as ten in
a struct, so attribute keys are looked at in the first spans of a request only.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from opentelemetry.proto.trace.v1 import trace_pb2

from relay.model.reasons import Reason
from relay.model.records import Encoding
from relay.otlp.protobuf import ProtobufTraces
from relay.process.check.ids import (
    ORIGINAL_PARENT_SPAN_ID,
    ORIGINAL_SPAN_ID,
    ORIGINAL_TRACE_ID,
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    MalformedIds,
    derive,
    is_derived,
)
from relay.process.check.rejections import NONE_REJECTED, Described, Rejections
from relay.process.check.weight import refuse_many_links

SPANS_WITH_KEYS_CHECKED: Final = 16  # a sender whose keys are odd shows it in these
KEYS_CHECKED: Final = 1000  # of a span

_ZERO_TRACE_ID: Final = bytes(TRACE_ID_BYTES)
_ZERO_SPAN_ID: Final = bytes(SPAN_ID_BYTES)
_MOST_DROPPED: Final = 2**32 - 1
_TAKEN_OUT_SINGLY: Final = 64


def check_protobuf(
    traces: ProtobufTraces, mode: MalformedIds, *, is_bounded: bool = False
) -> Rejections:
    """Reject spans for their ids, settle links, count what is odd but valid.

    Raises TooHeavy if it `is_bounded` and there are too many links.
    """
    spans = traces.spans
    if not spans:
        return NONE_REJECTED
    warnings = traces.findings.warnings
    _count_oddities(spans, warnings)
    _count_keys(spans[:SPANS_WITH_KEYS_CHECKED], warnings)
    links = [links for span in spans if (links := span.links)]
    if links and is_bounded:
        refuse_many_links(links)
    if _are_ids_normal(spans) and _are_links_normal(links):
        return NONE_REJECTED
    rejected = Rejections(Encoding.PROTOBUF)
    _check_each(traces, mode, rejected)
    return rejected


def _are_ids_normal(spans: list[trace_pb2.Span]) -> bool:
    trace_ids = [span.trace_id for span in spans]
    span_ids = [span.span_id for span in spans]
    parents = [parent for span in spans if (parent := span.parent_span_id)]
    span_ids += parents
    return (
        set(map(len, trace_ids)) == {TRACE_ID_BYTES}
        and _ZERO_TRACE_ID not in trace_ids
        and set(map(len, span_ids)) == {SPAN_ID_BYTES}
        and _ZERO_SPAN_ID not in span_ids
    )


def _are_links_normal(lists: Sequence[Sequence[trace_pb2.Span.Link]]) -> bool:
    return all(
        len(link.trace_id) == TRACE_ID_BYTES and len(link.span_id) == SPAN_ID_BYTES
        for links in lists
        for link in links
    )


def _check_each(traces: ProtobufTraces, mode: MalformedIds, rejected: Rejections) -> None:
    warnings = traces.findings.warnings
    for i, entry in enumerate(traces.message.resource_spans):
        service = traces.resources[i].service
        for j, scope in enumerate(entry.scope_spans):
            settle = _Settle(warnings, derives=is_derived(mode, service, scope.scope.name))
            bad = []
            for k, span in enumerate(scope.spans):
                flaw = settle.span(span)
                if flaw is None:
                    continue
                bad.append(k)
                rejected.add(flaw, (i, j, k), partial(_described, traces, i, scope, span))
            if bad:
                _take_out(scope, bad)


def _take_out(scope: trace_pb2.ScopeSpans, bad: list[int]) -> None:
    if len(bad) <= _TAKEN_OUT_SINGLY:
        for k in reversed(bad):
            del scope.spans[k]
        return
    # Each deletion moves all that stands behind: with many of them it is cheaper to start anew.
    gone = set(bad)
    kept = [span for k, span in enumerate(scope.spans) if k not in gone]
    scope.ClearField("spans")
    scope.spans.extend(kept)


def _described(
    traces: ProtobufTraces, index: int, scope: trace_pb2.ScopeSpans, span: trace_pb2.Span
) -> Described:
    return span.trace_id.hex(), traces.fragment_of(index, scope, span)


class _Settle:
    """Makes the ids of one scope's spans good where that is allowed."""

    def __init__(self, warnings: Counter[str], *, derives: bool) -> None:
        self.warnings = warnings
        self.derives = derives

    def span(self, span: trace_pb2.Span) -> tuple[str, str] | None:  # noqa: PLR0911 - one a reason
        """Settle all ids of a span; the reason and the member at fault when it must go."""
        if not span.trace_id:
            return Reason.TRACE_ID_MISSING, "traceId"
        if not span.span_id:
            return Reason.SPAN_ID_MISSING, "spanId"
        trace_id = self.id(span.trace_id, TRACE_ID_BYTES)
        span_id = self.id(span.span_id, SPAN_ID_BYTES)
        parent = self.id(span.parent_span_id, SPAN_ID_BYTES)
        if trace_id is None:
            return Reason.TRACE_ID_MALFORMED, "traceId"
        if trace_id == _ZERO_TRACE_ID:
            return Reason.TRACE_ID_ZERO, "traceId"
        if span_id is None:
            return Reason.SPAN_ID_MALFORMED, "spanId"
        if span_id == _ZERO_SPAN_ID:
            return Reason.SPAN_ID_ZERO, "spanId"
        if parent is None:
            return Reason.PARENT_SPAN_ID_MALFORMED, "parentSpanId"
        if parent == _ZERO_SPAN_ID:
            parent = span.parent_span_id = b""
        self._keep_originals(span, trace_id, span_id, parent)
        span.trace_id, span.span_id, span.parent_span_id = trace_id, span_id, parent
        if span.links:
            self.links(span)
        return None

    def id(self, raw: bytes, size: int) -> bytes | None:
        """The id as it may stay; None where it is malformed and stays so."""
        if not raw or len(raw) == size:
            return raw
        return derive(raw, size) if self.derives else None

    def _keep_originals(
        self, span: trace_pb2.Span, trace_id: bytes, span_id: bytes, parent: bytes
    ) -> None:
        is_any_derived = False
        for key, was, now in (
            (ORIGINAL_TRACE_ID, span.trace_id, trace_id),
            (ORIGINAL_SPAN_ID, span.span_id, span_id),
            (ORIGINAL_PARENT_SPAN_ID, span.parent_span_id, parent),
        ):
            if was != now:
                span.attributes.add(key=key).value.string_value = _as_text(was)
                is_any_derived = True
        if is_any_derived:
            self.warnings["ids_derived"] += 1

    def links(self, span: trace_pb2.Span) -> None:
        """Take links out whose ids are neither empty nor right: peers refuse batches for them."""
        bad = []
        for index, link in enumerate(span.links):
            trace_id = self.id(link.trace_id, TRACE_ID_BYTES)
            span_id = self.id(link.span_id, SPAN_ID_BYTES)
            if trace_id is None or span_id is None:
                bad.append(index)
                continue
            if link.trace_id != trace_id or link.span_id != span_id:
                self.warnings["ids_derived"] += 1
                link.trace_id, link.span_id = trace_id, span_id
        for index in reversed(bad):
            del span.links[index]
        if bad:
            dropped = span.dropped_links_count + len(bad)
            span.dropped_links_count = min(dropped, _MOST_DROPPED)
            self.warnings["link_ids_malformed"] += len(bad)


def _as_text(raw: bytes) -> str:
    """An original id as a person would write it: its text where it was one, else its hex."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw.hex()
    return text if text.isprintable() else raw.hex()


def _count_oddities(spans: list[trace_pb2.Span], warnings: Counter[str]) -> None:
    starts = [span.start_time_unix_nano for span in spans]
    ends = [span.end_time_unix_nano for span in spans]
    names = [span.name for span in spans]
    if 0 in starts:
        warnings["start_time_missing"] += starts.count(0)
    if 0 in ends:
        warnings["end_time_missing"] += ends.count(0)
    early = [1 for start, end in zip(starts, ends, strict=True) if end < start and end]
    if early:
        warnings["end_before_start"] += len(early)
    if "" in names:
        warnings["name_empty"] += names.count("")


def _count_keys(spans: list[trace_pb2.Span], warnings: Counter[str]) -> None:
    for span in spans:
        attributes = span.attributes[:KEYS_CHECKED]
        keys = {attribute.key for attribute in attributes}
        if len(keys) != len(attributes):
            warnings["attribute_key_duplicate"] += 1
        if "" in keys:
            by_index = [1 for attribute in attributes if attribute.key_strindex]
            warnings["string_index" if by_index else "attribute_key_empty"] += 1
