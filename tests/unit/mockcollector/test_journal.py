"""What a test can ask of the journal, and what it says when the answer is no."""

import re
import threading
import time
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mockcollector import Journal, MockCollector
from mockcollector.journal import Keep, Limits
from mockcollector.matching import ABSENT
from tests.unit.mockcollector.exchange import (
    JSON,
    TRACE_ID,
    InThread,
    attribute_json,
    request_json,
    request_proto,
    send,
    span_json,
    twin,
)

OTHER_TRACE = "f" * 32


def chat_span(number: int = 1, **fields: Any) -> dict[str, Any]:
    attributes = [
        attribute_json("model", stringValue="m-1"),
        attribute_json("tokens", intValue="12"),
        attribute_json("cost", doubleValue=0.5),
        attribute_json("cached", boolValue=True),
        attribute_json("raw", bytesValue="AAE="),
        attribute_json("none"),
        attribute_json("list", arrayValue={"values": [{"intValue": 1}, {"stringValue": "a"}]}),
        attribute_json("map", kvlistValue={"values": [attribute_json("k", stringValue="v")]}),
    ]
    return span_json(number, name="chat", attributes=attributes) | fields


def test_span_is_flattened_with_all_its_parts(collector: MockCollector) -> None:
    span = chat_span(
        parentSpanId="00000000000000AA",
        kind=3,
        status={"code": 2, "message": "no"},
        events=[
            {"timeUnixNano": "7", "name": "e", "attributes": [attribute_json("x", intValue=1)]}
        ],
        links=[{"traceId": OTHER_TRACE, "spanId": "1" * 16, "traceState": "a=b", "flags": 257}],
    )

    send(collector, request_json(span))

    (received,) = collector.journal.spans()
    assert (received.trace_id, received.span_id) == (TRACE_ID, "0000000000000001")
    assert (received.parent_span_id, received.kind) == ("00000000000000aa", 3)
    assert received.start_time_unix_nano == 1767225600000000000
    assert received.end_time_unix_nano == 1767225600005000000
    assert (received.status_code, received.status_message) == (2, "no")
    assert received.attributes == {
        "model": "m-1",
        "tokens": 12,
        "cost": 0.5,
        "cached": True,
        "raw": b"\x00\x01",
        "none": None,
        "list": [1, "a"],
        "map": {"k": "v"},
    }
    assert received.resource.attributes == {"service.name": "shop"}
    assert (received.scope.name, received.scope.version) == ("lib", "1.2")
    assert [(e.time_unix_nano, e.name, e.attributes) for e in received.events] == [
        (7, "e", {"x": 1})
    ]
    assert [(x.trace_id, x.span_id, x.trace_state, x.flags) for x in received.links] == [
        (OTHER_TRACE, "1" * 16, "a=b", 257)
    ]
    assert received.raw.name == "chat"


def test_spans_are_found_by_trace_name_and_attribute(collector: MockCollector) -> None:
    send(collector, request_json(chat_span(1), span_json(2, traceId=OTHER_TRACE.upper())))
    send(collector, request_json(span_json(3), service="till"))

    journal = collector.journal
    assert [s.name for s in journal.by_trace(OTHER_TRACE)] == ["span 2"]
    assert [s.name for s in journal.by_trace(OTHER_TRACE.upper())] == ["span 2"]
    assert [s.name for s in journal.by_name("chat")] == ["chat"]
    assert [s.name for s in journal.by_attribute("model")] == ["chat"]
    assert journal.by_attribute("model", "other") == []
    assert [s.name for s in journal.by_attribute("service.name", "till")] == ["span 3"]
    assert len(journal.by_attribute("service.name")) == 3
    assert [s.name for s in journal.spans(resource={"service.name": "till"})] == ["span 3"]
    assert [s.name for s in journal.spans(name=re.compile("^span"), scope="lib")] == [
        "span 2",
        "span 3",
    ]


def test_requests_are_found_by_header_and_encoding(collector: MockCollector) -> None:
    send(collector, request_json(), headers=JSON | {"Authorization": "Bearer a"})
    send(collector, request_json(), headers=JSON | {"Authorization": "Bearer b", "X-Set": "s"})
    send(collector, request_proto())
    send(collector, b"{", headers=JSON)

    journal = collector.journal
    assert [r.number for r in journal.requests()] == [1, 2, 3, 4]
    assert [r.number for r in journal.requests(header="authorization")] == [1, 2]
    wanted = {"Authorization": "Bearer b", "x-set": "s"}
    assert [r.number for r in journal.requests(header=wanted)] == [2]
    assert [r.number for r in journal.requests(encoding="protobuf")] == [3]
    assert [r.number for r in journal.requests(status=400)] == [4]
    assert journal.requests()[1].header("X-SET") == "s"
    assert "Bearer" not in repr(journal.requests())


def test_same_span_twice_is_counted_as_duplicate(collector: MockCollector) -> None:
    send(collector, request_proto(3))
    assert collector.journal.duplicate_spans == 0
    send(collector, request_proto(2))
    assert collector.journal.duplicate_spans == 2
    send(collector, request_proto(3))

    assert collector.journal.duplicate_spans == 5
    assert len(collector.journal.span_keys()) == 3
    assert bytes.fromhex(TRACE_ID) + (1).to_bytes(8, "big") in collector.journal.span_keys()


def test_assert_span_returns_what_it_found(collector: MockCollector) -> None:
    send(collector, request_json(chat_span()))

    span = collector.journal.assert_span(
        name="chat",
        trace_id=TRACE_ID.upper(),
        attributes={"tokens": lambda tokens: tokens > 10, "cost": 0.5, "list": [1, "a"]},
        resource={"service.name": re.compile("sho")},
    )

    assert span.attributes["model"] == "m-1"


def test_failed_assertion_tells_the_nearest_miss(collector: MockCollector) -> None:
    send(collector, request_json(span_json(9), chat_span(1), service="shop"))

    with pytest.raises(AssertionError) as failure:
        collector.journal.assert_span(
            name="chat",
            kind=1,
            attributes={"tokens": 12.0, "model": "m-1", "user": "u"},
            resource={"service.name": "till"},
        )

    text = str(failure.value)
    assert f"the nearest of 2 has 3 of 6: <span 'chat' trace {TRACE_ID}" in text
    assert "attributes['tokens']: wanted 12.0, found 12" in text
    assert "attributes['user']: wanted 'u', it is absent" in text
    assert "its attributes: cached, cost, list, map, model, none, raw, tokens" in text
    assert "resource['service.name']: wanted 'till', found 'shop'" in text
    assert "  name: wanted" not in text


def test_failed_assertion_tells_of_refused_requests() -> None:
    with MockCollector(script="503") as collector:
        send(collector, request_json(span_json(name="a"), span_json(2)))
        send(collector, request_json(span_json(spanId="0" * 16)))

        with pytest.raises(AssertionError) as failure:
            collector.journal.assert_span(name="a")

    assert "no span arrived at all" in str(failure.value)
    assert "2 more spans came in requests that were not accepted" in str(failure.value)
    assert "invalid ids" in str(failure.value)


def test_values_match_with_their_type_only(collector: MockCollector) -> None:
    attributes = [
        attribute_json("int", intValue=1),
        attribute_json("nan", doubleValue="NaN"),
        attribute_json("yes", boolValue=True),
        attribute_json("ints", arrayValue={"values": [{"intValue": 1}]}),
    ]
    send(collector, request_json(span_json(attributes=attributes)))

    journal = collector.journal
    assert journal.spans(attributes={"int": 1, "nan": float("nan"), "ints": [1], "no": ABSENT})
    for wrong in (
        {"yes": 1},
        {"int": True},
        {"int": 1.0},
        {"ints": [True]},
        {"ints": [1, 1]},
        {"int": ABSENT},
    ):
        assert not journal.spans(attributes=wrong), wrong


def test_unknown_criterion_is_an_error(collector: MockCollector) -> None:
    with pytest.raises(TypeError, match="'nmae' cannot be asked of a span"):
        collector.journal.spans(nmae="x")  # type: ignore[call-arg]


def test_assert_no_span_fails_when_there_is_one(collector: MockCollector) -> None:
    send(collector, request_json())
    collector.journal.assert_no_span(name="other")

    with pytest.raises(AssertionError, match="1 spans have what none should"):
        collector.journal.assert_no_span(name="span 1")


def test_wait_ends_as_soon_as_the_spans_are_there(collector: MockCollector) -> None:
    waiting = InThread(lambda: collector.journal.wait_for_spans(3, timeout=15))
    send(collector, request_proto(2))
    send(collector, request_proto(1, first=3))

    assert len(waiting.result()) == 3


def test_wait_counts_distinct_spans_unless_told_otherwise(collector: MockCollector) -> None:
    send(collector, request_proto(2))
    send(collector, request_proto(2))

    assert len(collector.journal.wait_for_spans(4, timeout=0, distinct=False)) == 4
    with pytest.raises(AssertionError, match="2 of 3 distinct spans were accepted within 0 s"):
        collector.journal.wait_for_spans(3, timeout=0)


def test_wait_that_ends_in_vain_says_what_came_instead() -> None:
    with MockCollector(script="503") as collector:
        send(collector, request_proto(2))
        with pytest.raises(AssertionError) as failure:
            collector.journal.wait_for_spans(1, timeout=0.01)

    text = str(failure.value)
    assert text.startswith("0 of 1 distinct spans were accepted within 0.01 s")
    assert "1 requests arrived; answers: 503 (1 times)" in text


def test_wait_for_span_waits_for_the_one_that_is_wanted(collector: MockCollector) -> None:
    waiting = InThread(lambda: collector.journal.wait_for_span(15, name="wanted"))
    send(collector, request_json(span_json(1)))
    send(collector, request_json(span_json(2, name="wanted")))

    assert waiting.result().name == "wanted"
    with pytest.raises(AssertionError, match="name: wanted 'other'"):
        collector.journal.wait_for_span(0, name="other")


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_what_is_not_waited_for_is_looked_at_and_not_unpacked(
    collector: MockCollector, encoding: str
) -> None:
    journal = collector.journal
    attributes = {"cents": 250, "tags": ["a"], "share": 0.5}
    waiting = InThread(
        lambda: journal.wait_for_span(15, name=re.compile("^wanted"), attributes=attributes)
    )
    deadline = time.monotonic() + 10
    while not journal.is_searched and time.monotonic() < deadline:
        threading.Event().wait(0.01)

    def post(number: int, **fields: Any) -> None:
        made = request_json(span_json(number, **fields))
        send(collector, made if encoding == "json" else twin(made, "traces"))

    listed = {"arrayValue": {"values": [{"stringValue": "a"}]}}
    share = attribute_json("share", doubleValue=0.5)
    wanted = [attribute_json("cents", intValue="250"), attribute_json("tags", **listed), share]
    post(1)
    post(2, name="wanted", attributes=[*wanted, attribute_json("cents", intValue="251")])
    post(3, name="unwanted", attributes=wanted)
    looked_at = journal.requests()
    post(4, name="wanted 4", attributes=wanted)

    found = waiting.result()
    assert [each._message for each in looked_at] == [None] * 3
    assert [each.read for each in journal.requests()] == [None] * 4
    assert found is journal.requests()[-1].items[0]
    assert found.raw.name == "wanted 4"
    assert not journal.is_searched


def test_wait_for_requests_fails_with_the_count(collector: MockCollector) -> None:
    with pytest.raises(AssertionError, match="0 of 1 requests arrived within 0 s"):
        collector.journal.wait_for_requests(1, timeout=0)


@pytest.mark.anyio
async def test_async_waits_leave_the_loop_free(collector: MockCollector) -> None:
    journal = collector.journal
    turns = 0

    async def send_when_waited() -> None:
        nonlocal turns
        for number in (1, 2):
            turns += 1
            body = request_json(span_json(number))
            await anyio.to_thread.run_sync(send, collector, body)

    # Less than the waits' own timeout: an arrival has to wake them.
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(send_when_waited)
            spans = await journal.wait_for_spans_async(2)
            assert (await journal.wait_for_span_async(name="span 2")).name == "span 2"
            await journal.wait_for_requests_async(2, settled=True)

    assert (len(spans), turns) == (2, 2)
    with pytest.raises(AssertionError, match="2 of 3 distinct spans"):
        await journal.wait_for_spans_async(3, timeout=0.01)
    with pytest.raises(AssertionError, match="2 of 3 requests"):
        await journal.wait_for_requests_async(3, timeout=0.01)
    with pytest.raises(AssertionError, match="wanted 'other'"):
        await journal.wait_for_span_async(timeout=0.01, name="other")


def test_old_contents_give_way_and_counts_stay() -> None:
    limits = Limits(max_spans=4, max_requests=4)
    with MockCollector(limits=limits) as collector:
        for number in range(6):
            send(collector, request_proto(2, first=1 + 2 * number))

        journal = collector.journal
        assert [r.number for r in journal.requests()] == [3, 4, 5, 6]
        assert [r.is_complete for r in journal.requests()] == [False, False, True, True]
        assert (journal.requests()[0].body, journal.requests()[0].span_count) == (b"", 2)
        assert [s.name for s in journal.spans()] == ["span 9", "span 10", "span 11", "span 12"]
        assert journal.counts.spans_accepted == 12
        assert len(journal.span_keys()) == 12


def test_bodies_over_the_limit_give_way_but_never_the_newest() -> None:
    with MockCollector(limits=Limits(max_body_bytes=10)) as collector:
        send(collector, request_proto(1))
        send(collector, request_proto(1, first=2))

        assert [s.name for s in collector.journal.spans()] == ["span 2"]


def test_ids_of_a_hanging_request_outlive_its_contents() -> None:
    with MockCollector(script="hang,ok", limits=Limits(max_spans=1)) as collector:
        waiting = InThread(lambda: send(collector, request_proto(2)))
        collector.journal.wait_for_requests(1)
        send(collector, request_proto(1, first=9))
        collector.release()
        waiting.result()

        assert len(collector.journal.span_keys()) == 3


def test_cleared_journal_starts_anew(collector: MockCollector) -> None:
    send(collector, request_proto(2))
    collector.journal.clear()
    assert collector.journal.counts.requests == 0
    assert collector.journal.span_keys() == frozenset()
    send(collector, request_proto(2))

    assert [r.number for r in collector.journal.requests()] == [2]
    assert collector.journal.duplicate_spans == 0


@pytest.mark.parametrize("is_json", [True, False])
def test_counts_mode_counts_and_keeps_ids_only(is_json: bool) -> None:
    with MockCollector(keep="counts", script="ok,503") as collector:
        body: Any = request_json(span_json(1), span_json(2)) if is_json else request_proto(2)
        for _ in range(3):
            send(collector, body)

        journal = collector.journal
        counts = journal.counts
        assert (counts.requests, counts.spans_accepted, counts.spans_refused) == (3, 4, 2)
        assert counts.answers == {"200": 2, "503": 1}
        assert (journal.duplicate_spans, len(journal.span_keys())) == (2, 2)
        assert counts.wire_bytes == counts.decoded_bytes > 100
        assert journal.requests() == []
        assert journal.wait_for_spans(2) == []
        with pytest.raises(RuntimeError, match="counts only"):
            journal.spans()


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"resourceSpans":{}}', b"\xff", b"[" * 100_000]
    + [b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"%s","spanId":"%s"}]}]}]}' % ids
       for ids in [(b"0" * 32, b"1" * 16), (b"1" * 32, b"0" * 16), (b"1" * 30, b"1" * 16),
                   (b"g" * 32, b"1" * 16), (b"", b"")]],
)  # fmt: skip
def test_counts_mode_refuses_what_has_no_ids(body: bytes) -> None:
    with MockCollector(keep="counts") as collector:
        assert send(collector, body, headers=JSON).status == 400
        assert collector.journal.counts.spans_accepted == 0


def test_counts_mode_knows_the_same_ids_as_the_full_one() -> None:
    keys = []
    kinds: tuple[Keep, ...] = ("spans", "counts")
    for keep in kinds:
        with MockCollector(keep=keep) as collector:
            send(collector, request_proto(5))
            send(collector, request_json(span_json(7, traceId=OTHER_TRACE.upper())))
            keys.append(collector.journal.span_keys())

    assert keys[0] == keys[1]
    assert len(keys[0]) == 6


def test_journal_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'spans' or 'counts'"):
        Journal(keep="all")  # type: ignore[arg-type]


def test_many_senders_at_once_are_all_counted(collector: MockCollector) -> None:
    def send_ten(first: int) -> None:
        for number in range(10):
            send(collector, request_proto(2, first=1 + first * 20 + number * 2))

    threads = [threading.Thread(target=send_ten, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()

    assert len(collector.journal.wait_for_spans(160, timeout=20)) == 160
    for thread in threads:
        thread.join()


def test_ids_take_no_more_than_their_limit_and_later_ones_are_still_counted() -> None:
    with MockCollector(keep="counts", limits=Limits(max_ids=5)) as collector:
        send(collector, request_proto(4))
        send(collector, request_proto(4))  # the same again
        send(collector, request_proto(4, first=5))
        send(collector, request_proto(4, first=9))

        assert len(collector.journal.span_keys()) == 5
        assert collector.journal.counts.spans_accepted == 16
        assert collector.journal.duplicate_spans == 4
        collector.journal.wait_for_spans(12, timeout=0)


def test_what_is_made_of_bodies_is_bounded_and_made_again() -> None:
    with MockCollector(limits=Limits(max_body_bytes=20_000)) as collector:
        for first in range(1, 101, 10):
            send(collector, request_proto(10, first=first))
        assert [span.name for span in collector.journal.spans()] == [
            f"span {number}" for number in range(1, 101)
        ]
        unpacked = [r for r in collector.journal.requests() if r._items is not None]
        assert 0 < len(unpacked) < 10
        assert len(collector.journal.spans()) == 100
