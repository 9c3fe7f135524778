"""Questions about how a sender sends: retries, gaps, bodies, and that it stopped."""

import gzip
import json
import time

import anyio
import pytest

from mockcollector import MockCollector
from mockcollector.ledger import Limits
from tests.unit.mockcollector.exchange import JSON, InThread, request_json, send, span_json


def test_retries_are_found_by_their_body_also_when_packed_anew() -> None:
    body = json.dumps(request_json()).encode()
    with MockCollector(script="503*2") as collector:
        send(collector, body, headers=JSON)
        send(collector, gzip.compress(body), headers=JSON | {"Content-Encoding": "gzip"})
        send(collector, request_json(span_json(2)))
        send(collector, body, headers=JSON)

        found = collector.journal.assert_retries(2)
        assert [request.number for request in found] == [1, 2, 4]
        assert [len(group) for group in collector.journal.attempts()] == [3, 1]
        collector.journal.assert_same_body(found)
        with pytest.raises(AssertionError, match="request 3 has another body than request 1, from"):
            collector.journal.assert_same_body()


def test_wrong_number_of_retries_fails_with_a_table() -> None:
    with MockCollector(script="503") as collector:
        for _ in range(2):
            send(collector, request_json())
        with pytest.raises(AssertionError) as caught:
            collector.journal.assert_retries(2)
    assert "1 retries of one body, wanted 2" in str(caught.value)
    assert "request 1 connection 1 /v1/traces body 1" in str(caught.value)
    assert "→ 503" in str(caught.value)


def test_no_retry_is_zero_retries_and_no_request_is_none_at_all() -> None:
    with MockCollector(script="400") as collector:
        with pytest.raises(AssertionError, match="no request arrived"):
            collector.journal.assert_retries(0)
        send(collector, request_json())
        collector.journal.assert_retries(0)


def test_gaps_are_from_an_answer_to_the_next_request() -> None:
    with MockCollector(script="503:delay=0.15*2") as collector:
        send(collector, request_json())
        began = time.monotonic()
        while time.monotonic() - began < 0.05:
            collector.journal.wait_for_requests(1)
        send(collector, request_json())
        (gap,) = collector.journal.gaps()
        first, second = collector.journal.requests()
        assert gap >= 0.05
        # The delay of the first answer is not part of it.
        assert second.began_ns - first.began_ns >= (gap + 0.149) * 1e9
        collector.journal.assert_retries(1, min_gap_seconds=0.05, max_gap_seconds=5)
        with pytest.raises(AssertionError, match=r"retry 1 came .* wanted 1 s at least"):
            collector.journal.assert_retries(1, min_gap_seconds=1)
        with pytest.raises(AssertionError, match=r"wanted 0\.01 s at most"):
            collector.journal.assert_retries(1, max_gap_seconds=0.01)


def test_retries_are_found_after_their_bodies_were_given_up() -> None:
    with MockCollector(limits=Limits(max_spans=1), script="503*3") as collector:
        for _ in range(4):
            send(collector, request_json())
        assert not collector.journal.requests()[0].is_complete
        assert len(collector.journal.assert_retries(3)) == 4


def test_no_more_requests_holds_for_its_time_and_fails_at_the_first() -> None:
    with MockCollector() as collector:
        send(collector, request_json())
        collector.journal.assert_no_more_requests(0.05)

        def wait_and_see() -> None:
            with pytest.raises(AssertionError, match="1 more requests within 30 s, wanted none"):
                collector.journal.assert_no_more_requests(30)

        waiting = InThread(wait_and_see)
        while not collector.journal._watched._waiters:
            collector.journal.wait_for_requests(1)
        send(collector, request_json())
        waiting.result()


def test_no_more_requests_leaves_the_event_loop_free() -> None:
    async def main(collector: MockCollector) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, lambda: send(collector, request_json()))
            with pytest.raises(AssertionError, match="1 more requests"):
                await collector.journal.assert_no_more_requests_async(30)

    with MockCollector() as collector:
        anyio.run(main, collector)
