"""A trace as a tree of lines, for a terminal or a pipe."""

from typing import Any
from urllib.parse import quote, urlencode

from relay.cli.client import DaemonClient, DaemonRefused
from relay.model.units import three_figures

MOST_SPANS = 10_000
Document = dict[str, Any]


def tree_of(client: DaemonClient, trace_id: str, search: str = "") -> Document | None:
    """The document of a trace with its spans in the order of the tree; None where none is kept.

    Raises RelayError.
    """
    query = urlencode({"q": search, "limit": MOST_SPANS})
    status, found = client.get(f"/api/view/traces/{quote(trace_id, safe='')}?{query}")
    if status == 404:
        return None
    if status != 200:
        raise DaemonRefused.of(status, found)
    trace: Document | None = found["trace"]
    return trace


def tree_lines(trace: Document) -> list[str]:
    """The trace in one line, then each span below its parent."""
    failed = f", {trace['errors']:,} failed" if trace["errors"] else ""
    spans = "1 span" if trace["spans"] == 1 else f"{trace['spans']:,} spans"
    took = three_figures(trace["duration_ns"])
    lines = [f"{trace['trace_id']}  {trace['start']}  {took}  {spans}{failed}"]
    for each in trace["tree"]:
        depth = "  " * (each["depth"] + 1)
        took = three_figures(each["duration_ns"])
        line = f"{depth}{each['name']}  {each['service'] or '-'}  {took}"
        if each["status"] == "error":
            line += f"  ERROR {each['message']}".rstrip()
        if each["is_parent_missing"]:
            line += "  (parent not received)"
        lines.append(line)
    if trace["next"] is not None:
        lines.append(f"  … {trace['spans'] - len(trace['tree']):,} spans more")
    return lines
