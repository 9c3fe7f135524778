"""The spans of one trace in; who is below whom out, as a tree that a test compares or prints."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mockcollector.items import ReceivedSpan
from mockcollector.neutral import printable


@dataclass(frozen=True, slots=True)
class TraceNode:
    """A span and those below it, in the order of their start.

    `is_orphan` says that it names a parent that did not arrive.
    """

    span: ReceivedSpan
    children: list["TraceNode"] = field(default_factory=list)
    is_orphan: bool = False

    @property
    def shape(self) -> tuple[str, list[Any]]:
        """Names alone: `("checkout", [("pay", [])])`, to compare with `==`."""
        return self.span.name, [child.shape for child in self.children]

    def lines(self, depth: int = 0) -> list[str]:
        """A line a span, indented."""
        mark = " (its parent did not arrive)" if self.is_orphan else ""
        lines = [printable(f"{'  ' * depth}{self.span.name}{mark}")]
        for child in self.children:
            lines += child.lines(depth + 1)
        return lines


@dataclass(frozen=True, slots=True)
class TraceTree:
    """A trace: its roots, in the order of their start. What arrived twice is there once."""

    trace_id: str
    roots: tuple[TraceNode, ...]

    @property
    def shape(self) -> list[tuple[str, list[Any]]]:
        """Names alone, of each root."""
        return [root.shape for root in self.roots]

    def __str__(self) -> str:
        return "\n".join(line for root in self.roots for line in root.lines())


def build_tree(trace_id: str, spans: Sequence[ReceivedSpan]) -> TraceTree:
    """The tree of these spans of one trace. Those that are each other's ancestors are roots."""
    nodes: dict[str, TraceNode] = {}
    known = {span.span_id for span in spans}
    for span in sorted(spans, key=lambda each: each.start_time_unix_nano):
        has_parent = bool(span.parent_span_id.strip("0"))
        is_orphan = has_parent and span.parent_span_id not in known
        nodes.setdefault(span.span_id, TraceNode(span, is_orphan=is_orphan))
    roots = []
    for node in nodes.values():
        parent_node = nodes.get(node.span.parent_span_id)
        if parent_node is None or _is_in_a_circle(node, nodes):
            roots.append(node)
        else:
            parent_node.children.append(node)
    return TraceTree(trace_id, tuple(roots))


def _is_in_a_circle(node: TraceNode, nodes: dict[str, TraceNode]) -> bool:
    seen = {node.span.span_id}
    above = nodes.get(node.span.parent_span_id)
    while above is not None and above.span.span_id not in seen:
        seen.add(above.span.span_id)
        above = nodes.get(above.span.parent_span_id)
    return above is not None and above.span.span_id == node.span.span_id
