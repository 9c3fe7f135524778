"""Traces as trees, and spans by their events and links."""

import re
from typing import Any

import pytest

from mockcollector import MockCollector
from mockcollector.matching import ABSENT
from tests.unit.mockcollector.exchange import (
    TRACE_ID,
    attribute_json,
    request_json,
    send,
    span_json,
)


def child(number: int, parent: int, name: str, start: int = 1) -> dict[str, Any]:
    return span_json(number, name=name, parentSpanId=f"{parent:016x}", startTimeUnixNano=str(start))


def test_trace_is_a_tree_in_the_order_of_start(collector: MockCollector) -> None:
    spans = [child(3, 1, "ship", 9), child(2, 1, "pay", 5), child(4, 2, "charge")]
    send(collector, request_json(*spans))
    send(collector, request_json(span_json(1, name="checkout"), spans[0]))

    tree = collector.journal.trace_tree()
    assert tree.trace_id == TRACE_ID
    assert tree.shape == [("checkout", [("pay", [("charge", [])]), ("ship", [])])]
    assert str(tree) == "checkout\n  pay\n    charge\n  ship"


def test_orphans_and_circles_are_roots(collector: MockCollector) -> None:
    spans = [child(1, 99, "lost"), child(2, 3, "egg", 2), child(3, 2, "hen", 3), child(4, 3, "x")]
    send(collector, request_json(*spans))

    tree = collector.journal.trace_tree(TRACE_ID)
    assert {root.span.name for root in tree.roots} == {"lost", "egg", "hen"}
    assert "lost (its parent did not arrive)" in str(tree)
    assert ("hen", [("x", [])]) in tree.shape


def test_one_of_several_traces_must_be_named(collector: MockCollector) -> None:
    with pytest.raises(AssertionError, match="0 traces arrived"):
        collector.journal.trace_tree()
    other = "f" * 32
    send(collector, request_json(span_json(1), span_json(2, traceId=other)))
    with pytest.raises(AssertionError, match=f"2 traces arrived, wanted one: {TRACE_ID}, {other}"):
        collector.journal.trace_tree()
    assert len(collector.journal.trace_tree(other).roots) == 1


EVENT = {
    "name": "exception",
    "timeUnixNano": "5",
    "attributes": [attribute_json("exception.type", stringValue="ValueError")],
}
LINK = {"traceId": "a" * 32, "spanId": "b" * 16, "attributes": []}


@pytest.mark.parametrize(
    ("wanted", "is_found"),
    [
        ({"events": [{"name": "exception"}]}, True),
        ({"events": [{"name": re.compile("^exc"), "time_unix_nano": 5}]}, True),
        ({"events": [{"attributes": {"exception.type": "ValueError"}}, {"name": "start"}]}, True),
        ({"events": [{"name": "start", "attributes": {"exception.type": ABSENT}}]}, True),
        ({"events": [{"name": "start", "attributes": {"exception.type": "ValueError"}}]}, False),
        ({"events": [{"name": "end"}]}, False),
        ({"links": [{"trace_id": "A" * 32, "span_id": "b" * 16}]}, True),
        ({"links": [{"trace_id": "c" * 32}]}, False),
        ({"events": []}, True),
    ],
)
def test_spans_are_found_by_events_and_links(
    collector: MockCollector, wanted: dict[str, Any], is_found: bool
) -> None:
    span = span_json(events=[{"name": "start"}, EVENT], links=[LINK])
    send(collector, request_json(span))
    assert bool(collector.journal.spans(**wanted)) == is_found


def test_missing_event_is_told(collector: MockCollector) -> None:
    send(collector, request_json(span_json(events=[EVENT])))
    with pytest.raises(AssertionError) as caught:
        collector.journal.assert_span(events=[{"name": "retry"}])
    assert "events[0] = one with name = 'retry'" in str(caught.value)
    with pytest.raises(TypeError, match="'nmae' cannot be asked of events; these can: attributes"):
        collector.journal.spans(events=[{"nmae": "retry"}])
    with pytest.raises(TypeError, match="events is a list of mappings"):
        collector.journal.spans(events="retry")  # type: ignore[arg-type]
