"""Checks the spans of a JSON request: what stays has good ids and links.

The normal case is one look at all ids together: joined, they are the hex text of their own
bytes. Only when that look fails are spans taken one by one.
"""

from typing import Final

from relay.model.records import Encoding
from relay.otlp.json import JsonRequest
from relay.otlp.json_values import Tally, is_hex
from relay.otlp.messages import Span
from relay.process.check.clock import are_near, warn_of_clocks
from relay.process.check.form import FORMS
from relay.process.check.ids import MalformedIds
from relay.process.check.rejections import NONE_REJECTED, Rejections
from relay.process.check.span_rules import SettleSpan, check_each
from relay.process.check.weight import refuse_many_flawed

_ZERO_TRACE_ID: Final = "0" * 32
_ZERO_SPAN_ID: Final = "0" * 16


def check_json(
    request: JsonRequest, mode: MalformedIds, now_ns: int, *, is_bounded: bool
) -> Rejections:
    """Reject spans for their ids, settle links, count what is odd but valid.

    Raises TooHeavy if it `is_bounded` and too many would have to be settled one by one.
    """
    spans = request.records
    findings = request.findings
    rejected = NONE_REJECTED
    if not spans:
        return rejected
    if not (_are_ids_normal(spans) and _are_links_normal(spans)):
        if is_bounded:
            refuse_many_flawed(spans)
        rejected = check_each(request, mode, FORMS[Encoding.JSON], SettleSpan)
    _count_oddities(request.records, findings.warnings, now_ns)
    return rejected


def _are_ids_normal(spans: list[Span]) -> bool:
    """Every id of every span is what it must be, in lower case."""
    trace_ids = [span.traceId for span in spans]
    span_ids = [span.spanId for span in spans]
    parents = [parent for span in spans if (parent := span.parentSpanId)]
    if set(map(len, trace_ids)) != {32} or _ZERO_TRACE_ID in trace_ids:
        return False
    span_ids += parents
    if set(map(len, span_ids)) != {16} or _ZERO_SPAN_ID in span_ids:
        return False
    return is_hex("".join(trace_ids) + "".join(span_ids))


def _are_links_normal(spans: list[Span]) -> bool:
    links = [link for span in spans if span.links for link in span.links]
    return all(
        len(link.traceId) == 32 and len(link.spanId) == 16 and is_hex(link.traceId + link.spanId)
        for link in links
    )


def _count_oddities(spans: list[Span], warnings: Tally, now_ns: int) -> None:
    """Times and names that break a rule without making a span invalid."""
    if not spans:
        return
    # Normal form: decimal text, nearly always of 19 digits.
    starts: list[str] = [span.startTimeUnixNano for span in spans]  # type: ignore[misc]
    ends: list[str] = [span.endTimeUnixNano for span in spans]  # type: ignore[misc]
    if set(map(len, starts)) == set(map(len, ends)) == {19}:
        early = [start for start, end in zip(starts, ends, strict=True) if end < start]
        is_near = are_near(int(min(starts)), int(max(starts)), now_ns)
    else:
        is_near = False
        early = [
            start
            for start, end in zip(starts, ends, strict=True)
            if int(end) < int(start) and end != "0"
        ]
        if "0" in starts:
            warnings["start_time_missing"] += starts.count("0")
        if "0" in ends:
            warnings["end_time_missing"] += ends.count("0")
    if early:
        warnings["end_before_start"] += len(early)
    if not is_near:
        warn_of_clocks(map(int, starts), now_ns, warnings)
    names = [span.name for span in spans]
    if "" in names:
        warnings["name_empty"] += names.count("")
