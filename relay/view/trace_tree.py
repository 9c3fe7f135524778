"""One trace as a tree: every span in the order in which it is drawn, with what is said of it. Pure.

A span whose parent was not received stands at the top and says so. Long values are cut, and of a
large trace only the first spans come with their details: the rest is fetched when it is opened.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from relay.model.records import Signal
from relay.view.attributes import MOST_CHARACTERS, shown_attributes
from relay.view.item_lines import MOST_NAME, span_facts
from relay.view.items import Placed, as_item
from relay.view.query import Query
from relay.view.summaries import distinct, summary_of

MOST_DETAIL_BYTES: Final = 96 * 1024
_MOST_LISTED: Final = 100  # events or links of one span


class Node(NamedTuple):
    """A span where it stands in the tree."""

    placed: Placed
    depth: int
    children: int
    is_parent_missing: bool


def in_tree_order(spans: Sequence[Placed]) -> list[Node]:
    """Each span behind its parent, children by their start; spans are given by theirs."""
    by_id = {each.record.spanId: each for each in spans}
    children: dict[str, list[Placed]] = {}
    tops = []
    for each in spans:
        parent = each.record.parentSpanId
        if parent and parent in by_id and parent != each.record.spanId:
            children.setdefault(parent, []).append(each)
        else:
            tops.append(each)
    nodes: list[Node] = []
    seen: set[tuple[int, int]] = set()

    def walk(top: Placed) -> None:
        pending = [(top, 0)]
        while pending:
            placed, depth = pending.pop()
            if (placed.row, placed.number) in seen:
                continue
            seen.add((placed.row, placed.number))
            own = children.get(placed.record.spanId, [])
            is_missing = depth == 0 and bool(placed.record.parentSpanId)
            nodes.append(Node(placed, depth, len(own), is_missing))
            pending += [(child, depth + 1) for child in reversed(own)]

    for top in tops:
        walk(top)
    for each in spans:  # spans that are each other's parents
        walk(each)
    return nodes


def only_those(nodes: Iterable[Node], keeps: Callable[[Placed], bool]) -> list[Node]:
    """The nodes that `keeps` wants, each below the nearest above it that is wanted, too."""
    kept: list[Node] = []
    above: list[tuple[int, int]] = []  # of those around the place: their depth, and where in `kept`
    for node in nodes:
        while above and above[-1][0] >= node.depth:
            above.pop()
        if keeps(node.placed):
            if above:
                parent = above[-1][1]
                kept[parent] = kept[parent]._replace(children=kept[parent].children + 1)
            kept.append(node._replace(depth=len(above), children=0))
            above.append((node.depth, len(kept) - 1))
    return kept


def tree_of(
    spans: Iterable[Placed],
    query: Query,
    *,
    first: int,
    limit: int,
    added: Mapping[str, str],
    keeps: Callable[[Placed], bool] | None = None,
    facts: Callable[[Sequence[Placed]], dict[str, Any]] = lambda _spans: {},
) -> dict[str, Any]:
    """The document: the line of the trace, and `limit` of its spans from number `first` on.

    `matches` are the places in tree order of all spans that `query` means, without one none.
    `added` is what the relay adds to resources. The tree is of the spans that `keeps` wants alone;
    `facts` adds to the line what else is known of all of them.
    """
    each_once = distinct(spans)
    nodes = in_tree_order(each_once)
    if keeps is not None:
        nodes = only_those(nodes, keeps)
    summary = summary_of(each_once)
    begin_ns = int(summary["start_ns"])
    shown = nodes[first : first + limit]
    room = MOST_DETAIL_BYTES
    lines = []
    for number, node in enumerate(shown, first):
        details = details_of(node.placed, added) if room > 0 else None
        room -= len(msgspec.json.encode(details))
        lines.append({**_line(node, number, begin_ns), "details": details if room > 0 else None})
    return {
        **summary,
        **facts(each_once),
        "tree": lines,
        "first": first,
        "next": first + len(shown) if first + len(shown) < len(nodes) else None,
        "matches": list(_matches(nodes, query)),
    }


def _matches(nodes: Iterable[Node], query: Query) -> Iterator[int]:
    for number, node in enumerate(nodes):
        if query and query(as_item(node.placed, Signal.TRACES)):
            yield number


def _line(node: Node, number: int, begin_ns: int) -> dict[str, Any]:
    start = int(node.placed.record.startTimeUnixNano)
    return {
        "number": number,
        **span_facts(node.placed),
        "is_parent_missing": node.is_parent_missing,
        "depth": node.depth,
        "children": node.children,
        "offset_ns": start - begin_ns if start else 0,
    }


def details_of(placed: Placed, added: Mapping[str, str]) -> dict[str, Any]:
    """Attributes, events and links of a span, its scope and its resource."""
    span, scope = placed.record, placed.source.scope
    return {
        "attributes": shown_attributes(span.attributes, "attributes", added),
        "events": [
            {
                "name": event.name[:MOST_CHARACTERS],
                "time_ns": str(event.timeUnixNano),
                "attributes": shown_attributes(event.attributes, f"events/{at}/attributes"),
            }
            for at, event in enumerate(span.events[:_MOST_LISTED])
        ],
        "links": [
            {
                "trace_id": link.traceId,
                "span_id": link.spanId,
                "attributes": shown_attributes(link.attributes, f"links/{at}/attributes"),
            }
            for at, link in enumerate(span.links[:_MOST_LISTED])
        ],
        "counts": {
            "attributes": len(span.attributes),
            "events": len(span.events),
            "links": len(span.links),
            "dropped_by_sender": span.droppedAttributesCount
            + span.droppedEventsCount
            + span.droppedLinksCount,
        },
        "trace_state": span.traceState[:MOST_CHARACTERS],
        "scope": {"name": scope.name[:MOST_CHARACTERS], "version": scope.version[:MOST_NAME]},
        "resource": shown_attributes(
            placed.source.resource.attributes, "resource/attributes", added
        ),
    }
