"""Decoded JSON traces in, rejected spans out; what stays has good ids and links.

The normal case is one look at all ids together: joined, they are the hex text of their own
bytes. Only when that look fails are spans taken one by one.
"""

from collections import Counter
from functools import partial
from typing import Final

from msgspec import UNSET

from relay.model.reasons import Reason
from relay.model.records import Encoding
from relay.otlp.json import JsonTraces
from relay.otlp.messages import AnyValue, KeyValue, Link, ScopeSpans, Span
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

_ZERO_TRACE_ID: Final = "0" * 32
_ZERO_SPAN_ID: Final = "0" * 16
_MOST_DROPPED: Final = 2**32 - 1


def check_json(traces: JsonTraces, mode: MalformedIds) -> Rejections:
    """Reject spans for their ids, settle links, count what is odd but valid."""
    spans = traces.spans
    rejected = NONE_REJECTED
    if not (_are_ids_normal(spans) and _are_links_normal(spans)):
        rejected = Rejections(Encoding.JSON)
        _check_each(traces, mode, rejected)
    _count_oddities(spans, traces.findings.warnings)
    return rejected


def _are_ids_normal(spans: list[Span]) -> bool:
    """Every id of every span is what it must be, in lower case. No span counts as normal."""
    if not spans:
        return True
    trace_ids = [span.traceId for span in spans]
    span_ids = [span.spanId for span in spans]
    parents = [parent for span in spans if (parent := span.parentSpanId)]
    if set(map(len, trace_ids)) != {32} or _ZERO_TRACE_ID in trace_ids:
        return False
    span_ids += parents
    if set(map(len, span_ids)) != {16} or _ZERO_SPAN_ID in span_ids:
        return False
    return _is_hex("".join(trace_ids) + "".join(span_ids))


def _is_hex(text: str) -> bool:
    try:
        return bytes.fromhex(text).hex() == text
    except ValueError:
        return False


def _are_links_normal(spans: list[Span]) -> bool:
    links = [link for span in spans if span.links for link in span.links]
    return all(
        len(link.traceId) == 32 and len(link.spanId) == 16 and _is_hex(link.traceId + link.spanId)
        for link in links
    )


def _check_each(traces: JsonTraces, mode: MalformedIds, rejected: Rejections) -> None:
    warnings = traces.findings.warnings
    for i, entry in enumerate(traces.resource_spans):
        service = traces.resources[i].service
        for j, scope in enumerate(entry.scopeSpans):
            name = "" if scope.scope is UNSET else scope.scope.name
            settle = _Settle(warnings, derives=is_derived(mode, service, name))
            kept = []
            for k, span in enumerate(scope.spans):
                flaw = settle.span(span)
                if flaw is None:
                    kept.append(span)
                    continue
                rejected.add(flaw, (i, j, k), partial(_described, traces, i, scope, span))
            if len(kept) != len(scope.spans):
                scope.spans = kept
        traces.changed(i)


def _described(traces: JsonTraces, index: int, scope: ScopeSpans, span: Span) -> Described:
    return span.traceId, traces.fragment_of(index, scope, span)


class _Settle:
    """Makes the ids of one scope's spans good where that is allowed."""

    def __init__(self, warnings: Counter[str], *, derives: bool) -> None:
        self.warnings = warnings
        self.derives = derives

    def span(self, span: Span) -> tuple[str, str] | None:  # noqa: PLR0911 - one a reason
        """Settle all ids of a span; the reason and the member at fault when it must go.

        A span that goes is left as it was sent.
        """
        if not span.traceId:
            return Reason.TRACE_ID_MISSING, "traceId"
        if not span.spanId:
            return Reason.SPAN_ID_MISSING, "spanId"
        trace_id = self.text(span.traceId, TRACE_ID_BYTES)
        span_id = self.text(span.spanId, SPAN_ID_BYTES)
        parent = self.text(span.parentSpanId, SPAN_ID_BYTES)
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
            parent = span.parentSpanId = ""
        self._keep_originals(span, trace_id, span_id, parent)
        span.traceId, span.spanId, span.parentSpanId = trace_id, span_id, parent
        if span.links:
            self.links(span)
        return None

    def text(self, text: str, size: int) -> str | None:
        """The id in normal form, empty if it is; None where it is malformed and stays so."""
        if not text:
            return ""
        if len(text) == 2 * size:
            lower = text.lower()
            if _is_hex(lower):
                return lower
        return derive(text.encode(), size).hex() if self.derives else None

    def _keep_originals(self, span: Span, trace_id: str, span_id: str, parent: str) -> None:
        originals = [
            KeyValue(key=key, value=AnyValue(stringValue=was))
            for key, was, now in (
                (ORIGINAL_TRACE_ID, span.traceId, trace_id),
                (ORIGINAL_SPAN_ID, span.spanId, span_id),
                (ORIGINAL_PARENT_SPAN_ID, span.parentSpanId, parent),
            )
            if was.lower() != now
        ]
        if originals:
            span.attributes = span.attributes + originals
            self.warnings["ids_derived"] += 1

    def links(self, span: Span) -> None:
        """Take links out whose ids are neither empty nor right: peers refuse batches for them."""
        kept: list[Link] = []
        for link in span.links:
            trace_id = self.text(link.traceId, TRACE_ID_BYTES)
            span_id = self.text(link.spanId, SPAN_ID_BYTES)
            if trace_id is None or span_id is None:
                continue
            if link.traceId.lower() != trace_id or link.spanId.lower() != span_id:
                self.warnings["ids_derived"] += 1
            link.traceId, link.spanId = trace_id, span_id
            kept.append(link)
        taken_out = len(span.links) - len(kept)
        if taken_out:
            span.links = kept
            span.droppedLinksCount = min(span.droppedLinksCount + taken_out, _MOST_DROPPED)
            self.warnings["link_ids_malformed"] += taken_out


def _count_oddities(spans: list[Span], warnings: Counter[str]) -> None:
    """Times and names that break a rule without making a span invalid."""
    if not spans:
        return
    # Normal form: decimal text, nearly always of 19 digits.
    starts: list[str] = [span.startTimeUnixNano for span in spans]  # type: ignore[misc]
    ends: list[str] = [span.endTimeUnixNano for span in spans]  # type: ignore[misc]
    if set(map(len, starts)) == set(map(len, ends)) == {19}:
        early = [1 for start, end in zip(starts, ends, strict=True) if end < start]
    else:
        early = [
            1
            for start, end in zip(starts, ends, strict=True)
            if int(end) < int(start) and end != "0"
        ]
        if "0" in starts:
            warnings["start_time_missing"] += starts.count("0")
        if "0" in ends:
            warnings["end_time_missing"] += ends.count("0")
    if early:
        warnings["end_before_start"] += len(early)
    names = [span.name for span in spans]
    if "" in names:
        warnings["name_empty"] += names.count("")
