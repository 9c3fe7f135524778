"""The tree of a trace: order, missing parents, circles, and what is cut."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.otlp.messages import (
    AnyValue,
    Event,
    InstrumentationScope,
    KeyValue,
    Resource,
    Span,
    Status,
)
from relay.view.items import Placed, Source
from relay.view.query import parse
from relay.view.summaries import distinct
from relay.view.trace_tree import MOST_DETAIL_BYTES, in_tree_order, tree_of

START = 1_796_047_321_000_000_000
NONE = parse("")


def placed(number: int, span_id: str, parent: str = "", start: int = 0, **more: Any) -> Placed:
    record = Span(
        traceId="0af7651916cd43dd8448eb211c80319c",
        spanId=span_id,
        parentSpanId=parent,
        name=more.pop("name", span_id),
        startTimeUnixNano=str(START + start),
        endTimeUnixNano=str(START + start + 10),
        **more,
    )
    resource = Resource([KeyValue("host.name", AnyValue(stringValue="web"))])
    return Placed(1, number, Source(resource, InstrumentationScope()), "shop", record)


def test_child_stands_behind_its_parent_and_after_an_earlier_sibling() -> None:
    spans = [
        placed(0, "late", "root", 5),
        placed(1, "root"),
        placed(2, "grandchild", "early", 3),
        placed(3, "early", "root", 2),
    ]
    found = tree_of(spans, NONE, first=0, limit=9, added={})

    assert [(each["name"], each["depth"], each["children"]) for each in found["tree"]] == [
        ("root", 0, 2),
        ("early", 1, 1),
        ("grandchild", 2, 0),
        ("late", 1, 0),
    ]
    assert found["name"] == "root"
    assert found["duration_ns"] == 15
    assert [each["offset_ns"] for each in found["tree"]] == [0, 2, 3, 5]


def test_only_some_spans_stand_each_below_the_nearest_of_them_above_it() -> None:
    spans = [
        placed(0, "agent-1", start=0),
        placed(1, "http", "agent-1", 1),
        placed(2, "agent-2", "http", 2),
        placed(3, "agent-3", "http", 3),
        placed(4, "other", start=4),
        placed(5, "agent-4", "other", 5),
    ]
    found = tree_of(
        spans, parse("name:agent-3"), first=0, limit=9, added={},
        keeps=lambda each: each.record.name.startswith("agent"),
    )  # fmt: skip

    assert [(each["name"], each["depth"], each["children"]) for each in found["tree"]] == [
        ("agent-1", 0, 2),
        ("agent-2", 1, 0),
        ("agent-3", 1, 0),
        ("agent-4", 0, 0),
    ]
    assert found["matches"] == [2]
    assert found["spans"] == 6


def test_span_whose_parent_was_not_received_stands_at_the_top_and_says_so() -> None:
    found = tree_of([placed(0, "child", "gone", 3)], NONE, first=0, limit=9, added={})

    (line,) = found["tree"]
    assert line["is_parent_missing"]
    assert not found["is_root"]


def test_span_that_was_sent_twice_is_there_once() -> None:
    spans = [placed(0, "a"), placed(1, "a")]

    assert tree_of(spans, NONE, first=0, limit=9, added={})["spans"] == 1


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_every_span_is_there_once_whoever_is_whose_parent(parents: list[int]) -> None:
    spans = [placed(at, f"s{at}", f"s{parent}", at) for at, parent in enumerate(parents)]
    nodes = in_tree_order(distinct(spans))

    assert sorted(node.placed.number for node in nodes) == list(range(len(parents)))


def test_thousand_spans_one_in_another_take_no_stack() -> None:
    spans = [placed(at, f"s{at}", f"s{at - 1}" if at else "", at) for at in range(5000)]

    assert in_tree_order(spans)[-1].depth == 4999


def test_long_value_is_cut_and_says_where_the_whole_is() -> None:
    long = AnyValue(stringValue="x" * 5_000_000)
    span = placed(
        0, "a", attributes=[KeyValue("a", AnyValue(intValue="1")), KeyValue("long", long)]
    )
    found = tree_of([span], NONE, first=0, limit=9, added={"host.name": "web"})

    details = found["tree"][0]["details"]
    assert details["attributes"][0] == {"key": "a", "type": "int", "value": "1"}
    assert details["attributes"][1]["size"] == 5_000_000
    assert details["attributes"][1]["at"] == "attributes/1"
    assert len(details["attributes"][1]["value"]) == 1000
    assert details["resource"][0]["by_relay"]


def test_details_of_a_large_trace_end_somewhere() -> None:
    events = [Event(attributes=[KeyValue("k", AnyValue(stringValue="x" * 900))]) for _ in range(90)]
    spans = [placed(at, f"s{at}", start=at, events=events) for at in range(20)]
    tree = tree_of(spans, NONE, first=0, limit=99, added={})["tree"]
    has_details = [each["details"] is not None for each in tree]

    assert has_details[0]
    assert not has_details[-1]
    assert sum(has_details) <= MOST_DETAIL_BYTES / (90 * 900)


def test_matches_are_told_of_the_whole_trace() -> None:
    spans = [placed(at, f"s{at}", start=at, status=Status(code=2 * (at == 7))) for at in range(9)]
    found = tree_of(spans, parse("error"), first=0, limit=2, added={})

    assert found["matches"] == [7]
    assert (len(found["tree"]), found["next"]) == (2, 2)


def test_what_else_is_told_of_a_trace_counts_a_span_once_that_came_twice() -> None:
    spans = [placed(0, "call"), placed(1, "call"), placed(2, "tool")]
    found = tree_of(
        spans, NONE, first=0, limit=1, added={}, facts=lambda once: {"counted": len(once)}
    )

    assert found["counted"] == found["spans"] == 2
