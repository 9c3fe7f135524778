"""Where a large request is cut at span borders, so that its parts fit into rows."""

from collections.abc import Iterable
from typing import NamedTuple


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
