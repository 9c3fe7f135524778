"""Checks the spans of a protobuf request: what stays has good ids and links.

As `json_spans`, over the official messages. There every look at a field costs as much as ten in
a struct, so attribute keys are looked at in the first spans of a request only.
"""

from collections.abc import Sequence
from typing import Final

from opentelemetry.proto.trace.v1 import trace_pb2

from relay.model.records import Encoding
from relay.otlp.json_values import Tally
from relay.otlp.protobuf import ProtobufRequest
from relay.process.check.clock import are_near, warn_of_clocks
from relay.process.check.form import FORMS
from relay.process.check.ids import SPAN_ID_BYTES, TRACE_ID_BYTES, MalformedIds
from relay.process.check.rejections import NONE_REJECTED, Rejections
from relay.process.check.span_rules import SettleSpan, check_each
from relay.process.check.weight import refuse_many_flawed, refuse_many_links

SPANS_WITH_KEYS_CHECKED: Final = 16  # a sender whose keys are odd shows it in these
KEYS_CHECKED: Final = 1000  # of a span

_ZERO_TRACE_ID: Final = bytes(TRACE_ID_BYTES)
_ZERO_SPAN_ID: Final = bytes(SPAN_ID_BYTES)


def check_protobuf(
    request: ProtobufRequest, mode: MalformedIds, now_ns: int, *, is_bounded: bool
) -> Rejections:
    """Reject spans for their ids, settle links, count what is odd but valid.

    Raises TooHeavy if it `is_bounded` and there are too many links, or too many to be settled one
    by one.
    """
    spans = request.records
    if not spans:
        return NONE_REJECTED
    findings = request.findings
    links = [links for span in spans if (links := span.links)]
    if is_bounded:
        refuse_many_links(links)
    rejected = NONE_REJECTED
    if not (_are_ids_normal(spans) and _are_links_normal(links)):
        if is_bounded:
            refuse_many_flawed(spans)
        rejected = check_each(request, mode, FORMS[Encoding.PROTOBUF], SettleSpan)
        spans = request.records
    if spans:
        _count_oddities(spans, findings.warnings, now_ns)
        _count_keys(spans[:SPANS_WITH_KEYS_CHECKED], findings.warnings)
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


def _count_oddities(spans: list[trace_pb2.Span], warnings: Tally, now_ns: int) -> None:
    starts = [span.start_time_unix_nano for span in spans]
    ends = [span.end_time_unix_nano for span in spans]
    names = [span.name for span in spans]
    if 0 in starts:
        warnings["start_time_missing"] += starts.count(0)
    if 0 in ends:
        warnings["end_time_missing"] += ends.count(0)
    early = [start for start, end in zip(starts, ends, strict=True) if end < start and end]
    if early:
        warnings["end_before_start"] += len(early)
    if "" in names:
        warnings["name_empty"] += names.count("")
    if not are_near(min(starts), max(starts), now_ns):
        warn_of_clocks(starts, now_ns, warnings)


def _count_keys(spans: list[trace_pb2.Span], warnings: Tally) -> None:
    for span in spans:
        attributes = span.attributes[:KEYS_CHECKED]
        keys = {attribute.key for attribute in attributes}
        if len(keys) != len(attributes):
            warnings["attribute_key_duplicate"] += 1
        if "" in keys:
            by_index = any(attribute.key_strindex for attribute in attributes)
            warnings["string_index" if by_index else "attribute_key_empty"] += 1
